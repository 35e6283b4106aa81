//! SIEVE (Zhang et al., NSDI '24): entries in the order in which they came, and a hand that walks
//! from old to new. Where it finds the mark of a hit it clears it and walks on; where it finds
//! none, the entry goes. A hit sets a bit and moves nothing.

use parking_lot::Mutex;

use super::queue::Queue;
use super::{Choice, Enter, Eviction, Look, Policy, STEP, place};
use crate::index::{Handle, Records};

/// The policy's state: a list from the newest to the oldest, and the hand.
pub(crate) struct Sieve {
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    hand: Option<Handle>,
    /// Entries that the hand has passed since it last gave one.
    passed: u64,
}

impl Default for Sieve {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                queue: Queue::new(place::SIEVE),
                hand: None,
                passed: 0,
            }),
        }
    }
}

impl Policy for Sieve {
    fn insert(&self, records: &Records, entry: Handle, _hash: u32, enter: Enter) {
        let state = &mut *self.state.lock();
        match enter {
            Enter::Hot | Enter::Known => state.queue.push_newest(records, entry),
            // Where the hand comes next.
            Enter::Probation => {
                let older = state.hand.and_then(|hand| records.next(hand));
                state.queue.insert_after(records, entry, older);
                state.hand = Some(entry);
            }
        }
    }

    fn replace(&self, records: &Records, old: Handle, new: Handle) {
        let state = &mut *self.state.lock();
        state.queue.substitute(records, old, new);
        if state.hand == Some(old) {
            state.hand = Some(new);
        }
    }

    fn remove(&self, records: &Records, entry: Handle, _evicted: Option<u32>) {
        let state = &mut *self.state.lock();
        if state.hand == Some(entry) {
            state.hand = records.prev(entry);
        }
        state.queue.remove(records, entry);
    }

    fn victim(&self, records: &Records, look: &mut dyn Look) -> Choice {
        let state = &mut *self.state.lock();
        for _ in 0..STEP {
            // One round may only clear marks; after two, what is left cannot be taken.
            if state.passed > 2 * state.queue.len() {
                state.passed = 0;
                return Choice::Nothing;
            }
            let Some(entry) = state.hand.or(state.queue.oldest()) else {
                return Choice::Nothing;
            };
            state.hand = records.prev(entry);
            state.passed += 1;
            if records.at(entry).set_marks(0) == 0 && look.takes(entry) {
                state.passed = 0;
                return Choice::Victim(entry);
            }
        }
        Choice::Later
    }

    fn coldest(&self) -> Option<Handle> {
        self.state.lock().queue.oldest()
    }

    fn follows(&self) -> Eviction {
        Eviction::Sieve
    }
}
