//! What the engine does with the tier below it: asks it before a key is judged, tells it afterwards,
//! hands entries down ahead of need.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;

use crate::cache::Cache;
use crate::engine::{Engine, Pinned};
use crate::event::Why;
use crate::id::{Id, Name};
use crate::index::Shard;
use crate::loads::Load;
use crate::lower::{Description, Found, Gone, LowerTier, NewExpiry, Reading};
use crate::namespaces::Space;
use crate::read::Entry;
use crate::scan::SCAN_STEP;
use crate::victim::{Evicted, Terms};
use crate::view::Layer;

/// Entries that one step hands down, at most, before others run.
const VICTIMS_A_STEP: u32 = 256;
/// Victims between two looks at the slabs.
const VICTIMS_A_COMPACTION: u32 = 32;
/// A slab fuller than this is not worth emptying.
const COMPACT_FILL_MAX: u8 = 90;

impl Cache {
    /// As [`Cache::get`], and asks the lower tier where memory has it not.
    ///
    /// # Errors
    /// Whatever the lower tier meets.
    pub async fn open(&self, id: &Id, reading: Reading) -> Result<Option<Found>> {
        match self.get(id) {
            Some(entry) => Ok(Some(Found::Here(entry))),
            None => self.engine().lower.open(self, id, reading).await,
        }
    }

    /// Versions that are made from now on are later than `hlc`: what a tier below has stored.
    pub fn observe(&self, hlc: u64) {
        self.engine().hlc.observe(hlc);
    }

    /// What is known of a key below memory; leaves no mark.
    ///
    /// # Errors
    /// Whatever the lower tier meets.
    pub async fn describe_below(&self, id: &Id) -> Result<Option<Description>> {
        if !self.engine().may_be_below(id.name()) {
            return Ok(None);
        }
        self.engine().lower.describe(id).await
    }

    /// Sets the tier below memory, where there is none yet: for who has to have the cache before it, and lets nobody else
    /// have it before this.
    pub fn set_lower(&self, tier: Arc<dyn LowerTier>) {
        self.engine().lower.set(tier);
    }

    /// The tier below memory.
    pub fn lower(&self) -> &dyn LowerTier {
        &*self.engine().lower
    }

    /// Whether a key may be below memory: false is sure. Quick.
    pub fn may_be_below(&self, id: &Id) -> bool {
        self.engine().may_be_below(id.name())
    }

    /// Evicts a key where memory has this version of it, which the tier below has too. What is pinned
    /// stays.
    pub fn evict(&self, id: &Id, version: Version) -> bool {
        let found = self.peek(id).filter(|entry| entry.version() == version);
        found.is_some_and(|entry| self.engine().unlink(entry.into_pinned(), Why::Evicted))
    }

    /// Deletes a key where memory has this version of it: for the tier below, which brought it up.
    pub fn take_back(&self, id: &Id, version: Version) -> bool {
        while let Some(entry) = self.peek(id).filter(|entry| entry.version() == version) {
            if self.engine().unlink(entry.into_pinned(), Why::Replaced) {
                return true;
            }
        }
        false
    }

    /// What can be taken without anything going for it.
    pub fn free_bytes(&self) -> u64 {
        self.engine().free_bytes()
    }

    /// Hands entries down to the lower tier, those first that would be evicted first, until `bytes`
    /// are free or on their way out (`leaving`). True where there is more to do at once.
    pub fn hand_down(&self, bytes: u64, leaving: impl Fn() -> u64) -> bool {
        let engine = self.engine();
        let enough = || engine.free_bytes() + leaving() >= bytes;
        if engine.arena.is_frozen() || enough() {
            return false;
        }
        let _one_at_a_time = engine.evicting.lock();
        for turn in 1..=VICTIMS_A_STEP {
            if enough() {
                return false;
            }
            match engine.evict(Terms::default()) {
                Evicted::One | Evicted::Later => {}
                Evicted::Nothing => return engine.compact(COMPACT_FILL_MAX),
            }
            if turn % VICTIMS_A_COMPACTION == 0 {
                engine.compact(COMPACT_FILL_MAX);
            }
        }
        true
    }
}

/// See [`Engine::keep_from_below`].
pub(crate) struct Changing<'a>(&'a Space);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changes.store(false, Ordering::Relaxed);
    }
}

impl Engine {
    pub(crate) fn may_be_below(&self, name: Name<'_>) -> bool {
        self.lower.may_have(name.tenant, name.namespace, name.key)
    }

    /// Has a key that only the lower tier may have brought up, to be judged with what is there.
    pub(crate) async fn bring_up(self: &Arc<Self>, id: &Id) -> Result<()> {
        if !self.may_be_below(id.name()) {
            return Ok(());
        }
        let cache = Cache::of(Arc::clone(self));
        if cache.peek(id).is_none() {
            self.lower.load(&cache, id).await?;
        }
        Ok(())
    }

    /// What the lower tier has of a key is not to be found again; `now` is what memory has.
    pub(crate) async fn forget_below(
        self: &Arc<Self>,
        id: &Id,
        now: Option<Version>,
    ) -> Result<Option<Version>> {
        if !self.may_be_below(id.name()) {
            return Ok(None);
        }
        let id = id.clone();
        let expiry = None;
        let gone = vec![Gone { id, now, expiry }];
        let gone = self.forget_all_below(gone).await?;
        Ok(gone.into_iter().next().flatten())
    }

    /// A version that memory has was given another expiry.
    pub(crate) async fn forget_expiry_below(
        self: &Arc<Self>,
        id: &Id,
        version: Version,
        expiry: NewExpiry,
    ) -> Result<()> {
        if !self.may_be_below(id.name()) {
            return Ok(());
        }
        let gone = vec![Gone {
            id: id.clone(),
            now: Some(version),
            expiry: Some(expiry),
        }];
        self.forget_all_below(gone).await.map(drop)
    }

    pub(crate) async fn forget_all_below(
        self: &Arc<Self>,
        gone: Vec<Gone>,
    ) -> Result<Vec<Option<Version>>> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let cache = Cache::of(Arc::clone(self));
        let of = match gone.iter().any(|gone| self.is_watched(&gone.id)) {
            true => gone.clone(),
            false => Vec::new(),
        };
        let went = self.lower.forget(&cache, gone).await?;
        for (gone, went) in of.iter().zip(&went) {
            if let Some(went) = went.filter(|went| gone.now != Some(*went)) {
                self.left_below(&gone.id, went);
            }
        }
        Ok(went)
    }

    pub(crate) async fn forget_prefix_below(
        self: &Arc<Self>,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<u64> {
        let cache = Cache::of(Arc::clone(self));
        self.note_all_below(tenant, namespace, prefix).await?;
        self.lower
            .forget_prefix(&cache, tenant, namespace, prefix)
            .await
    }

    /// Has the tier below write down what has been put, where it does so at once or is waited for.
    pub(crate) async fn write_down(self: &Arc<Self>, ids: Vec<Id>, wait: bool) -> Result<()> {
        if !wait && !self.lower.writes_at_once() {
            return Ok(());
        }
        let cache = Cache::of(Arc::clone(self));
        self.lower.write_down(&cache, ids, wait).await
    }

    /// Has what is evicted of a namespace go for good, as long as the guard lives.
    pub(crate) fn keep_from_below<'a>(&self, home: &'a Space) -> Changing<'a> {
        // Under the lock under which entries are given below: none is on its way that was not given yet.
        let _base = self.spaces.base(home);
        home.changes.store(true, Ordering::Relaxed);
        Changing(home)
    }

    /// Nothing is found below of what a load takes the place of.
    pub(crate) async fn forget_under(self: &Arc<Self>, load: &Load, home: &Space) -> Result<()> {
        if !self.lower.is_there() {
            return Ok(());
        }
        let (tenant, namespace) = (&home.tenant, &home.namespace);
        if load.replace_all {
            self.forget_prefix_below(tenant, namespace, "").await?;
            return Ok(());
        }
        let space = self.spaces.at(load.space);
        let space = space.ok_or_else(|| Error::internal("a load's generation is not known"))?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (last, gone) = self.step_under(space, after.as_deref());
            self.forget_all_below(gone).await?;
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Some keys of a generation: the last of them, and those that may be below.
    fn step_under(&self, space: &Space, after: Option<&[u8]>) -> (Option<Vec<u8>>, Vec<Gone>) {
        let order = space.order.read();
        let mut last = None;
        let mut gone = Vec::new();
        for handle in order.prefix(b"", after, self).take(SCAN_STEP) {
            let record = self.record(handle);
            let key = self.key(record);
            last = Some(key.to_vec());
            let (hlc, start) = record.version();
            let now = Some(Version { hlc, start });
            let name = Name {
                tenant: &space.tenant,
                namespace: &space.namespace,
                key: str::from_utf8(key).unwrap_or_default(),
            };
            if self.may_be_below(name)
                && let Ok(id) = name.to_id()
            {
                let expiry = None;
                gone.push(Gone { id, now, expiry });
            }
        }
        (last, gone)
    }

    /// Before an entry is unlinked for want of room, under its shard's lock: the lower tier gets it, where
    /// it is what its namespace shows.
    pub(crate) fn give_below(self: &Arc<Self>, shard: &Shard<'_>, home: &Space, entry: &Pinned) {
        // Held, so that no commit comes between: what it takes the place of is forgotten after it.
        let base = self.spaces.base(home);
        let record = entry.record();
        let number = record.namespace();
        if home.changes.load(Ordering::Relaxed) {
            return;
        }
        let shows = match base.view.layer(number, record.load_generation()) {
            Layer::Over => true,
            Layer::Hidden => false,
            Layer::Base => {
                !base.view.is_layered() || {
                    let standing = self.standing(shard, base.view, self.key(record));
                    standing.visible(self, base.view) == Some(entry.handle)
                }
            }
        };
        if shows && let Some(second) = self.pin(entry.handle) {
            self.lower.take(Entry::new(second));
        }
    }

    fn free_bytes(&self) -> u64 {
        let reach = self.arena_bytes_max();
        let committed = self.arena.committed_bytes();
        self.arena.free_bytes() + reach.saturating_sub(committed)
    }
}
