//! `bowstring load` of embeddings from a Parquet file, beside a bare Flight writer that has the same batches in memory.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::{
    Array as _, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema};
use bowstring_wire::put_result::PutReply;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::grid::{median, pairs};
use crate::peers::bowstring::Server;
use crate::peers::stock_flight;
use crate::process::beside;
use crate::report::Goal;

const ROWS: usize = 400_000;
const VALUES: usize = 50;
/// Rows of a batch, which are 2 MiB.
const BATCH_ROWS: usize = 10_000;
const MEMORY: &str = "1GiB";

/// All rows of it.
pub fn run(rounds: usize) -> Outcome<Vec<Goal>> {
    let folder = std::env::temp_dir().join(format!("bowstring-loading-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(rounds, &folder.join("embeddings.parquet"));
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(rounds: usize, path: &PathBuf) -> Outcome<Vec<Goal>> {
    let batches = (0..ROWS)
        .step_by(BATCH_ROWS)
        .map(batch)
        .collect::<Outcome<Vec<_>>>()?;
    write(path, &batches)?;
    let batches = batches.iter().map(fixed).collect::<Outcome<Vec<_>>>()?;
    let (mut whole, mut inner, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        // Who goes first changes; the first round does not count.
        let (ours, theirs) = if round % 2 == 0 {
            (load(path)?, put(&batches)?)
        } else {
            let theirs = put(&batches)?;
            (load(path)?, theirs)
        };
        if round > 0 {
            whole.push(ours.0);
            inner.push(ours.1);
            bare.push(theirs);
        }
    }
    let rate = |seconds: &[f64]| ROWS as f64 / median(seconds) / 1e6;
    let mut goal = Goal::at_least(
        "bowstring load of 400,000 × 50 float32 from Parquet, the process from its start to its end",
        "a bare Flight writer of the same batches",
        0.7,
        pairs(&bare, &whole),
    );
    goal.note(&format!(
        "{:.2} against {:.2} million rows a second; without the process' start and end {:.2}",
        rate(&whole),
        rate(&bare),
        rate(&inner)
    ));
    Ok(vec![goal])
}

/// Seconds of the process, and those that it counts itself.
fn load(path: &PathBuf) -> Outcome<(f64, f64)> {
    let server = Server::start(MEMORY)?;
    let mut command = Command::new(beside("bowstring")?);
    command
        .args(["load", "--json", "--quiet", "--endpoint", &server.flight])
        .arg(path);
    let watch = Stopwatch::start();
    let done = command.stderr(Stdio::inherit()).output()?;
    let seconds = watch.seconds();
    let told: Value = serde_json::from_slice(&done.stdout)?;
    if told["stored"] != ROWS {
        return Err(format!("bowstring load did not store all: {told}").into());
    }
    Ok((seconds, told["seconds"].as_f64().ok_or("no seconds")?))
}

/// Seconds of one put on one connection, which is open.
fn put(batches: &[RecordBatch]) -> Outcome<f64> {
    let server = Server::start(MEMORY)?;
    Runtime::new()?.block_on(async {
        let mut client =
            stock_flight::connect(&server.flight.replace("grpc://", "http://")).await?;
        let batches = batches.to_vec();
        let watch = Stopwatch::start();
        let result = stock_flight::put(&mut client, "{}".to_owned(), batches).await?;
        let seconds = watch.seconds();
        let stored = PutReply::parse(&result.ok_or("no result")?.app_metadata)?.stored;
        if stored != ROWS as u64 {
            return Err(format!("stored {stored} of {ROWS}").into());
        }
        Ok(seconds)
    })
}

/// Words and their vectors, as files of embeddings have them: lists, which Parquet has by itself.
fn batch(from: usize) -> Outcome<RecordBatch> {
    let words: StringArray = (from..from + BATCH_ROWS)
        .map(|row| Some(format!("word-{row}")))
        .collect();
    // Differ in every bit, as embeddings do: nothing to be had from a dictionary or from compression.
    let value = |at: usize| {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        (at.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Float32Array = (from * VALUES..(from + BATCH_ROWS) * VALUES)
        .map(value)
        .collect::<Vec<_>>()
        .into();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let offsets = OffsetBuffer::from_lengths(vec![VALUES; BATCH_ROWS]);
    let vectors = ListArray::try_new(item, offsets, Arc::new(values), None)?;
    let schema = Schema::new(vec![
        Field::new("word", DataType::Utf8, true),
        Field::new("vector", vectors.data_type().clone(), true),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::new(words), Arc::new(vectors)],
    )?)
}

/// The same as a put takes it.
fn fixed(batch: &RecordBatch) -> Outcome<RecordBatch> {
    let vectors = batch
        .column(1)
        .as_any()
        .downcast_ref::<ListArray>()
        .ok_or("no lists")?;
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let cells = FixedSizeListArray::try_new(
        item,
        i32::try_from(VALUES)?,
        Arc::clone(vectors.values()),
        None,
    )?;
    let schema = Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("tensor", cells.data_type().clone(), false),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::clone(batch.column(0)), Arc::new(cells)],
    )?)
}

/// With what most programs write it: Snappy, and a dictionary where it helps.
fn write(path: &PathBuf, batches: &[RecordBatch]) -> Outcome<()> {
    let first = batches.first().ok_or("no batches")?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, first.schema(), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(())
}
