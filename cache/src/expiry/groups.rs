//! Groups of neighbouring records, each with one timer for the first of them that expires.
//!
//! A timer an entry would cost eight bytes each, or four and a heap of stale ones wherever keys are
//! replaced. A group of 32 records has one timer of 12 bytes: 0.4 bytes an entry, none of them ever
//! stale, and none at all where nothing expires. In return, what is due is found among 32 records
//! that lie side by side.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::index::{Budget, Handle};

/// Records of a group: two kilobytes of them.
const RECORDS: u32 = 32;
/// Groups that are allocated at once: 6 KiB, for 16,384 records.
const CHUNK: usize = 512;

/// Every group's timer. Links are kept by the wheel, under its lock.
pub(super) struct Groups {
    chunks: Box<[OnceLock<Box<[Group]>>]>,
    budget: Arc<dyn Budget>,
}

/// Ticks and links; 0 is none of both.
#[derive(Debug, Default)]
struct Group {
    due: AtomicU32,
    prev: AtomicU32,
    next: AtomicU32,
}

/// The group of a record. No group is 0.
pub(super) fn group_of(entry: Handle) -> u32 {
    entry.get() / RECORDS + 1
}

/// The records of a group, whether they are there or not.
pub(super) fn members(group: u32) -> impl Iterator<Item = Handle> {
    let first = (group - 1) * RECORDS;
    (0..RECORDS).filter_map(move |at| Handle::from_raw(first + at))
}

impl Groups {
    pub(super) fn new(entries_max: u32, budget: Arc<dyn Budget>) -> Self {
        // Records come in chunks, so there may be a few thousand more than `entries_max`.
        let groups = entries_max.saturating_add(1 << 14) / RECORDS + 2;
        let chunks = (groups as usize).div_ceil(CHUNK);
        Self {
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            budget,
        }
    }

    /// Whether there is memory for this group's timer; takes some where it is the first.
    pub(super) fn make(&self, group: u32) -> bool {
        let Some(chunk) = self.chunks.get(group as usize / CHUNK) else {
            return false;
        };
        if chunk.get().is_some() {
            return true;
        }
        if !self.budget.charge(CHUNK_BYTES) {
            return false;
        }
        let mut mine = false;
        chunk.get_or_init(|| {
            mine = true;
            (0..CHUNK).map(|_| Group::default()).collect()
        });
        if !mine {
            self.budget.release(CHUNK_BYTES);
        }
        true
    }

    /// The tick at which a group is due; 0 where it has no timer running.
    pub(super) fn due(&self, group: u32) -> u32 {
        self.at(group)
            .map_or(0, |group| group.due.load(Ordering::Relaxed))
    }

    pub(super) fn set_due(&self, group: u32, tick: u32) {
        if let Some(group) = self.at(group) {
            group.due.store(tick, Ordering::Relaxed);
        }
    }

    pub(super) fn prev(&self, group: u32) -> u32 {
        self.at(group)
            .map_or(0, |group| group.prev.load(Ordering::Relaxed))
    }

    pub(super) fn set_prev(&self, group: u32, to: u32) {
        if let Some(group) = self.at(group) {
            group.prev.store(to, Ordering::Relaxed);
        }
    }

    pub(super) fn next(&self, group: u32) -> u32 {
        self.at(group)
            .map_or(0, |group| group.next.load(Ordering::Relaxed))
    }

    pub(super) fn set_next(&self, group: u32, to: u32) {
        if let Some(group) = self.at(group) {
            group.next.store(to, Ordering::Relaxed);
        }
    }

    /// Bytes that are charged.
    pub(super) fn bytes(&self) -> u64 {
        let made = self.chunks.iter().filter(|chunk| chunk.get().is_some());
        made.count() as u64 * CHUNK_BYTES
    }

    fn at(&self, group: u32) -> Option<&Group> {
        self.chunks
            .get(group as usize / CHUNK)?
            .get()?
            .get(group as usize % CHUNK)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.budget.release(self.bytes());
    }
}

const CHUNK_BYTES: u64 = (CHUNK * size_of::<Group>()) as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Unlimited;

    struct Nothing;

    impl Budget for Nothing {
        fn charge(&self, _bytes: u64) -> bool {
            false
        }

        fn release(&self, _bytes: u64) {}
    }

    #[test]
    fn every_record_is_in_one_group() {
        let mut seen = 1;
        for group in 1..5 {
            for member in members(group) {
                assert_eq!((member.get(), group_of(member)), (seen, group));
                seen += 1;
            }
        }
        assert_eq!(seen, 4 * RECORDS);
    }

    #[test]
    fn a_record_costs_less_than_half_a_byte() {
        let groups = Groups::new(1 << 20, Arc::new(Unlimited));
        for record in 1..1 << 20 {
            assert!(groups.make(group_of(Handle::from_raw(record).unwrap())));
        }
        let bytes = groups.bytes();
        assert!(bytes * 2 < 1 << 20, "{bytes}");
    }

    #[test]
    fn without_memory_there_is_no_timer() {
        let groups = Groups::new(100, Arc::new(Nothing));
        assert!(!groups.make(1));
        groups.set_due(1, 7);
        assert_eq!((groups.due(1), groups.bytes()), (0, 0));
    }
}
