//! Ten million small tensors put by sixteen writers: over the wire, straight into the engine, and into Redis; and what readers lose by it.

use std::sync::Arc;
use std::thread;

use arrow_array::RecordBatch;
use bowstring_cache::clock::SystemClock;
use bowstring_cache::put::Mode;
use bowstring_cache::rows::{Row, RowsSpec};
use bowstring_cache::{Cache, CacheConfig};
use bowstring_wire::descriptor::Admit;
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::put_result::PutReply;
use bowstring_wire::shape::Shape;
use futures::future::try_join_all;
use smallvec::SmallVec;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::entries::{SMALL, SMALL_BYTES, key, rows};
use crate::load::{bench, load};
use crate::peers::bowstring::Server;
use crate::peers::redis::Redis;
use crate::peers::stock_flight;
use crate::report::Goal;

const COUNT: u64 = 10_000_000;
const WRITERS: u64 = 16;
const MEMORY: u64 = 2560 << 20;
/// Rows of a batch over the wire.
const BATCH_ROWS: u64 = 25_000;
/// Rows that are handed to the engine at once, as the server does.
const STEP: usize = 512;

/// What readers ask for: it fits with nothing beside it, and not with what is put.
const READERS: [&str; 8] = [
    "--size",
    "3KiB",
    "--keys",
    "200000",
    "--zipf",
    "0.99",
    "--concurrency",
    "2",
];

/// The same keys, one as often as another.
const WARMING: [&str; 10] = [
    "--size",
    "3KiB",
    "--keys",
    "200000",
    "--concurrency",
    "2",
    "--pipeline",
    "16",
    "--operations",
    "2000000",
];

/// All rows.
pub fn run() -> Outcome<(Vec<Goal>, Vec<String>)> {
    let wire = over_the_wire()?;
    let engine = in_process()?;
    let rate = |seconds: f64| COUNT as f64 / seconds / 1e6;
    let name = "bulk put of 10⁷ × 16 float32, 16 writers";
    let (ours, theirs) = (rate(wire), rate(engine));
    let mut goal = Goal::at_least(name, "the engine in process", 0.5, ours / theirs);
    goal.note(&format!("{ours:.2} against {theirs:.2} million a second"));
    let (mut goals, mut skipped) = (vec![goal], Vec::new());
    match beside_readers() {
        Ok(goal) => goals.push(goal),
        Err(why) => skipped.push(format!("readers beside a bulk put: {why}")),
    }
    match Redis::start().and_then(|redis| redis.benchmark("set", COUNT, [16, 16], 64, COUNT)) {
        Ok(sample) => {
            let theirs = sample.per_second / 1e6;
            let against = "redis-benchmark SET -P 16 -c 16 -d 64";
            let mut goal = Goal::at_least(name, against, 3.0, ours / theirs);
            goal.note(&format!("{ours:.2} against {theirs:.2} million a second"));
            goals.push(goal);
        }
        Err(why) => skipped.push(format!("Redis: {why}")),
    }
    Ok((goals, skipped))
}

/// Points of hit ratio that readers lose while rows are put of which nobody asks for any.
fn beside_readers() -> Outcome<Goal> {
    let server = Server::start("1GiB")?;
    load(&server.flight, &READERS)?;
    // Ten times each key: what nobody has asked for yet stands no higher than what is put on probation.
    bench(&server.flight, server.id(), &WARMING)?;
    let read = |seconds| {
        let flags = [&READERS[..], &["--duration", seconds]].concat();
        let sample = bench(&server.flight, server.id(), &flags)?;
        Outcome::Ok((sample.operations - sample.misses as f64) / sample.operations * 100.0)
    };
    let quiet = read("4s")?;
    let batches = batches()?;
    let (beside, put) = thread::scope(|scope| {
        let command = r#"{"namespace": "bulk", "admit": "probation"}"#;
        let endpoint = server.flight.clone();
        let put = scope.spawn(move || put(&endpoint, command, batches));
        let beside = read("8s");
        (beside, put.join())
    });
    let after = read("4s")?;
    let seconds = put.map_err(|_| "the writers panicked")??;
    let (beside, entries) = (beside?, COUNT);
    let mut goal = Goal::below(
        "points of hit ratio lost by readers beside a bulk put into a full cache",
        "themselves, quiet",
        1.0,
        quiet - beside.min(after),
        "point",
    );
    goal.note(&format!(
        "{quiet:.2} %, {beside:.2} % beside it, {after:.2} % after; {entries} entries in {seconds:.1} s, of which what fits stays"
    ));
    Ok(goal)
}

/// Seconds from the first batch to the last answer. The writers have their batches ready; Arrow's encoder runs beside.
fn over_the_wire() -> Outcome<f64> {
    let server = Server::start("2560MiB")?;
    put(&server.flight, r#"{"namespace": "bulk"}"#, batches()?)
}

/// The batches of each writer.
fn batches() -> Outcome<Vec<Vec<RecordBatch>>> {
    let of = |writer| {
        let [from, to] = part(writer);
        let starts = (from..to).step_by(usize::try_from(BATCH_ROWS)?);
        starts
            .map(|start| rows(start, to.min(start + BATCH_ROWS)))
            .collect()
    };
    (0..WRITERS).map(of).collect()
}

fn put(endpoint: &str, command: &str, batches: Vec<Vec<RecordBatch>>) -> Outcome<f64> {
    let uri = endpoint.replace("grpc://", "http://");
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let connections = (0..WRITERS).map(|_| stock_flight::connect(&uri));
        let mut clients = try_join_all(connections).await?;
        let watch = Stopwatch::start();
        let puts = clients
            .iter_mut()
            .zip(batches)
            .map(|(client, batches)| stock_flight::put(client, command.to_owned(), batches));
        let mut stored = 0;
        for result in try_join_all(puts).await? {
            stored += PutReply::parse(&result.ok_or("no result")?.app_metadata)?.stored;
        }
        let seconds = watch.seconds();
        if stored != COUNT {
            return Err(format!("stored {stored} of {COUNT}").into());
        }
        Ok(seconds)
    })
}

/// Seconds that hash, checksum, copy, insert and order take by themselves.
fn in_process() -> Outcome<f64> {
    let config = CacheConfig {
        memory: MEMORY,
        ..CacheConfig::default()
    };
    let cache = Arc::new(Cache::new(config, Arc::new(SystemClock::new()))?);
    let runtime = Runtime::new()?;
    let keys: Vec<Vec<String>> = (0..WRITERS)
        .map(|writer| {
            let [from, to] = part(writer);
            (from..to).map(key).collect()
        })
        .collect();
    runtime.block_on(async {
        let watch = Stopwatch::start();
        let writers = keys.into_iter().map(|keys| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { write(&cache, &keys).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await??;
        }
        Ok(watch.seconds())
    })
}

async fn write(cache: &Cache, keys: &[String]) -> Outcome<()> {
    let (tenant, namespace) = (Tenant::public(), Namespace::parse("bulk")?);
    let shape = Shape::new(&[SMALL])?;
    let spec = RowsSpec {
        mode: Mode::Keep,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    // A megabyte of tensors, over and over: what a received batch is, warm.
    let tensors: Vec<u8> = (0..=255).cycle().take(STEP * SMALL_BYTES).collect();
    for keys in keys.chunks(STEP) {
        let rows: Vec<Row<'_>> = keys
            .iter()
            .zip(tensors.chunks(SMALL_BYTES))
            .map(|(key, tensor)| Row {
                key,
                dtype: DType::Float32,
                shape: &shape,
                data: SmallVec::from_slice(&[tensor]),
                metadata: &[],
                expires_at_ms: None,
                checksum: None,
                source_version: None,
            })
            .collect();
        for answer in cache.put_rows(&tenant, &namespace, spec, &rows).await {
            answer?;
        }
    }
    Ok(())
}

/// The keys of one writer.
fn part(writer: u64) -> [u64; 2] {
    [writer, writer + 1].map(|at| COUNT * at / WRITERS)
}
