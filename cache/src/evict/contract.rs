//! What every policy keeps to: the same tests for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::simulation::{Asked, Simulation};
use super::*;
use crate::index::{Mark, Unlimited};

/// A policy, its records, and what should be in it.
struct Bench {
    records: Records,
    policy: Box<dyn Policy>,
    known: BTreeMap<Handle, u32>,
    next: u32,
}

/// Refuses some, and counts the questions.
struct Asking<'a> {
    bench: &'a BTreeMap<Handle, u32>,
    refused: &'a dyn Fn(Handle) -> bool,
    asked: u32,
}

impl Look for Asking<'_> {
    fn takes(&mut self, entry: Handle) -> bool {
        self.asked += 1;
        assert!(self.bench.contains_key(&entry), "it was removed");
        !(self.refused)(entry)
    }

    fn hash(&mut self, entry: Handle) -> u32 {
        self.asked += 1;
        self.bench[&entry]
    }
}

impl Bench {
    fn new(eviction: Eviction) -> Self {
        Self {
            records: Records::new(1_000, Arc::new(Unlimited)).unwrap(),
            policy: eviction.build(Arc::new(Unlimited), 100_000),
            known: BTreeMap::new(),
            next: 0,
        }
    }

    fn add(&mut self, bytes: u64, enter: Enter) -> Handle {
        let entry = self.publish(bytes);
        let hash = self.known[&entry];
        self.policy.insert(&self.records, entry, hash, enter);
        entry
    }

    fn publish(&mut self, bytes: u64) -> Handle {
        let entry = self.records.alloc().unwrap();
        let record = self.records.at(entry);
        record.set_len(bytes);
        record.publish();
        self.next += 1;
        let hash = self.next.wrapping_mul(0x9e37_79b9);
        self.known.insert(entry, hash);
        entry
    }

    fn hit(&self, entry: Handle) {
        let record = self.records.at(entry);
        let _ = record.try_pin(Mark::Hit(0));
        assert!(!record.unpin());
        self.policy.hit(entry, self.known[&entry]);
    }

    fn replace(&mut self, old: Handle, bytes: u64) {
        let new = self.publish(bytes);
        self.policy.replace(&self.records, old, new);
        self.gone(old);
    }

    fn remove(&mut self, entry: Handle, evicted: bool) {
        let evicted = evicted.then(|| self.known[&entry]);
        self.policy.remove(&self.records, entry, evicted);
        self.gone(entry);
    }

    fn gone(&mut self, entry: Handle) {
        assert_eq!(self.records.place(entry), 0);
        assert_eq!(self.records.prev(entry), None);
        self.known.remove(&entry).unwrap();
        assert!(self.records.at(entry).unlink());
        self.records.free(entry);
    }

    /// The next to go, removed.
    fn evict(&mut self, refused: &dyn Fn(Handle) -> bool) -> Option<Handle> {
        // Four policies in one, and each entry may be passed over some times.
        for _ in 0..1_000 {
            let mut look = Asking {
                bench: &self.known,
                refused,
                asked: 0,
            };
            let choice = self.policy.victim(&self.records, &mut look);
            assert!(look.asked <= 4 * 3 * STEP, "a bounded number");
            match choice {
                Choice::Victim(entry) => {
                    assert!(!refused(entry));
                    self.remove(entry, true);
                    return Some(entry);
                }
                Choice::Later => {}
                Choice::Nothing => return None,
            }
        }
        panic!("it never comes to an end");
    }

    fn any(&self, at: u16) -> Option<Handle> {
        let at = usize::from(at).checked_rem(self.known.len())?;
        self.known.keys().nth(at).copied()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64, u8),
    Hit(u16, u8),
    Replace(u16, u64),
    Remove(u16),
    /// Takes one in so many only.
    Evict(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![0_u64..200, 1_000_u64..5_000, 50_000_u64..90_000];
    let step = prop_oneof![
        5 => (bytes.clone(), 0_u8..3).prop_map(|(bytes, enter)| Step::Add(bytes, enter)),
        5 => (any::<u16>(), 1_u8..5).prop_map(|(at, times)| Step::Hit(at, times)),
        1 => (any::<u16>(), bytes).prop_map(|(at, bytes)| Step::Replace(at, bytes)),
        1 => any::<u16>().prop_map(Step::Remove),
        3 => (1_u32..4).prop_map(Step::Evict),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// It gives what is there and may go, nothing else, and in the end all of it.
    #[test]
    fn any_run_of_steps_agrees_with_a_set(
        eviction in prop::sample::select(Eviction::ALL.to_vec()),
        steps in steps(),
    ) {
        let mut bench = Bench::new(eviction);
        for step in steps {
            match step {
                Step::Add(bytes, enter) => {
                    let enter = [Enter::Hot, Enter::Probation, Enter::Known][usize::from(enter)];
                    bench.add(bytes, enter);
                }
                Step::Hit(at, times) => {
                    if let Some(entry) = bench.any(at) {
                        (0..times).for_each(|_| bench.hit(entry));
                    }
                }
                Step::Replace(at, bytes) => {
                    if let Some(entry) = bench.any(at) {
                        bench.replace(entry, bytes);
                    }
                }
                Step::Remove(at) => {
                    if let Some(entry) = bench.any(at) {
                        bench.remove(entry, false);
                    }
                }
                Step::Evict(one_in) => {
                    let refused = |entry: Handle| !entry.get().is_multiple_of(one_in);
                    let possible = bench.known.keys().any(|entry| !refused(*entry));
                    prop_assert_eq!(bench.evict(&refused).is_some(), possible);
                }
            }
            prop_assert!(bench.known.keys().all(|entry| bench.records.place(*entry) != 0));
            prop_assert_eq!(bench.policy.coldest().is_some(), !bench.known.is_empty());
        }
        prop_assert_eq!(bench.evict(&|_| true), None);
        for _ in 0..bench.known.len() {
            prop_assert!(bench.evict(&|_| false).is_some());
        }
        prop_assert!(bench.known.is_empty());
        prop_assert_eq!(bench.evict(&|_| false), None);
    }
}

#[test]
fn a_bulk_load_on_probation_leaves_those_who_are_served() {
    for eviction in Eviction::ALL {
        let mut cache = Simulation::new(eviction, 1_000_000, 5_000);
        // The serving set has nine tenths of the cache, and is asked for again and again.
        let serve = |cache: &mut Simulation| {
            let hit = |n: &u32| cache.ask(n.wrapping_mul(0x9e37_79b9), 1_000) == Asked::Hit;
            (0..900).filter(hit).count()
        };
        for _ in 0..10 {
            serve(&mut cache);
        }
        assert_eq!(serve(&mut cache), 900, "{eviction}");
        for night in 0..3_u32 {
            // The same load each night, twice as large as the cache.
            for n in 1_000..3_000_u32 {
                cache.load(n.wrapping_mul(0x9e37_79b9), 1_000);
            }
            let served = serve(&mut cache);
            assert!(served >= 891, "{eviction} night={night} served={served}");
        }
    }
}

#[test]
fn a_scan_is_survived_by_all_but_lru() {
    for eviction in Eviction::ALL {
        let mut cache = Simulation::new(eviction, 1_000_000, 5_000);
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b9);
        (0..1_000).for_each(|n| {
            cache.ask(hash(n / 2), 1_000);
        });
        for round in 0..10 {
            (0..500).for_each(|n| {
                cache.ask(hash(n), 1_000);
            });
            // New ones each time, which nobody asks for again.
            (0..600).for_each(|n| {
                cache.ask(hash(10_000 + round * 1_000 + n), 1_000);
            });
        }
        let hits = (0..500).filter(|n| cache.ask(hash(*n), 1_000) == Asked::Hit);
        let hits = hits.count();
        assert_eq!(hits >= 250, eviction != Eviction::Lru, "{eviction} {hits}");
    }
}

#[test]
fn lru_is_strict() {
    let mut bench = Bench::new(Eviction::Lru);
    let all: Vec<Handle> = (0..6).map(|_| bench.add(100, Enter::Hot)).collect();
    bench.hit(all[1]);
    bench.hit(all[0]);
    bench.hit(all[1]);
    let unasked = bench.add(100, Enter::Probation);
    let order: Vec<Handle> = std::iter::from_fn(|| bench.evict(&|_| false)).collect();
    assert_eq!(
        order,
        [unasked, all[2], all[3], all[4], all[5], all[0], all[1]]
    );
}

#[test]
fn sieve_forgives_a_hit_once() {
    let mut bench = Bench::new(Eviction::Sieve);
    let all: Vec<Handle> = (0..5).map(|_| bench.add(100, Enter::Hot)).collect();
    bench.hit(all[0]);
    bench.hit(all[2]);
    assert_eq!(bench.evict(&|_| false), Some(all[1]));
    assert_eq!(bench.evict(&|_| false), Some(all[3]));
    // New ones come in behind the hand's back, those that nobody asked for under it.
    let new = bench.add(100, Enter::Hot);
    let unasked = bench.add(100, Enter::Probation);
    let order: Vec<Handle> = std::iter::from_fn(|| bench.evict(&|_| false)).collect();
    assert_eq!(order, [unasked, all[4], new, all[0], all[2]]);
}

#[test]
fn s3fifo_keeps_what_comes_back() {
    let mut cache = Simulation::new(Eviction::S3Fifo, 100_000, 1_000);
    let hash = |n: u32| n.wrapping_mul(0x9e37_79b9);
    (0..100).for_each(|n| {
        cache.ask(hash(n), 1_000);
    });
    // It goes through the small queue, is remembered, and comes back into the main one.
    assert_eq!(cache.ask(hash(500), 1_000), Asked::Miss);
    (600..640).for_each(|n| {
        cache.ask(hash(n), 1_000);
    });
    assert_eq!(cache.ask(hash(500), 1_000), Asked::Miss);
    (700..740).for_each(|n| {
        cache.ask(hash(n), 1_000);
    });
    assert_eq!(cache.ask(hash(500), 1_000), Asked::Hit);
}

/// A note in the ring outlives the entry that it was written for.
#[test]
fn a_late_hit_on_a_record_that_is_another_entrys_by_now_does_no_harm() {
    for eviction in [Eviction::Lru, Eviction::TinyLfu, Eviction::Adaptive] {
        let mut bench = Bench::new(eviction);
        let old = bench.add(100, Enter::Hot);
        bench.hit(old);
        bench.hit(old);
        bench.remove(old, false);
        let private = bench.records.alloc().unwrap();
        assert_eq!(private, old, "the same record");
        assert_eq!(bench.evict(&|_| false), None);
        bench.records.free(private);
        let new = bench.add(100, Enter::Hot);
        assert_eq!(bench.evict(&|_| false), Some(new));
    }
}
