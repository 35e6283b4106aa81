//! Threads that put, replace, delete, move, scan and read at once: whatever is found is whole, and
//! a key that is only ever replaced is always found. Under Miri with few rounds, where it is the engine's data races that are looked for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bowstring_wire::name::Tenant;
use twox_hash::XxHash3_128;

use super::loading::{begin, commit, put_in};
use super::*;
use crate::rows::{Row, RowsSpec};

const ROUNDS: u64 = if cfg!(miri) { 4 } else { 3_000 };
const KEYS: u64 = if cfg!(miri) { 8 } else { 300 };
/// Sorts among the others.
const ALWAYS: &str = "1 always";

/// Does `work` until the others are done, at least once.
fn until(done: &AtomicBool, mut work: impl FnMut()) {
    loop {
        work();
        if done.load(Ordering::Relaxed) {
            return;
        }
        thread::yield_now();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn pick(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn write(cache: &Cache, seed: u64) {
    let mut random = seed;
    for round in 0..ROUNDS {
        let key = format!("{}", pick(&mut random) % KEYS);
        let len = match pick(&mut random) % 8 {
            0 => 70_000,
            1 => 9_000,
            n => n * 50,
        };
        let data = bytes(round, usize::try_from(len).unwrap());
        block_on(put(cache, &key, Mode::Replace, &data)).unwrap();
        block_on(put(cache, ALWAYS, Mode::Replace, &data)).unwrap();
        if pick(&mut random).is_multiple_of(3) {
            let key = format!("{}", pick(&mut random) % KEYS);
            block_on(cache.delete(&id(&key), None)).unwrap();
        }
    }
}

#[test]
fn whatever_is_found_is_whole() {
    let (cache, _) = cache_of(8 * MIB);
    block_on(put(&cache, ALWAYS, Mode::Replace, &[])).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [1, 2].map(|seed| {
            let cache = &cache;
            scope.spawn(move || write(cache, seed))
        });
        scope.spawn(|| {
            let mut random = 99;
            until(&done, || {
                assert!(cache.get(&id(ALWAYS)).is_some());
                let key = format!("{}", pick(&mut random) % KEYS);
                if let Some(entry) = cache.get(&id(&key)) {
                    assert_eq!(entry.key(), key);
                    let checksum = entry.checksum();
                    let data = entry.into_vec().unwrap();
                    assert_eq!(XxHash3_128::oneshot(&data), checksum);
                }
            });
        });
        scope.spawn(|| {
            until(&done, || {
                cache.engine().compact(100);
                let items = cache.scan(
                    &Tenant::public(),
                    &Namespace::default(),
                    "",
                    None,
                    usize::MAX,
                );
                assert!(items.is_sorted_by(|a, b| a.key < b.key));
                assert!(items.iter().any(|item| item.key.as_str() == ALWAYS));
            });
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let stats = cache.stats();
    assert!(cfg!(miri) || stats.moved > 0, "{stats:?}");
    assert_eq!(stats.events.evicted, 0);
    block_on(cache.delete(&id(ALWAYS), None)).unwrap();
    for n in 0..KEYS {
        block_on(cache.delete(&id(&format!("{n}")), None)).unwrap();
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.entries, stats.live_bytes, stats.held_bytes),
        (0, 0, 0)
    );
    assert_eq!((stats.arena_used_bytes, stats.reserved_bytes), (0, 0));
}

/// The order once let go of a replaced key before the new entry could be read, and a scan in
/// between passed over a key that was there all the time.
#[test]
fn a_scan_never_misses_a_key_that_is_being_replaced() {
    let (cache, _) = cache_of(64 * MIB);
    block_on(put(&cache, "k", Mode::Replace, &[0; 64])).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let data = bytes(round, 64);
                block_on(put(&cache, "k", Mode::Replace, &data)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            until(&done, || {
                let found = cache.scan(&Tenant::public(), &Namespace::default(), "", None, 9);
                assert_eq!(found.len(), 1);
            });
        });
    });
}

/// Rows go many shards at a time; who wants the same ones from the other end must not wait for ever.
#[test]
fn rows_of_many_writers_are_whole() {
    let (cache, _) = cache_of(16 * MIB);
    let rounds = ROUNDS / 50 + 1;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [1_u64, 2, 3].map(|seed| {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..rounds {
                    write_rows(cache, seed, round);
                }
            })
        });
        scope.spawn(|| {
            until(&done, || {
                cache.engine().compact(100);
                let (tenant, namespace) = (Tenant::public(), Namespace::default());
                let items = cache.scan(&tenant, &namespace, "", None, usize::MAX);
                assert!(items.is_sorted_by(|a, b| a.key < b.key));
            });
        });
        scope.spawn(|| {
            let mut random = 7;
            until(&done, || {
                let key = format!("{}", pick(&mut random) % KEYS);
                if let Some(entry) = cache.get(&id(&key)) {
                    let checksum = entry.checksum();
                    let data = entry.into_vec().unwrap();
                    assert_eq!(XxHash3_128::oneshot(&data), checksum);
                }
                block_on(cache.delete(&id(&key), None)).unwrap();
            });
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    for n in 0..KEYS {
        block_on(cache.delete(&id(&format!("{n}")), None)).unwrap();
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.arena_used_bytes), (0, 0));
}

/// Keys forwards or backwards, in any of the modes that store.
fn write_rows(cache: &Cache, seed: u64, round: u64) {
    let data = bytes(seed * ROUNDS + round, 40);
    let shape = Shape::new(&[40]).unwrap();
    let mut keys: Vec<String> = (0..KEYS).map(|n| n.to_string()).collect();
    if (seed + round).is_multiple_of(2) {
        keys.reverse();
    }
    let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
    let spec = RowsSpec {
        mode: if round.is_multiple_of(3) {
            Mode::Keep
        } else {
            Mode::Replace
        },
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let answers = block_on(cache.put_rows(&tenant, &namespace, spec, &rows));
    assert!(answers.iter().all(Result::is_ok));
}

/// Every generation is of one value; there are two keys that are always there.
#[test]
fn several_look_ups_never_mix_generations() {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    const ROUNDS: u64 = if cfg!(miri) { 4 } else { 400 };
    let (cache, _) = cache_of(64 * MIB);
    let put_all = |value: u64, replace_all: bool| {
        let (tenant, load) = (Tenant::public(), begin(&cache, replace_all));
        block_on(async {
            for key in KEYS {
                put_in(&cache, &load, key, Mode::Create, &value.to_le_bytes())
                    .await
                    .unwrap();
            }
            commit(&cache, &load).await.unwrap();
            if value.is_multiple_of(3) {
                cache.rollback_load(&tenant, &load).await.unwrap();
            }
        });
    };
    put_all(1, true);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (cache, done) = (&cache, &done);
            scope.spawn(move || {
                let (tenant, namespace) = (Tenant::public(), Namespace::default());
                while !done.load(Ordering::Relaxed) {
                    if reader == 0 {
                        // One look-up alone is never a miss.
                        for key in KEYS {
                            assert!(cache.get(&id(key)).is_some(), "{key}");
                        }
                        continue;
                    }
                    let generation = cache.generation(&tenant, &namespace);
                    let mut values = BTreeSet::new();
                    for key in KEYS {
                        if let Some(entry) = cache.get_in(&generation, &id(key)) {
                            values.insert(entry.into_vec().unwrap());
                        }
                    }
                    assert!(values.len() <= 1, "{values:?}");
                    let items = cache.scan(&tenant, &namespace, "", None, 100);
                    assert_eq!(items.len(), KEYS.len());
                }
            });
        }
        for round in 2..ROUNDS {
            put_all(round, round.is_multiple_of(2));
            if round.is_multiple_of(5) {
                while cache.tidy_loads() {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
