//! Files that the server reads: Parquet and Arrow under `--load-roots`. `ended`: those that are not to be loaded.

mod ended;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use arrow_flight::Action;
use arrow_flight::error::{FlightError, Result};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use bowstring_tests::{Cli, Server};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::space::{Space, refused};

const DIM: usize = 8;

/// A server that may read the files of a folder.
struct Files {
    space: Space,
    folder: tempfile::TempDir,
}

impl Files {
    async fn new(name: &str, flags: &[(&str, &str)]) -> Files {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let root = folder.path().join("data");
        let mut builder = Server::builder()
            .memory("256MiB")
            .flag("--load-roots", root);
        for (name, value) in flags {
            builder = builder.flag(name, value);
        }
        Files {
            space: Space::on(builder.start().into(), name).await,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Every answer of a load, to its end.
    async fn load(&self, members: &Value) -> Result<Vec<Value>> {
        let action = Action::new("load", self.space.json(members));
        let replies = self.space.clone_client().do_action(action).await?;
        let replies: Vec<_> = replies.try_collect().await?;
        let read = |bytes: &bytes::Bytes| serde_json::from_slice(bytes).unwrap();
        Ok(replies.iter().map(read).collect())
    }

    /// A load of one name, which is refused.
    async fn refused(&self, name: &str, code: &str, parts: &[&str]) {
        let loaded = self.load(&json!({"files": [name]})).await;
        refused(loaded, code, parts);
    }

    /// A load that begins, and whose answers end with an error.
    async fn broken(&self, members: &Value, parts: &[&str]) {
        let Err(FlightError::Tonic(status)) = self.load(members).await else {
            panic!("it was loaded, or not answered: {members}");
        };
        let said = status.message();
        let codes = ["invalid_argument: ", "already_exists: "];
        assert!(codes.iter().any(|code| said.starts_with(code)), "{said}");
        for part in parts {
            assert!(said.contains(part), "expected {part:?}: {said}");
        }
    }

    async fn load_one(&self, path: &Path, members: Value) -> Value {
        let mut all = json!({"files": [path.to_str().unwrap()]});
        let more = members.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        self.load(&all).await.unwrap().pop().unwrap()
    }

    async fn keys(&self) -> Vec<String> {
        let got = self.space.get(&json!({"prefix": ""})).await.unwrap();
        let keys = got.texts("key");
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    async fn value(&self, key: &str) -> Vec<f32> {
        let tensor = self.space.tensor(key).await.unwrap();
        let values = tensor.bytes.chunks_exact(4);
        values
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }

    async fn status(&self, load: &str) -> Value {
        let members = json!({"load_id": load});
        self.space.act("load_status", &members).await.unwrap()
    }
}

fn cells(rows: usize) -> impl Iterator<Item = Option<Vec<Option<f32>>>> {
    (0..rows).map(|row| Some(vec![Some(row as f32); DIM]))
}

/// Rows `PREFIX0`, `PREFIX1`, …, each of [`DIM`] values that are its number.
fn table(prefix: &str, rows: usize, columns: (&str, &str)) -> RecordBatch {
    let keys = StringArray::from_iter_values((0..rows).map(|row| format!("{prefix}{row}")));
    let dim = i32::try_from(DIM).unwrap();
    let tensors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(cells(rows), dim);
    RecordBatch::try_from_iter([
        (columns.0, Arc::new(keys) as ArrayRef),
        (columns.1, Arc::new(tensors)),
    ])
    .unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch, compression: Compression) {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(1000));
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn write_arrow(path: &Path, batch: &RecordBatch) {
    let mut writer = FileWriter::try_new(File::create(path).unwrap(), &batch.schema()).unwrap();
    for at in (0..batch.num_rows()).step_by(500) {
        let rows = 500.min(batch.num_rows() - at);
        writer.write(&batch.slice(at, rows)).unwrap();
    }
    writer.finish().unwrap();
}

#[tokio::test]
async fn parquet_and_arrow_of_a_folder_become_entries_at_once() {
    let files = Files::new("files", &[]).await;
    fs::create_dir(files.path("day=1")).unwrap();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let columns = ("key", "tensor");
    write_parquet(&files.path("a.parquet"), &table("a", 2500, columns), zstd);
    write_arrow(&files.path("day=1/b.arrow"), &table("b", 1200, columns));
    let batch = table("c", 3, columns);
    let stream = File::create(files.path("day=1/c.arrows")).unwrap();
    let mut writer = StreamWriter::try_new(stream, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    fs::write(files.path("_SUCCESS"), "").unwrap();

    let replies = files
        .load(&json!({"files": [files.path("")]}))
        .await
        .unwrap();
    assert_eq!(replies[0]["state"], "open");
    let last = replies.last().unwrap();
    let load = last["load_id"].as_str().unwrap();
    let expected = json!({
        "load_id": load, "state": "committed", "files": 3, "files_done": 3,
        "rows": 3703, "entries": 3703, "bytes": 3703 * 4 * DIM,
    });
    assert_eq!(*last, expected);
    assert_eq!(files.status(load).await, expected);
    assert_eq!(files.keys().await.len(), 3703);
    for (key, value) in [("a0", 0.0), ("a2499", 2499.0), ("b700", 700.0), ("c2", 2.0)] {
        assert_eq!(files.value(key).await, [value; DIM], "{key}");
    }
    let stats = files.space.server.stats().await;
    assert_eq!(stats.counters["loads_committed"].0, 1);
    // It is a load like any other.
    files
        .space
        .act("rollback_load", &json!({"load_id": load}))
        .await
        .unwrap();
    assert!(files.keys().await.is_empty());
}

#[tokio::test]
async fn columns_are_named_keys_have_a_prefix_and_what_is_not_there_goes() {
    let files = Files::new("files-map", &[]).await;
    let batch = table("w", 10, ("word", "v"));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..10 {
        maps.keys().append_value("row");
        maps.values().append_value(row.to_string());
        maps.append(true).unwrap();
    }
    let keys = Arc::clone(batch.column(0));
    let batch = RecordBatch::try_from_iter([
        ("word", keys),
        (
            "title",
            Arc::new(StringArray::from(vec!["x"; 10])) as ArrayRef,
        ),
        ("v", Arc::clone(batch.column(1))),
        ("more", Arc::new(maps.finish())),
    ])
    .unwrap();
    let path = files.path("words.parquet");
    write_parquet(&path, &batch, Compression::SNAPPY);
    let name = path.to_str().unwrap();
    let unnamed = json!({"files": [name]});
    files
        .broken(&unnamed, &["columns.key", "word, title", name])
        .await;
    let columns = json!({"key": "word", "tensor": "v", "metadata": "more"});
    let said = files
        .load_one(&path, json!({"columns": columns, "prefix": "p/"}))
        .await;
    assert_eq!(said["entries"], 10);
    let described = files
        .space
        .act("describe", &json!({"keys": ["p/w7"]}))
        .await
        .unwrap();
    assert_eq!(described["keys"][0]["metadata"], json!({"row": "7"}));
    assert_eq!(files.value("p/w7").await, [7.0; DIM]);

    let members = json!({"columns": columns, "replace_all": true, "ttl_ms": 60_000});
    files.load_one(&path, members).await;
    let expected: Vec<String> = (0..10).map(|row| format!("w{row}")).collect();
    assert_eq!(files.keys().await, expected);
    let told = files
        .space
        .act("exists", &json!({"keys": ["w0"]}))
        .await
        .unwrap();
    assert!(told["keys"][0]["ttl_ms"].as_u64().unwrap() <= 60_000);
    let wrong = json!({"files": [name], "columns": {"key": "nothing"}});
    files.broken(&wrong, &["columns.key", "nothing"]).await;
}

#[tokio::test]
async fn of_rows_with_one_key_the_first_or_the_last_stays_as_the_mode_says() {
    let files = Files::new("files-mode", &[]).await;
    let before = table("a", 6, ("key", "tensor")).slice(5, 1);
    files.space.bulk(before).await.unwrap();
    let batch = table("a", 3, ("key", "tensor"));
    let keys = Arc::new(StringArray::from(vec!["a5", "a1", "a5"])) as ArrayRef;
    let twice = RecordBatch::try_new(batch.schema(), vec![keys, Arc::clone(batch.column(1))]);
    let path = files.path("a.feather");
    write_arrow(&path, &twice.unwrap());
    let said = files.load_one(&path, json!({"mode": "keep"})).await;
    assert_eq!((&said["rows"], &said["entries"]), (&json!(3), &json!(2)));
    assert_eq!(files.value("a5").await, [0.0; DIM]);
    files.load_one(&path, json!({"mode": "replace"})).await;
    assert_eq!(files.value("a5").await, [2.0; DIM]);
    assert_eq!(files.keys().await, ["a1", "a5"]);
    let members = json!({"files": [path], "mode": "create"});
    files.broken(&members, &["row=`2`", "key=`a5`"]).await;
}

#[tokio::test]
async fn the_program_has_the_server_load_files() {
    let files = Files::new("files-cli", &[]).await;
    let path = files.path("a.parquet");
    write_parquet(&path, &table("a", 50, ("word", "v")), Compression::SNAPPY);
    let load = |path: &str, more: &[&str]| {
        let namespace = files.space.namespace.as_str();
        let words = ["load", "--server-side", path, "-n", namespace, "--json"];
        Cli::new(files.space.server.uri(), words.iter().chain(more)).told()
    };
    let pattern = files.path("*.parquet");
    let told = load(pattern.to_str().unwrap(), &["--prefix", "p/"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let said = &told.json()[0];
    assert_eq!((&said["rows"], &said["stored"]), (&json!(50), &json!(50)));
    assert_eq!(files.value("p/a49").await, [49.0; DIM]);
    let denied = load("/etc/passwd", &[]);
    assert_eq!(denied.code, Some(3), "{denied:?}");
    assert!(denied.stderr.contains("load_roots"), "{denied:?}");
    let both = load(path.to_str().unwrap(), &["--keys", "x"]);
    assert_eq!(both.code, Some(2), "{both:?}");
}
