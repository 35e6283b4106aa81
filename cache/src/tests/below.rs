//! What the engine asks of a tier below it, and tells it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowstring_wire::error::{Code, Error};
use bowstring_wire::name::Tenant;
use bowstring_wire::version::Version;
use parking_lot::Mutex;

use super::*;
use crate::clock::Clock as _;
use crate::loads::LoadSpec;
use crate::lower::{Description, Found, Gone, Later, LowerTier, Reading};
use crate::read::Entry;
use crate::restore::{Back, Restored};
use crate::rows::RowsSpec;
use bowstring_wire::settings::SettingsChange;

/// A tier that keeps everything in a map.
#[derive(Default)]
pub(super) struct Shelf {
    kept: Mutex<BTreeMap<Id, (Description, Vec<u8>)>>,
    brought: AtomicU64,
    /// What is to be forgotten waits for it.
    gate: tokio::sync::Mutex<()>,
    /// So many wait, or have waited, for that.
    forgets: AtomicU64,
    refuses: AtomicBool,
}

impl Shelf {
    fn keys(&self) -> Vec<String> {
        let kept = self.kept.lock();
        kept.keys().map(|id| id.key.as_str().to_owned()).collect()
    }

    async fn bring(&self, cache: &Cache, id: &Id) -> Result<Option<Restored>> {
        let found = self.kept.lock().get(id).cloned();
        let Some((description, bytes)) = found else {
            return Ok(None);
        };
        self.brought.fetch_add(1, Ordering::Relaxed);
        let mut restoring = cache.restore(description);
        restoring.reserve().await?;
        restoring.write(&bytes)?;
        restoring.finish().await.map(Some)
    }
}

impl LowerTier for Shelf {
    fn may_have(&self, tenant: &Tenant, namespace: &Namespace, key: &str) -> bool {
        let kept = self.kept.lock();
        let is_it =
            |id: &Id| (&id.tenant, &id.namespace, id.key.as_str()) == (tenant, namespace, key);
        kept.keys().any(is_it)
    }

    fn load<'a>(&'a self, cache: &'a Cache, id: &'a Id) -> Later<'a, Option<Entry>> {
        Box::pin(async move {
            let Some(restored) = self.bring(cache, id).await? else {
                return Ok(None);
            };
            match restored.publish(|| true)? {
                Back::Here(entry) => Ok(Some(entry)),
                Back::Taken | Back::Busy(_) => panic!("nothing else goes on"),
            }
        })
    }

    fn open<'a>(&'a self, cache: &'a Cache, id: &'a Id, _: Reading) -> Later<'a, Option<Found>> {
        Box::pin(async move {
            let restored = self.bring(cache, id).await?;
            let entry = restored.map(Restored::pass).transpose()?;
            Ok(entry.map(Found::Here))
        })
    }

    fn describe<'a>(&'a self, id: &'a Id) -> Later<'a, Option<Description>> {
        let found = self.kept.lock().get(id).map(|(found, _)| found.clone());
        Box::pin(std::future::ready(Ok(found)))
    }

    fn list<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Later<'a, Vec<Description>> {
        let kept = self.kept.lock();
        let is_it = |id: &&Id| {
            let key = id.key.as_str();
            (&id.tenant, &id.namespace) == (tenant, namespace)
                && key.starts_with(prefix)
                && after.is_none_or(|after| key > after)
        };
        let of = |id: &Id| kept.get(id).map(|(found, _)| found.clone());
        let listed = kept.keys().filter(is_it).filter_map(of).take(limit);
        Box::pin(std::future::ready(Ok(listed.collect())))
    }

    fn take(&self, entry: Entry) -> bool {
        let description = Description::of(&entry).unwrap();
        let bytes = entry.into_vec().unwrap();
        let id = description.id.clone();
        self.kept.lock().insert(id, (description, bytes));
        true
    }

    fn check_writes(&self) -> Result<()> {
        Ok(())
    }

    fn writes_at_once(&self) -> bool {
        false
    }

    fn write_down<'a>(&'a self, _: &'a Cache, _: Vec<Id>, _: bool) -> Later<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn forget<'a>(&'a self, _: &'a Cache, gone: Vec<Gone>) -> Later<'a, Vec<Option<Version>>> {
        Box::pin(async move {
            self.forgets.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.lock().await;
            if self.refuses.load(Ordering::SeqCst) {
                return Err(Error::unavailable("not now"));
            }
            let mut kept = self.kept.lock();
            let went = gone.iter().map(|gone| {
                let is_meant = |(there, _): &(Description, Vec<u8>)| {
                    gone.only.is_none_or(|only| there.version == only)
                };
                kept.get(&gone.id)
                    .is_some_and(is_meant)
                    .then(|| kept.remove(&gone.id))?
            });
            Ok(went
                .map(|went| went.map(|(went, _)| went.version))
                .collect())
        })
    }

    fn forget_prefix<'a>(
        &'a self,
        cache: &'a Cache,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
    ) -> Later<'a, u64> {
        Box::pin(async move {
            self.forgets.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.lock().await;
            let mut went = 0;
            self.kept.lock().retain(|id, _| {
                let goes = (&id.tenant, &id.namespace) == (tenant, namespace)
                    && id.key.as_str().starts_with(prefix);
                went += u64::from(goes && cache.peek(id).is_none());
                !goes
            });
            Ok(went)
        })
    }
}

pub(super) fn cache_over(shelf: &Arc<Shelf>) -> Cache {
    cache_with(64 * MIB, |parts| parts.lower = Arc::clone(shelf) as _).0
}

pub(super) fn cache_over_shelf() -> (Cache, Arc<Shelf>, Arc<crate::clock::ManualClock>) {
    let shelf = Arc::new(Shelf::default());
    let (cache, clock) = cache_with(64 * MIB, |parts| parts.lower = Arc::clone(&shelf) as _);
    (cache, shelf, clock)
}

/// Has all that is in memory go below.
pub(super) fn hand_all_down(cache: &Cache) {
    while cache.stats().entries > 0 {
        cache.hand_down(u64::MAX, || 0);
    }
}

async fn open(cache: &Cache, key: &str) -> Option<Entry> {
    match cache.open(&id(key), Reading::Whole).await.unwrap()? {
        Found::Here(entry) => Some(entry),
        Found::Below(_) => panic!("the shelf brings everything up"),
    }
}

async fn load(cache: &Cache, key: &str) -> Option<Vec<u8>> {
    let entry = open(cache, key).await;
    entry.map(|entry| entry.into_vec().unwrap())
}

#[tokio::test]
async fn what_is_handed_down_is_read_with_the_version_that_it_had() {
    let (cache, shelf, clock) = cache_over_shelf();
    for len in [0, 1, 3_000, 70_000, 1 << 20, (3 << 20) + 5] {
        let mut spec = spec(Mode::Create);
        spec.metadata = vec![9; 40];
        spec.expires_at_ms = Some(clock.now_ms() + 5_000);
        spec.source_version = Some(-4);
        put_spec(&cache, &format!("k{len}"), spec, &bytes(7, len))
            .await
            .unwrap();
    }
    let key = format!("k{}", 1 << 20);
    let before = Description::of(&cache.peek(&id(&key)).unwrap()).unwrap();
    hand_all_down(&cache);
    assert_eq!(cache.stats().arena_used_bytes, 0);
    assert!(cache.peek(&id(&key)).is_none());
    for len in [0, 1, 3_000, 70_000, 1 << 20, (3 << 20) + 5] {
        assert_eq!(
            load(&cache, &format!("k{len}")).await.unwrap(),
            bytes(7, len)
        );
    }
    let entry = open(&cache, &key).await.unwrap();
    assert_eq!(Description::of(&entry).unwrap(), before);
    drop(entry);
    // Nothing stays of what is only read.
    assert_eq!(
        (cache.stats().entries, cache.stats().arena_used_bytes),
        (0, 0)
    );
    assert_eq!(shelf.keys().len(), 6);
    assert_eq!(cache.describe_below(&id(&key)).await.unwrap(), Some(before));
}

#[tokio::test]
async fn what_a_put_evicts_goes_down_but_for_what_is_there_as_it_is() {
    let (cache, shelf, clock) = cache_over_shelf();
    let keys: Vec<String> = (0..160).map(|nth| format!("k{nth}")).collect();
    for (nth, key) in keys.iter().enumerate() {
        put(&cache, key, Mode::Create, &bytes(nth as u64, 1 << 20))
            .await
            .unwrap();
        if nth < 4 {
            cache.peek(&id(key)).unwrap().set_below(true);
        }
        if nth == 3 {
            // What is below has another expiry then.
            let at = Some(clock.now_ms() + 1_000_000);
            cache.expire(&id(key), at).await.unwrap();
        }
    }
    for key in &keys {
        let is_here = cache.peek(&id(key)).is_some();
        let is_below = shelf.keys().contains(key);
        let was_below = ["k0", "k1", "k2"].contains(&key.as_str());
        assert_eq!(is_here || was_below, !is_below, "{key}");
    }
    assert!(shelf.keys().len() > 80);
}

#[tokio::test]
async fn a_put_is_judged_by_what_is_below() {
    let (cache, shelf, _) = cache_over_shelf();
    for key in ["same", "other", "kept", "version", "replaced", "row"] {
        put(&cache, key, Mode::Create, &[1; 100]).await.unwrap();
    }
    let version = cache.peek(&id("version")).unwrap().version();
    hand_all_down(&cache);
    let same = put(&cache, "same", Mode::Create, &[1; 100]).await.unwrap();
    assert!(same.existed);
    let other = put(&cache, "other", Mode::Create, &[2; 100]).await;
    assert_eq!(other.unwrap_err().code, Code::AlreadyExists);
    assert!(
        put(&cache, "kept", Mode::Keep, &[2; 9])
            .await
            .unwrap()
            .existed
    );
    let mut by_version = spec(Mode::Create);
    by_version.if_version = Some(version);
    let put_over = put_spec(&cache, "version", by_version, &[3; 3])
        .await
        .unwrap();
    assert!(!put_over.existed);
    assert_eq!(shelf.brought.load(Ordering::Relaxed), 4);
    put(&cache, "replaced", Mode::Replace, &[4; 4])
        .await
        .unwrap();
    assert_eq!(
        shelf.brought.load(Ordering::Relaxed),
        4,
        "what it was does not matter"
    );
    let shape = Shape::new(&[100]).unwrap();
    let rows = [row("row", &shape, &[5; 100]), row("new", &shape, &[5; 100])];
    let id_of = id("row");
    let put_rows = |mode| {
        let spec = RowsSpec {
            mode,
            load: 0,
            pin: false,
            admit: Admit::Hot,
            below: false,
        };
        cache.put_rows(&id_of.tenant, &id_of.namespace, spec, &rows)
    };
    let created = put_rows(Mode::Create).await;
    assert_eq!(created[0].as_ref().unwrap_err().code, Code::AlreadyExists);
    assert!(!created[1].as_ref().unwrap().existed);
    assert!(put_rows(Mode::Replace).await.iter().all(Result::is_ok));
    // Nothing older than what memory has is left below.
    assert_eq!(shelf.keys(), ["kept", "other", "same"]);
}

#[tokio::test]
async fn what_goes_above_is_forgotten_below() {
    let (cache, shelf, clock) = cache_over_shelf();
    for key in ["a", "b", "c", "pa", "pb"] {
        put(&cache, key, Mode::Create, &[1; 100]).await.unwrap();
    }
    hand_all_down(&cache);
    assert!(cache.delete(&id("a"), None).await.unwrap().is_some());
    assert_eq!(load(&cache, "a").await, None);
    assert!(cache.delete(&id("a"), None).await.unwrap().is_none());
    // A key with another expiry is not the one that is below.
    assert!(
        cache
            .expire(&id("b"), Some(clock.now_ms() + 1_000))
            .await
            .unwrap()
    );
    assert_eq!(shelf.keys(), ["c", "pa", "pb"]);
    assert!(cache.pin(&id("c")).await.unwrap().is_some());
    assert!(cache.peek(&id("c")).unwrap().is_kept());
    put(&cache, "pa", Mode::Replace, &[2; 100]).await.unwrap();
    let space = id("a");
    let deleted = cache
        .delete_prefix(&space.tenant, &space.namespace, "p")
        .await
        .unwrap();
    assert_eq!(deleted, 2);
    assert_eq!(load(&cache, "pb").await, None);
    assert_eq!(shelf.keys(), ["c"]);
}

#[tokio::test]
async fn a_load_takes_the_place_of_what_is_below() {
    for replace_all in [false, true] {
        let (cache, shelf, _) = cache_over_shelf();
        for key in ["a", "b"] {
            put(&cache, key, Mode::Create, &[1; 100]).await.unwrap();
        }
        hand_all_down(&cache);
        let of = id("a");
        let load_spec = LoadSpec {
            replace_all,
            ..LoadSpec::default()
        };
        let load_id = cache
            .begin_load(&of.tenant, &of.namespace, load_spec)
            .unwrap();
        let mut of_load = spec(Mode::Create);
        of_load.load = cache.load(&of.tenant, &of.namespace, &load_id).unwrap();
        put_spec(&cache, "a", of_load, &[2; 50]).await.unwrap();
        assert_eq!(
            load(&cache, "a").await.unwrap(),
            [1; 100],
            "it does not show yet"
        );
        cache.commit_load(&of.tenant, &load_id).await.unwrap();
        assert_eq!(load(&cache, "a").await.unwrap(), [2; 50]);
        let left: &[&str] = if replace_all { &[] } else { &["b"] };
        assert_eq!(shelf.keys(), left);
        cache.rollback_load(&of.tenant, &load_id).await.unwrap();
        assert_eq!(load(&cache, "a").await, None, "not what was rolled back");
        assert!(shelf.keys().is_empty());
    }
}

/// Begins something, and gives up as soon as it has begun to forget what is below. Gives what is below of `k` once
/// the tier has gone on.
async fn given_up<F: Future<Output = ()> + Send + 'static>(
    change: impl FnOnce(Cache, Id) -> F,
) -> Vec<String> {
    let (cache, shelf, _) = cache_over_shelf();
    put(&cache, "k", Mode::Create, &[1; 100]).await.unwrap();
    hand_all_down(&cache);
    let closed = shelf.gate.lock().await;
    let changing = tokio::spawn(change(cache.clone(), id("k")));
    while shelf.forgets.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    changing.abort();
    assert!(changing.await.unwrap_err().is_cancelled());
    drop(closed);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    shelf.keys()
}

/// A client that has gone away. What shows in memory has taken the place of what is below, or neither has happened.
#[tokio::test]
async fn who_gives_up_leaves_nothing_half_done() {
    let put_it = given_up(async |cache: Cache, id: Id| {
        let mut put = cache.put(id, spec(Mode::Replace)).unwrap();
        put.reserve(1).await.unwrap();
        put.write(&[2]).unwrap();
        put.publish(Shape::new(&[1]).unwrap()).await.unwrap();
    });
    assert!(put_it.await.is_empty());
    let deleted = given_up(async |cache: Cache, id: Id| {
        cache.delete(&id, None).await.unwrap();
    });
    assert!(deleted.await.is_empty());
    let expired = given_up(async |cache: Cache, id: Id| {
        cache.expire(&id, Some(u64::MAX)).await.unwrap();
    });
    assert!(expired.await.is_empty());
    let cleared = given_up(async |cache: Cache, id: Id| {
        let cleared = cache.delete_prefix(&id.tenant, &id.namespace, "");
        cleared.await.unwrap();
    });
    assert!(cleared.await.is_empty());
    let committed = given_up(async |cache: Cache, id: Id| {
        let of = (&id.tenant, &id.namespace);
        let load = cache.begin_load(of.0, of.1, LoadSpec::default()).unwrap();
        let mut of_load = spec(Mode::Replace);
        of_load.load = cache.load(of.0, of.1, &load).unwrap();
        put_spec(&cache, "k", of_load, &[2]).await.unwrap();
        cache.commit_load(of.0, &load).await.unwrap();
    });
    assert!(committed.await.is_empty());
}

/// Rows that were stored together are not left half done by one that comes after them by itself.
#[tokio::test]
async fn who_gives_up_between_two_rows_leaves_nothing_half_done() {
    let stored = given_up(async |cache: Cache, id: Id| {
        let (small, large) = (Shape::new(&[9]).unwrap(), Shape::new(&[8 << 20]).unwrap());
        let data = vec![0; 8 << 20];
        let rows = [row("k", &small, &[2; 9]), row("large", &large, &data)];
        let spec = RowsSpec {
            mode: Mode::Replace,
            load: 0,
            pin: false,
            admit: Admit::Hot,
            below: false,
        };
        let stored = cache.put_rows(&id.tenant, &id.namespace, spec, &rows);
        assert!(stored.await.iter().all(Result::is_ok));
    });
    assert!(stored.await.is_empty());
}

/// Else the next one would be told that it is there, and then read what is below.
#[tokio::test]
async fn a_put_that_is_refused_is_not_found_by_the_next_one() {
    let (cache, shelf, _) = cache_over_shelf();
    put(&cache, "k", Mode::Create, &[1; 100]).await.unwrap();
    hand_all_down(&cache);
    shelf.refuses.store(true, Ordering::SeqCst);
    let refused = put(&cache, "k", Mode::Replace, &[2; 100]).await;
    assert_eq!(refused.unwrap_err().code, Code::Unavailable);
    assert!(cache.peek(&id("k")).is_none());
    assert_eq!(load(&cache, "k").await.unwrap(), [1; 100]);
    let shape = Shape::new(&[9]).unwrap();
    let spec = RowsSpec {
        mode: Mode::Replace,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    let of = id("k");
    let rows = [row("k", &shape, &[2; 9])];
    let refused = cache.put_rows(&of.tenant, &of.namespace, spec, &rows).await;
    assert!(refused[0].is_err());
    assert_eq!(load(&cache, "k").await.unwrap(), [1; 100]);
}

/// What cannot be brought up is not taken for what is not there.
#[tokio::test]
async fn what_memory_has_no_room_for_is_there_all_the_same() {
    let (cache, shelf, _) = cache_over_shelf();
    put(&cache, "k", Mode::Create, &[1; 100]).await.unwrap();
    let version = cache.peek(&id("k")).unwrap().version();
    hand_all_down(&cache);
    let pinned = PutSpec {
        pin: true,
        ..spec(Mode::Create)
    };
    put_spec(&cache, "pinned", pinned, &[3; 9]).await.unwrap();
    let limit = SettingsChange::parse(r#"{"entries_max":1}"#).unwrap();
    let of = id("k");
    cache
        .set_settings(&of.tenant, &of.namespace, &limit, None)
        .await
        .unwrap();
    let other = Version { hlc: 1, start: 1 };
    // What is another one is told by its version, and that is below.
    let refused = cache.delete(&of, Some(other)).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    for wanted in [version, other] {
        let by_version = PutSpec {
            if_version: Some(wanted),
            ..spec(Mode::Create)
        };
        let refused = put_spec(&cache, "k", by_version, &[2; 9]).await;
        assert_eq!(refused.unwrap_err().code, Code::Unavailable);
    }
    let refused = cache.expire(&of, Some(1)).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    assert!(cache.pin(&of).await.is_err());
    for mode in [Mode::Create, Mode::Keep] {
        let refused = put(&cache, "k", mode, &[1; 100]).await.unwrap_err();
        assert_eq!(refused.code, Code::Unavailable);
        let shape = Shape::new(&[9]).unwrap();
        let spec = RowsSpec {
            mode,
            load: 0,
            pin: false,
            admit: Admit::Hot,
            below: false,
        };
        let rows = [row("k", &shape, &[2; 9])];
        let refused = cache.put_rows(&of.tenant, &of.namespace, spec, &rows).await;
        assert_eq!(refused[0].as_ref().unwrap_err().code, Code::Unavailable);
    }
    assert_eq!(shelf.keys(), ["k"]);
    assert_eq!(load(&cache, "k").await.unwrap(), [1; 100]);
    // Where another can go for it, it does.
    cache.unpin(&id("pinned"));
    assert!(cache.expire(&of, Some(u64::MAX)).await.unwrap());
}

#[tokio::test]
async fn a_version_that_is_only_below_is_deleted_without_being_brought_up() {
    let (cache, shelf, _) = cache_over_shelf();
    put(&cache, "k", Mode::Create, &[1; 100]).await.unwrap();
    let version = cache.peek(&id("k")).unwrap().version();
    hand_all_down(&cache);
    let deleted = cache.delete(&id("k"), Some(version)).await.unwrap();
    assert_eq!(deleted, Some(version));
    assert_eq!(cache.stats().entries, 0);
    assert!(shelf.keys().is_empty());
    assert_eq!(cache.delete(&id("k"), Some(version)).await.unwrap(), None);
}

/// A load's entry goes below, comes up again to be compared, and the load is rolled back: it does not show any more.
#[tokio::test]
async fn what_a_load_brought_and_came_up_again_is_rolled_back_too() {
    for replace_all in [false, true] {
        let (cache, _, _) = cache_over_shelf();
        let of = id("k");
        put(&cache, "other", Mode::Create, &[1; 9]).await.unwrap();
        let load_spec = LoadSpec {
            replace_all,
            ..LoadSpec::default()
        };
        let begun = cache.begin_load(&of.tenant, &of.namespace, load_spec);
        let load_id = begun.unwrap();
        let mut of_load = spec(Mode::Create);
        of_load.load = cache.load(&of.tenant, &of.namespace, &load_id).unwrap();
        put_spec(&cache, "k", of_load, &[2; 50]).await.unwrap();
        cache.commit_load(&of.tenant, &load_id).await.unwrap();
        for _ in 0..1_000 {
            cache.hand_down(u64::MAX, || 0);
        }
        let kept = put(&cache, "k", Mode::Keep, &[3; 9]).await.unwrap();
        assert!(kept.existed && cache.peek(&of).is_some());
        put(&cache, "since", Mode::Create, &[4; 9]).await.unwrap();
        if cache.rollback_load(&of.tenant, &load_id).await.is_ok() {
            assert_eq!(load(&cache, "k").await, None);
            assert_eq!(load(&cache, "since").await.unwrap(), [4; 9]);
        }
    }
}
