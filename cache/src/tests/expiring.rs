//! Expiry without being asked for: what is due goes, nothing else does, and it costs what it may.

use std::time::Duration;

use bowstring_wire::name::Tenant;

use super::*;
use crate::ledger::Account;
use crate::rows::{Row, RowsSpec};

fn mortal(expires_at_ms: u64) -> PutSpec {
    PutSpec {
        expires_at_ms: Some(expires_at_ms),
        ..spec(Mode::Replace)
    }
}

/// How many steps it takes until nothing more is due.
fn expire(cache: &Cache) -> u32 {
    let mut steps = 1;
    while cache.expire_due() {
        steps += 1;
    }
    steps
}

/// Puts `n` rows that expire after `ttl_ms` of their number.
async fn fill(cache: &Cache, n: usize, ttl_ms: impl Fn(usize) -> Option<u64>) {
    let now_ms = cache.clock().now_ms();
    let shape = Shape::new(&[64]).unwrap();
    let data = bytes(3, 64);
    let keep = RowsSpec {
        mode: Mode::Keep,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    for first in (0..n).step_by(10_000) {
        let numbers = first..n.min(first + 10_000);
        let keys: Vec<String> = numbers.clone().map(|n| format!("{n:08}")).collect();
        let rows: Vec<Row<'_>> = keys
            .iter()
            .zip(numbers)
            .map(|(key, n)| Row {
                expires_at_ms: ttl_ms(n).map(|ttl| now_ms + ttl),
                ..row(key, &shape, &data)
            })
            .collect();
        let stored = cache
            .put_rows(&Tenant::public(), &Namespace::default(), keep, &rows)
            .await;
        assert!(stored.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn what_is_due_goes_without_being_asked_for() {
    let (cache, clock) = cache_of(64 * MIB);
    for (key, seconds) in [("a", 1), ("b", 90), ("c", 90_000), ("d", 90_000_000)] {
        put_spec(&cache, key, mortal(NOW_MS + seconds * 1_000), &[1; 100])
            .await
            .unwrap();
    }
    put(&cache, "e", Mode::Create, &[1; 100]).await.unwrap();
    assert!(!cache.expire_due());
    for (left, seconds) in [(4, 2), (3, 89), (2, 90_000), (1, 90_000_000)] {
        clock.advance(Duration::from_secs(seconds));
        expire(&cache);
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.events.expired), (left, 5 - left));
    }
    assert_eq!(cache.stats().misses, 0, "nobody asked");
    assert!(get(&cache, "e").is_some());
}

#[tokio::test]
async fn a_new_expiry_takes_the_place_of_the_old_one() {
    let (cache, clock) = cache_of(64 * MIB);
    for key in ["longer", "shorter", "never", "replaced", "deleted"] {
        put_spec(&cache, key, mortal(NOW_MS + 5_000), &[1; 100])
            .await
            .unwrap();
    }
    put(&cache, "immortal", Mode::Create, &[1]).await.unwrap();
    assert!(
        cache
            .expire(&id("longer"), Some(NOW_MS + 100_000))
            .await
            .unwrap()
    );
    assert!(
        cache
            .expire(&id("shorter"), Some(NOW_MS + 1_000))
            .await
            .unwrap()
    );
    assert!(
        cache
            .expire(&id("immortal"), Some(NOW_MS + 1_000))
            .await
            .unwrap()
    );
    assert!(cache.expire(&id("never"), None).await.unwrap());
    assert!(!cache.expire(&id("missing"), None).await.unwrap());
    put(&cache, "replaced", Mode::Replace, &[2]).await.unwrap();
    cache.delete(&id("deleted"), None).await.unwrap().unwrap();
    clock.advance(Duration::from_secs(1));
    expire(&cache);
    assert_eq!(cache.stats().events.expired, 2);
    assert!(
        !cache.expire(&id("shorter"), None).await.unwrap(),
        "it is gone"
    );
    clock.advance(Duration::from_secs(10));
    expire(&cache);
    assert_eq!(cache.stats().events.expired, 2);
    for key in ["longer", "never", "replaced"] {
        assert!(get(&cache, key).is_some(), "{key}");
    }
    clock.advance(Duration::from_secs(100));
    expire(&cache);
    assert_eq!(
        (cache.stats().entries, cache.stats().events.expired),
        (2, 3)
    );
    assert!(cache.peek(&id("never")).unwrap().expires_at_ms().is_none());
}

#[tokio::test]
async fn replacing_a_key_for_ever_leaves_nothing_behind() {
    let (cache, clock) = cache_of(64 * MIB);
    put_spec(&cache, "k", mortal(NOW_MS + 3_600_000), &[1; 100])
        .await
        .unwrap();
    let before = cache.ledger().used_by(Account::Index);
    for n in 0..20_000 {
        let at = cache.clock().now_ms() + 1_000 + n * 7_919 % 100_000_000;
        put_spec(&cache, "k", mortal(at), &[1; 100]).await.unwrap();
        assert!(cache.expire(&id("k"), Some(at + 3_600_000)).await.unwrap());
        clock.advance(Duration::from_millis(50));
        assert_eq!(expire(&cache), 1);
    }
    assert_eq!(cache.ledger().used_by(Account::Index), before);
    assert_eq!(cache.stats().events.expired, 0);
}

/// Half a byte an entry, where the same entries without expiry are measured beside them.
#[tokio::test]
async fn an_expiring_entry_costs_half_a_byte_more() {
    const ENTRIES: usize = 200_000;
    let mut used = [0; 2];
    for (expires, used) in [false, true].into_iter().zip(&mut used) {
        let (cache, clock) = cache_of(256 * MIB);
        let ttl = |n: usize| expires.then_some(1_000 + (n as u64 * 7_919) % 86_400_000);
        fill(&cache, ENTRIES, ttl).await;
        *used = cache.ledger().used_by(Account::Index);
        if expires {
            clock.advance(Duration::from_secs(43_200));
            let half = expire(&cache);
            assert!(half > 10, "in bounded steps; steps=`{half}`");
            let gone = cache.stats().events.expired;
            assert!(gone.abs_diff(ENTRIES as u64 / 2) < ENTRIES as u64 / 50);
            clock.advance(Duration::from_secs(43_202));
            expire(&cache);
            assert_eq!(cache.stats().entries, 0);
        }
    }
    let each = (used[1] - used[0]) as f64 / ENTRIES as f64;
    assert!(each <= 0.5, "{each} bytes an entry");
}

/// Writers set expiries and replace keys while another thread frees what is due: nothing that lives
/// goes, and in the end nothing is left.
#[test]
fn writers_beside_the_one_who_frees() {
    const ROUNDS: u64 = if cfg!(miri) { 20 } else { 3_000 };
    let (cache, clock) = cache_of(64 * MIB);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let cache = cache.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .unwrap();
                    for round in 0..ROUNDS {
                        let key = format!("{writer}-{}", round % 50);
                        let now_ms = cache.clock().now_ms();
                        let put = put_spec(&cache, &key, mortal(now_ms + 100), &[1; 50]);
                        runtime.block_on(put).unwrap();
                        let expire =
                            |at| runtime.block_on(cache.expire(&id(&key), Some(at))).unwrap();
                        if round % 2 == 0 && expire(u64::MAX) {
                            assert!(get(&cache, &key).is_some(), "it was given all time");
                            expire(now_ms + 1_500);
                        }
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            clock.advance(Duration::from_millis(30));
            cache.expire_due();
        }
    });
    clock.advance(Duration::from_secs(3));
    expire(&cache);
    assert_eq!(cache.stats().entries, 0);
}
