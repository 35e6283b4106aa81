//! Gets of many small tensors that are in segments only.

use serde_json::json;

use super::{Client, PageCache, Place};
use crate::Outcome;
use crate::clock::Stopwatch;
use crate::entries::{key, rows_of};
use crate::grid::median;
use crate::report::Goal;

/// Of 3 KiB.
const TENSORS: u64 = 100_000;
const VALUES: u64 = 768;
/// A put that is not faster than the store: none is to be lost.
const WAITING: &str = r#"{"namespace": "bulk", "wait": "cold"}"#;
/// Rows of a put.
const ROWS: u64 = 5_000;
/// Keys of a get.
const KEYS: u64 = 1_000;
/// Gets of a sample.
const GETS: u64 = 20;
/// A third of what is put.
const MEMORY: &str = "128MiB";

pub fn run(repeats: usize) -> Outcome<Vec<Goal>> {
    let place = Place::new("cold-small")?;
    let server = place.serve(MEMORY, &[])?;
    let mut client = Client::of(&server)?;
    for from in (0..TENSORS).step_by(usize::try_from(ROWS)?) {
        client.put(WAITING, rows_of(from, from + ROWS, VALUES)?)?;
    }
    drop((client, server));
    let mut goals = Vec::new();
    for cache in [PageCache::Has, PageCache::HasNot] {
        // As they were put, so that many lie side by side; and one here, one there.
        for (order, step) in [("side by side", 1), ("at random", 7_919)] {
            let mut rates = Vec::new();
            for _ in 0..repeats {
                rates.push(sample(&place, cache, step)?);
            }
            let name = format!(
                "3 KiB tensors a second out of segments, 1,000 keys a get, {order}, {}",
                cache.name()
            );
            goals.push(Goal::at_least_so_many(&name, 20_000.0, median(&rates)));
        }
    }
    Ok(goals)
}

/// A second, of a server that has read none of them before.
fn sample(place: &Place, cache: PageCache, step: u64) -> Outcome<f64> {
    let server = place.serve(MEMORY, &[])?;
    let mut client = Client::of(&server)?;
    cache.settle(&place.segments(0)?)?;
    let keys = |get: u64| -> Vec<String> {
        (get * KEYS..(get + 1) * KEYS)
            .map(|nth| key(nth * step % TENSORS))
            .collect()
    };
    let tickets: Vec<_> = (0..GETS)
        .map(|get| json!({"namespace": "bulk", "keys": keys(get)}))
        .collect();
    let watch = Stopwatch::start();
    for ticket in &tickets {
        let rows = client.rows(ticket)?;
        if rows as u64 != KEYS {
            return Err(format!("{rows} of {KEYS} keys were found").into());
        }
    }
    Ok((GETS * KEYS) as f64 / watch.seconds())
}
