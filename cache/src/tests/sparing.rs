//! What must not go for want of room: what a namespace shows while a load for it fills memory, and
//! what is pinned under a load.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;

use super::loading::{begin, commit, put_in, rollback, tidy};
use super::*;
use crate::ledger::Account;
use crate::loads::LoadSpec;
use crate::put::Put;
use crate::rows::RowsSpec;

const OLD: u64 = 15;

fn elsewhere(key: &str) -> Id {
    Id {
        namespace: Namespace::parse("elsewhere").unwrap(),
        ..id(key)
    }
}

async fn put_elsewhere(cache: &Cache, key: &str, data: &[u8]) {
    let mut put = cache.put(elsewhere(key), spec(Mode::Replace)).unwrap();
    put.reserve(data.len() as u64).await.unwrap();
    put.write(data).unwrap();
    put.publish(Shape::new(&[data.len() as u64]).unwrap())
        .await
        .unwrap();
}

fn old(n: u64) -> String {
    format!("old-{n}")
}

/// A cache that is full: of what a namespace shows, of another namespace's entries, and of a put that
/// is never ended.
async fn full(eviction: Eviction) -> (Cache, Put) {
    let (cache, _) = cache_by(eviction, 32 * MIB, |_| {});
    for n in 0..OLD {
        put(&cache, &old(n), Mode::Create, &bytes(n, 1 << 20))
            .await
            .unwrap();
    }
    let mut open = cache.put(elsewhere("open"), spec(Mode::Create)).unwrap();
    open.reserve(8 << 20).await.unwrap();
    for n in 0..40 {
        put_elsewhere(&cache, &format!("small-{n}"), &bytes(n, 100_000)).await;
    }
    for n in 0..OLD {
        assert!(get(&cache, &old(n)).is_some(), "there was room for all");
    }
    (cache, open)
}

fn whole(cache: &Cache) {
    for n in 0..OLD {
        assert_eq!(get(cache, &old(n)).unwrap(), bytes(n, 1 << 20), "{n}");
    }
}

/// A load that finds no room is refused at once, on a clock that stands still: nobody waits behind it.
#[tokio::test]
async fn what_is_shown_stays_while_it_is_to_be_replaced() {
    for eviction in Eviction::ALL {
        for replace_all in [true, false] {
            let (cache, open) = full(eviction).await;
            let load = begin(&cache, replace_all);
            let mut stored = 0;
            let refused = loop {
                let (key, data) = (format!("new-{stored}"), bytes(stored, 1 << 20));
                match put_in(&cache, &load, &key, Mode::Create, &data).await {
                    Ok(_) => stored += 1,
                    Err(refused) => break refused,
                }
            };
            assert_eq!(refused.code, Code::ResourceExhausted);
            for said in ["its namespace shows", "limit=`memory`", "loads_bytes="] {
                assert!(refused.message.contains(said), "{refused}");
            }
            // What others had went for it.
            assert!(stored >= 4, "{eviction} {stored}");
            assert!(cache.peek(&elsewhere("small-0")).is_none());
            whole(&cache);

            // There is no room for rows either, nor for bytes on their way to them.
            let (tenant, namespace) = (Tenant::public(), Namespace::default());
            let number = cache.load(&tenant, &namespace, &load).unwrap();
            let spec = RowsSpec {
                mode: Mode::Keep,
                load: number,
                pin: false,
                admit: Admit::Hot,
                below: false,
            };
            let (shape, data) = (Shape::new(&[20_000]).unwrap(), bytes(1, 20_000));
            let keys: Vec<String> = (0..100).map(|n| format!("row-{n}")).collect();
            let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
            let answers = cache.put_rows(&tenant, &namespace, spec, &rows).await;
            let last = answers.last().unwrap().as_ref().unwrap_err();
            assert_eq!(last.code, Code::ResourceExhausted);
            assert!(cache.charge_in(number, Account::Wire, 2 << 20).is_none());
            whole(&cache);

            // Others take room as always.
            drop(open);
            commit(&cache, &load).await.unwrap();
            assert_eq!(get(&cache, "new-0").unwrap(), bytes(0, 1 << 20));
            assert_eq!(get(&cache, &old(0)).is_none(), replace_all);
            rollback(&cache, &load).await.unwrap();
            whole(&cache);
            let mut charges = Vec::new();
            while let Some(charge) = cache.charge(Account::Wire, 1 << 20) {
                charges.push(charge);
            }
            assert!((0..OLD).all(|n| get(&cache, &old(n)).is_none()));
        }
    }
}

#[tokio::test]
async fn a_load_of_another_namespace_may_take_it() {
    let (cache, _open) = full(Eviction::Sieve).await;
    let (tenant, namespace) = (Tenant::public(), elsewhere("l").namespace);
    let load = cache
        .begin_load(&tenant, &namespace, LoadSpec::default())
        .unwrap();
    let number = cache.load(&tenant, &namespace, &load).unwrap();
    for n in 0..8 {
        let spec = PutSpec {
            load: number,
            ..spec(Mode::Create)
        };
        let mut put = cache.put(elsewhere(&format!("l{n}")), spec).unwrap();
        put.reserve(1 << 20).await.unwrap();
        put.write(&bytes(n, 1 << 20)).unwrap();
        put.publish(Shape::new(&[1 << 20]).unwrap()).await.unwrap();
    }
    assert!(cache.peek(&elsewhere("small-0")).is_some());
    assert!((0..OLD).any(|n| get(&cache, &old(n)).is_none()));
}

/// Puts more than fits.
async fn flood(cache: &Cache) {
    for n in 0..40 {
        let (key, data) = (format!("flood-{n}"), bytes(n, 1 << 20));
        put(cache, &key, Mode::Replace, &data).await.unwrap();
    }
}

fn is_kept(cache: &Cache, key: &str) -> Option<bool> {
    cache.peek(&id(key)).map(|entry| entry.is_kept())
}

/// A cache of a pinned key over which a load is merged.
async fn over_a_pin() -> (Cache, Arc<ManualClock>, String) {
    let (cache, clock) = cache_by(Eviction::Lru, 16 * MIB, |_| {});
    put(&cache, "p", Mode::Create, b"old").await.unwrap();
    cache.pin(&id("p")).await.unwrap();
    let load = begin(&cache, false);
    for key in ["o", "p"] {
        put_in(&cache, &load, key, Mode::Create, b"new")
            .await
            .unwrap();
    }
    commit(&cache, &load).await.unwrap();
    assert_eq!(get(&cache, "p").unwrap(), b"new");
    (cache, clock, load)
}

#[tokio::test]
async fn a_pinned_key_stays_pinned_when_a_load_is_merged_over_it() {
    let (cache, _, load) = over_a_pin().await;
    assert_eq!(
        (is_kept(&cache, "o"), is_kept(&cache, "p")),
        (Some(false), Some(true))
    );
    flood(&cache).await;
    assert_eq!(get(&cache, "p").unwrap(), b"new");
    rollback(&cache, &load).await.unwrap();
    tidy(&cache);
    assert_eq!(
        (get(&cache, "p").unwrap(), is_kept(&cache, "p")),
        (b"old".to_vec(), Some(true))
    );
    assert_eq!(cache.stats().pinned_entries, 1);
}

#[tokio::test]
async fn it_stays_pinned_once_the_load_is_part_of_the_rest() {
    let (cache, clock, _) = over_a_pin().await;
    clock.advance(Duration::from_secs(600));
    tidy(&cache);
    flood(&cache).await;
    assert_eq!(
        (get(&cache, "p").unwrap(), is_kept(&cache, "p")),
        (b"new".to_vec(), Some(true))
    );
    assert_eq!(cache.stats().pinned_entries, 1);
    assert!(get(&cache, "o").is_none());
}

#[tokio::test]
async fn to_unpin_a_key_unpins_what_is_under_it() {
    let (cache, _, load) = over_a_pin().await;
    assert_eq!(cache.unpin(&id("p")), Some(true));
    let stats = cache.stats();
    assert_eq!((stats.pinned_entries, stats.pinned_bytes), (0, 0));
    rollback(&cache, &load).await.unwrap();
    assert_eq!(
        (get(&cache, "p").unwrap(), is_kept(&cache, "p")),
        (b"old".to_vec(), Some(false))
    );

    let (cache, _, _) = over_a_pin().await;
    cache.unpin(&id("p")).unwrap();
    flood(&cache).await;
    assert!(get(&cache, "p").is_none(), "and nothing older");
}

/// A commit pins key by key what is over a pin. Who evicts may come to a key before it.
#[tokio::test]
async fn what_is_over_a_pin_is_not_evicted_before_it_is_pinned() {
    let (cache, _) = cache_by(Eviction::Lru, 16 * MIB, |_| {});
    put(&cache, "z", Mode::Create, b"old").await.unwrap();
    cache.pin(&id("z")).await.unwrap();
    let load = begin(&cache, false);
    for key in (0..300).map(|n| format!("k{n:03}")).chain(["z".to_owned()]) {
        put_in(&cache, &load, &key, Mode::Create, b"new")
            .await
            .unwrap();
    }
    {
        let mut commit = std::pin::pin!(commit(&cache, &load));
        tokio::select! {
            biased;
            _ = &mut commit => panic!("more keys than a step has"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(
            (get(&cache, "z").unwrap(), is_kept(&cache, "z")),
            (b"new".to_vec(), Some(false))
        );
        flood(&cache).await;
        assert_eq!(
            (get(&cache, "z").unwrap(), is_kept(&cache, "z")),
            (b"new".to_vec(), Some(true))
        );
        assert!(get(&cache, "k299").is_none(), "others went");
        commit.await.unwrap();
    }
    assert_eq!(cache.stats().pinned_entries, 2, "and what it hides");
    cache.delete(&id("z"), None).await.unwrap().unwrap();
    let stats = cache.stats();
    assert_eq!((stats.pinned_entries, stats.pinned_bytes), (0, 0));
}
