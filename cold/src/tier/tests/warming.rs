//! What the last run had in memory is brought up at the next start, as far as there is room.

use super::*;
use crate::format::read_hot;
use crate::store::{Folder, ObjectName};

const LEN: usize = 3_000;

/// A store with a list of `keys`, of which the later ones were asked for more.
async fn left_by_a_run(keys: usize) -> Arc<Disk> {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.cold.warm(&node.cache, None).await;
    for at in 0..keys {
        node.put_below(&key(at), &bytes(at as u64, LEN))
            .await
            .unwrap();
        for _ in 0..at % 50 {
            assert!(node.cache.get(&id(&key(at))).is_some());
        }
    }
    node.cold.note_hot(&node.cache).await.unwrap();
    node.kill().await;
    disk
}

fn key(at: usize) -> String {
    format!("k{at:04}")
}

async fn names(disk: &Arc<Disk>) -> Vec<(ObjectName, Vec<Id>)> {
    let store = disk.store();
    let mut lists = Vec::new();
    for listed in store.list(Folder::Hot).await.unwrap() {
        let bytes = store.read_all(&listed.name, MIB).await.unwrap();
        let names = read_hot(crate::entry::Number(listed.name.number()), &bytes);
        lists.push((listed.name, names.unwrap().collect()));
    }
    lists
}

async fn start(disk: &Arc<Disk>, percent: u8) -> Node {
    let node = Node::start(disk, &settings()).await;
    node.cold.warm(&node.cache, Some(percent)).await;
    node
}

#[tokio::test]
async fn the_hottest_come_first_and_no_get_is_counted() {
    let disk = left_by_a_run(200).await;
    let lists = names(&disk).await;
    let [(_, listed)] = &lists[..] else {
        panic!("{lists:?}")
    };
    assert_eq!(listed.len(), 200);
    assert!(
        listed[..4]
            .iter()
            .all(|id| id.key.as_str().ends_with("49") || id.key.as_str().ends_with("99"))
    );

    let node = start(&disk, 80).await;
    let stats = node.cold.stats();
    assert_eq!((stats.warmed, stats.hits, stats.warming), (200, 0, false));
    assert_eq!(stats.warmed_bytes, 200 * LEN as u64);
    assert_eq!(node.cache.stats().entries, 200);
    assert_eq!((node.cache.stats().hits, node.cache.stats().misses), (0, 0));
    for at in 0..200 {
        let entry = node.cache.get(&id(&key(at))).unwrap();
        assert_eq!(entry.into_vec().unwrap(), bytes(at as u64, LEN));
    }
    // The next list takes the place of the one before.
    node.cold.note_hot(&node.cache).await.unwrap();
    let next = names(&disk).await;
    assert_eq!(next.len(), 1);
    assert!(next[0].0 > lists[0].0);
    node.kill().await;
}

#[tokio::test]
async fn what_went_or_was_put_meanwhile_is_not_brought_back() {
    let disk = left_by_a_run(20).await;
    let node = Node::start(&disk, &settings()).await;
    node.delete("k0003").await;
    node.put("k0004", b"newer").await;
    node.cold.warm(&node.cache, Some(80)).await;
    assert_eq!(node.cold.stats().warmed, 18);
    assert_eq!(node.get("k0003").await, None);
    assert_eq!(node.get("k0004").await.unwrap(), b"newer");
    node.kill().await;
}

#[tokio::test]
async fn memory_that_is_used_is_left_alone() {
    let disk = left_by_a_run(200).await;
    let node = Node::start(&disk, &settings()).await;
    let mut put = 0;
    // What the tier keeps free by handing down is left to it.
    while node.cache.free_bytes() > 64 * MIB / 16 + MIB {
        node.put(&format!("new{put}"), &bytes(put, 1 << 20)).await;
        put += 1;
    }
    let before = node.cache.stats();
    node.cold.warm(&node.cache, Some(100)).await;
    let after = node.cache.stats();
    assert_eq!(node.cold.stats().warmed, 0);
    assert_eq!(
        (after.entries, after.events.evicted),
        (before.entries, before.events.evicted)
    );
    node.kill().await;

    // And no more is used than was asked for.
    let node = start(&disk, 1).await;
    assert!(node.cold.stats().warmed < 200);
    node.kill().await;
}

#[tokio::test]
async fn a_list_that_is_damaged_or_cannot_be_read_does_no_harm() {
    let disk = left_by_a_run(20).await;
    let (name, _) = names(&disk).await.remove(0);
    let store = disk.store();
    let mut list = store.read_all(&name, MIB).await.unwrap().to_vec();
    let middle = list.len() / 2;
    list[middle] ^= 1;
    store.replace(&name, list.into()).await.unwrap();
    let node = start(&disk, 80).await;
    assert_eq!(
        (node.cold.stats().warmed, node.cache.stats().entries),
        (0, 0)
    );
    assert_eq!(node.get("k0007").await.unwrap(), bytes(7, LEN));
    node.kill().await;

    let node = Node::start(&disk, &settings()).await;
    disk.fails.store(true, Ordering::SeqCst);
    node.cold.warm(&node.cache, Some(80)).await;
    node.cold.note_hot(&node.cache).await.unwrap_err();
    disk.fails.store(false, Ordering::SeqCst);
    node.cold.note_hot(&node.cache).await.unwrap();
    assert_eq!(names(&disk).await.len(), 1);
    node.kill().await;
}

/// A read of a key that is just being warmed asks the store itself.
#[tokio::test]
async fn a_look_up_does_not_wait_for_what_is_warmed() {
    let disk = left_by_a_run(20).await;
    let node = Arc::new(Node::start(&disk, &settings()).await);
    disk.hold();
    let warming = {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.cold.warm(&node.cache, Some(80)).await })
    };
    // The list itself.
    disk.is_asked().await;
    disk.hold();
    disk.gate.advance(Duration::from_secs(1));
    disk.is_asked().await;
    // The tensors hang; a read does not wait for them, though it needs the same bytes.
    disk.held.store(false, Ordering::SeqCst);
    assert_eq!(node.get("k0007").await.unwrap(), bytes(7, LEN));
    assert_eq!(node.cold.stats().warmed, 0);
    disk.let_go();
    warming.await.unwrap();
    assert_eq!(node.cold.stats().warmed, 20);
    let node = Arc::into_inner(node).unwrap();
    assert_eq!(node.cold.stats().hits, 1);
    node.kill().await;
}
