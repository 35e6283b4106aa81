//! LRU: what was asked for longest ago goes. The order of hits is exact as long as they come from
//! one thread, and nearly so otherwise (see `recent`).

use parking_lot::Mutex;

use super::queue::Queue;
use super::recent::Recent;
use super::{Choice, Enter, Eviction, Look, Policy, STEP, place};
use crate::index::{Handle, Records};

pub(crate) struct Lru {
    recent: Recent,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// Entries passed over since it last gave one.
    passed: u64,
}

impl Default for Lru {
    fn default() -> Self {
        Self {
            recent: Recent::default(),
            state: Mutex::new(State {
                queue: Queue::new(place::LRU),
                passed: 0,
            }),
        }
    }
}

impl Lru {
    fn drain(&self, records: &Records, queue: &mut Queue) {
        self.recent.drain(|note| {
            // Another's by now, or gone, where it is not in the queue.
            if records.place(note.entry) == place::LRU {
                records.at(note.entry).set_marks(0);
                queue.make_newest(records, note.entry);
            }
        });
    }
}

impl Policy for Lru {
    fn insert(&self, records: &Records, entry: Handle, _hash: u32, enter: Enter) {
        let state = &mut *self.state.lock();
        self.drain(records, &mut state.queue);
        match enter {
            Enter::Hot | Enter::Known => state.queue.push_newest(records, entry),
            Enter::Probation => state.queue.push_oldest(records, entry),
        }
    }

    fn replace(&self, records: &Records, old: Handle, new: Handle) {
        let state = &mut *self.state.lock();
        self.drain(records, &mut state.queue);
        state.queue.substitute(records, old, new);
    }

    fn hit(&self, entry: Handle, hash: u32) {
        self.recent.push(entry, hash);
    }

    fn remove(&self, records: &Records, entry: Handle, _evicted: Option<u32>) {
        self.state.lock().queue.remove(records, entry);
    }

    fn victim(&self, records: &Records, look: &mut dyn Look) -> Choice {
        let state = &mut *self.state.lock();
        self.drain(records, &mut state.queue);
        for _ in 0..STEP {
            // Once round for the marks, once for what cannot be taken.
            let Some(entry) = state.queue.oldest() else {
                return Choice::Nothing;
            };
            if state.passed > 2 * state.queue.len() {
                state.passed = 0;
                return Choice::Nothing;
            }
            // A mark here is a hit whose note was lost. What cannot be taken is in use.
            if records.at(entry).set_marks(0) == 0 && look.takes(entry) {
                state.passed = 0;
                return Choice::Victim(entry);
            }
            state.queue.make_newest(records, entry);
            state.passed += 1;
        }
        Choice::Later
    }

    fn coldest(&self) -> Option<Handle> {
        self.state.lock().queue.oldest()
    }

    fn follows(&self) -> Eviction {
        Eviction::Lru
    }
}
