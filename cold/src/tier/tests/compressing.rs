//! Namespaces whose tensors lie compressed: exact by whatever way they are read, smaller in the store, and checked.

use std::collections::BTreeMap;
use std::ops::Range;

use bowstring_cache::ledger::Account;
use bowstring_cache::lower::LowerTier as _;
use bowstring_wire::settings::SettingsChange;

use super::failing::{objects, read, write};
use super::*;
use crate::entry::Stored;

/// One of each way in which they are written and read.
const LENS: [u64; 9] = [
    0,
    1,
    700,
    30_000,
    100_000,
    MIB - 1,
    MIB + 1,
    3 * MIB,
    11 * MIB + 77,
];

/// A quarter of it is noise.
fn numbers(seed: u64, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap();
    let noise = bytes(seed, len);
    let keep = |(at, byte): (usize, u8)| if at % 4 == 0 { byte } else { 0 };
    noise.into_iter().enumerate().map(keep).collect()
}

async fn compress(node: &Node, by: &str) {
    let change = SettingsChange::parse(&format!(r#"{{"compression":"{by}"}}"#)).unwrap();
    let of = id("k");
    let set = node
        .cache
        .set_settings(&of.tenant, &of.namespace, &change, None);
    set.await.unwrap();
}

async fn with_all(disk: &Arc<Disk>, settings: &ColdSettings) -> (Node, BTreeMap<String, Vec<u8>>) {
    let node = Node::start(disk, settings).await;
    compress(&node, "zstd").await;
    let mut all = BTreeMap::new();
    for (at, len) in LENS.into_iter().enumerate() {
        let (key, data) = (format!("k{at}"), numbers(at as u64, len));
        node.put(&key, &data).await;
        all.insert(key, data);
    }
    node.hand_all_down().await;
    (node, all)
}

async fn part(node: &Node, key: &str, range: Range<u64>) -> Vec<u8> {
    match node.cache.open(&id(key), Reading::Part).await.unwrap() {
        Some(Found::Below(below)) => all(below.read(range).await.unwrap().unwrap())
            .await
            .unwrap(),
        _ => panic!("it is large"),
    }
}

fn stored(node: &Node, key: &str) -> Stored {
    let index = node.cold.working().unwrap();
    index.get(&id(key)).unwrap().unwrap()
}

#[tokio::test]
async fn what_is_compressed_comes_back_by_every_way() {
    let disk = Disk::new();
    let (node, all) = with_all(&disk, &settings()).await;
    let total: u64 = LENS.iter().sum();
    let stats = node.cold.stats();
    assert_eq!((stats.written, stats.written_bytes), (9, total));
    assert_eq!(
        (stats.packed, stats.packed_bytes),
        (7, total - 1),
        "but what is too small"
    );
    assert!(stats.packed_file_bytes < total / 2, "{stats:?}");
    assert!(stats.store.written_bytes < total / 2 + 100_000, "{stats:?}");
    for (key, data) in &all {
        assert!(node.get(key).await.as_ref() == Some(data), "{key}");
    }
    assert_eq!(node.cold.stats().promoted, 0);
    let ids: Vec<Id> = all.keys().map(|key| id(key)).collect();
    let mut seen = 0;
    while seen < ids.len() {
        let many = node
            .cold
            .open_all(&node.cache, &ids[seen..], 64 * MIB, Reading::Scan);
        for found in many.await.unwrap() {
            let key = ids[seen].key.as_str();
            if let Found::Here(entry) = found.unwrap() {
                assert!(entry.into_vec().unwrap() == all[key], "{key}");
            }
            seen += 1;
        }
    }
    // Rows of a large one, in its blocks.
    let (data, read) = (&all["k8"], node.cold.stats().store.read_bytes);
    for range in [
        0..1,
        MIB - 1..MIB + 1,
        5 * MIB + 3..9 * MIB,
        11 * MIB..11 * MIB + 77,
    ] {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let got = part(&node, "k8", range.clone()).await;
        assert!(got == data[at(range.start)..at(range.end)], "{range:?}");
    }
    let read = node.cold.stats().store.read_bytes - read;
    assert!(read < 8 * MIB * 6 / 10, "eight blocks, compressed: {read}");
    // And a second time, to stay.
    for (key, data) in &all {
        assert!(node.get(key).await.as_ref() == Some(data), "{key}");
        assert!(node.get(key).await.as_ref() == Some(data), "{key}");
    }
    let stats = node.cold.stats();
    assert!(stats.promoted >= 8, "{stats:?}");
    assert_eq!((stats.damaged, stats.failed_reads), (0, 0));
    assert!(node.cache.ledger().used_by(Account::Cold) <= 40 * MIB);
}

#[tokio::test]
async fn what_would_not_become_smaller_lies_as_it_is() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    compress(&node, "zstd").await;
    for (at, len) in [500, 80_000, 5 << 20].into_iter().enumerate() {
        node.put(&format!("k{at}"), &bytes(3, len)).await;
    }
    node.hand_all_down().await;
    assert_eq!(node.cold.stats().packed, 0);
    assert_eq!(node.get("k2").await.unwrap(), bytes(3, 5 << 20));
    // Nor anything where nobody asks for it any more; what lies compressed stays readable.
    node.put("c", &numbers(1, 90_000)).await;
    node.hand_all_down().await;
    compress(&node, "none").await;
    node.put("n", &numbers(2, 90_000)).await;
    node.hand_all_down().await;
    assert_eq!(node.cold.stats().packed, 1);
    assert_eq!(node.get("c").await.unwrap(), numbers(1, 90_000));
    assert_eq!(node.get("n").await.unwrap(), numbers(2, 90_000));
}

#[tokio::test]
async fn an_index_that_is_built_anew_knows_where_each_block_is() {
    let disk = Disk::new();
    let (node, all) = with_all(&disk, &settings()).await;
    node.kill().await;
    let node = Node::start(&disk, &settings()).await;
    for (key, data) in &all {
        assert!(node.get(key).await.as_ref() == Some(data), "{key}");
    }
    assert!(stored(&node, "k8").is_packed());
}

#[tokio::test]
async fn frames_move_as_they_are_and_damaged_ones_do_not() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    compress(&node, "zstd").await;
    for n in 0..20 {
        node.put(&format!("k{n}"), &numbers(n, 200_000)).await;
    }
    node.hand_all_down().await;
    let was: Vec<Stored> = (0..5).map(|n| stored(&node, &format!("k{n}"))).collect();
    for n in 5..20 {
        node.delete(&format!("k{n}")).await;
    }
    let place = was[4].place;
    let path = Path::from(format!("p/segments/{:020}.arrow", place.segment.0));
    let mut file = read(&disk, &path).await;
    file[usize::try_from(place.offset + was[4].file_bytes() / 2).unwrap()] ^= 1;
    write(&disk, &path, file).await;
    let before = node.cold.stats();
    node.cold.rewrite_some(&node.cache).await.unwrap();
    let stats = node.cold.stats();
    assert_eq!(stats.rewritten, 1, "little of it was alive");
    assert_eq!(stats.packed, before.packed, "nothing is compressed anew");
    let written = stats.store.written_bytes - before.store.written_bytes;
    assert!(written < 300_000, "{written}");
    for (n, was) in (0..4).zip(&was) {
        let now = stored(&node, &format!("k{n}"));
        assert!(now.place.segment > was.place.segment);
        assert_eq!(
            (&now.frames, &now.description),
            (&was.frames, &was.description)
        );
        assert_eq!(
            node.get(&format!("k{n}")).await.unwrap(),
            numbers(n, 200_000)
        );
    }
    assert_eq!(node.get("k4").await, None);
}

/// Of as many bytes as the one before, so that only what it says of itself is wrong.
fn bomb(len: usize) -> Vec<u8> {
    let zeros = vec![0; 2 * MIB as usize];
    let mut frame = zstd::bulk::compress(&zeros, 1).unwrap();
    let rest = len - frame.len() - 8;
    frame.extend_from_slice(&0x184d_2a50_u32.to_le_bytes());
    frame.extend_from_slice(&(rest as u32).to_le_bytes());
    frame.resize(len, 0);
    frame
}

#[tokio::test]
async fn a_block_that_would_become_more_than_it_was_is_refused_and_counted() {
    for (key, nth, is_bomb) in [
        ("k8", 5, true),
        ("k8", 0, false),
        ("k7", 1, true),
        ("k3", 0, true),
        ("k4", 0, false),
    ] {
        let disk = Disk::new();
        let (node, data) = with_all(&disk, &settings()).await;
        let it = stored(&node, key);
        let block = it.in_file(nth * MIB..(nth + 1) * MIB);
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let path = Path::from(format!("p/segments/{:020}.arrow", it.place.segment.0));
        assert!(objects(&disk, ".arrow").await.contains(&path));
        let mut file = read(&disk, &path).await;
        let frame = &mut file[at(block.start)..at(block.end)];
        match is_bomb {
            true => frame.copy_from_slice(&bomb(frame.len())),
            false => frame.fill(7),
        }
        write(&disk, &path, file).await;
        match node.cache.open(&id(key), Reading::Part).await.unwrap() {
            None => {}
            Some(Found::Here(_)) => panic!("{key} was given"),
            Some(Found::Below(below)) => {
                if let Some(mut coming) = below.read(0..it.description.len).await.unwrap() {
                    let mut got = Vec::new();
                    let error = loop {
                        match coming.next().await {
                            Ok(piece) => got.extend_from_slice(&piece),
                            Err(error) => break error,
                        }
                    };
                    assert_eq!(error.code, Code::DataLoss, "{error}");
                    assert!(got.len() as u64 == nth * MIB && data[key].starts_with(&got));
                }
            }
        }
        assert_eq!(node.get(key).await, None);
        let stats = node.cold.stats();
        assert_eq!((stats.damaged, stats.entries), (1, 8));
    }
}
