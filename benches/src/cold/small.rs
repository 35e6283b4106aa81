//! Gets of many small tensors that are in segments only: by their keys, and each by itself over a mux exchange.

use bowstring_client::Mux;
use serde_json::json;

use super::{Client, PageCache, Place};
use crate::Outcome;
use crate::clock::Stopwatch;
use crate::entries::{key, rows_of};
use crate::grid::median;
use crate::peers::bowstring::Server;
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
            let (mut gets, mut muxes) = (Vec::new(), Vec::new());
            for _ in 0..repeats {
                gets.push(sample(&place, cache, step, by_keys)?);
                muxes.push(sample(&place, cache, step, by_mux)?);
            }
            let name = |how| {
                let cache = cache.name();
                format!("3 KiB tensors a second out of segments, {how}, {order}, {cache}")
            };
            let gets = median(&gets);
            goals.push(Goal::at_least_so_many(
                &name("1,000 keys a get"),
                20_000.0,
                gets,
            ));
            let muxes = median(&muxes);
            goals.push(Goal::figure(
                &name("each a get of one mux exchange"),
                "1,000 keys a get",
                format!("{muxes:.0}; {:.2} ×", muxes / gets),
            ));
        }
    }
    Ok(goals)
}

/// A second, of a server that has read none of them before.
fn sample(
    place: &Place,
    cache: PageCache,
    step: u64,
    get: impl FnOnce(&Server, &[String]) -> Outcome<f64>,
) -> Outcome<f64> {
    let server = place.serve(MEMORY, &[])?;
    cache.settle(&place.segments(0)?)?;
    let keys = (0..GETS * KEYS).map(|nth| key(nth * step % TENSORS));
    let keys: Vec<String> = keys.collect();
    Ok(keys.len() as f64 / get(&server, &keys)?)
}

fn by_keys(server: &Server, keys: &[String]) -> Outcome<f64> {
    let mut client = Client::of(server)?;
    let all = keys.chunks(usize::try_from(KEYS)?);
    let tickets: Vec<_> = all
        .map(|keys| json!({"namespace": "bulk", "keys": keys}))
        .collect();
    let watch = Stopwatch::start();
    for ticket in &tickets {
        let rows = client.rows(ticket)?;
        if rows as u64 != KEYS {
            return Err(format!("{rows} of {KEYS} keys were found").into());
        }
    }
    Ok(watch.seconds())
}

fn by_mux(server: &Server, keys: &[String]) -> Outcome<f64> {
    let mux = Mux::connect(&server.flight.parse()?, "bulk")?;
    let mut found = 0;
    let watch = Stopwatch::start();
    mux.get_many(keys, |_, got| found += usize::from(got.is_ok()))?;
    let seconds = watch.seconds();
    if found != keys.len() {
        return Err(format!("{found} of {} keys were found", keys.len()).into());
    }
    Ok(seconds)
}
