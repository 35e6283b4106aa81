//! From page numbers to memory, and who holds each page.
//!
//! A page's count has one bit for its owner (a writer, the index, a slab) and a
//! number for the readers. It is free when both are 0, and whoever takes the
//! last of them away frees it.
#![expect(unsafe_code, reason = "turns page numbers into bytes")]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use super::backing::{self, Backing, BackingKind};
use super::extent::{Extent, ExtentList, PAGE_BYTES};

const OWNED: u32 = 1 << 31;

/// All regions, mapped one after the other and never unmapped.
pub(super) struct Regions {
    kind: BackingKind,
    /// A region's pages are two to this power.
    shift: u32,
    table: Box<[OnceLock<Region>]>,
    mapped: AtomicU32,
    /// Whether there come no more of them for now.
    fixed: AtomicBool,
    /// Pages without an owner that readers hold. For a moment below 0, when the
    /// last reader is faster than the owner's own bookkeeping.
    held: AtomicI64,
}

struct Region {
    base: NonNull<u8>,
    memory: Box<dyn Backing>,
    counts: Box<[AtomicU32]>,
    /// For the first page of a slab, the slab's number in its class.
    slabs: Box<[AtomicU32]>,
    /// Of a sealed region, the pages that somebody needs: those that are left of what was adopted.
    needed: AtomicU32,
}

// SAFETY: `base` points into `memory`, which may be used from any thread.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Regions {
    /// Room for `regions` regions of `region_pages` pages, a power of two.
    pub(super) fn new(kind: BackingKind, region_pages: u32, regions: u32) -> Regions {
        debug_assert!(region_pages.is_power_of_two());
        Regions {
            kind,
            shift: region_pages.trailing_zeros(),
            table: (0..regions).map(|_| OnceLock::new()).collect(),
            mapped: AtomicU32::new(0),
            fixed: AtomicBool::new(false),
            held: AtomicI64::new(0),
        }
    }

    /// Maps the next region and gives its pages, none of them touched; `None`
    /// when all are, or they are fixed. One caller at a time (the lock over pages never touched).
    pub(super) fn map_next(&self) -> io::Result<Option<Extent>> {
        let number = self.mapped.load(Ordering::Relaxed);
        let cell = self.table.get(number as usize);
        let Some(cell) = cell.filter(|_| !self.fixed.load(Ordering::SeqCst)) else {
            return Ok(None);
        };
        let memory = self.kind.map(self.region_pages() as usize * PAGE_BYTES)?;
        self.set(cell, memory);
        self.mapped.store(number + 1, Ordering::Release);
        Ok(Some(self.region(number)))
    }

    /// Maps the next region over a file that another process has made.
    pub(super) fn adopt(&self, file: OwnedFd) -> io::Result<()> {
        let number = self.mapped.load(Ordering::Relaxed);
        let cell = self.table.get(number as usize);
        let cell = cell.ok_or(io::ErrorKind::InvalidInput)?;
        let memory = backing::adopt(file, self.region_pages() as usize * PAGE_BYTES)?;
        self.set(cell, memory);
        self.mapped.store(number + 1, Ordering::Release);
        Ok(())
    }

    fn set(&self, cell: &OnceLock<Region>, memory: Box<dyn Backing>) {
        let zeroes = || {
            (0..self.region_pages())
                .map(|_| AtomicU32::new(0))
                .collect()
        };
        let region = Region {
            base: memory.base(),
            memory,
            counts: zeroes(),
            slabs: zeroes(),
            needed: AtomicU32::new(0),
        };
        assert!(cell.set(region).is_ok(), "two threads map one region");
    }

    /// The pages of a region.
    pub(super) fn region(&self, number: u32) -> Extent {
        Extent {
            first: number * self.region_pages(),
            pages: self.region_pages(),
        }
    }

    /// Lets no more regions be mapped, or lets them be again.
    pub(super) fn set_fixed(&self, fixed: bool) {
        self.fixed.store(fixed, Ordering::SeqCst);
    }

    /// Maps what lies in a region, before it is known what that is.
    pub(super) fn map_all_ahead(&self, number: u32) {
        let region = self.table.get(number as usize).and_then(OnceLock::get);
        if let Some(region) = region {
            region.memory.map_all_ahead();
        }
    }

    /// How many there are so far.
    pub(super) fn mapped(&self) -> u32 {
        self.mapped.load(Ordering::Acquire)
    }

    /// The file of a region, once more; `None` where it has none.
    pub(super) fn file(&self, number: u32) -> io::Result<Option<OwnedFd>> {
        let region = self.table.get(number as usize).and_then(OnceLock::get);
        region.map_or(Ok(None), |region| region.memory.file())
    }

    /// Whether these pages can only be read.
    pub(super) fn is_sealed(&self, extent: Extent) -> bool {
        self.locate(extent).0.memory.is_sealed()
    }

    /// Whether there are such pages, all in one region.
    pub(super) fn has(&self, extent: Extent) -> bool {
        let end = u64::from(extent.first) + u64::from(extent.pages);
        let last = end.saturating_sub(1) >> self.shift;
        extent.pages > 0
            && last == u64::from(extent.first >> self.shift)
            && last < u64::from(self.mapped())
    }

    /// As [`Regions::own`], of pages of which it is not known whether they are free: all of them or none.
    pub(super) fn try_own(&self, extent: Extent) -> bool {
        let counts = self.counts(extent);
        let take = |count: &AtomicU32| {
            count.compare_exchange(0, OWNED, Ordering::AcqRel, Ordering::Acquire)
        };
        let taken = counts.iter().position(|count| take(count).is_err());
        if let Some(taken) = taken {
            for count in &counts[..taken] {
                count.store(0, Ordering::Release);
            }
            return false;
        }
        self.locate(extent)
            .0
            .needed
            .fetch_add(extent.pages, Ordering::AcqRel);
        true
    }

    /// Pages that nobody has, in runs.
    pub(super) fn unowned(&self, number: u32) -> Vec<Extent> {
        let region = self.region(number);
        let mut runs: Vec<Extent> = Vec::new();
        for (page, count) in (region.first..).zip(self.counts(region)) {
            if count.load(Ordering::Acquire) != 0 {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.end() == page => last.pages += 1,
                _ => runs.push(Extent {
                    first: page,
                    pages: 1,
                }),
            }
        }
        runs
    }

    /// Adopted pages are needed no more; says whether none of their region is.
    pub(super) fn leave(&self, extent: Extent) -> bool {
        let needed = &self.locate(extent).0.needed;
        needed.fetch_sub(extent.pages, Ordering::AcqRel) == extent.pages
    }

    /// Gives a sealed region back, of which no page is needed.
    pub(super) fn retire(&self, number: u32) {
        let region = self.table.get(number as usize).and_then(OnceLock::get);
        if let Some(region) = region.filter(|it| it.needed.load(Ordering::Acquire) == 0) {
            region.memory.retire();
        }
    }

    pub(super) fn region_pages(&self) -> u32 {
        1 << self.shift
    }

    pub(super) fn pages_max(&self) -> u32 {
        self.region_pages() * u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn held_pages(&self) -> u32 {
        u32::try_from(self.held.load(Ordering::Acquire).max(0)).unwrap_or(u32::MAX)
    }

    /// Bytes on the heap, without the regions' own memory.
    pub(super) fn overhead_bytes(&self) -> u64 {
        let region = 2 * self.region_pages() as usize * size_of::<AtomicU32>();
        let mapped = self.mapped.load(Ordering::Acquire) as usize;
        (self.table.len() * size_of::<OnceLock<Region>>() + mapped * region) as u64
    }

    pub(super) fn commit(&self, extent: Extent) -> io::Result<()> {
        let (region, at) = self.locate(extent);
        let bytes = extent.pages as usize * PAGE_BYTES;
        region.memory.commit(at * PAGE_BYTES, bytes)
    }

    /// A hint, of pages that were committed.
    pub(super) fn map_ahead(&self, extent: Extent) {
        let (region, at) = self.locate(extent);
        let bytes = extent.pages as usize * PAGE_BYTES;
        region.memory.map_ahead(at * PAGE_BYTES, bytes);
    }

    pub(super) fn decommit(&self, extent: Extent) -> io::Result<()> {
        let (region, at) = self.locate(extent);
        let bytes = extent.pages as usize * PAGE_BYTES;
        region.memory.decommit(at * PAGE_BYTES, bytes)
    }

    /// Whether the memory of `next` follows that of `extent`.
    pub(super) fn follows(&self, extent: Extent, next: Extent) -> bool {
        extent.end() == next.first && !next.first.is_multiple_of(self.region_pages())
    }

    /// Makes free pages owned.
    pub(super) fn own(&self, extent: Extent) {
        for count in self.counts(extent) {
            // A plain store: nobody changes the count of a free page.
            debug_assert_eq!(
                count.load(Ordering::Acquire),
                0,
                "a page in use was allocated"
            );
            count.store(OWNED, Ordering::Release);
        }
    }

    /// Takes the owner away; pages that no reader holds are added to `freed`.
    pub(super) fn disown(&self, extent: Extent, freed: &mut ExtentList) {
        let mut held = 0;
        for (page, count) in (extent.first..).zip(self.counts(extent)) {
            let before = count.fetch_and(!OWNED, Ordering::AcqRel);
            assert!(
                before & OWNED != 0,
                "a page without an owner was freed page=`{page}`"
            );
            if before == OWNED {
                self.push_page(page, freed);
            } else {
                held += 1;
            }
        }
        if held > 0 {
            self.held.fetch_add(held, Ordering::AcqRel);
        }
    }

    /// Adds a reader to each page, or to none when one of them has no owner.
    /// Pages that turn out to be free once more are added to `freed`.
    pub(super) fn hold(&self, extent: Extent, freed: &mut ExtentList) -> bool {
        for (page, count) in (extent.first..).zip(self.counts(extent)) {
            let added = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count & OWNED != 0).then_some(count + 1)
            });
            if added.is_err() {
                if page > extent.first {
                    let pages = page - extent.first;
                    self.unhold(Extent { pages, ..extent }, freed);
                }
                return false;
            }
        }
        true
    }

    /// Adds a reader to a page that the caller already holds.
    pub(super) fn hold_again(&self, page: u32) {
        let extent = Extent {
            first: page,
            pages: 1,
        };
        for count in self.counts(extent) {
            let before = count.fetch_add(1, Ordering::AcqRel);
            debug_assert!(before & !OWNED != 0, "a page is held again that never was");
        }
    }

    /// Takes a reader away from each page; those that nobody has any more are
    /// added to `freed`.
    pub(super) fn unhold(&self, extent: Extent, freed: &mut ExtentList) {
        let mut released = 0;
        for (page, count) in (extent.first..).zip(self.counts(extent)) {
            let before = count.fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before & !OWNED != 0, "a page was let go that nobody held");
            if before == 1 {
                self.push_page(page, freed);
                released += 1;
            }
        }
        if released > 0 {
            self.held.fetch_sub(released, Ordering::AcqRel);
        }
    }

    /// The cell that says which slab a slab's first page belongs to.
    pub(super) fn slab_of(&self, page: u32) -> &AtomicU32 {
        let (region, at) = self.locate(Extent {
            first: page,
            pages: 1,
        });
        &region.slabs[at]
    }

    /// The address of byte `offset` after the start of page `first`, from where
    /// `bytes` bytes are in the same region.
    pub(super) fn address(&self, first: u32, offset: usize, bytes: usize) -> NonNull<u8> {
        let (region, at) = self.locate(Extent { first, pages: 1 });
        let start = at * PAGE_BYTES + offset;
        assert!(
            start
                .checked_add(bytes)
                .is_some_and(|end| end <= self.region_pages() as usize * PAGE_BYTES),
            "bytes after the end of a region page=`{first}` offset=`{offset}` bytes=`{bytes}`"
        );
        // SAFETY: just checked to be within the region's memory.
        unsafe { region.base.add(start) }
    }

    /// Bytes to read.
    ///
    /// # Safety
    /// Nobody writes to them while the slice is used: the caller owns the
    /// pages, holds them, or has pinned the record of the slot they are in.
    pub(super) unsafe fn bytes(&self, first: u32, offset: usize, bytes: usize) -> &[u8] {
        let address = self.address(first, offset, bytes);
        // SAFETY: within a region, which is initialised and lives as long as
        // `self`; the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), bytes) }
    }

    /// Bytes to write.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice is used: the caller
    /// owns the space they are in, and has told nobody of it.
    #[expect(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
    pub(super) unsafe fn bytes_mut(&self, first: u32, offset: usize, bytes: usize) -> &mut [u8] {
        let address = self.address(first, offset, bytes);
        // SAFETY: within a region, which is initialised and lives as long as
        // `self`; the caller has the bytes alone.
        unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), bytes) }
    }

    /// Four bytes as an atomic.
    ///
    /// # Safety
    /// The bytes are a slot's tag: nobody touches them otherwise while their
    /// page is in a slab, and the slab is owned or held by the caller.
    pub(super) unsafe fn atomic(&self, first: u32, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4));
        let address = self.address(first, offset, size_of::<AtomicU32>());
        // SAFETY: aligned, within a region that lives as long as `self`; the
        // caller says that all accesses are atomic.
        unsafe { AtomicU32::from_ptr(address.as_ptr().cast()) }
    }

    fn counts(&self, extent: Extent) -> &[AtomicU32] {
        let (region, at) = self.locate(extent);
        &region.counts[at..at + extent.pages as usize]
    }

    /// The region of an extent, and its first page there.
    fn locate(&self, extent: Extent) -> (&Region, usize) {
        let number = extent.first >> self.shift;
        let at = extent.first & (self.region_pages() - 1);
        debug_assert!(at + extent.pages <= self.region_pages());
        match self.table.get(number as usize).and_then(OnceLock::get) {
            Some(region) => (region, at as usize),
            None => panic!("a page that no region has page=`{}`", extent.first),
        }
    }

    fn push_page(&self, page: u32, freed: &mut ExtentList) {
        let next = Extent {
            first: page,
            pages: 1,
        };
        match freed.last_mut() {
            Some(last) if self.follows(*last, next) => last.pages += 1,
            _ => freed.push(next),
        }
    }
}
