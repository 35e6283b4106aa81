//! Random operations against simple maps: on the engine, a million of them, and through Flight.
//!
//! - `step`: the operations, and how they are drawn; `map`: what should be there
//! - `play`: does each operation to both and compares; `puts` (and deletes), `reads`, `keep` (expiry, pins, limits), `held`, `loads`: by kind
//! - `target`: what they are done to: `engine`, `flight`
//! - `below`: by itself, a server most of whose tensors are in its cold tier, with restarts
//!
//! Each run begins with a seed of its own, which a failure prints, with the few operations that are
//! enough to fail. `BOWSTRING_MODEL_SEED=SEED` does only the run of that seed.

mod below;
mod engine;
mod flight;
mod held;
mod keep;
mod loads;
mod map;
mod play;
mod puts;
mod reads;
mod step;
mod target;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowstring_cache::Eviction;
use bowstring_cache::entropy::Entropy;
use bowstring_tests::Server;

use engine::Engine;
use flight::Flight;
use play::Play;
use step::{Dice, Step, World};

const STEPS_A_RUN: usize = 2_000;
/// How often a sequence that fails is tried without some of its steps.
const TRIES: u32 = 300;

/// Memory for everything: what is there must be exactly what the map says.
fn roomy(keys: u16) -> World {
    World {
        keys,
        contents: 0..if keys > 100 { 14 } else { 24 },
        inside: true,
        rows: if keys > 100 { 400 } else { 12 },
    }
}

fn short() -> World {
    World {
        keys: 40,
        contents: 4..32,
        inside: true,
        rows: 12,
    }
}

#[test]
fn few_keys_with_room_for_all() {
    search(&roomy(12), None, 75);
}

#[test]
fn some_keys_with_room_for_all() {
    search(&roomy(40), None, 75);
}

/// So many that what loads leave behind takes several steps.
#[test]
fn many_keys_with_room_for_all() {
    search(&roomy(600), None, 50);
}

#[test]
fn memory_is_short_under_lru() {
    search(&short(), Some(Eviction::Lru), 60);
}

#[test]
fn memory_is_short_under_s3fifo() {
    search(&short(), Some(Eviction::S3Fifo), 60);
}

#[test]
fn memory_is_short_under_sieve() {
    search(&short(), Some(Eviction::Sieve), 60);
}

#[test]
fn memory_is_short_under_tinylfu() {
    search(&short(), Some(Eviction::TinyLfu), 60);
}

#[test]
fn memory_is_short_under_adaptive() {
    search(&short(), Some(Eviction::Adaptive), 60);
}

#[tokio::test]
async fn the_same_through_flight() {
    let world = World {
        keys: 20,
        contents: 0..8,
        inside: false,
        rows: 8,
    };
    let server = Arc::new(Server::builder().memory("256MiB").start());
    let seed = seed();
    println!("BOWSTRING_MODEL_SEED={seed}");
    let mut play = Play::new(Flight::new(server).await, world.clone(), false);
    for step in steps(&world, seed).into_iter().take(1_000) {
        println!("{step:?}");
        play.step(step).await;
    }
    play.end().await;
}

/// Runs of the engine; where one fails, a small one that fails too.
fn search(world: &World, eviction: Option<Eviction>, runs: u64) {
    let first = seed();
    let runs = if given().is_some() { 1 } else { runs };
    for seed in (0..runs).map(|run| first.wrapping_add(run)) {
        let steps = steps(world, seed);
        if let Some(at) = failure(world, eviction, &steps) {
            let few = shrunk(world, eviction, steps[..=at.min(steps.len() - 1)].to_vec());
            println!("\nBOWSTRING_MODEL_SEED={seed}, at step {at}; these are enough:\n{few:?}\n");
            run(world, eviction, &few, &AtomicUsize::new(0));
            panic!("it fails only sometimes");
        }
    }
}

fn given() -> Option<u64> {
    let seed = std::env::var("BOWSTRING_MODEL_SEED").ok()?;
    Some(seed.parse().expect("a number"))
}

fn seed() -> u64 {
    given().unwrap_or_else(|| Entropy::draw().unwrap().hash_key[0])
}

fn steps(world: &World, seed: u64) -> Vec<Step> {
    let mut dice = Dice(seed);
    (0..STEPS_A_RUN).map(|_| dice.step(world)).collect()
}

fn run(world: &World, eviction: Option<Eviction>, steps: &[Step], at: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let memory = if eviction.is_some() {
            12 << 20
        } else {
            256 << 20
        };
        let target = Engine::new(eviction.unwrap_or_default(), memory);
        let mut play = Play::new(target, world.clone(), eviction.is_some());
        for step in steps {
            play.step(step.clone()).await;
            at.fetch_add(1, Ordering::Relaxed);
        }
        play.end().await;
    });
}

/// The step that fails.
fn failure(world: &World, eviction: Option<Eviction>, steps: &[Step]) -> Option<usize> {
    let at = AtomicUsize::new(0);
    let done = catch_unwind(AssertUnwindSafe(|| run(world, eviction, steps, &at)));
    done.is_err().then(|| at.into_inner())
}

/// Leaves out whatever is not needed to fail.
fn shrunk(world: &World, eviction: Option<Eviction>, mut steps: Vec<Step>) -> Vec<Step> {
    let mut tries = 0;
    let mut size = steps.len() / 2;
    while size > 0 && tries < TRIES {
        let mut from = 0;
        while from < steps.len() && tries < TRIES {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + size).min(steps.len()));
            tries += 1;
            match failure(world, eviction, &fewer) {
                Some(at) => {
                    fewer.truncate(at + 1);
                    steps = fewer;
                }
                None => from += size,
            }
        }
        size /= 2;
    }
    steps
}
