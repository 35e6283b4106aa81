//! Slots of all classes, over the pages.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::class::{CLASSES, class_bytes, slab_pages, slab_slots};
use super::class_slabs::{ClassSlabs, Freed};
use super::extent::Extent;
use super::loc::{Loc, UNIT_BYTES};
use super::slab::SlabId;
use super::space::Space;
use super::stats::SlotClassStats;

pub(super) struct Slots {
    classes: Box<[Class]>,
    attempts: AtomicU64,
}

/// A cache line and its neighbour each, so that two classes do not share one.
#[repr(align(128))]
struct Class(Mutex<ClassSlabs>);

/// A slab that is being emptied.
pub(super) struct Drained {
    pub(super) class: u8,
    slab: SlabId,
    attempt: u64,
    pub(super) extent: Extent,
    pub(super) survivors: Vec<Loc>,
}

impl Slots {
    pub(super) fn new() -> Slots {
        let classes = (0..CLASSES).map(|class| {
            let class = u8::try_from(class).unwrap_or(u8::MAX);
            Class(Mutex::new(ClassSlabs::new(class)))
        });
        Slots {
            classes: classes.collect(),
            attempts: AtomicU64::new(0),
        }
    }

    /// Takes up to `n` slots of `class`, and gives how many. New slabs are made
    /// where the class has no free slots.
    pub(super) fn alloc(
        &self,
        space: &Space,
        class: u8,
        n: usize,
        mut each: impl FnMut(Loc),
    ) -> usize {
        let bytes = class_bytes(class);
        let mut place = |page, slot| each(loc_of(page, slot, class, bytes));
        let mut taken = self.class(class).lock().take(n, &mut place);
        while taken < n {
            // Not under the class's lock: pages may have to be touched.
            let Some(extent) = new_slab(space, class) else {
                break;
            };
            let mut slabs = self.class(class).lock();
            let (slab, from_slab) = slabs.add(extent, n - taken, &mut place);
            space
                .regions
                .slab_of(extent.first)
                .store(slab, Ordering::Relaxed);
            taken += from_slab;
            taken += slabs.take(n - taken, &mut place);
        }
        taken
    }

    /// Takes one slot of `class` out of the slabs that there are.
    pub(super) fn alloc_within(&self, class: u8) -> Option<Loc> {
        let bytes = class_bytes(class);
        let mut taken = None;
        self.class(class).lock().take(1, |page, slot| {
            taken = Some(loc_of(page, slot, class, bytes));
        });
        taken
    }

    /// Frees slots, and the slabs that have no others.
    pub(super) fn free(&self, space: &Space, locs: &[Loc]) {
        for run in locs.chunk_by(|a, b| a.class() == b.class()) {
            let class = run[0].class();
            let bytes = class_bytes(class);
            let mut emptied: smallvec::SmallVec<[Extent; 2]> = smallvec::SmallVec::new();
            let mut slabs = self.class(class).lock();
            for loc in run {
                let slab = space.regions.slab_of(loc.page()).load(Ordering::Relaxed);
                let slot = loc.offset() / bytes;
                debug_assert_eq!(slot * bytes, loc.offset(), "a place between two slots");
                let slot = u16::try_from(slot).unwrap_or(u16::MAX);
                if let Freed::Slab(extent) = slabs.put(slab, loc.page(), slot) {
                    emptied.push(extent);
                }
            }
            drop(slabs);
            space.disown(&emptied);
        }
    }

    /// Stops taking from the sparsest slab that at most `fill_max` percent of
    /// are used and whose slots in use fit elsewhere, and holds its pages.
    pub(super) fn drain(&self, space: &Space, fill_max: u8) -> Option<Drained> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let candidates = self.classes.iter().zip(0u8..).filter_map(|(slabs, class)| {
            let candidate = slabs.0.lock().candidate(attempt)?;
            (candidate.fill <= fill_max).then_some((candidate.fill, class))
        });
        let (_, class) = candidates.min()?;
        let mut slabs = self.class(class).lock();
        // Others may have changed it meanwhile.
        let candidate = slabs.candidate(attempt).filter(|it| it.fill <= fill_max)?;
        let bytes = class_bytes(class);
        let slab = slabs.drain(candidate.slab, attempt);
        let extent = slab.extent;
        let survivors = slab
            .used_slots()
            .map(|slot| loc_of(extent.first, slot, class, bytes))
            .collect();
        // Under the lock: the slab's last slot cannot be freed before this.
        let held = space.hold(&[extent]);
        debug_assert!(held, "a slab's pages have an owner");
        Some(Drained {
            class,
            slab: candidate.slab,
            attempt,
            extent,
            survivors,
        })
    }

    /// Ends an attempt; `true` when something became free.
    pub(super) fn undrain(&self, space: &Space, drained: &Drained) -> bool {
        let listed = self
            .class(drained.class)
            .lock()
            .undrain(drained.slab, drained.attempt);
        space.unhold(&[drained.extent]) || listed
    }

    /// The classes that have slabs.
    pub(super) fn stats(&self) -> Vec<SlotClassStats> {
        let classes = self.classes.iter().zip(0u8..).filter_map(|(slabs, class)| {
            let slabs = slabs.0.lock();
            (slabs.live > 0).then(|| SlotClassStats {
                slot_bytes: u32::try_from(class_bytes(class)).unwrap_or(u32::MAX),
                slabs: slabs.live,
                pages: slabs.pages,
                used: slabs.used,
                free: slabs.free,
            })
        });
        classes.collect()
    }

    /// Bytes on the heap.
    pub(super) fn overhead_bytes(&self) -> u64 {
        let slabs = self
            .classes
            .iter()
            .map(|slabs| slabs.0.lock().overhead_bytes());
        (self.classes.len() * size_of::<Class>() + slabs.sum::<usize>()) as u64
    }

    pub(super) fn class(&self, class: u8) -> &Mutex<ClassSlabs> {
        &self.classes[usize::from(class)].0
    }
}

/// Pages for a slab: as many as the class likes, or fewer where there is no
/// such run, though more of them stays unused at the end.
fn new_slab(space: &Space, class: u8) -> Option<Extent> {
    (1..=slab_pages(class))
        .rev()
        .filter(|pages| slab_slots(class, *pages) > 0)
        .find_map(|pages| space.alloc_run(pages))
}

fn loc_of(page: u32, slot: u16, class: u8, bytes: usize) -> Loc {
    let unit = usize::from(slot) * (bytes / UNIT_BYTES);
    Loc::new(page, u16::try_from(unit).unwrap_or(u16::MAX), class)
}
