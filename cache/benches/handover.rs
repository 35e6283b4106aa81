//! A cache handed on within one process: how long nobody can be served for it.
//!
//! ```text
//! cargo bench -p bowstring-cache --bench handover [-- ENTRIES [ROUNDS]]
//! ```
//!
//! Entries of 3 KiB under keys that look random. *Write* is the snapshot alone, to nowhere; *map* is done
//! while everybody is served; *hand on* is from its first byte until all
//! is entered, by two threads and more, as two processes do it. To it come, in a server, the calls that are to end, the old
//! process's end or *rank*, whichever takes longer, and *settle*; these of the last round.

#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cache::handover::{Adoption, Prepared};
use bowstring_cache::{Cache, CacheConfig, Parts};

#[path = "support/rows.rs"]
mod rows;

const BYTES: usize = 3 << 10;
const BATCH: usize = 1_000;
const MEMORY: u64 = 4 << 30;

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<usize>().ok());
    let (entries, rounds) = (
        numbers.next().unwrap_or(1_200_000),
        numbers.next().unwrap_or(5),
    );
    let clock = Arc::new(SystemClock::new());
    let config = CacheConfig {
        memory: MEMORY,
        ..CacheConfig::default()
    };
    let cache = Cache::new(config.clone(), Arc::clone(&clock) as _).unwrap();
    rows::put(&cache, 0..entries, BYTES, BATCH);
    println!("| round | write, ms | map, ms | hand on, ms |\n|---:|---:|---:|---:|");
    let (mut all, mut last) = (Vec::new(), None);
    for round in 1..=rounds {
        // What nobody settles, its predecessor can go on with.
        drop(last.take());
        cache.set_frozen(true);
        let (write, written) = timed(&clock, || cache.export(std::io::sink()).unwrap());
        assert_eq!(written.entries, entries as u64);
        let regions = cache.region_files().unwrap();
        let (map, prepared) = timed(&clock, || {
            let prepared = Cache::over(config.clone(), Parts::default(), regions).unwrap();
            prepared.map_ahead();
            prepared
        });
        let (hand_on, taken) = timed(&clock, || hand_on(&cache, prepared));
        assert_eq!(taken.1.adopted().entries, entries as u64);
        let [write, map] = [write, map].map(|took| took.as_millis());
        println!("| {round} | {write} | {map} | {} |", hand_on.as_millis());
        all.push(hand_on);
        last = Some(taken);
    }
    all.sort();
    println!("\nmedian: {} ms", all[all.len() / 2].as_millis());
    drop(cache);
    let (next, adoption) = last.unwrap();
    let (rank, adoption) = timed(&clock, || adoption.rank());
    let (settle, adopted) = timed(&clock, || adoption.settle());
    let [rank, settle] = [rank, settle].map(|took| took.as_millis());
    println!("rank: {rank} ms; settle: {settle} ms; {adopted:?}");
    assert!(next.get(&rows::id(entries / 2)).is_some());
}

fn hand_on(cache: &Cache, prepared: Prepared) -> (Cache, Adoption) {
    let (out, snapshot) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || cache.export(&out).unwrap());
        prepared.adopt(snapshot).unwrap()
    })
}

fn timed<T>(clock: &SystemClock, work: impl FnOnce() -> T) -> (Duration, T) {
    let before = clock.monotonic();
    let done = work();
    (clock.monotonic() - before, done)
}
