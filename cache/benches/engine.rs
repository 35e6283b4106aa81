//! The engine in process: what a put and a get cost before any wire is added.
//!
//! ```text
//! cargo bench -p bowstring-cache --bench engine [-- ROWS]
//! ```
//!
//! *Bulk* is the peer that a bulk put over the wire is measured against: hash, checksum, copy,
//! insert and order of 64-byte rows under random-looking keys, in batches of 1,000. *In order* and *under
//! words* put 200-byte rows under numbered keys and under words as they come, *again* under numbered keys
//! that are all there. *Get* finds, pins and unpins; the hot key shows what sharing one record costs. *Large* moves 16 MiB tensors.

#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cache::put::{Mode, PutSpec};
use bowstring_cache::{Cache, CacheConfig, Eviction, Id};
use bowstring_wire::dtype::DType;
use bowstring_wire::shape::Shape;

#[path = "support/rows.rs"]
mod rows;
#[path = "support/words.rs"]
mod words;

use rows::{block_on, id};

const BATCH: usize = 1_000;
const GETS: usize = 2_000_000;
const LARGE: usize = 16 << 20;
const LARGE_ROUNDS: usize = 64;

fn main() {
    let rows = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let rows: usize = rows.unwrap_or(1_000_000);
    let clock = Arc::new(SystemClock::new());
    println!("| what | threads | ns each | each second |\n|---|---:|---:|---:|");
    for threads in [1, 2] {
        let cache = cache(&clock);
        let took = on_threads(&clock, threads, |thread| {
            bulk(&cache, rows, thread, threads);
        });
        show("bulk put of 64-byte rows", threads, took, rows);
        assert_eq!(cache.stats().entries, rows as u64);
        let ids: Vec<Id> = (0..100_000).map(|n| id(n * rows / 100_000)).collect();
        let took = on_threads(&clock, threads, |thread| gets(&cache, &ids, thread * 777));
        show("get, 100,000 keys", threads, took, GETS * threads);
        let put = |keys: &[String]| {
            on_threads(&clock, threads, |thread| {
                put_some(&cache, keys, thread, threads);
            })
        };
        let numbered: Vec<String> = (0..rows).map(|n| format!("word:{n:07}")).collect();
        for what in ["in order", "again"] {
            let what = format!("bulk put of 200-byte rows {what}");
            show(&what, threads, put(&numbered), rows);
        }
        let words = words::words(rows, 64);
        let what = "bulk put of 200-byte rows under words";
        show(what, threads, put(&words), rows);
        let hot = &ids[..1];
        let took = on_threads(&clock, threads, |_| gets(&cache, hot, 0));
        show("get, one hot key", threads, took, GETS * threads);
    }
    large(&clock);
}

fn bulk(cache: &Cache, all: usize, thread: usize, threads: usize) {
    let mine = thread * all / threads..(thread + 1) * all / threads;
    rows::put(cache, mine, 64, BATCH);
}

/// Each thread has every so manieth key, as a put that is spread over threads has.
fn put_some(cache: &Cache, keys: &[String], thread: usize, threads: usize) {
    let mine = keys.iter().skip(thread).step_by(threads);
    let keys: Vec<String> = mine.cloned().collect();
    rows::put_keys(cache, Mode::Replace, &keys, 200, BATCH);
}

fn gets(cache: &Cache, ids: &[Id], from: usize) {
    for n in 0..GETS {
        let id = &ids[(from + n * 7_919) % ids.len()];
        assert!(cache.get(id).is_some());
    }
}

fn large(clock: &SystemClock) {
    let cache = Cache::new(
        CacheConfig {
            memory: 256 << 20,
            // What was put last is there.
            eviction: Eviction::Lru,
            ..CacheConfig::default()
        },
        Arc::new(SystemClock::new()),
    )
    .unwrap();
    let data = vec![3_u8; 1 << 20];
    let put_all = || {
        for n in 0..LARGE_ROUNDS {
            let spec = PutSpec {
                mode: Mode::Replace,
                ..PutSpec::new(DType::UInt8)
            };
            let mut put = cache.put(id(n), spec).unwrap();
            for _ in 0..LARGE >> 20 {
                block_on(put.reserve(data.len() as u64)).unwrap();
                put.write(&data).unwrap();
            }
            let shape = Shape::new(&[LARGE as u64]).unwrap();
            block_on(put.publish(shape)).unwrap();
        }
    };
    put_all();
    let took = timed(clock, put_all);
    let mib = (LARGE_ROUNDS * LARGE) >> 20;
    show("put of 16 MiB, per MiB", 1, took, mib);
    let took = timed(clock, || {
        for n in 0..LARGE_ROUNDS {
            let Some(entry) = cache.get(&id(LARGE_ROUNDS - 1 - n % 8)) else {
                panic!("the last ones are still there");
            };
            let mut reader = entry.reader(0..LARGE as u64).unwrap();
            while reader.remaining() > 0 {
                drop(reader.take(1 << 20).unwrap());
            }
        }
    });
    show("hold and release of 16 MiB, per MiB", 1, took, mib);
}

fn cache(clock: &Arc<SystemClock>) -> Cache {
    let config = CacheConfig {
        memory: 4 << 30,
        ..CacheConfig::default()
    };
    Cache::new(config, Arc::clone(clock) as _).unwrap()
}

fn on_threads(clock: &SystemClock, threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    timed(clock, || {
        thread::scope(|scope| {
            for thread in 0..threads {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
    })
}

fn timed(clock: &SystemClock, work: impl FnOnce()) -> Duration {
    let before = clock.monotonic();
    work();
    clock.monotonic() - before
}

fn show(what: &str, threads: usize, took: Duration, n: usize) {
    let each = took.as_secs_f64() / n as f64;
    println!(
        "| {what} | {threads} | {:.0} | {:.0} |",
        each * 1e9,
        1.0 / each
    );
}
