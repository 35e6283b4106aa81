//! The keys and versions under a prefix at one moment, read in key order while others write.
//!
//! Nothing is copied when a snapshot is taken: it is a view of the namespace's generations and a
//! version, later than all that was there. A walk goes through the orders as they are when it comes
//! by, and passes over what is newer. What leaves an order before the walk has passed it is noted
//! under the order's lock (`watch`), so that each key of the snapshot is either met or known to have
//! gone. So it costs what goes meanwhile, and not what is there.
//!
//! What the tier below has is merged in step by step (`below`): what leaves memory for it has not gone.

mod below;
mod passed;
mod watch;

pub use self::passed::{Form, Passed};
pub(crate) use self::watch::{Watch, Watches};

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;

use self::watch::Room;
use crate::ahead::Fetch;
use crate::cache::Cache;
use crate::engine::Engine;
use crate::generation::Generation;
use crate::index::{Handle, Order, Record};
use crate::ledger::{Account, Charge};
use crate::namespaces::Space;
use crate::reserve::Line;
use crate::scan::{SCAN_STEP, ScanItem};

/// Room for keys that go before the first step, and during it. Of this and of the next, at most one
/// part in 256 of the memory.
const FIRST_BYTES: u64 = 128 << 10;
/// Room for keys that go until the next step, while what was found is sent.
const AHEAD_BYTES: u64 = 1 << 20;
/// Room for keys that go until the next look at those who wait, where some have gone before; at most
/// one part in 64 of the memory.
const REST_BYTES: u64 = 4 << 20;
/// What an entry of a step takes beside its key's own bytes.
const ITEM_BYTES: usize = 128;
/// Bytes of small tensors that are shown in one step, at most one part in 256 of the memory: about 0.1 ms.
const TENSORS_BYTES: u64 = 512 << 10;
/// To copy a tensor larger than this takes longer than to look it up.
const SMALL_BYTES: u64 = 16 << 10;
/// Keys of one step where there is a tier below: what they are comes with them.
const STEP_BELOW: usize = 256;

/// See above. While it is there, what leaves is remembered.
pub struct Snapshot {
    engine: Arc<Engine>,
    generation: Generation,
    prefix: String,
    version: Version,
    /// `None` where the namespace is not known: then there is nothing.
    watched: Option<Watched>,
}

struct Watched {
    home: u32,
    watch: Arc<Watch>,
}

/// A part of a snapshot's keys: behind one, and up to another that belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// `None` is from the first.
    pub after: Option<Key>,
    /// `None` is to the end.
    pub last: Option<Key>,
}

impl Cache {
    /// The keys that begin with `prefix`, as they are now.
    ///
    /// # Errors
    /// `resource_exhausted` where there is no memory to remember what goes.
    pub async fn snapshot(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<Snapshot> {
        let engine = Arc::clone(self.engine());
        engine.know_from_below(tenant, namespace, prefix).await?;
        let line = Line::Newcomer.into();
        let room = engine
            .charge_waiting(Account::Scan, FIRST_BYTES, line)
            .await?;
        loop {
            let generation = self.generation(tenant, namespace);
            let snapshot = |version, watched, generation| Snapshot {
                engine: Arc::clone(&engine),
                generation,
                prefix: prefix.to_owned(),
                version,
                watched,
            };
            let Some((number, home, view)) = generation.shown() else {
                let version = engine.hlc.next(engine.clock.now_ms());
                return Ok(snapshot(version, None, generation));
            };
            let base = engine.spaces.base(home);
            if base.view != view {
                continue;
            }
            // With the base locked: what is put there from now on has a later version.
            let taken_ms = engine.clock.now_ms();
            let version = engine.hlc.next(taken_ms);
            let until = (version.hlc, taken_ms);
            let watch = Watch::new(&engine.ledger, prefix.as_bytes(), view, until);
            watch.pay(room);
            let watch = Arc::new(watch);
            home.watches.open(&watch);
            drop(base);
            engine.snapshots.lock().push(Arc::downgrade(&watch));
            let watched = Watched {
                home: number,
                watch,
            };
            return Ok(snapshot(version, Some(watched), generation));
        }
    }
}

impl Cache {
    /// Makes room for what goes while those who read a snapshot wait, or rest: for somebody to call
    /// a few times a second.
    pub async fn tend_snapshots(&self) {
        let engine = self.engine();
        let open: Vec<Arc<Watch>> = {
            let mut all = engine.snapshots.lock();
            all.retain(|watch| watch.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let ahead = REST_BYTES.min(engine.config.memory / 64);
        for watch in open.iter().filter(|watch| watch.is_used()) {
            // Where there is none now, there may be next time; and if not, its reader is told.
            let _ = engine.make_room(watch, ahead).await;
        }
    }
}

impl Snapshot {
    /// What the namespace showed: entries of the snapshot are looked up in it.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Later than that of any entry in it; no other snapshot has it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A walk through a part of the keys. There may be several, one after the other or at once.
    pub fn walk(&self, part: Part) -> Walk<'_> {
        Walk::new(self, part, false)
    }

    /// The only walk, or the last: what it has passed is forgotten.
    pub fn walk_once(&self) -> Walk<'_> {
        self.walk_behind(Part::default())
    }

    /// As [`Snapshot::walk_once`], through a part of the keys.
    pub fn walk_behind(&self, part: Part) -> Walk<'_> {
        Walk::new(self, part, true)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(Watched { home, watch }) = &self.watched
            && let Some(home) = self.engine.spaces.at(*home)
        {
            home.watches.close(watch);
        }
    }
}

impl Engine {
    fn part(&self, bytes: u64) -> u64 {
        bytes.min(self.config.memory / 256)
    }

    async fn make_room(self: &Arc<Self>, watch: &Watch, ahead: u64) -> Result<()> {
        let wanted = watch.wants(ahead);
        // Half of it at a time, and not a few bytes for each key.
        if wanted > ahead / 2 {
            let line = Line::Newcomer.into();
            watch.pay(self.charge_waiting(Account::Scan, wanted, line).await?);
        }
        Ok(())
    }

    /// An entry leaves the order of its generation, which the caller has locked: those who read a
    /// snapshot are told.
    pub(crate) fn leaves_order(&self, space: &Space, record: &Record, key: &[u8]) {
        self.spaces.home_of(space).watches.note(record, key, None);
    }

    /// Takes an entry out of the order of its generation.
    pub(crate) fn take_out(
        &self,
        space: &Space,
        order: &mut Order,
        key: &[u8],
        handle: Handle,
    ) -> bool {
        self.leaves_order(space, self.record(handle), key);
        order.remove(key, handle, self)
    }
}

/// A way through a snapshot's keys, in order.
pub struct Walk<'a> {
    snapshot: &'a Snapshot,
    part: Part,
    forgets: bool,
    after: Option<Vec<u8>>,
    ended: bool,
    gone: Vec<Key>,
    room: Room,
    /// What is kept of the entries of a step.
    step_room: Vec<Charge>,
    fetch: Fetch,
}

impl<'a> Walk<'a> {
    fn new(snapshot: &'a Snapshot, part: Part, forgets: bool) -> Self {
        let after = part.after.as_ref().map(|key| key.as_str().into());
        Self {
            snapshot,
            part,
            forgets,
            after,
            ended: false,
            gone: Vec::new(),
            room: Room::new(&snapshot.engine.ledger),
            step_room: Vec::new(),
            fetch: Fetch::Heads,
        }
    }

    /// Says what will be read of its entries; as it is made it is their heads.
    #[must_use]
    pub fn fetching(mut self, fetch: Fetch) -> Self {
        self.fetch = fetch;
        self
    }

    /// The next entries, in key order; `None` at the end. What is given here may go before it is
    /// looked up: tell [`Walk::missed`].
    ///
    /// # Errors
    /// `resource_exhausted` where more has gone than can be remembered.
    pub async fn step(&mut self) -> Result<Option<Vec<ScanItem>>> {
        self.items_of(self.step_keys()).await
    }

    pub(crate) async fn items_of(&mut self, keys: usize) -> Result<Option<Vec<ScanItem>>> {
        let mut items = Vec::new();
        let keep = |passed: Passed<'_>| match passed.item() {
            Ok(item) => {
                let bytes = item.key.as_str().len() + ITEM_BYTES;
                items.push(item);
                bytes
            }
            Err(_) => 0,
        };
        let step = self.step_of(keys, keep).await?;
        Ok(step.map(|_| items))
    }

    /// As [`Walk::step`], but shows the entries to `keep` where they lie, and gives their number. It says how many bytes it
    /// keeps of each. Others wait for it: it is quick, and takes no lock.
    ///
    /// # Errors
    /// As [`Walk::step`]: then what was shown is of no use.
    pub async fn step_into(
        &mut self,
        keep: impl FnMut(Passed<'_>) -> usize + Send,
    ) -> Result<Option<usize>> {
        self.step_of(self.step_keys(), keep).await
    }

    fn step_keys(&self) -> usize {
        match self.snapshot.engine.lower.is_there() {
            true => STEP_BELOW,
            false => SCAN_STEP,
        }
    }

    /// As [`Walk::step_into`], with so many keys looked at.
    pub(crate) async fn step_of(
        &mut self,
        keys: usize,
        mut keep: impl FnMut(Passed<'_>) -> usize + Send,
    ) -> Result<Option<usize>> {
        let Some(watched) = &self.snapshot.watched else {
            return Ok(None);
        };
        if self.ended {
            return Ok(None);
        }
        let engine = &self.snapshot.engine;
        let (first, ahead) = (engine.part(FIRST_BYTES), engine.part(AHEAD_BYTES));
        engine.make_room(&watched.watch, first).await?;
        let step = match engine.lower.is_there() {
            true => self.look_with_below(watched, keys, &mut keep).await?,
            false => self.look(&watched.watch, keys, &mut keep)?,
        };
        if let Some(last) = step.last.as_deref().filter(|_| self.forgets) {
            watched.watch.pass(last);
        }
        if step.last.is_some() {
            // Before what was found is sent, which takes its time.
            engine.make_room(&watched.watch, ahead).await?;
        }
        let paid: u64 = self.step_room.iter().map(Charge::bytes).sum();
        let kept = step.kept_bytes as u64;
        if kept > paid {
            let charge = engine.charge_waiting(Account::Scan, kept - paid, Line::Newcomer.into());
            self.step_room.push(charge.await?);
        }
        for key in step.gone {
            self.missed(key).await?;
        }
        match step.last {
            Some(last) => self.after = Some(last),
            None => self.ended = true,
        }
        Ok(Some(step.shown))
    }

    /// An entry that a step gave was not there any more, or in another version.
    ///
    /// # Errors
    /// `resource_exhausted` where there is no memory to remember it.
    pub async fn missed(&mut self, key: Key) -> Result<()> {
        let bytes = key.as_str().as_bytes();
        if !self.room.take(bytes) {
            let engine = &self.snapshot.engine;
            let charge = engine.charge_waiting(
                Account::Scan,
                engine.part(FIRST_BYTES),
                Line::Newcomer.into(),
            );
            self.room.pay(charge.await?);
            // The longest key takes less than that.
            self.room.take(bytes);
        }
        self.gone.push(key);
        Ok(())
    }

    /// The keys that had gone before they were met, or were missed.
    pub fn gone(&self) -> &[Key] {
        &self.gone
    }

    /// One step, with the orders locked for reading.
    fn look(
        &self,
        watch: &Watch,
        keys: usize,
        keep: &mut impl FnMut(Passed<'_>) -> usize,
    ) -> Result<Step> {
        let engine = &self.snapshot.engine;
        let prefix = self.snapshot.prefix.as_bytes();
        let after = self.after.as_deref();
        let last = self.part.last.as_ref().map(|key| key.as_str().as_bytes());
        let Some(base) = engine.spaces.at(watch.view.base()) else {
            return Ok(Step::default());
        };
        let now_ms = engine.clock.now_ms();
        let shown = engine.spaces.shown_by(watch.view, base);
        let tensors_max = engine.part(TENSORS_BYTES);
        let (all, lost) = shown.keys_with_lost(engine, prefix, after, self.fetch);
        let unknown = |record: &Record| lost && record.namespace() == watch.view.base();
        let mut there: Vec<Handle> = Vec::with_capacity(keys.min(SCAN_STEP));
        let (mut kept_bytes, mut tensor_bytes) = (0, 0);
        let mut gone = BTreeSet::new();
        let mut reached = None;
        for handle in all.take(keys) {
            let record = engine.record(handle);
            if last.is_some_and(|last| engine.key(record) > last) {
                reached = None;
                break;
            }
            reached = Some(record);
            if !watch.has(record) {
                continue;
            }
            let Some(record) = engine.shown(handle, now_ms).filter(|it| !unknown(it)) else {
                // It has expired, or is just being taken away.
                gone.extend(key_of(engine.key(record)));
                continue;
            };
            let passed = Passed::fetched(engine, record, self.fetch);
            kept_bytes += keep(passed);
            there.push(handle);
            tensor_bytes += passed.tensor().map_or(0, |tensor| tensor.len() as u64);
            if tensor_bytes >= tensors_max {
                break;
            }
        }
        let reached = reached.map(|record| engine.key(record).to_vec());
        let to = reached.as_deref().or(last);
        let is_there = |key: &[u8]| {
            let place = there.binary_search_by(|there| engine.key(engine.record(*there)).cmp(key));
            place.is_ok()
        };
        let noted = watch.gone_within(after, to, is_there)?;
        gone.extend(noted.iter().filter_map(|key| key_of(key)));
        drop(shown);
        Ok(Step {
            shown: there.len(),
            kept_bytes,
            gone,
            last: reached,
        })
    }
}

/// What one step found.
#[derive(Default)]
struct Step {
    /// Entries that were shown.
    shown: usize,
    /// What was kept of them.
    kept_bytes: usize,
    gone: BTreeSet<Key>,
    /// The last key looked at, where there may be more behind it.
    last: Option<Vec<u8>>,
}

fn key_of(bytes: &[u8]) -> Option<Key> {
    Key::parse(str::from_utf8(bytes).ok()?).ok()
}
