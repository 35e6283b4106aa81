//! How long entries stay: `expire`, `pin`, `unpin`, and a put's `ttl_ms` and `pin`.

use std::sync::Arc;

use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk};

async fn filled(name: &str) -> (Space, Tensor) {
    let space = Space::new(name).await;
    let tensors = Tensor::sample(DType::Float32, &[3, 2]);
    space.bulk(bulk(&["a", "b", "c"], &tensors)).await.unwrap();
    (space, tensors)
}

fn of_keys(found: &[(&str, bool)]) -> Value {
    let keys = found
        .iter()
        .map(|(key, found)| json!({"key": key, "found": found}));
    json!({"keys": keys.collect::<Vec<_>>()})
}

async fn seen(space: &Space, key: &str) -> Value {
    let reply = space.act("exists", &json!({"keys": [key]})).await.unwrap();
    reply["keys"][0].clone()
}

#[tokio::test]
async fn expire_gives_another_time_to_live_or_none() {
    let (space, _) = filled("expire").await;
    let reply = space
        .act(
            "expire",
            &json!({"keys": ["a", "x", "b"], "ttl_ms": 3_600_000}),
        )
        .await
        .unwrap();
    assert_eq!(reply, of_keys(&[("a", true), ("x", false), ("b", true)]));
    let left = seen(&space, "a").await["ttl_ms"].as_u64().unwrap();
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
    assert!(seen(&space, "c").await.get("ttl_ms").is_none());

    space
        .act("expire", &json!({"keys": ["a"], "ttl_ms": null}))
        .await
        .unwrap();
    assert_eq!(seen(&space, "a").await, json!({"key": "a", "found": true}));
    space
        .act("expire", &json!({"keys": ["b"], "ttl_ms": 1}))
        .await
        .unwrap();
    bowstring_tests::until("its expiry", async || {
        (seen(&space, "b").await["found"] == false).then_some(())
    })
    .await;
    refused(space.tensor("b").await, "not_found", &[]);
    let again = json!({"keys": ["b"], "ttl_ms": 1_000});
    assert_eq!(
        space.act("expire", &again).await.unwrap(),
        of_keys(&[("b", false)])
    );
}

#[tokio::test]
async fn what_expires_is_freed_though_nobody_asks_for_it() {
    let server = Arc::new(Server::builder().memory("64MiB").start());
    let space = Space::on(Arc::clone(&server), "freed").await;
    let tensors = Tensor::sample(DType::Float32, &[3, 2]);
    let members = json!({"ttl_ms": 200});
    space
        .bulk_with(&members, bulk(&["a", "b", "c"], &tensors))
        .await
        .unwrap();
    bowstring_tests::until("three expiries", async || {
        (server.metrics().count("bowstring_entries") == 0).then_some(())
    })
    .await;
    let metrics = server.metrics();
    assert_eq!(
        metrics.count("bowstring_unlinked_total{reason=\"expired\"}"),
        3
    );
    assert_eq!(metrics.count("bowstring_misses_total"), 0);
}

#[tokio::test]
async fn pinned_keys_stay_when_others_go() {
    let server = Arc::new(Server::builder().memory("32MiB").start());
    let space = Space::on(Arc::clone(&server), "pins").await;
    let small = Tensor::sample(DType::Float32, &[100]);
    let large = Tensor::sample(DType::UInt8, &[1 << 20]);
    space.put("a", &small).await.unwrap();
    space.put("free", &small).await.unwrap();
    let pinned = json!({"key": "b", "pin": true});
    assert_eq!(space.put_with(&pinned, &large).await.unwrap()["stored"], 1);
    assert_eq!(space.put_with(&pinned, &large).await.unwrap()["existed"], 1);
    let reply = space
        .act("pin", &json!({"keys": ["a", "x"]}))
        .await
        .unwrap();
    assert_eq!(reply, of_keys(&[("a", true), ("x", false)]));
    for key in ["a", "b"] {
        let seen = seen(&space, key).await;
        assert_eq!(seen, json!({"key": key, "found": true, "pinned": true}));
    }
    for n in 0..60 {
        space.put(&format!("n{n}"), &large).await.unwrap();
    }
    assert_eq!(space.tensor("a").await.unwrap(), small);
    assert_eq!(space.tensor("b").await.unwrap(), large);
    refused(space.tensor("free").await, "not_found", &[]);
    let metrics = server.metrics();
    assert_eq!(metrics.count("bowstring_pinned_entries"), 2);
    assert!(metrics.count("bowstring_pinned_bytes") > 1 << 20);

    // Replaced, it is still the key that is pinned.
    let replace = json!({"key": "b", "mode": "replace"});
    space.put_with(&replace, &small).await.unwrap();
    assert_eq!(seen(&space, "b").await["pinned"], true);
    let described = space
        .act("describe", &json!({"keys": ["b"]}))
        .await
        .unwrap();
    assert_eq!(described["keys"][0]["pinned"], true);
    let reply = space
        .act("unpin", &json!({"keys": ["b", "x"]}))
        .await
        .unwrap();
    assert_eq!(reply, of_keys(&[("b", true), ("x", false)]));
    assert_eq!(seen(&space, "b").await, json!({"key": "b", "found": true}));
    assert_eq!(
        space.act("delete", &json!({"keys": ["a"]})).await.unwrap()["deleted"],
        1
    );
    let metrics = server.metrics();
    assert_eq!(metrics.count("bowstring_pinned_entries"), 0);
    assert_eq!(metrics.count("bowstring_pinned_bytes"), 0);
}

#[tokio::test]
async fn too_much_cannot_be_pinned() {
    let server = Arc::new(Server::builder().memory("32MiB").start());
    let space = Space::on(Arc::clone(&server), "too-much").await;
    let tensors = Tensor::sample(DType::UInt8, &[20, 1 << 20]);
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (key, tensor) in names.iter().zip(tensors.cells()) {
        space.put(key, &tensor).await.unwrap();
    }
    // Its value moves with what else takes memory.
    let words = ["limit=`pinned_bytes_max` value=`"];
    refused(
        space.act("pin", &json!({"keys": keys})).await,
        "resource_exhausted",
        &words,
    );
    let metrics = server.metrics();
    assert_eq!(metrics.count("bowstring_pinned_entries"), 0, "all or none");
    assert_eq!(metrics.count("bowstring_pins_refused_total"), 1);
    space
        .act("pin", &json!({"keys": &keys[..10]}))
        .await
        .unwrap();
    let more = Tensor::sample(DType::UInt8, &[7 << 20]);
    let pinned = json!({"key": "more", "pin": true});
    refused(
        space.put_with(&pinned, &more).await,
        "resource_exhausted",
        &words,
    );
    refused(space.tensor("more").await, "not_found", &[]);
    assert_eq!(space.put("more", &more).await.unwrap()["stored"], 1);
}

#[tokio::test]
async fn wrong_requests() {
    let (space, _) = filled("wrong").await;
    let cases = [
        ("expire", json!({"keys": ["a"]}), "ttl_ms"),
        ("expire", json!({"ttl_ms": 1}), "keys"),
        ("expire", json!({"keys": ["a"], "ttl_ms": 0}), "ttl_ms"),
        ("expire", json!({"keys": ["a"], "ttl_ms": -5}), "ttl_ms"),
        ("expire", json!({"keys": ["a"], "ttl_ms": "1 h"}), "ttl_ms"),
        (
            "expire",
            json!({"keys": ["a"], "ttl_ms": 5, "prefix": ""}),
            "prefix",
        ),
        ("pin", json!({}), "keys"),
        ("pin", json!({"keys": "a"}), "keys"),
        ("unpin", json!({"keys": [""]}), "keys"),
        ("unpin", json!({"keys": ["a"], "ttl_ms": 5}), "ttl_ms"),
    ];
    for (action, members, word) in cases {
        refused(
            space.act(action, &members).await,
            "invalid_argument",
            &[word],
        );
    }
    assert_eq!(seen(&space, "a").await, json!({"key": "a", "found": true}));
}
