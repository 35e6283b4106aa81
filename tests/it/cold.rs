//! What does not fit in memory: found by every verb, moved by `flush`, `evict` and `prewarm`.

use std::sync::Arc;

use bowstring_tests::{Cli, Server, within};
use bowstring_wire::dtype::DType;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk};

/// A server over a directory.
struct Over {
    space: Space,
    _dir: TempDir,
}

async fn over(name: &str) -> Over {
    let dir = TempDir::new().unwrap();
    let server = Server::builder()
        .memory("64MiB")
        .flag("--cold", format!("file://{}/store", dir.path().display()))
        .flag("--state-dir", dir.path().join("state"))
        .start();
    let space = Space::on(Arc::new(server), name).await;
    Over { space, _dir: dir }
}

async fn tier(space: &Space, key: &str) -> Value {
    let reply = space.act("describe", &json!({"keys": [key]})).await;
    reply.unwrap()["keys"][0]["tier"].clone()
}

/// The closing lists and the rows of a get of keys.
async fn rows(space: &Space, keys: &[String]) -> (Vec<String>, Vec<u8>) {
    let got = space.get(&json!({"keys": keys})).await.unwrap();
    let values = crate::tensor::values(&got.batches, "tensor");
    (got.texts("key"), values)
}

#[tokio::test]
async fn every_verb_finds_what_was_evicted() {
    let over = over("found").await;
    let space = &over.space;
    let tensors = Tensor::seeded(DType::Float32, &[3, 5], 7);
    let members = json!({"ttl_ms": 3_600_000});
    space
        .bulk_with(&members, bulk(&["a", "b", "c"], &tensors))
        .await
        .unwrap();
    let hot = space
        .act("describe", &json!({"keys": ["a"]}))
        .await
        .unwrap();
    let reply = space.act("evict", &json!({"keys": ["a", "b", "x"]})).await;
    let found = |key: &str, found: bool| json!({"key": key, "found": found});
    assert_eq!(
        reply.unwrap(),
        json!({"keys": [found("a", true), found("b", true), found("x", false)], "entries": 2})
    );

    let mut cold = space
        .act("describe", &json!({"keys": ["a"]}))
        .await
        .unwrap();
    assert_eq!(cold["keys"][0]["tier"], "cold");
    let mut hot = hot;
    for described in [&mut hot, &mut cold] {
        for differs in ["tier", "ttl_ms", "hits"] {
            described["keys"][0]
                .as_object_mut()
                .unwrap()
                .remove(differs);
        }
    }
    assert_eq!(cold, hot);

    let exists = space
        .act("exists", &json!({"keys": ["a", "c", "b", "x"]}))
        .await;
    let exists = exists.unwrap();
    assert_eq!(exists["leading"], 3);
    assert!(exists["keys"][0]["ttl_ms"].as_u64().unwrap() > 3_000_000);

    let info = space.info(space.path("a")).await.unwrap();
    assert_eq!(info.total_bytes, 20);
    let said: Value = serde_json::from_slice(&info.app_metadata).unwrap();
    assert_eq!(said["tier"], "cold");
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let cells = tensors.cells();
    assert_eq!(space.follow(ticket).await.unwrap().tensor(), cells[0]);

    let many = space
        .info(space.command(&json!({"keys": ["a", "x", "b"]})))
        .await;
    let many = many.unwrap();
    assert_eq!((many.total_records, many.total_bytes), (2, 40));

    let unpinned = space.act("unpin", &json!({"keys": ["b", "x"]})).await;
    assert_eq!(
        unpinned.unwrap(),
        json!({"keys": [found("b", true), found("x", false)]})
    );
    let pinned = space.act("pin", &json!({"keys": ["b"]})).await.unwrap();
    assert_eq!(pinned["keys"], json!([found("b", true)]));
    assert_eq!(tier(space, "b").await, "hot");
    let kept = space.act("evict", &json!({"prefix": ""})).await.unwrap();
    assert_eq!(kept["entries"], 1, "c; b is pinned, a is down");
    let expired = space
        .act("expire", &json!({"keys": ["c"], "ttl_ms": null}))
        .await;
    assert_eq!(expired.unwrap()["keys"], json!([found("c", true)]));
    let again = space.act("exists", &json!({"keys": ["c"]})).await.unwrap();
    assert_eq!(again["keys"][0], found("c", true));
}

#[tokio::test]
async fn many_keys_come_from_below_in_the_order_asked() {
    let over = over("many").await;
    let space = &over.space;
    let names: Vec<String> = (0..1_500).map(|at| format!("k{at:04}")).collect();
    let tensors = Tensor::seeded(DType::UInt8, &[1_500, 700], 3);
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    space.bulk(bulk(&keys, &tensors)).await.unwrap();
    let evicted = space.act("evict", &json!({"prefix": "k"})).await.unwrap();
    assert_eq!(evicted, json!({"entries": 1_500}));
    // Some are in memory, one is missing, and they are asked for backwards.
    let up = space
        .act("prewarm", &json!({"keys": &names[600..640]}))
        .await;
    assert_eq!(up.unwrap()["entries"], 40);
    let gone = space
        .act("delete", &json!({"keys": ["k0007"]}))
        .await
        .unwrap();
    assert_eq!(gone["deleted"], 1);

    let asked: Vec<String> = names.iter().rev().cloned().collect();
    let (found, values) = rows(space, &asked).await;
    let there = |key: &&String| *key != "k0007";
    let expected: Vec<String> = asked.iter().filter(there).cloned().collect();
    assert_eq!(found, expected);
    let cells = tensors.cells();
    let bytes = names.iter().zip(&cells).rev().filter(|(key, _)| there(key));
    let bytes: Vec<u8> = bytes.flat_map(|(_, cell)| cell.bytes.clone()).collect();
    assert!(
        values == bytes,
        "the tensors that were put, in the order asked"
    );

    // Of one dtype and shape, wherever they are.
    space
        .put("k0001", &Tensor::sample(DType::Int8, &[2]))
        .await
        .unwrap_err();
    space
        .put("other", &Tensor::sample(DType::Int8, &[2]))
        .await
        .unwrap();
    space
        .act("evict", &json!({"keys": ["other"]}))
        .await
        .unwrap();
    let mut mixed = names[..1_400].to_vec();
    mixed.push("other".to_owned());
    refused(
        space
            .get(&json!({"keys": mixed, "max_message_bytes": 65_536}))
            .await,
        "failed_precondition",
        &["`other` is int8[2]"],
    );
    // What has taken a key's place is what is read.
    let replaced = json!({"key": "k0002", "mode": "replace"});
    space.put_with(&replaced, &cells[9]).await.unwrap();
    let (_, values) = rows(space, &names[1..3]).await;
    assert!(values == [cells[1].bytes.clone(), cells[9].bytes.clone()].concat());
}

#[tokio::test]
async fn flush_and_prewarm_by_hand_and_what_is_said_of_it() {
    let over = over("moved").await;
    let space = &over.space;
    let tensors = Tensor::seeded(DType::Float32, &[4, 8], 5);
    space
        .bulk(bulk(&["a/1", "a/2", "b/1", "b/2"], &tensors))
        .await
        .unwrap();
    assert_eq!(
        space.act("flush", &json!({})).await.unwrap(),
        json!({"entries": 4})
    );
    assert_eq!(tier(space, "a/1").await, "hot");
    let stats = space.act_raw("stats", "").await.unwrap();
    let stats: Value = serde_json::from_slice(&stats[0]).unwrap();
    assert_eq!(
        (&stats["cold"]["entries"], &stats["cold"]["written"]),
        (&json!(4), &json!(4))
    );
    let evicted = space.act("evict", &json!({"prefix": ""})).await.unwrap();
    assert_eq!(evicted["entries"], 4);
    let metrics = space.server.metrics();
    assert_eq!(metrics.count("bowstring_cold_entries"), 4);
    assert_eq!(
        metrics.count("bowstring_cold_written_total"),
        4,
        "they were below already"
    );
    assert_eq!(metrics.count("bowstring_entries"), 0);

    let told = |words: &[&str]| {
        let namespace = ["--namespace", &space.namespace];
        let words = words
            .iter()
            .chain(&namespace)
            .map(|word| (*word).to_owned());
        Cli::new(space.server.uri(), words.collect::<Vec<_>>()).told()
    };
    let up = told(&["prewarm", "--prefix", "b/"]);
    assert_eq!(
        (up.code, up.stdout.as_str()),
        (Some(0), "2 keys brought into memory\n")
    );
    assert_eq!(
        (tier(space, "b/2").await, tier(space, "a/2").await),
        (json!("hot"), json!("cold"))
    );
    let down = told(&["evict", "b/1", "x", "--json"]);
    assert_eq!(down.code, Some(1), "x is not there");
    assert_eq!(down.json()[0], json!({"key": "b/1", "found": true}));
    let flushed = told(&["flush"]);
    assert_eq!(flushed.stdout, "1 key in the cold tier\n");
}

#[tokio::test]
async fn without_a_cold_tier_nothing_is_moved() {
    let space = Space::new("nowhere").await;
    let tensors = Tensor::sample(DType::Float32, &[1, 2]);
    space.bulk(bulk(&["a"], &tensors)).await.unwrap();
    for (action, members) in [
        ("flush", json!({})),
        ("evict", json!({"keys": ["a"]})),
        ("prewarm", json!({"prefix": ""})),
    ] {
        refused(
            space.act(action, &members).await,
            "failed_precondition",
            &["--cold"],
        );
    }
    assert_eq!(tier(&space, "a").await, "hot");
    refused(
        space.act("evict", &json!({"keys": [], "prefix": ""})).await,
        "invalid_argument",
        &["exactly one of"],
    );
}

#[tokio::test]
async fn a_listing_has_what_is_below_too() {
    let over = over("listed").await;
    let space = &over.space;
    let names: Vec<String> = (0..2_500).map(|at| format!("k{at:04}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let tensors = Tensor::seeded(DType::UInt8, &[2_500, 16], 3);
    space.bulk(bulk(&keys, &tensors)).await.unwrap();
    let down: Vec<&String> = names.iter().step_by(3).collect();
    space.act("evict", &json!({"keys": down})).await.unwrap();
    for (members, expected) in [
        (json!({"prefix": "k"}), &names[..]),
        (json!({"prefix": "k1", "limit": 7}), &names[1_000..1_007]),
        (
            json!({"after": "k2200", "limit": 1_000_000}),
            &names[2_201..],
        ),
    ] {
        let expression = space.json(&members);
        let mut client = space.clone_client();
        let listed = within("a listing", async {
            let listed = client.list_flights(expression).await.unwrap();
            listed.try_collect::<Vec<_>>().await.unwrap()
        });
        let listed = listed.await;
        let keys = listed
            .iter()
            .map(|info| info.flight_descriptor.clone().unwrap().path[1].clone());
        assert!(keys.eq(expected.iter().cloned()), "{members}");
        let cold = listed.iter().filter(|info| {
            let said: Value = serde_json::from_slice(&info.app_metadata).unwrap();
            said["tier"] == "cold"
        });
        assert!(cold.count() >= expected.len() / 3, "{members}");
    }
}
