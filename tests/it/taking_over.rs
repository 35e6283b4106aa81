//! What a client has begun with a server that is replaced, and what the successor knows of it; and the cold tier beside it.

use std::path::Path;
use std::sync::Arc;

use bowstring_tests::{Builder, Server, until};
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk, values};

const KEYS: usize = 500;
const LEN: usize = 4_000;

fn builder(dir: &Path) -> Builder {
    Server::builder()
        .memory("64MiB")
        .flag("--takeover", dir.join("takeover"))
}

async fn space(server: Server) -> Space {
    let mut space = Space::on(Arc::new(server), "over").await;
    space.namespace = "over".to_owned();
    space
}

/// Has a successor take the place of the server, with the same arguments.
async fn replaced(space: Space, builder: &Builder) -> Space {
    let successor = builder.start();
    let Space { server, client, .. } = space;
    drop(client);
    let mut server = Arc::into_inner(server).unwrap();
    assert_eq!(server.ended().await, Some(0));
    let taken = successor.said("taken over").await;
    assert!(taken.contains("mismatched=0 "), "{taken}");
    self::space(successor).await
}

async fn begin(space: &Space) -> Value {
    let reply = space.act("begin_load", &json!({"replace_all": true})).await;
    json!({"load_id": reply.unwrap()["load_id"]})
}

fn put_in(load: &Value, key: &str) -> Value {
    json!({"load_id": load["load_id"], "key": key})
}

#[tokio::test]
async fn a_load_goes_on_and_what_ends_it_can_be_sent_again() {
    let dir = TempDir::new().unwrap();
    let builder = builder(dir.path());
    let first = space(builder.start()).await;
    let tensor = |dtype| Tensor::sample(dtype, &[3, 2_000]);
    let (before, one, other) = (
        tensor(DType::Int32),
        tensor(DType::Float32),
        tensor(DType::Int8),
    );
    first.put("before", &before).await.unwrap();
    let load = begin(&first).await;
    first.put_with(&put_in(&load, "one"), &one).await.unwrap();
    let aborted = begin(&first).await;
    first
        .put_with(&put_in(&aborted, "none"), &one)
        .await
        .unwrap();
    let gone = first.act("abort_load", &aborted).await.unwrap();

    // Nothing of it shows to the successor's clients, and it can be gone on with.
    let second = replaced(first, &builder).await;
    refused(second.tensor("one").await, "not_found", &[]);
    assert_eq!(second.tensor("before").await.unwrap().bytes, before.bytes);
    assert_eq!(second.act("abort_load", &aborted).await.unwrap(), gone);
    let late = second.act("commit_load", &aborted).await;
    refused(late, "failed_precondition", &["aborted"]);
    let again = second.put_with(&put_in(&load, "one"), &one).await;
    assert_eq!(again.unwrap()["existed"], 1);
    second
        .put_with(&put_in(&load, "other"), &other)
        .await
        .unwrap();
    let reply = second.act("commit_load", &load).await.unwrap();
    assert_eq!(reply["entries"], 2);

    // As if the answer had been lost: whoever asks again has the same, and nothing happens twice.
    let third = replaced(second, &builder).await;
    third.put("later", &before).await.unwrap();
    assert_eq!(third.act("commit_load", &load).await.unwrap(), reply);
    refused(third.tensor("before").await, "not_found", &[]);
    for (key, tensor) in [("one", &one), ("other", &other), ("later", &before)] {
        assert_eq!(
            third.tensor(key).await.unwrap().bytes,
            tensor.bytes,
            "{key}"
        );
    }
    // What it could be rolled back to has stayed behind.
    let id = load["load_id"].as_str().unwrap();
    let late = third.act("rollback_load", &load).await;
    refused(late, "failed_precondition", &[id]);
    let late = third.put_with(&put_in(&load, "late"), &one).await;
    refused(late, "failed_precondition", &[id]);
}

#[tokio::test]
async fn a_load_goes_on_beside_a_cold_tier() {
    let dir = TempDir::new().unwrap();
    let builder = builder(dir.path())
        .flag("--cold", url(&dir.path().join("store")))
        .flag("--state-dir", dir.path().join("state"));
    let first = space(builder.start()).await;
    let (before, after) = (
        Tensor::sample(DType::Int32, &[9]),
        Tensor::sample(DType::Float32, &[2]),
    );
    first.put("before", &before).await.unwrap();
    first
        .act("evict", &json!({"keys": ["before"]}))
        .await
        .unwrap();
    let load = begin(&first).await;
    first
        .put_with(&put_in(&load, "after"), &after)
        .await
        .unwrap();
    let second = replaced(first, &builder).await;
    assert_eq!(second.tensor("before").await.unwrap().bytes, before.bytes);
    let reply = second.act("commit_load", &load).await.unwrap();
    let third = replaced(second, &builder).await;
    assert_eq!(third.act("commit_load", &load).await.unwrap(), reply);
    refused(third.tensor("before").await, "not_found", &[]);
    assert_eq!(third.tensor("after").await.unwrap().bytes, after.bytes);
}

#[tokio::test]
async fn partitions_of_a_snapshot_are_to_be_asked_for_again() {
    let dir = TempDir::new().unwrap();
    let builder = builder(dir.path());
    let first = space(builder.start()).await;
    let names: Vec<String> = (0..KEYS).map(|at| format!("k{at:04}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let tensors = Tensor::seeded(DType::UInt8, &[KEYS, 8], 5);
    first.bulk(bulk(&keys, &tensors)).await.unwrap();
    let ask = json!({"prefix": "k", "partitions": 2});
    let info = first.info(first.command(&ask)).await.unwrap();
    let tickets: Vec<_> = info
        .endpoint
        .into_iter()
        .map(|one| one.ticket.unwrap())
        .collect();
    assert_eq!(first.follow(tickets[0].clone()).await.unwrap().rows(), 250);

    let second = replaced(first, &builder).await;
    for ticket in tickets {
        refused(second.follow(ticket).await, "not_found", &["snapshot"]);
    }
    let info = second.info(second.command(&ask)).await.unwrap();
    let mut rows = 0;
    for endpoint in info.endpoint {
        rows += second
            .follow(endpoint.ticket.unwrap())
            .await
            .unwrap()
            .rows();
    }
    assert_eq!(rows, KEYS);
}

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

async fn all_read(space: &Space) {
    until("the other's index", async || {
        let metrics = space.server.metrics();
        let is_ready = metrics.count("bowstring_cold_ready") == 1;
        (is_ready && metrics.count("bowstring_cold_also_unread") == 0).then_some(())
    })
    .await;
}

/// What another server has left, what we have deleted of it and what came up from there pass on as well.
#[tokio::test]
async fn another_servers_data_is_served_by_each_successor() {
    let (theirs, ours) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let names: Vec<String> = (0..KEYS).map(|at| format!("k{at:04}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let tensors = Tensor::seeded(DType::UInt8, &[KEYS, LEN], 5);
    let alone = Server::builder().memory("64MiB");
    let alone = alone.flag("--cold", url(&theirs.path().join("store")));
    let other = space(alone.start()).await;
    other.bulk(bulk(&keys, &tensors)).await.unwrap();
    other.act("flush", &json!({})).await.unwrap();
    drop(other);

    let builder = builder(ours.path())
        .flag("--cold", url(&ours.path().join("store")))
        .flag("--state-dir", ours.path().join("state"))
        .flag("--cold-also", url(&theirs.path().join("store")))
        .flag("--warm", "50%");
    let mut server = space(builder.start()).await;
    all_read(&server).await;
    // Read twice, they come into memory.
    for _ in 0..2 {
        server.get(&json!({"keys": &names[..50]})).await.unwrap();
    }
    let own = Tensor::seeded(DType::Float32, &[7], 1);
    server.put("own", &own).await.unwrap();
    for round in 0..3 {
        let gone = &names[KEYS - 10 * (round + 1)..];
        let deleted = server.act("delete", &json!({"keys": &gone[..10]})).await;
        assert_eq!(deleted.unwrap()["deleted"], 10);
        server = replaced(server, &builder).await;
        all_read(&server).await;
        let log = server.server.stderr();
        assert!(
            !log.contains("memory is warm"),
            "what was handed on is: {log}"
        );
        let there = KEYS - 10 * (round + 1);
        let got = server.get(&json!({"keys": &names[..there]})).await.unwrap();
        assert!(values(&got.batches, "tensor") == tensors.bytes[..there * LEN]);
        for key in gone {
            refused(server.get(&json!({"key": key})).await, "not_found", &[]);
        }
        assert_eq!(server.tensor("own").await.unwrap().bytes, own.bytes);
    }
}
