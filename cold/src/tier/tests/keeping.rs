//! What is handed down is read back.

use super::*;

const LENS: [usize; 7] = [0, 1, 3_000, 70_000, 1 << 20, 5 << 20, (9 << 20) + 5];

#[tokio::test]
async fn every_size_is_read_back_as_it_was() {
    let node = Node::start(&Disk::new(), &settings()).await;
    let mut before = Vec::new();
    for len in LENS {
        let spec = PutSpec {
            metadata: br#"{"of": "a test"}"#.to_vec(),
            source_version: Some(-4),
            ..spec(Mode::Create)
        };
        let key = format!("k{len}");
        node.put_as(&key, spec, &bytes(7, len)).await.unwrap();
        let entry = node.cache.peek(&id(&key)).unwrap();
        before.push(crate::entry::Description::of(&entry).unwrap());
    }
    node.hand_all_down().await;
    // Whoever has written the last of them lets go of it a moment later.
    while node.cache.stats().arena_used_bytes > 0 {
        tick().await;
    }
    for (len, before) in LENS.into_iter().zip(before) {
        let key = format!("k{len}");
        let (description, found) = node.read(&key).await.unwrap();
        assert_eq!(description, before);
        assert!(found == bytes(7, len), "{len}");
    }
    let stats = node.cold.stats();
    assert_eq!((stats.hits, stats.entries), (7, 7));
    assert_eq!((stats.damaged, stats.dropped, stats.queued), (0, 0, 0));
    assert_eq!(node.cache.stats().entries, 0, "once is not enough");
    assert_eq!(node.cache.stats().arena_used_bytes, 0);
    for len in LENS {
        assert!(node.get(&format!("k{len}")).await.unwrap() == bytes(7, len));
    }
    assert_eq!(node.cache.stats().entries, 7, "a second read keeps it");
    assert_eq!(node.cold.stats().promoted, 7);
    let written = node.cold.stats().segments;
    node.hand_all_down().await;
    assert_eq!(node.cold.stats().segments, written, "it is there already");
}

#[tokio::test]
async fn many_readers_are_one_load_and_none_takes_it_from_the_others() {
    let disk = Disk::new();
    let node = Arc::new(Node::start(&disk, &settings()).await);
    node.put("k", &bytes(1, 100_000)).await;
    node.hand_all_down().await;
    let gets = disk.gets.load(Ordering::SeqCst);
    disk.hold();
    let read = || {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.get("k").await })
    };
    let first = read();
    disk.is_asked().await;
    let readers: Vec<_> = (0..100).map(|_| read()).collect();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    disk.let_go();
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == bytes(1, 100_000));
    }
    assert_eq!(disk.gets.load(Ordering::SeqCst), gets + 1);
    assert_eq!(node.cache.stats().arena_used_bytes, 0);
}

#[tokio::test]
async fn what_waits_to_be_written_is_read() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    disk.hold();
    for len in LENS {
        node.put(&format!("k{len}"), &bytes(3, len)).await;
    }
    node.evict_all().await;
    disk.is_asked().await;
    for len in LENS {
        assert!(node.get(&format!("k{len}")).await.unwrap() == bytes(3, len));
    }
    assert_eq!(node.cold.stats().hits_queued, 7);
    disk.let_go();
    node.cold.flush().await.unwrap();
}
