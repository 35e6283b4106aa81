//! Namespaces: `namespace_set`, limits, `clear`, `namespaces`, the settings file, and a flood of names.

use std::sync::Arc;

use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk};

async fn set(space: &Space, settings: Value) -> Value {
    let members = json!({"settings": settings});
    space.act("namespace_set", &members).await.unwrap()
}

async fn described(space: &Space) -> Value {
    let reply = space.act_raw("namespaces", "").await.unwrap();
    let reply: Value = serde_json::from_slice(&reply[0]).unwrap();
    let all = reply["namespaces"].as_array().unwrap();
    let own = all
        .iter()
        .find(|one| one["namespace"] == space.namespace.as_str());
    own.cloned().unwrap()
}

#[tokio::test]
async fn settings_are_what_puts_do_not_say() {
    let space = Space::new("settings").await;
    let (one, two) = (
        Tensor::sample(DType::Float32, &[2]),
        Tensor::sample(DType::Float32, &[3]),
    );
    let reply = set(&space, json!({"mode": "replace", "default_ttl_ms": 60_000})).await;
    let expected = json!({"mode": "replace", "default_ttl_ms": 60_000});
    assert_eq!(reply["settings"], expected);
    assert_eq!(reply["namespace"], space.namespace.as_str());
    space.put("a", &one).await.unwrap();
    space.put("a", &two).await.unwrap();
    assert_eq!(space.tensor("a").await.unwrap(), two);
    let rows = Tensor::sample(DType::Float32, &[1, 5]);
    space.bulk(bulk(&["a"], &rows)).await.unwrap();
    assert_eq!(space.tensor("a").await.unwrap(), rows.cells()[0]);
    let says = json!({"key": "b", "ttl_ms": 3_600_000, "mode": "create"});
    space.put_with(&says, &one).await.unwrap();
    refused(space.put_with(&says, &two).await, "already_exists", &[]);
    let seen = space
        .act("exists", &json!({"keys": ["a", "b"]}))
        .await
        .unwrap();
    assert!(seen["keys"][0]["ttl_ms"].as_u64().unwrap() <= 60_000);
    assert!(seen["keys"][1]["ttl_ms"].as_u64().unwrap() > 60_000);

    let version = reply["version"].clone();
    let asked = set(&space, json!({})).await;
    assert_eq!(
        (&asked["version"], &asked["settings"]),
        (&version, &expected)
    );
    let change = json!({"settings": {"mode": null}, "if_version": "0"});
    let words = ["if_version=`0`", version.as_str().unwrap()];
    refused(
        space.act("namespace_set", &change).await,
        "failed_precondition",
        &words,
    );
    let change = json!({"settings": {"mode": null}, "if_version": version});
    let reply = space.act("namespace_set", &change).await.unwrap();
    assert_eq!(reply["settings"], json!({"default_ttl_ms": 60_000}));
    refused(space.put("b", &two).await, "already_exists", &[]);
    let own = described(&space).await;
    assert_eq!(own["settings"], json!({"default_ttl_ms": 60_000}));
    assert_eq!(own["settings_version"], reply["version"]);
}

#[tokio::test]
async fn a_namespace_at_its_limit_lets_its_own_entries_go() {
    let (space, other) = (Space::new("limited").await, Space::new("unlimited").await);
    let tensor = Tensor::sample(DType::UInt8, &[1000]);
    other.put("a", &tensor).await.unwrap();
    set(&space, json!({"entries_max": 5, "bytes_max": 4_500})).await;
    for n in 0..20 {
        space.put(&format!("k{n}"), &tensor).await.unwrap();
    }
    refused(space.tensor("x").await, "not_found", &[]);
    let own = described(&space).await;
    assert_eq!(
        (&own["entries"], &own["bytes"], &own["evicted"]),
        (&json!(4), &json!(4_000), &json!(16))
    );
    assert_eq!((&own["misses"], &own["expired"]), (&json!(1), &json!(0)));
    assert_eq!(other.tensor("a").await.unwrap(), tensor);
    let large = Tensor::sample(DType::UInt8, &[5_000]);
    let words = ["limit=`bytes_max` value=`4500`"];
    refused(
        space.put("large", &large).await,
        "resource_exhausted",
        &words,
    );
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    space.act("pin", &json!({"keys": keys})).await.unwrap();
    refused(
        space.put("more", &tensor).await,
        "resource_exhausted",
        &words,
    );
    let reply = set(&space, json!({"entries_max": null, "bytes_max": 1_000_000})).await;
    assert_eq!(reply["settings"], json!({"bytes_max": 1_000_000}));
    space.put("more", &tensor).await.unwrap();
    let metrics = space.server.metrics();
    assert!(metrics.count("bowstring_namespaces") >= 2);
}

#[tokio::test]
async fn clear_deletes_one_namespace() {
    let (space, other) = (Space::new("clear").await, Space::new("beside").await);
    let rows = Tensor::sample(DType::Float32, &[3, 2]);
    for space in [&space, &other] {
        space.bulk(bulk(&["a", "b", "c"], &rows)).await.unwrap();
    }
    space.act("pin", &json!({"keys": ["a"]})).await.unwrap();
    set(&space, json!({"entries_max": 7})).await;
    for members in [
        json!({}),
        json!({"confirm": false}),
        json!({"confirm": "yes"}),
    ] {
        refused(
            space.act("clear", &members).await,
            "invalid_argument",
            &["confirm"],
        );
    }
    refused(
        space.act_raw("clear", "{\"confirm\": true}").await,
        "invalid_argument",
        &["namespace"],
    );
    let reply = space.act("clear", &json!({"confirm": true})).await.unwrap();
    assert_eq!(reply, json!({"deleted": 3}));
    refused(space.tensor("a").await, "not_found", &[]);
    assert_eq!(other.tensor("a").await.unwrap(), rows.cells()[0]);
    let own = described(&space).await;
    assert_eq!(
        (&own["entries"], &own["settings"]),
        (&json!(0), &json!({"entries_max": 7}))
    );
    let again = space.act("clear", &json!({"confirm": true})).await.unwrap();
    assert_eq!(again, json!({"deleted": 0}));
}

#[tokio::test]
async fn the_settings_file_wins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bowstring.toml");
    std::fs::write(
        &file,
        "[namespace.\"fixed\"]\nbytes_max = 1000\nmode = \"keep\"\n",
    )
    .unwrap();
    let server = Arc::new(
        Server::builder()
            .memory("64MiB")
            .flag("--config", &file)
            .start(),
    );
    let mut space = Space::on(Arc::clone(&server), "fixed").await;
    space.namespace = "fixed".to_owned();
    let own = described(&space).await;
    assert_eq!(own["settings"], json!({"bytes_max": 1000, "mode": "keep"}));
    let change = json!({"settings": {"bytes_max": 2000}});
    let words = ["settings file", "bytes_max"];
    refused(
        space.act("namespace_set", &change).await,
        "failed_precondition",
        &words,
    );
    let reply = set(&space, json!({"entries_max": 3, "bytes_max": 1000})).await;
    assert_eq!(reply["settings"]["entries_max"], 3);
    let one = Tensor::sample(DType::UInt8, &[10]);
    space.put("a", &one).await.unwrap();
    let other = Tensor::sample(DType::UInt8, &[20]);
    assert_eq!(space.put("a", &other).await.unwrap()["existed"], 1);
    let sample = "bowstring_namespace_bytes_max{namespace=\"fixed\"}";
    assert_eq!(server.metrics().count(sample), 1000);
}

#[tokio::test]
async fn wrong_settings() {
    let space = Space::new("wrong-settings").await;
    let cases = [
        (json!({"colour": 1}), "invalid_argument", "colour"),
        (json!({"entries_max": 0}), "invalid_argument", "entries_max"),
        (
            json!({"bytes_max": "many"}),
            "invalid_argument",
            "bytes_max",
        ),
        (
            json!({"default_ttl_ms": 0}),
            "invalid_argument",
            "time to live",
        ),
        (json!({"mode": "overwrite"}), "invalid_argument", "mode"),
        (json!([]), "invalid_argument", "settings"),
        (
            json!({"write_policy": "write_through"}),
            "unimplemented",
            "write_policy",
        ),
        (
            json!({"compression": "lz4"}),
            "unimplemented",
            "compression",
        ),
    ];
    for (settings, code, word) in cases {
        let change = json!({"settings": settings});
        refused(space.act("namespace_set", &change).await, code, &[word]);
    }
    refused(
        space.act("namespace_set", &json!({})).await,
        "invalid_argument",
        &["settings"],
    );
    let trivial = json!({"write_policy": "memory", "compression": "zstd", "admit": "hot"});
    assert_eq!(set(&space, trivial.clone()).await["settings"], trivial);
}

/// More namespaces than there may be: the rest is refused by name, metrics stay few, and who was
/// there before is served.
#[tokio::test]
async fn a_flood_of_namespaces() {
    let server = Arc::new(Server::builder().memory("16MiB").start());
    let mut space = Space::on(Arc::clone(&server), "first").await;
    let tensor = Tensor::sample(DType::UInt8, &[8]);
    space.put("a", &tensor).await.unwrap();
    let first = space.namespace.clone();
    let max = server.metrics().count("bowstring_namespaces_limit");
    assert!((64..=1_000).contains(&max), "{max}");
    for n in 1..max + 20 {
        space.namespace = format!("tiny-{n:05}");
        let put = space.put("a", &tensor).await;
        if n < max {
            put.unwrap();
        } else {
            let words = ["limit=`namespaces_max`", &format!("value=`{max}`")];
            refused(put, "resource_exhausted", &words);
        }
    }
    let metrics = server.metrics();
    assert_eq!(metrics.count("bowstring_namespaces"), max);
    assert_eq!(metrics.count("bowstring_metric_series_dropped"), 0);
    assert!(metrics.len() <= 1_000, "{}", metrics.len());
    space.namespace = first;
    assert_eq!(space.tensor("a").await.unwrap(), tensor);
    // Listed a page at a time.
    let mut listed: Vec<String> = Vec::new();
    let mut asked = json!({"limit": 50});
    loop {
        let reply = space
            .act_raw("namespaces", asked.to_string())
            .await
            .unwrap();
        let reply: Value = serde_json::from_slice(&reply[0]).unwrap();
        let page = reply["namespaces"].as_array().unwrap();
        assert!(page.len() <= 50);
        listed.extend(
            page.iter()
                .map(|one| one["namespace"].as_str().unwrap().to_owned()),
        );
        if reply.get("more") != Some(&json!(true)) {
            break;
        }
        asked["after"] = json!(listed.last());
    }
    assert_eq!(listed.len() as u64, max);
    assert!(listed.is_sorted());
}
