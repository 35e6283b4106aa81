//! Files that are served as a namespace: every row is there as it was written, and nobody changes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    Array, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_flight::error::Result;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema};
use bowstring_tests::{Builder, Server};
use bowstring_wire::dtype::DType;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::space::{Space, refused};
use crate::sql::{client, query, rows};
use crate::tensor::{Tensor, value_bytes};

const DIM: usize = 48;
pub const ROWS: usize = 3_000;

/// What row `n` is: no two are alike.
fn row(n: usize) -> Vec<f32> {
    (0..DIM)
        .map(|at| (n * DIM + at) as f32 * 0.5 - 7.0)
        .collect()
}

fn bytes_of(n: usize) -> Vec<u8> {
    row(n)
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Keys that are not in the order of the rows.
pub fn key(n: usize) -> String {
    format!("user:{:05}", (n * 7_919) % 100_000)
}

fn batch(numbers: &[usize]) -> RecordBatch {
    let keys = StringArray::from_iter_values(numbers.iter().map(|n| key(*n)));
    let values = Float32Array::from_iter_values(numbers.iter().flat_map(|n| row(*n)));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let lists = FixedSizeListArray::new(
        Arc::clone(&item),
        i32::try_from(DIM).unwrap(),
        Arc::new(values),
        None,
    );
    let schema = Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("tensor", lists.data_type().clone(), false),
    ]);
    let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
    let columns = vec![Arc::new(keys) as _, Arc::new(lists) as _];
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).unwrap()
}

fn parquet(path: &Path, numbers: &[usize]) {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(700))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50);
    let all = batch(numbers);
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, all.schema(), Some(properties.build())).unwrap();
    writer.write(&all).unwrap();
    writer.close().unwrap();
}

fn arrow(path: &Path, numbers: &[usize]) {
    let first = batch(&numbers[..1]);
    let mut writer = FileWriter::try_new(File::create(path).unwrap(), &first.schema()).unwrap();
    for some in numbers.chunks(400) {
        writer.write(&batch(some)).unwrap();
    }
    writer.finish().unwrap();
}

/// A folder with a file of each kind, and a folder in it.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        let numbers: Vec<usize> = (0..ROWS).collect();
        fs::create_dir(files.path("more")).unwrap();
        parquet(&files.path("a.parquet"), &numbers[..1_300]);
        arrow(&files.path("b.arrow"), &numbers[1_300..2_500]);
        parquet(&files.path("more/c.parquet"), &numbers[2_500..]);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn server(&self, memory: &str) -> Builder {
        Server::builder()
            .memory(memory)
            .flag("--load-roots", self.path(""))
    }
}

pub async fn attach(space: &Space, file: &str) -> Result<Value> {
    space.act("attach", &json!({"files": [file]})).await
}

pub async fn is_as_written(space: &Space, n: usize) {
    let tensor = space.tensor(&key(n)).await.unwrap();
    assert_eq!(
        (tensor.dtype, &tensor.shape[..]),
        (DType::Float32, &[DIM][..])
    );
    assert_eq!(tensor.bytes, bytes_of(n), "{}", key(n));
}

/// All keys, many at a time, in an order that is none.
async fn all_are_as_written(space: &Space) {
    let mut order: Vec<usize> = (0..ROWS).collect();
    order.sort_by_key(|n| (n * 1_009) % ROWS);
    for some in order.chunks(500) {
        let keys: Vec<String> = some.iter().map(|n| key(*n)).collect();
        let got = space.get(&json!({"keys": keys})).await.unwrap();
        assert_eq!(got.rows(), some.len());
        let tensors: Vec<u8> = got
            .batches
            .iter()
            .flat_map(|batch| value_bytes(batch.column_by_name("tensor").unwrap().as_ref()))
            .collect();
        let expected: Vec<u8> = some.iter().flat_map(|n| bytes_of(*n)).collect();
        assert!(tensors == expected, "{some:?}");
    }
}

async fn entries_in_memory(space: &Space) -> u64 {
    let stats = space.act_raw("stats", "").await.unwrap();
    let stats: Value = serde_json::from_slice(&stats[0]).unwrap();
    number(&stats["entries"])
}

pub fn number(of: &Value) -> u64 {
    of.as_u64().or_else(|| of.as_str()?.parse().ok()).unwrap()
}

#[tokio::test]
async fn every_row_of_a_folder_is_there_as_it_was_written() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(Arc::clone(&server), "attached").await;
    let reply = attach(&space, &files.text("")).await.unwrap();
    assert_eq!(
        (
            number(&reply["files"]),
            number(&reply["rows"]),
            number(&reply["bytes"])
        ),
        (3, ROWS as u64, (ROWS * DIM * 4) as u64),
        "{reply}"
    );
    // The keys, twelve bytes for each, and what is kept of three files.
    let index_bytes = number(&reply["index_bytes"]);
    assert!(
        index_bytes <= ROWS as u64 * (10 + 12) + 3 * (18 << 10),
        "{index_bytes}"
    );
    assert_eq!(entries_in_memory(&space).await, 0, "nothing was loaded");

    for n in [
        0,
        1,
        99,
        100,
        1_299,
        1_300,
        1_699,
        1_700,
        2_499,
        2_500,
        ROWS - 1,
    ] {
        is_as_written(&space, n).await;
    }
    assert_eq!(
        entries_in_memory(&space).await,
        11,
        "what was read is in memory"
    );
    is_as_written(&space, 100).await;
    assert_eq!(entries_in_memory(&space).await, 11);
    all_are_as_written(&space).await;
    refused(space.tensor("user:none").await, "not_found", &[]);

    let got = space.get(&json!({"prefix": "user:000"})).await.unwrap();
    let expected = (0..ROWS)
        .filter(|n| key(*n).starts_with("user:000"))
        .count();
    assert_eq!(got.rows(), expected);
    assert!(expected > 0);

    let described = space
        .act("describe", &json!({"keys": [key(5)]}))
        .await
        .unwrap();
    assert_eq!(described["keys"][0]["found"], json!(true), "{described}");
    let listed = space.act_raw("namespaces", "{}").await.unwrap();
    let listed: Value = serde_json::from_slice(&listed[0]).unwrap();
    let of = listed["namespaces"].as_array().unwrap().iter();
    let mut of = of.filter(|of| of["namespace"] == json!(space.namespace));
    assert_eq!(number(&of.next().unwrap()["attached"]["rows"]), ROWS as u64);
}

#[tokio::test]
async fn memory_has_no_more_of_them_than_it_may() {
    let files = Files::new();
    let numbers: Vec<usize> = (ROWS..90_000).collect();
    for (part, some) in numbers.chunks(10_000).enumerate() {
        parquet(&files.path(&format!("big{part}.parquet")), some);
    }
    // Its entries take more than all of the memory.
    let server = Arc::new(files.server("32MiB").start());
    let space = Space::on(Arc::clone(&server), "small").await;
    attach(&space, &files.text("")).await.unwrap();
    for n in (0..90_000).step_by(4_111) {
        is_as_written(&space, n).await;
    }
    let keys: Vec<String> = (0..90_000).map(key).collect();
    for some in keys.chunks(2_500) {
        assert_eq!(
            space.get(&json!({"keys": some})).await.unwrap().rows(),
            some.len()
        );
    }
    is_as_written(&space, 0).await;
    let stats = space.act_raw("stats", "").await.unwrap();
    let stats: Value = serde_json::from_slice(&stats[0]).unwrap();
    let memory = &stats["memory"];
    assert!(
        number(&memory["used_bytes"]) <= number(&memory["limit_bytes"]),
        "{memory}"
    );
    assert!(number(&stats["counters"]["evicted"]) > 0, "{stats}");
}

#[tokio::test]
async fn nobody_changes_an_attached_namespace() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(Arc::clone(&server), "fixed").await;
    attach(&space, &files.text("a.parquet")).await.unwrap();
    is_as_written(&space, 3).await;
    let words = &["attached", "read-only", "detach"][..];
    let tensor = Tensor::sample(DType::Float32, &[DIM]);
    refused(
        space.put(&key(3), &tensor).await,
        "failed_precondition",
        words,
    );
    refused(
        space.put("new", &tensor).await,
        "failed_precondition",
        words,
    );
    let bulk = space.bulk(batch(&[1, 2])).await.unwrap();
    assert_eq!(number(&bulk["stored"]), 0, "{bulk}");
    for (action, members) in [
        ("delete", json!({"keys": [key(3)]})),
        ("delete", json!({"prefix": "user"})),
        ("clear", json!({"confirm": true})),
        ("expire", json!({"keys": [key(3)], "ttl_ms": 5})),
        ("pin", json!({"keys": [key(3)]})),
        ("begin_load", json!({})),
    ] {
        let told = space.act(action, &members).await;
        refused(told, "failed_precondition", words);
    }
    refused(
        attach(&space, &files.text("a.parquet")).await,
        "failed_precondition",
        &["attached", "detach"],
    );
    is_as_written(&space, 3).await;
    let detached = space.act("detach", &json!({})).await.unwrap();
    assert_eq!(number(&detached["rows"]), 1_300);
    refused(space.tensor(&key(3)).await, "not_found", &[]);
    refused(space.tensor(&key(4)).await, "not_found", &[]);
    assert_eq!(entries_in_memory(&space).await, 0);
    space.put(&key(3), &tensor).await.unwrap();
    refused(
        attach(&space, &files.text("a.parquet")).await,
        "failed_precondition",
        &["empty"],
    );
    refused(
        space.act("detach", &json!({})).await,
        "failed_precondition",
        &["not attached"],
    );
}

#[tokio::test]
async fn a_file_that_changed_is_told_of_and_never_read_as_another() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(Arc::clone(&server), "changed").await;
    attach(&space, &files.text("")).await.unwrap();
    is_as_written(&space, 10).await;
    let other: Vec<usize> = (0..1_300).rev().collect();
    // In its place, and into the very file.
    parquet(&files.path("new"), &other);
    fs::rename(files.path("new"), files.path("a.parquet")).unwrap();
    arrow(
        &files.path("b.arrow"),
        &(1_300..2_500).rev().collect::<Vec<_>>(),
    );
    fs::remove_file(files.path("more/c.parquet")).unwrap();
    for (n, name) in [(11, "a.parquet"), (1_305, "b.arrow"), (2_600, "c.parquet")] {
        let told = refused(space.tensor(&key(n)).await, "failed_precondition", &[name]);
        assert!(told.contains("file"), "{told}");
    }
    // What memory has is what was attached.
    is_as_written(&space, 10).await;
    space.act("detach", &json!({})).await.unwrap();
    let reply = attach(&space, &files.text("")).await.unwrap();
    assert_eq!(number(&reply["rows"]), 2_500);
    is_as_written(&space, 11).await;
    is_as_written(&space, 1_305).await;
}

#[tokio::test]
async fn what_cannot_be_served_is_not_attached() {
    let files = Files::new();
    let elsewhere = TempDir::new().unwrap();
    parquet(&elsewhere.path().join("x.parquet"), &[1]);
    parquet(&files.path("twice.parquet"), &[5, 6, 5]);
    fs::write(files.path("broken.parquet"), b"PAR1 and no more").unwrap();
    let keys = StringArray::from(vec!["fine", ""]);
    let named = batch(&[1, 2]);
    let columns = vec![Arc::new(keys) as _, Arc::clone(named.column(1))];
    let unnamed = RecordBatch::try_new(named.schema(), columns).unwrap();
    let file = File::create(files.path("unnamed.arrow")).unwrap();
    let mut writer = FileWriter::try_new(file, &unnamed.schema()).unwrap();
    writer.write(&unnamed).unwrap();
    writer.finish().unwrap();

    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(Arc::clone(&server), "refused").await;
    let outside = elsewhere.path().join("x.parquet").display().to_string();
    for (file, code, words) in [
        (outside, "permission_denied", &["load_roots"][..]),
        (files.text("none.parquet"), "not_found", &["none.parquet"]),
        (
            files.text("twice.parquet"),
            "invalid_argument",
            &["twice", "row=`0`", "row=`2`"],
        ),
        (
            files.text("broken.parquet"),
            "invalid_argument",
            &["broken.parquet"],
        ),
        (
            files.text("unnamed.arrow"),
            "invalid_argument",
            &["unnamed.arrow", "row=`1`"],
        ),
    ] {
        refused(attach(&space, &file).await, code, words);
    }
    // Nothing is left of what failed.
    let tensor = Tensor::sample(DType::UInt8, &[3]);
    space.put("a", &tensor).await.unwrap();
}

#[tokio::test]
async fn rows_are_asked_for_by_sql() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(Arc::clone(&server), "asked").await;
    attach(&space, &files.text("a.parquet")).await.unwrap();
    let mut client = client(&server).await;
    let name = &space.namespace;
    let mut ask = async |text: String| rows(&query(&mut client, &text).await.unwrap());
    let count =
        format!("SELECT count(*), min(tier), max(tier) FROM tensors WHERE namespace = '{name}'");
    assert_eq!(ask(count).await, ["1300 attached attached"]);
    let of_key = format!(
        "SELECT bytes, tier FROM ns.\"{name}\" WHERE key = '{}'",
        key(7)
    );
    assert_eq!(ask(of_key).await, ["192 attached"]);
    let squares: f64 = (0..1_300).flat_map(row).map(|x| f64::from(x).powi(2)).sum();
    let summed = format!("SELECT CAST(round(sum(dot(value, value))) AS BIGINT) FROM ns.\"{name}\"");
    let summed: f64 = ask(summed).await[0].parse().unwrap();
    assert!((summed / squares - 1.0).abs() < 1e-6, "{summed} {squares}");
    let checksum =
        format!("SELECT count(*) FROM tensors WHERE namespace = '{name}' AND checksum IS NULL");
    assert_eq!(
        ask(checksum).await,
        ["1300"],
        "not known of what was not read"
    );
}

#[tokio::test]
async fn rows_are_put_elsewhere_by_sql_and_changed_by_none() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let from = Space::on(Arc::clone(&server), "from").await;
    attach(&from, &files.text("a.parquet")).await.unwrap();
    let to = Space::on(Arc::clone(&server), "to").await;
    let mut client = client(&server).await;
    let (source, target) = (&from.namespace, &to.namespace);
    let insert = format!(
        "INSERT INTO tensors (namespace, key, value) \
         SELECT '{target}', key, value FROM tensors WHERE namespace = '{source}'"
    );
    let inserted = client.execute_update(insert, None).await.unwrap();
    assert_eq!(inserted, 1_300);
    for n in [0, 7, 1_299] {
        is_as_written(&to, n).await;
    }
    for text in [
        format!("DELETE FROM tensors WHERE namespace = '{source}'"),
        format!("UPDATE tensors SET pinned = true WHERE namespace = '{source}'"),
        format!(
            "INSERT INTO tensors (namespace, key, value) \
             SELECT '{source}', 'new', value FROM tensors WHERE namespace = '{target}' LIMIT 1"
        ),
    ] {
        let refused = client.execute_update(text.clone(), None).await;
        let refused = refused.unwrap_err().to_string();
        for word in ["failed_precondition: ", "attached", "detach"] {
            assert!(refused.contains(word), "{text}: {refused}");
        }
    }
    let count = "SELECT count(*), count(pins) FROM tensors GROUP BY namespace";
    let left = query(&mut client, count).await.unwrap();
    assert_eq!(rows(&left), ["1300 1300", "1300 1300"]);
    is_as_written(&from, 7).await;
}
