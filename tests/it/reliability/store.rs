//! A server over an S3 store that has a bad day: refusals, resets, answers that are late or cut short. Its times are a
//! twentieth of those of a real one, its time-out too; `BOWSTRING_RELIABILITY_LARGE=1` takes the real ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bowstring_tests::{Builder, PATIENCE, S3, Server, Spoiled};
use http::StatusCode;
use serde_json::json;

use super::cold::{Client, Node, Place, TICK};
use super::dice::Dice;
use super::{is_large, scaled};

const CLIENTS: u64 = 10;
/// Of each client.
const KEYS: u64 = 60;
/// Of all clients.
const OPERATIONS: usize = 10_000;
/// What everybody reads all the time.
const HOT: u64 = u64::MAX;

/// How long a request takes that is late, and how long one is waited for.
fn times() -> (Duration, Duration) {
    let part = if is_large() { 1 } else { 20 };
    (Duration::from_secs(3) / part, Duration::from_secs(2) / part)
}

/// 503 on 10 in a hundred, 429 on 5, a reset on 15, late 35, cut 10.
fn bad_day(nth: u64) -> Option<Spoiled> {
    match Dice::new(nth).below(100) {
        0..10 => Some(Spoiled::Status(StatusCode::SERVICE_UNAVAILABLE)),
        10..15 => Some(Spoiled::Status(StatusCode::TOO_MANY_REQUESTS)),
        15..30 => Some(Spoiled::Reset {
            done: nth.is_multiple_of(2),
        }),
        30..65 => Some(Spoiled::Late(times().0)),
        65..75 => Some(Spoiled::Cut),
        _ => None,
    }
}

/// A client's keys and what it knows of them.
struct Worker {
    place: Place,
    hits: u64,
    misses: u64,
    refused: u64,
    longest_read: Duration,
}

impl Worker {
    fn new(number: u64) -> Self {
        Self {
            place: Place::new(number * KEYS..(number + 1) * KEYS),
            hits: 0,
            misses: 0,
            refused: 0,
            longest_read: Duration::ZERO,
        }
    }

    fn work(&mut self, client: &mut Client, operations: usize) {
        for _ in 0..operations {
            if self.place.dice.once_in(3) {
                self.refused += u64::from(!self.place.change(client));
                continue;
            }
            let key = self.place.key();
            let began = now();
            let is_there = self.place.read(client, key);
            self.longest_read = self.longest_read.max(began.elapsed());
            self.hits += u64::from(is_there);
            self.misses += u64::from(!is_there);
        }
    }
}

/// Has all of them work, and gives how long reads of what is hot took beside that.
fn at_once(workers: &mut [Worker], server: &Server, operations: usize) -> Vec<Duration> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let hot = scope.spawn(|| {
            let mut place = Place::new(HOT..HOT);
            let mut client = Client::of(server);
            // On a bad day it may be refused, and is tried again.
            assert!((0..100).any(|_| client.put(HOT, 1)));
            place.said.insert(HOT, vec![Some(1)]);
            let (mut took, mut evicted) = (Vec::new(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let began = now();
                if place.read(&mut client, HOT) {
                    took.push(began.elapsed());
                } else {
                    // This thread had no turn for so long that it was not hot any more.
                    evicted += 1;
                    let _ = client.put(HOT, 1);
                }
                thread::sleep(TICK);
            }
            assert!(took.len() > 10 * evicted, "what is hot is there");
            took.sort();
            took
        });
        let each = operations / workers.len();
        let work =
            |worker| scope.spawn(move || Worker::work(worker, &mut Client::of(server), each));
        let working: Vec<_> = workers.iter_mut().map(work).collect();
        for one in working {
            one.join().expect("nothing wrong was read");
        }
        is_over.store(true, Ordering::Relaxed);
        hot.join().expect("what is hot was read")
    })
}

fn builder(s3: &S3) -> Builder {
    s3.under(Server::builder().memory("64MiB"))
        .variable(
            "BOWSTRING_COLD_TIMEOUT",
            format!("{}ms", times().1.as_millis()),
        )
        .variable("BOWSTRING_COLD_SEGMENT_BYTES", "1MiB")
}

#[test]
fn a_store_on_a_bad_day_costs_misses_and_no_wrong_byte() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let s3 = runtime.block_on(S3::start());
    let state = tempfile::tempdir().expect("a directory");
    let mut workers: Vec<Worker> = (0..CLIENTS).map(Worker::new).collect();
    let keeps = builder(&s3).flag("--state-dir", state.path());
    let mut node = Node::start(&keeps);
    let good = at_once(&mut workers, &node.server, scaled(OPERATIONS) / 4);
    s3.spoil(bad_day);
    let bad = at_once(&mut workers, &node.server, scaled(OPERATIONS));
    let metrics = node.server.metrics();
    let sum = |of: fn(&Worker) -> u64| workers.iter().map(of).sum::<u64>();
    let (hits, misses, refused) = (sum(|w| w.hits), sum(|w| w.misses), sum(|w| w.refused));
    let longest = workers.iter().map(|worker| worker.longest_read).max();
    let percentile = |all: &[Duration], percent: usize| all[all.len() * percent / 100];
    eprintln!(
        "{hits} reads right, {misses} misses, {refused} changes refused; the longest read {longest:?}; hot: median {:?} and p99 {:?} on a good day, {:?} and {:?} on a bad one; {} requests, {} errors",
        percentile(&good, 50),
        percentile(&good, 99),
        percentile(&bad, 50),
        percentile(&bad, 99),
        metrics.count("bowstring_cold_store_requests_total"),
        metrics.count("bowstring_cold_store_errors_total"),
    );
    assert!(metrics.count("bowstring_cold_store_errors_total") > 100);
    assert_eq!(metrics.count("bowstring_cold_damaged_total"), 0);
    assert!(hits > misses / 4);

    // In the middle of it all; the next one starts on the same day, with its index and without.
    node.kill();
    for with_state in [true, false] {
        let builder = if with_state {
            keeps.clone()
        } else {
            builder(&s3)
        };
        node = Node::start_again(&builder, 5);
        at_once(&mut workers, &node.server, scaled(OPERATIONS) / 20);
        if with_state {
            // What it has not told its store is told by then.
            s3.heal();
            recovers(&mut node);
            s3.spoil(bad_day);
        }
        node.kill();
    }
    s3.heal();
    node = Node::start(&builder(&s3));
    at_once(&mut workers, &node.server, scaled(OPERATIONS) / 20);
    recovers(&mut node);
    assert!(node.client.act("evict", &json!({"prefix": ""})));
    let before = node.server.metrics().count("bowstring_cold_hits_total");
    let all = workers
        .iter()
        .map(|worker| worker.place.check(&mut node.client));
    assert!(all.sum::<u64>() > 0);
    assert!(node.server.metrics().count("bowstring_cold_hits_total") > before);
}

/// Until the store takes all again, and has been told what was deleted.
fn recovers(node: &mut Node) {
    let mut waited = Duration::ZERO;
    while !node.client.act("flush", &json!({}))
        || node.server.metrics().count("bowstring_cold_degraded") == 1
    {
        thread::sleep(TICK);
        waited += TICK;
        assert!(waited < PATIENCE, "it does not recover");
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no clock handle")]
fn now() -> Instant {
    Instant::now()
}
