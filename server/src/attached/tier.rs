//! The attached namespaces as the engine sees them: below memory, and read only.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ledger::Account;
use bowstring_cache::lower::{Description, Found, Gone, Later, LowerTier, Reading, SettingsOf};
use bowstring_cache::read::Entry;
use bowstring_cache::restore::{Back, Restored};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;

use super::Attached;
use super::set::{Read, Set};

/// What has more than one part in so many of the memory does not stay there for being read.
const STAY_SHARE: u64 = 4;
/// How often a key is looked for that something else takes the place of.
const ROUNDS: usize = 8;
/// How long one waits for an attach or detach that goes on.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// What a row that was read comes to.
enum Landed {
    Here(Entry),
    /// Its namespace is not attached any more, or memory has it already.
    Again,
}

impl Attached {
    fn set_of(&self, id: &Id) -> Option<Arc<Set>> {
        self.find(&id.tenant, &id.namespace)
    }

    /// How many of the first keys are of one attached namespace, or of none that is.
    fn alike(&self, ids: &[Id]) -> (usize, Option<Arc<Set>>) {
        let Some(first) = ids.first() else {
            return (0, None);
        };
        let set = self.set_of(first);
        let is_alike = |id: &&Id| match &set {
            Some(_) => (&id.tenant, &id.namespace) == (&first.tenant, &first.namespace),
            None => self.set_of(id).is_none(),
        };
        (ids.iter().take_while(is_alike).count(), set)
    }

    /// Reads rows; holds no more of the threads that may wait for files than there are for it.
    async fn rows(&self, cache: &Cache, set: &Arc<Set>, ids: &[Id]) -> Result<Vec<Option<Read>>> {
        let described = ids.iter().filter_map(|id| set.describe(id));
        let bytes: u64 = described.map(|described| described.len).sum();
        let _turn = self.0.reads.acquire().await;
        // As they are decoded, as a message, and as they are given.
        let room = cache.charge(Account::Cold, 3 * bytes).ok_or_else(|| {
            Error::exhausted(format!(
                "memory has no room to read rows of a file; bytes=`{bytes}`"
            ))
        })?;
        let (set, ids) = (Arc::clone(set), ids.to_vec());
        let read = tokio::task::spawn_blocking(move || {
            let read = set.read(&ids);
            drop(room);
            read
        });
        read.await
            .map_err(|_| Error::internal("the reading of a file has stopped"))?
    }

    /// Brings a row that was read into memory, to stay where `stays` says so.
    async fn land(&self, cache: &Cache, set: &Set, read: Read, stays: bool) -> Result<Landed> {
        let mut restoring = cache.restore(read.description);
        restoring.reserve().await?;
        restoring.write(&read.bytes)?;
        drop(read.bytes);
        let mut restored: Restored = restoring.finish().await?;
        if !stays {
            return restored.pass().map(Landed::Here);
        }
        loop {
            match restored.publish(|| set.is_open())? {
                Back::Here(entry) => {
                    // It goes without being written down.
                    entry.set_below(true);
                    return Ok(Landed::Here(entry));
                }
                Back::Taken => return Ok(Landed::Again),
                Back::Busy(back) => restored = *back,
            }
            self.0.clock.sleep(BUSY_WAIT).await;
        }
    }

    async fn bring(
        &self,
        cache: &Cache,
        set: &Arc<Set>,
        id: &Id,
        stays: bool,
    ) -> Result<Option<Entry>> {
        for _ in 0..ROUNDS {
            if let Some(entry) = cache.peek(id) {
                return Ok(Some(entry));
            }
            if !set.is_open() {
                return Ok(None);
            }
            let read = self.rows(cache, set, std::slice::from_ref(id)).await?;
            let Some(read) = read.into_iter().next().flatten() else {
                return Ok(None);
            };
            match self.land(cache, set, read, stays).await? {
                Landed::Here(entry) => return Ok(Some(entry)),
                Landed::Again => {}
            }
        }
        Err(Error::unavailable(
            "the key is being changed by others all the time; try again",
        ))
    }

    /// As [`LowerTier::open_all`], of keys of one namespace.
    async fn bring_all(
        &self,
        cache: &Cache,
        set: &Arc<Set>,
        ids: &[Id],
        bytes_max: u64,
        reading: Option<Reading>,
    ) -> Result<Vec<Option<Entry>>> {
        let (mut bytes, mut count) = (0, 0);
        for id in ids {
            bytes += set.describe(id).map_or(0, |described| described.len);
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        let ids = &ids[..count];
        let mut here: Vec<Option<Entry>> = ids.iter().map(|id| cache.peek(id)).collect();
        let missing = || here.iter().zip(ids).filter(|(here, _)| here.is_none());
        let wanted: Vec<Id> = missing().map(|(_, id)| id.clone()).collect();
        if wanted.is_empty() {
            return Ok(here);
        }
        let mut read = self.rows(cache, set, &wanted).await?.into_iter();
        for (place, id) in here.iter_mut().zip(ids).filter(|(here, _)| here.is_none()) {
            let Some(row) = read.next().flatten() else {
                continue;
            };
            let stays = stays(cache, row.description.len, reading);
            *place = match self.land(cache, set, row, stays).await? {
                Landed::Here(entry) => Some(entry),
                Landed::Again => self.bring(cache, set, id, stays).await?,
            };
        }
        Ok(here)
    }
}

/// Whether a row of so many bytes stays in memory.
fn stays(cache: &Cache, len: u64, reading: Option<Reading>) -> bool {
    match reading {
        None => true,
        Some(Reading::Whole | Reading::Part) => len <= cache.config().memory / STAY_SHARE,
        Some(Reading::Scan) => false,
    }
}

impl LowerTier for Attached {
    fn is_there(&self) -> bool {
        self.has_any() || self.0.below.is_there()
    }

    fn may_have(&self, tenant: &Tenant, namespace: &Namespace, key: &str) -> bool {
        match self.find(tenant, namespace) {
            Some(set) => set.has(key),
            None => self.0.below.may_have(tenant, namespace, key),
        }
    }

    fn load<'a>(&'a self, cache: &'a Cache, id: &'a Id) -> Later<'a, Option<Entry>> {
        match self.set_of(id) {
            Some(set) => Box::pin(async move { self.bring(cache, &set, id, true).await }),
            None => self.0.below.load(cache, id),
        }
    }

    fn open<'a>(
        &'a self,
        cache: &'a Cache,
        id: &'a Id,
        reading: Reading,
    ) -> Later<'a, Option<Found>> {
        let Some(set) = self.set_of(id) else {
            return self.0.below.open(cache, id, reading);
        };
        Box::pin(async move {
            let Some(described) = set.describe(id) else {
                return Ok(None);
            };
            let stays = stays(cache, described.len, Some(reading));
            Ok(self.bring(cache, &set, id, stays).await?.map(Found::Here))
        })
    }

    fn open_all<'a>(
        &'a self,
        cache: &'a Cache,
        ids: &'a [Id],
        bytes_max: u64,
        reading: Reading,
    ) -> Later<'a, Vec<Option<Found>>> {
        let (count, set) = self.alike(ids);
        let ids = &ids[..count];
        let Some(set) = set else {
            return self.0.below.open_all(cache, ids, bytes_max, reading);
        };
        Box::pin(async move {
            let here = self
                .bring_all(cache, &set, ids, bytes_max, Some(reading))
                .await?;
            Ok(here.into_iter().map(|here| here.map(Found::Here)).collect())
        })
    }

    fn describe<'a>(&'a self, id: &'a Id) -> Later<'a, Option<Description>> {
        match self.set_of(id) {
            Some(set) => Box::pin(std::future::ready(Ok(set.describe(id)))),
            None => self.0.below.describe(id),
        }
    }

    fn describe_all<'a>(&'a self, ids: &'a [Id]) -> Later<'a, Vec<Option<Description>>> {
        Box::pin(async move {
            let mut described = Vec::with_capacity(ids.len());
            while described.len() < ids.len() {
                let rest = &ids[described.len()..];
                let (count, set) = self.alike(rest);
                let some = &rest[..count];
                match set {
                    Some(set) => described.extend(some.iter().map(|id| set.describe(id))),
                    None => described.extend(self.0.below.describe_all(some).await?),
                }
            }
            Ok(described)
        })
    }

    fn load_all<'a>(
        &'a self,
        cache: &'a Cache,
        ids: &'a [Id],
        bytes_max: u64,
    ) -> Later<'a, Vec<Option<Entry>>> {
        let (count, set) = self.alike(ids);
        let ids = &ids[..count];
        match set {
            Some(set) => {
                Box::pin(async move { self.bring_all(cache, &set, ids, bytes_max, None).await })
            }
            None => self.0.below.load_all(cache, ids, bytes_max),
        }
    }

    fn list<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Later<'a, Vec<Description>> {
        match self.find(tenant, namespace) {
            Some(set) => {
                let listed = set.list((tenant, namespace), prefix, after, limit);
                Box::pin(std::future::ready(Ok(listed)))
            }
            None => self.0.below.list(tenant, namespace, prefix, after, limit),
        }
    }

    fn flush(&self) -> Later<'_, ()> {
        self.0.below.flush()
    }

    fn take(&self, entry: Entry) -> bool {
        let is_attached = self.has_any() && entry.id().is_ok_and(|id| self.set_of(&id).is_some());
        !is_attached && self.0.below.take(entry)
    }

    fn check_writes(&self) -> Result<()> {
        self.0.below.check_writes()
    }

    fn writes_at_once(&self) -> bool {
        self.0.below.writes_at_once()
    }

    fn write_down<'a>(&'a self, cache: &'a Cache, mut ids: Vec<Id>, wait: bool) -> Later<'a, ()> {
        ids.retain(|id| self.set_of(id).is_none());
        self.0.below.write_down(cache, ids, wait)
    }

    fn forget<'a>(&'a self, cache: &'a Cache, gone: Vec<Gone>) -> Later<'a, Vec<Option<Version>>> {
        Box::pin(async move {
            let is_other: Vec<bool> = gone
                .iter()
                .map(|gone| self.set_of(&gone.id).is_none())
                .collect();
            let others = gone.into_iter().zip(&is_other);
            let others = others.filter_map(|(gone, is_other)| is_other.then_some(gone));
            let mut went = self
                .0
                .below
                .forget(cache, others.collect())
                .await?
                .into_iter();
            let each = is_other.into_iter();
            Ok(each
                .map(|is_other| is_other.then(|| went.next()).flatten().flatten())
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
        match self.find(tenant, namespace) {
            Some(_) => Box::pin(std::future::ready(Ok(0))),
            None => self.0.below.forget_prefix(cache, tenant, namespace, prefix),
        }
    }

    fn keep_settings<'a>(&'a self, of: &'a SettingsOf) -> Later<'a, ()> {
        self.0.below.keep_settings(of)
    }
}
