//! S3-FIFO (Yang et al., SOSP '23): what is new waits in a small queue, a tenth of the bytes. What
//! was hit twice there moves on to the main queue, the rest goes and is remembered for a while;
//! what comes back while it is remembered goes straight to the main queue, where a hit is worth
//! another round, up to three. Queues and memory are counted in bytes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::ghosts::Ghosts;
use super::queue::{Queue, bytes_of};
use super::{Choice, Enter, Eviction, Look, Policy, STEP, place};
use crate::index::{Budget, Handle, Records};

/// Hits that make an entry of the small queue worth keeping.
const MARKS_TO_STAY: u32 = 2;

pub(crate) struct S3Fifo {
    state: Mutex<State>,
}

struct State {
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    /// Until a first victim is asked for, what the small queue has no room for goes to the main one.
    small_bytes_at_first: u64,
    /// Entries passed over since it last gave one.
    passed: u64,
}

impl S3Fifo {
    pub(super) fn new(budget: Arc<dyn Budget>, bytes_max: u64) -> Self {
        Self {
            state: Mutex::new(State {
                small: Queue::new(place::S3_SMALL),
                main: Queue::new(place::S3_MAIN),
                ghosts: Ghosts::new(budget),
                small_bytes_at_first: bytes_max / 10,
                passed: 0,
            }),
        }
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.small.bytes() + self.main.bytes()
    }

    fn len(&self) -> u64 {
        self.small.len() + self.main.len()
    }

    /// For how many bytes those who went are remembered: as many as the main queue may have.
    fn window(&self) -> u64 {
        self.bytes() / 10 * 9
    }

    fn insert(&mut self, records: &Records, entry: Handle, hash: u32, enter: Enter) {
        let (bytes, window) = (bytes_of(records, entry), self.window());
        match enter {
            Enter::Hot if self.ghosts.recall(hash, bytes, window) => {
                self.main.push_newest(records, entry);
            }
            Enter::Known => self.main.push_newest(records, entry),
            Enter::Hot if self.small.bytes() >= self.small_bytes_at_first => {
                self.main.push_newest(records, entry);
            }
            Enter::Hot => self.small.push_newest(records, entry),
            Enter::Probation => {
                self.small.push_newest(records, entry);
                // A load that comes every night would otherwise be known from the second on.
                records.set_place(entry, place::S3_UNASKED);
            }
        }
    }

    fn queue(&mut self, records: &Records, entry: Handle) -> &mut Queue {
        if records.place(entry) == place::S3_MAIN {
            &mut self.main
        } else {
            &mut self.small
        }
    }
}

impl Policy for S3Fifo {
    fn insert(&self, records: &Records, entry: Handle, hash: u32, enter: Enter) {
        self.insert_all(records, &[(entry, hash)], enter);
    }

    fn insert_all(&self, records: &Records, entries: &[(Handle, u32)], enter: Enter) {
        let state = &mut *self.state.lock();
        for (entry, hash) in entries {
            state.insert(records, *entry, *hash, enter);
        }
    }

    fn replace(&self, records: &Records, old: Handle, new: Handle) {
        self.replace_all(records, &[(old, new)]);
    }

    fn replace_all(&self, records: &Records, pairs: &[(Handle, Handle)]) {
        let state = &mut *self.state.lock();
        for &(old, new) in pairs {
            state.queue(records, old).substitute(records, old, new);
        }
    }

    fn remove(&self, records: &Records, entry: Handle, evicted: Option<u32>) {
        let state = &mut *self.state.lock();
        if let Some(hash) = evicted
            && records.place(entry) == place::S3_SMALL
        {
            let (window, len) = (state.window(), state.len());
            let bytes = bytes_of(records, entry);
            state.ghosts.remember(hash, bytes, window, len);
        }
        state.queue(records, entry).remove(records, entry);
    }

    fn victim(&self, records: &Records, look: &mut dyn Look) -> Choice {
        let state = &mut *self.state.lock();
        state.small_bytes_at_first = u64::MAX;
        for _ in 0..STEP {
            // Three rounds may only take marks away; after four, what is left of the one queue
            // cannot be taken, and it is the other one's turn.
            if state.passed > 9 * state.len() {
                state.passed = 0;
                return Choice::Nothing;
            }
            let over = state.small.bytes() * 10 > state.bytes();
            let turned = state.passed > 4 * state.len();
            state.passed += 1;
            let (small, main) = (state.small.oldest(), state.main.oldest());
            if let Some(entry) = small.filter(|_| over != turned || main.is_none()) {
                if records.at(entry).marks() >= MARKS_TO_STAY && !turned {
                    records.at(entry).set_marks(0);
                    state.small.remove(records, entry);
                    state.main.push_newest(records, entry);
                } else if look.takes(entry) {
                    state.passed = 0;
                    return Choice::Victim(entry);
                } else {
                    state.small.make_newest(records, entry);
                }
            } else if let Some(entry) = main {
                let marks = records.at(entry).marks();
                if marks == 0 && look.takes(entry) {
                    state.passed = 0;
                    return Choice::Victim(entry);
                }
                records.at(entry).set_marks(marks.saturating_sub(1));
                state.main.make_newest(records, entry);
            } else {
                return Choice::Nothing;
            }
        }
        Choice::Later
    }

    fn coldest(&self) -> Option<Handle> {
        let state = self.state.lock();
        state.small.oldest().or(state.main.oldest())
    }

    fn resize(&self, bytes_max: u64) {
        let state = &mut *self.state.lock();
        if state.small_bytes_at_first != u64::MAX {
            state.small_bytes_at_first = bytes_max / 10;
        }
    }

    fn follows(&self) -> Eviction {
        Eviction::S3Fifo
    }
}
