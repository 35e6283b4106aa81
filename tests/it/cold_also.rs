//! A server reads what another one has written: one that was killed, and one that goes on.

use std::path::Path;
use std::sync::Arc;

use bowstring_tests::{Builder, Server, until};
use bowstring_wire::dtype::DType;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk, values};

const KEYS: usize = 500;
const LEN: usize = 4_000;

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

fn server(dir: &Path) -> Builder {
    Server::builder()
        .memory("64MiB")
        .flag("--cold", url(&dir.join("store")))
}

async fn space(server: Server) -> Space {
    let mut space = Space::on(Arc::new(server), "also").await;
    space.namespace = "also".to_owned();
    until("all indices", async || {
        let metrics = space.server.metrics();
        let is_ready = metrics.count("bowstring_cold_ready") == 1;
        (is_ready && metrics.count("bowstring_cold_also_unread") == 0).then_some(())
    })
    .await;
    space
}

fn inner(space: Space) -> Server {
    let Space { server, client, .. } = space;
    drop(client);
    Arc::into_inner(server).unwrap()
}

fn names() -> Vec<String> {
    (0..KEYS).map(|at| format!("k{at:04}")).collect()
}

async fn keys_of(space: &Space) -> Vec<String> {
    let mut client = space.clone_client();
    let listed = client.list_flights(space.json(&json!({}))).await.unwrap();
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    let key = |info: arrow_flight::FlightInfo| info.flight_descriptor.unwrap().path[1].clone();
    listed.into_iter().map(key).collect()
}

#[tokio::test]
async fn what_a_killed_server_left_is_served_and_what_is_deleted_stays_so() {
    let (dead, ours) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let names = names();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let tensors = Tensor::seeded(DType::UInt8, &[KEYS, LEN], 5);
    let large = Tensor::seeded(DType::UInt8, &[5, 1 << 20], 6);
    let a = space(server(dead.path()).start()).await;
    a.bulk(bulk(&keys, &tensors)).await.unwrap();
    a.put("large", &large).await.unwrap();
    a.act("flush", &json!({})).await.unwrap();
    let mut a = inner(a);
    a.kill();

    let builder = |state: &str| {
        server(ours.path())
            .flag("--cold-also", url(&dead.path().join("store")))
            .flag("--state-dir", ours.path().join(state))
    };
    let b = space(builder("state").start()).await;
    let got = b.get(&json!({"keys": &names})).await.unwrap();
    assert!(
        values(&got.batches, "tensor") == tensors.bytes,
        "every byte"
    );
    let got = b.get(&json!({"key": "large"})).await.unwrap();
    assert!(got.tensor().bytes == large.bytes);
    assert_eq!(keys_of(&b).await.len(), KEYS + 1);
    let described = b.act("describe", &json!({"keys": ["k0007", "x"]})).await;
    let described = described.unwrap();
    assert_eq!(described["keys"][0]["tier"], "cold");
    let stats = b.act_raw("stats", "").await.unwrap();
    let stats: Value = serde_json::from_slice(&stats[0]).unwrap();
    assert_eq!(stats["cold"]["also_entries"], json!(KEYS + 1));
    assert!(stats["cold"]["also_hits"].as_u64().unwrap() > KEYS as u64);

    let deleted = b.act("delete", &json!({"keys": &names[..9]})).await;
    assert_eq!(deleted.unwrap()["deleted"], 9);
    let prefix = b.act("delete", &json!({"prefix": "k001"})).await;
    assert_eq!(prefix.unwrap()["deleted"], 10);
    let replaced = Tensor::seeded(DType::Float32, &[2, 2], 1);
    let replace = json!({"key": "k0009", "mode": "replace"});
    b.put_with(&replace, &replaced).await.unwrap();
    b.act("flush", &json!({})).await.unwrap();
    assert_eq!(inner(b).stop().await, Some(0));

    // After a restart, and without what its own disk had.
    for state in ["state", "elsewhere"] {
        let b = space(builder(state).start()).await;
        for key in [&names[..9], &names[10..20]].concat() {
            refused(b.get(&json!({"key": key})).await, "not_found", &[]);
        }
        let got = b.get(&json!({"key": "k0009"})).await.unwrap();
        assert_eq!(got.tensor().bytes, replaced.bytes);
        let got = b.get(&json!({"keys": &names[20..]})).await.unwrap();
        assert!(values(&got.batches, "tensor") == tensors.bytes[20 * LEN..]);
        let listed = keys_of(&b).await;
        let deleted = names[..9].iter().chain(&names[10..20]);
        assert!(deleted.into_iter().all(|key| !listed.contains(key)));
        assert!(listed.len() >= KEYS - 19, "{}", listed.len());
        assert_eq!(inner(b).stop().await, Some(0));
    }
    let b = space(builder("third").start()).await;
    b.act("clear", &json!({"confirm": true})).await.unwrap();
    assert_eq!(keys_of(&b).await, [""; 0]);
    // A flush tells the store what has gone too; whoever loses the state directory without it may see that again.
    b.act("flush", &json!({})).await.unwrap();
    inner(b).kill();
    let b = space(builder("fourth").start()).await;
    assert_eq!(keys_of(&b).await, [""; 0]);
    refused(b.get(&json!({"key": "large"})).await, "not_found", &[]);
}

#[tokio::test]
async fn a_server_that_goes_on_is_followed() {
    let (theirs, ours) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let a = space(server(theirs.path()).start()).await;
    let also = url(&theirs.path().join("store"));
    let b = space(server(ours.path()).flag("--cold-also", also).start()).await;
    let first = Tensor::seeded(DType::UInt8, &[9, 9], 1);
    a.put_with(&json!({"key": "k", "wait": "cold"}), &first)
        .await
        .unwrap();
    let comes = async |key: &str| {
        until("a key", async || {
            b.get(&json!({"key": key}))
                .await
                .ok()
                .map(|got| got.tensor())
        })
        .await
    };
    assert_eq!(comes("k").await.bytes, first.bytes);
    a.put_with(&json!({"key": "gone", "wait": "cold"}), &first)
        .await
        .unwrap();
    let listed = |count: usize| {
        let b = &b;
        async move {
            until("a listing", async || {
                (keys_of(b).await.len() == count).then_some(())
            })
            .await;
        }
    };
    listed(2).await;
    a.act("delete", &json!({"keys": ["gone"]})).await.unwrap();
    listed(1).await;
    refused(b.get(&json!({"key": "gone"})).await, "not_found", &[]);
}

#[tokio::test]
async fn what_is_no_prefix_of_anothers_is_refused() {
    let dir = TempDir::new().unwrap();
    for (also, words) in [
        (url(&dir.path().join("store")), "our own"),
        (url(&dir.path().join("nothing")), "nothing"),
        ("tape://7".to_owned(), "tape://7"),
    ] {
        let exit = server(dir.path()).flag("--cold-also", also).fail();
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains(words), "{}", exit.stderr);
    }
    assert!(!dir.path().join("nothing").exists());
}
