//! Which keys were read from below lately: what is read a second time stays in memory.

use std::sync::atomic::{AtomicU32, Ordering};

/// A tag of each key read, in as many places as there are; a later key takes the place of one before.
/// What is taken for seen though it was not costs a copy, nothing else.
pub(super) struct Seen {
    tags: Box<[AtomicU32]>,
}

/// 256 KiB.
const PLACES: usize = 1 << 16;

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            tags: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Whether this hash was asked for before, and not too many others since.
    pub(super) fn again(&self, hash: u64) -> bool {
        let place = usize::try_from(hash % PLACES as u64).unwrap_or(0);
        // Never 0, which no key has.
        let tag = u32::try_from(hash >> 32).unwrap_or(0) | 1;
        self.tags
            .get(place)
            .is_some_and(|at| at.swap(tag, Ordering::Relaxed) == tag)
    }
}
