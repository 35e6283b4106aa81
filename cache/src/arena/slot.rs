//! Slots that a writer owns.
#![expect(unsafe_code, reason = "reads and writes the slots it owns")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inner;
use super::class::{SLOT_BYTES_MAX, class_bytes, class_for};
use super::loc::Loc;

/// Bytes at the end of each slot that are the arena's: the tag.
pub(super) const TAG_BYTES: usize = 4;

/// The most bytes that a slot takes.
pub const SLOT_PAYLOAD_MAX: usize = SLOT_BYTES_MAX - TAG_BYTES;

/// Bytes after the last whole page of a tensor that still cost less in a slot
/// than in a page of their own. In `churn`, tensors of 32 to 256 KiB fill 93 %
/// of the arena with this, and 88 % where slots end at 32 KiB.
pub const SLOT_TAIL_MAX: usize = 56 * 1024 - TAG_BYTES;

/// What `bytes` in a slot cost, in bytes; `None` above [`SLOT_PAYLOAD_MAX`].
#[must_use]
pub fn slot_bytes_for(bytes: usize) -> Option<usize> {
    payload_class(bytes).map(class_bytes)
}

/// The class for a payload of `bytes` bytes.
pub(super) fn payload_class(bytes: usize) -> Option<u8> {
    class_for(bytes.checked_add(TAG_BYTES)?)
}

/// The payload of a slot of this place.
pub(super) fn payload_bytes(loc: Loc) -> usize {
    class_bytes(loc.class()) - TAG_BYTES
}

/// A slot that nobody else knows of, to be filled; freed when dropped.
/// Its bytes are 16-byte aligned, and what was in them before is still there.
#[must_use = "dropping the slot frees it"]
pub struct Slot {
    inner: Arc<Inner>,
    loc: Loc,
    /// Whether it is still this value's to free.
    owned: bool,
}

impl Slot {
    pub(super) fn new(inner: Arc<Inner>, loc: Loc) -> Slot {
        inner.tag(loc).store(0, Ordering::Release);
        Slot {
            inner,
            loc,
            owned: true,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn loc(&self) -> Loc {
        self.loc
    }

    /// Bytes that fit: at least what was asked for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        payload_bytes(self.loc)
    }

    /// All its bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: this value owns the slot, nobody else knows of it, and the
        // slice borrows it exclusively.
        unsafe { payload_mut(&self.inner, self.loc) }
    }

    /// All its bytes, to read back.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.inner.payload(self.loc)
    }

    /// Hands the slot to the caller, who frees it with
    /// [`Arena::free_slot`](super::Arena::free_slot). Its bytes do not change any more.
    #[must_use = "the caller frees the slot"]
    pub fn into_loc(mut self) -> Loc {
        self.owned = false;
        self.loc
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.owned {
            self.inner.free_slots(&[self.loc]);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.loc).finish()
    }
}

/// Slots for many rows at once; those not taken out are freed when it is
/// dropped.
#[must_use = "dropping the batch frees its slots"]
pub struct SlotBatch {
    inner: Arc<Inner>,
    locs: Vec<Option<Loc>>,
}

impl SlotBatch {
    pub(super) fn new(inner: Arc<Inner>) -> SlotBatch {
        SlotBatch {
            inner,
            locs: Vec::new(),
        }
    }

    /// Adds `n` slots of at least `bytes` bytes, or as many as there is room
    /// for, and gives how many: 0 when `bytes` is more than
    /// [`SLOT_PAYLOAD_MAX`]. Sizes may differ from call to call; a run of rows
    /// of one size is cheapest in one call.
    pub fn alloc(&mut self, bytes: usize, n: usize) -> usize {
        let Some(class) = payload_class(bytes) else {
            return 0;
        };
        if self.inner.frozen.load(Ordering::Relaxed) {
            return 0;
        }
        let start = self.locs.len();
        let locs = &mut self.locs;
        let inner = &self.inner;
        let got = inner
            .slots
            .alloc(&inner.space, class, n, |loc| locs.push(Some(loc)));
        for loc in self.locs[start..].iter().flatten() {
            inner.tag(*loc).store(0, Ordering::Release);
        }
        got
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
        let loc = self.locs.get(at).copied().flatten();
        match loc {
            // SAFETY: this value owns the slot, nobody else knows of it, and
            // the slice borrows it exclusively.
            Some(loc) => unsafe { payload_mut(&self.inner, loc) },
            None => panic!("no such slot in the batch at=`{at}`"),
        }
    }

    /// Hands slot number `at` to the caller, who frees it with
    /// [`Arena::free_slot`](super::Arena::free_slot).
    ///
    /// # Panics
    /// When there is no such slot, or it was taken out.
    #[must_use = "the caller frees the slot"]
    pub fn take(&mut self, at: usize) -> Loc {
        match self.locs.get_mut(at).and_then(Option::take) {
            Some(loc) => loc,
            None => panic!("no such slot in the batch at=`{at}`"),
        }
    }

    /// Forgets the slots that were taken out, and frees the others: an empty
    /// batch to use again.
    pub fn clear(&mut self) {
        let mut left: Vec<Loc> = self.locs.drain(..).flatten().collect();
        if !left.is_empty() {
            left.sort_unstable_by_key(|loc| loc.class());
            self.inner.free_slots(&left);
        }
    }
}

impl Drop for SlotBatch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for SlotBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlotBatch").field(&self.locs).finish()
    }
}

/// A slot's payload, to be written.
///
/// # Safety
/// The caller owns the slot, has told nobody of it, and borrows itself for as
/// long as the slice.
#[expect(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
unsafe fn payload_mut(inner: &Inner, loc: Loc) -> &mut [u8] {
    let bytes = payload_bytes(loc);
    let regions = &inner.space.regions;
    // SAFETY: the caller's promise; the tag is not part of the payload.
    unsafe { regions.bytes_mut(loc.page(), loc.offset(), bytes) }
}
