//! Other metadata for what is there: all else stays, nobody misses it meanwhile, and what cannot be leaves the old one.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::settings::SettingsChange;
use bowstring_wire::version::Version;

use super::below::{cache_over_shelf, hand_all_down};
use super::loading::{begin, commit, put_in, rollback};
use super::*;
use crate::lower::Description;
use crate::metadata::Changed;
use crate::put::METADATA_BYTES_MAX;

const SIZES: [usize; 8] = [0, 1, 3_000, 57_344, 70_000, 300_000, 1 << 20, (3 << 20) + 5];

fn described(cache: &Cache, key: &str) -> Description {
    Description::of(&cache.peek(&id(key)).unwrap()).unwrap()
}

/// The version that it has then; `None` where it was left alone.
async fn set(cache: &Cache, key: &str, version: Version, metadata: &[u8]) -> Option<Version> {
    let changed = cache.set_metadata(&id(key), version, metadata).await;
    match changed.unwrap() {
        Some(changed) => Some(changed.settled().await.unwrap()),
        None => None,
    }
}

/// As [`set`], with something done when the first bytes were copied.
async fn set_beside<T>(
    cache: &Cache,
    key: &str,
    metadata: &[u8],
    beside: impl Future<Output = T>,
) -> Result<Option<Changed>> {
    let (id, version) = (id(key), described(cache, key).version);
    let mut setting = pin!(cache.set_metadata(&id, version, metadata));
    tokio::select! {
        biased;
        _ = &mut setting => panic!("it takes more than one step"),
        () = std::future::ready(()) => {}
    }
    beside.await;
    setting.await
}

#[tokio::test]
async fn metadata_is_all_that_changes_and_the_version() {
    let (cache, _) = cache_of(64 * MIB);
    for (nth, len) in SIZES.into_iter().enumerate() {
        let (key, data) = (format!("{len}"), bytes(7, len));
        let mut spec = spec(Mode::Create);
        spec.metadata = vec![b'a'; nth * 10];
        spec.expires_at_ms = (nth % 2 == 0).then_some(NOW_MS + 5_000);
        spec.source_version = (nth % 3 != 0).then_some(-4);
        spec.pin = nth % 4 == 1;
        put_spec(&cache, &key, spec, &data).await.unwrap();
    }
    // For what comes from now on.
    let ttl = SettingsChange::parse(r#"{"default_ttl_ms":1000}"#).unwrap();
    let of = id("k");
    cache
        .set_settings(&of.tenant, &of.namespace, &ttl, None)
        .await
        .unwrap();
    for (nth, len) in SIZES.into_iter().enumerate() {
        let key = format!("{len}");
        for _ in 0..=nth {
            get(&cache, &key).unwrap();
        }
        let is_kept = cache.peek(&id(&key)).unwrap().is_kept();
        let used = cache.stats().arena_used_bytes;
        // The last is too long to lie beside a tensor.
        for metadata in [&b"short"[..], b"", &[b'b'; METADATA_BYTES_MAX]] {
            let before = described(&cache, &key);
            let now = set(&cache, &key, before.version, metadata).await.unwrap();
            assert!(now > before.version);
            let expected = Description {
                version: now,
                metadata: metadata.to_vec(),
                ..before
            };
            assert_eq!(described(&cache, &key), expected);
            let entry = cache.peek(&id(&key)).unwrap();
            assert_eq!(entry.is_kept(), is_kept);
            assert_eq!(entry.hits() as usize, nth + 1);
            assert_eq!(entry.into_vec().unwrap(), bytes(7, len));
            assert_eq!(set(&cache, &key, before.version, b"x").await, None);
            assert_eq!(set(&cache, &key, now, metadata).await, Some(now), "already");
            assert_eq!(described(&cache, &key), expected);
        }
        let more = cache.stats().arena_used_bytes - used;
        assert!(more <= 2 * METADATA_BYTES_MAX as u64, "{len}: {more}");
    }
    let stats = cache.stats();
    let live: usize = SIZES.iter().sum();
    assert_eq!((stats.entries, stats.live_bytes), (8, live as u64));
    assert_eq!((stats.pinned_entries, stats.reserved_bytes), (2, 0));
    assert_eq!(stats.hits, (1..=8).sum::<u64>());
    let before = described(&cache, "1");
    let long = vec![0; METADATA_BYTES_MAX + 1];
    let error = cache.set_metadata(&id("1"), before.version, &long).await;
    assert_eq!(error.err().unwrap().code, Code::InvalidArgument);
    assert_eq!(described(&cache, "1"), before);
    assert_eq!(set(&cache, "none", before.version, b"x").await, None);
}

#[tokio::test]
async fn what_it_was_is_read_on() {
    let (cache, _) = cache_of(64 * MIB);
    for len in SIZES {
        put(&cache, "k", Mode::Replace, &bytes(1, len))
            .await
            .unwrap();
        let (entry, other) = (cache.get(&id("k")), cache.get(&id("k")).unwrap());
        let (entry, version) = (entry.unwrap(), other.version());
        let mut reader = other.reader(0..len as u64).unwrap();
        let now = set(&cache, "k", version, b"other").await.unwrap();
        assert_eq!((entry.version(), entry.metadata()), (version, &b""[..]));
        assert_eq!(entry.into_vec().unwrap(), bytes(1, len));
        let mut read = vec![0; len];
        reader.copy_to(&mut read).unwrap();
        assert_eq!(read, bytes(1, len));
        drop(reader);
        assert_eq!(described(&cache, "k").version, now);
        assert_eq!(cache.stats().held_bytes, 0);
    }
    cache.delete(&id("k"), None).await.unwrap();
    assert_eq!(cache.stats().arena_used_bytes, 0);
}

#[tokio::test]
async fn what_takes_its_place_meanwhile_stays() {
    let (cache, clock) = cache_of(64 * MIB);
    let data = bytes(1, 3 << 20);
    let mortal = PutSpec {
        expires_at_ms: Some(NOW_MS + 5_000),
        ..spec(Mode::Replace)
    };
    for case in 0..3 {
        put_spec(&cache, "k", mortal.clone(), &data).await.unwrap();
        let beside = async {
            if case == 0 {
                put(&cache, "k", Mode::Replace, b"new").await.unwrap();
            } else if case == 1 {
                cache.delete(&id("k"), None).await.unwrap();
            } else {
                clock.advance(Duration::from_secs(6));
            }
        };
        let changed = set_beside(&cache, "k", b"other", beside).await.unwrap();
        assert!(changed.is_none(), "{case}");
        let left = (case == 0).then(|| b"new".to_vec());
        assert_eq!(get(&cache, "k"), left, "{case}");
    }
    assert_eq!(cache.stats().reserved_bytes, 0);
    assert_eq!(cache.stats().arena_used_bytes, 0);
}

#[tokio::test]
async fn what_is_set_of_it_meanwhile_stays_set() {
    let (cache, clock) = cache_of(64 * MIB);
    let data = bytes(1, 3 << 20);
    put(&cache, "k", Mode::Replace, &data).await.unwrap();
    let beside = async {
        let at = Some(NOW_MS + 5_000);
        assert!(cache.expire(&id("k"), at).await.unwrap());
        assert_eq!(cache.pin(&id("k")).await.unwrap(), Some(true));
        clock.advance(Duration::from_secs(2));
        get(&cache, "k").unwrap();
    };
    let changed = set_beside(&cache, "k", b"other", beside).await.unwrap();
    let now = changed.unwrap().settled().await.unwrap();
    let entry = cache.peek(&id("k")).unwrap();
    assert_eq!((entry.version(), entry.metadata()), (now, &b"other"[..]));
    assert_eq!(entry.expires_at_ms(), Some(NOW_MS + 5_000));
    assert!(entry.is_kept());
    assert_eq!((entry.hits(), entry.last_access_ms()), (1, NOW_MS + 2_000));
    drop(entry);
    // Its time comes without anybody asking for it.
    clock.advance(Duration::from_secs(10));
    while cache.expire_due() {}
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.pinned_entries), (0, 0));
}

#[tokio::test]
async fn where_there_is_no_room_for_both_it_is_as_it_was() {
    let (cache, clock) = cache_of(64 * MIB);
    let data = bytes(1, 40 << 20);
    let kept = PutSpec {
        metadata: b"mine".to_vec(),
        expires_at_ms: Some(NOW_MS + 100_000),
        ..spec(Mode::Create)
    };
    put_spec(&cache, "k", kept, &data).await.unwrap();
    put(&cache, "other", Mode::Create, &[1; 100]).await.unwrap();
    let before = described(&cache, "k");
    let setting = {
        let (cache, version) = (cache.clone(), before.version);
        tokio::spawn(async move { cache.set_metadata(&id("k"), version, b"other").await })
    };
    while cache.stats().puts_waiting == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(described(&cache, "k"), before);
    clock.advance(Duration::from_secs(11));
    let error = setting.await.unwrap().err().unwrap();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    assert_eq!(described(&cache, "k"), before);
    assert_eq!(get(&cache, "k").unwrap(), data);
    let stats = cache.stats();
    assert_eq!((stats.reserved_bytes, stats.puts_waiting), (0, 0));
    // With room it is changed.
    put(&cache, "k", Mode::Replace, &data[..8 << 20])
        .await
        .unwrap();
    let version = described(&cache, "k").version;
    assert!(set(&cache, "k", version, b"other").await.is_some());
    assert_eq!(get(&cache, "k").unwrap(), data[..8 << 20]);
}

#[tokio::test]
async fn one_that_is_pinned_stays_so_or_nothing_changes() {
    let (cache, _) = cache_of(64 * MIB);
    let pinned = PutSpec {
        pin: true,
        ..spec(Mode::Create)
    };
    let data = bytes(1, 4 << 20);
    let mut n = 0_u64;
    while put_spec(&cache, &n.to_string(), pinned.clone(), &data)
        .await
        .is_ok()
    {
        n += 1;
    }
    // There is no room to pin one more, and none is asked for.
    let before = described(&cache, "0");
    let now = set(&cache, "0", before.version, b"other").await.unwrap();
    assert_eq!(described(&cache, "0").version, now);
    assert_eq!(cache.stats().pinned_entries, n);
    for key in 0..n {
        assert_eq!(cache.unpin(&id(&key.to_string())), Some(true));
    }
    assert_eq!(cache.stats().pinned_bytes, 0);
}

#[tokio::test]
async fn giving_up_at_any_moment_leaves_it_as_it_was() {
    let (cache, _) = cache_of(64 * MIB);
    let data = bytes(1, 5 << 20);
    put(&cache, "k", Mode::Create, &data).await.unwrap();
    let before = described(&cache, "k");
    let used = cache.stats().arena_used_bytes;
    for polls in 1..5 {
        let id = id("k");
        let mut setting = pin!(cache.set_metadata(&id, before.version, b"other"));
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut setting => panic!("it takes more steps"),
                () = std::future::ready(()) => {}
            }
        }
        // What goes out of scope gives up.
    }
    assert_eq!(described(&cache, "k"), before);
    let stats = cache.stats();
    assert_eq!((stats.arena_used_bytes, stats.reserved_bytes), (used, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_ever_misses_it_or_reads_other_bytes() {
    let (cache, _) = cache_of(64 * MIB);
    for (key, len) in [("small", 3_000), ("large", 1 << 20)] {
        put(&cache, key, Mode::Create, &bytes(1, len))
            .await
            .unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, done) = (cache.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    for (key, len) in [("small", 3_000), ("large", 1 << 20)] {
                        assert_eq!(get(&cache, key).unwrap(), bytes(1, len));
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    // Two who change what they have seen: the count of both is that of the changes.
    let writers: Vec<_> = (0..2_u8)
        .map(|writer| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let mut changed = 0_u64;
                for round in 0..200_u64 {
                    for key in ["small", "large"] {
                        let version = described(&cache, key).version;
                        let metadata = [&[writer][..], &round.to_le_bytes()].concat();
                        changed += u64::from(set(&cache, key, version, &metadata).await.is_some());
                    }
                }
                changed
            })
        })
        .collect();
    let mut changed = 0;
    for writer in writers {
        changed += writer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(changed >= 200);
    let stats = cache.stats();
    assert_eq!((stats.events.replaced, stats.entries), (changed, 2));
    assert_eq!((stats.misses, stats.reserved_bytes), (0, 0));
}

#[tokio::test]
async fn it_is_of_what_the_namespace_shows() {
    let (cache, _) = cache_of(64 * MIB);
    put(&cache, "k", Mode::Create, &[1; 100]).await.unwrap();
    let load = begin(&cache, false);
    put_in(&cache, &load, "k", Mode::Keep, &[2; 100])
        .await
        .unwrap();
    let version = described(&cache, "k").version;
    assert!(set(&cache, "k", version, b"base").await.is_some());
    assert_eq!(get(&cache, "k").unwrap(), [1; 100]);
    commit(&cache, &load).await.unwrap();
    let loaded = described(&cache, "k");
    assert_eq!(
        (get(&cache, "k").unwrap(), &loaded.metadata[..]),
        (vec![2; 100], &b""[..])
    );
    // What the load has brought, whether it is merged by now or not.
    let now = set(&cache, "k", loaded.version, b"loaded").await.unwrap();
    let expected = Description {
        version: now,
        metadata: b"loaded".to_vec(),
        ..loaded
    };
    assert_eq!(described(&cache, "k"), expected);
    assert_eq!((cache.stats().entries, cache.stats().live_bytes), (1, 100));
    // As any put since, it is not the load's to take back.
    rollback(&cache, &load).await.unwrap();
    assert_eq!(described(&cache, "k"), expected);
}

#[tokio::test]
async fn what_only_the_tier_below_has_is_brought_up() {
    let (cache, shelf, _) = cache_over_shelf();
    for len in SIZES {
        let mut spec = spec(Mode::Create);
        spec.metadata = b"mine".to_vec();
        spec.expires_at_ms = Some(NOW_MS + 5_000);
        spec.source_version = Some(9);
        put_spec(&cache, &format!("{len}"), spec, &bytes(7, len))
            .await
            .unwrap();
    }
    hand_all_down(&cache);
    for len in SIZES {
        let key = format!("{len}");
        let before = cache.describe_below(&id(&key)).await.unwrap().unwrap();
        let now = set(&cache, &key, before.version, b"other").await.unwrap();
        // It is in memory alone, as after a put.
        assert_eq!(cache.describe_below(&id(&key)).await.unwrap(), None);
        let expected = Description {
            version: now,
            metadata: b"other".to_vec(),
            ..before
        };
        assert_eq!(described(&cache, &key), expected);
        hand_all_down(&cache);
        let below = cache.describe_below(&id(&key)).await.unwrap();
        assert_eq!(below, Some(expected));
        assert_eq!(set(&cache, &key, before.version, b"x").await, None);
        hand_all_down(&cache);
    }
    drop(shelf);
}
