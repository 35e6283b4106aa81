//! What is gone, or changed, while it is on its way down, or up.

use bowstring_cache::loads::LoadSpec;
use bowstring_cache::put::Admit;
use bowstring_cache::rows::{Row, RowsSpec};
use bowstring_wire::error::Code;

use super::*;

/// Does something to `a/k` while it is being written down; gives what is read of it then, and once it is written.
async fn while_written(change: impl AsyncFnOnce(&Node)) -> [Option<Vec<u8>>; 2] {
    let disk = Disk::new();
    let dir = tempfile::tempdir().unwrap();
    let settings = ColdSettings {
        // What is gone is not written to the store that is held up.
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    node.put("a/k", b"old").await;
    node.put("b", b"other").await;
    disk.hold();
    node.evict_all().await;
    disk.is_asked().await;
    change(&node).await;
    let before = node.get("a/k").await;
    disk.let_go();
    let _ = node.cold.flush().await;
    while node.cold.stats().queued > 0 {
        tick().await;
    }
    // The segment may come in after the queue is empty.
    while node.cold.stats().segments == 0 {
        tick().await;
    }
    node.evict_all().await;
    [before, node.get("a/k").await]
}

#[tokio::test]
async fn what_goes_while_it_is_written_does_not_come_back() {
    let deleted = while_written(async |node| node.delete("a/k").await).await;
    assert_eq!(deleted, [None, None]);
    let by_prefix = while_written(async |node| assert_eq!(node.delete_prefix("a/").await, 1)).await;
    assert_eq!(by_prefix, [None, None]);
    let cleared = while_written(async |node| assert_eq!(node.delete_prefix("").await, 2)).await;
    assert_eq!(cleared, [None, None]);
    let replaced = while_written(async |node| {
        node.put("a/k", b"new").await;
    })
    .await;
    assert_eq!(replaced, [Some(b"new".to_vec()), Some(b"new".to_vec())]);
    let expired = while_written(async |node| {
        assert!(node.cache.expire(&id("a/k"), Some(1)).await.unwrap());
    });
    assert_eq!(expired.await, [None, None]);
}

#[tokio::test]
async fn another_expiry_counts_for_what_is_on_its_way_down() {
    let far = clock().now_ms() + 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let settings = ColdSettings {
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let disk = Disk::new();
    let node = Node::start(&disk, &settings).await;
    node.put("k", &[1; 9_000]).await;
    disk.hold();
    node.evict_all().await;
    disk.is_asked().await;
    assert!(node.cache.expire(&id("k"), Some(far)).await.unwrap());
    node.evict_all().await;
    let now = node.cache.describe_below(&id("k")).await.unwrap().unwrap();
    assert_eq!(now.expires_at_ms, Some(far));
    disk.let_go();
    node.cold.flush().await.unwrap();
    let stored = node.cache.describe_below(&id("k")).await.unwrap().unwrap();
    assert_eq!(stored.expires_at_ms, Some(far));
}

#[tokio::test]
async fn what_was_below_is_there_after_a_kill_with_its_new_expiry() {
    let far = clock().now_ms() + 3_600_000;
    for at in [Some(far), None] {
        let disk = Disk::new();
        let node = Node::start(&disk, &settings()).await;
        let spec = PutSpec {
            below: true,
            expires_at_ms: Some(far - 1),
            ..spec(Mode::Replace)
        };
        node.put_as("k", spec, b"bytes").await.unwrap();
        assert!(node.cache.expire(&id("k"), at).await.unwrap());
        node.cold.flush().await.unwrap();
        node.kill().await;
        let node = Node::start(&disk, &settings()).await;
        let (description, bytes) = node.read("k").await.unwrap();
        assert_eq!((description.expires_at_ms, bytes), (at, b"bytes".to_vec()));
    }
}

/// A put waits until it is below; its segment was begun before its expiry was changed, and is refused.
#[tokio::test]
async fn a_put_that_waits_is_below_though_its_segment_was_refused() {
    let far = clock().now_ms() + 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let settings = ColdSettings {
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let disk = Disk::new();
    let node = Arc::new(Node::start(&disk, &settings).await);
    disk.hold();
    let putting = {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.put_below("k", b"bytes").await })
    };
    disk.is_asked().await;
    assert!(node.cache.expire(&id("k"), Some(far)).await.unwrap());
    disk.let_go();
    putting.await.unwrap().unwrap();
    assert_eq!(node.cold.stats().entries, 1);
    node.evict_all().await;
    let stored = node.cache.describe_below(&id("k")).await.unwrap().unwrap();
    assert_eq!(stored.expires_at_ms, Some(far));
}

#[tokio::test]
async fn a_key_that_expired_on_its_way_down_can_be_created() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    disk.hold();
    let at = clock().now_ms() + 500;
    let of = PutSpec {
        expires_at_ms: Some(at),
        ..spec(Mode::Create)
    };
    node.put_as("k", of, b"old").await.unwrap();
    node.evict_all().await;
    disk.is_asked().await;
    while clock().now_ms() <= at {
        tick().await;
    }
    let creating = node.put_as("k", spec(Mode::Create), b"new");
    let letting_go = async {
        for _ in 0..50 {
            tick().await;
        }
        disk.let_go();
    };
    let (created, ()) = tokio::join!(creating, letting_go);
    assert!(!created.unwrap().existed);
    assert_eq!(node.get("k").await.unwrap(), b"new");
}

/// A reader has found what is then deleted: who comes after that does not join him.
#[tokio::test]
async fn nobody_joins_a_load_of_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ColdSettings {
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let disk = Disk::new();
    let node = Arc::new(Node::start(&disk, &settings).await);
    for change in 0..3 {
        node.put("a/k", b"old").await;
        node.hand_all_down().await;
        disk.hold();
        let reader = {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.get("a/k").await })
        };
        disk.is_asked().await;
        match change {
            0 => node.delete("a/k").await,
            1 => assert_eq!(node.delete_prefix("a/").await, 1),
            _ => assert_eq!(node.delete_prefix("").await, 1),
        }
        assert_eq!(node.get("a/k").await, None);
        disk.let_go();
        let seen = reader.await.unwrap();
        assert!(seen.is_none_or(|seen| seen == b"old"));
        assert_eq!(node.get("a/k").await, None);
    }
}

/// Memory is wanted while a commit still forgets what its keys take the place of.
#[tokio::test]
async fn what_a_load_brings_does_not_leave_before_what_was_there_is_forgotten() {
    let disk = Disk::new();
    let settings = ColdSettings {
        queue_bytes: 1_000,
        ..settings()
    };
    let node = Arc::new(Node::start(&disk, &settings).await);
    let keys: Vec<String> = (0..3_000).map(|n| format!("k{n:04}")).collect();
    let shape = Shape::new(&[64]).unwrap();
    let of = id("k");
    let put = async |load: u32, data: &[u8]| {
        let rows: Vec<Row<'_>> = keys
            .iter()
            .map(|key| Row {
                key: key.as_str(),
                dtype: DType::UInt8,
                shape: &shape,
                data: [data].into_iter().collect(),
                metadata: &[],
                expires_at_ms: None,
                checksum: None,
                source_version: None,
            })
            .collect();
        let spec = RowsSpec {
            mode: Mode::Replace,
            load,
            pin: false,
            admit: Admit::Hot,
            below: false,
        };
        let answers = node.cache.put_rows(&of.tenant, &of.namespace, spec, &rows);
        assert!(answers.await.iter().all(Result::is_ok));
    };
    let load = node
        .cache
        .begin_load(&of.tenant, &of.namespace, LoadSpec::default());
    let load = load.unwrap();
    let number = node.cache.load(&of.tenant, &of.namespace, &load).unwrap();
    put(number, &[2; 64]).await;
    // Later than what the load has, so that no version tells which is to show.
    for (at, key) in keys.iter().enumerate() {
        if at % 10 == 0 {
            node.put_below(key, &[1; 64]).await.unwrap();
        }
    }
    disk.hold();
    let committing = {
        let (node, of, load) = (Arc::clone(&node), of.clone(), load.clone());
        tokio::spawn(async move { node.cache.commit_load(&of.tenant, &load).await })
    };
    disk.is_asked().await;
    for _ in 0..1_000 {
        node.cache.hand_down(u64::MAX, || 0);
    }
    disk.let_go();
    committing.await.unwrap().unwrap();
    for key in &keys {
        let seen = node.get(key).await;
        assert!(seen.is_none_or(|seen| seen == [2; 64]), "{key}");
    }
    node.evict_all().await;
    for key in &keys {
        let seen = node.get(key).await;
        assert!(seen.is_none_or(|seen| seen == [2; 64]), "{key}");
    }
}

#[tokio::test]
async fn while_there_is_no_index_nothing_waits_for_it_and_what_goes_is_gone() {
    let disk = Disk::new();
    let first = Node::start(&disk, &settings()).await;
    for key in ["a", "b", "pa", "pb", "kept"] {
        first.put_below(key, b"old").await.unwrap();
    }
    first.kill().await;
    let (cold, unread) = open(&disk, &settings()).await;
    let node = Node::of(cold.clone());
    let refused = node.put_below("a", b"new").await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    assert_eq!(node.get("a").await.unwrap(), b"new", "memory has it");
    node.delete("b").await;
    node.delete_prefix("p").await;
    node.evict_all().await;
    assert!(node.cold.flush().await.is_err());
    cold.build(unread.unwrap()).await.unwrap();
    for (key, seen) in [("b", None), ("pa", None), ("kept", Some(b"old".to_vec()))] {
        assert_eq!(node.get(key).await, seen, "{key}");
    }
    assert_eq!(node.get("a").await.unwrap(), b"new", "it waits");
    // Killed before the index was built: what was said is in the log.
    let (again, unread) = open(&disk, &settings()).await;
    let third = Node::of(again.clone());
    again.build(unread.unwrap()).await.unwrap();
    for key in ["a", "b", "pa", "pb"] {
        assert_eq!(third.get(key).await, None, "{key}");
    }
}
