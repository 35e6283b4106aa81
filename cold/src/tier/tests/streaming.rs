//! Large tensors, read past memory: exact, in bounded room, with what happens to them meanwhile.

use std::ops::Range;

use bowstring_cache::ledger::Account;
use object_store::ObjectStoreExt as _;

use super::failing::{objects, read, write};
use super::*;
use crate::index::ColdIndex;

const LEN: usize = 11 * MIB as usize + 77;

/// A node that has one large tensor below.
async fn with_large(disk: &Arc<Disk>) -> (Node, Vec<u8>) {
    let settings = ColdSettings {
        passing_bytes: 4 * MIB,
        ..settings()
    };
    let node = Node::start(disk, &settings).await;
    let data = bytes(5, LEN);
    node.put("k", &data).await;
    node.hand_all_down().await;
    (node, data)
}

async fn begin(node: &Node, range: Range<u64>) -> Option<Box<dyn Coming>> {
    match node.cache.open(&id("k"), Reading::Part).await.unwrap()? {
        Found::Here(_) => panic!("a part of what is large does not bring it up"),
        Found::Below(below) => below.read(range).await.unwrap(),
    }
}

fn in_passing(node: &Node) -> u64 {
    node.cache.ledger().used_by(Account::Cold)
}

#[tokio::test]
async fn a_range_is_read_in_its_blocks_and_nothing_else() {
    let disk = Disk::new();
    let (node, data) = with_large(&disk).await;
    let len = LEN as u64;
    for range in [
        0..len,
        0..1,
        len - 1..len,
        MIB - 1..MIB + 1,
        3 * MIB..4 * MIB,
        2 * MIB + 5..9 * MIB + 7,
        11 * MIB..len,
        7..7,
        len..len,
    ] {
        let before = node.cold.stats().read_bytes;
        let coming = begin(&node, range.clone()).await.unwrap();
        let got = all(coming).await.unwrap();
        let at = |offset: u64| usize::try_from(offset).unwrap();
        assert!(got == data[at(range.start)..at(range.end)], "{range:?}");
        let blocks = match range.is_empty() {
            true => 0,
            false => range.end.next_multiple_of(MIB).min(len) - range.start / MIB * MIB,
        };
        let read = node.cold.stats().read_bytes - before;
        assert_eq!(read, blocks, "{range:?}");
    }
    assert!(in_passing(&node) <= 4 * MIB);
    assert_eq!(node.cache.stats().entries, 0, "and nothing stays of it");
    let stats = node.cold.stats();
    assert_eq!((stats.hits, stats.damaged), (9, 0));
}

#[tokio::test]
async fn who_reads_slowly_holds_a_little_and_who_waits_gets_all() {
    let disk = Disk::new();
    let (node, data) = with_large(&disk).await;
    let mut readers = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let (cold, cache) = (node.cold.clone(), node.cache.clone());
        let mut reading = tokio::spawn(async move {
            let Some(Found::Below(below)) = cache.open(&id("k"), Reading::Part).await.unwrap()
            else {
                panic!("it is below");
            };
            let mut coming = below.read(0..LEN as u64).await.unwrap().unwrap();
            let first = coming.next().await.unwrap();
            assert!(cold.stats().damaged == 0);
            (first, coming)
        });
        tokio::select! {
            reader = &mut reading => readers.push(reader.unwrap()),
            () = clock().sleep(Duration::from_millis(100)) => waiting.push(reading),
        }
        assert!(in_passing(&node) <= 4 * MIB);
    }
    assert!(!readers.is_empty() && !waiting.is_empty());
    assert!(node.cold.is_short_of_room());
    let read = async |(first, mut coming): (bytes::Bytes, Box<dyn Coming>)| {
        let mut got = first.to_vec();
        drop(first);
        loop {
            let piece = coming.next().await.unwrap();
            assert!(in_passing(&node) <= 4 * MIB);
            if piece.is_empty() {
                break;
            }
            got.extend_from_slice(&piece);
        }
        assert!(got == data);
    };
    let have = futures::future::join_all(readers.into_iter().map(read));
    let wait = waiting
        .into_iter()
        .map(async |reader| read(reader.await.unwrap()).await);
    tokio::join!(have, futures::future::join_all(wait));
    assert!(in_passing(&node) <= 4 * MIB);
    assert!(!node.cold.is_short_of_room());
}

#[tokio::test]
async fn a_damaged_block_ends_the_stream_behind_those_before_it() {
    for nth in [0, 1, 6, 11] {
        let disk = Disk::new();
        let (node, data) = with_large(&disk).await;
        let path = &objects(&disk, ".arrow").await[0];
        let mut file = read(&disk, path).await;
        let start = file.windows(64).position(|at| at == &data[..64]).unwrap();
        file[start + nth * MIB as usize + 60] ^= 1;
        write(&disk, path, file).await;
        // A range that does not touch it is right.
        let other = if nth > 5 { 0..MIB } else { 9 * MIB..10 * MIB };
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let right = begin(&node, other.clone()).await.unwrap();
        assert!(all(right).await.unwrap() == data[at(other.start)..at(other.end)]);
        match begin(&node, 0..LEN as u64).await {
            None => assert_eq!(nth, 0),
            Some(mut coming) => {
                let mut got = Vec::new();
                let error = loop {
                    match coming.next().await {
                        Ok(piece) => got.extend_from_slice(&piece),
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.code, Code::DataLoss);
                assert_eq!(got.len(), nth * MIB as usize, "{error}");
                assert!(data.starts_with(&got));
            }
        }
        assert_eq!(node.get("k").await, None, "a miss from now on");
        let stats = node.cold.stats();
        assert_eq!((stats.damaged, stats.entries), (1, 0));
    }
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_says_so_and_loses_nothing() {
    let disk = Disk::new();
    let (node, data) = with_large(&disk).await;
    let mut coming = begin(&node, 0..LEN as u64).await.unwrap();
    coming.next().await.unwrap();
    disk.fails.store(true, Ordering::SeqCst);
    let error = all(coming).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert_eq!(
        node.get("k").await,
        None,
        "before the first byte it is a miss"
    );
    assert!(node.cold.stats().failed_reads > 1);
    disk.fails.store(false, Ordering::SeqCst);
    assert!(node.get("k").await.unwrap() == data);
    assert_eq!(node.cold.stats().damaged, 0);
}

#[tokio::test]
async fn what_is_replaced_or_deleted_meanwhile_is_read_as_it_was_or_not_at_all() {
    let disk = Disk::new();
    let (node, data) = with_large(&disk).await;
    let mut first = begin(&node, 0..LEN as u64).await.unwrap();
    let got = first.next().await.unwrap();
    node.put("k", &bytes(6, LEN)).await;
    let rest = all(first).await.unwrap();
    assert!([&got[..], &rest].concat() == data);
    node.hand_all_down().await;
    assert!(node.get("k").await.unwrap() == bytes(6, LEN));

    let mut second = begin(&node, 0..LEN as u64).await.unwrap();
    second.next().await.unwrap();
    node.delete("k").await;
    for path in objects(&disk, ".arrow").await {
        disk.objects.delete(&path).await.unwrap();
    }
    let error = all(second).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(begin(&node, 0..1).await.is_none());
    assert_eq!(node.cold.stats().damaged, 0);
}

/// As tidying does it, which moves what is alive and drops the segment.
#[tokio::test]
async fn what_is_moved_meanwhile_is_read_on_where_it_is_now() {
    let disk = Disk::new();
    let (node, data) = with_large(&disk).await;
    let mut coming = begin(&node, 0..LEN as u64).await.unwrap();
    let first = coming.next().await.unwrap();
    let index: &ColdIndex = node.cold.working().unwrap();
    let was = index.get(&id("k")).unwrap().unwrap();
    let path = objects(&disk, ".arrow").await.remove(0);
    let moved = crate::entry::Place {
        segment: crate::entry::Number(was.place.segment.0 + 7),
        ..was.place
    };
    let name = format!("p/segments/{:020}.arrow", moved.segment.0);
    disk.objects.rename(&path, &Path::from(name)).await.unwrap();
    index
        .add_segment(moved.segment, moved.offset + LEN as u64)
        .unwrap();
    let now = crate::entry::Stored {
        place: moved,
        ..was.clone()
    };
    index.move_all(&[(was.place, now)]).unwrap();
    let rest = all(coming).await.unwrap();
    assert!([&first[..], &rest].concat() == data);
    assert_eq!(node.cold.stats().damaged, 0);
}
