//! The index alone: look-ups as keys grow, inserts, the order, and hits from many threads.
//!
//! `cargo bench -p bowstring-cache --bench index`
//!
//! Look-ups at 10³ keys stay in the processor's caches and those at 10⁶ do not: the ratio
//! is the price of memory, which `examples/lookup_misses.rs` counts exactly.

#[path = "support/entries.rs"]
mod entries;
#[path = "support/words.rs"]
mod words;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use bowstring_cache::index::{Handle, Mark, Pin};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use entries::{Entries, KEY_BYTES, name, shuffled};

/// Keys made before the clock runs.
fn names(first: u32, entries: u32) -> Vec<[u8; KEY_BYTES]> {
    shuffled(entries, 7)
        .take(1 << 16)
        .map(|number| name(first + number))
        .collect()
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index_lookup");
    group.throughput(Throughput::Elements(1));
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        let made = Entries::new(entries, entries);
        for (what, first) in [("hit", 0), ("miss", entries)] {
            let names = names(first, entries);
            let mut names = names.iter().cycle();
            group.bench_function(BenchmarkId::new(what, entries), |bencher| {
                bencher.iter(|| black_box(made.hit(names.next().expect("a cycle"))));
            });
        }
    }
    group.finish();
}

fn insert(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index_insert");
    group.sample_size(10);
    for entries in [1_000, 100_000] {
        group.throughput(Throughput::Elements(u64::from(entries)));
        group.bench_function(BenchmarkId::new("from_empty", entries), |bencher| {
            bencher.iter_with_large_drop(|| Entries::new(entries, entries));
        });
    }
    group.finish();
}

/// An order of all entries, filled in key order and at random, and under words in no order.
fn order(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index_order");
    group.sample_size(10);
    for entries in [1_000, 100_000] {
        let made = Entries::new(entries, entries);
        let ascending: Vec<_> = (0..entries).collect();
        let random: Vec<_> = {
            let mut seen = vec![false; entries as usize];
            let first = |&number: &u32| !std::mem::replace(&mut seen[number as usize], true);
            shuffled(entries, 3)
                .take(20 * entries as usize)
                .filter(first)
                .collect()
        };
        for (what, numbers) in [("ascending", &ascending), ("random", &random)] {
            group.throughput(Throughput::Elements(numbers.len() as u64));
            group.bench_function(BenchmarkId::new(what, entries), |bencher| {
                bencher.iter_with_large_drop(|| made.order(numbers.iter().copied()));
            });
        }
        let words = words::words(entries as usize, KEY_BYTES);
        let padded = words.iter().map(|word| {
            let mut key = [0; KEY_BYTES];
            key[..word.len()].copy_from_slice(word.as_bytes());
            key
        });
        let made = Entries::named(padded, entries);
        group.throughput(Throughput::Elements(u64::from(entries)));
        group.bench_function(BenchmarkId::new("words", entries), |bencher| {
            bencher.iter_with_large_drop(|| made.order(0..entries));
        });
    }
    group.finish();
}

/// Hits of all threads a second, as threads are added: on one key, whose record's line all
/// of them write, and on many. `pin` alone is the floor of the former.
fn scaling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index_scaling");
    let made = Entries::new(100_000, 100_000);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in (0..)
        .map(|step| 1 << step)
        .take_while(|&threads| threads <= cores.max(2))
    {
        group.throughput(Throughput::Elements(threads as u64));
        for (what, keys) in [("hot_key", 1), ("many_keys", 100_000)] {
            group.bench_function(BenchmarkId::new(what, threads), |bencher| {
                bencher.iter_custom(|iterations| {
                    together(threads, |thread| {
                        for number in
                            shuffled(keys, thread).take(usize::try_from(iterations).expect("few"))
                        {
                            assert!(made.hit(&name(number)));
                        }
                    })
                });
            });
        }
        let handle = Handle::from_raw(1).expect("not 0");
        group.bench_function(BenchmarkId::new("pin", threads), |bencher| {
            bencher.iter_custom(|iterations| {
                together(threads, |_| {
                    let record = made.index.records.at(handle);
                    for _ in 0..iterations {
                        assert_eq!(record.try_pin(Mark::Hit(1)), Pin::Pinned);
                        assert!(!record.unpin());
                    }
                })
            });
        });
    }
    group.finish();
}

/// Wall time from the moment that all threads are there until the last has ended.
#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
fn together(threads: usize, work: impl Fn(u32) + Sync) -> Duration {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (work, barrier) = (&work, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    work(u32::try_from(thread).expect("few"));
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        workers
            .into_iter()
            .for_each(|worker| worker.join().expect("a worker's panic"));
        start.elapsed()
    })
}

criterion_group!(benches, lookup, insert, order, scaling);
criterion_main!(benches);
