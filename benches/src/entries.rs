//! What entries cost in memory, and what a look-up costs as there are more of them.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_flight::Action;
use arrow_schema::{DataType, Field, Schema};
use bowstring_client::{Connection, DType, Descriptor, Shape};
use bowstring_wire::reply::{Reply, StatsReply};
use futures::TryStreamExt;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::grid::median;
use crate::peers::bowstring::Server;
use crate::peers::stock_flight;
use crate::process::{CpuUse, background_load, charged_bytes};

/// Elements of a small entry: 64 bytes of float32.
const SMALL: u64 = 16;
/// Rows of one batch of a bulk put.
const BATCH_ROWS: u64 = 50_000;

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
    /// Seconds that putting took.
    pub seconds: f64,
}

/// Fills a server of so much memory with `count` entries of 64 bytes, by bulk puts.
pub fn small(memory: &str, count: u64) -> Outcome<Held> {
    let server = Server::start(memory)?;
    let before = stats(&server)?;
    let watch = Stopwatch::start();
    fill(&server, count)?;
    let seconds = watch.seconds();
    let keys = count * key(0).len() as u64;
    held(&server, &before, count, keys, seconds)
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

/// One look-up of 64 bytes over the wire, with few and with many keys.
pub struct Lookup {
    /// Keys in the one server, and in the other.
    pub keys: [u64; 2],
    /// Microseconds each, the medians.
    pub micros: [f64; 2],
    /// CPU microseconds each, both ends.
    pub cpu_micros: [f64; 2],
    /// How many times the CPU the many take, the median of the pairs.
    pub cpu_ratio: f64,
    /// How many times the time the many take, the median of the pairs.
    pub ratio: f64,
}

/// Asks two servers in turn for keys in no order.
pub fn lookup(few: u64, many: u64, repeats: usize) -> Outcome<Lookup> {
    const OPS: u32 = 2000;
    let keys = [few, many];
    let servers = [Server::start("1GiB")?, Server::start("1GiB")?];
    let mut connections = Vec::new();
    for (server, keys) in servers.iter().zip(keys) {
        fill(server, keys)?;
        connections.push(server.connect()?);
    }
    let _load = background_load();
    let mut seconds = [Vec::new(), Vec::new()];
    let mut cpu = [Vec::new(), Vec::new()];
    let mut at = 1;
    for round in 0..repeats + 1 {
        for turn in 0..2 {
            let who = (round + turn) % 2;
            let pids = [servers[who].id(), std::process::id()];
            let before = pids.map(CpuUse::of);
            let took = gets(&mut connections[who], keys[who], OPS, &mut at)?;
            let used: f64 = pids
                .iter()
                .zip(&before)
                .map(|(pid, before)| CpuUse::of(*pid).since(before))
                .sum();
            // The first round warms up.
            if round > 0 {
                seconds[who].push(took);
                cpu[who].push(used);
            }
        }
    }
    let micros =
        |values: &[Vec<f64>; 2]| [0, 1].map(|who| median(&values[who]) / f64::from(OPS) * 1e6);
    let ratio = |values: &[Vec<f64>; 2]| {
        let pairs: Vec<f64> = values[1]
            .iter()
            .zip(&values[0])
            .map(|(many, few)| many / few)
            .collect();
        median(&pairs)
    };
    Ok(Lookup {
        keys,
        micros: micros(&seconds),
        cpu_micros: micros(&cpu),
        cpu_ratio: ratio(&cpu),
        ratio: ratio(&seconds),
    })
}

fn gets(connection: &mut Connection, keys: u64, ops: u32, at: &mut u64) -> Outcome<f64> {
    let mut buffer = Vec::new();
    let watch = Stopwatch::start();
    for _ in 0..ops {
        // Knuth's generator: the same keys on every run, near to none of the last ones.
        *at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ticket = format!(
            r#"{{"namespace": "bulk", "key": "{}"}}"#,
            key((*at >> 33) % keys)
        );
        connection.get_into(ticket.as_bytes(), &mut buffer)?;
    }
    Ok(watch.seconds())
}

fn key(i: u64) -> String {
    format!("k{i:07}")
}

fn fill(server: &Server, count: u64) -> Outcome<()> {
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
            let command = r#"{"namespace": "bulk"}"#.to_owned();
            let result = stock_flight::put(&mut client, command, batches?).await?;
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

fn rows(from: u64, to: u64) -> Outcome<RecordBatch> {
    let keys: StringArray = (from..to).map(|i| Some(key(i))).collect();
    let values: Float32Array = (from * SMALL..to * SMALL)
        .map(|i| i as f32)
        .collect::<Vec<_>>()
        .into();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let cells = FixedSizeListArray::try_new(item, i32::try_from(SMALL)?, Arc::new(values), None)?;
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
