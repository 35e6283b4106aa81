//! Pins of users: what they keep, what they do not, and how many there may be.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;

use super::*;
use crate::ledger::Account;
use crate::rows::{Row, RowsSpec};

fn pinned(mode: Mode) -> PutSpec {
    PutSpec {
        pin: true,
        ..spec(mode)
    }
}

/// Puts more than fits.
async fn flood(cache: &Cache, name: &str) {
    for n in 0..=u8::MAX {
        put(cache, &format!("{name}-{n}"), Mode::Replace, &[n; 100_000])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_pinned_stays_whatever_comes() {
    let (cache, clock) = cache_of(8 * MIB);
    let (small, large) = (bytes(1, 500), bytes(2, 300_000));
    put(&cache, "small", Mode::Create, &small).await.unwrap();
    put_spec(&cache, "large", pinned(Mode::Create), &large)
        .await
        .unwrap();
    put(&cache, "free", Mode::Create, &small).await.unwrap();
    assert_eq!(cache.pin(&id("small")).await, Ok(Some(true)));
    assert_eq!(cache.pin(&id("small")).await, Ok(Some(false)));
    assert_eq!(cache.pin(&id("missing")).await, Ok(None));
    let stats = cache.stats();
    assert_eq!(stats.pinned_entries, 2);
    assert!(stats.pinned_bytes > 300_500 && stats.pinned_bytes < 400_000);
    flood(&cache, "a").await;
    assert_eq!(get(&cache, "small").unwrap(), small);
    assert_eq!(get(&cache, "large").unwrap(), large);
    assert!(cache.peek(&id("small")).unwrap().is_kept());
    assert!(get(&cache, "free").is_none());

    assert_eq!(cache.unpin(&id("large")), Some(true));
    assert_eq!(cache.unpin(&id("large")), Some(false));
    assert_eq!(cache.unpin(&id("missing")), None);
    // All that can go goes.
    let mut charges = Vec::new();
    while let Some(charge) = cache.charge(Account::Wire, 64 << 10) {
        charges.push(charge);
    }
    assert!(get(&cache, "large").is_none());
    assert_eq!(
        (get(&cache, "small").unwrap(), cache.stats().entries),
        (small, 1)
    );
    drop(charges);
    cache.delete(&id("small"), None).await.unwrap().unwrap();
    let stats = cache.stats();
    assert_eq!((stats.pinned_entries, stats.pinned_bytes), (0, 0));
    clock.advance(Duration::from_secs(1));
}

#[tokio::test]
async fn the_pin_is_the_keys_and_goes_with_it() {
    let (cache, clock) = cache_of(8 * MIB);
    put_spec(&cache, "k", pinned(Mode::Create), &[1; 100_000])
        .await
        .unwrap();
    let before = cache.stats().pinned_bytes;
    put(&cache, "k", Mode::Replace, &[2; 10]).await.unwrap();
    assert!(cache.peek(&id("k")).unwrap().is_kept());
    assert!(cache.stats().pinned_bytes < before / 100);
    flood(&cache, "a").await;
    assert_eq!(get(&cache, "k").unwrap(), [2; 10]);
    cache.delete(&id("k"), None).await.unwrap().unwrap();
    put(&cache, "k", Mode::Create, &[3]).await.unwrap();
    assert!(!cache.peek(&id("k")).unwrap().is_kept(), "another one");
    // What is there already is pinned too: then the key is, whoever put it.
    let again = put_spec(&cache, "k", pinned(Mode::Create), &[3]).await;
    assert!(again.unwrap().existed);
    assert!(cache.peek(&id("k")).unwrap().is_kept());
    put_spec(&cache, "k", pinned(Mode::Keep), &[4])
        .await
        .unwrap();

    // It says how long it is right, not only how long it may stay.
    assert!(cache.expire(&id("k"), Some(NOW_MS + 1_000)).await.unwrap());
    clock.advance(Duration::from_secs(1));
    while cache.expire_due() {}
    let stats = cache.stats();
    assert_eq!((stats.events.expired, stats.pinned_entries), (1, 0));
    assert_eq!(stats.pinned_bytes, 0);
}

#[tokio::test]
async fn there_is_room_beside_pins() {
    let (cache, _) = cache_of(32 * MIB);
    let mut kept = 0;
    let refused = loop {
        let key = format!("k{kept}");
        match put_spec(&cache, &key, pinned(Mode::Create), &[1; 1_000_000]).await {
            Ok(_) => kept += 1,
            Err(refused) => break refused,
        }
    };
    let limit = cache.stats().pinned_bytes_max;
    assert_eq!(refused.code, Code::ResourceExhausted);
    let told = refused.to_string();
    for said in [
        "limit=`pinned_bytes_max`",
        &format!("value=`{limit}`"),
        "pinned_bytes=",
    ] {
        assert!(told.contains(said), "{told}");
    }
    let stats = cache.stats();
    assert!(stats.pinned_bytes <= limit && stats.pinned_bytes + 1_100_000 > limit);
    assert_eq!((stats.pinned_entries, stats.pins_refused), (kept, 1));
    assert!(get(&cache, &format!("k{kept}")).is_none());
    flood(&cache, "a").await;
    assert_eq!(cache.stats().pinned_entries, kept);

    // What takes a pinned one's place needs no room beyond it; more is refused, and it stays.
    put(&cache, "k0", Mode::Replace, &[2; 1_000_000])
        .await
        .unwrap();
    let larger = put(&cache, "k0", Mode::Replace, &[3; 3_000_000]).await;
    assert_eq!(larger.unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(get(&cache, "k0").unwrap(), [2; 1_000_000]);
    assert_eq!(cache.stats().pinned_bytes, stats.pinned_bytes);

    // Open puts and pins together have a limit of their own.
    let busy = cache.stats().busy_bytes_max;
    let room = busy - stats.pinned_bytes - 2 * MIB;
    let mut open = cache.put(id("open"), spec(Mode::Create)).unwrap();
    open.reserve(room).await.unwrap();
    for n in 0..3 {
        assert_eq!(cache.unpin(&id(&format!("k{n}"))), Some(true));
    }
    let mut more = cache.put(id("more"), spec(Mode::Create)).unwrap();
    more.reserve(4 * MIB).await.unwrap();
    let told = cache.pin(&id("k1")).await.unwrap_err().to_string();
    assert!(
        told.contains(&format!("limit=`busy_bytes_max` value=`{busy}`")),
        "{told}"
    );
    drop((open, more));
    assert_eq!(cache.pin(&id("k1")).await, Ok(Some(true)));
}

#[tokio::test]
async fn rows_are_pinned_as_well() {
    let (cache, _) = cache_of(8 * MIB);
    let shape = Shape::new(&[1_000]).unwrap();
    let data = bytes(4, 1_000);
    let keys: Vec<String> = (0..300).map(|n| format!("r{n}")).collect();
    let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
    let spec = RowsSpec {
        mode: Mode::Keep,
        load: 0,
        pin: true,
        admit: Admit::Hot,
        below: false,
    };
    for _ in 0..2 {
        let tenant = Tenant::public();
        let stored = cache
            .put_rows(&tenant, &Namespace::default(), spec, &rows)
            .await;
        assert!(stored.iter().all(Result::is_ok));
        assert_eq!(cache.stats().pinned_entries, 300);
    }
    flood(&cache, "a").await;
    assert!(keys.iter().all(|key| get(&cache, key).is_some()));
}
