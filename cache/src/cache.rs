//! The cache: a cheap handle on one engine.

use std::sync::Arc;

use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;

use crate::clock::Clock;
use crate::config::{CacheConfig, Parts};
use crate::engine::{Engine, PinnedHere};
use crate::event::Why;
use crate::id::Id;
use crate::index::Mark;
use crate::judge::check_version;
use crate::ledger::{Account, Charge, Ledger};
use crate::look::Seen;
use crate::lower::Gone;
use crate::read::Entry;
use crate::reads::Reads;
use crate::reserve::Line;
use crate::stats::{NamespaceStats, Stats};

/// A cheap handle; clones are the same cache.
#[derive(Clone)]
pub struct Cache {
    engine: Arc<Engine>,
}

impl Cache {
    /// A cache of `config.memory` bytes with nothing below it.
    ///
    /// # Errors
    /// `invalid_argument` for a memory too small to work in, `internal` where the operating system
    /// gives no memory or randomness.
    pub fn new(config: CacheConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::with_parts(
            config,
            Parts {
                clock,
                ..Parts::default()
            },
        )
    }

    /// A cache of these parts.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn with_parts(config: CacheConfig, parts: Parts) -> Result<Self> {
        let engine = Arc::new(Engine::new(config, parts)?);
        Ok(Self { engine })
    }

    pub(crate) fn of(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// The settings that it was built with.
    pub fn config(&self) -> &CacheConfig {
        &self.engine.config
    }

    /// Who uses how much memory.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.engine.ledger
    }

    /// The time that this cache goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.engine.clock
    }

    /// Finds and pins an entry in memory, and counts a hit or a miss. Takes no exclusive lock.
    pub fn get(&self, id: &Id) -> Option<Entry> {
        self.count(id, self.find(id, self.mark(), Seen::Now))
    }

    /// As [`Cache::get`], but leaves no mark: the entry is no younger for it.
    pub fn peek(&self, id: &Id) -> Option<Entry> {
        self.find(id, Mark::Peek, Seen::Now)
    }

    /// Deletes a key and says which version went; `None` when there was none. No rollback brings it
    /// back.
    ///
    /// # Errors
    /// `failed_precondition` where another version than `if_version` is there; whatever the lower
    /// tier meets.
    pub async fn delete(&self, id: &Id, if_version: Option<Version>) -> Result<Option<Version>> {
        self.engine.check_writable(&id.tenant, &id.namespace)?;
        let Some(wanted) = if_version else {
            let deleted = self.delete_here(id);
            let below = self.engine.forget_below(id, None).await?;
            return Ok(deleted.or(below));
        };
        loop {
            let deleted = self.delete_versions(vec![(id.clone(), wanted)]).await?;
            if deleted.contains(&true) {
                return Ok(Some(wanted));
            }
            let Some(entry) = self.engine.here(id).await? else {
                return Ok(None);
            };
            // Where it is the wanted one, it has come only now.
            check_version(id.name(), wanted, Some(entry.version()))?;
        }
    }

    /// Deletes entries that are still of these versions, and says which were. What has taken an entry's place stays,
    /// and what is only below memory is not brought up for it.
    ///
    /// # Errors
    /// Whatever the lower tier meets: then some of them may have gone.
    pub async fn delete_versions(&self, wanted: Vec<(Id, Version)>) -> Result<Vec<bool>> {
        let engine = self.engine();
        for (id, _) in &wanted {
            engine.check_writable(&id.tenant, &id.namespace)?;
        }
        let mut deleted = vec![false; wanted.len()];
        let (mut gone, mut of) = (Vec::new(), Vec::new());
        for (at, (id, version)) in wanted.into_iter().enumerate() {
            match self.unlink_version(&id, version) {
                Some(true) => deleted[at] = true,
                // What is there is another one.
                Some(false) => continue,
                None => self.forget_kept(&id, version.hlc.saturating_add(1)),
            }
            if engine.may_be_below(id.name()) {
                of.push((at, version));
                gone.push(Gone {
                    only: Some(version),
                    ..Gone::all_but(None, id)
                });
            }
        }
        let went = engine.forget_all_below(gone).await?;
        for ((at, version), went) in of.into_iter().zip(went) {
            deleted[at] |= went == Some(version);
        }
        Ok(deleted)
    }

    /// Whether memory had this version of a key; `None` where it has none.
    fn unlink_version(&self, id: &Id, wanted: Version) -> Option<bool> {
        // One that loses against another change of the key looks again.
        while let Some(entry) = self.peek(id) {
            if entry.version() != wanted {
                return Some(false);
            }
            if self.engine.unlink(entry.into_pinned(), Why::Deleted) {
                return Some(true);
            }
        }
        None
    }

    fn delete_here(&self, id: &Id) -> Option<Version> {
        while let Some(entry) = self.peek(id) {
            let version = entry.version();
            if self.engine.unlink(entry.into_pinned(), Why::Deleted) {
                return Some(version);
            }
        }
        self.forget_kept(id, u64::MAX);
        None
    }

    /// A rollback brings nothing back of a key that is before `until`.
    fn forget_kept(&self, id: &Id, until: u64) {
        let engine = self.engine();
        let home = engine.spaces.find(&id.tenant, &id.namespace);
        if let Some(home) = home.and_then(|home| engine.spaces.at(home)) {
            engine.forget_kept(home, id.key.as_str().as_bytes(), until);
        }
    }

    /// Charges `bytes` to an account of the ledger for as long as the guard lives. Where the
    /// ledger has none left, the arena gives pages back, and entries go for it; `None` when even
    /// that is not enough, because all is pinned, reserved or held.
    pub fn charge(&self, account: Account, bytes: u64) -> Option<Charge> {
        self.engine.charge_now(account, bytes, None)
    }

    /// As [`Cache::charge`], and waits in line for it.
    ///
    /// # Errors
    /// `resource_exhausted` where the wait was as long as it may be.
    pub async fn charge_in_turn(&self, account: Account, bytes: u64) -> Result<Charge> {
        let asker = Line::Newcomer.into();
        self.engine.charge_waiting(account, bytes, asker).await
    }

    /// As [`Cache::charge`], for a put into a load ([`Cache::load`]; 0 is none): what the load's
    /// namespace shows stays.
    pub fn charge_in(&self, load: u32, account: Account, bytes: u64) -> Option<Charge> {
        let spares = self.engine.loads.home_of(load);
        self.engine.charge_now(account, bytes, spares)
    }

    /// Touches at most 1 MiB of memory ahead of need; `true` when there may be more to touch. First
    /// touch costs several times a copy, so a thread of its own should call this now and then.
    pub fn pretouch(&self) -> bool {
        self.engine.arena.pretouch()
    }

    /// The largest tensor that can be put, in bytes, as things are now.
    pub fn tensor_bytes_max(&self) -> u64 {
        self.engine.busy_bytes_max()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// At most `limit` of the tenant's namespaces, in order of their names, behind `after`.
    pub fn namespaces(
        &self,
        tenant: &Tenant,
        after: Option<&Namespace>,
        limit: usize,
    ) -> Vec<NamespaceStats> {
        self.engine.spaces.of_tenant(tenant, after, limit)
    }

    /// At most `limit` namespaces of any tenant, those first that came first: as long as the cache
    /// lives, always the same ones.
    pub fn first_namespaces(&self, limit: usize) -> Vec<NamespaceStats> {
        self.engine.spaces.first(limit)
    }

    /// All namespaces, of all tenants.
    pub fn names(&self) -> Vec<(Tenant, Namespace)> {
        self.engine.spaces.names()
    }

    /// Reads of large tensors that are under way, for a supervisor that cuts off stalled ones.
    pub fn reads(&self) -> &Reads {
        &self.engine.reads
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark::Hit(self.engine.second())
    }

    /// Counts a hit or a miss.
    pub(crate) fn count(&self, id: &Id, found: Option<Entry>) -> Option<Entry> {
        match &found {
            Some(entry) => entry.count_hit(),
            None => self.engine.count_miss(id),
        }
        found
    }

    pub(crate) fn find(&self, id: &Id, mark: Mark, seen: Seen) -> Option<Entry> {
        let name = id.name();
        self.engine
            .find_current(self.engine.hash_of(name), name, mark, seen)
            .map(PinnedHere::into_entry)
    }
}
