//! What a walk through a namespace's keys costs, as scans and SQL go through them.
//!
//! ```text
//! cargo bench -p bowstring-cache --bench walk [-- ROWS]
//! ```
//!
//! Rows of 200 bytes under keys that look random, so that no two neighbours of the order lie beside each other. *Counted*,
//! nothing is read but that they are there; *described*, each is a row of its own with all that the order says; of *tensors*
//! and their keys the bytes are copied out; *looked up*, each is found by its key instead. The peer is what memory itself
//! charges: the same bytes, copied from rows of one array in an order that is none.

#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ahead::Fetch;
use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cache::snapshot::{Passed, Snapshot};
use bowstring_cache::{Cache, CacheConfig};
use bowstring_wire::name::{Namespace, Tenant};

#[path = "support/rows.rs"]
mod rows;

use rows::block_on;

const ROW_BYTES: usize = 200;
const ROUNDS: usize = 5;

fn main() {
    let rows = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let rows: usize = rows.unwrap_or(1_000_000);
    let clock = Arc::new(SystemClock::new());
    let config = CacheConfig {
        memory: 4 << 30,
        ..CacheConfig::default()
    };
    let cache = Cache::new(config, Arc::clone(&clock) as _).unwrap();
    rows::put(&cache, 0..rows, ROW_BYTES, 1_000);
    println!("| what | ns each | x memory |\n|---|---:|---:|");
    let array = vec![7_u8; rows * ROW_BYTES];
    let memory = median(&clock, || {
        let mut out = Vec::with_capacity(1_000 * ROW_BYTES);
        for n in 0..rows {
            if out.len() == out.capacity() {
                out.clear();
            }
            let at = n.wrapping_mul(0x9e37_79b1) % rows * ROW_BYTES;
            out.extend_from_slice(&array[at..at + ROW_BYTES]);
            black_box(&out);
        }
    });
    let show = |what: &str, took: Duration| {
        println!(
            "| {what} | {:.0} | {:.1} |",
            took.as_secs_f64() * 1e9 / rows as f64,
            took.as_secs_f64() / memory.as_secs_f64()
        );
    };
    show("memory itself", memory);
    let snapshot = || {
        let (tenant, namespace) = (Tenant::public(), Namespace::default());
        block_on(cache.snapshot(&tenant, &namespace, "")).unwrap()
    };
    let took = median(&clock, || assert_eq!(counted(&snapshot()), rows));
    show("counted", took);
    let took = median(&clock, || assert_eq!(described(&snapshot()), rows));
    show("described", took);
    let took = median(&clock, || {
        assert_eq!(tensors(&snapshot()), rows * ROW_BYTES);
    });
    show("tensors", took);
    let took = median(&clock, || {
        assert_eq!(looked_up(&cache, rows), rows * ROW_BYTES);
    });
    show("looked up", took);
}

fn counted(snapshot: &Snapshot) -> usize {
    let (mut walk, mut seen) = (snapshot.walk_once().fetching(Fetch::Records), 0);
    while let Some(shown) = block_on(walk.step_into(|_| 0)).unwrap() {
        seen += shown;
    }
    seen
}

fn described(snapshot: &Snapshot) -> usize {
    let (mut walk, mut seen) = (snapshot.walk_once(), 0);
    while let Some(items) = block_on(walk.step()).unwrap() {
        seen += items.len();
    }
    seen
}

fn tensors(snapshot: &Snapshot) -> usize {
    let (mut walk, mut seen) = (snapshot.walk_once().fetching(Fetch::Tensors), 0);
    let (mut keys, mut out) = (String::new(), Vec::new());
    loop {
        keys.clear();
        out.clear();
        let keep = |passed: Passed<'_>| {
            let tensor = passed.tensor().unwrap();
            keys.push_str(passed.key());
            out.extend_from_slice(tensor);
            0
        };
        if block_on(walk.step_into(keep)).unwrap().is_none() {
            return seen;
        }
        seen += out.len();
        black_box((&keys, &out));
    }
}

fn looked_up(cache: &Cache, rows: usize) -> usize {
    let mut out = Vec::with_capacity(1_000 * ROW_BYTES);
    let mut seen = 0;
    for n in 0..rows {
        let entry = cache.peek(&rows::id(n)).unwrap();
        if out.len() == out.capacity() {
            out.clear();
        }
        let tensor = entry.in_slot(&(0..entry.len())).unwrap();
        out.extend_from_slice(tensor);
        seen += tensor.len();
        black_box(&out);
    }
    seen
}

fn median(clock: &SystemClock, mut work: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let before = clock.monotonic();
            work();
            clock.monotonic() - before
        })
        .collect();
    took.sort_unstable();
    took[ROUNDS / 2]
}
