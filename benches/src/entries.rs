//! What entries cost in memory.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_flight::Action;
use arrow_schema::{DataType, Field, Schema};
use bowstring_client::{DType, Descriptor, Shape};
use bowstring_wire::reply::{Reply, StatsReply};
use futures::TryStreamExt;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::peers::bowstring::Server;
use crate::peers::stock_flight;
use crate::process::{CpuUse, charged_bytes};

/// Elements of a small entry: 64 bytes of float32.
pub const SMALL: u64 = 16;
/// The same in bytes.
pub const SMALL_BYTES: usize = 64;
/// Rows of one batch of a bulk put.
const BATCH_ROWS: u64 = 50_000;
/// Puts into the namespace `bulk`.
pub const FOREVER: &str = r#"{"namespace": "bulk"}"#;
/// The same for so many seconds, which putting them must not take.
const TTL_SECONDS: f64 = 60.0;
const IDLE_SECONDS: f64 = 10.0;

/// What a server holds and what it is charged.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Entries that were put.
    pub put: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
    /// `--memory`.
    pub limit: u64,
    /// What the ledger says is used.
    pub used: u64,
    /// Anonymous and shared resident pages.
    pub charged: u64,
    /// Ledger bytes an entry beyond its tensor and its key.
    pub beyond: f64,
    /// Charged before anything was put.
    pub charged_empty: u64,
    /// Seconds that putting took.
    pub seconds: f64,
    /// Seconds that a scan of a thousand keys took, and one of a hundred thousand, through the stock decoder. 0 where none was made.
    pub scans: [f64; 2],
}

/// Fills a server of so much memory with `count` entries of 64 bytes, by bulk puts.
pub fn small(memory: &str, count: u64) -> Outcome<Held> {
    let server = Server::start(memory)?;
    let (before, empty) = (stats(&server)?, charged_bytes(server.id())?);
    let watch = Stopwatch::start();
    fill(&server, count, FOREVER)?;
    let seconds = watch.seconds();
    let keys = count * key(0).len() as u64;
    let mut held = held(&server, &before, count, keys, seconds)?;
    held.charged_empty = empty;
    // Of all keys at once there is no snapshot: one of half a million finds no room in 1 GiB.
    held.scans = [
        scan(&server, "k0001", 1000)?,
        scan(&server, "k00", 100_000)?,
    ];
    Ok(held)
}

/// What entries cost that expire.
#[derive(Clone, Copy, Debug)]
pub struct Expiring {
    /// How many.
    pub count: u64,
    /// CPU seconds a second of the server with as many entries that never expire, and with these before the first was due.
    pub idle: [f64; 2],
    /// CPU-µs an entry of the server while they went.
    pub micros: f64,
    /// Seconds from when the last was due until none was left.
    pub late: f64,
}

/// Entries of 64 bytes that all expire, after as many that do not.
pub fn expiring(memory: &str, count: u64) -> Outcome<Expiring> {
    let idle = |server: &Server| {
        let before = CpuUse::of(server.id());
        thread::sleep(Duration::from_secs_f64(IDLE_SECONDS));
        CpuUse::of(server.id()).since(&before) / IDLE_SECONDS
    };
    let server = Server::start(memory)?;
    fill(&server, count, FOREVER)?;
    let quiet = idle(&server);
    let server = Server::start(memory)?;
    let watch = Stopwatch::start();
    let command = format!(
        r#"{{"namespace": "bulk", "ttl_ms": {}}}"#,
        TTL_SECONDS * 1e3
    );
    fill(&server, count, &command)?;
    let put = watch.seconds();
    let waiting = idle(&server);
    if watch.seconds() > TTL_SECONDS {
        return Err(format!("putting them took too long: {put:.0} s").into());
    }
    let before = CpuUse::of(server.id());
    let mut seen = stats(&server)?.entries;
    while seen > 0 {
        thread::sleep(Duration::from_millis(100));
        seen = stats(&server)?.entries;
    }
    Ok(Expiring {
        count,
        idle: [quiet, waiting],
        micros: CpuUse::of(server.id()).since(&before) / count as f64 * 1e6,
        late: (watch.seconds() - put - TTL_SECONDS).max(0.0),
    })
}

/// Seconds of a prefix get, after others that warm up.
fn scan(server: &Server, prefix: &str, count: u64) -> Outcome<f64> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let uri = server.flight.replace("grpc://", "http://");
        let mut client = stock_flight::connect(&uri).await?;
        let ticket = format!(
            r#"{{"namespace": "bulk", "prefix": "{prefix}", "dtype": "float32", "shape": [{SMALL}]}}"#
        );
        let mut seconds = 0.0;
        for _ in 0..if count <= 1000 { 20 } else { 2 } {
            let watch = Stopwatch::start();
            let rows = stock_flight::get(&mut client, ticket.clone()).await?;
            seconds = watch.seconds();
            if rows as u64 != count {
                return Err(format!("a scan of `{prefix}` found {rows} of {count}").into());
            }
        }
        Ok(seconds)
    })
}

/// Fills a server of so much memory with one and a half times as much in tensors of 64 KiB.
pub fn full(memory: &str) -> Outcome<Held> {
    let server = Server::start(memory)?;
    let before = stats(&server)?;
    let mut connection = server.connect()?;
    let tensor = vec![1; 64 << 10];
    let count = before.memory.limit_bytes * 3 / 2 / tensor.len() as u64;
    let shape = Shape::new(&[tensor.len() as u64 / 4])?;
    let watch = Stopwatch::start();
    for i in 0..count {
        connection.put(
            Descriptor::Path(&[&key(i)]),
            DType::Float32,
            &shape,
            &tensor,
        )?;
    }
    held(&server, &before, count, 0, watch.seconds())
}

/// The key of the entry with that number.
pub fn key(i: u64) -> String {
    format!("k{i:07}")
}

/// Puts the entries from 0 to `count` under `command`.
pub fn fill(server: &Server, count: u64, command: &str) -> Outcome<()> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let mut client =
            stock_flight::connect(&server.flight.replace("grpc://", "http://")).await?;
        for start in (0..count).step_by(usize::try_from(BATCH_ROWS * 20)?) {
            let end = count.min(start + BATCH_ROWS * 20);
            let starts = (start..end).step_by(usize::try_from(BATCH_ROWS)?);
            let batches: Outcome<Vec<RecordBatch>> = starts
                .map(|from| rows(from, end.min(from + BATCH_ROWS)))
                .collect();
            let result = stock_flight::put(&mut client, command.to_owned(), batches?).await?;
            let result = result.ok_or("no result")?.app_metadata;
            let reply = bowstring_wire::put_result::PutReply::parse(&result)?;
            if reply.stored != end - start {
                return Err(format!(
                    "stored {} of {}: {:?}",
                    reply.stored,
                    end - start,
                    reply.errors.first()
                )
                .into());
            }
        }
        Ok(())
    })
}

/// A batch of the entries from `from` to `to`.
pub fn rows(from: u64, to: u64) -> Outcome<RecordBatch> {
    rows_of(from, to, SMALL)
}

/// The same of so many values each.
pub fn rows_of(from: u64, to: u64, each: u64) -> Outcome<RecordBatch> {
    let keys: StringArray = (from..to).map(|i| Some(key(i))).collect();
    let values: Float32Array = (from * each..to * each)
        .map(|i| i as f32)
        .collect::<Vec<_>>()
        .into();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let cells = FixedSizeListArray::try_new(item, i32::try_from(each)?, Arc::new(values), None)?;
    let schema = Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("tensor", cells.data_type().clone(), false),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::new(keys), Arc::new(cells)],
    )?)
}

fn held(server: &Server, before: &StatsReply, put: u64, keys: u64, seconds: f64) -> Outcome<Held> {
    let after = stats(server)?;
    let used = after.memory.used_bytes - before.memory.used_bytes;
    Ok(Held {
        put,
        entries: after.entries,
        bytes: after.bytes,
        limit: after.memory.limit_bytes,
        used: after.memory.used_bytes,
        charged: charged_bytes(server.id())?,
        charged_empty: 0,
        scans: [0.0; 2],
        beyond: (used as f64 - after.bytes as f64 - keys as f64) / after.entries as f64,
        seconds,
    })
}

fn stats(server: &Server) -> Outcome<StatsReply> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let mut client =
            stock_flight::connect(&server.flight.replace("grpc://", "http://")).await?;
        let action = Action::new("stats", "{}");
        let results: Vec<_> = client
            .do_action(action)
            .await?
            .into_inner()
            .try_collect()
            .await?;
        Ok(StatsReply::parse(&results.first().ok_or("no stats")?.body)?)
    })
}
