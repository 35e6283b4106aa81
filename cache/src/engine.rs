//! The engine: what all handles on one cache share, and how an entry is found, looked at, and
//! freed.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::arena::{Arena, ArenaConfig, BackingKind, Extent, ExtentList, Loc};
use crate::clock::Clock;
use crate::config::{CacheConfig, Parts};
use crate::entropy::Entropy;
use crate::event::{Events, Why};
use crate::evict::Policy;
use crate::evicted::Evictions;
use crate::expiry::Expiry;
use crate::head::{self, Head, Rest, split};
use crate::hlc::HybridClock;
use crate::id::{Id, Name};
use crate::index::{Budget, Handle, Index, KeyHash, Keys, Mark, NameHash, Record};
use crate::ledger::{Account, Charge, Ledger};
use crate::loads::Loads;
use crate::look::Seen;
use crate::lower::Below;
use crate::namespaces::{Alone, Namespaces};
use crate::pins::Pins;
use crate::read::Entry;
use crate::reads::Reads;
use crate::reserve::RoomQueue;
use crate::snapshot::Watch;

pub(crate) struct Engine {
    pub(crate) config: CacheConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hlc: HybridClock,
    pub(crate) hash: KeyHash,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) index: Index,
    pub(crate) spaces: Namespaces,
    pub(crate) arena: Arena,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) expiry: Expiry,
    pub(crate) queue: Arc<RoomQueue>,
    pub(crate) events: Events,
    pub(crate) evictions: Evictions,
    pub(crate) lower: Below,
    pub(crate) reads: Reads,
    pub(crate) pins: Pins,
    pub(crate) loads: Loads,
    /// Those that are open, of all namespaces.
    pub(crate) snapshots: Mutex<Vec<Weak<Watch>>>,
    /// Held by whoever evicts: where one large victim is enough, thirty-two puts that need room
    /// must not take one each.
    pub(crate) evicting: Mutex<()>,
    /// Namespaces that are attached to files.
    pub(crate) attached: AtomicU64,
    /// Bytes of pages that open puts have.
    pub(crate) reserved: AtomicU64,
    pub(crate) misses: Alone,
    /// See [`Engine::dice`].
    pub(crate) thrown: AtomicU64,
    pub(crate) moved: AtomicU64,
    /// What the arena keeps on the heap about itself.
    pub(crate) overhead: Mutex<Charge>,
    /// Bytes that the arena had touched when that was charged.
    pub(crate) overhead_at: AtomicU64,
}

/// The least memory that a cache works in.
const MEMORY_MIN: u64 = 8 << 20;
/// An entry costs at least so many bytes, so there cannot be more entries than this makes.
const ENTRY_BYTES_MIN: u64 = 96;

/// At most one part in so many of the memory is for namespaces, however many are allowed.
const NAMESPACES_SHARE: u64 = 32;
/// What an empty one costs, rounded up.
const NAMESPACE_BYTES: u64 = 1 << 10;
/// So many are always allowed.
const NAMESPACES_MIN: u32 = 64;

/// What an entry keeps in pages of its own, read.
#[derive(Debug, Default)]
pub(crate) struct KeptApart {
    pub(crate) metadata: Vec<u8>,
    pub(crate) source_version: Option<i64>,
}

impl Engine {
    pub(crate) fn new(config: CacheConfig, parts: Parts) -> Result<Self> {
        Self::over(config, parts, Vec::new())
    }

    /// As [`Engine::new`], over a predecessor's regions.
    pub(crate) fn over(
        config: CacheConfig,
        parts: Parts,
        regions: Vec<Option<OwnedFd>>,
    ) -> Result<Self> {
        if config.memory < MEMORY_MIN {
            return Err(Error::invalid(format!(
                "too little memory; memory=`{}` expected at least {MEMORY_MIN} bytes",
                config.memory
            )));
        }
        let entropy = parts.entropy.map_or_else(Entropy::draw, Ok)?;
        let ledger = Ledger::new(config.memory);
        let budget = Arc::new(IndexBudget {
            ledger: Arc::clone(&ledger),
            arena: OnceLock::new(),
        });
        let as_budget: Arc<dyn Budget> = budget.clone();
        let entries_max = entries_max(&config);
        let index = Index::new(entries_max, &as_budget)
            .map_err(|full| Error::invalid(format!("too little memory for the index; {full}")))?;
        let arena = Arena::over(&arena_config(&config), Arc::clone(&ledger), regions)
            .map_err(|e| Error::internal(format!("cannot map the arena: {e}")))?;
        let _ = budget.arena.set(arena.clone());
        let policy = config.eviction.build(Arc::clone(&as_budget), config.memory);
        let queue = Arc::new(RoomQueue::new(Arc::clone(&parts.clock), config.waiters_max));
        let freed = Arc::clone(&queue);
        arena.on_free(Arc::new(move || freed.freed()));
        let overhead = ledger
            .charge(Account::Index, arena.overhead_bytes())
            .ok_or_else(|| Error::invalid("too little memory for the arena's page counts"))?;
        let evictions = Evictions::within(&ledger)
            .ok_or_else(|| Error::invalid("too little memory for the list of evictions"))?;
        Ok(Self {
            hlc: HybridClock::new(entropy.start),
            hash: KeyHash::new(entropy.hash_key),
            index,
            expiry: Expiry::new(entries_max, parts.clock.now_ms(), Arc::clone(&as_budget)),
            spaces: Namespaces::new(namespaces_max(&config), as_budget),
            arena,
            policy,
            queue,
            events: Events::new(parts.listeners),
            evictions,
            lower: Below::of(parts.lower),
            reads: Reads::new(Arc::clone(&parts.clock)),
            pins: Pins::default(),
            loads: Loads::new(entropy.start),
            snapshots: Mutex::default(),
            evicting: Mutex::new(()),
            attached: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            misses: Alone::default(),
            thrown: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            overhead: Mutex::new(overhead),
            overhead_at: AtomicU64::new(0),
            ledger,
            clock: parts.clock,
            config,
        })
    }

    /// How many entries there can be, at most.
    pub(crate) fn entries_max(&self) -> u64 {
        u64::from(entries_max(&self.config))
    }

    /// The hash under which the index has an entry.
    pub(crate) fn hash_of(&self, name: Name<'_>) -> u64 {
        let (tenant, namespace) = (name.tenant.as_str(), name.namespace.as_str());
        self.hash.hash(
            [tenant.as_bytes(), namespace.as_bytes()],
            name.key.as_bytes(),
        )
    }

    /// As [`Engine::hash_of`], for many keys of a namespace.
    pub(crate) fn hash_within(&self, tenant: &Tenant, namespace: &Namespace) -> NameHash {
        let (tenant, namespace) = (tenant.as_str(), namespace.as_str());
        self.hash.within([tenant.as_bytes(), namespace.as_bytes()])
    }

    /// As [`Engine::find`], but an expired entry is none, and goes.
    pub(crate) fn find_current(
        self: &Arc<Self>,
        hash: u64,
        name: Name<'_>,
        mark: Mark,
        seen: Seen,
    ) -> Option<PinnedHere<'_>> {
        let pinned = self.find(hash, name, mark, seen)?;
        if self.is_expired(pinned.record()) {
            // Who goes by a view that he holds takes nothing away from others who do: what an entry
            // was over would be lost to them.
            if !matches!(seen, Seen::By(_)) {
                self.unlink(pinned.into_pinned(), Why::Expired);
            }
            return None;
        }
        Some(pinned)
    }

    pub(crate) fn record(&self, handle: Handle) -> &Record {
        self.index.records.at(handle)
    }

    /// A slot's bytes: for who has its record pinned, or locked in place by its order's lock.
    pub(crate) fn slot(&self, record: &Record) -> &[u8] {
        Loc::from_bits(record.loc()).map_or(&[], |loc| self.arena.slot(loc))
    }

    /// A small tensor's bytes, for whom [`Engine::slot`] is; `None` where they are not all in one piece.
    pub(crate) fn in_slot(&self, record: &Record) -> Option<&[u8]> {
        let split = split(record.len());
        let slot = self.slot(record);
        slot.get(..split.inline).filter(|_| split.pages == 0)
    }

    /// As [`Engine::slot`], from the head on.
    pub(crate) fn head_bytes(&self, record: &Record) -> &[u8] {
        let slot = self.slot(record);
        slot.get(split(record.len()).inline..).unwrap_or_default()
    }

    pub(crate) fn key(&self, record: &Record) -> &[u8] {
        head::key_of(self.head_bytes(record))
    }

    /// The whole head. A record always has one: `internal` would be a bug of ours.
    pub(crate) fn head(&self, record: &Record) -> Result<Head<'_>> {
        head::decode(self.head_bytes(record))
            .ok_or_else(|| Error::internal("an entry's head cannot be read"))
    }

    /// Frees an entry that has left the index and whose last pin is gone.
    pub(crate) fn free(&self, handle: Handle) {
        let record = self.record(handle);
        if head::has_pages(self.head_bytes(record)) {
            self.free_pages_of(record);
        }
        if let Some(loc) = Loc::from_bits(record.loc()) {
            self.arena.free_slot(loc);
        }
        self.index.records.free(handle);
    }

    /// As [`Engine::free`], of several.
    pub(crate) fn free_all(&self, handles: &[Handle]) {
        let mut slots = Vec::with_capacity(handles.len());
        for &handle in handles {
            let record = self.record(handle);
            if head::has_pages(self.head_bytes(record)) {
                self.free_pages_of(record);
            }
            slots.extend(Loc::from_bits(record.loc()));
        }
        self.arena.free_slots(&slots);
        self.index.records.free_many(handles.iter().copied());
    }

    fn free_pages_of(&self, record: &Record) {
        match self.head(record).map(|head| head.rest) {
            Ok(Rest::Here { extents, .. }) => self.free_extents(&extents),
            Ok(Rest::Apart { extents, bytes }) => {
                if let Ok((own, _)) = self.rest_apart(&extents, bytes) {
                    self.free_extents(&own);
                }
                self.free_extents(&extents);
            }
            Err(_) => debug_assert!(false, "an entry without a head"),
        }
    }

    /// What a head has in pages of its own; the caller has the entry pinned, or is to free it.
    pub(crate) fn rest_apart(
        &self,
        extents: &ExtentList,
        bytes: u64,
    ) -> Result<(ExtentList, KeptApart)> {
        let rest = self.rest_bytes(extents, bytes)?;
        let broken = || Error::internal("an entry's metadata cannot be read");
        let (extents, kept) = head::decode_rest(&rest).ok_or_else(broken)?;
        let kept = KeptApart {
            metadata: kept.metadata.to_vec(),
            source_version: kept.source_version,
        };
        Ok((extents, kept))
    }

    /// What a head has in pages of its own, as it lies there.
    pub(crate) fn rest_bytes(&self, extents: &ExtentList, bytes: u64) -> Result<Vec<u8>> {
        let broken = || Error::internal("an entry's metadata cannot be read");
        let mut hold = self.arena.hold(extents, 0..bytes).ok_or_else(broken)?;
        let mut rest = vec![0; usize::try_from(bytes).map_err(|_| broken())?];
        hold.copy_to(&mut rest);
        Ok(rest)
    }

    /// The version that an entry's source gave it; the caller has it pinned.
    pub(crate) fn source_version(&self, record: &Record) -> Option<i64> {
        match self.head(record).ok()?.rest {
            Rest::Here { kept, .. } => kept.source_version,
            Rest::Apart { extents, bytes } => {
                let apart = self.rest_apart(&extents, bytes).ok();
                apart.and_then(|(_, kept)| kept.source_version)
            }
        }
    }

    /// The first `bytes` bytes of pages that the caller owns or has pinned, uncopied.
    pub(crate) fn pieces(&self, extents: &[Extent], bytes: u64) -> Vec<Bytes> {
        let hold = self.arena.hold(extents, 0..bytes);
        let mut hold = hold.filter(|_| bytes > 0);
        std::iter::from_fn(|| hold.as_mut()?.take(usize::MAX)).collect()
    }

    fn free_extents(&self, extents: &ExtentList) {
        if !extents.is_empty() {
            self.arena.free_pages(extents);
        }
    }

    /// Somebody asked for a key that is not there.
    pub(crate) fn count_miss(&self, id: &Id) {
        self.misses.0.fetch_add(1, Ordering::Relaxed);
        let number = self.spaces.find(&id.tenant, &id.namespace);
        if let Some(space) = number.and_then(|number| self.spaces.at(number)) {
            space.own.misses.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Seconds since the start, as the last access is kept.
    pub(crate) fn second(&self) -> u32 {
        u32::try_from(self.clock.monotonic().as_secs()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_expired(&self, record: &Record) -> bool {
        record
            .expires_at_ms()
            .is_some_and(|at| at <= self.clock.now_ms())
    }
}

/// An order reads the keys of its entries through this. Whoever moves an entry holds its order's
/// lock meanwhile, so nothing has to be pinned here.
impl Keys for Engine {
    fn with_key<R>(&self, handle: Handle, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self.key(self.record(handle)))
    }
}

/// What the policy gets of a name's hash.
pub(crate) fn policy_hash(hash: u64) -> u32 {
    // The low half, as the table's buckets have it.
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}

/// A pin on an entry, taken off when this is dropped.
pub(crate) struct Pinned {
    pub(crate) engine: Arc<Engine>,
    pub(crate) handle: Handle,
}

impl Pinned {
    pub(crate) fn record(&self) -> &Record {
        self.engine.record(self.handle)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.record().unpin() {
            self.engine.free(self.handle);
        }
    }
}

/// As [`Pinned`], for as long as somebody else has the engine: to count one more who has it is a
/// write to a line that all threads write to.
pub(crate) struct PinnedHere<'e> {
    pub(crate) engine: &'e Arc<Engine>,
    pub(crate) handle: Handle,
}

impl<'e> PinnedHere<'e> {
    pub(crate) fn record(&self) -> &'e Record {
        self.engine.record(self.handle)
    }

    pub(crate) fn into_pinned(self) -> Pinned {
        let (engine, handle) = (Arc::clone(self.engine), self.handle);
        // The pin lives on.
        std::mem::forget(self);
        Pinned { engine, handle }
    }

    pub(crate) fn version(&self) -> Version {
        let (hlc, start) = self.record().version();
        Version { hlc, start }
    }

    pub(crate) fn into_entry(self) -> Entry {
        Entry::new(self.into_pinned())
    }

    /// Takes the pin off; `true` where the entry is the caller's to free then.
    #[must_use = "the last pin of an unlinked record frees it"]
    pub(crate) fn unpin(self) -> bool {
        let last = self.record().unpin();
        std::mem::forget(self);
        last
    }
}

impl Drop for PinnedHere<'_> {
    fn drop(&mut self) {
        if self.record().unpin() {
            self.engine.free(self.handle);
        }
    }
}

/// The index grows against the arena: where the ledger has nothing left, free pages are given
/// back to the system. It evicts nothing: it is asked under locks of the index.
struct IndexBudget {
    ledger: Arc<Ledger>,
    arena: OnceLock<Arena>,
}

impl Budget for IndexBudget {
    fn charge(&self, bytes: u64) -> bool {
        if self.ledger.try_charge(Account::Index, bytes) {
            return true;
        }
        let given = self.arena.get().map_or(0, |arena| arena.give_back(bytes));
        given > 0 && self.ledger.try_charge(Account::Index, bytes)
    }

    fn release(&self, bytes: u64) {
        self.ledger.release(Account::Index, bytes);
    }
}

/// Namespaces are never evicted: all of them together take a part of the memory that tensors miss
/// little.
fn namespaces_max(config: &CacheConfig) -> u32 {
    let fit = config.memory / NAMESPACES_SHARE / NAMESPACE_BYTES;
    let fit = u32::try_from(fit).unwrap_or(u32::MAX);
    config.namespaces_max.min(fit.max(NAMESPACES_MIN))
}

fn entries_max(config: &CacheConfig) -> u32 {
    u32::try_from(config.memory / ENTRY_BYTES_MIN).unwrap_or(u32::MAX)
}

fn arena_config(config: &CacheConfig) -> ArenaConfig {
    // A 32nd stays out of the arena's reach, so that bytes on their way through the process do
    // not have to evict anything.
    let mut arena = ArenaConfig::new(config.memory - config.memory / 32);
    arena.region_bytes = config.region_bytes;
    if config.heap {
        arena.backing = BackingKind::Heap;
    }
    arena
}
