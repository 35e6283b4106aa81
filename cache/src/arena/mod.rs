//! The arena: where tensors live.
//!
//! Memory is [`PAGE_BYTES`] pages in regions that are mapped whole, touched as
//! they are needed, and never unmapped. Large tensors take pages, as few and
//! as large [`Extent`]s as free space gives; small ones take slots of a size
//! class, of which slabs of one to eight pages are made. Whatever has been
//! touched is charged to [`Account::Arena`], free or not, because the machine
//! charges it to us; [`Arena::give_back`] is the way back.
//!
//! # Who may touch which bytes
//! - **A writer** holds [`Pages`], a [`Slot`] or a [`SlotBatch`]: owned space
//!   that nobody else knows of, written through `&mut`, freed when dropped.
//!   `into_extents` and `into_loc` hand it to the index; from then on its bytes
//!   do not change.
//! - **The index** owns extents and places as plain numbers. It frees each
//!   once, with [`Arena::free_pages`] and [`Arena::free_slot`].
//! - **A reader of pages** takes a [`PageHold`] while the entry is pinned. From
//!   then on each page of it stays as it is until the hold or the last piece
//!   over that page is gone, whether the index frees the pages or not.
//! - **A reader of a slot** keeps the record pinned while it looks at
//!   [`Arena::slot`]: slots have no counts of their own, and the index frees a
//!   slot only when its record is unlinked and unpinned.
//! - **Compaction** holds the slab's pages while it looks at them, and reads
//!   only what a record, found by the slot's tag and locked, says is there.
//!
//! Nothing here waits: an allocation that finds no room, nor a ledger that
//! gives some, is `None`, and the caller evicts and tries again. The listener
//! set by [`Arena::on_free`] tells when trying again is worth it.
//!
//! # Files
//! `extent` and `loc` are the plain numbers; `region` maps page numbers to
//! memory and counts references, over a `backing` (`memfd` or heap); `space`
//! allocates pages through a `page_alloc` and grows against the ledger; `pages`
//! and `hold` are a writer's (`stream_copy`) and a reader's view of them, and `prefetch` is what a reader will want; `class`, `slab`,
//! `class_slabs`, `slots` and `slot` are the same for small things, and
//! `compaction` empties sparse slabs. `adopt` takes the regions of another process over.
//!
//! Lock order: a class of slots, then pages never touched, then free pages. No
//! lock is held while memory is touched or the listener called.

mod adopt;
mod backing;
mod class;
mod class_slabs;
mod compaction;
mod config;
mod extent;
mod hold;
mod loc;
pub mod page_alloc;
mod pages;
mod prefetch;
mod region;
mod slab;
mod slot;
mod slots;
mod space;
mod stats;
mod stream_copy;

#[cfg(test)]
mod churn;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

#[cfg(test)]
pub(crate) use self::adopt::slot_layout;
pub use self::adopt::{Outline, SlabPlace};
pub use self::backing::BackingKind;
pub use self::compaction::Compaction;
pub use self::config::ArenaConfig;
pub use self::extent::{Extent, ExtentList, PAGE_BYTES, PAGE_BYTES_U64, pages_for};
pub use self::hold::PageHold;
pub use self::loc::Loc;
pub use self::pages::Pages;
pub(crate) use self::prefetch::{LINE_BYTES, prefetch};
use self::region::Regions;
pub use self::slot::{SLOT_PAYLOAD_MAX, SLOT_TAIL_MAX, Slot, SlotBatch, slot_bytes_for};
use self::slot::{TAG_BYTES, payload_bytes, payload_class};
use self::slots::Slots;
use self::space::Space;
pub use self::stats::{ArenaStats, SlotClassStats};
#[cfg(doc)]
use crate::ledger::Account;
use crate::ledger::Ledger;

/// Called after pages or slots have become free, without any lock of the arena
/// held, by whichever thread freed them. Often: it should look at one atomic
/// ("does anyone wait?") before it does more, and keep no [`Arena`]: that would
/// be a circle, and the memory would never go.
pub type FreeListener = Arc<dyn Fn() + Send + Sync>;

/// A handle to the arena; cheap to clone. The memory goes when the last handle,
/// hold and piece are gone, and only then is its ledger charge released.
#[derive(Clone)]
pub struct Arena {
    inner: Arc<Inner>,
}

/// What handles, holds and pieces share.
struct Inner {
    space: Space,
    slots: Slots,
    listener: OnceLock<FreeListener>,
    /// Pages in slabs are those committed that are nothing else.
    owned: AtomicU32,
    window_pages: u32,
    /// Whether nobody gets any space.
    frozen: AtomicBool,
    /// See [`Arena::map_ahead`].
    is_mapped_ahead: AtomicBool,
}

impl Arena {
    /// An arena that charges what it touches to `ledger`. The first region is
    /// mapped now, so that a system that has none to give says so at start.
    ///
    /// # Errors
    /// When the region cannot be mapped, or the configuration makes no sense
    /// ([`io::ErrorKind::InvalidInput`]).
    pub fn new(config: &ArenaConfig, ledger: Arc<Ledger>) -> io::Result<Arena> {
        Arena::over(config, ledger, Vec::new())
    }

    /// As [`Arena::new`], over the regions of a predecessor ([`Arena::files`]), of which nothing is charged or known yet:
    /// see [`Arena::adopt_slab`], and [`Arena::settle`] at the end. In the place of one that is no more comes a new one.
    ///
    /// # Errors
    /// As [`Arena::new`], and where a file cannot be such a region.
    pub fn over(
        config: &ArenaConfig,
        ledger: Arc<Ledger>,
        files: Vec<Option<OwnedFd>>,
    ) -> io::Result<Arena> {
        let (region_pages, regions) = config.layout()?;
        let all = u32::try_from(files.len()).unwrap_or(u32::MAX).max(regions);
        if region_pages.checked_mul(all).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let regions = Regions::new(config.backing, region_pages, all);
        for file in files {
            match file {
                Some(file) => regions.adopt(file)?,
                None => drop(regions.map_next()?),
            }
        }
        let window_pages = u32::try_from(config.window_bytes / PAGE_BYTES_U64);
        Ok(Arena {
            inner: Arc::new(Inner {
                space: Space::new(regions, ledger)?,
                slots: Slots::new(),
                listener: OnceLock::new(),
                owned: AtomicU32::new(0),
                window_pages: window_pages.unwrap_or(u32::MAX),
                frozen: AtomicBool::new(false),
                is_mapped_ahead: AtomicBool::new(false),
            }),
        })
    }

    /// Sets who is told when something becomes free. Only the first call
    /// counts; `false` for the others.
    pub fn on_free(&self, listener: FreeListener) -> bool {
        self.inner.listener.set(listener).is_ok()
    }

    /// Takes `pages` pages, in as few and as large extents as there are: of at
    /// least four pages each where free space gives it. `None` when there are
    /// not so many.
    #[must_use]
    pub fn alloc_pages(&self, pages: u32) -> Option<Pages> {
        if self.is_frozen() {
            return None;
        }
        let extents = self.inner.space.alloc(pages)?;
        self.inner.owned.fetch_add(pages, Ordering::Relaxed);
        Some(Pages::new(Arc::clone(&self.inner), extents))
    }

    /// Frees pages that [`Pages::into_extents`] gave to the caller. Those that
    /// readers hold count as held until the last of them lets go.
    ///
    /// # Panics
    /// When one of the pages has no owner: freed twice.
    pub fn free_pages(&self, extents: &[Extent]) {
        self.inner.free_pages(extents);
    }

    /// Holds the pages under the bytes `range` of `extents`, to read them. The
    /// caller owns the extents, or has their entry pinned. `None` when one of
    /// them has no owner (which a pinned entry's always have) or `range` ends
    /// after them.
    #[must_use]
    pub fn hold(&self, extents: &[Extent], range: Range<u64>) -> Option<PageHold> {
        PageHold::open(&self.inner, extents, range)
    }

    /// Takes a slot of at least `bytes` bytes. `None` when there is no room,
    /// or when `bytes` is more than [`SLOT_PAYLOAD_MAX`].
    #[must_use]
    pub fn alloc_slot(&self, bytes: usize) -> Option<Slot> {
        if self.is_frozen() {
            return None;
        }
        let mut got = None;
        self.inner
            .slots
            .alloc(&self.inner.space, payload_class(bytes)?, 1, |loc| {
                got = Some(loc);
            });
        Some(Slot::new(Arc::clone(&self.inner), got?))
    }

    /// A batch to take slots into, for many rows at once; see
    /// [`SlotBatch::alloc`].
    pub fn slot_batch(&self) -> SlotBatch {
        SlotBatch::new(Arc::clone(&self.inner))
    }

    /// Frees a slot that [`Slot::into_loc`] or [`SlotBatch::take`] gave to the
    /// caller.
    ///
    /// # Panics
    /// When the slot is not in use: freed twice.
    pub fn free_slot(&self, loc: Loc) {
        self.inner.free_slots(&[loc]);
    }

    /// Frees many slots; the listener is told once. Cheapest when slots of one
    /// class stand together.
    ///
    /// # Panics
    /// Like [`Arena::free_slot`].
    pub fn free_slots(&self, locs: &[Loc]) {
        self.inner.free_slots(locs);
    }

    /// The bytes of a slot: what was asked for, rounded up to its class. To be
    /// looked at only while the record that has `loc` is pinned, or by who is
    /// to free it: the lifetime is that of the memory, not of the slot.
    #[must_use]
    pub fn slot(&self, loc: Loc) -> &[u8] {
        self.inner.payload(loc)
    }

    /// Has the processor fetch the first bytes of a slot, and the line at its byte `also`. A hint, for any place that once was
    /// a slot's.
    pub fn prefetch(&self, loc: Loc, also: usize) {
        prefetch::slot(&self.inner.space.regions, loc, also);
    }

    /// As [`Arena::prefetch`], of nothing but the line at byte `at`.
    pub fn prefetch_line(&self, loc: Loc, at: usize) {
        prefetch::slot_line(&self.inner.space.regions, loc, at);
    }

    /// The slot's tag: what [`Arena::set_tag`] last said, 0 before; anything at
    /// all in the moment in which another thread allocates the slot. May be read
    /// at any time, also of a slot that another thread is writing to.
    #[must_use]
    pub fn tag(&self, loc: Loc) -> u32 {
        self.inner.tag(loc).load(Ordering::Acquire)
    }

    /// Tags a slot with something that leads to its record (its handle plus
    /// one, say), so that compaction finds who to ask about it. A hint: it
    /// stays when the slot is freed, and the record decides.
    pub fn set_tag(&self, loc: Loc, tag: u32) {
        // What is sealed is not emptied either.
        if !self.inner.space.is_sealed(loc.page()) {
            self.inner.tag(loc).store(tag, Ordering::Release);
        }
    }

    /// The slab best worth emptying: the sparsest whose survivors fit into
    /// other slabs of its class, if at most `fill_max` percent of it are used.
    #[must_use]
    pub fn compact(&self, fill_max: u8) -> Option<Compaction> {
        if self.is_frozen() {
            return None;
        }
        let drained = self.inner.slots.drain(&self.inner.space, fill_max)?;
        Some(Compaction::new(Arc::clone(&self.inner), drained))
    }

    /// Has nobody get space from now on, or lets everybody again: what is freed meanwhile stays as it is.
    pub fn set_frozen(&self, frozen: bool) {
        self.inner.frozen.store(frozen, Ordering::SeqCst);
        if !frozen {
            self.inner.notify();
        }
    }

    /// Whether nobody gets any space.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.inner.frozen.load(Ordering::Relaxed)
    }

    /// Touches pages ahead of need, one step of at most 1 MiB, unless
    /// [`ArenaConfig::window_bytes`] are free already or the ledger has none to
    /// give. `true` when it did: call it again. For a background thread; an
    /// allocation that finds the window empty touches for itself.
    pub fn pretouch(&self) -> bool {
        let touched = self.inner.space.pretouch(self.inner.window_pages);
        if touched {
            self.inner.notify();
        }
        touched
    }

    /// Gives free pages of at least `bytes` back to the system and uncharges
    /// them; fewer when fewer are free. Gives how many bytes that were: 0 means
    /// that something must be evicted first.
    pub fn give_back(&self, bytes: u64) -> u64 {
        let pages = pages_for(bytes).unwrap_or(u32::MAX);
        u64::from(self.inner.space.give_back(pages)) * PAGE_BYTES_U64
    }

    /// Bytes of pages that have no owner any more and that readers still hold,
    /// each counted once.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        u64::from(self.inner.space.regions.held_pages()) * PAGE_BYTES_U64
    }

    /// Bytes touched and charged, free ones included.
    #[must_use]
    pub fn committed_bytes(&self) -> u64 {
        u64::from(self.inner.space.committed_pages()) * PAGE_BYTES_U64
    }

    /// Bytes of pages that are touched and free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.inner.space.warm_pages()) * PAGE_BYTES_U64
    }

    /// Bytes that the arena keeps on the heap about its pages and slots: page
    /// counts, free lists, slot maps. Not charged here: the caller charges them
    /// to [`Account::Index`]. Asks every class in turn (some microseconds): once
    /// in a while, not once a put.
    #[must_use]
    pub fn overhead_bytes(&self) -> u64 {
        self.inner.space.overhead_bytes() + self.inner.slots.overhead_bytes()
    }

    /// Everything counted, read without stopping anyone: the figures may be
    /// some allocations apart.
    #[must_use]
    pub fn stats(&self) -> ArenaStats {
        let classes = self.inner.slots.stats();
        ArenaStats {
            pages_max: self.inner.space.regions.pages_max(),
            pages_committed: self.inner.space.committed_pages(),
            pages_free: self.inner.space.warm_pages(),
            pages_slab: classes.iter().map(|class| class.pages).sum(),
            pages_owned: self.inner.owned.load(Ordering::Relaxed),
            pages_held: self.inner.space.regions.held_pages(),
            slot_bytes_used: classes
                .iter()
                .map(|class| u64::from(class.used) * u64::from(class.slot_bytes))
                .sum(),
            overhead_bytes: self.overhead_bytes(),
            classes,
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("committed_bytes", &self.committed_bytes())
            .field("free_bytes", &self.free_bytes())
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "reads slots for whoever has them pinned")]
impl Inner {
    fn free_pages(&self, extents: &[Extent]) {
        self.owned.fetch_sub(pages_of(extents), Ordering::Relaxed);
        if self.space.disown(extents) {
            self.notify();
        }
    }

    fn unhold(&self, extents: &[Extent]) {
        if self.space.unhold(extents) {
            self.notify();
        }
    }

    fn free_slots(&self, locs: &[Loc]) {
        if !locs.is_empty() {
            self.slots.free(&self.space, locs);
            self.notify();
        }
    }

    fn payload(&self, loc: Loc) -> &[u8] {
        let bytes = payload_bytes(loc);
        // SAFETY: whoever reads a slot owns it, has its record pinned, or holds
        // its slab and has the record locked (the opening comment's rules);
        // its writer has handed it on. The tag is not part of the payload.
        unsafe { self.space.regions.bytes(loc.page(), loc.offset(), bytes) }
    }

    fn tag(&self, loc: Loc) -> &AtomicU32 {
        let offset = loc.offset() + payload_bytes(loc);
        debug_assert_eq!(TAG_BYTES, size_of::<AtomicU32>());
        // SAFETY: the last bytes of a slot, which nothing else reads or writes;
        // the caller has the slot or its slab (the opening comment's rules).
        unsafe { self.space.regions.atomic(loc.page(), offset) }
    }

    /// Tells the listener; no lock is held.
    fn notify(&self) {
        if let Some(listener) = self.listener.get() {
            listener();
        }
    }
}

fn pages_of(extents: &[Extent]) -> u32 {
    extents.iter().map(|extent| extent.pages).sum()
}
