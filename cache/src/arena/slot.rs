//! Slots that a writer owns.

use super::class::{SLOT_BYTES_MAX, class_bytes, class_for};
use super::loc::Loc;

/// Bytes at the end of each slot that are the arena's: the tag.
pub(super) const TAG_BYTES: usize = 4;

/// The most bytes that a slot takes.
pub const SLOT_PAYLOAD_MAX: usize = SLOT_BYTES_MAX - TAG_BYTES;

/// What `bytes` in a slot cost, in bytes; `None` above [`SLOT_PAYLOAD_MAX`].
#[must_use]
pub fn slot_bytes_for(bytes: usize) -> Option<usize> {
    class_for(bytes.checked_add(TAG_BYTES)?).map(class_bytes)
}

/// A slot that nobody else knows of, to be filled; freed when dropped.
/// Its bytes are 16-byte aligned, and what was in them before is still there.
#[derive(Debug)]
#[must_use = "dropping the slot frees it"]
pub struct Slot {
    loc: Loc,
}

impl Slot {
    /// Where it is.
    #[must_use]
    pub fn loc(&self) -> Loc {
        self.loc
    }

    /// Bytes that fit: at least what was asked for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        unimplemented!()
    }

    /// All its bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        unimplemented!()
    }

    /// All its bytes, to read back.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        unimplemented!()
    }

    /// Hands the slot to the caller, who frees it with
    /// [`Arena::free_slot`](super::Arena::free_slot). Its bytes do not change any more.
    #[must_use = "the caller frees the slot"]
    pub fn into_loc(self) -> Loc {
        unimplemented!()
    }
}

/// Slots for many rows at once; those not taken out are freed when it is
/// dropped.
#[derive(Debug)]
#[must_use = "dropping the batch frees its slots"]
pub struct SlotBatch {
    locs: Vec<Option<Loc>>,
}

impl SlotBatch {
    /// Adds `n` slots of at least `bytes` bytes, or as many as there is room
    /// for, and gives how many. Sizes may differ from call to call; a run of
    /// rows of one size is cheapest in one call.
    pub fn alloc(&mut self, bytes: usize, n: usize) -> usize {
        unimplemented!()
    }

    /// Slots added so far, those taken out included: the next one's number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.locs.len()
    }

    /// Whether none was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.locs.is_empty()
    }

    /// All bytes of slot number `at`, to be written.
    ///
    /// # Panics
    /// When there is no such slot, or it was taken out.
    pub fn bytes_mut(&mut self, at: usize) -> &mut [u8] {
        unimplemented!()
    }

    /// Hands slot number `at` to the caller, who frees it with
    /// [`Arena::free_slot`](super::Arena::free_slot).
    ///
    /// # Panics
    /// When there is no such slot, or it was taken out.
    #[must_use = "the caller frees the slot"]
    pub fn take(&mut self, at: usize) -> Loc {
        unimplemented!()
    }
}
