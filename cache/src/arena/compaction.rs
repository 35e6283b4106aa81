//! Emptying sparse slabs.

use super::loc::Loc;
use super::slot::Slot;

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
#[derive(Debug)]
#[must_use = "dropping it ends the attempt"]
pub struct Compaction {
    survivors: Vec<Loc>,
}

impl Compaction {
    /// The slots that were in use when this began.
    #[must_use]
    pub fn survivors(&self) -> &[Loc] {
        &self.survivors
    }

    /// Pages that become free when all survivors have moved.
    #[must_use]
    pub fn pages(&self) -> u32 {
        unimplemented!()
    }

    /// Bytes that moving all survivors copies.
    #[must_use]
    pub fn copy_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// A slot of the same size in another slab. `None` when the class has no
    /// free slot left: no new slab is made, which would gain nothing.
    #[must_use]
    pub fn destination(&self) -> Option<Slot> {
        unimplemented!()
    }
}
