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
