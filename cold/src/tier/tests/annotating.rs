//! Other metadata for what lies here: at no moment is neither of the two below.

use bowstring_cache::metadata::Changed;
use bowstring_wire::version::Version;

use super::*;

const OTHER: &[u8] = br#"{"by":"you"}"#;
const MORE: &[u8] = br#"{"by":"you","of":"k"}"#;

impl Node {
    async fn version(&self, key: &str) -> Version {
        self.read(key).await.unwrap().0.version
    }

    async fn annotate(&self, key: &str, version: Version, metadata: &[u8]) -> Option<Changed> {
        let changed = self.cache.set_metadata(&id(key), version, metadata).await;
        changed.unwrap()
    }

    async fn is_annotated(&self, key: &str, version: Version, metadata: &[u8], data: &[u8]) {
        let (there, bytes) = self.read(key).await.unwrap();
        assert_eq!((there.version, &there.metadata[..]), (version, metadata));
        assert_eq!(bytes, data);
    }
}

fn in_dir(dir: &tempfile::TempDir) -> ColdSettings {
    ColdSettings {
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    }
}

#[tokio::test]
async fn once_it_is_acknowledged_a_kill_leaves_it() {
    let large = vec![7; 9 << 20];
    for with_dir in [true, false] {
        let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
        let own = if with_dir { in_dir(&dir) } else { settings() };
        let node = Node::start(&disk, &own).await;
        for (key, data) in [("small", &b"bytes"[..]), ("gone", b"x"), ("large", &large)] {
            node.put_below(key, data).await.unwrap();
        }
        node.hand_all_down().await;
        let mut versions = Vec::new();
        for key in ["small", "large"] {
            let before = node.version(key).await;
            let changed = node.annotate(key, before, OTHER).await.unwrap();
            let changed = changed.settled().await.unwrap();
            // It is in memory by now.
            let changed = node.annotate(key, changed, MORE).await.unwrap();
            versions.push(changed.settled().await.unwrap());
            assert!(node.annotate(key, before, OTHER).await.is_none());
        }
        node.delete("gone").await;
        node.cold.write_noted().await.unwrap();
        let mut node = node;
        // The last builds the index anew.
        let foreign = tempfile::tempdir().unwrap();
        for next in [own, in_dir(&foreign)] {
            node.kill().await;
            node = Node::start(&disk, &next).await;
            node.is_annotated("small", versions[0], MORE, b"bytes")
                .await;
            node.is_annotated("large", versions[1], MORE, &large).await;
            assert_eq!(node.get("gone").await, None);
        }
        node.kill().await;
    }
}

#[tokio::test]
async fn until_it_is_written_down_what_it_was_is_there() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.put_below("k", b"bytes").await.unwrap();
    let before = node.version("k").await;
    disk.hold();
    let changed = node.annotate("k", before, OTHER).await.unwrap();
    node.is_annotated("k", changed.version, OTHER, b"bytes")
        .await;
    disk.is_asked().await;
    // What a start would find now.
    let next = Node::start(&disk.beside(), &settings()).await;
    next.is_annotated("k", before, b"", b"bytes").await;
    drop((changed, next));
}

#[tokio::test]
async fn what_is_put_while_it_is_written_down_is_what_is_there() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    for waits in [false, true] {
        node.put_below("k", b"bytes").await.unwrap();
        let before = node.version("k").await;
        disk.hold();
        let changed = node.annotate("k", before, OTHER).await.unwrap();
        disk.is_asked().await;
        let letting_go = async {
            tick().await;
            disk.let_go();
        };
        let put = async {
            match waits {
                true => node.put_below("k", b"new").await.unwrap(),
                false => node.put("k", b"new").await,
            }
        };
        let (put, ()) = tokio::join!(put, letting_go);
        changed.settled().await.unwrap();
        for _ in 0..2 {
            node.is_annotated("k", put.version, b"", b"new").await;
            node.hand_all_down().await;
        }
    }
    node.kill().await;
}

/// A reader has found what it was, and waits for the store.
#[tokio::test]
async fn nobody_joins_a_load_of_what_it_was() {
    let disk = Disk::new();
    let node = Arc::new(Node::start(&disk, &settings()).await);
    let before = node.put_below("k", b"bytes").await.unwrap().version;
    node.hand_all_down().await;
    disk.hold();
    let reader = {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.get("k").await })
    };
    disk.is_asked().await;
    // He goes on waiting, others do not.
    disk.held.store(false, Ordering::SeqCst);
    let changed = node.annotate("k", before, OTHER).await.unwrap();
    let version = changed.settled().await.unwrap();
    node.hand_all_down().await;
    node.is_annotated("k", version, OTHER, b"bytes").await;
    disk.let_go();
    assert_eq!(reader.await.unwrap().unwrap(), b"bytes");
    node.is_annotated("k", version, OTHER, b"bytes").await;
}

#[tokio::test]
async fn what_cannot_be_written_down_is_told_and_lost_in_no_way() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.put_below("k", b"bytes").await.unwrap();
    let before = node.version("k").await;
    disk.fails.store(true, Ordering::SeqCst);
    let changed = node.annotate("k", before, OTHER).await.unwrap();
    let version = changed.version;
    let error = changed.settled().await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    node.is_annotated("k", version, OTHER, b"bytes").await;
    // Who tries again is not told that it is done before it is.
    let changed = node.annotate("k", version, OTHER).await.unwrap();
    let error = changed.settled().await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    let version = node.version("k").await;
    disk.fails.store(false, Ordering::SeqCst);
    // It is tried again by itself.
    while node.cold.flush().await.is_err() {
        tick().await;
    }
    node.hand_all_down().await;
    node.is_annotated("k", version, OTHER, b"bytes").await;
    node.kill().await;
    let node = Node::start(&disk, &settings()).await;
    node.is_annotated("k", version, OTHER, b"bytes").await;
}
