//! One slab: which of its slots are free.

use smallvec::SmallVec;

use super::extent::Extent;

/// The slab's number in its class.
pub(super) type SlabId = u32;

/// No slab.
pub(super) const NO_SLAB: SlabId = u32::MAX;

/// A class's lists of slabs by how full they are, and the number of none.
pub(super) const BINS: usize = UNLISTED as usize;
pub(super) const UNLISTED: u8 = 8;

/// Slots of one size in a run of pages.
pub(super) struct Slab {
    pub(super) extent: Extent,
    pub(super) slots: u16,
    pub(super) used: u16,
    /// Which list it is in; [`UNLISTED`] when full, being emptied, or no slab.
    pub(super) bin: u8,
    /// Whether it is being emptied.
    pub(super) draining: bool,
    /// Attempts at emptying slabs are counted. The one under way; else the one
    /// before which this slab is not tried again.
    pub(super) attempt: u64,
    pub(super) previous: SlabId,
    pub(super) next: SlabId,
    /// Bit `n` is set when word `n` has a free slot.
    summary: u64,
    /// Bits of free slots: 64 words for the smallest class, one for most.
    free: SmallVec<[u64; 2]>,
}

impl Slab {
    pub(super) fn new(extent: Extent, slots: u16) -> Slab {
        let words = usize::from(slots).div_ceil(64);
        let mut free: SmallVec<[u64; 2]> = SmallVec::from_elem(u64::MAX, words);
        if let Some(last) = free.last_mut() {
            *last >>= (64 - slots % 64) % 64;
        }
        Slab {
            extent,
            slots,
            used: 0,
            bin: UNLISTED,
            draining: false,
            attempt: 0,
            previous: NO_SLAB,
            next: NO_SLAB,
            summary: u64::MAX >> (64 - words),
            free,
        }
    }

    pub(super) fn take(&mut self) -> Option<u16> {
        if self.summary == 0 {
            return None;
        }
        let word = self.summary.trailing_zeros();
        let bits = &mut self.free[word as usize];
        let bit = bits.trailing_zeros();
        *bits &= *bits - 1;
        if *bits == 0 {
            self.summary &= self.summary - 1;
        }
        self.used += 1;
        u16::try_from(word * 64 + bit).ok()
    }

    /// Whether there is such a slot, and nobody has it.
    pub(super) fn is_free(&self, slot: u16) -> bool {
        let word = self.free.get(usize::from(slot / 64));
        word.is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }

    /// Takes this very slot; `false` when that cannot be.
    pub(super) fn claim(&mut self, slot: u16) -> bool {
        if !self.is_free(slot) {
            return false;
        }
        let word = usize::from(slot / 64);
        self.free[word] &= !(1 << (slot % 64));
        if self.free[word] == 0 {
            self.summary &= !(1 << word);
        }
        self.used += 1;
        true
    }

    /// `false` when the slot was free already.
    pub(super) fn put(&mut self, slot: u16) -> bool {
        let (word, bit) = (usize::from(slot / 64), 1u64 << (slot % 64));
        if slot >= self.slots || self.free[word] & bit != 0 {
            return false;
        }
        self.free[word] |= bit;
        self.summary |= 1 << word;
        self.used -= 1;
        true
    }

    /// Makes it no slab, without anything on the heap.
    pub(super) fn clear(&mut self) -> Extent {
        self.slots = 0;
        self.draining = false;
        self.summary = 0;
        self.free = SmallVec::new();
        self.extent
    }

    pub(super) fn free_slots(&self) -> u32 {
        u32::from(self.slots - self.used)
    }

    pub(super) fn used_slots(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.slots).filter(|slot| self.free[usize::from(slot / 64)] >> (slot % 64) & 1 == 0)
    }

    /// Bytes on the heap, the allocator's own included.
    pub(super) fn heap_bytes(&self) -> usize {
        if self.free.spilled() {
            self.free.capacity() * size_of::<u64>() + 16
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_given_once() {
        let mut slab = Slab::new(Extent { first: 0, pages: 1 }, 100);
        let slots: Vec<u16> = std::iter::from_fn(|| slab.take()).collect();
        assert_eq!(slots, (0..100).collect::<Vec<_>>());
        assert!(slab.put(70));
        assert!(!slab.put(70));
        assert!(!slab.put(100));
        assert_eq!(slab.used_slots().count(), 99);
        assert_eq!(slab.take(), Some(70));
    }
}
