//! The pin protocol and the hash table, model-checked: every interleaving of their atomics,
//! with at most [`PREEMPTIONS`] forced switches, under C11's memory model.
//!
//! `cargo test -p bowstring-cache --features loom --test loom_index`
//!
//! Under the feature a line has one bucket and a chunk four records, so that a handful of
//! entries makes a table shift and grow. The bytes that a record points at are played by a
//! relaxed atomic: whoever reads it without being entitled to reads the wrong value in some
//! schedule.
#![cfg(feature = "loom")]

use std::sync::Arc;

use bowstring_cache::index::{Handle, Index, Mark, Pin, Probe, Records, Table, Unlimited};
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;

const PREEMPTIONS: usize = 3;

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn index() -> Arc<Index> {
    Arc::new(Index {
        records: Records::new(64, Arc::new(Unlimited)).expect("no limit"),
        table: Table::with_shards(64, 1, Arc::new(Unlimited)).expect("no limit"),
    })
}

/// Adds an entry whose key is its `loc` and whose version is its length.
fn put(index: &Index, hash: u64, key: u64, version: u64) -> Handle {
    let handle = private(index, key, version);
    let publish = || index.records.at(handle).publish();
    index
        .table
        .lock(hash)
        .insert(handle, publish)
        .expect("no limit");
    handle
}

fn private(index: &Index, key: u64, version: u64) -> Handle {
    let handle = index.records.alloc().expect("no limit");
    index.records.at(handle).set_loc(key);
    index.records.at(handle).set_len(version);
    handle
}

fn replace(index: &Index, hash: u64, old: Handle, key: u64, version: u64) -> Handle {
    let new = private(index, key, version);
    let publish = || index.records.at(new).publish();
    assert!(index.table.lock(hash).replace(old, new, publish));
    retire(index, old);
    new
}

fn retire(index: &Index, handle: Handle) {
    if index.records.at(handle).unlink() {
        index.records.free(handle);
    }
}

/// The version of a key, if it is there.
fn get(index: &Index, hash: u64, key: u64) -> Option<u64> {
    let eq = |_, record: &bowstring_cache::index::Record| record.loc() == key;
    let handle = index.get(hash, Mark::Hit(1), eq, |last| index.records.free(last))?;
    let record = index.records.at(handle);
    assert_eq!(record.loc(), key, "a pinned record is another entry's");
    let version = record.len();
    if record.unpin() {
        index.records.free(handle);
    }
    Some(version)
}

/// Spread over the table's lines: the low 32 bits choose the home.
fn spread(key: u64) -> u64 {
    key << 29
}

#[test]
fn a_record_is_freed_once_and_never_under_a_pin() {
    explore(PREEMPTIONS, || {
        let index = index();
        let (bytes, freed) = (Arc::new(AtomicU64::new(7)), Arc::new(AtomicU32::new(0)));
        let handle = private(&index, 1, 1);
        index.records.at(handle).publish();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (index, bytes, freed) = (index.clone(), bytes.clone(), freed.clone());
                thread::spawn(move || {
                    let record = index.records.at(handle);
                    if record.try_pin(Mark::Hit(1)) == Pin::Pinned {
                        assert_eq!(bytes.load(Ordering::Relaxed), 7);
                        if record.unpin() {
                            bytes.store(0, Ordering::Relaxed);
                            freed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        if index.records.at(handle).unlink() {
            bytes.store(0, Ordering::Relaxed);
            freed.fetch_add(1, Ordering::Relaxed);
        }
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        assert_eq!(freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_stale_handle_pins_one_life_or_another_but_no_mixture() {
    explore(PREEMPTIONS, || {
        let index = index();
        let handle = private(&index, 1, 10);
        let generation = index.records.at(handle).generation();
        index.records.at(handle).publish();
        let reader = {
            let index = index.clone();
            thread::spawn(move || {
                let record = index.records.at(handle);
                if record.try_pin(Mark::Peek) == Pin::Pinned {
                    assert!([(1, 10), (2, 20)].contains(&(record.loc(), record.len())));
                    if record.unpin() {
                        index.records.free(handle);
                    }
                }
                if record.try_pin_generation(generation, Mark::Peek) == Pin::Pinned {
                    assert_eq!((record.loc(), record.len()), (1, 10));
                    if record.unpin() {
                        index.records.free(handle);
                    }
                }
            })
        };
        retire(&index, handle);
        let again = private(&index, 2, 20);
        index.records.at(again).publish();
        reader.join().unwrap();
    });
}

#[test]
fn a_move_is_never_seen_half_done() {
    explore(PREEMPTIONS, || {
        let index = index();
        let bytes: Arc<[AtomicU64; 2]> = Arc::new([AtomicU64::new(7), AtomicU64::new(0)]);
        let freed = Arc::new(AtomicU32::new(0));
        let handle = private(&index, 0, 1);
        index.records.at(handle).publish();
        let mover = {
            let (index, bytes, freed) = (index.clone(), bytes.clone(), freed.clone());
            thread::spawn(move || {
                let record = index.records.at(handle);
                if record.lock_move() {
                    bytes[1].store(7, Ordering::Relaxed);
                    record.set_loc(1);
                    bytes[0].store(0, Ordering::Relaxed);
                    if record.unlock_move() {
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let reader = {
            let (index, bytes, freed) = (index.clone(), bytes.clone(), freed.clone());
            thread::spawn(move || {
                let record = index.records.at(handle);
                if record.try_pin(Mark::Peek) == Pin::Pinned {
                    let at = usize::try_from(record.loc()).unwrap();
                    assert_eq!(bytes[at].load(Ordering::Relaxed), 7);
                    if record.unpin() {
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        if index.records.at(handle).unlink() {
            freed.fetch_add(1, Ordering::Relaxed);
        }
        mover.join().unwrap();
        reader.join().unwrap();
        assert_eq!(freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_replaced_key_is_never_missed_and_never_goes_back() {
    explore(PREEMPTIONS, || {
        let index = index();
        let first = put(&index, spread(1), 1, 1);
        let reader = {
            let index = index.clone();
            thread::spawn(move || {
                let one = get(&index, spread(1), 1).expect("never a gap");
                let other = get(&index, spread(1), 1).expect("never a gap");
                assert!(one <= other, "one={one} other={other}");
            })
        };
        // The third life of the key may be in the first one's record.
        let second = replace(&index, spread(1), first, 1, 2);
        replace(&index, spread(1), second, 1, 3);
        reader.join().unwrap();
        assert_eq!(get(&index, spread(1), 1), Some(3));
    });
}

#[test]
fn a_lookup_beside_a_growth_finds_what_is_there() {
    explore(2, || {
        let index = index();
        // The fourth entry is too many for four buckets.
        for key in [0, 2, 4] {
            put(&index, spread(key), key, key);
        }
        let reader = {
            let index = index.clone();
            thread::spawn(move || {
                assert_eq!(get(&index, spread(4), 4), Some(4));
                assert!(get(&index, spread(7), 7).is_none_or(|version| version == 7));
            })
        };
        let before = index.table.bytes();
        put(&index, spread(7), 7, 7);
        assert!(index.table.bytes() > before, "it has grown");
        assert_eq!(get(&index, spread(7), 7), Some(7));
        reader.join().unwrap();
    });
}

#[test]
fn a_lookup_beside_the_removal_of_a_neighbour_finds_its_entry() {
    explore(PREEMPTIONS, || {
        let index = index();
        // All of one home: the last two lie behind it, and move back.
        let neighbours = [1, 2, 3].map(|key| put(&index, key, key, key));
        let reader = {
            let index = index.clone();
            thread::spawn(move || {
                assert_eq!(get(&index, 3, 3), Some(3));
                assert!([None, Some(1)].contains(&get(&index, 1, 1)));
            })
        };
        assert!(index.table.lock(1).remove(neighbours[0]));
        retire(&index, neighbours[0]);
        assert_eq!(get(&index, 1, 1), None);
        reader.join().unwrap();
        assert_eq!(get(&index, 3, 3), Some(3));
    });
}

#[test]
fn two_writers_agree_on_who_ends_an_entry() {
    explore(PREEMPTIONS, || {
        let index = index();
        let handle = put(&index, spread(1), 1, 1);
        let evictor = {
            let index = index.clone();
            thread::spawn(move || {
                let mut shard = index.table.lock(spread(1));
                let removed = shard.remove(handle);
                drop(shard);
                if removed {
                    retire(&index, handle);
                }
                removed
            })
        };
        let new = private(&index, 1, 2);
        let mut shard = index.table.lock(spread(1));
        let old = shard.find(|there| {
            let record = index.records.at(there);
            if record.loc() == 1 {
                Probe::Hit(there)
            } else {
                Probe::Other
            }
        });
        let publish = || index.records.at(new).publish();
        match old {
            Some(old) => assert!(shard.replace(old, new, publish)),
            None => shard.insert(new, publish).unwrap(),
        }
        drop(shard);
        if let Some(old) = old {
            retire(&index, old);
        }
        let evicted = evictor.join().unwrap();
        // Handles are reused: the evictor may have taken the old life or met the new one.
        assert!(old.is_some() != evicted || old.is_none());
        assert_eq!(index.table.len(), 1);
        assert_eq!(index.records.used(), 1);
        assert_eq!(get(&index, spread(1), 1), Some(2));
    });
}
