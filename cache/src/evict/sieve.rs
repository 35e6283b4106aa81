//! SIEVE (Zhang et al., NSDI '24): entries in the order in which they came, and a hand that walks
//! from old to new. Where it finds the mark of a hit it clears it and walks on; where it finds
//! none, the entry goes. A hit sets a bit and moves nothing.

use parking_lot::Mutex;

use super::{Choice, Policy};
use crate::index::{Handle, Records};

/// Entries that one call looks at: about 50 µs under the lock where none is in a cache.
const STEP: u32 = 512;

/// The policy's state: a list from `newest` to `oldest`, and the hand.
#[derive(Default)]
pub(crate) struct Sieve {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    newest: Option<Handle>,
    oldest: Option<Handle>,
    hand: Option<Handle>,
    len: u64,
    /// Entries that the hand has passed since it last gave one.
    passed: u64,
}

impl Policy for Sieve {
    fn insert(&self, records: &Records, entry: Handle) {
        let mut list = self.list.lock();
        records.set_prev(entry, None);
        records.set_next(entry, list.newest);
        match list.newest {
            Some(newest) => records.set_prev(newest, Some(entry)),
            None => list.oldest = Some(entry),
        }
        list.newest = Some(entry);
        list.len += 1;
    }

    fn remove(&self, records: &Records, entry: Handle) {
        let mut list = self.list.lock();
        let (prev, next) = (records.prev(entry), records.next(entry));
        if list.hand == Some(entry) {
            list.hand = prev;
        }
        match prev {
            Some(prev) => records.set_next(prev, next),
            None => list.newest = next,
        }
        match next {
            Some(next) => records.set_prev(next, prev),
            None => list.oldest = prev,
        }
        records.set_prev(entry, None);
        records.set_next(entry, None);
        list.len -= 1;
    }

    fn victim(&self, records: &Records, takes: &mut dyn FnMut(Handle) -> bool) -> Choice {
        let mut list = self.list.lock();
        for _ in 0..STEP {
            // One round may only clear marks; after two, what is left cannot be taken.
            if list.passed > 2 * list.len {
                list.passed = 0;
                return Choice::Nothing;
            }
            let Some(entry) = list.hand.or(list.oldest) else {
                return Choice::Nothing;
            };
            list.hand = records.prev(entry);
            list.passed += 1;
            if !records.at(entry).clear_visited() && takes(entry) {
                list.passed = 0;
                return Choice::Victim(entry);
            }
        }
        Choice::Later
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Mark, Unlimited};
    use std::sync::Arc;

    struct Bench {
        records: Records,
        sieve: Sieve,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                records: Records::new(100, Arc::new(Unlimited)).unwrap(),
                sieve: Sieve::default(),
            }
        }

        fn add(&self) -> Handle {
            let entry = self.records.alloc().unwrap();
            self.records.at(entry).publish();
            self.sieve.insert(&self.records, entry);
            entry
        }

        fn hit(&self, entry: Handle) {
            let record = self.records.at(entry);
            let _ = record.try_pin(Mark::Hit(0));
            assert!(!record.unpin());
        }

        fn evict(&self, mut takes: impl FnMut(Handle) -> bool) -> Option<Handle> {
            loop {
                match self.sieve.victim(&self.records, &mut takes) {
                    Choice::Victim(entry) => {
                        self.sieve.remove(&self.records, entry);
                        return Some(entry);
                    }
                    Choice::Later => {}
                    Choice::Nothing => return None,
                }
            }
        }
    }

    #[test]
    fn the_oldest_without_a_hit_goes_and_hits_are_forgiven_once() {
        let bench = Bench::new();
        let all: Vec<Handle> = (0..5).map(|_| bench.add()).collect();
        bench.hit(all[0]);
        bench.hit(all[2]);
        assert_eq!(bench.evict(|_| true), Some(all[1]));
        assert_eq!(bench.evict(|_| true), Some(all[3]));
        // New ones come in behind the hand's back.
        let new = bench.add();
        assert_eq!(bench.evict(|_| true), Some(all[4]));
        assert_eq!(bench.evict(|_| true), Some(new));
        assert_eq!(bench.evict(|_| true), Some(all[0]));
        assert_eq!(bench.evict(|_| true), Some(all[2]));
        assert_eq!(bench.evict(|_| true), None);
    }

    #[test]
    fn what_cannot_be_taken_is_passed_over_and_does_not_hang() {
        let bench = Bench::new();
        let all: Vec<Handle> = (0..3).map(|_| bench.add()).collect();
        assert_eq!(bench.evict(|_| false), None);
        assert_eq!(bench.evict(|entry| entry == all[1]), Some(all[1]));
        bench.sieve.remove(&bench.records, all[2]);
        bench.hit(all[0]);
        assert_eq!(bench.evict(|_| true), Some(all[0]));
        assert_eq!(bench.evict(|_| true), None);
    }

    #[test]
    fn many_entries_take_several_steps() {
        let bench = Bench::new();
        let all: Vec<Handle> = (0..90).map(|_| bench.add()).collect();
        for _ in 0..20 {
            all.iter().for_each(|entry| bench.hit(*entry));
        }
        assert_eq!(bench.evict(|_| true), Some(all[0]));
    }
}
