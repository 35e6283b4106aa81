//! Taking over the regions of a predecessor, page by page and slot by slot.
//!
//! The regions are mapped; of their pages nobody knows yet what they are. What is adopted is owned and charged from then
//! on. When all is, the arena is settled: pages that nobody has are given back to the system, and are as if never
//! touched. Until then nothing is given back or written to but tags, so that the predecessor may still go on with it
//! all. Whatever does not fit together (pages of two owners, slots between two, slabs over each other) is refused.
//!
//! A region that was sealed can only be read: nothing new gets its pages, and it goes when none of them is needed.

use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use super::backing;
use super::class::{CLASSES, class_bytes, slab_pages, slab_slots};
use super::class_slabs::ClassSlabs;
use super::extent::{Extent, PAGE_BYTES_U64};
use super::loc::Loc;
use super::page_alloc::PageAlloc as _;
use super::slots::Slots;
use super::space::Space;
use super::{Arena, pages_of};
#[cfg(test)]
use super::{PAGE_BYTES, SLOT_PAYLOAD_MAX, TAG_BYTES};
use crate::ledger::Account;

/// Threads that map regions, at most.
const AHEAD_THREADS_MAX: usize = 4;

/// Where a slab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlabPlace {
    /// Its pages.
    pub extent: Extent,
    /// The class of its slots.
    pub class: u8,
}

/// Everything that says where slots lie in a slab: if it is not the same in two releases, neither can take over from the
/// other.
#[cfg(test)]
pub(crate) fn slot_layout() -> Vec<u32> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let of = |class: u8| [number(class_bytes(class)), slab_pages(class)];
    let classes = (0..CLASSES).filter_map(|class| u8::try_from(class).ok());
    let fixed = [PAGE_BYTES, TAG_BYTES, SLOT_PAYLOAD_MAX].map(number);
    fixed.into_iter().chain(classes.flat_map(of)).collect()
}

/// What a successor must know of an arena before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Bytes of each region.
    pub region_bytes: u64,
    /// All slabs.
    pub slabs: Vec<SlabPlace>,
}

impl Arena {
    /// What a successor must know. Nobody allocates or frees meanwhile, or it is not the truth.
    #[must_use]
    pub fn outline(&self) -> Outline {
        Outline {
            region_bytes: self.region_bytes(),
            slabs: self.inner.slots.places(),
        }
    }

    /// The regions' files, each once more; `None` for one that is no more.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub fn files(&self) -> io::Result<Vec<Option<OwnedFd>>> {
        let regions = &self.inner.space.regions;
        (0..regions.mapped()).map(|at| regions.file(at)).collect()
    }

    /// Lets no more regions be mapped, or lets them be again: [`Arena::files`] are all of them meanwhile.
    pub fn set_regions_fixed(&self, fixed: bool) {
        let space = &self.inner.space;
        // Under the lock of whoever maps one: afterwards nobody does.
        space.with_cold(|_| space.regions.set_fixed(fixed));
    }

    /// Bytes of each region of a predecessor, as its files say; `None` where it has none.
    ///
    /// # Errors
    /// What the system says.
    pub fn region_bytes_of(files: &[Option<OwnedFd>]) -> io::Result<Option<u64>> {
        let file = files.iter().flatten().next();
        file.map(backing::bytes_of).transpose()
    }

    /// Bytes of each region.
    #[must_use]
    pub fn region_bytes(&self) -> u64 {
        u64::from(self.inner.space.regions.region_pages()) * PAGE_BYTES_U64
    }

    /// Maps what lies in adopted regions, on a few threads: the kernel takes a while for each page. Nothing is looked at,
    /// and who has the regions may still change what is in them.
    pub fn map_ahead(&self) {
        let regions = &self.inner.space.regions;
        let next = AtomicU32::new(0);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= regions.mapped() {
                    return;
                }
                regions.map_all_ahead(number);
            }
        };
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
            for _ in 1..threads.min(AHEAD_THREADS_MAX) {
                // Where there is no thread to be had, one does it all.
                let thread = std::thread::Builder::new().name("map ahead".to_owned());
                let _ = thread.spawn_scoped(scope, work);
            }
            work();
        });
        self.inner.is_mapped_ahead.store(true, Ordering::Relaxed);
    }

    /// Takes over a slab, of which no slot is in use yet. False where it cannot be one.
    #[must_use]
    pub fn adopt_slab(&self, slab: SlabPlace) -> bool {
        let SlabPlace { extent, class } = slab;
        let is_slab = usize::from(class) < CLASSES
            && extent.pages <= slab_pages(class)
            && slab_slots(class, extent.pages) > 0;
        let adopted = is_slab && self.inner.space.claim(&[extent]);
        if adopted {
            self.inner.slots.adopt(&self.inner.space, slab);
            // Of each slot something is read soon.
            if !self.inner.is_mapped_ahead.load(Ordering::Relaxed) {
                self.inner.space.regions.map_ahead(extent);
            }
        }
        adopted
    }

    /// The bytes of a slot that may be adopted; `None` where there is no such slot.
    #[must_use]
    pub fn slot_to_adopt(&self, loc: Loc) -> Option<&[u8]> {
        let is_slot = self.inner.slots.is_free(&self.inner.space, loc);
        is_slot.then(|| self.inner.payload(loc))
    }

    /// Takes over a slot, which is the caller's to free. False where there is none, or somebody has it.
    #[must_use]
    pub fn adopt_slot(&self, loc: Loc) -> bool {
        self.inner.slots.claim(&self.inner.space, loc)
    }

    /// Takes over pages, which are the caller's to free: all or none.
    #[must_use]
    pub fn adopt_pages(&self, extents: &[Extent]) -> bool {
        let adopted = self.inner.space.claim(extents);
        if adopted {
            self.inner
                .owned
                .fetch_add(pages_of(extents), Ordering::Relaxed);
        }
        adopted
    }

    /// Ends the taking over: whatever was not adopted is free.
    pub fn settle(&self) {
        self.inner.slots.settle(&self.inner.space);
        self.inner.space.settle();
        self.inner.notify();
    }
}

impl Space {
    /// Owns and charges pages of adopted regions that nobody has: all or none.
    fn claim(&self, extents: &[Extent]) -> bool {
        let all = extents.iter().map(|extent| u64::from(extent.pages));
        let Ok(pages) = u32::try_from(all.sum::<u64>()) else {
            return false;
        };
        if !extents.iter().all(|extent| self.regions.has(*extent)) {
            return false;
        }
        if !self.charge(pages) {
            return false;
        }
        let taken = extents
            .iter()
            .position(|extent| !self.regions.try_own(*extent));
        let Some(taken) = taken else {
            return true;
        };
        // Their pages are uncharged with this; those that were not taken, by hand.
        self.disown(&extents[..taken]);
        self.uncharge(pages_of(&extents[taken..]));
        false
    }

    fn charge(&self, pages: u32) -> bool {
        let bytes = u64::from(pages) * PAGE_BYTES_U64;
        let charged = self.ledger.try_charge(Account::Arena, bytes);
        if charged {
            self.committed.fetch_add(pages, Ordering::AcqRel);
        }
        charged
    }

    /// Whether a page can only be read.
    pub(super) fn is_sealed(&self, page: u32) -> bool {
        let page = Extent {
            first: page,
            pages: 1,
        };
        self.any_sealed.load(Ordering::Relaxed) && self.regions.is_sealed(page)
    }

    /// Lets go of pages that nothing may have now.
    pub(super) fn put_odd(&self, extent: Extent) {
        let is_sealed = self.regions.is_sealed(extent);
        let is_adopting = self.adopting.load(Ordering::Relaxed);
        if is_sealed || is_adopting {
            let is_last = self.regions.leave(extent);
            self.uncharge(extent.pages);
            if is_sealed && is_last && !is_adopting {
                self.regions
                    .retire(extent.first / self.regions.region_pages());
            }
        } else {
            self.with_warm(|warm| warm.free(extent));
        }
    }

    fn settle(&self) {
        for number in 0..self.regions.mapped() {
            if self.regions.is_sealed(self.regions.region(number)) {
                self.regions.retire(number);
                continue;
            }
            for run in self.regions.unowned(number) {
                // What does not go back is charged once more when it is used; that there is a file with it is
                // nothing to fail for.
                let _ = self.regions.decommit(run);
                self.with_cold(|cold| cold.free(run));
            }
        }
        self.adopting.store(false, Ordering::Relaxed);
    }
}

impl Slots {
    fn places(&self) -> Vec<SlabPlace> {
        let classes = (0u8..).zip(self.classes());
        let places = classes.flat_map(|(class, slabs)| {
            let slabs = slabs.lock();
            let extents: Vec<Extent> = slabs.extents().collect();
            extents
                .into_iter()
                .map(move |extent| SlabPlace { extent, class })
        });
        places.collect()
    }

    fn adopt(&self, space: &Space, slab: SlabPlace) {
        let mut slabs = self.class(slab.class).lock();
        let id = slabs.adopt(slab.extent);
        let cell = space.regions.slab_of(slab.extent.first);
        cell.store(id, Ordering::Relaxed);
    }

    /// The slab and number of a slot, where its place is that of one.
    fn find(&self, space: &Space, loc: Loc) -> Option<(u32, u16)> {
        let page = Extent {
            first: loc.page(),
            pages: 1,
        };
        let bytes = class_bytes(loc.class());
        let is_place = usize::from(loc.class()) < CLASSES
            && space.regions.has(page)
            && loc.offset().is_multiple_of(bytes);
        let slab = is_place.then(|| space.regions.slab_of(loc.page()).load(Ordering::Relaxed))?;
        Some((slab, u16::try_from(loc.offset() / bytes).ok()?))
    }

    fn is_free(&self, space: &Space, loc: Loc) -> bool {
        let found = self.find(space, loc);
        found.is_some_and(|(slab, slot)| {
            let slabs = self.class(loc.class()).lock();
            slabs.is_free(slab, loc.page(), slot)
        })
    }

    fn claim(&self, space: &Space, loc: Loc) -> bool {
        let found = self.find(space, loc);
        found.is_some_and(|(slab, slot)| {
            let mut slabs = self.class(loc.class()).lock();
            slabs.claim(slab, loc.page(), slot)
        })
    }

    /// Slabs without slots in use go; of the others the free slots can be taken, unless they cannot be written to.
    fn settle(&self, space: &Space) {
        for slabs in self.classes() {
            let is_sealed = |extent| space.regions.is_sealed(extent);
            let emptied = slabs.lock().settle(is_sealed);
            space.disown(&emptied);
        }
    }

    fn classes(&self) -> impl Iterator<Item = &parking_lot::Mutex<ClassSlabs>> {
        (0..CLASSES).filter_map(|class| Some(self.class(u8::try_from(class).ok()?)))
    }
}
