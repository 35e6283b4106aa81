//! Stores that fail, and bytes that are damaged: misses, counted, and never a wrong byte.

use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::*;

pub(super) async fn objects(disk: &Disk, ending: &str) -> Vec<Path> {
    let all = disk.objects.list(None).map_ok(|object| object.location);
    let all: Vec<Path> = all.try_collect().await.unwrap();
    all.into_iter()
        .filter(|path| path.as_ref().ends_with(ending))
        .collect()
}

pub(super) async fn read(disk: &Disk, path: &Path) -> Vec<u8> {
    let got = disk.objects.get(path).await.unwrap();
    got.bytes().await.unwrap().to_vec()
}

pub(super) async fn write(disk: &Disk, path: &Path, bytes: Vec<u8>) {
    disk.objects.put(path, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn damaged_and_missing_segments_are_misses() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let lens = [1, 3_000, 70_000, 5 << 20];
    let put_all = async || {
        for (at, len) in lens.into_iter().enumerate() {
            node.put(&format!("k{at}"), &bytes(2, len)).await;
        }
        node.hand_all_down().await;
    };
    for damage in 0..3 {
        put_all().await;
        let before = node.cold.stats().damaged;
        for path in objects(&disk, ".arrow").await {
            let mut bytes = read(&disk, &path).await;
            match damage {
                0 => bytes.iter_mut().for_each(|byte| *byte ^= 1),
                1 => bytes.truncate(8),
                _ => {
                    disk.objects.delete(&path).await.unwrap();
                    continue;
                }
            }
            write(&disk, &path, bytes).await;
        }
        for at in 0..lens.len() {
            assert_eq!(node.get(&format!("k{at}")).await, None);
            assert_eq!(node.get(&format!("k{at}")).await, None, "for good");
        }
        let stats = node.cold.stats();
        assert_eq!(stats.damaged, before + 4, "each is counted once");
        assert_eq!(stats.entries, 0);
        assert_eq!(node.cache.stats().arena_used_bytes, 0);
    }
}

#[tokio::test]
async fn segments_in_each_others_place_are_misses() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    for key in ["a", "b"] {
        node.put_below(key, &bytes(u64::from(key.as_bytes()[0]), 5_000))
            .await
            .unwrap();
    }
    let paths = objects(&disk, ".arrow").await;
    let (a, b) = (read(&disk, &paths[0]).await, read(&disk, &paths[1]).await);
    write(&disk, &paths[0], b).await;
    write(&disk, &paths[1], a).await;
    node.hand_all_down().await;
    for key in ["a", "b"] {
        assert!(node.get(key).await.is_none());
    }
}

#[tokio::test]
async fn a_store_that_fails_costs_what_is_below_and_nothing_else() {
    let disk = Disk::new();
    let settings = ColdSettings {
        queue_bytes: MIB,
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    node.put("below", &[1; 100]).await;
    node.hand_all_down().await;
    disk.fails.store(true, Ordering::SeqCst);
    assert_eq!(node.get("below").await, None);
    assert!(node.cold.stats().failed_reads > 0);
    let refused = node.put_below("k", &[2; 100]).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    assert_eq!(node.get("k").await.unwrap(), [2; 100], "memory has it");
    for n in 0..64 {
        node.put(&format!("n{n}"), &bytes(n, 60_000)).await;
    }
    node.evict_all().await;
    let stats = node.cold.stats();
    assert!(stats.queued_bytes <= MIB, "{stats:?}");
    assert!(stats.dropped > 0 && stats.degraded, "{stats:?}");
    assert_eq!(stats.dropped + stats.queued, 65);
    disk.fails.store(false, Ordering::SeqCst);
    while node.cold.stats().queued > 0 || node.cold.stats().degraded {
        tick().await;
    }
    assert_eq!(node.get("below").await.unwrap(), [1; 100]);
    let mut found = 0;
    for n in 0..64 {
        if let Some(seen) = node.get(&format!("n{n}")).await {
            assert!(seen == bytes(n, 60_000));
            found += 1;
        }
    }
    assert!(found > 0);
    node.put_below("k", &[3; 100]).await.unwrap();
}

/// What cannot be written does not keep from the store what can.
#[tokio::test]
async fn an_entry_that_cannot_be_written_is_let_go_and_the_others_are_not() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let bad = || PutSpec {
        // No object of texts.
        metadata: vec![7; 3],
        ..spec(Mode::Replace)
    };
    for len in [100, 5 << 20] {
        node.put_as("bad", bad(), &bytes(1, len)).await.unwrap();
        for n in 0..3 {
            node.put(&format!("n{n}"), &bytes(n, 100)).await;
        }
        node.evict_all().await;
        while node.cold.stats().queued > 0 {
            tick().await;
        }
        assert_eq!(node.get("bad").await, None);
        for n in 0..3 {
            assert!(node.get(&format!("n{n}")).await.unwrap() == bytes(n, 100));
        }
    }
    let waits = PutSpec {
        below: true,
        ..bad()
    };
    let refused = node.put_as("bad", waits, b"x").await.unwrap_err();
    assert!(refused.message.contains("metadata"), "{refused}");
    let stats = node.cold.stats();
    assert_eq!((stats.dropped, stats.queued, stats.entries), (3, 0, 3));
    assert!(!stats.degraded);
}

/// Each record in turn is damaged, cut, or under another's name: what is deleted stays so, whatever else is lost.
#[tokio::test]
async fn records_that_lie_bring_nothing_back() {
    for damage in 0..4 {
        let disk = Disk::new();
        let node = Node::start(&disk, &settings()).await;
        for round in 0..3 {
            for key in ["deleted", "kept"] {
                node.put_below(key, &bytes(round, 500)).await.unwrap();
            }
            node.delete("deleted").await;
        }
        node.kill().await;
        for ending in [".log", ".idx"] {
            let paths = objects(&disk, ending).await;
            assert!(paths.len() > 1);
            let whole = futures::future::join_all(paths.iter().map(|path| read(&disk, path))).await;
            for at in 0..paths.len() {
                let mut bytes = whole[at].clone();
                let half = bytes.len() / 2;
                match damage {
                    0 => bytes[half] ^= 4,
                    1 => bytes.truncate(half),
                    2 => bytes.clear(),
                    _ => bytes.clone_from(&whole[(at + 1) % paths.len()]),
                }
                write(&disk, &paths[at], bytes).await;
                // An index in the store knows what they said: but for the first one, it is built anew.
                for path in objects(&disk, ".tree").await {
                    if at > 0 || ending == ".idx" {
                        disk.objects.delete(&path).await.unwrap();
                    }
                }
                let node = Node::start(&disk, &settings()).await;
                assert_eq!(node.get("deleted").await, None);
                let kept = node.get("kept").await;
                assert!(kept.is_none_or(|kept| kept == bytes_of_last()));
                node.put_below("after", b"goes on").await.unwrap();
                node.evict_all().await;
                assert_eq!(node.get("after").await.unwrap(), b"goes on");
                assert!(node.cold.stats().damaged > 0);
                node.kill().await;
                write(&disk, &paths[at], whole[at].clone()).await;
            }
        }
    }
}

fn bytes_of_last() -> Vec<u8> {
    bytes(2, 500)
}
