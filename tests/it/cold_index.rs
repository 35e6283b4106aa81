//! A server without a state directory: the index of its cold tier lies in the store, and a start opens it there.

use std::path::Path;
use std::sync::Arc;

use bowstring_tests::{Builder, S3, Server, until};
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::space::Space;
use crate::tensor::{Tensor, bulk, values};

const KEYS: usize = 3_000;
const LEN: usize = 500;

async fn space(builder: &Builder) -> Space {
    let mut space = Space::on(Arc::new(builder.start()), "index").await;
    space.namespace = "index".to_owned();
    until("the index", async || {
        let metrics = space.server.metrics();
        (metrics.count("bowstring_cold_ready") == 1).then_some(())
    })
    .await;
    space
}

fn inner(space: Space) -> Server {
    let Space { server, client, .. } = space;
    drop(client);
    Arc::into_inner(server).unwrap()
}

/// How many segments a start has read, where it has opened its index and not built it anew.
fn segments_read(log: &str) -> usize {
    assert!(!log.contains("the index was built anew"), "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("the index was opened"));
    let words = line.unwrap_or_else(|| panic!("{log}")).split_whitespace();
    let mut segments = words.filter_map(|word| word.strip_prefix("segments="));
    segments.next_back().unwrap().parse().unwrap()
}

async fn exist(space: &Space, keys: &[String]) -> usize {
    let reply = space.act("exists", &json!({"keys": keys})).await.unwrap();
    let all = reply["keys"].as_array().unwrap().iter();
    all.filter(|key| key["found"] == Value::Bool(true)).count()
}

async fn a_start_goes_on_where_the_last_one_was_killed(builder: &Builder, temporary: &Path) {
    let names: Vec<String> = (0..KEYS).map(|at| format!("k{at:04}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let builder = builder.clone().variable("TMPDIR", temporary.as_os_str());
    let first = space(&builder).await;
    // Ten segments at least.
    for from in (0..KEYS).step_by(KEYS / 10) {
        let until = from + KEYS / 10;
        let some = Tensor::seeded(DType::UInt8, &[KEYS / 10, LEN], from as u64);
        first.bulk(bulk(&keys[from..until], &some)).await.unwrap();
        first.act("flush", &json!({})).await.unwrap();
    }
    let gone = json!({"keys": &names[..100]});
    first.act("delete", &gone).await.unwrap();
    let mut first = inner(first);
    assert_eq!(first.stop().await, Some(0));

    let second = space(&builder).await;
    assert_eq!(exist(&second, &names).await, KEYS - 100);
    second
        .act("delete", &json!({"keys": &names[100..200]}))
        .await
        .unwrap();
    let replaced = json!({"mode": "replace"});
    let all = bulk(
        &keys[300..400],
        &Tensor::seeded(DType::UInt8, &[100, LEN], 99),
    );
    second.bulk_with(&replaced, all).await.unwrap();
    second.act("flush", &json!({})).await.unwrap();
    second
        .act("delete", &json!({"keys": &names[200..300]}))
        .await
        .unwrap();
    let mut second = inner(second);
    assert_eq!(
        segments_read(&second.stderr()),
        0,
        "it was stopped in peace"
    );
    second.kill();

    for _ in 0..2 {
        let third = space(&builder).await;
        assert_eq!(exist(&third, &names[..300]).await, 0);
        assert_eq!(exist(&third, &names).await, KEYS - 300);
        let got = third.get(&json!({"keys": &names[300..400]})).await.unwrap();
        let new = Tensor::seeded(DType::UInt8, &[100, LEN], 99);
        assert!(values(&got.batches, "tensor") == new.bytes);
        let got = third.get(&json!({"keys": &names[2700..]})).await.unwrap();
        let last = Tensor::seeded(DType::UInt8, &[300, LEN], 2700);
        assert!(values(&got.batches, "tensor") == last.bytes);
        let mut third = inner(third);
        third.kill();
        assert!(segments_read(&third.stderr()) < 5);
    }
    let left = std::fs::read_dir(temporary).unwrap().count();
    assert_eq!(left, 0, "nothing is kept on a disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_in_a_directory_outlives_a_kill() {
    let (dir, temporary) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let url = format!("file://{}", dir.path().display());
    let builder = Server::builder().memory("64MiB").flag("--cold", url);
    a_start_goes_on_where_the_last_one_was_killed(&builder, temporary.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_in_a_bucket_outlives_a_kill() {
    let (s3, temporary) = (S3::start().await, TempDir::new().unwrap());
    let builder = s3.under(Server::builder().memory("64MiB"));
    a_start_goes_on_where_the_last_one_was_killed(&builder, temporary.path()).await;
}
