//! Loads of files that are not to be: refused, broken, given up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray};
use arrow_flight::Action;
use arrow_flight::error::FlightError;
use bowstring_tests::until;
use futures::StreamExt;
use parquet::basic::Compression;
use serde_json::{Value, json};

use super::{Files, table, write_arrow, write_parquet};
use crate::space::{Space, refused};

#[tokio::test]
async fn only_what_lies_under_a_root_is_read() {
    let files = Files::new("files-roots", &[]).await;
    let outside = files.folder.path().join("database");
    fs::create_dir(&outside).unwrap();
    let batch = table("x", 3, ("key", "tensor"));
    write_parquet(&outside.join("x.parquet"), &batch, Compression::SNAPPY);
    symlink(outside.join("x.parquet"), files.path("link.parquet")).unwrap();
    symlink(&outside, files.path("folder")).unwrap();
    let named = |path: &Path| path.to_str().unwrap().to_owned();
    for name in [
        named(&outside.join("x.parquet")),
        named(&files.path("../database/x.parquet")),
        named(&files.path("link.parquet")),
        named(&files.path("folder/x.parquet")),
        named(&files.path("folder/none.parquet")),
        "/etc/passwd".to_owned(),
        "/dev/zero".to_owned(),
        "relative.parquet".to_owned(),
        "s3://bucket/x.parquet".to_owned(),
    ] {
        files
            .refused(&name, "permission_denied", &["load_roots"])
            .await;
    }
    files
        .refused("", "invalid_argument", &["impossible file"])
        .await;
    files
        .refused(&named(&files.path("none")), "not_found", &["none"])
        .await;
    files
        .refused(
            "s3://me:secret@bucket/x",
            "permission_denied",
            &["file=`bucket/x`"],
        )
        .await;
    assert!(files.keys().await.is_empty());
    let plain = Space::new("no-roots").await;
    refused(
        plain.act("load", &json!({"files": [outside]})).await,
        "permission_denied",
        &["load_roots=`none`"],
    );
    let begun = files.space.server.stats().await.counters["loads_aborted"].0;
    assert_eq!(begun, 0, "nothing was begun");
}

#[tokio::test]
async fn broken_files_and_rows_load_nothing_and_say_where() {
    let files = Files::new("files-broken", &[]).await;
    let good = files.path("a.parquet");
    write_parquet(
        &good,
        &table("a", 3000, ("key", "tensor")),
        Compression::SNAPPY,
    );
    let whole = fs::read(&good).unwrap();
    let arrow = files.path("b.arrow");
    write_arrow(&arrow, &table("b", 3000, ("key", "tensor")));
    let arrow = fs::read(arrow).unwrap();
    fs::remove_file(files.path("b.arrow")).unwrap();
    let bad = files.path("bad.parquet");
    let name = bad.to_str().unwrap();
    for bytes in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1],
        &whole[..3],
        b"",
        b"PAR1PAR1",
        &arrow[..arrow.len() / 2],
        b"ARROW1\0\0",
        b"hello, world",
    ] {
        fs::write(&bad, bytes).unwrap();
        // Behind one that is fine.
        let both = json!({"files": [good, bad]});
        files.broken(&both, &[name]).await;
    }
    // A bit here and there: what it says then is a load, or an error.
    for (number, at) in (0..arrow.len()).step_by(arrow.len() / 40).enumerate() {
        let source = if number % 2 == 0 { &whole } else { &arrow };
        let mut bytes = source.clone();
        let at = at % bytes.len();
        bytes[at] ^= 1 << (number % 8);
        fs::write(&bad, bytes).unwrap();
        let members = json!({"files": [bad], "prefix": "flipped/", "mode": "replace"});
        if let Err(error) = files.load(&members).await {
            assert!(matches!(error, FlightError::Tonic(_)), "{error}");
        }
    }
    let rows = [
        Some(vec![Some(1.0)]),
        Some(vec![Some(1.0)]),
        Some(vec![Some(1.0), None]),
    ];
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(rows);
    let keys = Arc::new(StringArray::from(vec!["x", "y", "z"])) as ArrayRef;
    let odd = RecordBatch::try_from_iter([("key", keys), ("v", Arc::new(lists))]).unwrap();
    write_parquet(&bad, &odd, Compression::UNCOMPRESSED);
    files
        .broken(
            &json!({"files": [name]}),
            &["row=`2`", "key=`z`", "column=`v`", name],
        )
        .await;
    let long = table(&"k".repeat(1100), 2, ("key", "tensor"));
    write_parquet(&bad, &long, Compression::UNCOMPRESSED);
    files
        .broken(&json!({"files": [name]}), &["row=`0`", name])
        .await;
    let there = files.keys().await;
    assert!(
        there.iter().all(|key| key.starts_with("flipped/")),
        "{there:?}"
    );
    let stats = files.space.server.stats().await;
    assert!(stats.counters["loads_aborted"].0 >= 10);
}

#[tokio::test]
async fn a_load_is_cancelled_by_who_asks_and_by_who_goes() {
    // A MiB a second, so that it is under way for long.
    let files = Files::new("files-cancel", &[("--load-rate", "1MiB")]).await;
    let path = files.path("a.parquet");
    write_parquet(
        &path,
        &table("a", 1 << 18, ("key", "tensor")),
        Compression::SNAPPY,
    );
    let wire = async || files.space.server.stats().await.memory.accounts["wire"].used_bytes;
    let before = wire().await;
    let detached = files.load_one(&path, json!({"detach": true})).await;
    let load = detached["load_id"].as_str().unwrap();
    assert_eq!(detached["state"], "open");
    until("some of it to be read", async || {
        let status = files.status(load).await;
        assert_eq!(status["state"], "open");
        (status["rows"].as_u64().unwrap() > 0).then_some(())
    })
    .await;
    let members = json!({"load_id": load});
    refused(
        files.space.act("commit_load", &members).await,
        "failed_precondition",
        &["still reading"],
    );
    // Others are served meanwhile.
    files
        .space
        .bulk(table("put", 100, ("key", "tensor")))
        .await
        .unwrap();
    assert_eq!(files.keys().await.len(), 100, "nothing of the load shows");
    files.space.act("abort_load", &members).await.unwrap();
    until("the load to end", async || {
        let status = files.status(load).await;
        let ended = status["state"] == "aborted" && status["code"] == "cancelled";
        ended.then_some(())
    })
    .await;

    let action = Action::new("load", files.space.json(&json!({"files": [path]})));
    let mut client = files.space.clone_client();
    let mut replies = client.do_action(action).await.unwrap();
    let first: Value = serde_json::from_slice(&replies.next().await.unwrap().unwrap()).unwrap();
    drop(replies);
    drop(client);
    let load = first["load_id"].as_str().unwrap();
    until("the load to be given up", async || {
        (files.status(load).await["state"] == "aborted").then_some(())
    })
    .await;
    assert_eq!(files.keys().await.len(), 100);
    until("its memory to be given back", async || {
        (wire().await <= before + (1 << 20)).then_some(())
    })
    .await;
}
