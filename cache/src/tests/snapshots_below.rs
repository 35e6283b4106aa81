//! Snapshots of what is in memory and of what is below: each key once, and what only changes its place has not gone.

use std::collections::{BTreeMap, BTreeSet};

use bowstring_wire::name::Tenant;
use bowstring_wire::version::Version;
use proptest::prelude::*;

use super::below::{cache_over, cache_over_shelf, hand_all_down};
use super::*;
use crate::snapshot::{Part, Walk};

#[derive(Debug, Clone)]
enum Change {
    Put(usize),
    Delete(usize),
    DeletePrefix(usize),
    HandDown,
    BringUp(usize),
}

fn key(n: usize) -> String {
    format!("{}/{n:02}", ["a", "b", "c"][n % 3])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..36_usize).prop_map(Change::Put),
        (0..36_usize).prop_map(Change::Delete),
        (0..3_usize).prop_map(Change::DeletePrefix),
        Just(Change::HandDown),
        (0..36_usize).prop_map(Change::BringUp),
    ]
}

async fn change_it(cache: &Cache, change: &Change) -> Vec<usize> {
    let of = id("k");
    match change {
        Change::Put(n) => {
            put(cache, &key(*n), Mode::Replace, &[7; 50]).await.unwrap();
            vec![*n]
        }
        Change::Delete(n) => {
            cache.delete(&id(&key(*n)), None).await.unwrap();
            vec![*n]
        }
        Change::DeletePrefix(n) => {
            let prefix = ["a/", "b/", "c/1"][*n];
            let deleted = cache.delete_prefix(&of.tenant, &of.namespace, prefix);
            deleted.await.unwrap();
            let is_under = |n: &usize| key(*n).starts_with(prefix);
            (0..36).filter(is_under).collect()
        }
        Change::HandDown => {
            hand_all_down(cache);
            Vec::new()
        }
        Change::BringUp(n) => {
            if cache.peek(&id(&key(*n))).is_none() {
                cache.lower().load(cache, &id(&key(*n))).await.unwrap();
            }
            Vec::new()
        }
    }
}

/// Walks to the end, with a change between any two steps.
async fn walked(
    cache: &Cache,
    walk: &mut Walk<'_>,
    step: usize,
    changes: &mut impl Iterator<Item = Change>,
) -> (BTreeMap<String, Version>, BTreeSet<usize>) {
    let (mut met, mut touched) = (BTreeMap::new(), BTreeSet::new());
    while let Some(items) = walk.items_of(step).await.unwrap() {
        let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        for item in items {
            let of = id(item.key.as_str());
            let here = cache.peek(&of).map(|entry| entry.version());
            let below = cache.lower().describe(&of).await.unwrap();
            let now = here.or(below.map(|below| below.version));
            if now == Some(item.version) {
                let twice = met.insert(item.key.as_str().to_owned(), item.version);
                assert_eq!(twice, None);
            } else {
                walk.missed(item.key).await.unwrap();
            }
        }
        if let Some(change) = changes.next() {
            touched.extend(change_it(cache, &change).await);
        }
    }
    (met, touched)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_only_changes_its_place_is_met_and_the_rest_is_named(
        before in prop::collection::vec(change(), 0..60),
        between in prop::collection::vec(change(), 0..12),
        step in 1_usize..9,
        part in prop::option::of((0..36_usize, 0..36_usize)),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (cache, shelf, _) = cache_over_shelf();
            for change in &before {
                change_it(&cache, change).await;
            }
            let mut there: BTreeMap<String, Version> = BTreeMap::new();
            for n in 0..36 {
                let below = cache.lower().describe(&id(&key(n))).await.unwrap();
                let here = cache.peek(&id(&key(n))).map(|entry| entry.version());
                if let Some(version) = here.or(below.map(|below| below.version)) {
                    there.insert(key(n), version);
                }
            }
            drop(shelf);
            let of = id("k");
            let snapshot = cache.snapshot(&of.tenant, &of.namespace, "").await.unwrap();
            let mut walk = match part {
                None => snapshot.walk_once(),
                Some((after, last)) => {
                    let name = |n| Some(Key::parse(&key(n)).unwrap());
                    let (after, last) = (name(after), name(last));
                    let is_in = |name: &str| {
                        Some(name) > after.as_ref().map(|after| after.as_str())
                            && last.as_ref().is_some_and(|last| name <= last.as_str())
                    };
                    there.retain(|name, _| is_in(name));
                    snapshot.walk(Part { after, last })
                }
            };
            let (met, touched) = walked(&cache, &mut walk, step, &mut between.into_iter()).await;
            let gone: BTreeSet<String> = walk.gone().iter().map(|key| key.as_str().to_owned()).collect();
            let touched: BTreeSet<String> = touched.into_iter().map(key).collect();
            for (name, version) in &there {
                prop_assert!(met.get(name) == Some(version) || gone.contains(name), "{name}");
                prop_assert!(touched.contains(name) || met.contains_key(name), "{name} is where it was, or elsewhere");
            }
            for name in met.keys() {
                prop_assert!(there.contains_key(name) && !gone.contains(name), "{name}");
            }
            prop_assert!(gone.iter().all(|name| there.contains_key(name)), "{gone:?}");
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_namespace_that_memory_does_not_know_is_shown() {
    let (first, shelf, _) = cache_over_shelf();
    for n in 0..7 {
        put(&first, &key(n), Mode::Create, &[1; 9]).await.unwrap();
    }
    let last = first.peek(&id(&key(6))).unwrap().version();
    hand_all_down(&first);
    let cache = cache_over(&shelf);
    cache.observe(last.hlc);
    let of = id("k");
    let snapshot = cache.snapshot(&of.tenant, &of.namespace, "a/").await;
    let snapshot = snapshot.unwrap();
    let items = snapshot.walk_once().step().await.unwrap().unwrap();
    let met: Vec<(&str, u64, bool)> = items
        .iter()
        .map(|item| (item.key.as_str(), item.bytes, item.below))
        .collect();
    assert_eq!(
        met,
        [("a/00", 9, true), ("a/03", 9, true), ("a/06", 9, true)]
    );

    let nothing = Namespace::parse("nothing").unwrap();
    let snapshot = cache.snapshot(&Tenant::public(), &nothing, "").await;
    assert!(
        snapshot
            .unwrap()
            .walk_once()
            .step()
            .await
            .unwrap()
            .is_none()
    );
}
