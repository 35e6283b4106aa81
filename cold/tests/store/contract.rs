//! The questions. Each begins with numbers of its own, so that they can be asked of one place.

use std::collections::BTreeSet;

use bowstring_cold::entry::Number;
use bowstring_cold::store::{Folder, Listed, ObjectName, Store, StoreError};
use bytes::Bytes;
use futures::future::join_all;

use crate::bytes;

/// Whether a store decides between two writers of one name at one time.
#[derive(Clone, Copy, PartialEq)]
pub enum Races {
    Decided,
    /// One that looks first and writes then: fit for tests only.
    Undecided,
}

pub async fn all(store: &Store, races: Races) {
    written_once(store).await;
    what_is_not_there(store).await;
    ranges(store).await;
    large_objects(store).await;
    unfinished(store).await;
    many_at_once(store).await;
    if races == Races::Decided {
        a_race(store).await;
    }
    listings(store).await;
    let counters = store.counters();
    assert!(counters.requests > 100, "{counters:?}");
    assert!(
        counters.read_bytes > 1 << 20 && counters.written_bytes > 1 << 20,
        "{counters:?}"
    );
    assert_eq!(counters.timeouts, 0, "{counters:?}");
    // To give up an upload while one of its parts comes in is an error for some servers.
    assert!(counters.retries <= 3, "{counters:?}");
}

async fn written_once(store: &Store) {
    for name in [
        ObjectName::Segment(Number(1)),
        ObjectName::Sidecar(Number(1)),
        ObjectName::Log(Number(u64::MAX)),
        ObjectName::Epoch(1),
    ] {
        let pieces = vec![bytes(1, 10), Bytes::new(), bytes(2, 100_000), bytes(3, 7)];
        let whole = pieces.concat();
        assert_eq!(store.create(&name, pieces.clone()).await, Ok(()), "{name}");
        assert_eq!(
            store.read_all(&name, 1 << 20).await.unwrap(),
            whole,
            "{name}"
        );
        // As one whose answer was lost and that is tried again.
        assert_eq!(store.create(&name, pieces).await, Ok(()), "{name}");
        for other in [
            bytes(4, 100),
            bytes(4, whole.len()),
            bytes(4, 1 << 20),
            Bytes::new(),
        ] {
            assert_eq!(
                store.create(&name, vec![other]).await,
                Err(StoreError::Exists),
                "{name}"
            );
        }
        assert_eq!(
            store.read_all(&name, 1 << 20).await.unwrap(),
            whole,
            "{name}"
        );
        assert_eq!(store.size(&name).await, Ok(whole.len() as u64));
        assert_eq!(store.delete(&name).await, Ok(()));
        assert_eq!(
            store.read_all(&name, 1 << 20).await,
            Err(StoreError::NotFound)
        );
        assert_eq!(store.create(&name, vec![]).await, Ok(()));
        assert_eq!(store.read_all(&name, 0).await.unwrap(), Bytes::new());
        assert_eq!(store.delete(&name).await, Ok(()));
    }
}

async fn what_is_not_there(store: &Store) {
    let name = ObjectName::Segment(Number(2));
    assert_eq!(store.read(&name, 0..1).await, Err(StoreError::NotFound));
    assert_eq!(store.read_all(&name, 1).await, Err(StoreError::NotFound));
    let missing = Err(StoreError::NotFound);
    let two = vec![0..1, 5..6];
    assert_eq!(store.read_ranges(&name, two).await, missing);
    assert_eq!(store.size(&name).await, Err(StoreError::NotFound));
    assert_eq!(store.delete(&name).await, Ok(()));
}

async fn ranges(store: &Store) {
    let name = ObjectName::Segment(Number(3));
    let whole = bytes(5, 300_000);
    store.create(&name, vec![whole.clone()]).await.unwrap();
    for range in [
        0..1,
        0..300_000,
        299_999..300_000,
        1000..200_000,
        70_000..70_003,
    ] {
        let read = store.read(&name, range.clone()).await.unwrap();
        assert_eq!(
            read,
            whole.slice(range.start as usize..range.end as usize),
            "{range:?}"
        );
    }
    assert_eq!(store.read(&name, 7..7).await.unwrap(), Bytes::new());
    several_ranges(store, &name, &whole).await;
    let short = Err(StoreError::Short {
        expected: 300_001,
        bytes: 300_000,
    });
    assert_eq!(store.read(&name, 0..300_001).await, short);
    assert_eq!(store.read(&name, 299_999..300_001).await, short);
    let too_long = Err(StoreError::TooLong {
        max: 299_999,
        bytes: 300_000,
    });
    assert_eq!(store.read_all(&name, 299_999).await, too_long);
    store.delete(&name).await.unwrap();
}

async fn several_ranges(store: &Store, name: &ObjectName, whole: &Bytes) {
    let scattered = (0..100).map(|nth| nth * 3_000..nth * 3_000 + nth);
    for ranges in [
        Vec::new(),
        vec![8..8, 8..8],
        vec![0..0, 0..5, 9..9, 299_999..300_000],
        scattered.collect(),
    ] {
        let read = store.read_ranges(name, ranges.clone()).await.unwrap();
        let expected: Vec<Bytes> = ranges
            .iter()
            .map(|range| whole.slice(range.start as usize..range.end as usize))
            .collect();
        assert_eq!(read, expected, "{ranges:?}");
    }
    let short = store.read_ranges(name, vec![0..1, 299_999..300_001]).await;
    assert!(matches!(short, Err(StoreError::Short { .. })), "{short:?}");
    several_objects(store, name, whole).await;
}

/// Each by itself, whatever the others are.
async fn several_objects(store: &Store, name: &ObjectName, whole: &Bytes) {
    let missing = ObjectName::Segment(Number(2));
    let read = store
        .read_each(&[
            (*name, vec![10..20, 30..30]),
            (missing, vec![0..1, 5..6]),
            (*name, vec![0..1, 299_999..300_001]),
            (*name, vec![5..5, 299_999..300_000]),
        ])
        .await;
    assert_eq!(read[0], Ok(vec![whole.slice(10..20), Bytes::new()]));
    assert_eq!(read[1], Err(StoreError::NotFound));
    assert!(matches!(read[2], Err(StoreError::Short { .. })), "{read:?}");
    assert_eq!(read[3], Ok(vec![Bytes::new(), whole.slice(299_999..)]));
    assert_eq!(read.len(), 4);
}

async fn large_objects(store: &Store) {
    let name = ObjectName::Segment(Number(4));
    for (seed, len, piece) in [
        (6, 0, 1),
        (7, 1000, 300),
        (8, 8 << 20, 8 << 20),
        (9, (20 << 20) + 5, 999_999),
        (10, 20 << 20, 17 << 20),
    ] {
        let whole = bytes(seed, len);
        let mut upload = store.upload(&name, len as u64).await.unwrap();
        let mut left = whole.clone();
        while !left.is_empty() {
            let now = left.split_to(piece.min(left.len()));
            upload.write(now).await.unwrap();
        }
        let before = store.read_all(&name, 1 << 30).await;
        assert_ne!(before, Ok(whole.clone()), "it was seen before it was whole");
        assert_eq!(upload.finish().await, Ok(()), "{len}");
        assert!(
            store.read_all(&name, 1 << 30).await.unwrap() == whole,
            "{len}"
        );
        if len > 2 << 20 {
            let range = (len as u64 - (2 << 20))..len as u64;
            let end = store.read(&name, range).await.unwrap();
            assert!(end == whole.slice(len - (2 << 20)..));
        }
    }
    store.delete(&name).await.unwrap();
}

async fn unfinished(store: &Store) {
    let name = ObjectName::Segment(Number(5));
    let mut upload = store.upload(&name, 9 << 20).await.unwrap();
    upload.write(bytes(11, 9 << 20)).await.unwrap();
    drop(upload);
    let mut upload = store.upload(&name, 100).await.unwrap();
    upload.write(bytes(11, 99)).await.unwrap();
    let refused = upload.finish().await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    assert_eq!(store.size(&name).await, Err(StoreError::NotFound));
}

async fn many_at_once(store: &Store) {
    let numbers = 100..200u64;
    let written = numbers.clone().map(|n| async move {
        let name = ObjectName::Segment(Number(n));
        store.create(&name, vec![bytes(n, 3000)]).await?;
        assert_eq!(
            store.read(&name, 1000..2000).await?,
            bytes(n, 3000).slice(1000..2000)
        );
        store
            .create(&ObjectName::Sidecar(Number(n)), vec![bytes(n, 30)])
            .await
    });
    for written in join_all(written).await {
        assert_eq!(written, Ok(()));
    }
}

/// Eight that want one name: it has the bytes of one of them, and only that one was told so.
async fn a_race(store: &Store) {
    let name = ObjectName::Epoch(9);
    let racing = (0..8u64).map(|n| async move { store.create(&name, vec![bytes(n, 50)]).await });
    let won: Vec<_> = join_all(racing).await;
    let winners: Vec<_> = (0..8).filter(|n| won[*n as usize].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{won:?}");
    assert_eq!(
        store.read_all(&name, 50).await.unwrap(),
        bytes(winners[0], 50)
    );
    store.delete(&name).await.unwrap();
}

/// Finds what `many_at_once` has left, and removes it.
async fn listings(store: &Store) {
    let listed = store.list(Folder::Segments).await.unwrap();
    let expected: Vec<_> = (100..200)
        .flat_map(|n| {
            [
                Listed {
                    name: ObjectName::Segment(Number(n)),
                    bytes: 3000,
                },
                Listed {
                    name: ObjectName::Sidecar(Number(n)),
                    bytes: 30,
                },
            ]
        })
        .collect();
    assert_eq!(listed, expected);
    assert_eq!(store.list(Folder::Log).await.unwrap(), []);
    for n in [u64::MAX, 3, 10] {
        store
            .create(&ObjectName::Log(Number(n)), vec![bytes(n, 1)])
            .await
            .unwrap();
        store.create(&ObjectName::Epoch(n), vec![]).await.unwrap();
    }
    for folder in [Folder::Log, Folder::Epochs] {
        let listed = store.list(folder).await.unwrap();
        let numbers: Vec<_> = listed.iter().map(|one| one.name.number()).collect();
        assert_eq!(numbers, [3, 10, u64::MAX]);
        assert!(listed.iter().all(|one| one.name.folder() == folder));
    }
    let mut all = BTreeSet::new();
    for folder in Folder::ALL {
        all.extend(store.list(folder).await.unwrap());
    }
    let deleted = all
        .iter()
        .map(|one| async { store.delete(&one.name).await });
    assert!(join_all(deleted).await.iter().all(Result::is_ok));
    for folder in Folder::ALL {
        assert_eq!(store.list(folder).await.unwrap(), []);
    }
}
