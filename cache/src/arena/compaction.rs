//! Emptying sparse slabs.

use std::fmt;
use std::sync::Arc;

use super::Inner;
use super::class::class_bytes;
use super::loc::Loc;
use super::slot::Slot;
use super::slots::Drained;

/// A slab that takes no new slots while this lives, and the slots in use when
/// it began. For each survivor, the caller:
/// 1. reads its tag ([`Arena::tag`](super::Arena::tag)) and finds the record;
/// 2. locks the record against pins, and checks that its place is still this
///    one (the slot may have been freed since, the tag may be stale, or a put
///    may still be writing to it: then no record has this place);
/// 3. copies [`Arena::slot`](super::Arena::slot) into [`Compaction::destination`],
///    and sets the new slot's tag;
/// 4. puts the new place into the record, unlocks it, and frees the old slot.
///
/// The pages become free with the last of the slots, but not before this is
/// dropped: until then every slot's bytes stay as they are. A slab that is not
/// empty when this is dropped takes slots again, and is not tried again soon.
#[must_use = "dropping it ends the attempt"]
pub struct Compaction {
    inner: Arc<Inner>,
    drained: Drained,
}

impl Compaction {
    pub(super) fn new(inner: Arc<Inner>, drained: Drained) -> Compaction {
        Compaction { inner, drained }
    }

    /// The slots that were in use when this began.
    #[must_use]
    pub fn survivors(&self) -> &[Loc] {
        &self.drained.survivors
    }

    /// Pages that become free when all survivors have moved.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.drained.extent.pages
    }

    /// Bytes that moving all survivors copies.
    #[must_use]
    pub fn copy_bytes(&self) -> u64 {
        let slots = self.survivors().len() * class_bytes(self.drained.class);
        slots as u64
    }

    /// A slot of the same size in another slab. `None` when the class has no
    /// free slot left: no new slab is made, which would gain nothing.
    #[must_use]
    pub fn destination(&self) -> Option<Slot> {
        let loc = self.inner.slots.alloc_within(self.drained.class)?;
        Some(Slot::new(Arc::clone(&self.inner), loc))
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        if self.inner.slots.undrain(&self.inner.space, &self.drained) {
            self.inner.notify();
        }
    }
}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compaction")
            .field("pages", &self.drained.extent)
            .field("survivors", &self.survivors().len())
            .finish()
    }
}
