//! What a rollback must not bring back, and what it must not mix.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;

use super::loading::{begin, commit, put_in, rollback, tidy};
use super::*;

async fn refused(cache: &Cache, load: &str) {
    let refused = rollback(cache, load).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_load_is_not_rolled_back_for_another_that_has_its_generation() {
    let (cache, _) = cache_of(64 * MIB);
    put(&cache, "a", Mode::Create, b"1").await.unwrap();
    let mut loads = Vec::new();
    // Generations are used again, so some of these had the same one.
    for round in 0..6 {
        let load = begin(&cache, round % 2 == 0);
        put_in(&cache, &load, "a", Mode::Create, &[round])
            .await
            .unwrap();
        commit(&cache, &load).await.unwrap();
        tidy(&cache);
        loads.push(load);
    }
    let last = loads.pop().unwrap();
    for load in &loads {
        refused(&cache, load).await;
    }
    assert_eq!(get(&cache, "a").unwrap(), [5]);
    rollback(&cache, &last).await.unwrap();
    assert_eq!(get(&cache, "a").unwrap(), [4]);
}

#[tokio::test]
async fn a_load_that_is_half_merged_stays() {
    let (cache, clock) = cache_of(64 * MIB);
    let keys: Vec<String> = (0..600).map(|n| format!("k{n:03}")).collect();
    for key in &keys {
        put(&cache, key, Mode::Create, b"old").await.unwrap();
    }
    let load = begin(&cache, false);
    for key in &keys {
        put_in(&cache, &load, key, Mode::Create, b"new")
            .await
            .unwrap();
    }
    commit(&cache, &load).await.unwrap();
    clock.advance(Duration::from_secs(600));
    assert!(cache.tidy_loads(), "one step of several");
    assert!(rollback(&cache, &load).await.is_err());
    tidy(&cache);
    for key in &keys {
        assert_eq!(get(&cache, key).unwrap(), b"new");
    }
    assert_eq!(cache.engine().index.table.len(), 600);
}

#[tokio::test]
async fn what_was_deleted_stays_so_though_it_did_not_show() {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    for (prefix, left) in [("", &[][..]), ("b", &["a", "c"])] {
        let (cache, _) = cache_of(64 * MIB);
        for key in ["a", "b1", "b2", "c"] {
            put(&cache, key, Mode::Create, b"1").await.unwrap();
        }
        let load = begin(&cache, true);
        for key in ["b2", "d"] {
            put_in(&cache, &load, key, Mode::Create, b"2")
                .await
                .unwrap();
        }
        commit(&cache, &load).await.unwrap();
        let deleted = cache
            .delete_prefix(&tenant, &namespace, prefix)
            .await
            .unwrap();
        assert_eq!(deleted, if prefix.is_empty() { 2 } else { 1 });
        rollback(&cache, &load).await.unwrap();
        let items = cache.scan(&tenant, &namespace, "", None, 10);
        let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, left);
        tidy(&cache);
        assert_eq!(cache.engine().index.table.len(), left.len() as u64);
    }

    let (cache, _) = cache_of(64 * MIB);
    for key in ["a", "b"] {
        put(&cache, key, Mode::Create, b"1").await.unwrap();
    }
    let load = begin(&cache, true);
    commit(&cache, &load).await.unwrap();
    let wanted = bowstring_wire::version::Version { hlc: 1, start: 1 };
    assert_eq!(cache.delete(&id("b"), Some(wanted)).await, Ok(None));
    assert_eq!(cache.delete(&id("a"), None).await, Ok(None));
    rollback(&cache, &load).await.unwrap();
    assert_eq!(
        (get(&cache, "a"), get(&cache, "b")),
        (None, Some(vec![b'1']))
    );
}

#[tokio::test]
async fn clear_takes_what_lies_under_something_that_has_expired() {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let (cache, clock) = cache_of(64 * MIB);
    put(&cache, "a", Mode::Create, b"1").await.unwrap();
    let load = begin(&cache, false);
    let spec = PutSpec {
        load: cache.load(&tenant, &namespace, &load).unwrap(),
        expires_at_ms: Some(NOW_MS + 1_000),
        ..spec(Mode::Create)
    };
    put_spec(&cache, "a", spec, b"2").await.unwrap();
    commit(&cache, &load).await.unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        cache.delete_prefix(&tenant, &namespace, "").await.unwrap(),
        0
    );
    rollback(&cache, &load).await.unwrap();
    assert!(get(&cache, "a").is_none());
}

/// Of a load that was rolled back, who still reads it sees all; where memory is wanted, what is
/// left of it, and nothing that is older.
#[tokio::test]
async fn who_reads_a_load_that_is_rolled_back_sees_nothing_older() {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let (cache, _) = cache_of(16 * MIB);
    for key in ["a", "b", "c"] {
        put(&cache, key, Mode::Create, b"old").await.unwrap();
    }
    let load = begin(&cache, false);
    for key in ["a", "b"] {
        put_in(&cache, &load, key, Mode::Create, b"new")
            .await
            .unwrap();
    }
    commit(&cache, &load).await.unwrap();
    let generation = cache.generation(&tenant, &namespace);
    let by = |key: &str| {
        let entry = cache.get_in(&generation, &id(key));
        entry.map(|entry| entry.into_vec().unwrap())
    };
    rollback(&cache, &load).await.unwrap();
    tidy(&cache);
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    assert_eq!([by("a"), by("b"), by("c")], [new.clone(), new, old]);
    assert_eq!(get(&cache, "a").unwrap(), b"old");

    for n in 0..40 {
        let key = format!("more-{n}");
        put(&cache, &key, Mode::Create, &bytes(n, 1 << 20))
            .await
            .unwrap();
    }
    assert_eq!([by("a"), by("b"), by("c")], [None, None, None]);
    assert!(cache.scan_in(&generation, "", None, 10).is_empty());
    drop(generation);
    tidy(&cache);
    assert_eq!(cache.stats().loads.open, 0);
}

#[tokio::test]
async fn what_expires_in_a_load_that_was_rolled_back_hides_nothing_else() {
    let (cache, clock) = cache_of(64 * MIB);
    put(&cache, "below", Mode::Create, b"1").await.unwrap();
    let load = begin(&cache, false);
    let soon = PutSpec {
        load: cache
            .load(&Tenant::public(), &Namespace::default(), &load)
            .unwrap(),
        expires_at_ms: Some(NOW_MS + 5),
        ..spec(Mode::Create)
    };
    put_spec(&cache, "soon", soon, b"2").await.unwrap();
    commit(&cache, &load).await.unwrap();
    let generation = cache.generation(&Tenant::public(), &Namespace::default());
    rollback(&cache, &load).await.unwrap();
    clock.advance(Duration::from_millis(5));
    assert!(cache.get_in(&generation, &id("soon")).is_none());
    assert!(cache.get_in(&generation, &id("below")).is_some());
}
