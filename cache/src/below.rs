//! What the engine does with the tier below it: asks it before a key is judged, tells it afterwards,
//! hands entries down ahead of need.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;

use crate::cache::Cache;
use crate::engine::{Engine, Pinned, PinnedHere};
use crate::event::{Cause, Why};
use crate::id::{Id, Name};
use crate::index::{Mark, Shard};
use crate::judge::Candidate;
use crate::loads::Load;
use crate::lower::{Description, Found, Gone, LowerTier, NewExpiry, Reading};
use crate::namespaces::Space;
use crate::read::Entry;
use crate::scan::SCAN_STEP;
use crate::victim::{Evicted, Terms};
use crate::view::Layer;

/// How often a key is brought up that leaves memory again at once.
const BRING_UP_ROUNDS: usize = 4;
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

    /// A clock that is later than every version that was made or [observed](Cache::observe).
    pub fn later_hlc(&self) -> u64 {
        let engine = self.engine();
        engine.hlc.next(engine.clock.now_ms()).hlc
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
        found.is_some_and(|entry| self.engine().unlink_asked(entry.into_pinned()))
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
        let ahead = Terms {
            cause: Cause::Ahead,
            ..Terms::default()
        };
        let _one_at_a_time = engine.evicting.lock();
        for turn in 1..=VICTIMS_A_STEP {
            if enough() {
                return false;
            }
            match engine.evict(ahead) {
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

/// Does what has to be whole once it has begun: it goes on where nobody waits for it any more.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|_| Err(Error::unavailable("the server is being shut down")))
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

    /// The entry of a key in memory, brought up where only the lower tier has it, to be judged or changed.
    ///
    /// # Errors
    /// Where the lower tier has it and memory does not keep it: it is not to be taken for one that is not there.
    pub(crate) async fn here(self: &Arc<Self>, id: &Id) -> Result<Option<Entry>> {
        let cache = Cache::of(Arc::clone(self));
        for _ in 0..BRING_UP_ROUNDS {
            if let Some(entry) = cache.peek(id) {
                return Ok(Some(entry));
            }
            // In this order: what leaves memory is below before it does.
            if !self.may_be_below(id.name()) {
                return Ok(None);
            }
            match self.lower.load(&cache, id).await? {
                Some(entry) if !entry.is_over() => self.make_room_for(&entry).await,
                _ => return Ok(None),
            }
        }
        Err(Error::unavailable(
            "the key is in the cold tier and memory has no room for it now; try again",
        ))
    }

    /// Where its namespace's own limits are why an entry was not kept, others of it go.
    async fn make_room_for(self: &Arc<Self>, entry: &Entry) {
        let Some(space) = self.spaces.at(entry.record().namespace()) else {
            return;
        };
        let home = self.spaces.home_of(space);
        let shown = self.spaces.counted(home);
        if let Some(over) = home.over(shown, 1, entry.len()) {
            // Who finds no room says so.
            let _ = self.make_own_room(home, over, entry.len(), None).await;
        }
    }

    /// What is there in a candidate's place: in memory, and where that decides, also below.
    pub(crate) async fn found<'e>(
        self: &'e Arc<Self>,
        candidate: &Candidate<'_>,
    ) -> Result<Option<PinnedHere<'e>>> {
        let Candidate { name, coming, .. } = candidate;
        let find = || self.find_current(coming.hash, *name, Mark::Peek, coming.seen());
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        if !candidate.is_by_what_is_there() || !self.may_be_below(*name) {
            return Ok(None);
        }
        let id = name.to_id()?;
        for _ in 0..BRING_UP_ROUNDS {
            if self.here(&id).await?.is_none() {
                return Ok(None);
            }
            if let Some(found) = find() {
                return Ok(Some(found));
            }
        }
        Err(Error::unavailable(
            "the key leaves memory all the time; try again",
        ))
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
        let gone = vec![Gone::all_but(now, id.clone())];
        let gone = self.forget_all_below(gone).await?;
        Ok(gone.into_iter().next().flatten())
    }

    /// A version that memory has was given another expiry: what the tier below has of it is forgotten, and written down again,
    /// lest a kill should lose what it did not before.
    pub(crate) async fn expire_below(
        self: &Arc<Self>,
        id: &Id,
        version: Version,
        expiry: NewExpiry,
    ) -> Result<()> {
        if !self.may_be_below(id.name()) {
            return Ok(());
        }
        let gone = vec![Gone {
            expiry: Some(expiry),
            ..Gone::all_but(Some(version), id.clone())
        }];
        let went = self.forget_all_below(gone).await?;
        if went.contains(&Some(version)) && self.lower.check_writes().is_ok() {
            let cache = Cache::of(Arc::clone(self));
            let written = self.lower.write_down(&cache, vec![id.clone()], false);
            written.await?;
        }
        Ok(())
    }

    pub(crate) async fn forget_all_below(
        self: &Arc<Self>,
        gone: Vec<Gone>,
    ) -> Result<Vec<Option<Version>>> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let engine = Arc::clone(self);
        to_its_end(async move {
            let cache = Cache::of(Arc::clone(&engine));
            let is_watched = gone.iter().any(|gone| engine.is_watched(&gone.id));
            let forgotten = engine.lower.forget(&cache, gone.clone()).await;
            let Ok(went) = &forgotten else {
                // What is refused is not left there for others to find, over what is below.
                for Gone { id, now, .. } in &gone {
                    now.map(|version| cache.take_back(id, version));
                }
                return forgotten;
            };
            for (gone, went) in gone.iter().zip(went).filter(|_| is_watched) {
                if let Some(went) = went.filter(|went| gone.now != Some(*went)) {
                    engine.left_below(&gone.id, went);
                }
            }
            forgotten
        })
        .await
    }

    pub(crate) async fn forget_prefix_below(
        self: &Arc<Self>,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<u64> {
        if !self.lower.is_there() {
            return Ok(0);
        }
        let (engine, prefix) = (Arc::clone(self), prefix.to_owned());
        let (tenant, namespace) = (tenant.clone(), namespace.clone());
        to_its_end(async move {
            let cache = Cache::of(Arc::clone(&engine));
            engine.note_all_below(&tenant, &namespace, &prefix).await?;
            let forgotten = engine
                .lower
                .forget_prefix(&cache, &tenant, &namespace, &prefix);
            forgotten.await
        })
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
                gone.push(Gone::all_but(now, id));
            }
        }
        (last, gone)
    }

    /// Before an entry is unlinked for want of room, under its shard's lock: the lower tier gets it, where
    /// it is what its namespace shows. Says whether that has taken it.
    pub(crate) fn give_below(
        self: &Arc<Self>,
        shard: &Shard<'_>,
        home: &Space,
        entry: &Pinned,
    ) -> bool {
        // Held, so that no commit comes between: what it takes the place of is forgotten after it.
        let base = self.spaces.base(home);
        let record = entry.record();
        let number = record.namespace();
        if home.changes.load(Ordering::Relaxed) {
            return false;
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
        let second = shows.then(|| self.pin(entry.handle)).flatten();
        second.is_some_and(|second| self.lower.take(Entry::new(second)))
    }

    fn free_bytes(&self) -> u64 {
        let reach = self.arena_bytes_max();
        let committed = self.arena.committed_bytes();
        self.arena.free_bytes() + reach.saturating_sub(committed)
    }
}
