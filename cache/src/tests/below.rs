//! What the engine asks of a tier below it, and tells it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::error::Code;
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

/// A tier that keeps everything in a map.
#[derive(Default)]
pub(super) struct Shelf {
    kept: Mutex<BTreeMap<Id, (Description, Vec<u8>)>>,
    brought: AtomicU64,
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

    fn take(&self, entry: Entry) {
        let description = Description::of(&entry).unwrap();
        let bytes = entry.into_vec().unwrap();
        let id = description.id.clone();
        self.kept.lock().insert(id, (description, bytes));
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
        let mut kept = self.kept.lock();
        let went = gone.iter().map(|gone| kept.remove(&gone.id));
        let went = went
            .map(|went| went.map(|(went, _)| went.version))
            .collect();
        Box::pin(std::future::ready(Ok(went)))
    }

    fn forget_prefix<'a>(
        &'a self,
        cache: &'a Cache,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
    ) -> Later<'a, u64> {
        let mut went = 0;
        self.kept.lock().retain(|id, _| {
            let goes = (&id.tenant, &id.namespace) == (tenant, namespace)
                && id.key.as_str().starts_with(prefix);
            went += u64::from(goes && cache.peek(id).is_none());
            !goes
        });
        Box::pin(std::future::ready(Ok(went)))
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
