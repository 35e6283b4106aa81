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
//! and `hold` are a writer's and a reader's view of them; `class`, `slab`,
//! `slots` and `slot` are the same for small things, `compaction` empties
//! sparse slabs.
//!
//! Lock order: a class of slots, then pages never touched, then free pages. No
//! lock is held while memory is touched or the listener called.

mod backing;
mod class;
mod compaction;
mod extent;
mod hold;
mod loc;
pub mod page_alloc;
mod pages;
mod slot;
mod stats;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use self::backing::BackingKind;
pub use self::compaction::Compaction;
pub use self::extent::{Extent, ExtentList, PAGE_BYTES, PAGE_BYTES_U64, pages_for};
pub use self::hold::PageHold;
pub use self::loc::Loc;
pub use self::pages::Pages;
pub use self::slot::{SLOT_PAYLOAD_MAX, Slot, SlotBatch, slot_bytes_for};
pub use self::stats::{ArenaStats, SlotClassStats};
use crate::ledger::{Account, Ledger};

/// Called after pages or slots have become free, without any lock of the arena
/// held, by whichever thread freed them. Often: it should look at one atomic
/// ("does anyone wait?") before it does more.
pub type FreeListener = Arc<dyn Fn() + Send + Sync>;

/// How an arena is laid out.
#[derive(Debug, Clone)]
pub struct ArenaConfig {
    /// The most bytes that the arena may ever have touched at once; the ledger
    /// may leave it less. Rounded up to whole regions.
    pub bytes_max: u64,
    /// Bytes of a region, a power of two, at least four pages. `None`: 64 MiB,
    /// less for a small arena and up to 256 MiB for a large one.
    pub region_bytes: Option<u64>,
    /// What the regions are made of.
    pub backing: BackingKind,
    /// Bytes that [`Arena::pretouch`] keeps touched and free ahead of what has
    /// been allocated. Charged like the rest.
    pub window_bytes: u64,
}

impl ArenaConfig {
    /// The defaults for an arena of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> ArenaConfig {
        ArenaConfig {
            bytes_max,
            region_bytes: None,
            backing: BackingKind::default(),
            window_bytes: (bytes_max / 64).min(8 << 20),
        }
    }

    /// Sets what the regions are made of.
    #[must_use]
    pub fn with_backing(mut self, backing: BackingKind) -> ArenaConfig {
        self.backing = backing;
        self
    }

    /// Sets the bytes of a region.
    #[must_use]
    pub fn with_region_bytes(mut self, bytes: u64) -> ArenaConfig {
        self.region_bytes = Some(bytes);
        self
    }
}

/// A handle to the arena; cheap to clone. The memory goes when the last handle,
/// hold and piece are gone, and only then is its ledger charge released.
#[derive(Clone)]
pub struct Arena {
    inner: Arc<Inner>,
}

struct Inner;

impl Arena {
    /// An arena that charges what it touches to `ledger`. The first region is
    /// mapped now, so that a system that has none to give says so at start.
    ///
    /// # Errors
    /// When the region cannot be mapped, or the configuration makes no sense
    /// ([`io::ErrorKind::InvalidInput`]).
    pub fn new(config: &ArenaConfig, ledger: Arc<Ledger>) -> io::Result<Arena> {
        unimplemented!()
    }

    /// Sets who is told when something becomes free. Only the first call
    /// counts; `false` for the others.
    pub fn on_free(&self, listener: FreeListener) -> bool {
        unimplemented!()
    }

    /// Takes `pages` pages, in as few and as large extents as there are: of at
    /// least four pages each where free space gives it. `None` when there are
    /// not so many.
    #[must_use]
    pub fn alloc_pages(&self, pages: u32) -> Option<Pages> {
        unimplemented!()
    }

    /// Frees pages that [`Pages::into_extents`] gave to the caller. Those that
    /// readers hold count as held until the last of them lets go.
    ///
    /// # Panics
    /// When one of the pages has no owner: freed twice.
    pub fn free_pages(&self, extents: &[Extent]) {
        unimplemented!()
    }

    /// Holds the pages under the bytes `range` of `extents`, to read them. The
    /// caller owns the extents, or has their entry pinned. `None` when one of
    /// them has no owner (which a pinned entry's always have) or `range` ends
    /// after them.
    #[must_use]
    pub fn hold(&self, extents: &[Extent], range: Range<u64>) -> Option<PageHold> {
        unimplemented!()
    }

    /// Takes a slot of at least `bytes` bytes. `None` when there is no room,
    /// or when `bytes` is more than [`SLOT_PAYLOAD_MAX`].
    #[must_use]
    pub fn alloc_slot(&self, bytes: usize) -> Option<Slot> {
        unimplemented!()
    }

    /// A batch to take slots into, for many rows at once; see
    /// [`SlotBatch::alloc`].
    #[must_use]
    pub fn slot_batch(&self) -> SlotBatch {
        unimplemented!()
    }

    /// Frees a slot that [`Slot::into_loc`] or [`SlotBatch::take`] gave to the
    /// caller.
    ///
    /// # Panics
    /// When the slot is not in use: freed twice.
    pub fn free_slot(&self, loc: Loc) {
        unimplemented!()
    }

    /// Frees many slots; the listener is told once. Cheapest when slots of one
    /// class stand together.
    ///
    /// # Panics
    /// Like [`Arena::free_slot`].
    pub fn free_slots(&self, locs: &[Loc]) {
        unimplemented!()
    }

    /// The bytes of a slot: what was asked for, rounded up to its class. To be
    /// looked at only while the record that has `loc` is pinned, or by who is
    /// to free it: the lifetime is that of the memory, not of the slot.
    #[must_use]
    pub fn slot(&self, loc: Loc) -> &[u8] {
        unimplemented!()
    }

    /// The slot's tag: what [`Arena::set_tag`] last said, 0 before. May be read
    /// at any time, also of a slot that another thread is writing to.
    #[must_use]
    pub fn tag(&self, loc: Loc) -> u32 {
        unimplemented!()
    }

    /// Tags a slot with something that leads to its record (its handle plus
    /// one, say), so that compaction finds who to ask about it. A hint: it
    /// stays when the slot is freed, and the record decides.
    pub fn set_tag(&self, loc: Loc, tag: u32) {
        unimplemented!()
    }

    /// The slab best worth emptying: the sparsest whose survivors fit into
    /// other slabs of its class, if at most `fill_max` percent of it are used.
    #[must_use]
    pub fn compact(&self, fill_max: u8) -> Option<Compaction> {
        unimplemented!()
    }

    /// Touches pages ahead of need, one step of at most 1 MiB, unless
    /// [`ArenaConfig::window_bytes`] are free already or the ledger has none to
    /// give. `true` when it did: call it again. For a background thread; an
    /// allocation that finds the window empty touches for itself.
    pub fn pretouch(&self) -> bool {
        unimplemented!()
    }

    /// Gives free pages of at least `bytes` back to the system and uncharges
    /// them; fewer when fewer are free. Gives how many bytes that were: 0 means
    /// that something must be evicted first.
    pub fn give_back(&self, bytes: u64) -> u64 {
        unimplemented!()
    }

    /// Bytes of pages that have no owner any more and that readers still hold,
    /// each counted once.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes touched and charged, free ones included.
    #[must_use]
    pub fn committed_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes of pages that are touched and free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes that the arena keeps on the heap about its pages and slots: page
    /// counts, free lists, slot maps. Not charged here: the caller charges them
    /// to [`Account::Index`].
    #[must_use]
    pub fn overhead_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Everything counted, read without stopping anyone: the figures may be
    /// some allocations apart.
    #[must_use]
    pub fn stats(&self) -> ArenaStats {
        unimplemented!()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").finish_non_exhaustive()
    }
}
