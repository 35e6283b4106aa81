//! Loads: many puts that become visible at once.

use std::sync::Arc;

use bowstring_tests::{Server, until};
use bowstring_wire::dtype::DType;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::space::{Space, encoded, refused};
use crate::tensor::{Tensor, bulk};

async fn begin(space: &Space, members: Value) -> String {
    let reply = space.act("begin_load", &members).await.unwrap();
    reply["load_id"].as_str().unwrap().to_owned()
}

async fn end(
    space: &Space,
    action: &str,
    load: &str,
) -> Result<Value, arrow_flight::error::FlightError> {
    space.act(action, &json!({"load_id": load})).await
}

async fn keys(space: &Space) -> Vec<String> {
    let got = space.get(&json!({"prefix": ""})).await.unwrap();
    assert_eq!(got.closing("gone").unwrap(), Vec::<String>::new());
    got.texts("key")
        .iter()
        .map(|key| (*key).to_owned())
        .collect()
}

/// A namespace with `a` and `b`, and a load of `b` and `c` in it, put singly and in bulk.
async fn loaded(name: &str, replace_all: bool) -> (Space, Tensor, String) {
    let space = Space::new(name).await;
    let tensors = Tensor::sample(DType::Float32, &[4, 3]);
    let cells = tensors.cells();
    space.put("a", &cells[0]).await.unwrap();
    space.put("b", &cells[1]).await.unwrap();
    let load = begin(
        &space,
        json!({"replace_all": replace_all, "size_bytes": 1000}),
    )
    .await;
    let rows = Tensor::sample(DType::Float32, &[2, 3]);
    let reply = space
        .bulk_with(&json!({"load_id": load}), bulk(&["c", "d"], &rows))
        .await
        .unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(2), &json!(0))
    );
    let reply = space
        .put_with(&json!({"load_id": load, "key": "b"}), &cells[3])
        .await
        .unwrap();
    assert_eq!(reply["stored"], 1);
    assert_eq!(keys(&space).await, ["a", "b"], "nothing shows yet");
    assert_eq!(space.tensor("b").await.unwrap(), cells[1]);
    refused(space.tensor("c").await, "not_found", &[]);
    (space, tensors, load)
}

#[tokio::test]
async fn a_merged_load_shows_when_it_is_committed_and_goes_when_it_is_rolled_back() {
    let (space, tensors, load) = loaded("load-merge", false).await;
    let reply = end(&space, "commit_load", &load).await.unwrap();
    assert_eq!(reply, json!({"load_id": load, "entries": 3, "bytes": 36}));
    assert_eq!(
        end(&space, "commit_load", &load).await.unwrap(),
        reply,
        "a retry"
    );
    assert_eq!(keys(&space).await, ["a", "b", "c", "d"]);
    assert_eq!(space.tensor("b").await.unwrap(), tensors.cells()[3]);
    let got = space.get(&json!({"keys": ["d", "a", "x"]})).await.unwrap();
    assert_eq!(got.texts("key"), ["d", "a"]);
    refused(
        end(&space, "abort_load", &load).await,
        "failed_precondition",
        &["committed"],
    );
    let late = space
        .put_with(&json!({"load_id": load, "key": "e"}), &tensors)
        .await;
    refused(late, "failed_precondition", &["committed", &load]);

    space.act("delete", &json!({"keys": ["a"]})).await.unwrap();
    end(&space, "rollback_load", &load).await.unwrap();
    assert_eq!(keys(&space).await, ["b"]);
    assert_eq!(space.tensor("b").await.unwrap(), tensors.cells()[1]);
    let again = end(&space, "commit_load", &load).await;
    refused(again, "failed_precondition", &["rolled back"]);
}

#[tokio::test]
async fn a_load_that_replaces_all() {
    let (space, tensors, load) = loaded("load-all", true).await;
    end(&space, "commit_load", &load).await.unwrap();
    assert_eq!(keys(&space).await, ["b", "c", "d"]);
    refused(space.tensor("a").await, "not_found", &[]);
    space.put("z", &tensors).await.unwrap();
    end(&space, "rollback_load", &load).await.unwrap();
    assert_eq!(keys(&space).await, ["a", "b", "z"], "what came after stays");
    assert_eq!(space.tensor("b").await.unwrap(), tensors.cells()[1]);
}

#[tokio::test]
async fn an_aborted_load_and_ids_that_are_none() {
    let (space, tensors, load) = loaded("load-abort", true).await;
    end(&space, "abort_load", &load).await.unwrap();
    end(&space, "abort_load", &load).await.unwrap();
    assert_eq!(keys(&space).await, ["a", "b"]);
    refused(
        end(&space, "commit_load", &load).await,
        "failed_precondition",
        &["aborted"],
    );
    refused(
        end(&space, "rollback_load", &load).await,
        "failed_precondition",
        &["not committed"],
    );
    for action in ["commit_load", "abort_load", "rollback_load"] {
        refused(
            end(&space, action, "7-00000000").await,
            "not_found",
            &["7-00000000"],
        );
        refused(
            space.act(action, &json!({})).await,
            "invalid_argument",
            &["load_id"],
        );
    }
    let other = Space::new("load-elsewhere").await;
    let load = begin(&space, json!({})).await;
    refused(
        end(&other, "commit_load", &load).await,
        "not_found",
        &[&load],
    );
    let stray = other
        .put_with(&json!({"load_id": load, "key": "e"}), &tensors)
        .await;
    refused(stray, "not_found", &[&load]);
    let stray = other
        .bulk_with(
            &json!({"load_id": load}),
            bulk(&["a", "b", "c", "d"], &tensors),
        )
        .await;
    refused(stray, "not_found", &[&load]);
    end(&space, "abort_load", &load).await.unwrap();
}

/// A load that finds no room is refused; what it is to replace does not go for it.
#[tokio::test]
async fn what_shows_stays_while_a_load_fills_memory() {
    let server = Server::builder()
        .memory("64MiB")
        .flag("--put-idle", "10m")
        .start();
    let server = Arc::new(server);
    let space = Space::on(server.clone(), "load-sparing").await;
    let tensors = Tensor::sample(DType::Float32, &[28, 1 << 18]);
    let (cells, old) = (tensors.cells(), |n: usize| format!("old{n:02}"));
    for (n, cell) in cells.iter().enumerate() {
        space.put(&old(n), cell).await.unwrap();
    }
    // Room that nothing can be evicted from.
    let other = Space::on(server.clone(), "load-sparing-other").await;
    let batch = Tensor::sample(DType::UInt8, &[1, 14 << 20]).batch();
    let messages = encoded(other.path("open"), batch.schema(), vec![batch]);
    let open = tokio::spawn(async move {
        let put = other.put_messages(messages.chain(stream::pending())).await;
        panic!("it is never ended: {put:?}");
    });
    until("the put to have its room", async || {
        let reserved = server.metrics().count("bowstring_puts_reserved_bytes");
        (reserved >= 14 << 20).then_some(())
    })
    .await;

    let load = begin(&space, json!({"replace_all": true})).await;
    let mut stored = 0;
    let full = loop {
        let members = json!({"load_id": load, "key": format!("new{stored}")});
        match space.put_with(&members, &cells[stored]).await {
            Ok(_) => stored += 1,
            Err(full) => break full,
        }
    };
    let words = ["what its namespace shows", "limit=`memory`", "loads_bytes"];
    refused(Err::<(), _>(full), "resource_exhausted", &words);
    assert!(stored >= 8, "{stored}");
    let rows = bulk(&["r0", "r1", "r2", "r3"], &tensors.rows(0..4));
    match space.bulk_with(&json!({"load_id": load}), rows).await {
        Ok(reply) => assert_ne!(reply["errors_total"], 0),
        full => drop(refused(full, "resource_exhausted", &["bytes="])),
    }
    assert_eq!(keys(&space).await, (0..28).map(old).collect::<Vec<_>>());
    for (n, cell) in cells.iter().enumerate() {
        assert_eq!(space.tensor(&old(n)).await.unwrap().bytes, cell.bytes);
    }

    let reply = end(&space, "commit_load", &load).await.unwrap();
    assert!(reply["entries"].as_u64().unwrap() >= stored as u64);
    assert_eq!(space.tensor("new0").await.unwrap().bytes, cells[0].bytes);
    refused(space.tensor(&old(0)).await, "not_found", &[]);
    open.abort();
}

#[tokio::test]
async fn a_load_has_a_limit_and_is_forgotten() {
    let server = Server::builder()
        .memory("64MiB")
        .flag("--load-idle", "3s")
        .start();
    let space = Space::on(server.into(), "load-limit").await;
    let tensors = Tensor::sample(DType::Float32, &[1 << 18]);
    space.put("old", &tensors).await.unwrap();
    let declared = space
        .act("begin_load", &json!({"size_bytes": 60 << 20}))
        .await;
    refused(declared, "resource_exhausted", &["load_bytes", "value="]);
    let load = begin(&space, json!({"replace_all": true})).await;
    let mut stored = 0;
    let full = loop {
        let members = json!({"load_id": load, "key": format!("k{stored}")});
        match space.put_with(&members, &tensors).await {
            Ok(_) => stored += 1,
            Err(full) => break full,
        }
    };
    refused(Err::<(), _>(full), "resource_exhausted", &["load_bytes"]);
    assert!(stored >= 16, "{stored}");
    assert_eq!(space.tensor("old").await.unwrap().bytes, tensors.bytes);
    until("the load to be forgotten", async || {
        let stats = space.server.stats().await;
        (stats.counters["loads_expired"].0 == 1).then_some(())
    })
    .await;
    refused(
        end(&space, "commit_load", &load).await,
        "not_found",
        &[&load],
    );
    assert_eq!(keys(&space).await, ["old"]);
    space.put("new", &tensors).await.unwrap();
}
