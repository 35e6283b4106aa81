//! The order against a `BTreeMap`, and the memory it takes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::Unlimited;
use super::*;

/// Keys by handle, and how often one was read.
#[derive(Default)]
struct Names(Vec<Vec<u8>>, Cell<u64>);

impl Names {
    fn add(&mut self, key: &[u8]) -> Handle {
        self.0.push(key.to_vec());
        Handle::from_raw(u32::try_from(self.0.len()).unwrap()).unwrap()
    }
}

impl Keys for Names {
    fn with_key<R>(&self, handle: Handle, with: impl FnOnce(&[u8]) -> R) -> R {
        self.1.set(self.1.get() + 1);
        with(&self.0[handle.get() as usize - 1])
    }
}

/// Counts what is charged, refuses above the limit.
struct Counted {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Counted {
    fn new(limit: u64) -> Arc<Counted> {
        Arc::new(Counted {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
        })
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Budget for Counted {
    fn charge(&self, bytes: u64) -> bool {
        let fits = self.used() + bytes <= self.limit.load(Ordering::Relaxed);
        if fits {
            self.used.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What an order holds, counted from scratch.
fn recount(order: &Order) -> u64 {
    let leaves: u64 = order.runs.iter().flatten().map(Leaf::bytes).sum();
    let outline: usize = order
        .runs
        .iter()
        .map(|run| run.capacity() * size_of::<Leaf>())
        .sum();
    leaves + (outline + order.runs.capacity() * size_of::<Run>()) as u64
}

fn check(order: &Order, model: &BTreeMap<Vec<u8>, Handle>, names: &Names, budget: &Counted) {
    assert_eq!(order.len(), model.len() as u64);
    assert_eq!(order.bytes(), recount(order));
    assert!(
        order.bytes() <= budget.used(),
        "bytes={} charged={}",
        order.bytes(),
        budget.used()
    );
    let all: Vec<_> = order
        .range(Bound::Unbounded, Bound::Unbounded, names)
        .collect();
    assert_eq!(all, model.values().copied().collect::<Vec<_>>());
    assert_eq!(order.first(), model.values().next().copied());
    assert_eq!(order.last(), model.values().next_back().copied());
}

/// A key of one of several shapes: numbers in order, hexadecimal, long common prefixes.
fn key(shape: u32, number: u32) -> Vec<u8> {
    let spread = number.wrapping_mul(0x9e37_79b9);
    match shape % 4 {
        0 => format!("row/{number:08}"),
        1 => format!("{spread:08x}"),
        2 => format!("a/very/long/common/prefix/of/many/keys/{spread}"),
        _ => format!("{}", char::from_u32(0x400 + spread % 500).unwrap()),
    }
    .into_bytes()
}

/// Keys of one wave.
const WAVE_MAX: u32 = if cfg!(miri) { 150 } else { 1_500 };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 24 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Runs of inserts and removals, long enough for many leaves, agree with a map; so do
    /// ranges and prefixes between any keys.
    #[test]
    fn agrees_with_a_map(
        waves in proptest::collection::vec((0u32..8, 0u32..3_000, 1..WAVE_MAX, 0u8..4), 1..8),
        bounds in proptest::collection::vec((0u32..4, 0u32..4_000), 2),
        prefix in "[ra0-9]{0,3}",
    ) {
        let budget = Counted::new(u64::MAX);
        let (mut order, mut names, mut model) = (Order::new(budget.clone()), Names::default(), BTreeMap::new());
        for (shape, from, count, what) in waves {
            let mut keys: Vec<_> = (from..from + count).map(|number| key(shape, number)).collect();
            // Ascending ones go behind one another, or where fingers say.
            if what >= 2 {
                keys.sort();
                keys.dedup();
            }
            let mut finger = Finger::default();
            let mut ahead = order.fingers(keys.iter().map(Vec::as_slice)).into_iter();
            for key in keys {
                if what >= 2 {
                    if what == 3 {
                        finger = ahead.next().unwrap().or(finger);
                    }
                    let handle = names.add(&key);
                    let there = model.get(&key).copied();
                    let near = there.is_some_and(|there| order.replace_near(&mut finger, there, handle));
                    if !near {
                        let before = order.insert_near(&mut finger, &key, handle, &names).unwrap();
                        prop_assert_eq!(before, there);
                    }
                    model.insert(key, handle);
                } else if what == 1 {
                    let handle = names.add(&key);
                    let before = order.insert(&key, handle, &names).unwrap();
                    prop_assert_eq!(before, model.insert(key, handle));
                } else {
                    let there = model.remove(&key);
                    let named = there.or(Handle::from_raw(1)).unwrap();
                    prop_assert_eq!(order.remove(&key, named, &names), there.is_some());
                }
            }
            check(&order, &model, &names, &budget);
        }
        let mut bounds: Vec<_> = bounds.into_iter().map(|(shape, number)| key(shape, number)).collect();
        bounds.sort();
        let (from, to) = (bounds[0].as_slice(), bounds[1].as_slice());
        let range: Vec<_> = order.range(Bound::Included(from), Bound::Excluded(to), &names).collect();
        let wanted = model.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        prop_assert_eq!(range, wanted.map(|(_, &handle)| handle).collect::<Vec<_>>());
        let range: Vec<_> = order.range(Bound::Excluded(from), Bound::Included(to), &names).collect();
        let wanted = model.iter().filter(|(key, _)| key.as_slice() > from && key.as_slice() <= to);
        prop_assert_eq!(range, wanted.map(|(_, &handle)| handle).collect::<Vec<_>>());
        let found: Vec<_> = order.prefix(prefix.as_bytes(), Some(from), &names).collect();
        let wanted = model.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes()) && key.as_slice() > from);
        prop_assert_eq!(found, wanted.map(|(_, &handle)| handle).collect::<Vec<_>>());
        drop(order);
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_refused_insert_changes_nothing() {
    let budget = Counted::new(4_000);
    let (mut order, mut names, mut model) = (
        Order::new(budget.clone()),
        Names::default(),
        BTreeMap::new(),
    );
    let (mut refused, count) = (0, if cfg!(miri) { 1_000 } else { 2_000 });
    for number in 0..count {
        let key = key(1, number);
        let handle = names.add(&key);
        match order.insert(&key, handle, &names) {
            Ok(before) => assert_eq!(before, model.insert(key, handle)),
            Err(Full { bytes }) => {
                assert!(bytes > 0);
                refused += 1;
            }
        }
    }
    assert!(refused > count / 4, "refused={refused}");
    check(&order, &model, &names, &budget);
    assert!(budget.used() <= 4_000);
    // What is there can still be replaced, and removed.
    for (key, handle) in model.clone() {
        let new = names.add(&key);
        assert_eq!(order.insert(&key, new, &names), Ok(Some(handle)));
        assert!(!order.remove(&key, handle, &names), "another handle");
        assert!(order.remove(&key, new, &names));
    }
    assert_eq!((order.bytes() > 0, budget.used()), (false, order.bytes()));
}

/// Bytes an entry, for keys that come in order and for keys that do not, and after most
/// were removed.
#[test]
#[cfg_attr(miri, ignore = "too many entries")]
fn an_entry_takes_under_seven_bytes() {
    for shape in [0, 1, 2] {
        let (mut order, mut names) = (Order::new(Arc::new(Unlimited)), Names::default());
        let entries = 60_000;
        let handles: Vec<_> = (0..entries)
            .map(|number| {
                let key = key(shape, number);
                let handle = names.add(&key);
                assert_eq!(order.insert(&key, handle, &names), Ok(None));
                handle
            })
            .collect();
        let bytes = order.bytes() as f64 / f64::from(entries);
        assert!(bytes < 7.0, "shape={shape} bytes={bytes}");
        for (number, handle) in (0..entries).zip(handles) {
            if number % 10 != 0 {
                assert!(order.remove(&key(shape, number), handle, &names));
            }
        }
        let bytes = order.bytes() as f64 / order.len() as f64;
        assert!(bytes < 8.0, "shape={shape} bytes={bytes} after removals");
    }
}

/// A key read is two cache misses where there are many, and a binary search would have sixteen of
/// them: an insert and a search read one, whatever the keys are like. A removal reads only its own.
#[test]
#[cfg_attr(miri, ignore = "too many entries")]
fn a_search_reads_one_key() {
    for shape in 0..4 {
        let (mut order, mut names) = (Order::new(Arc::new(Unlimited)), Names::default());
        let entries = 60_000;
        let handles: Vec<_> = (0..entries)
            .map(|number| {
                let key = key(shape, number);
                let handle = names.add(&key);
                order.insert(&key, handle, &names).unwrap();
                handle
            })
            .collect();
        let reads = names.1.take() as f64 / f64::from(entries);
        assert!(reads < 1.02, "shape={shape} reads={reads} an insert");
        for number in 0..entries {
            let at = key(shape, number);
            let mut found = order.range(Bound::Included(&at), Bound::Unbounded, &names);
            assert!(found.next().is_some());
        }
        assert_eq!(names.1.take(), u64::from(entries), "shape={shape}");
        for (number, handle) in (0..1_000).zip(handles) {
            order.remove(&key(shape, number), handle, &names);
        }
        let reads = names.1.take();
        assert!(
            reads <= 1_100,
            "shape={shape} reads={reads} a thousand removals"
        );
    }
}

/// An insert at a finger reads the entry that the finger is at, and no other.
#[test]
#[cfg_attr(miri, ignore = "too many entries")]
fn fingers_say_what_is_read() {
    let (mut order, mut names) = (Order::new(Arc::new(Unlimited)), Names::default());
    let entries = 60_000;
    for number in 0..entries {
        let key = key(1, number);
        let handle = names.add(&key);
        assert_eq!(order.insert(&key, handle, &names), Ok(None));
    }
    let mut keys: Vec<_> = (entries..entries + 200)
        .map(|number| key(1, number))
        .collect();
    keys.sort();
    let fingers = order.fingers(keys.iter().map(Vec::as_slice));
    let asked = fingers
        .iter()
        .filter_map(|&finger| order.at(finger))
        .count();
    assert!((100..=200).contains(&asked), "asked={asked}");
    names.1.take();
    let mut finger = Finger::default();
    for (key, ahead) in keys.iter().zip(fingers) {
        finger = ahead.or(finger);
        let handle = names.add(key);
        let before = order.insert_near(&mut finger, key, handle, &names);
        assert_eq!((before, order.at(finger)), (Ok(None), Some(handle)));
    }
    // A leaf that is split reads one, and fingers behind it in its run are of no use.
    let reads = names.1.take();
    assert!(reads <= 220, "reads={reads}");
}
