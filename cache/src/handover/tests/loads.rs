//! Loads are handed on: those that are open with what they hold, the others with what they came to.

use std::sync::Arc;

use bowstring_wire::error::{Code, Result};
use bowstring_wire::name::{Namespace, Tenant};

use super::{assert_same, bytes, fill, get, hand_on, put, spec, succeed};
use crate::Cache;
use crate::clock::ManualClock;
use crate::handover::Handed;
use crate::loads::{LoadOutcome, LoadSpec};
use crate::put::{Mode, Published, PutSpec};
use crate::tests::{MIB, cache_of, put_spec};

pub(super) fn begin(cache: &Cache, replace_all: bool) -> String {
    let spec = LoadSpec {
        replace_all,
        ..LoadSpec::default()
    };
    let begun = cache.begin_load(&Tenant::public(), &Namespace::default(), spec);
    begun.unwrap()
}

pub(super) async fn put_in(cache: &Cache, load: &str, key: &str, data: &[u8]) -> Result<Published> {
    let load = cache.load(&Tenant::public(), &Namespace::default(), load)?;
    let spec = PutSpec {
        load,
        ..spec(Mode::Replace)
    };
    put_spec(cache, key, spec, data).await
}

async fn commit(cache: &Cache, load: &str) -> Result<LoadOutcome> {
    cache.commit_load(&Tenant::public(), load).await
}

fn outcome(entries: u64, bytes: u64) -> LoadOutcome {
    LoadOutcome { entries, bytes }
}

async fn hand_on_often(mut cache: Cache, clock: &Arc<ManualClock>) -> Cache {
    for _ in 0..3 {
        cache = hand_on(cache, 32 * MIB, clock).0;
    }
    cache
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn an_open_load_goes_on() {
    for replace_all in [false, true] {
        let (cache, clock) = cache_of(32 * MIB);
        let mut there = fill(&cache, 4 << 20).await;
        let load = begin(&cache, replace_all);
        let mut loaded = std::collections::BTreeMap::new();
        for (key, len) in [("key 1", 300_000), ("key 3", 700), ("new", 60_000)] {
            let data = bytes(70, len);
            put_in(&cache, &load, key, &data).await.unwrap();
            loaded.insert(key.to_owned(), data);
        }
        let before = cache.stats();
        let cache = hand_on_often(cache, &clock).await;
        let after = cache.stats();
        assert_eq!(
            (before.entries, before.live_bytes, before.loads),
            (after.entries, after.live_bytes, after.loads)
        );
        assert_eq!(before.arena_used_bytes, after.arena_used_bytes);
        // It shows to nobody, and its generation is its own.
        assert_same(&cache, &there);
        assert_eq!(get(&cache, "new"), None);
        let late = bytes(71, 5_000);
        put_in(&cache, &load, "late", &late).await.unwrap();
        loaded.insert("late".to_owned(), late);
        let again = begin(&cache, false);
        assert_ne!(again, load);
        let all: usize = loaded.values().map(Vec::len).sum();
        let expected = outcome(4, all as u64);
        assert_eq!(commit(&cache, &load).await, Ok(expected));
        if replace_all {
            assert_eq!(get(&cache, "key 0"), None);
            there.clear();
        }
        there.extend(loaded);
        assert_same(&cache, &there);
        // Its rollback is this process's own.
        let rolled_back = cache.rollback_load(&Tenant::public(), &load).await;
        assert_eq!(rolled_back, Ok(expected));
        assert_eq!(get(&cache, "late"), None);
        assert!(get(&cache, "key 0").is_some());
    }
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn what_ends_a_load_has_the_same_answer_when_it_is_sent_again() {
    let (cache, clock) = cache_of(32 * MIB);
    put(&cache, "before", Mode::Create, b"before")
        .await
        .unwrap();
    let loads: Vec<String> = (0..4).map(|_| begin(&cache, true)).collect();
    for (load, key) in loads.iter().zip(["a", "b", "c", "d"]) {
        put_in(&cache, load, key, key.as_bytes()).await.unwrap();
    }
    let [committed, rolled_back, aborted, expired] = &loads[..] else {
        panic!("four")
    };
    let tenant = Tenant::public();
    let one = outcome(1, 1);
    assert_eq!(commit(&cache, rolled_back).await, Ok(one));
    assert_eq!(cache.rollback_load(&tenant, rolled_back).await, Ok(one));
    assert_eq!(cache.abort_load(&tenant, aborted), Ok(one));
    assert_eq!(commit(&cache, committed).await, Ok(one));
    let cache = hand_on_often(cache, &clock).await;
    for _ in 0..2 {
        assert_eq!(commit(&cache, committed).await, Ok(one));
        assert_eq!(cache.rollback_load(&tenant, rolled_back).await, Ok(one));
        assert_eq!(cache.abort_load(&tenant, aborted), Ok(one));
    }
    assert_eq!(get(&cache, "a").unwrap(), b"a");
    assert_eq!(get(&cache, "before"), None);
    // What was before it stayed behind.
    let late = cache.rollback_load(&tenant, committed).await.unwrap_err();
    assert_eq!(late.code, Code::FailedPrecondition);
    for ended in [committed, rolled_back, aborted] {
        let late = put_in(&cache, ended, "late", b"").await.unwrap_err();
        assert_eq!(late.code, Code::FailedPrecondition);
    }
    assert_eq!(commit(&cache, expired).await, Ok(one));
    assert_eq!(
        (get(&cache, "a"), get(&cache, "d").unwrap()),
        (None, b"d".to_vec())
    );
    assert_eq!(
        commit(&cache, committed).await,
        Ok(one),
        "and changes nothing"
    );
    assert_eq!(get(&cache, "a"), None);
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn a_load_that_there_is_no_room_for_is_aborted() {
    let (cache, clock) = cache_of(64 * MIB);
    let (small, large) = (begin(&cache, false), begin(&cache, false));
    put_in(&cache, &small, "small", &bytes(1, 100_000))
        .await
        .unwrap();
    for seed in 0..10 {
        let data = bytes(seed, 2_000_000);
        put_in(&cache, &large, &format!("{seed}"), &data)
            .await
            .unwrap();
    }
    let (cache, adopted) = hand_on(cache, 16 * MIB, &clock);
    assert!(cache.ledger().used() <= 16 * MIB, "{adopted:?}");
    let late = commit(&cache, &large).await.unwrap_err();
    assert_eq!(late.code, Code::FailedPrecondition);
    assert_eq!(commit(&cache, &small).await, Ok(outcome(1, 100_000)));
    assert!(get(&cache, "small").unwrap() == bytes(1, 100_000));
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn where_nobody_takes_over_a_load_goes_on_too() {
    let (cache, clock) = cache_of(32 * MIB);
    let load = begin(&cache, true);
    put_in(&cache, &load, "a", b"1").await.unwrap();
    let (snapshot, _) = super::snapshot_of(&cache);
    let handed = Handed::new(snapshot, cache.region_files().unwrap());
    drop(succeed(32 * MIB, &clock, handed));
    cache.set_frozen(false);
    put_in(&cache, &load, "b", b"2").await.unwrap();
    assert_eq!(commit(&cache, &load).await, Ok(outcome(2, 2)));
    assert_eq!(get(&cache, "a").unwrap(), b"1");
}
