//! What is rewritten, given up, removed and written down at the end; and what is not.

use std::io::Cursor;

use arrow_ipc::reader::FileReader;

use super::failing::{objects, read, write};
use super::*;

/// The names of the columns of each segment, and how many rows it has.
async fn columns(disk: &Disk) -> Vec<(Vec<String>, usize)> {
    let mut all = Vec::new();
    for path in objects(disk, ".arrow").await {
        let file = Cursor::new(read(disk, &path).await);
        let file = FileReader::try_new(file, None).unwrap();
        let schema = file.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        let names = names.collect();
        all.push((names, file.map(|batch| batch.unwrap().num_rows()).sum()));
    }
    all
}

#[tokio::test]
async fn what_is_rewritten_stays_with_its_kind() {
    let disk = Disk::new();
    let settings = ColdSettings {
        segment_bytes: 4 * MIB,
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    // Two kinds of which enough is alive afterwards, and one of which there is not.
    let kinds = [("a", 30_000, 200), ("b", 50_000, 120), ("c", 10_000, 80)];
    for (name, len, count) in kinds {
        for n in 0..count {
            node.put(&format!("{name}{n}"), &bytes(n, len)).await;
        }
        node.hand_all_down().await;
    }
    let alive = |n: u64| n.is_multiple_of(5);
    for (name, _, count) in kinds {
        for n in (0..count).filter(|n| !alive(*n)) {
            node.delete(&format!("{name}{n}")).await;
        }
    }
    while node.cold.stats().rewritten < 3 {
        node.cold.rewrite_some(&node.cache).await.unwrap();
    }
    node.cold.drop_dead().await.unwrap();
    for (name, len, count) in kinds {
        for n in 0..count {
            let expected = alive(n).then(|| bytes(n, len));
            assert!(node.get(&format!("{name}{n}")).await == expected);
        }
    }
    let before = node.cold.stats().rewritten;
    node.cold.rewrite_some(&node.cache).await.unwrap();
    assert_eq!(node.cold.stats().rewritten, before, "it comes to an end");

    let columns = columns(&disk).await;
    let is_opaque = |names: &[String]| names.iter().any(|name| name == "dtype");
    let rows = |opaque: bool| -> Vec<usize> {
        let mut rows: Vec<usize> = columns
            .iter()
            .filter(|(names, _)| is_opaque(names) == opaque)
            .map(|(_, rows)| *rows)
            .collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!((rows(false), rows(true)), (vec![24, 40], vec![16]));
}

#[tokio::test]
async fn the_store_is_kept_within_its_limit_by_what_was_not_read_for_longest() {
    let disk = Disk::new();
    let settings = ColdSettings {
        segment_bytes: MIB,
        bytes_max: Some(6 * MIB + MIB / 2),
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    let tensor = |n: u64| bytes(n, 1 << 20);
    for n in 0..12 {
        node.put_below(&format!("k{n}"), &tensor(n)).await.unwrap();
    }
    node.evict_all().await;
    assert_eq!(node.cold.segments().await.unwrap().len(), 12);
    // The oldest are read, one of them is in memory again.
    assert!(node.get("k0").await.unwrap() == tensor(0));
    node.cold.bring(&node.cache, &id("k1")).await.unwrap();
    node.cold.keep_within_limit(&node.cache).await.unwrap();
    let left = node.cold.segments().await.unwrap();
    let bytes_left: u64 = left.iter().map(|segment| segment.total_bytes).sum();
    assert!(
        bytes_left <= 6 * MIB + MIB / 2 && left.len() == 6,
        "{left:?}"
    );
    let stats = node.cold.stats();
    assert_eq!((stats.given_up, stats.segments_dropped), (6, 6));
    let files = objects(&disk, ".arrow").await;
    assert_eq!(files.len(), 6, "{files:?}");
    for n in 0..12 {
        let expected = (!(2..8).contains(&n)).then(|| tensor(n));
        assert!(node.get(&format!("k{n}")).await == expected, "k{n}");
    }
}

#[tokio::test]
async fn what_memory_has_of_a_segment_that_is_given_up_goes_down_again() {
    let disk = Disk::new();
    let settings = ColdSettings {
        segment_bytes: MIB,
        bytes_max: Some(0),
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    node.put_below("k", &[7; 1 << 20]).await.unwrap();
    node.cold.keep_within_limit(&node.cache).await.unwrap();
    assert_eq!(node.cold.segments().await.unwrap(), []);
    node.hand_all_down().await;
    assert_eq!(node.cold.segments().await.unwrap().len(), 1);
    assert!(node.get("k").await.unwrap() == [7; 1 << 20]);
}

#[tokio::test]
async fn what_nobody_knows_of_is_removed_and_what_is_on_its_way_is_not() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.put_below("known", &[1; 100]).await.unwrap();
    let [known] = &objects(&disk, ".arrow").await[..] else {
        panic!("one segment");
    };
    // As a write leaves it of which the sidecar failed.
    let number = node.cold.inner.number();
    let orphan = Path::from(format!("p/segments/{:020}.arrow", number.0));
    let data = read(&disk, known).await;
    write(&disk, &orphan, data.clone()).await;
    let number = node.cold.inner.open_number();
    let coming = Path::from(format!("p/segments/{:020}.arrow", number.0));
    write(&disk, &coming, data).await;

    node.cold.drop_orphans().await.unwrap();
    assert_eq!(node.cold.stats().orphans, 1);
    let left = objects(&disk, ".arrow").await;
    assert_eq!(left, [known.clone(), coming]);
    assert_eq!(node.get("known").await.unwrap(), [1; 100]);
}

#[tokio::test]
async fn what_is_dead_goes_some_at_a_time() {
    let disk = Disk::new();
    let settings = ColdSettings {
        segment_bytes: 1,
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    for n in 0..70 {
        node.put_below(&format!("k{n}"), &[1]).await.unwrap();
    }
    assert_eq!(node.delete_prefix("k").await, 70);
    for left in [6, 0] {
        node.cold.drop_dead().await.unwrap();
        assert_eq!(node.cold.segments().await.unwrap().len(), left);
    }
}

#[tokio::test]
async fn a_store_that_is_held_up_holds_up_no_put() {
    let disk = Disk::new();
    let settings = ColdSettings {
        queue_bytes: 4 * MIB,
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    disk.hold();
    for n in 0..256 {
        node.put(&format!("k{n}"), &bytes(n, 1 << 19)).await;
    }
    let stats = node.cold.stats();
    assert!(stats.queued_bytes <= 4 * MIB, "{stats:?}");
    assert!(stats.dropped > 0, "{stats:?}");
    assert!(node.get("k255").await.unwrap() == bytes(255, 1 << 19));
    disk.let_go();
}

#[tokio::test]
async fn the_end_writes_what_was_asked_for_most_first() {
    const LEN: usize = 100_000;
    let disk = Disk::new();
    let settings = ColdSettings {
        queue_bytes: MIB,
        ..settings()
    };
    let node = Node::start(&disk, &settings).await;
    let hits = |n: u64| match n % 6 {
        0 => 20,
        1 => 3,
        _ => 0,
    };
    for n in 0..30 {
        node.put(&format!("k{n}"), &bytes(n, LEN)).await;
        for _ in 0..hits(n) {
            node.cache.get(&id(&format!("k{n}"))).unwrap();
        }
    }
    // Room for ten, and there is no time for more.
    disk.hold();
    let until = node.cold.inner.clock.monotonic() + Duration::from_secs(2);
    let saved = node.cold.save(&node.cache, until).await.unwrap();
    assert_eq!((saved.entries, saved.left), (0, 30));
    disk.let_go();
    while node.cold.stats().queued > 0 {
        disk.let_go();
        tick().await;
    }
    let stats = node.cold.stats();
    assert_eq!((stats.written, stats.dropped), (10, 0));
    for n in 0..30 {
        let below = node.cold.look_up(&id(&format!("k{n}"))).await.unwrap();
        assert_eq!(below.is_some(), hits(n) > 0, "k{n}");
    }
}
