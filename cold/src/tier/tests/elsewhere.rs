//! What another server has written: read, hidden, and never written to.

use std::collections::BTreeMap;
use std::path::Path as FilePath;

use super::*;

/// A server over a directory.
async fn on(dir: &FilePath, also: &[&FilePath], state: Option<&FilePath>) -> Node {
    let url = |dir: &FilePath| format!("file://{}", dir.display());
    let settings = ColdSettings {
        url: url(dir),
        also: also.iter().map(|dir| url(dir)).collect(),
        state_dir: state.map(FilePath::to_owned),
        ..settings()
    };
    let (cold, unread) = loop {
        match Cold::open(settings.clone(), clock()).await {
            Err(error) if error.message.contains("another process") => tick().await,
            opened => break opened.unwrap(),
        }
    };
    if let Some(unread) = unread {
        cold.build(unread).await.unwrap();
    }
    let mut node = Node::of(cold);
    let (cold, cache) = (node.cold.clone(), node.cache.clone());
    node.running = Some(tokio::spawn(async move {
        tokio::join!(
            cold.write(cache.clone()),
            cold.keep_log(),
            cold.follow(cache)
        );
    }));
    while node.cold.stats().also_unread > 0 {
        tick().await;
    }
    node
}

/// Every file under a directory, and what is in it.
fn files(dir: &FilePath) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

async fn comes(node: &Node, key: &str, expected: Option<&[u8]>) {
    while node.get(key).await.as_deref() != expected {
        tick().await;
    }
}

#[tokio::test]
async fn what_a_dead_one_left_is_read_and_what_went_here_does_not_come_back() {
    let dir = || tempfile::tempdir().unwrap();
    let (dead, ours, state) = (dir(), dir(), dir());
    let a = on(dead.path(), &[], None).await;
    for at in 0..40_u64 {
        let len = if at == 0 { 5 << 20 } else { 2_000 };
        a.put_below(&format!("k{at:02}"), &bytes(at, len))
            .await
            .unwrap();
    }
    a.delete("k39").await;
    a.kill().await;
    let before = files(dead.path());

    let b = on(ours.path(), &[dead.path()], Some(state.path())).await;
    assert_eq!(b.cold.stats().also_entries, 39);
    for at in 0..39_u64 {
        let len = if at == 0 { 5 << 20 } else { 2_000 };
        assert!(b.get(&format!("k{at:02}")).await.unwrap() == bytes(at, len));
    }
    assert_eq!(b.get("k39").await, None);
    assert!(b.cold.stats().also_hits >= 39);
    // A second read has it stay, and it goes down into our own store.
    assert!(b.get("k01").await.is_some());
    assert!(b.cache.peek(&id("k01")).is_some());
    b.hand_all_down().await;
    assert_eq!(b.cold.stats().entries, 1);

    b.delete("k01").await;
    b.delete("k02").await;
    b.put("k03", b"newer").await;
    b.delete("k03").await;
    assert_eq!(b.delete_prefix("k1").await, 10);
    let of = id("k");
    let listed = b.cold.list_some(&of.tenant, &of.namespace, "", None, 100);
    let listed = listed.await.unwrap();
    let gone = |key: &str| ["k01", "k02", "k03"].contains(&key) || key.starts_with("k1");
    assert_eq!(listed.len(), 26);
    assert!(listed.iter().all(|it| !gone(it.id.key.as_str())));
    // What went of our own store is in its log within a second; of others', before the answer.
    b.cold.write_noted().await.unwrap();
    b.kill().await;

    // Neither a restart nor the loss of the directory brings it back.
    for lost in [false, true] {
        if lost {
            std::fs::remove_dir_all(state.path()).unwrap();
        }
        let b = on(ours.path(), &[dead.path()], Some(state.path())).await;
        for at in 0..39_u64 {
            let key = format!("k{at:02}");
            let found = b.get(&key).await;
            assert_eq!(found.is_none(), gone(&key), "{key} {lost}");
        }
        b.kill().await;
    }
    let b = on(ours.path(), &[dead.path()], None).await;
    assert_eq!(b.delete_prefix("").await, 26);
    assert_eq!(b.get("k20").await, None);
    b.kill().await;
    let b = on(ours.path(), &[dead.path()], None).await;
    assert_eq!(b.get("k20").await, None);
    assert!(files(dead.path()) == before, "nothing was written there");
    b.kill().await;
}

#[tokio::test]
async fn one_that_goes_on_is_followed() {
    let dir = || tempfile::tempdir().unwrap();
    let (live, other, ours) = (dir(), dir(), dir());
    let a = on(live.path(), &[], None).await;
    let c = on(other.path(), &[], None).await;
    a.put_below("k", b"first").await.unwrap();
    c.put_below("k", b"later").await.unwrap();
    a.put_below("mine", b"theirs").await.unwrap();
    let b = on(ours.path(), &[live.path(), other.path()], None).await;
    assert_eq!(b.get("k").await.unwrap(), b"later", "the higher version");
    b.put("mine", b"mine").await;
    assert_eq!(b.get("mine").await.unwrap(), b"mine");
    b.delete("k").await;
    assert_eq!(b.get("k").await, None);
    // What is written there after that, by the clock, is later than what was deleted here.
    let deleted_ms = clock().now_ms();
    while clock().now_ms() <= deleted_ms {
        tick().await;
    }
    a.put_below("k", b"again").await.unwrap();
    a.put_below("new", b"new").await.unwrap();
    comes(&b, "k", Some(b"again")).await;
    comes(&b, "new", Some(b"new")).await;
    a.delete("new").await;
    // Deletes there come too, to who has not made it his own.
    a.put_below("short", b"lived").await.unwrap();
    a.delete("short").await;
    a.put_below("after", b"that").await.unwrap();
    comes(&b, "after", Some(b"that")).await;
    let entries = || b.cold.stats().also_entries;
    while entries() > 5 {
        tick().await;
    }
    assert_eq!(b.get("short").await, None);
    for node in [a, b, c] {
        node.kill().await;
    }
}

#[tokio::test]
async fn a_segment_that_goes_there_is_a_miss_and_no_damage_of_ours() {
    let dir = || tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir(), dir());
    let a = on(theirs.path(), &[], None).await;
    a.put_below("k", b"bytes").await.unwrap();
    a.kill().await;
    let b = on(ours.path(), &[theirs.path()], None).await;
    for path in files(&theirs.path().join("segments")).into_keys() {
        if path.extension().is_some_and(|it| it == "arrow") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(b.get("k").await, None);
    assert_eq!(b.cold.stats().damaged, 0);
    b.put("k", b"ours").await;
    assert_eq!(b.get("k").await.unwrap(), b"ours");
    b.kill().await;
}

#[tokio::test]
async fn records_of_what_is_hidden_are_merged_and_a_damaged_one_hides_what_is_older() {
    let dir = || tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir(), dir());
    let a = on(theirs.path(), &[], None).await;
    for at in 0..80 {
        a.put_below(&format!("k{at:02}"), b"bytes").await.unwrap();
    }
    a.kill().await;
    let b = on(ours.path(), &[theirs.path()], None).await;
    for at in 0..70 {
        b.delete(&format!("k{at:02}")).await;
    }
    let records = || files(&ours.path().join("hidden"));
    assert_eq!(records().len(), 70);
    b.cold.merge_some().await.unwrap();
    assert_eq!(records().len(), 1);
    b.kill().await;
    let b = on(ours.path(), &[theirs.path()], None).await;
    for at in 0..80 {
        let found = b.get(&format!("k{at:02}")).await;
        assert_eq!(found.is_none(), at < 70);
    }
    b.kill().await;
    for (path, mut record) in records() {
        record[30] ^= 1;
        std::fs::write(path, record).unwrap();
    }
    let b = on(ours.path(), &[theirs.path()], None).await;
    assert_eq!(
        b.get("k75").await,
        None,
        "nobody knows whether it was deleted"
    );
    b.kill().await;
}

#[tokio::test]
async fn what_cannot_be_read_from_is_refused() {
    let (ours, nothing) = (tempfile::tempdir().unwrap(), "/nowhere/at/all");
    let url = |dir: &FilePath| format!("file://{}", dir.display());
    for (also, words) in [
        (url(ours.path()), "our own"),
        (format!("file://{nothing}"), nothing),
        ("memory:".to_owned(), "nobody else"),
    ] {
        let settings = ColdSettings {
            url: url(ours.path()),
            also: vec![also],
            ..settings()
        };
        let refused = Cold::open(settings, clock()).await.err().unwrap();
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    assert!(!FilePath::new(nothing).exists());
}
