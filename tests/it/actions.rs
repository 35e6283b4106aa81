//! DoAction and ListActions.

use std::sync::Arc;

use bowstring_tests::{Server, within};
use bowstring_wire::dtype::DType;
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk};

async fn filled(name: &str) -> (Space, Tensor) {
    let space = Space::new(name).await;
    let tensors = Tensor::sample(DType::Float32, &[5, 2, 3]);
    space
        .bulk(bulk(&["a", "ab", "abc", "b", "c"], &tensors))
        .await
        .unwrap();
    (space, tensors)
}

#[tokio::test]
async fn exists() {
    let (space, _) = filled("exists").await;
    let found = space
        .act("exists", &json!({"keys": ["a", "b", "x", "c", "a"]}))
        .await
        .unwrap();
    let keys = [
        ("a", true),
        ("b", true),
        ("x", false),
        ("c", true),
        ("a", true),
    ];
    let keys = keys.map(|(key, found)| json!({"key": key, "found": found}));
    assert_eq!(found, json!({"keys": keys, "leading": 2}));
    let none = space.act("exists", &json!({"keys": []})).await.unwrap();
    assert_eq!(none, json!({"keys": [], "leading": 0}));
}

#[tokio::test]
async fn delete() {
    let (space, tensors) = filled("delete").await;
    let reply = space
        .act("delete", &json!({"keys": ["a", "x"]}))
        .await
        .unwrap();
    let keys = json!([{"key": "a", "found": true}, {"key": "x", "found": false}]);
    assert_eq!(reply, json!({"keys": keys, "deleted": 1}));
    refused(space.tensor("a").await, "not_found", &[]);
    let reply = space.act("delete", &json!({"prefix": "ab"})).await.unwrap();
    assert_eq!(reply, json!({"deleted": 2}));

    let described = space
        .act("describe", &json!({"keys": ["b"]}))
        .await
        .unwrap();
    let version = described["keys"][0]["version"].clone();
    let other = json!({"keys": ["b"], "if_version": "1"});
    let said = refused(
        space.act("delete", &other).await,
        "failed_precondition",
        &["version"],
    );
    assert!(said.contains(version.as_str().unwrap()), "{said}");
    assert_eq!(space.tensor("b").await.unwrap(), tensors.cells()[3]);
    let this = json!({"keys": ["b"], "if_version": version});
    assert_eq!(space.act("delete", &this).await.unwrap()["deleted"], 1);
    assert_eq!(
        space.act("delete", &json!({"prefix": ""})).await.unwrap()["deleted"],
        1
    );
    let both = json!({"keys": ["b"], "prefix": ""});
    refused(
        space.act("delete", &both).await,
        "invalid_argument",
        &["prefix"],
    );
    refused(
        space.act("delete", &json!({})).await,
        "invalid_argument",
        &["keys"],
    );
    let two = json!({"keys": ["b", "c"], "if_version": version});
    refused(
        space.act("delete", &two).await,
        "invalid_argument",
        &["if_version"],
    );
}

#[tokio::test]
async fn describe() {
    let (space, _) = filled("describe").await;
    let tensor = Tensor::sample(DType::Complex64, &[2, 3]);
    let members = json!({"key": "d", "metadata": {"m": "1"}, "ttl_ms": 60_000});
    let version = space.put_with(&members, &tensor).await.unwrap()["version"].clone();
    for _ in 0..3 {
        space.tensor("d").await.unwrap();
    }
    let described = space
        .act("describe", &json!({"keys": ["x", "d"]}))
        .await
        .unwrap();
    assert_eq!(described["keys"][0], json!({"key": "x", "found": false}));
    let mut entry = described["keys"][1].clone();
    let ttl = entry.as_object_mut().unwrap().remove("ttl_ms").unwrap();
    assert!(ttl.as_u64().unwrap() <= 60_000);
    let expected = json!({
        "key": "d", "found": true, "dtype": "complex64", "shape": [2, 3], "bytes": 48, "version": version,
        "checksum": tensor.checksum(), "tier": "hot", "metadata": {"m": "1"}, "hits": 3, "pinned": false,
    });
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn what_expired_is_gone() {
    let space = Space::new("expiry").await;
    let tensor = Tensor::sample(DType::Int8, &[3]);
    space
        .put_with(&json!({"key": "a", "ttl_ms": 1}), &tensor)
        .await
        .unwrap();
    bowstring_tests::until("its expiry", async || {
        let found = space.act("exists", &json!({"keys": ["a"]})).await.unwrap();
        (found["leading"] == 0).then_some(())
    })
    .await;
    refused(space.tensor("a").await, "not_found", &[]);
    let found = space
        .act("describe", &json!({"keys": ["a"]}))
        .await
        .unwrap();
    assert_eq!(found["keys"][0], json!({"key": "a", "found": false}));
    assert_eq!(space.put("a", &tensor).await.unwrap()["stored"], 1);
}

#[tokio::test]
async fn stats_and_namespaces_and_metrics_agree() {
    let server = Arc::new(Server::start());
    let spaces = [
        Space::on(server.clone(), "one").await,
        Space::on(server.clone(), "two").await,
    ];
    for (space, rows) in spaces.iter().zip([3, 2]) {
        let tensors = Tensor::sample(DType::Float32, &[rows, 10]);
        space
            .bulk(bulk(&["a", "b", "c"][..rows], &tensors))
            .await
            .unwrap();
    }
    spaces[0].tensor("a").await.unwrap();
    refused(spaces[0].tensor("x").await, "not_found", &[]);
    let replies = spaces[0].act_raw("namespaces", "").await.unwrap();
    let namespaces: Value = serde_json::from_slice(&replies[0]).unwrap();
    let expected = [(3, 120), (2, 80)]
        .iter()
        .zip(&spaces)
        .map(|((entries, bytes), space)| {
            let asked = u64::from(*entries == 3);
            json!({
                "namespace": space.namespace, "entries": entries, "bytes": bytes, "hits": asked,
                "misses": asked, "evicted": 0, "expired": 0, "settings": {},
            })
        });
    assert_eq!(
        namespaces,
        json!({"namespaces": expected.collect::<Vec<_>>()})
    );
    let stats = server.stats().await;
    assert_eq!((stats.entries, stats.bytes, stats.wire), (5, 200, 1));
    assert_eq!(stats.memory.limit_bytes, 256 << 20);
    let used: u64 = stats
        .memory
        .accounts
        .values()
        .map(|account| account.used_bytes)
        .sum();
    assert_eq!(used, stats.memory.used_bytes);
    let count = |name: &str| stats.counters[name].0;
    assert_eq!(
        (count("hits"), count("misses"), count("published")),
        (1, 1, 5)
    );
    let requests = |verb: &str| stats.requests[verb];
    assert_eq!((requests("DoPut").ok, requests("DoPut").failed), (2, 0));
    assert_eq!((requests("DoGet").ok, requests("DoGet").failed), (1, 1));
    assert!(requests("DoPut").received_bytes > 200 && requests("DoGet").sent_bytes > 40);
    assert_eq!(requests("DoAction").in_flight, 1, "this one");
    assert!(!stats.requests.contains_key("DoExchange"));
    assert!(stats.connections >= 2);
    let metrics = server.metrics();
    let count = |name: &str| metrics.count(name);
    assert_eq!(
        (count("bowstring_entries"), count("bowstring_entries_bytes")),
        (5, 200)
    );
    assert_eq!(
        (
            count("bowstring_hits_total"),
            count("bowstring_misses_total")
        ),
        (1, 1)
    );
    assert_eq!(
        count("bowstring_requests_total{verb=\"DoPut\",code=\"ok\"}"),
        2
    );
    assert_eq!(
        count("bowstring_requests_total{verb=\"DoGet\",code=\"not_found\"}"),
        1
    );
    assert_eq!(count("bowstring_memory_limit_bytes"), 256 << 20);
}

#[tokio::test]
async fn every_action_is_listed_with_its_members() {
    let space = Space::new("list-actions").await;
    let mut client = space.clone_client();
    let listed = within("actions", async {
        client.list_actions().await?.try_collect::<Vec<_>>().await
    });
    let listed = listed.await.unwrap();
    let described = |name: &str| {
        let found = listed.iter().find(|action| action.r#type == name);
        found
            .unwrap_or_else(|| panic!("no {name}"))
            .description
            .clone()
    };
    let built = [
        "exists",
        "delete",
        "describe",
        "stats",
        "namespaces",
        "expire",
        "pin",
        "unpin",
        "namespace_set",
        "clear",
        "load",
        "load_status",
        "attach",
        "detach",
        "begin_load",
        "commit_load",
        "abort_load",
        "rollback_load",
        "flush",
        "evict",
        "prewarm",
    ];
    for built in built {
        assert!(!described(built).is_empty(), "{built}");
    }
    assert!(described("delete").contains("if_version"));
    assert_eq!(listed.len(), built.len());
}

#[tokio::test]
async fn bodies_that_are_none() {
    let space = Space::new("bodies").await;
    refused(
        space.act("frobnicate", &json!({})).await,
        "unimplemented",
        &["frobnicate", "exists"],
    );
    refused(
        space
            .act("exists", &json!({"keys": ["a"], "colour": 1}))
            .await,
        "invalid_argument",
        &["colour"],
    );
    refused(space.act_raw("exists", "").await, "invalid_argument", &[]);
    refused(space.act_raw("exists", "[]").await, "invalid_argument", &[]);
    refused(
        space.act_raw("stats", "{\"x\": 1}").await,
        "invalid_argument",
        &["x"],
    );
    refused(
        space.act_raw("exists", "{\"keys\": [\"a\\u0000\"]}").await,
        "invalid_argument",
        &["key"],
    );
}
