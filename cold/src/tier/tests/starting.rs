//! What the next start finds.

use super::*;

fn in_dir(dir: &tempfile::TempDir) -> ColdSettings {
    ColdSettings {
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    }
}

#[tokio::test]
async fn what_was_written_is_there_and_what_went_is_not() {
    for (with_dir, foreign) in [(true, false), (true, true), (false, false)] {
        let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
        let settings = if with_dir { in_dir(&dir) } else { settings() };
        let node = Node::start(&disk, &settings).await;
        for key in ["deleted", "kept", "replaced", "p1", "p2"] {
            node.put_below(key, b"old").await.unwrap();
        }
        node.delete("deleted").await;
        node.put("replaced", b"new").await;
        node.delete_prefix("p").await;
        if foreign {
            // What is gone comes to the store soon.
            let log = node.cold.clone();
            tokio::select! {
                () = log.keep_log() => {}
                () = clock().sleep(Duration::from_millis(1_500)) => {}
            }
        }
        let version = node.cache.peek(&id("kept")).unwrap().version();
        node.kill().await;
        if foreign {
            let other = Node::start(&disk, &super::settings()).await;
            assert_eq!(other.get("deleted").await, None);
            other.delete("kept").await;
            other.kill().await;
        }
        let node = Node::start(&disk, &settings).await;
        for key in ["deleted", "replaced", "p1", "p2"] {
            assert_eq!(node.get(key).await, None, "{key} {with_dir} {foreign}");
        }
        if foreign {
            assert_eq!(node.get("kept").await, None);
        } else {
            let (kept, _) = node.read("kept").await.unwrap();
            assert_eq!(kept.version, version);
        }
        let later = node.put("kept", b"later").await.version;
        assert!(later.hlc > version.hlc);
        node.kill().await;
    }
}

/// What was gone has taken numbers that no object on the store tells of.
#[tokio::test]
async fn numbers_go_on_above_what_was_promised_gone() {
    let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&disk, &in_dir(&dir)).await;
    node.put_below("k", b"bytes").await.unwrap();
    for _ in 0..20 {
        node.delete_prefix("").await;
    }
    node.kill().await;
    let node = Node::start(&disk, &in_dir(&dir)).await;
    node.put_below("k", b"bytes").await.unwrap();
    node.evict_all().await;
    assert_eq!(node.get("k").await.unwrap(), b"bytes");
}
