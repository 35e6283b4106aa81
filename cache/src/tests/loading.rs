//! Loads: what is invisible, what a commit and a rollback show, and what is kept for how long.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;

use super::*;
use crate::loads::LoadSpec;
use crate::rows::{Row, RowsSpec};

pub(super) fn begin(cache: &Cache, replace_all: bool) -> String {
    let spec = LoadSpec {
        replace_all,
        size_bytes: None,
    };
    cache
        .begin_load(&Tenant::public(), &Namespace::default(), spec)
        .unwrap()
}

pub(super) async fn put_in(
    cache: &Cache,
    load: &str,
    key: &str,
    mode: Mode,
    data: &[u8],
) -> Result<Published> {
    let number = cache.load(&Tenant::public(), &Namespace::default(), load)?;
    let spec = PutSpec {
        load: number,
        ..spec(mode)
    };
    put_spec(cache, key, spec, data).await
}

pub(super) async fn commit(cache: &Cache, load: &str) -> Result<crate::loads::LoadOutcome> {
    cache.commit_load(&Tenant::public(), load).await
}

pub(super) async fn rollback(cache: &Cache, load: &str) -> Result<crate::loads::LoadOutcome> {
    cache.rollback_load(&Tenant::public(), load).await
}

fn listed(cache: &Cache) -> Vec<(String, usize)> {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let items = cache.scan(&tenant, &namespace, "", None, usize::MAX);
    let items = items.into_iter();
    items
        .map(|item| {
            (
                item.key.as_str().to_owned(),
                usize::try_from(item.bytes).unwrap(),
            )
        })
        .collect()
}

fn shown(cache: &Cache) -> Vec<(String, usize)> {
    let shown = listed(cache);
    for (key, len) in &shown {
        assert_eq!(get(cache, key).map(|data| data.len()), Some(*len), "{key}");
    }
    let stats = &cache.namespaces(&Tenant::public(), None, 1)[0];
    assert_eq!(stats.entries, shown.len() as u64);
    assert_eq!(
        stats.bytes,
        shown.iter().map(|(_, len)| *len as u64).sum::<u64>()
    );
    shown
}

fn of(entries: &[(&str, usize)]) -> Vec<(String, usize)> {
    let entries = entries.iter();
    entries
        .map(|(key, len)| ((*key).to_owned(), *len))
        .collect()
}

pub(super) fn tidy(cache: &Cache) {
    while cache.tidy_loads() {}
}

#[tokio::test]
async fn a_merged_load_shows_at_once_and_can_be_rolled_back() {
    let (cache, clock) = cache_of(64 * MIB);
    for (key, len) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&cache, key, Mode::Create, &bytes(1, len))
            .await
            .unwrap();
    }
    let before = of(&[("a", 1), ("b", 2), ("c", 3)]);
    let load = begin(&cache, false);
    for (key, len) in [("b", 20), ("d", 40), ("e", 50)] {
        put_in(&cache, &load, key, Mode::Create, &bytes(2, len))
            .await
            .unwrap();
    }
    assert_eq!(shown(&cache), before);
    assert!(get(&cache, "d").is_none());
    let outcome = commit(&cache, &load).await.unwrap();
    assert_eq!((outcome.entries, outcome.bytes), (3, 110));
    assert_eq!(commit(&cache, &load).await, Ok(outcome), "a retry");
    let after = of(&[("a", 1), ("b", 20), ("c", 3), ("d", 40), ("e", 50)]);
    assert_eq!(shown(&cache), after);

    // What comes after the commit stays, whatever becomes of the load.
    put(&cache, "d", Mode::Replace, &bytes(3, 4)).await.unwrap();
    cache.delete(&id("e"), None).await.unwrap();
    put(&cache, "a", Mode::Replace, &bytes(3, 11))
        .await
        .unwrap();
    assert_eq!(
        shown(&cache),
        of(&[("a", 11), ("b", 20), ("c", 3), ("d", 4)])
    );
    rollback(&cache, &load).await.unwrap();
    let back = of(&[("a", 11), ("b", 2), ("c", 3), ("d", 4)]);
    assert_eq!(shown(&cache), back);
    rollback(&cache, &load).await.unwrap();
    tidy(&cache);
    assert_eq!(shown(&cache), back);
    assert_eq!(cache.engine().index.table.len(), 4);

    let load = begin(&cache, false);
    put_in(&cache, &load, "b", Mode::Create, &bytes(2, 22))
        .await
        .unwrap();
    commit(&cache, &load).await.unwrap();
    clock.advance(Duration::from_secs(600));
    tidy(&cache);
    let merged = of(&[("a", 11), ("b", 22), ("c", 3), ("d", 4)]);
    assert_eq!(shown(&cache), merged);
    assert_eq!(cache.engine().index.table.len(), 4, "merged into one");
    let late = rollback(&cache, &load).await.unwrap_err();
    assert!(late.code == Code::FailedPrecondition || late.code == Code::NotFound);
    assert_eq!(shown(&cache), merged);
}

#[tokio::test]
async fn a_load_that_replaces_all_and_what_was_before_it() {
    let (cache, clock) = cache_of(64 * MIB);
    for (key, len) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&cache, key, Mode::Create, &bytes(1, len))
            .await
            .unwrap();
    }
    let load = begin(&cache, true);
    for (key, len) in [("b", 20), ("d", 40), ("e", 50)] {
        put_in(&cache, &load, key, Mode::Create, &bytes(2, len))
            .await
            .unwrap();
    }
    commit(&cache, &load).await.unwrap();
    assert_eq!(shown(&cache), of(&[("b", 20), ("d", 40), ("e", 50)]));
    assert!(get(&cache, "a").is_none());
    put(&cache, "d", Mode::Replace, &bytes(3, 4)).await.unwrap();
    put(&cache, "c", Mode::Create, &bytes(3, 33)).await.unwrap();
    cache.delete(&id("b"), None).await.unwrap();
    assert_eq!(shown(&cache), of(&[("c", 33), ("d", 4), ("e", 50)]));
    rollback(&cache, &load).await.unwrap();
    // The deleted one stays deleted, though it was there before.
    let back = of(&[("a", 1), ("c", 33), ("d", 4)]);
    assert_eq!(shown(&cache), back);
    put(&cache, "d", Mode::Replace, &bytes(3, 5)).await.unwrap();
    put(&cache, "e", Mode::Create, &bytes(3, 6)).await.unwrap();
    let back = of(&[("a", 1), ("c", 33), ("d", 5), ("e", 6)]);
    assert_eq!(shown(&cache), back);
    tidy(&cache);
    assert_eq!(shown(&cache), back);
    assert_eq!(cache.engine().index.table.len(), 4);

    // Generations are used again.
    for round in 0..40 {
        let load = begin(&cache, true);
        put_in(&cache, &load, "x", Mode::Create, &bytes(round, 9))
            .await
            .unwrap();
        commit(&cache, &load).await.unwrap();
        assert_eq!(shown(&cache), of(&[("x", 9)]));
        tidy(&cache);
    }
    assert!(cache.engine().spaces.at(4).is_none());
    clock.advance(Duration::from_secs(600));
    tidy(&cache);
    assert_eq!(cache.engine().index.table.len(), 1);
}

#[tokio::test]
async fn aborted_and_forgotten_loads_leave_nothing() {
    let (cache, clock) = cache_of(64 * MIB);
    put(&cache, "a", Mode::Create, b"1").await.unwrap();
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let aborted = begin(&cache, true);
    put_in(&cache, &aborted, "b", Mode::Create, b"2")
        .await
        .unwrap();
    let number = cache.load(&tenant, &namespace, &aborted).unwrap();
    let spec_in = PutSpec {
        load: number,
        ..spec(Mode::Create)
    };
    let mut late = cache.put(id("late"), spec_in).unwrap();
    late.reserve(1).await.unwrap();
    late.write(b"x").unwrap();
    cache.abort_load(&tenant, &aborted).unwrap();
    cache.abort_load(&tenant, &aborted).unwrap();
    let refused = late.publish(Shape::new(&[1]).unwrap()).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    let refused = put_in(&cache, &aborted, "c", Mode::Create, b"3")
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert_eq!(
        commit(&cache, &aborted).await.unwrap_err().code,
        Code::FailedPrecondition
    );

    let forgotten = begin(&cache, false);
    put_in(&cache, &forgotten, "a", Mode::Create, b"4")
        .await
        .unwrap();
    clock.advance(Duration::from_secs(599));
    tidy(&cache);
    put_in(&cache, &forgotten, "d", Mode::Create, b"5")
        .await
        .unwrap();
    clock.advance(Duration::from_secs(599));
    tidy(&cache);
    assert_eq!(cache.stats().loads.open, 1);
    clock.advance(Duration::from_secs(1));
    tidy(&cache);
    let refused = put_in(&cache, &forgotten, "d", Mode::Create, b"5")
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    assert_eq!(
        commit(&cache, &forgotten).await.unwrap_err().code,
        Code::NotFound
    );
    assert_eq!(shown(&cache), of(&[("a", 1)]));
    assert_eq!(cache.engine().index.table.len(), 1);
    let stats = cache.stats().loads;
    assert_eq!((stats.open, stats.aborted, stats.expired), (0, 1, 1));

    let other = Tenant::parse("other").unwrap();
    let load = begin(&cache, false);
    assert_eq!(
        cache.load(&other, &namespace, &load).unwrap_err().code,
        Code::NotFound
    );
    let elsewhere = Namespace::parse("elsewhere").unwrap();
    assert_eq!(
        cache.load(&tenant, &elsewhere, &load).unwrap_err().code,
        Code::NotFound
    );
    assert_eq!(
        rollback(&cache, &load).await.unwrap_err().code,
        Code::FailedPrecondition
    );
    for id in ["", "x", "1", "1-", "99-00000000"] {
        assert_eq!(
            cache.load(&tenant, &namespace, id).unwrap_err().code,
            Code::NotFound
        );
    }
}

#[tokio::test]
async fn a_load_is_judged_by_its_own_keys() {
    let (cache, _) = cache_of(64 * MIB);
    put(&cache, "a", Mode::Create, b"1").await.unwrap();
    let load = begin(&cache, false);
    assert!(
        !put_in(&cache, &load, "a", Mode::Create, b"22")
            .await
            .unwrap()
            .existed
    );
    assert!(
        put_in(&cache, &load, "a", Mode::Create, b"22")
            .await
            .unwrap()
            .existed
    );
    let differs = put_in(&cache, &load, "a", Mode::Create, b"333")
        .await
        .unwrap_err();
    assert_eq!(differs.code, Code::AlreadyExists);
    assert!(
        put_in(&cache, &load, "a", Mode::Keep, b"333")
            .await
            .unwrap()
            .existed
    );
    let replaced = put_in(&cache, &load, "a", Mode::Replace, b"4444")
        .await
        .unwrap();
    assert!(!replaced.existed);
    assert_eq!(get(&cache, "a").unwrap(), b"1");
    commit(&cache, &load).await.unwrap();
    let entry = cache.get(&id("a")).unwrap();
    assert_eq!(
        (entry.version(), entry.into_vec().unwrap()),
        (replaced.version, b"4444".to_vec())
    );
    assert!(
        put(&cache, "a", Mode::Create, b"4444")
            .await
            .unwrap()
            .existed
    );
}

#[tokio::test]
async fn open_loads_are_not_evicted_and_have_a_limit() {
    let (cache, _) = cache_of(32 * MIB);
    put(&cache, "old", Mode::Create, &bytes(1, 4 << 20))
        .await
        .unwrap();
    let load = begin(&cache, true);
    let mut stored = 0;
    let refused = loop {
        let key = format!("new-{stored}");
        match put_in(&cache, &load, &key, Mode::Create, &bytes(stored, 1 << 20)).await {
            Ok(_) => stored += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!((12..20).contains(&stored), "{stored}");
    let spec = LoadSpec {
        replace_all: false,
        size_bytes: Some(20 << 20),
    };
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let refused = cache.begin_load(&tenant, &namespace, spec).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    for n in 0..60_u64 {
        let _ = put(
            &cache,
            &format!("other-{n}"),
            Mode::Replace,
            &bytes(n, 1 << 20),
        )
        .await;
    }
    commit(&cache, &load).await.unwrap();
    for n in 0..stored {
        assert_eq!(get(&cache, &format!("new-{n}")).unwrap(), bytes(n, 1 << 20));
    }
    // Now they are like all others, and what was before goes before them.
    for n in 0..6 {
        put(
            &cache,
            &format!("later-{n}"),
            Mode::Create,
            &bytes(n, 1 << 20),
        )
        .await
        .unwrap();
    }
    assert_eq!(
        rollback(&cache, &load).await.unwrap_err().code,
        Code::FailedPrecondition
    );
    for n in 0..100 {
        put(
            &cache,
            &format!("last-{n}"),
            Mode::Create,
            &bytes(n, 1 << 20),
        )
        .await
        .unwrap();
    }
    assert!(get(&cache, "old").is_none());
    for _ in 0..8 {
        begin(&cache, false);
    }
    let spec = LoadSpec::default();
    let refused = cache.begin_load(&tenant, &namespace, spec).unwrap_err();
    assert!(
        refused.message.contains("loads_a_namespace_max"),
        "{refused}"
    );
}

#[tokio::test]
async fn rows_of_a_load_are_rows_like_others() {
    let (cache, _) = cache_of(64 * MIB);
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let load = begin(&cache, true);
    let number = cache.load(&tenant, &namespace, &load).unwrap();
    let (keys, shape) = (
        (0..1_000).map(|n| format!("k{n:04}")).collect::<Vec<_>>(),
        Shape::new(&[3]).unwrap(),
    );
    let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, b"abc")).collect();
    let spec = RowsSpec {
        mode: Mode::Keep,
        load: number,
        pin: false,
        admit: crate::put::Admit::Hot,
        below: false,
    };
    for existed in [false, true] {
        let answers = cache.put_rows(&tenant, &namespace, spec, &rows).await;
        assert!(
            answers
                .iter()
                .all(|row| row.as_ref().unwrap().existed == existed)
        );
    }
    assert_eq!(cache.stats().entries, 0);
    assert_eq!(commit(&cache, &load).await.unwrap().entries, 1_000);
    assert_eq!(shown(&cache).len(), 1_000);
    let answers = cache.put_rows(&tenant, &namespace, spec, &rows[..2]).await;
    assert!(
        answers
            .iter()
            .all(|row| row.as_ref().unwrap_err().code == Code::FailedPrecondition)
    );
}
