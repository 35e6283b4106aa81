//! What each eviction policy costs a get and a put, beside LRU in the same run.
//!
//! ```text
//! cargo bench -p bowstring-cache --bench evict [-- ROUNDS]
//! ```
//!
//! *Hits* are gets of entries that are all there. *Puts* are of new rows, many in a call, into a
//! full cache, so that one goes for each that comes. *Both* puts a call's rows and asks for each of
//! them four times, in turn: notes of hits are taken out when something is put. Rounds go through the
//! policies in turn; a figure is the median of the rounds, a ratio the median of each round's own.
//! Nanoseconds are the thread's, by the scheduler.

#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use std::sync::Arc;

use bowstring_cache::clock::SystemClock;
use bowstring_cache::{Cache, CacheConfig, Eviction, Id};

#[path = "support/rows.rs"]
mod rows;

use rows::id;

const MEMORY: u64 = 64 << 20;
const GETS: usize = 500_000;
const WORKS: [&str; 3] = ["hits", "puts", "both"];

/// How large entries are, and how many in a call and in all.
#[derive(Clone, Copy)]
struct Scale {
    bytes: usize,
    batch: usize,
    puts: usize,
}

/// Some 300,000 fit, and some 2,000, of which `adaptive` looks at every one.
const SCALES: [Scale; 2] = [
    Scale {
        bytes: 64,
        batch: 1_000,
        puts: 200_000,
    },
    Scale {
        bytes: 32 << 10,
        batch: 10,
        puts: 20_000,
    },
];

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    println!("| entries | work | policy | ns each | against lru |\n|---|---|---|---:|---:|");
    for scale in SCALES {
        let mut took = vec![vec![Vec::new(); WORKS.len()]; Eviction::ALL.len()];
        for _ in 0..rounds.unwrap_or(7) {
            for (policy, took) in Eviction::ALL.into_iter().zip(&mut took) {
                let cache = full(policy, scale);
                let works = [
                    hits(&cache, scale),
                    puts(&cache, scale),
                    both(&cache, scale),
                ];
                took.iter_mut()
                    .zip(works)
                    .for_each(|(took, each)| took.push(each));
            }
        }
        for (at, work) in WORKS.into_iter().enumerate() {
            for (policy, all) in Eviction::ALL.into_iter().zip(&took) {
                let ratios = all[at].iter().zip(&took[0][at]).map(|(one, lru)| one / lru);
                let (each, ratio) = (median(all[at].clone()), median(ratios.collect()));
                let bytes = scale.bytes;
                println!("| {bytes} B | {work} | {policy} | {each:.0} | {ratio:.2} |");
            }
        }
    }
}

/// A cache that has given entries up already; keys from 0 came last.
fn full(policy: Eviction, scale: Scale) -> Cache {
    let config = CacheConfig {
        memory: MEMORY,
        eviction: policy,
        ..CacheConfig::default()
    };
    let cache = Cache::new(config, Arc::new(SystemClock::new())).unwrap();
    put(&cache, scale, 1 << 28..(1 << 28) + scale.puts * 2);
    put(&cache, scale, 0..scale.puts / 4);
    let came = scale.puts * 2 + scale.puts / 4;
    assert!(cache.stats().entries < came as u64, "it is full");
    cache
}

fn hits(cache: &Cache, scale: Scale) -> f64 {
    // Not all stay: some policies prefer who was there before.
    let ids: Vec<Id> = (0..scale.puts / 4).map(id).collect();
    let there = ids.iter().filter(|id| cache.get(id).is_some());
    let there: Vec<&Id> = there.take(scale.puts / 20).collect();
    each(GETS, || assert_eq!(gets(cache, &there, GETS), GETS))
}

fn puts(cache: &Cache, scale: Scale) -> f64 {
    each(scale.puts, || {
        put(cache, scale, 1 << 29..(1 << 29) + scale.puts);
    })
}

fn both(cache: &Cache, scale: Scale) -> f64 {
    let batches = (0..scale.puts / scale.batch).map(|at| (1 << 30) + at * scale.batch);
    let batches: Vec<_> = batches.map(|first| first..first + scale.batch).collect();
    let ids = batches.iter().map(|numbers| numbers.clone().map(id));
    let ids: Vec<Vec<Id>> = ids.map(Iterator::collect).collect();
    each(scale.puts * 5, || {
        for (numbers, ids) in batches.iter().zip(&ids) {
            put(cache, scale, numbers.clone());
            // What is new may go again at once.
            let ids: Vec<&Id> = ids.iter().collect();
            assert!(gets(cache, &ids, scale.batch * 4) > 0);
        }
    })
}

/// How many of so many were there.
fn gets(cache: &Cache, ids: &[&Id], times: usize) -> usize {
    let asked = (0..times).map(|n| ids[n * 7_919 % ids.len()]);
    asked.filter(|id| cache.get(id).is_some()).count()
}

fn put(cache: &Cache, scale: Scale, numbers: std::ops::Range<usize>) {
    rows::put(cache, numbers, scale.bytes, scale.batch);
}

/// Nanoseconds of this thread's for each of so many.
fn each(n: usize, work: impl FnOnce()) -> f64 {
    let before = on_cpu();
    work();
    (on_cpu() - before) as f64 / n as f64
}

/// Nanoseconds that this thread has run.
fn on_cpu() -> u64 {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
