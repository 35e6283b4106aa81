//! W-TinyLFU (Einziger et al., ACM ToS 2017): newcomers wait in a window, a hundredth of the bytes.
//! Who falls out of it meets the one that would go next, and stays if it was asked for more often
//! lately; each such contest counts as having been asked for. Those who stay are on probation, hit again they are protected, up to four fifths of
//! the bytes. All three are LRU queues; how often a key was asked for, `sketch` knows.

use std::sync::Arc;

use parking_lot::Mutex;

use super::queue::Queue;
use super::recent::Recent;
use super::sketch::Sketch;
use super::{Choice, Enter, Eviction, Look, Policy, STEP, place};
use crate::index::{Budget, Handle, Records};

/// Hundredths of the bytes.
const WINDOW_PERCENT: u64 = 1;
/// Hundredths of the bytes outside the window.
const PROTECTED_PERCENT: u64 = 80;

pub(crate) struct TinyLfu {
    recent: Recent,
    state: Mutex<State>,
}

struct State {
    window: Queue,
    probation: Queue,
    protected: Queue,
    sketch: Sketch,
    /// Bytes that there were when somebody last asked for a victim: with fewer there is room.
    full_bytes: u64,
    /// Entries passed over since it last gave one.
    passed: u64,
}

impl TinyLfu {
    pub(super) fn new(budget: Arc<dyn Budget>) -> Self {
        Self {
            recent: Recent::default(),
            state: Mutex::new(State {
                window: Queue::new(place::WINDOW),
                probation: Queue::new(place::PROBATION),
                protected: Queue::new(place::PROTECTED),
                sketch: Sketch::new(budget),
                full_bytes: u64::MAX,
                passed: 0,
            }),
        }
    }

    fn drain(&self, records: &Records, state: &mut State) {
        self.recent.drain(|note| {
            let len = state.len();
            state.sketch.add(note.hash, len);
            state.touch(records, note.entry);
        });
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.window.bytes() + self.main_bytes()
    }

    fn main_bytes(&self) -> u64 {
        self.probation.bytes() + self.protected.bytes()
    }

    fn len(&self) -> u64 {
        self.window.len() + self.probation.len() + self.protected.len()
    }

    fn queue(&mut self, records: &Records, entry: Handle) -> Option<&mut Queue> {
        match records.place(entry) {
            place::WINDOW | place::WINDOW_UNASKED => Some(&mut self.window),
            place::PROBATION => Some(&mut self.probation),
            place::PROTECTED => Some(&mut self.protected),
            _ => None,
        }
    }

    /// A hit.
    fn touch(&mut self, records: &Records, entry: Handle) {
        match records.place(entry) {
            place::WINDOW | place::WINDOW_UNASKED => {
                self.window.make_newest(records, entry);
                records.set_place(entry, place::WINDOW);
            }
            place::PROTECTED => self.protected.make_newest(records, entry),
            place::PROBATION => {
                self.probation.remove(records, entry);
                self.protected.push_newest(records, entry);
                while self.protected.bytes() > self.main_bytes() / 100 * PROTECTED_PERCENT
                    && let Some(oldest) = self.protected.oldest()
                {
                    self.protected.remove(records, oldest);
                    self.probation.push_newest(records, oldest);
                }
            }
            // Another's by now, or gone.
            _ => return,
        }
        records.at(entry).set_marks(0);
    }

    fn window_is_over(&self) -> bool {
        self.window.bytes() > self.bytes() / 100 * WINDOW_PERCENT
    }

    /// While there is room nobody has to contend for it.
    fn let_in(&mut self, records: &Records) {
        let has_room =
            self.full_bytes == u64::MAX || self.bytes() < self.full_bytes - self.full_bytes / 64;
        while has_room
            && self.window_is_over()
            && let Some(entry) = self.window.oldest()
        {
            self.window.remove(records, entry);
            self.probation.push_newest(records, entry);
        }
    }

    /// The next to go: the loser of a contest, or the oldest.
    fn candidate(&mut self, records: &Records, look: &mut dyn Look) -> Option<Handle> {
        let oldest = self.probation.oldest().or(self.protected.oldest());
        let newcomer = self.window.oldest();
        // Marks are gone after two rounds, and what is left outside the window cannot be taken.
        if self.passed > 2 * self.len() && newcomer.is_some() {
            return newcomer;
        }
        let newcomer = newcomer.filter(|_| self.window_is_over() || oldest.is_none());
        let (Some(newcomer), Some(oldest)) = (newcomer, oldest) else {
            return newcomer.or(oldest);
        };
        let (hash, len) = (look.hash(newcomer), self.len());
        let wanted = self.sketch.estimate(hash);
        let is_wanted_less = wanted <= self.sketch.estimate(look.hash(oldest));
        // What had to be put again counts once more than what was hit, so that those who were hit
        // often before do not keep out for long what is wanted now.
        if records.place(newcomer) == place::WINDOW {
            self.sketch.add(hash, len);
        }
        if is_wanted_less {
            return Some(newcomer);
        }
        self.window.remove(records, newcomer);
        self.probation.push_newest(records, newcomer);
        Some(oldest)
    }
}

impl Policy for TinyLfu {
    fn insert(&self, records: &Records, entry: Handle, hash: u32, enter: Enter) {
        let state = &mut *self.state.lock();
        self.drain(records, state);
        match enter {
            Enter::Hot => {
                state.window.push_newest(records, entry);
                let len = state.len();
                state.sketch.add(hash, len);
            }
            // Not counted: it loses against all that were ever asked for.
            Enter::Probation => {
                state.window.push_newest(records, entry);
                records.set_place(entry, place::WINDOW_UNASKED);
            }
            Enter::Known => state.probation.push_newest(records, entry),
        }
        state.let_in(records);
    }

    fn replace(&self, records: &Records, old: Handle, new: Handle) {
        let state = &mut *self.state.lock();
        self.drain(records, state);
        if let Some(queue) = state.queue(records, old) {
            queue.substitute(records, old, new);
        }
    }

    fn hit(&self, entry: Handle, hash: u32) {
        self.recent.push(entry, hash);
    }

    fn remove(&self, records: &Records, entry: Handle, _evicted: Option<u32>) {
        let state = &mut *self.state.lock();
        if let Some(queue) = state.queue(records, entry) {
            queue.remove(records, entry);
        }
    }

    fn victim(&self, records: &Records, look: &mut dyn Look) -> Choice {
        let state = &mut *self.state.lock();
        self.drain(records, state);
        state.full_bytes = state.bytes();
        for _ in 0..STEP {
            if state.passed > 4 * state.len() {
                state.passed = 0;
                return Choice::Nothing;
            }
            let Some(entry) = state.candidate(records, look) else {
                return Choice::Nothing;
            };
            // A mark here is a hit whose note was lost. What cannot be taken is in use.
            if records.at(entry).set_marks(0) == 0 && look.takes(entry) {
                state.passed = 0;
                return Choice::Victim(entry);
            }
            if let Some(queue) = state.queue(records, entry) {
                queue.remove(records, entry);
                state.protected.push_newest(records, entry);
            }
            state.passed += 1;
        }
        Choice::Later
    }

    fn coldest(&self) -> Option<Handle> {
        let state = self.state.lock();
        let window = state.window.oldest();
        state
            .probation
            .oldest()
            .or(window)
            .or(state.protected.oldest())
    }

    fn follows(&self) -> Eviction {
        Eviction::TinyLfu
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{Asked, Simulation};
    use super::*;

    #[test]
    fn what_keeps_coming_back_soon_replaces_what_was_wanted_before() {
        let mut cache = Simulation::new(Eviction::TinyLfu, 307_000, 400);
        let mut hits = |range: std::ops::Range<u32>| {
            let hit = |n: &u32| cache.ask(n.wrapping_mul(0x9e37_79b9), 1_000) == Asked::Hit;
            range.filter(hit).count()
        };
        hits(0..300);
        for round in 0..7 {
            assert_eq!(hits(0..300), 300);
            // Whoever is put takes the notes of hits out.
            hits(1_000 + round..1_001 + round);
        }
        // Those before were asked for eight times, each of these once a round.
        let rounds: Vec<usize> = (0..6).map(|_| hits(2_000..2_100)).collect();
        assert!(rounds[0] == 0 && rounds[5] > 50, "{rounds:?}");
    }
}
