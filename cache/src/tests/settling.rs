//! Namespaces: their settings, limits and counters, deleting by prefix, and how many there may be.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;
use bowstring_wire::settings::SettingsChange;
use bowstring_wire::version::Version;

use super::loading::{begin, commit, put_in};
use super::*;
use crate::stats::NamespaceStats;

fn change(text: &str) -> SettingsChange {
    SettingsChange::parse(text).unwrap()
}

async fn set(cache: &Cache, text: &str) -> Result<Version> {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let set = cache
        .set_settings(&tenant, &namespace, &change(text), None)
        .await;
    set.map(|(_, version)| version)
}

fn own(cache: &Cache) -> NamespaceStats {
    cache.namespaces(&Tenant::public(), None, 1).remove(0)
}

async fn fill(cache: &Cache, keys: std::ops::Range<u32>, len: usize) {
    for key in keys {
        put(
            cache,
            &format!("k{key:05}"),
            Mode::Replace,
            &bytes(key.into(), len),
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn settings_have_a_version_and_change_one_by_one() {
    let (cache, _) = cache_of(16 * MIB);
    let (tenant, namespace) = (Tenant::public(), Namespace::parse("n").unwrap());
    let never = Version { hlc: 0, start: 0 };
    let set = async |text, if_version| {
        cache
            .set_settings(&tenant, &namespace, &change(text), if_version)
            .await
    };
    let (none, version) = set("{}", Some(never)).await.unwrap();
    assert!(none.is_empty() && version == never);
    assert_eq!(cache.stats().namespaces, 0, "who asks makes none");
    let (one, first) = set(r#"{"bytes_max":5,"mode":"keep"}"#, Some(never))
        .await
        .unwrap();
    assert_eq!((one.bytes_max, one.entries_max), (Some(5), None));
    let refused = set(r#"{"bytes_max":6}"#, Some(never)).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(
        refused.to_string().contains(&format!("version=`{first}`")),
        "{refused}"
    );
    let (two, second) = set(r#"{"entries_max":7,"mode":null}"#, Some(first))
        .await
        .unwrap();
    assert_eq!(
        (two.bytes_max, two.entries_max, two.mode),
        (Some(5), Some(7), None)
    );
    assert!(second > first);
    assert_eq!(set("{}", None).await.unwrap(), (two.clone(), second));
    assert_eq!(cache.settings(&tenant, &namespace), two);
    assert!(cache.settings(&tenant, &Namespace::default()).is_empty());
}

#[tokio::test]
async fn what_the_file_fixes_stays() {
    let (cache, _) = cache_of(16 * MIB);
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let fixed = change(r#"{"bytes_max":1000,"default_ttl_ms":null}"#);
    cache.fix_settings(&tenant, &namespace, fixed).unwrap();
    assert!(
        set(&cache, r#"{"entries_max":5,"bytes_max":1000}"#)
            .await
            .is_ok()
    );
    for other in [
        r#"{"bytes_max":1001}"#,
        r#"{"bytes_max":null}"#,
        r#"{"default_ttl_ms":1}"#,
    ] {
        let refused = set(&cache, other).await.unwrap_err();
        assert_eq!(refused.code, Code::FailedPrecondition);
        assert!(
            refused.to_string().contains("fixed by the settings file"),
            "{refused}"
        );
    }
    assert_eq!(own(&cache).settings.entries_max, Some(5));
}

#[tokio::test]
async fn a_put_that_says_no_time_to_live_has_its_namespaces() {
    let (cache, clock) = cache_of(16 * MIB);
    put(&cache, "before", Mode::Create, &[1]).await.unwrap();
    set(&cache, r#"{"default_ttl_ms":5000}"#).await.unwrap();
    put(&cache, "after", Mode::Create, &[1]).await.unwrap();
    let says = PutSpec {
        expires_at_ms: Some(NOW_MS + 60_000),
        ..spec(Mode::Create)
    };
    put_spec(&cache, "says", says, &[1]).await.unwrap();
    put(&cache, "never", Mode::Create, &[1]).await.unwrap();
    assert!(cache.expire(&id("never"), None).await.unwrap());
    clock.advance(Duration::from_secs(5));
    while cache.expire_due() {}
    for (key, there) in [
        ("before", true),
        ("after", false),
        ("says", true),
        ("never", true),
    ] {
        assert_eq!(get(&cache, key).is_some(), there, "{key}");
    }
    let own = own(&cache);
    assert_eq!((own.hits, own.misses, own.expired), (3, 1, 1));
}

#[tokio::test]
async fn a_namespace_at_its_limit_lets_its_own_go_and_no_others() {
    let (cache, clock) = cache_of(32 * MIB);
    let other = Id {
        namespace: Namespace::parse("other").unwrap(),
        ..id("k")
    };
    let mut theirs = cache.put(other.clone(), spec(Mode::Create)).unwrap();
    theirs.reserve(1).await.unwrap();
    theirs.write(&[1]).unwrap();
    theirs.publish(Shape::new(&[1]).unwrap()).await.unwrap();

    set(&cache, r#"{"entries_max":1000,"bytes_max":600000}"#)
        .await
        .unwrap();
    put_spec(
        &cache,
        "pinned",
        PutSpec {
            pin: true,
            ..spec(Mode::Create)
        },
        &[9; 1_000],
    )
    .await
    .unwrap();
    fill(&cache, 0..999, 100).await;
    assert_eq!((own(&cache).entries, own(&cache).evicted), (1_000, 0));
    // Those that are asked for later than the others stay: not all, for it is a draw.
    clock.advance(Duration::from_secs(10));
    (0..300).for_each(|key| assert!(get(&cache, &format!("k{key:05}")).is_some()));
    fill(&cache, 2_000..2_500, 100).await;
    let now = own(&cache);
    assert_eq!((now.entries, now.evicted), (1_000, 500));
    let stayed = (0..300).filter(|key| get(&cache, &format!("k{key:05}")).is_some());
    assert!(stayed.count() > 280);
    assert!(cache.peek(&other).is_some() && cache.peek(&id("pinned")).is_some());

    // A larger one lets as many go as it must, and what takes a place needs only what it has more.
    put(&cache, "large", Mode::Create, &[1; 590_000])
        .await
        .unwrap();
    let now = own(&cache);
    assert!(now.bytes <= 600_000 && now.entries < 100, "{now:?}");
    assert!(cache.peek(&id("pinned")).is_some());
    put(&cache, "large", Mode::Replace, &[2; 595_000])
        .await
        .unwrap();
    assert_eq!(get(&cache, "large").unwrap(), [2; 595_000]);
    let refused = put(&cache, "larger", Mode::Create, &[1; 600_001])
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(
        refused
            .to_string()
            .contains("limit=`bytes_max` value=`600000`"),
        "{refused}"
    );
    let refused = put(&cache, "large-1", Mode::Create, &[1; 599_500])
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("nothing in it can go"),
        "{refused}"
    );
    assert!(
        cache
            .put(
                id("x"),
                PutSpec {
                    size_bytes: Some(600_001),
                    ..spec(Mode::Create)
                }
            )
            .is_err()
    );
    assert!(cache.peek(&other).is_some());
}

#[tokio::test]
async fn a_lower_limit_holds_at_once() {
    let (cache, _) = cache_of(32 * MIB);
    fill(&cache, 0..3_000, 50).await;
    for key in 0..5 {
        assert_eq!(cache.pin(&id(&format!("k{key:05}"))).await, Ok(Some(true)));
    }
    set(&cache, r#"{"entries_max":700}"#).await.unwrap();
    assert_eq!((own(&cache).entries, own(&cache).evicted), (700, 2_300));
    set(&cache, r#"{"entries_max":3}"#).await.unwrap();
    assert_eq!(own(&cache).entries, 5, "what is pinned stays");
    let refused = put(&cache, "new", Mode::Create, &[1]).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("limit=`entries_max` value=`3`"),
        "{refused}"
    );
    assert!(put(&cache, "k00000", Mode::Replace, &[1]).await.is_ok());
    set(&cache, r#"{"entries_max":null}"#).await.unwrap();
    assert!(put(&cache, "new", Mode::Create, &[1]).await.is_ok());
    assert_eq!(cache.stats().pinned_entries, 5);
}

#[test]
fn limits_hold_whoever_puts() {
    let (cache, _) = cache_of(64 * MIB);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    runtime()
        .block_on(set(&cache, r#"{"bytes_max":100000,"entries_max":200}"#))
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                runtime().block_on(async {
                    for n in 0..1_500_u32 {
                        let len = 1 + (n * 7_919) as usize % 3_000;
                        let key = format!("{thread}-{}", n % 300);
                        put(cache, &key, Mode::Replace, &bytes(n.into(), len))
                            .await
                            .unwrap();
                        let own = own(cache);
                        assert!(own.bytes <= 100_000 && own.entries <= 200, "{own:?}");
                    }
                });
            });
        }
    });
    assert!(own(&cache).evicted > 1_000);
}

#[tokio::test]
async fn a_prefix_goes_as_it_was_when_the_call_began() {
    let (cache, _) = cache_of(64 * MIB);
    fill(&cache, 0..5_000, 10).await;
    put(&cache, "other", Mode::Create, &[1]).await.unwrap();
    assert_eq!(cache.pin(&id("k00007")).await, Ok(Some(true)));
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let deleting = cache.delete_prefix(&tenant, &namespace, "k");
    // Between its steps somebody puts: new keys behind and before where it is, and old ones anew.
    let putting = async {
        let mut newest = 0;
        for n in 0..3_u32 {
            tokio::task::yield_now().await;
            for key in [
                format!("k00000-{n}"),
                format!("k9{n}"),
                String::from("k04999"),
            ] {
                put(&cache, &key, Mode::Replace, &[7]).await.unwrap();
            }
            newest += 1;
        }
        newest
    };
    let (deleted, rounds) = tokio::join!(deleting, putting);
    assert_eq!(rounds, 3);
    let deleted = deleted.unwrap();
    assert!((4_999..=5_000).contains(&deleted), "{deleted}");
    let left = cache.scan(&tenant, &namespace, "", None, usize::MAX);
    let left: Vec<&str> = left.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(
        left,
        [
            "k00000-0", "k00000-1", "k00000-2", "k04999", "k90", "k91", "k92", "other"
        ]
    );
    assert_eq!(cache.stats().pinned_bytes, 0);
    assert_eq!(
        cache.delete_prefix(&tenant, &namespace, "").await.unwrap(),
        8
    );
    let nowhere = Namespace::parse("nowhere").unwrap();
    assert_eq!(cache.delete_prefix(&tenant, &nowhere, "").await.unwrap(), 0);
    assert_eq!(cache.stats().namespaces, 1);
}

/// A stranger makes up a million names: there are as many as there may be, the refusal says so, and
/// tensors have their memory all the same.
#[tokio::test]
async fn a_million_namespaces_are_too_many() {
    let (cache, _) = cache_of(64 * MIB);
    let tenant = Tenant::public();
    let max = cache.stats().namespaces_max;
    assert!((1_000..=65_536).contains(&max), "{max}");
    let mut refused = None;
    for n in 0..1_000_000 {
        let one = Id {
            namespace: Namespace::parse(&format!("tiny-{n}")).unwrap(),
            ..id("k")
        };
        // The put itself for the first ones, what it asks first for the rest.
        if n < max + 10 {
            let put = cache.put(one, spec(Mode::Create)).unwrap();
            if let Err(error) = put.publish(Shape::new(&[0]).unwrap()).await {
                refused = Some(error);
            }
        } else {
            assert!(
                cache
                    .engine()
                    .spaces
                    .intern(&tenant, &one.namespace)
                    .is_err()
            );
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code, Code::ResourceExhausted);
    let said = format!("limit=`namespaces_max` value=`{max}`");
    assert!(refused.to_string().contains(&said), "{refused}");
    let stats = cache.stats();
    assert_eq!((stats.namespaces, stats.entries), (max, u64::from(max)));
    assert!(cache.ledger().used_by(crate::ledger::Account::Index) < cache.ledger().total() / 16);
    let page = cache.namespaces(&tenant, Some(&Namespace::parse("tiny-5").unwrap()), 3);
    assert_eq!(page.len(), 3);
    assert!(page.iter().all(|space| space.namespace.as_str() > "tiny-5"));
    assert_eq!(cache.first_namespaces(2)[1].namespace.as_str(), "tiny-1");
}

#[tokio::test]
async fn limits_hold_for_a_load_by_itself_and_for_what_shows_after_it() {
    for replace_all in [false, true] {
        let (cache, _) = cache_of(16 * MIB);
        set(&cache, r#"{"entries_max":3,"bytes_max":40}"#)
            .await
            .unwrap();
        fill(&cache, 0..3, 10).await;
        let load = begin(&cache, replace_all);
        for key in ["a", "b", "c"] {
            put_in(&cache, &load, key, Mode::Create, &[1; 10])
                .await
                .unwrap();
        }
        // Nothing in an open load can go.
        for (key, len, limit) in [("d", 1, "entries_max"), ("a", 30, "bytes_max")] {
            let refused = put_in(&cache, &load, key, Mode::Replace, &vec![1; len]).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.code, Code::ResourceExhausted);
            assert!(refused.message.contains(limit), "{refused}");
        }
        assert_eq!((own(&cache).entries, own(&cache).evicted), (3, 0));
        commit(&cache, &load).await.unwrap();
        let own = own(&cache);
        assert_eq!((own.entries, own.bytes), (3, 30));
        assert_eq!(own.evicted, if replace_all { 0 } else { 3 });
    }
}
