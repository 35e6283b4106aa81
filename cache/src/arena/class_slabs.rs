//! All slabs of a class.

use super::class::slab_slots;
use super::extent::Extent;
use super::slab::{BINS, NO_SLAB, Slab, SlabId, UNLISTED};

/// The slabs of a class that have both free and used slots, in lists by how
/// full they are. Slots are taken from the fullest, so that the sparse ones
/// empty by themselves.
pub(super) struct ClassSlabs {
    class: u8,
    slabs: Vec<Slab>,
    /// Numbers that no slab has, linked by `next`.
    vacant: SlabId,
    heads: [SlabId; BINS],
    tails: [SlabId; BINS],
    /// What the class shows, and what its slabs have on the heap.
    pub(super) live: u32,
    pub(super) pages: u32,
    pub(super) used: u32,
    pub(super) free: u32,
    heap_bytes: usize,
}

/// A slab that could be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) slab: SlabId,
    /// Percent of its slots that are used.
    pub(super) fill: u8,
    pub(super) pages: u32,
}

/// What freeing a slot did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freed {
    /// The slab has other slots in use.
    Slot,
    /// It was the slab's last; the pages are the caller's to free.
    Slab(Extent),
}

/// Slabs of a list that are looked at for a candidate.
const LOOKS: usize = 16;

/// Attempts that pass before a slab is tried again that could not be emptied.
const RETRY_AFTER: u64 = 64;

impl ClassSlabs {
    pub(super) fn new(class: u8) -> ClassSlabs {
        ClassSlabs {
            class,
            slabs: Vec::new(),
            vacant: NO_SLAB,
            heads: [NO_SLAB; BINS],
            tails: [NO_SLAB; BINS],
            live: 0,
            pages: 0,
            used: 0,
            free: 0,
            heap_bytes: 0,
        }
    }

    /// Takes up to `n` free slots, each as its slab's first page and its number
    /// there, and gives how many.
    pub(super) fn take(&mut self, n: usize, mut each: impl FnMut(u32, u16)) -> usize {
        let mut taken = 0;
        while taken < n
            && let Some(&id) = self.heads.iter().rev().find(|head| **head != NO_SLAB)
        {
            taken += self.take_from(id, n - taken, &mut each);
        }
        taken
    }

    /// Adds a slab over `extent` and takes up to `n` slots of it, at least one:
    /// a slab without used slots would never be freed.
    pub(super) fn add(
        &mut self,
        extent: Extent,
        n: usize,
        each: impl FnMut(u32, u16),
    ) -> (SlabId, usize) {
        let id = self.put_slab(extent);
        (id, self.take_from(id, n.max(1), each))
    }

    /// Adds a slab whose slots in use are yet to be claimed. It is not taken from until all are settled.
    pub(super) fn adopt(&mut self, extent: Extent) -> SlabId {
        self.put_slab(extent)
    }

    /// Whether a slot of an adopted slab, whose first page is `page`, can be claimed.
    pub(super) fn is_free(&self, id: SlabId, page: u32, slot: u16) -> bool {
        let slab = self.slabs.get(id as usize);
        let slab = slab.filter(|slab| slab.extent.first == page && slab.slots > 0);
        slab.is_some_and(|slab| slab.is_free(slot))
    }

    /// Takes a slot of an adopted slab; `false` when there is none.
    pub(super) fn claim(&mut self, id: SlabId, page: u32, slot: u16) -> bool {
        let slab = self.slabs.get_mut(id as usize);
        let slab = slab.filter(|slab| slab.extent.first == page && slab.slots > 0);
        let claimed = slab.is_some_and(|slab| slab.claim(slot));
        if claimed {
            self.used += 1;
            self.free -= 1;
        }
        claimed
    }

    /// After slabs were adopted: those without slots in use go, and their pages are the caller's to free; the others are
    /// taken from like any, but those that `is_sealed`.
    pub(super) fn settle(&mut self, is_sealed: impl Fn(Extent) -> bool) -> Vec<Extent> {
        let mut emptied = Vec::new();
        for id in 0..u32::try_from(self.slabs.len()).unwrap_or(NO_SLAB) {
            let Some(slab) = self
                .slabs
                .get_mut(id as usize)
                .filter(|slab| slab.slots > 0)
            else {
                continue;
            };
            if slab.used == 0 {
                emptied.push(self.remove(id));
            } else if is_sealed(slab.extent) {
                // Being emptied for as long as it lasts, by an attempt that nobody ends.
                slab.draining = true;
                slab.attempt = u64::MAX;
                self.free -= slab.free_slots();
            } else {
                self.list(id, false);
            }
        }
        emptied
    }

    /// The pages of each slab.
    pub(super) fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        let slabs = self.slabs.iter().filter(|slab| slab.slots > 0);
        slabs.map(|slab| slab.extent)
    }

    fn put_slab(&mut self, extent: Extent) -> SlabId {
        let slab = Slab::new(extent, slab_slots(self.class, extent.pages));
        self.live += 1;
        self.pages += extent.pages;
        self.free += slab.free_slots();
        self.heap_bytes += slab.heap_bytes();
        let id = self.vacant;
        if id == NO_SLAB {
            self.slabs.push(slab);
            u32::try_from(self.slabs.len() - 1).unwrap_or(NO_SLAB)
        } else {
            self.vacant = self.slabs[id as usize].next;
            self.slabs[id as usize] = slab;
            id
        }
    }

    /// Frees a slot of slab `id`, whose first page is `page`.
    ///
    /// # Panics
    /// When there is no such slot in use.
    pub(super) fn put(&mut self, id: SlabId, page: u32, slot: u16) -> Freed {
        let found = self.slabs.get_mut(id as usize);
        let slab = match found.filter(|slab| slab.extent.first == page && slab.slots > 0) {
            Some(slab) => slab,
            None => panic!("a slot of no slab was freed page=`{page}` slot=`{slot}`"),
        };
        assert!(
            slab.put(slot),
            "a slot that is not in use was freed page=`{page}` slot=`{slot}`"
        );
        self.used -= 1;
        if !slab.draining {
            self.free += 1;
        }
        if slab.used == 0 {
            return Freed::Slab(self.remove(id));
        }
        self.list(id, false);
        Freed::Slot
    }

    /// The sparsest slab of those looked at whose slots in use fit into other
    /// slabs, `attempts` attempts at emptying having been made.
    pub(super) fn candidate(&self, attempts: u64) -> Option<Candidate> {
        self.heads.iter().find_map(|head| {
            self.from(*head)
                .take(LOOKS)
                .filter(|(_, slab)| attempts >= slab.attempt)
                .filter(|(_, slab)| self.free - slab.free_slots() >= u32::from(slab.used))
                .map(|(id, slab)| Candidate {
                    slab: id,
                    fill: u8::try_from(u32::from(slab.used) * 100 / u32::from(slab.slots))
                        .unwrap_or(100),
                    pages: slab.extent.pages,
                })
                .min_by_key(|candidate| candidate.fill)
        })
    }

    /// Starts attempt number `attempt` at emptying a candidate: it is
    /// no longer taken from.
    pub(super) fn drain(&mut self, id: SlabId, attempt: u64) -> &Slab {
        self.unlist(id);
        let slab = &mut self.slabs[id as usize];
        slab.draining = true;
        slab.attempt = attempt;
        self.free -= slab.free_slots();
        slab
    }

    /// Ends the attempt. `true` when the slab is still there and has free slots
    /// again.
    pub(super) fn undrain(&mut self, id: SlabId, attempt: u64) -> bool {
        let Some(slab) = self.slabs.get_mut(id as usize) else {
            return false;
        };
        if !slab.draining || slab.attempt != attempt {
            return false;
        }
        slab.draining = false;
        slab.attempt = attempt + RETRY_AFTER;
        let free = slab.free_slots();
        self.free += free;
        self.list(id, false);
        free > 0
    }

    /// Bytes on the heap.
    pub(super) fn overhead_bytes(&self) -> usize {
        self.slabs.capacity() * size_of::<Slab>() + self.heap_bytes
    }

    fn take_from(&mut self, id: SlabId, n: usize, mut each: impl FnMut(u32, u16)) -> usize {
        let slab = &mut self.slabs[id as usize];
        let before = slab.used;
        let mut taken = 0;
        while taken < n
            && let Some(slot) = slab.take()
        {
            each(slab.extent.first, slot);
            taken += 1;
        }
        let now = u32::from(slab.used - before);
        self.used += now;
        self.free -= now;
        self.list(id, true);
        taken
    }

    fn remove(&mut self, id: SlabId) -> Extent {
        self.unlist(id);
        let slab = &mut self.slabs[id as usize];
        self.live -= 1;
        self.pages -= slab.extent.pages;
        if !slab.draining {
            self.free -= slab.free_slots();
        }
        self.heap_bytes -= slab.heap_bytes();
        let extent = slab.clear();
        slab.next = self.vacant;
        self.vacant = id;
        if self.live == 0 {
            // Sizes have moved on: what the class kept is not kept for ever.
            self.slabs = Vec::new();
            self.vacant = NO_SLAB;
        }
        extent
    }

    /// Puts the slab into the list it belongs to: at the front of it when its
    /// turn is now, else at the end.
    fn list(&mut self, id: SlabId, front: bool) {
        let slab = &self.slabs[id as usize];
        let full = slab.used == slab.slots;
        let bin = if full || slab.draining {
            UNLISTED
        } else {
            u8::try_from(usize::from(slab.used) * BINS / usize::from(slab.slots))
                .unwrap_or(UNLISTED)
        };
        if bin == slab.bin {
            return;
        }
        self.unlist(id);
        if bin == UNLISTED {
            return;
        }
        let at = usize::from(bin);
        let (previous, next) = if front {
            (NO_SLAB, self.heads[at])
        } else {
            (self.tails[at], NO_SLAB)
        };
        match self.slabs.get_mut(previous as usize) {
            Some(slab) => slab.next = id,
            None => self.heads[at] = id,
        }
        match self.slabs.get_mut(next as usize) {
            Some(slab) => slab.previous = id,
            None => self.tails[at] = id,
        }
        let slab = &mut self.slabs[id as usize];
        (slab.bin, slab.previous, slab.next) = (bin, previous, next);
    }

    fn unlist(&mut self, id: SlabId) {
        let slab = &mut self.slabs[id as usize];
        let (bin, previous, next) = (usize::from(slab.bin), slab.previous, slab.next);
        if slab.bin == UNLISTED {
            return;
        }
        (slab.bin, slab.previous, slab.next) = (UNLISTED, NO_SLAB, NO_SLAB);
        match self.slabs.get_mut(previous as usize) {
            Some(slab) => slab.next = next,
            None => self.heads[bin] = next,
        }
        match self.slabs.get_mut(next as usize) {
            Some(slab) => slab.previous = previous,
            None => self.tails[bin] = previous,
        }
    }

    fn from(&self, head: SlabId) -> impl Iterator<Item = (SlabId, &Slab)> + '_ {
        let mut at = head;
        std::iter::from_fn(move || {
            let id = at;
            let slab = self.slabs.get(id as usize)?;
            at = slab.next;
            Some((id, slab))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::class::class_for;

    fn slab_at(first: u32) -> Extent {
        Extent { first, pages: 1 }
    }

    /// 64 slots of 1 KiB a slab.
    fn class() -> ClassSlabs {
        ClassSlabs::new(class_for(1024).unwrap())
    }

    fn fill(slabs: &mut ClassSlabs, first: u32) -> SlabId {
        let (id, taken) = slabs.add(slab_at(first), 100, |page, _| assert_eq!(page, first));
        assert_eq!(taken, 64);
        id
    }

    #[test]
    fn the_fullest_slab_is_taken_from_and_the_sparsest_offered() {
        let mut slabs = class();
        let (sparse, dense) = (fill(&mut slabs, 10), fill(&mut slabs, 20));
        for slot in 0..40 {
            slabs.put(sparse, 10, slot);
        }
        assert_eq!(slabs.candidate(0), None, "the survivors fit nowhere");
        for slot in 0..24 {
            slabs.put(dense, 20, slot);
        }
        let candidate = slabs.candidate(0).unwrap();
        assert_eq!((candidate.slab, candidate.fill), (sparse, 37));
        slabs.take(1, |page, slot| assert_eq!((page, slot), (20, 0)));
        assert_eq!(slabs.candidate(0), None, "one slot too few");
    }

    #[test]
    fn a_slab_being_emptied_takes_nothing_and_goes_with_its_last_slot() {
        let mut slabs = class();
        let (sparse, dense) = (fill(&mut slabs, 10), fill(&mut slabs, 20));
        for slot in 0..62 {
            slabs.put(sparse, 10, slot);
            slabs.put(dense, 20, slot);
        }
        let survivors: Vec<u16> = slabs.drain(sparse, 1).used_slots().collect();
        assert_eq!(survivors, [62, 63]);
        slabs.take(2, |page, _| assert_eq!(page, 20));
        assert_eq!(slabs.put(sparse, 10, 62), Freed::Slot);
        assert_eq!(slabs.put(sparse, 10, 63), Freed::Slab(slab_at(10)));
        assert!(!slabs.undrain(sparse, 1));
        assert_eq!((slabs.live, slabs.used, slabs.free), (1, 4, 60));
    }

    #[test]
    fn a_slab_that_could_not_be_emptied_waits() {
        let mut slabs = class();
        let (sparse, dense) = (fill(&mut slabs, 10), fill(&mut slabs, 20));
        for slot in 0..62 {
            slabs.put(sparse, 10, slot);
        }
        for slot in 0..40 {
            slabs.put(dense, 20, slot);
        }
        slabs.drain(sparse, 1);
        assert!(slabs.undrain(sparse, 1));
        assert_eq!(slabs.candidate(2).map(|found| found.slab), Some(dense));
        assert_eq!(slabs.candidate(65).map(|found| found.slab), Some(sparse));
        assert_eq!((slabs.used, slabs.free), (26, 102));
    }

    #[test]
    #[should_panic(expected = "not in use")]
    fn freeing_twice_is_noticed() {
        let mut slabs = class();
        let id = fill(&mut slabs, 10);
        slabs.put(id, 10, 5);
        slabs.put(id, 10, 5);
    }
}
