//! What operators see listed: the last evictions, with what each was for, and loads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_wire::name::Tenant;
use bowstring_wire::settings::SettingsChange;
use tokio::task::JoinSet;

use super::below::{cache_over_shelf, hand_all_down};
use super::loading::{begin, commit, put_in, rollback};
use super::*;
use crate::event::Cause;
use crate::evicted::EvictedEntry;

fn evicted(cache: &Cache) -> Vec<EvictedEntry> {
    cache.evicted(&Tenant::public())
}

#[tokio::test]
async fn what_makes_room_is_listed_in_order_with_all_that_it_was() {
    let (cache, clock) = cache_of(16 * MIB);
    assert_eq!(evicted(&cache), []);
    let mut versions = Vec::new();
    for nth in 0..24 {
        let (key, data) = (format!("k{nth:02}"), bytes(nth, 1 << 20));
        let put = put(&cache, &key, Mode::Create, &data).await;
        versions.push(put.unwrap().version);
        clock.advance(Duration::from_millis(10));
    }
    let list = evicted(&cache);
    let counts = cache.stats().events;
    assert!(list.len() >= 8, "{}", list.len());
    assert_eq!(list.len() as u64, counts.evicted);
    let bytes: u64 = list.iter().map(|one| one.bytes).sum();
    assert_eq!(bytes, counts.evicted_bytes);
    assert!(list.is_sorted_by_key(|one| one.at_ms));
    for one in &list {
        let nth: usize = one.key[1..].parse().unwrap();
        assert!(cache.peek(&id(&one.key)).is_none(), "{}", one.key);
        assert_eq!(
            (one.version, one.dtype, one.bytes, one.cause, one.is_below),
            (versions[nth], DType::UInt8, 1 << 20, Cause::Room, false)
        );
        assert_eq!(one.namespace, Namespace::default());
        assert!((NOW_MS..NOW_MS + 240).contains(&one.at_ms));
    }
    let other = Tenant::parse("other").unwrap();
    assert_eq!(cache.evicted(&other), [], "each tenant sees its own");
}

#[tokio::test]
async fn a_limit_is_told_apart_and_what_leaves_otherwise_is_not_listed() {
    let (cache, clock) = cache_of(64 * MIB);
    let of = id("x");
    let limit = SettingsChange::parse(r#"{"entries_max": 2}"#).unwrap();
    let set = cache.set_settings(&of.tenant, &of.namespace, &limit, None);
    set.await.unwrap();
    for key in ["a", "b", "c"] {
        put(&cache, key, Mode::Create, &[1]).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let list = evicted(&cache);
    let told: Vec<_> = list.iter().map(|one| (&one.key[..], one.cause)).collect();
    assert_eq!(told, [("a", Cause::Limit)]);
    put(&cache, "c", Mode::Replace, &[2]).await.unwrap();
    cache.delete(&id("c"), None).await.unwrap().unwrap();
    cache.expire(&id("b"), Some(NOW_MS + 10_000)).await.unwrap();
    clock.advance(Duration::from_secs(20));
    assert!(cache.get(&id("b")).is_none());
    assert_eq!(evicted(&cache).len(), 1);
}

#[tokio::test]
async fn where_it_went_is_told() {
    let (cache, _, _) = cache_over_shelf();
    for key in ["handed", "asked"] {
        put(&cache, key, Mode::Create, &[1; 100]).await.unwrap();
    }
    let version = cache.peek(&id("asked")).unwrap().version();
    assert!(cache.evict(&id("asked"), version));
    hand_all_down(&cache);
    let list = evicted(&cache);
    let told = list
        .iter()
        .map(|one| (&one.key[..], one.cause, one.is_below));
    let told: Vec<_> = told.collect();
    assert_eq!(
        told,
        [
            ("asked", Cause::Asked, true),
            ("handed", Cause::Ahead, true)
        ]
    );
}

/// Four put, and somebody reads the list all the time: nobody waits, and what is not listed is counted.
#[test]
fn every_eviction_is_listed_or_counted_as_unlisted() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (cache, _) = cache_of(64 * MIB);
        let done = Arc::new(AtomicBool::new(false));
        let reader = {
            let (cache, done) = (cache.clone(), Arc::clone(&done));
            tokio::task::spawn_blocking(move || {
                while !done.load(Ordering::Relaxed) {
                    for one in evicted(&cache) {
                        assert!(one.key.starts_with("writer-"), "{}", one.key);
                    }
                }
            })
        };
        let mut writers = JoinSet::new();
        for writer in 0..4 {
            let cache = cache.clone();
            writers.spawn(async move {
                for nth in 0..500 {
                    let key = format!("writer-{writer}-{nth}");
                    put(&cache, &key, Mode::Create, &[writer; 100_000])
                        .await
                        .unwrap();
                }
            });
        }
        while let Some(wrote) = writers.join_next().await {
            wrote.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.await.unwrap();
        let stats = cache.stats();
        let list = evicted(&cache);
        assert!(stats.events.evicted > 1_000, "{}", stats.events.evicted);
        assert_eq!(
            list.len() as u64 + stats.evictions_unlisted,
            stats.events.evicted
        );
        let mut keys: Vec<&str> = list.iter().map(|one| &one.key[..]).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), list.len(), "each once");
    });
}

#[tokio::test]
async fn loads_are_listed_with_what_became_of_them() {
    let (cache, clock) = cache_of(64 * MIB);
    let list = || cache.loads(&Tenant::public());
    assert_eq!(list(), []);
    let states = || {
        let of = list().into_iter();
        of.map(|load| (load.id, load.state, load.holds.entries, load.holds.bytes))
            .collect::<Vec<_>>()
    };
    let kept = begin(&cache, false);
    put_in(&cache, &kept, "a", Mode::Create, &[1; 10])
        .await
        .unwrap();
    clock.advance(Duration::from_secs(3));
    let dropped = begin(&cache, true);
    put_in(&cache, &dropped, "b", Mode::Create, &[1; 7])
        .await
        .unwrap();
    let open = list();
    assert_eq!(
        states(),
        [
            (kept.clone(), "open", 1, 10),
            (dropped.clone(), "open", 1, 7)
        ]
    );
    assert_eq!(open[0].last_used_ms, NOW_MS);
    assert_eq!(open[1].last_used_ms, NOW_MS + 3_000);
    assert!(!open[0].replace_all && open[1].replace_all);
    assert_eq!(open[0].declared_bytes, None);

    commit(&cache, &kept).await.unwrap();
    cache.abort_load(&Tenant::public(), &dropped).unwrap();
    assert_eq!(
        states(),
        [
            (kept.clone(), "committed", 1, 10),
            (dropped.clone(), "aborted", 1, 7)
        ]
    );
    rollback(&cache, &kept).await.unwrap();
    assert_eq!(states()[0].1, "rolled_back");
    assert_eq!(cache.loads(&Tenant::parse("other").unwrap()), []);
}
