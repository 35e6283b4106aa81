//! Expiry, order, namespaces, events.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;
use parking_lot::Mutex;

use super::*;
use crate::event::{Event, Listener, What, Why};

fn keys(cache: &Cache, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let items = cache.scan(
        &Tenant::public(),
        &Namespace::default(),
        prefix,
        after,
        limit,
    );
    items.iter().map(|item| item.key.to_string()).collect()
}

#[tokio::test]
async fn what_has_expired_is_a_miss_and_goes() {
    let (cache, clock) = cache_of(64 * MIB);
    let mortal = PutSpec {
        expires_at_ms: Some(NOW_MS + 1_000),
        ..spec(Mode::Create)
    };
    let one = put_spec(&cache, "k", mortal.clone(), &[1; 100])
        .await
        .unwrap();
    assert_eq!(
        cache.peek(&id("k")).unwrap().expires_at_ms(),
        Some(NOW_MS + 1_000)
    );
    clock.advance(Duration::from_millis(999));
    assert!(get(&cache, "k").is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(keys(&cache, "", None, 10), [""; 0]);
    assert!(cache.get(&id("k")).is_none());
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.arena_used_bytes), (0, 0));
    assert_eq!((stats.hits, stats.misses, stats.events.expired), (1, 1, 1));

    put_spec(&cache, "k", mortal, &[1; 100]).await.unwrap();
    let other = put(&cache, "k", Mode::Create, &[2; 100]).await.unwrap();
    assert!(!other.existed && other.version > one.version);
    assert_eq!(cache.delete(&id("k"), None).await, Ok(Some(other.version)));
}

#[tokio::test]
async fn a_delete_compares_the_version() {
    let (cache, _) = cache_of(64 * MIB);
    let one = put(&cache, "k", Mode::Create, &[1]).await.unwrap();
    let two = put(&cache, "k", Mode::Replace, &[1]).await.unwrap();
    let refused = cache.delete(&id("k"), Some(one.version)).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert_eq!(
        cache.delete(&id("k"), Some(two.version)).await,
        Ok(Some(two.version))
    );
    assert_eq!(cache.delete(&id("k"), None).await, Ok(None));
    let three = put(&cache, "k", Mode::Create, &[1]).await.unwrap();
    assert!(three.version > two.version);
}

#[tokio::test]
async fn a_scan_gives_keys_in_order_past_its_steps() {
    let (cache, _) = cache_of(64 * MIB);
    for n in 0..2_500 {
        put(
            &cache,
            &format!("k{:04}", (n * 7) % 2_500),
            Mode::Create,
            &[0],
        )
        .await
        .unwrap();
    }
    put(&cache, "j", Mode::Create, &[1, 2, 3]).await.unwrap();
    let all = keys(&cache, "", None, usize::MAX);
    assert_eq!(all.len(), 2_501);
    assert!(all.is_sorted() && all[0] == "j");
    assert_eq!(keys(&cache, "k", None, usize::MAX), all[1..]);
    assert_eq!(keys(&cache, "k0", None, 3), ["k0000", "k0001", "k0002"]);
    assert_eq!(keys(&cache, "k0", Some("k0998"), 9), ["k0999"]);
    assert_eq!(keys(&cache, "x", None, 9), [""; 0]);
    let tenant = Tenant::parse("other").unwrap();
    let none = cache.scan(&tenant, &Namespace::default(), "", None, 9);
    assert_eq!(none, []);
    let item = &cache.scan(&Tenant::public(), &Namespace::default(), "j", None, 1)[0];
    assert_eq!((item.bytes, item.shape.dims()), (3, [3].as_slice()));
    assert_eq!(item.version, cache.peek(&id("j")).unwrap().version());
}

#[tokio::test]
async fn the_same_key_of_two_tenants_is_two_entries() {
    let (cache, _) = cache_of(64 * MIB);
    let other = Id {
        tenant: Tenant::parse("other").unwrap(),
        ..id("k")
    };
    put(&cache, "k", Mode::Create, &[1]).await.unwrap();
    assert!(cache.get(&other).is_none());
    let mut second = cache.put(other.clone(), spec(Mode::Create)).unwrap();
    second.reserve(2).await.unwrap();
    second.write(&[2, 3]).unwrap();
    second.publish(Shape::new(&[2]).unwrap()).await.unwrap();
    assert_eq!(get(&cache, "k").unwrap(), [1]);
    assert_eq!(cache.get(&other).unwrap().into_vec().unwrap(), [2, 3]);
    let of_other = cache.namespaces(&other.tenant, None, 9);
    assert_eq!(
        (of_other[0].entries, of_other[0].bytes, of_other[0].hits),
        (1, 2, 1)
    );
    assert_eq!(cache.namespaces(&Tenant::public(), None, 9)[0].bytes, 1);
    assert_eq!(cache.get(&other).unwrap().id().unwrap(), other);
}

#[derive(Default)]
struct Keeper {
    seen: Mutex<Vec<(String, What)>>,
}

impl Listener for Keeper {
    fn on_event(&self, event: &Event<'_>) {
        self.seen.lock().push((event.key.to_owned(), event.what));
    }
}

#[tokio::test]
async fn listeners_hear_of_what_comes_and_goes() {
    let keeper = Arc::new(Keeper::default());
    let (cache, _) = cache_with(64 * MIB, |parts| {
        parts.listeners = vec![Arc::clone(&keeper) as _];
    });
    put(&cache, "k", Mode::Create, &[1; 100_000]).await.unwrap();
    put(&cache, "k", Mode::Replace, &[2; 100_000])
        .await
        .unwrap();
    cache.delete(&id("k"), None).await.unwrap().unwrap();
    assert!(cache.peek(&id("k")).is_none());
    assert_eq!(cache.stats().arena_used_bytes, 0);
    let seen: Vec<What> = keeper.seen.lock().iter().map(|(_, what)| *what).collect();
    assert_eq!(
        seen,
        [
            What::Published,
            What::Unlinked(Why::Replaced),
            What::Published,
            What::Unlinked(Why::Deleted)
        ]
    );
    assert_eq!(keeper.seen.lock()[0].0, "k");
}
