//! The two changes of the index: an entry comes, an entry goes. Each is one step under the lock of
//! its key's shard, and each is told from here ([`crate::event`]).
//!
//! Under that lock the namespace's order and the policy follow, so that all three always name the
//! same entries. A look-up takes none of these locks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowstring_wire::descriptor::Admit;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::arena::{ExtentList, Loc, Pages, pages_for};
use crate::engine::{Engine, Pinned, policy_hash};
use crate::event::{Cause, Event, What, Why};
use crate::head::{self, HeadBytes, HeadParts, Kept, Rest, split};
use crate::id::Name;
use crate::index::{Full, Handle, Record, Shard};
use crate::layers::Standing;
use crate::look::Seen;
use crate::namespaces::{Base, Space};
use crate::read::Entry;
use crate::room::Asker;
use crate::settings::Over;
use crate::view::{LOADED, View};

/// What is known of an entry that is about to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coming<'a> {
    pub(crate) hash: u64,
    /// The home of its namespace, or its load's own generation.
    pub(crate) space: u32,
    pub(crate) key: &'a str,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a Shape,
    pub(crate) kept: Kept<'a>,
    pub(crate) len: u64,
    pub(crate) checksum: u128,
    pub(crate) expires_at_ms: Option<u64>,
    /// The version that it has already, where it comes back; else it gets one.
    pub(crate) version: Option<Version>,
    /// Whether it is the entry whose place it takes, but for its metadata: its expiry, hits and last access stay as they are
    /// by then.
    pub(crate) inherits: bool,
    /// The load that brings it; 0 is none.
    pub(crate) load: u32,
    /// As [`Asker::spares`].
    pub(crate) spares: Option<u32>,
    pub(crate) pin: bool,
    pub(crate) admit: Admit,
}

impl Coming<'_> {
    /// By what it is judged: a load by its own keys.
    pub(crate) fn seen(&self) -> Seen {
        if self.load == 0 {
            Seen::Now
        } else {
            Seen::In(self.space)
        }
    }
}

/// An entry that nobody can find yet. Dropping it frees all its memory.
pub(crate) struct Draft {
    engine: Arc<Engine>,
    handle: Option<Handle>,
    loc: Option<Loc>,
    extents: ExtentList,
    apart: ExtentList,
}

/// How an attempt to publish ended.
pub(crate) enum Commit {
    /// The entry can be read.
    Done(Version),
    /// What was expected to be there is there no more: judge again.
    Raced(Draft),
    /// The index cannot grow: make room and try again.
    Full(Draft, Full),
    /// Its namespace may not hold it beside what it has: let some go and try again.
    Over(Draft, Over),
    /// It may not come: it would be pinned, and too much is.
    Refused(Error),
    /// Its load is not open any more.
    Closed,
}

impl Draft {
    /// `record` is private; slot and pages are filled.
    pub(crate) fn new(
        engine: Arc<Engine>,
        handle: Handle,
        slot: Loc,
        extents: ExtentList,
        apart: ExtentList,
    ) -> Self {
        engine.arena.set_tag(slot, handle.get());
        engine.record(handle).set_loc(slot.to_bits());
        Self {
            engine,
            handle: Some(handle),
            loc: Some(slot),
            extents,
            apart,
        }
    }

    /// Swaps the entry into the index, if `expected` is what is there now (`None`: nothing is).
    pub(crate) fn commit(mut self, coming: &Coming<'_>, expected: Option<Pinned>) -> Commit {
        let engine = Arc::clone(&self.engine);
        let Some(handle) = self.handle else {
            debug_assert!(false, "a draft is committed once");
            return Commit::Raced(self);
        };
        let record = engine.record(handle);
        record.set_len(coming.len);
        record.set_checksum(coming.checksum);
        record.set_expires_at_ms(coming.expires_at_ms);
        record.set_load_generation(if coming.load == 0 { 0 } else { LOADED });
        record.set_last_access(engine.second());

        let mut shard = engine.index.table.lock(coming.hash);
        // The order is held until the record can be read: a scan that met it before that would pass
        // over a key that was there all the time.
        let Some(mut base) = engine.base_for(coming.space, coming.load) else {
            return Commit::Closed;
        };
        // What has a version comes from below.
        if coming.version.is_none()
            && coming.load == 0
            && let Err(refused) = base.space.check_writable()
        {
            return Commit::Refused(refused);
        }
        let view = base.view;
        record.set_namespace(view.base());
        let key = coming.key.as_bytes();
        let standing = match &expected {
            Some(old) if view.beside().is_none() && old.record().namespace() == view.base() => {
                Standing {
                    base: shard.contains(old.handle).then_some(old.handle),
                    beside: None,
                }
            }
            _ => engine.standing(&shard, view, key),
        };
        let visible = standing.visible(&engine, view);
        if visible != expected.as_ref().map(|old| old.handle) {
            drop(base);
            drop(shard);
            return Commit::Raced(self);
        }
        if visible.is_none()
            && let Err(full) = shard.reserve()
        {
            drop(base);
            drop(shard);
            return Commit::Full(self, full);
        }
        let pinned = match engine.pin_in_place(record, expected.as_ref(), coming.pin) {
            Ok(pinned) => pinned,
            Err(refused) => return Commit::Refused(refused),
        };
        let shown = engine.spaces.counted(base.space);
        let old = expected.as_ref().map(Pinned::record);
        if let Some(over) = base.space.over_with(shown, coming.len, old) {
            drop(base);
            drop(shard);
            engine.pins.undo(&pinned);
            return Commit::Over(self, over);
        }
        if let Err(full) = base.order.insert(key, handle, &*engine) {
            drop(base);
            drop(shard);
            engine.pins.undo(&pinned);
            return Commit::Full(self, full);
        }
        if coming.inherits
            && let Some(old) = old
        {
            record.inherit(old);
        }
        let expires_at_ms = record.expires_at_ms();
        let version = coming.version;
        let version = version.unwrap_or_else(|| engine.hlc.next(engine.clock.now_ms()));
        record.set_version(version.hlc, version.start);
        if let Some(old) = &expected {
            engine.leaves_order(base.space, old.record(), key);
        }
        // What does not show goes first, lest it should show for a moment.
        let hidden = engine.remove_hidden(&mut shard, &base, standing, visible);
        let publish = || record.publish();
        let published = match visible {
            Some(old) => shard.replace(old, handle, publish),
            None => shard.insert(handle, publish).is_ok(),
        };
        if visible.is_some()
            && visible == standing.beside
            && let (Some(old), Some(beside)) = (visible, engine.spaces.beside(view))
        {
            beside.order.write().remove(key, old, &*engine);
        }
        let space = base.space;
        space.add(coming.len, coming.load != 0);
        drop(base);
        debug_assert!(published, "room was made, and the lock held since");
        self.defuse();
        engine.tell_policy(coming, expected.as_ref(), handle);
        if let Some(old) = &hidden {
            engine.let_go_of(old, None);
        }
        for old in expected.iter().chain(&hidden) {
            engine.went(old, Why::Replaced);
        }
        engine.events.emit(&Event {
            tenant: &space.tenant,
            namespace: &space.namespace,
            key: coming.key,
            version,
            bytes: coming.len,
            what: What::Published,
        });
        drop(shard);
        engine.expiry.note(handle, expires_at_ms);
        engine.charge_overhead();
        for old in expected.into_iter().chain(hidden) {
            engine.after_unlink(old);
        }
        Commit::Done(version)
    }

    /// Whether this has the bytes of `entry`.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        let split = split(entry.len());
        let Some(slot) = self.loc.map(|loc| self.engine.arena.slot(loc)) else {
            return false;
        };
        let in_pages = entry.len() - split.inline as u64;
        let pieces = self.engine.pieces(&self.extents, in_pages);
        let mut mine: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        mine.push(slot.get(..split.inline).unwrap_or_default());
        entry.equals(&mine)
    }

    /// Its record, which has all of its memory: the caller's.
    pub(crate) fn into_handle(mut self) -> Option<Handle> {
        let handle = self.handle;
        self.defuse();
        handle
    }

    fn defuse(&mut self) {
        self.handle = None;
        self.loc = None;
        self.extents.clear();
        self.apart.clear();
    }
}

impl Engine {
    /// Locks the order that an entry goes into: the base of the namespace whose home `number` is, or
    /// the load's own generation. `None` where the load is not open any more.
    pub(crate) fn base_for(&self, number: u32, load: u32) -> Option<Base<'_>> {
        let space = self.spaces.at(number)?;
        if load == 0 {
            return Some(self.spaces.base(space));
        }
        let (view, order) = (View::first(number), space.order.write());
        let is_open = space.load.load(Ordering::Relaxed) == load;
        is_open.then_some(Base { view, space, order })
    }

    /// Makes a draft: takes a slot and a record, and fills the slot with `inline` (its pieces one
    /// after the other) and the head.
    pub(crate) async fn draft(
        self: &Arc<Self>,
        coming: &Coming<'_>,
        pages: Option<Pages>,
        inline: &[&[u8]],
        asker: Asker,
    ) -> Result<Draft> {
        let inline_len = inline.iter().map(|piece| piece.len()).sum();
        let extents = pages
            .as_ref()
            .map_or_else(ExtentList::new, |pages| pages.extents().into());
        let mut head = HeadBytes::new();
        let parts = |rest| HeadParts {
            key: coming.key,
            dtype: coming.dtype,
            shape: coming.shape,
            rest,
        };
        let kept = coming.kept;
        head::encode(&parts(Rest::Here { extents, kept }), &mut head);
        let mut apart = None;
        if !head::fits(inline_len, head.len()) {
            let rest = head::encode_rest(
                pages.as_ref().map_or(&[], |pages| pages.extents()),
                coming.kept,
            );
            let own = self.pages_apart(&rest, asker).await?;
            head.clear();
            let rest = Rest::Apart {
                extents: own.extents().into(),
                bytes: rest.len() as u64,
            };
            head::encode(&parts(rest), &mut head);
            apart = Some(own);
        }
        let mut slot = self.slot_of(inline_len + head.len(), asker).await?;
        fill(slot.bytes_mut(), inline, &head);
        let handle = self.new_record(asker).await?;
        let extents =
            |pages: Option<Pages>| pages.map_or_else(ExtentList::new, Pages::into_extents);
        Ok(Draft::new(
            Arc::clone(self),
            handle,
            slot.into_loc(),
            extents(pages),
            extents(apart),
        ))
    }

    /// Pages for the part of a head that does not fit its slot.
    async fn pages_apart(self: &Arc<Self>, rest: &[u8], asker: Asker) -> Result<Pages> {
        let n = pages_for(rest.len() as u64).unwrap_or(u32::MAX);
        let mut pages = self.pages(n, asker).await?;
        pages.write(0, rest);
        // It is the entry's now, not the put's.
        self.unreserve(pages.bytes());
        Ok(pages)
    }
}

/// Fills a slot.
pub(crate) fn fill(slot: &mut [u8], inline: &[&[u8]], head: &[u8]) {
    let mut at = 0;
    for piece in inline.iter().copied().chain([head]) {
        slot[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for extents in [&self.extents, &self.apart] {
            if !extents.is_empty() {
                self.engine.arena.free_pages(extents);
            }
        }
        if let Some(loc) = self.loc {
            self.engine.arena.free_slot(loc);
        }
        if let Some(handle) = self.handle {
            self.engine.index.records.free(handle);
        }
    }
}

impl Engine {
    /// Takes a pinned entry out of the index; false when it has gone already, or may not go for
    /// this reason any more. Its memory is free when its last pin is gone.
    pub(crate) fn unlink(&self, entry: Pinned, why: Why) -> bool {
        self.unlink_with(entry, why, |_, _, entry| entry.record().is_below())
    }

    /// As [`Engine::unlink`] of one that is evicted, and hands it to the tier below.
    pub(crate) fn unlink_below(self: &Arc<Self>, entry: Pinned, cause: Cause) -> bool {
        self.unlink_with(entry, Why::Evicted(cause), |shard, home, entry| {
            self.give_below(shard, home, entry)
        })
    }

    /// As [`Engine::unlink`] of one that somebody asked to be evicted, which the tier below has.
    pub(crate) fn unlink_asked(&self, entry: Pinned) -> bool {
        self.unlink_with(entry, Why::Evicted(Cause::Asked), |_, _, _| true)
    }

    /// `before` is called when it is sure to go, and can still be found; it says whether the tier below has it.
    fn unlink_with(
        &self,
        entry: Pinned,
        why: Why,
        before: impl FnOnce(&Shard<'_>, &Space, &Pinned) -> bool,
    ) -> bool {
        let record = entry.record();
        let Some(space) = self.spaces.at(record.namespace()) else {
            return false;
        };
        let key = self.key(record);
        let hash = self.hash_in(space, key);
        let mut shard = self.index.table.lock(hash);
        let may_go = match why {
            Why::Expired => self.is_expired(record),
            Why::Evicted(_) => !record.is_kept() && !self.is_over_a_pin(&shard, &entry),
            Why::Replaced | Why::Deleted => true,
        };
        if !may_go || !shard.contains(entry.handle) {
            return false;
        }
        let home = self.spaces.home_of(space);
        let is_below = before(&shard, home, &entry);
        let also = if home.view().beside().is_some() {
            self.unlink_layered(&mut shard, home, &entry, why)
        } else {
            self.unlink_plain(&mut shard, home, &entry);
            None
        };
        let evicted = matches!(why, Why::Evicted(_)).then(|| policy_hash(hash));
        for gone in [Some(&entry), also.as_ref()].into_iter().flatten() {
            self.let_go_of(gone, evicted);
            self.went(gone, why);
        }
        drop(shard);
        if let Why::Evicted(cause) = why {
            self.list_evicted(&entry, cause, is_below);
            // What it hid was not given below.
            also.iter()
                .for_each(|also| self.list_evicted(also, cause, false));
        }
        self.after_unlink(entry);
        if let Some(also) = also {
            self.after_unlink(also);
        }
        true
    }

    /// Whether a key is pinned by what an entry hides. Then so is the entry from now on: a commit has
    /// not yet come to it.
    fn is_over_a_pin(&self, shard: &Shard<'_>, entry: &Pinned) -> bool {
        let below = self.below(shard, entry);
        below.is_some_and(|below| self.pin_over(entry, below))
    }

    /// Changes what can be changed of an entry that can be found: under its shard's lock, so that
    /// whoever lets it go for that sees the change. `None` where it has left the index.
    pub(crate) fn change<R>(&self, entry: &Pinned, with: impl FnOnce(&Record) -> R) -> Option<R> {
        let record = entry.record();
        let space = self.spaces.at(record.namespace())?;
        let hash = self.hash_in(space, self.key(record));
        let shard = self.index.table.lock(hash);
        let changed = shard.contains(entry.handle).then(|| with(record));
        drop(shard);
        changed
    }

    /// What the policy gets of the hash of an entry's name.
    pub(crate) fn policy_hash_of(&self, entry: &Pinned) -> u32 {
        let space = self.spaces.at(entry.record().namespace());
        let hash = |space| self.hash_in(space, self.key(entry.record()));
        policy_hash(space.map_or(0, hash))
    }

    /// The hash under which the index has a key of this namespace.
    pub(crate) fn hash_in(&self, space: &Space, key: &[u8]) -> u64 {
        self.hash_of(Name {
            tenant: &space.tenant,
            namespace: &space.namespace,
            key: str::from_utf8(key).unwrap_or_default(),
        })
    }

    /// An entry has been published, in the place of `old` where there was one. What a user has
    /// pinned no policy has; where the old one was, so is the new.
    fn tell_policy(&self, coming: &Coming<'_>, old: Option<&Pinned>, new: Handle) {
        let (records, hash) = (&self.index.records, policy_hash(coming.hash));
        let is_kept = self.record(new).is_kept();
        match old.filter(|old| !old.record().is_kept()) {
            Some(old) if is_kept => self.policy.remove(records, old.handle, None),
            Some(old) => self.replace_in_policy(old, new, coming.hash, coming.admit),
            None if is_kept => {}
            None => self.policy.insert(records, new, hash, coming.admit.into()),
        }
    }

    /// `new` is where `old` was.
    pub(crate) fn replace_in_policy(&self, old: &Pinned, new: Handle, hash: u64, admit: Admit) {
        // To write a key is to want it, unless it is said that nobody does.
        let wanted = admit == Admit::Hot;
        let marks = old.record().marks() + u32::from(wanted);
        self.record(new).set_marks(marks);
        self.policy.replace(&self.index.records, old.handle, new);
        if wanted {
            self.policy.hit(new, policy_hash(hash));
        }
    }

    /// An entry that goes is pinned no more, or the policy has it no more.
    pub(crate) fn let_go_of(&self, entry: &Pinned, evicted: Option<u32>) {
        let record = entry.record();
        if record.is_kept() {
            self.pins.release(self.footprint(record));
        } else {
            self.policy
                .remove(&self.index.records, entry.handle, evicted);
        }
    }

    /// The rest of an entry's going, under its shard's lock: table, order and policy have let go of
    /// it.
    pub(crate) fn went(&self, entry: &Pinned, why: Why) {
        let record = entry.record();
        let Some(space) = self.spaces.at(record.namespace()) else {
            debug_assert!(false, "an entry of no namespace");
            return;
        };
        space.subtract(record.len(), record.load_generation() == LOADED);
        space.count_gone(why);
        let last = record.unlink();
        debug_assert!(!last, "the caller has it pinned");
        let (hlc, start) = record.version();
        self.events.emit(&Event {
            tenant: &space.tenant,
            namespace: &space.namespace,
            key: str::from_utf8(self.key(record)).unwrap_or_default(),
            version: Version { hlc, start },
            bytes: record.len(),
            what: What::Unlinked(why),
        });
    }

    /// The second step, without locks: the pin goes.
    pub(crate) fn after_unlink(&self, entry: Pinned) {
        self.reads.unlinked(entry.handle);
        drop(entry);
        // Only without the pin is what its readers have counted as held.
        self.enforce_held();
    }
}
