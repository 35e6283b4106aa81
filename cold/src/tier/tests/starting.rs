//! What the next start finds.

use object_store::ObjectStoreExt as _;

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

/// A record of what went is written after that, when what was put in its place may be in a segment already.
#[tokio::test]
async fn what_was_put_again_before_the_log_said_that_it_went_is_found_without_the_directory() {
    let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&disk, &in_dir(&dir)).await;
    let keys = ["deleted", "p1", "replaced", "cleared"];
    for key in keys {
        node.put_below(key, b"old").await.unwrap();
    }
    node.delete("deleted").await;
    node.delete_prefix("p").await;
    node.put_below("replaced", b"new").await.unwrap();
    for key in ["deleted", "p1"] {
        node.put_below(key, b"new").await.unwrap();
    }
    node.put_below("gone", b"new").await.unwrap();
    node.delete("gone").await;
    node.cold.write_noted().await.unwrap();
    node.kill().await;
    let node = Node::start(&disk, &in_dir(&tempfile::tempdir().unwrap())).await;
    for key in ["deleted", "p1", "replaced"] {
        assert_eq!(node.get(key).await.as_deref(), Some(&b"new"[..]), "{key}");
    }
    assert_eq!(node.get("cleared").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(node.get("gone").await, None);
    // And the same of all names at once.
    node.delete_prefix("").await;
    node.put_below("cleared", b"new").await.unwrap();
    node.cold.write_noted().await.unwrap();
    node.kill().await;
    let node = Node::start(&disk, &in_dir(&tempfile::tempdir().unwrap())).await;
    assert_eq!(node.get("cleared").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(node.get("replaced").await, None);
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

/// Killed before the store's log said it. The index knows, whoever builds one anew has to be told by it: at its next
/// start, whether it is used then or not.
#[tokio::test]
async fn what_goes_in_the_last_second_is_told_at_the_next_start() {
    for foreign in [false, true] {
        let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
        let node = Node::start(&disk, &in_dir(&dir)).await;
        for key in ["deleted", "kept", "replaced", "p1"] {
            node.put_below(key, b"old").await.unwrap();
        }
        node.delete("deleted").await;
        node.put("replaced", b"new").await;
        node.delete_prefix("p").await;
        let other = Namespace::parse("cleared").unwrap();
        let of = Id::public(other.clone(), Key::parse("k").unwrap());
        let mut put = node.cache.put(of.clone(), spec(Mode::Replace)).unwrap();
        put.reserve(1).await.unwrap();
        put.write(b"x").unwrap();
        put.publish(Shape::new(&[1]).unwrap()).await.unwrap();
        node.cache
            .lower()
            .write_down(&node.cache, vec![of.clone()], true)
            .await
            .unwrap();
        node.cache
            .delete_prefix(&of.tenant, &other, "")
            .await
            .unwrap();
        node.kill().await;
        if foreign {
            Node::start(&disk, &super::settings()).await.kill().await;
        }
        let node = Node::start(&disk, &in_dir(&dir)).await;
        if !foreign {
            node.cold.write_noted().await.unwrap();
            assert_eq!(node.cold.inner.index.get().unwrap().pending(9), []);
        }
        node.kill().await;
        drop(dir);
        let node = Node::start(&disk, &super::settings()).await;
        for key in ["deleted", "replaced", "p1"] {
            assert_eq!(node.get(key).await, None, "{key} {foreign}");
        }
        assert!(
            node.cache
                .open(&of, Reading::Whole)
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(node.get("kept").await.unwrap(), b"old");
        node.kill().await;
    }
}

/// The record of a delete could not be written. Who deletes once more must not be told that there is nothing.
#[tokio::test]
async fn a_delete_that_failed_is_no_less_one_when_it_is_tried_again() {
    for prefix in [false, true] {
        let disk = Disk::new();
        let node = Node::start(&disk, &settings()).await;
        node.put_below("k", b"old").await.unwrap();
        node.hand_all_down().await;
        let delete = async || match prefix {
            true => {
                let of = id("k");
                let deleted = node.cache.delete_prefix(&of.tenant, &of.namespace, "");
                deleted.await.map(drop)
            }
            false => node.cache.delete(&id("k"), None).await.map(drop),
        };
        disk.fails.store(true, Ordering::SeqCst);
        assert!(delete().await.is_err());
        assert!(delete().await.is_err());
        disk.fails.store(false, Ordering::SeqCst);
        delete().await.unwrap();
        node.kill().await;
        let node = Node::start(&disk, &settings()).await;
        assert_eq!(node.get("k").await, None);
        node.kill().await;
    }
}

/// The second one stops at the lock, and has not made the first one's index another's by then.
#[tokio::test]
async fn a_start_that_finds_its_directory_in_use_changes_nothing() {
    let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&disk, &in_dir(&dir)).await;
    node.put_below("k", b"bytes").await.unwrap();
    let second = Cold::over(disk.beside().store(), in_dir(&dir), clock()).await;
    let refused = second.map(drop).unwrap_err();
    assert!(refused.message.contains("another process"), "{refused}");
    node.put_below("l", b"bytes").await.unwrap();
    node.kill().await;
    let (_, unread) = open(&disk, &in_dir(&dir)).await;
    assert!(unread.is_none(), "its index is its own");
}

/// As a stop does.
async fn stop(node: Node) {
    node.cold.write_noted().await.unwrap();
    node.cold.save_index().await;
    node.kill().await;
}

async fn index_objects(disk: &Disk) -> Vec<Path> {
    let mut all = failing::objects(disk, ".rows").await;
    all.extend(failing::objects(disk, ".tree").await);
    all
}

#[tokio::test]
async fn an_index_in_the_store_is_opened_and_not_built_anew() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    for n in 0..30 {
        node.put_below(&format!("k{n}"), b"old").await.unwrap();
    }
    node.delete("k3").await;
    stop(node).await;
    let (cold, unread) = open(&disk, &settings()).await;
    let unread = unread.unwrap();
    assert!(unread.is_empty(), "the index has all of it");
    cold.build(unread).await.unwrap();
    let node = Node::running(cold);
    assert_eq!(node.get("k3").await, None);
    assert_eq!(node.get("k4").await.unwrap(), b"old");
    // What came since is read again, after a kill.
    node.delete("k4").await;
    node.put_below("k5", b"new").await.unwrap();
    node.put_below("k3", b"new").await.unwrap();
    node.kill().await;
    let (cold, unread) = open(&disk, &settings()).await;
    let unread = unread.unwrap();
    assert!((1..9).contains(&unread.left()), "{}", unread.left());
    cold.build(unread).await.unwrap();
    let node = Node::running(cold);
    assert_eq!(node.get("k4").await, None);
    for key in ["k3", "k5"] {
        assert_eq!(node.get(key).await.unwrap(), b"new");
    }
    assert_eq!(node.get("k6").await.unwrap(), b"old");
    assert_eq!(node.cold.stats().entries, 29);
    node.kill().await;
}

/// Its segment and the record of its delete went while the index in the store still had it.
#[tokio::test]
async fn what_went_with_its_segment_is_not_there_again() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.put_below("gone", b"old").await.unwrap();
    node.cold.save_index().await;
    node.delete("gone").await;
    node.kill().await;
    for ending in [".idx", ".arrow", ".log"] {
        for path in failing::objects(&disk, ending).await {
            disk.objects.delete(&path).await.unwrap();
        }
    }
    for _ in 0..2 {
        let node = Node::start(&disk, &settings()).await;
        let described = node.cold.described(&id("gone")).await.unwrap();
        assert!(described.is_none());
        assert_eq!(node.get("gone").await, None);
        assert_eq!(node.cold.stats().entries, 0);
        stop(node).await;
    }
}

#[tokio::test]
async fn a_damaged_index_in_the_store_is_built_anew() {
    for (ending, missing) in [
        (".rows", false),
        (".rows", true),
        (".tree", false),
        (".tree", true),
    ] {
        let disk = Disk::new();
        let node = Node::start(&disk, &settings()).await;
        for key in ["a", "b", "deleted"] {
            node.put_below(key, b"bytes").await.unwrap();
        }
        node.delete("deleted").await;
        stop(node).await;
        let path = index_objects(&disk).await;
        let path = path
            .into_iter()
            .rfind(|path| path.as_ref().ends_with(ending));
        let path = path.unwrap();
        let mut bytes = failing::read(&disk, &path).await;
        let last = bytes.len() - 9;
        bytes[last] ^= 1;
        // One before may be there still, and would do.
        for path in failing::objects(&disk, ending).await {
            disk.objects.delete(&path).await.unwrap();
        }
        if !missing {
            disk.objects.put(&path, bytes.into()).await.unwrap();
        }
        let (cold, unread) = open(&disk, &settings()).await;
        let unread = unread.unwrap();
        assert!(unread.left() >= 4, "all of it is read");
        cold.build(unread).await.unwrap();
        let node = Node::running(cold);
        for (key, there) in [("a", true), ("b", true), ("deleted", false)] {
            assert_eq!(
                node.get(key).await.is_some(),
                there,
                "{key} {ending} {missing}"
            );
        }
        stop(node).await;
        let (_, unread) = open(&disk, &settings()).await;
        assert!(unread.unwrap().is_empty(), "and it is whole again");
    }
}

/// Neither memory nor a disk has to hold what the store has.
#[tokio::test]
async fn without_a_state_directory_there_is_no_directory() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    assert!(node.cold.inner._dir.is_none());
    assert!(node.cold.inner.index.get().unwrap().is_in_store());
    node.kill().await;
    // One that has a disk takes away what it does not use.
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&disk, &in_dir(&dir)).await;
    assert_ne!(index_objects(&disk).await, []);
    node.cold.drop_orphans().await.unwrap();
    assert_eq!(index_objects(&disk).await, []);
    node.kill().await;
}

/// While it is used: the tier goes on without it, and has a new one soon.
#[tokio::test]
async fn an_index_in_the_store_that_turns_out_to_be_damaged_is_built_anew_meanwhile() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    for key in ["a", "b", "deleted"] {
        node.put_below(key, b"bytes").await.unwrap();
    }
    node.delete("deleted").await;
    node.evict_all().await;
    node.cold.save_index().await;
    for path in failing::objects(&disk, ".rows").await {
        let mut bytes = failing::read(&disk, &path).await;
        bytes[6] ^= 1;
        disk.objects.put(&path, bytes.into()).await.unwrap();
    }
    // A miss, however it is told.
    let found = node.cache.open(&id("a"), Reading::Whole).await;
    assert!(!matches!(found, Ok(Some(_))));
    assert!(node.cold.stats().degraded);
    node.cache.delete(&id("b"), None).await.unwrap();
    while node.cold.stats().degraded {
        tick().await;
    }
    for (key, there) in [("a", true), ("b", false), ("deleted", false)] {
        assert_eq!(node.get(key).await.is_some(), there, "{key}");
    }
    stop(node).await;
    let (_, unread) = open(&disk, &settings()).await;
    assert!(unread.unwrap().is_empty());
}

/// The objects of a segment that another start of the same number has written, as a request of it that was still on its
/// way when it was killed brings them.
async fn come_late(from: &Disk, to: &Disk) {
    for ending in [".arrow", ".idx"] {
        for path in failing::objects(from, ending).await {
            let bytes = failing::read(from, &path).await;
            to.objects.put(&path, bytes.into()).await.unwrap();
        }
    }
}

/// A first start under a prefix that has written one segment.
async fn one_segment() -> Arc<Disk> {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.put_below("k", b"old").await.unwrap();
    node.kill().await;
    disk
}

/// Who looks for the segment's key finds nothing, changes it, and is killed: no later start has it either.
async fn never_counts(node: Node, disk: &Arc<Disk>, deletes: bool, what: &str) {
    assert_eq!(node.get("k").await, None);
    if deletes {
        node.delete("k").await;
    } else {
        node.put("k", b"new").await;
    }
    node.kill().await;
    for again in 0..2 {
        let node = Node::start(disk, &settings()).await;
        assert_eq!(node.get("k").await, None, "{what} {deletes} {again}");
        node.kill().await;
    }
}

/// It is no start's that served between them: who deleted its keys there was told that there is nothing.
#[tokio::test]
async fn what_comes_to_the_store_behind_a_later_start_never_counts() {
    let late = one_segment().await;
    for (with_dir, deletes) in [(false, true), (false, false), (true, true), (true, false)] {
        let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
        let settings = if with_dir { in_dir(&dir) } else { settings() };
        Node::start(&disk, &settings).await.kill().await;
        let node = Node::start(&disk, &settings).await;
        come_late(&late, &disk).await;
        never_counts(node, &disk, deletes, &format!("{with_dir}")).await;
    }
}

/// The segment was there, and the process was killed before its index had it.
#[tokio::test]
async fn what_an_index_that_was_used_did_not_know_never_counts() {
    let unknown = one_segment().await;
    for deletes in [true, false] {
        let (disk, dir) = (Disk::new(), tempfile::tempdir().unwrap());
        Node::start(&disk, &in_dir(&dir)).await.kill().await;
        come_late(&unknown, &disk).await;
        let node = Node::start(&disk, &in_dir(&dir)).await;
        never_counts(node, &disk, deletes, "unknown").await;
    }
}
