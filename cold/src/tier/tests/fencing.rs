//! A later start takes over the prefix of one that still runs.

use bowstring_wire::error::Code;
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;

use super::*;

async fn sidecars(disk: &Disk) -> Vec<String> {
    let all = disk.objects.list(None).map_ok(|object| object.location);
    let all: Vec<Path> = all.try_collect().await.unwrap();
    let all = all.into_iter().map(String::from);
    all.filter(|path| path.ends_with(".idx")).collect()
}

/// Waits until the last look is no good any more.
async fn a_second() {
    clock().sleep(Duration::from_millis(1_100)).await;
}

#[tokio::test]
async fn who_has_lost_its_prefix_says_so_and_writes_no_more() {
    let disk = Disk::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for with_dir in [false, true] {
        let of = |dir: &tempfile::TempDir| ColdSettings {
            state_dir: with_dir.then(|| dir.path().to_owned()),
            ..settings()
        };
        let old = Node::start(&disk, &of(&dirs[0])).await;
        old.put_below("k", b"first").await.unwrap();
        let new = Node::start(&disk.beside(), &of(&dirs[1])).await;
        a_second().await;
        let before = sidecars(&disk).await;
        let refused = old.put_below("mine", b"late").await.unwrap_err();
        assert_eq!(refused.code, Code::FailedPrecondition);
        assert!(refused.message.contains("later start"), "{refused}");
        assert!(old.cold.stats().degraded);
        let refused = old.cold.flush().await.unwrap_err();
        assert_eq!(refused.code, Code::FailedPrecondition);
        // Of a key that the store may have, nothing is promised any more.
        assert!(old.cache.delete(&id("k"), None).await.is_err());
        // Memory goes on.
        old.put("other", b"bytes").await;
        assert_eq!(old.get("other").await.unwrap(), b"bytes");
        old.delete("other").await;
        old.put("other", b"bytes").await;
        old.evict_all().await;
        assert_eq!(old.cold.stats().queued, 0);
        let left = sidecars(&disk).await;
        assert!(left.iter().all(|path| before.contains(path)));
        assert_eq!(new.get("k").await.unwrap(), b"first");
        new.put_below("k", b"second").await.unwrap();
        new.delete("k").await;
        assert_eq!(new.get("k").await, None);
        old.kill().await;
        new.kill().await;
    }
}

/// It was paused in the middle of a write. What it had then is older than what its successor was told, and does not
/// come back when the index is built anew.
#[tokio::test]
async fn what_comes_late_is_taken_away_again() {
    let disk = Disk::new();
    let old = Arc::new(Node::start(&disk, &settings()).await);
    old.put_below("before", b"bytes").await.unwrap();
    a_second().await;
    // What was written before a look stays.
    old.put_below("look", b"").await.unwrap();
    old.put("k", b"old").await;
    disk.hold();
    let writing = {
        let old = Arc::clone(&old);
        tokio::spawn(async move { old.put_below("k", b"old").await })
    };
    disk.is_asked().await;
    let new = Node::start(&disk.beside(), &settings()).await;
    new.put_below("k", b"new").await.unwrap();
    new.delete("k").await;
    a_second().await;
    disk.let_go();
    let refused = writing.await.unwrap().unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    new.kill().await;
    let third = Node::start(&disk.beside(), &settings()).await;
    assert_eq!(third.get("k").await, None);
    assert_eq!(third.get("before").await.unwrap(), b"bytes");
}

/// In the second after a look it wrote a segment that its successor has not read.
#[tokio::test]
async fn what_was_written_since_the_last_look_is_taken_away_again() {
    let disk = Disk::new();
    let old = Node::start(&disk, &settings()).await;
    old.put_below("k", b"before").await.unwrap();
    let new = Node::start(&disk.beside(), &settings()).await;
    let before = sidecars(&disk).await;
    // Where the machine is slow, it has looked meanwhile.
    let late = old.put_below("late", b"late").await;
    a_second().await;
    assert!(old.put_below("later", b"later").await.is_err());
    let left = sidecars(&disk).await;
    assert!(left.iter().all(|path| before.contains(path)), "{late:?}");
    assert_eq!(new.get("k").await.unwrap(), b"before");
}
