//! Settings of namespaces are in the cold tier's store: there again after a restart, a kill, and with a successor.

use std::path::Path;
use std::sync::Arc;

use bowstring_tests::{Builder, Call, FaultyDisk, Folder, How, Server};
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::space::{Space, refused};
use crate::tensor::Tensor;

fn url(dir: &Path) -> String {
    format!("file://{}", dir.join("store").display())
}

fn over(dir: &TempDir, with_state: bool) -> Builder {
    let builder = Server::builder()
        .memory("64MiB")
        .flag("--cold", url(dir.path()));
    match with_state {
        true => builder.flag("--state-dir", dir.path().join("state")),
        false => builder,
    }
}

async fn space(server: Server) -> Space {
    let mut space = Space::on(Arc::new(server), "kept").await;
    space.namespace = "kept".to_owned();
    space
}

fn inner(space: Space) -> Server {
    let Space { server, client, .. } = space;
    drop(client);
    Arc::into_inner(server).unwrap()
}

/// What is set, and its version.
async fn set(space: &Space, settings: Value) -> (Value, Value) {
    let members = json!({"settings": settings});
    let reply = space.act("namespace_set", &members).await.unwrap();
    (reply["settings"].clone(), reply["version"].clone())
}

async fn is_set(space: &Space) -> (Value, Value) {
    set(space, json!({})).await
}

/// Two puts of a key: `mode` is what they do not say, and only one entry may be there.
async fn is_heeded(space: &Space) {
    for len in [3, 5] {
        for key in ["a", "b"] {
            let tensor = Tensor::sample(DType::UInt8, &[len]);
            space.put(key, &tensor).await.unwrap();
            assert_eq!(space.tensor(key).await.unwrap(), tensor);
        }
    }
    let metrics = space.server.metrics();
    let entries = metrics.count("bowstring_namespace_entries{namespace=\"kept\"}");
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn what_was_set_is_set_after_a_stop_and_after_a_kill() {
    for with_state in [true, false] {
        let dir = TempDir::new().unwrap();
        let builder = over(&dir, with_state);
        let server = space(builder.start()).await;
        set(&server, json!({"default_ttl_ms": 60_000})).await;
        let change = json!({"default_ttl_ms": null, "mode": "replace", "entries_max": 1});
        let first = set(&server, change).await;
        assert_eq!(first.0, json!({"mode": "replace", "entries_max": 1}));
        is_heeded(&server).await;
        inner(server).kill();

        let server = space(builder.start()).await;
        assert_eq!(is_set(&server).await, first, "after a kill");
        is_heeded(&server).await;
        let second = set(&server, json!({"compression": "zstd"})).await;
        assert_eq!(inner(server).stop().await, Some(0));

        let server = space(builder.start()).await;
        assert_eq!(is_set(&server).await, second, "after a stop");
        let stale = json!({"settings": {"mode": "keep"}, "if_version": first.1});
        refused(
            server.act("namespace_set", &stale).await,
            "failed_precondition",
            &["if_version"],
        );
        let fresh = json!({"settings": {"mode": null, "entries_max": null, "compression": null}, "if_version": second.1});
        let reply = server.act("namespace_set", &fresh).await.unwrap();
        assert_eq!(reply["settings"], json!({}));
        let third = (reply["settings"].clone(), reply["version"].clone());
        server
            .act("clear", &json!({"confirm": true}))
            .await
            .unwrap();
        inner(server).kill();

        let server = space(builder.start()).await;
        assert_eq!(is_set(&server).await, third, "what was taken back is so");
    }
}

#[tokio::test]
async fn a_store_that_fails_changes_nothing_and_says_so() {
    let (store, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let disk = FaultyDisk::new(store.path(), state.path());
    let builder = Server::builder()
        .memory("64MiB")
        .flag("--cold", format!("file://{}", store.path().display()))
        .flag("--state-dir", state.path())
        .variable("BOWSTRING_COLD_RETRY", "200ms");
    let builder = disk.under(builder);
    let server = space(builder.start()).await;
    let before = set(&server, json!({"mode": "keep"})).await;
    for how in [How::Full, How::Broken] {
        disk.fail(
            &Call::ALL.map(|call| (Folder::Store, call)),
            how,
            0,
            u64::MAX,
        );
        let change = json!({"settings": {"mode": "replace"}});
        let words = ["cannot be kept", "stay what they were"];
        refused(
            server.act("namespace_set", &change).await,
            "unavailable",
            &words,
        );
        assert_eq!(is_set(&server).await, before);
        disk.heal();
    }
    let after = set(&server, json!({"entries_max": 3})).await;
    assert_eq!(after.0, json!({"mode": "keep", "entries_max": 3}));
    inner(server).kill();
    let server = space(builder.start()).await;
    assert_eq!(is_set(&server).await, after);
}

#[tokio::test]
async fn a_damaged_record_is_told_and_no_failed_start() {
    let dir = TempDir::new().unwrap();
    let builder = over(&dir, true);
    let server = space(builder.start()).await;
    set(&server, json!({"mode": "keep"})).await;
    assert_eq!(inner(server).stop().await, Some(0));
    let record = dir.path().join("store/settings/00000000000000000001.set");
    let mut bytes = std::fs::read(&record).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&record, bytes).unwrap();

    let server = space(builder.start()).await;
    let told = server.server.said("what a record says is set").await;
    assert!(
        told.contains("settings/00000000000000000001.set") && told.contains("checksum"),
        "{told}"
    );
    let metrics = server.server.metrics();
    assert_eq!(metrics.count("bowstring_cold_damaged_total"), 1);
    assert_eq!(is_set(&server).await, (json!({}), json!("0")));
    let again = set(&server, json!({"mode": "replace"})).await;
    inner(server).kill();
    let server = space(builder.start()).await;
    assert_eq!(is_set(&server).await, again);
}

/// The settings file's are its own, each server has its own, and a successor has its predecessor's.
#[tokio::test]
async fn files_others_and_successors() {
    let (theirs, ours) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let other = space(over(&theirs, true).start()).await;
    set(&other, json!({"mode": "keep", "entries_max": 9})).await;
    assert_eq!(inner(other).stop().await, Some(0));

    let file = ours.path().join("bowstring.toml");
    std::fs::write(&file, "[namespace.\"kept\"]\nbytes_max = 1000\n").unwrap();
    let builder = over(&ours, true)
        .flag("--takeover", ours.path().join("takeover"))
        .flag("--cold-also", url(theirs.path()));
    let first = space(builder.clone().flag("--config", &file).start()).await;
    let both = json!({"mode": "replace", "bytes_max": 1000});
    assert_eq!(set(&first, json!({"mode": "replace"})).await.0, both);
    // Once with the file, once without.
    let mut server = first;
    for (builder, expected) in [
        (builder.clone().flag("--config", &file), both),
        (builder.clone(), json!({"mode": "replace"})),
    ] {
        let successor = builder.start();
        assert_eq!(inner(server).ended().await, Some(0));
        server = space(successor).await;
        assert_eq!(is_set(&server).await.0, expected);
    }
    let last = set(&server, json!({"entries_max": 5})).await;
    assert_eq!(last.0, json!({"mode": "replace", "entries_max": 5}));
    inner(server).kill();
    let server = space(builder.start()).await;
    assert_eq!(is_set(&server).await, last);
}
