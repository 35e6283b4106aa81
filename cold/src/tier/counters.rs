//! What an operator sees of the tier.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Inner;
use super::others::Others;
use crate::index::ColdIndex;
use crate::store::StoreCounters;

/// What happened since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) written: Count,
    pub(super) written_bytes: Count,
    pub(super) packed: Count,
    pub(super) packed_bytes: Count,
    pub(super) packed_file_bytes: Count,
    pub(super) segments: Count,
    pub(super) dropped: Count,
    pub(super) dropped_bytes: Count,
    pub(super) failed_writes: Count,
    pub(super) hits: Count,
    pub(super) hits_queued: Count,
    pub(super) read_bytes: Count,
    pub(super) promoted: Count,
    pub(super) damaged: Count,
    pub(super) failed_reads: Count,
    pub(super) forgotten: Count,
    pub(super) rewritten: Count,
    pub(super) segments_dropped: Count,
    pub(super) given_up: Count,
    pub(super) orphans: Count,
    pub(super) hits_elsewhere: Count,
    pub(super) hidden: Count,
    pub(super) warmed: Count,
    pub(super) warmed_bytes: Count,
    /// Memory is being warmed, now.
    pub(super) warming: Count,
    /// Writes that have failed and are tried again, now.
    pub(super) failing: Count,
}

/// A number that several threads count.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gauges, and counters since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColdStats {
    /// Entries that can be read from the store, those of cleared namespaces that were not swept yet
    /// among them.
    pub entries: u64,
    /// Entries on their way down.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Bytes that the index has in memory.
    pub index_bytes: u64,
    /// Whether the index is there: until then nothing is found below.
    pub ready: bool,
    /// Whether writes fail, or a later start has taken over: what is evicted may be lost.
    pub degraded: bool,
    /// Entries of other servers that can be read, but for what this one has hidden of them.
    pub also_entries: u64,
    /// Other servers' prefixes of which nothing is found: they were not read yet, or cannot be.
    pub also_unread: u64,
    /// Whether entries of the last run are being brought into memory.
    pub warming: bool,
    /// Entries written.
    pub written: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Of the entries written, those that lie compressed.
    pub packed: u64,
    /// Their bytes before that.
    pub packed_bytes: u64,
    /// Their bytes after that.
    pub packed_file_bytes: u64,
    /// Segments written.
    pub segments: u64,
    /// Entries that were let go because too much was on its way already.
    pub dropped: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Segments whose write failed.
    pub failed_writes: u64,
    /// Gets that were answered from the store.
    pub hits: u64,
    /// Gets that were answered out of the queue.
    pub hits_queued: u64,
    /// Bytes of tensors read from the store.
    pub read_bytes: u64,
    /// Entries that came back into memory.
    pub promoted: u64,
    /// Entries whose bytes were not those that were written.
    pub damaged: u64,
    /// Reads that the store did not answer.
    pub failed_reads: u64,
    /// Entries that were replaced, deleted or cleared.
    pub forgotten: u64,
    /// Segments that were rewritten, because little of them was alive.
    pub rewritten: u64,
    /// Segments that are no more.
    pub segments_dropped: u64,
    /// Entries that were given up for the limit of the store.
    pub given_up: u64,
    /// Objects of an earlier start that were never acknowledged, and were removed.
    pub orphans: u64,
    /// Of the gets answered from the store, those with another server's entry.
    pub also_hits: u64,
    /// Names and prefixes of names that others have and are not to be found any more.
    pub also_hidden: u64,
    /// Entries of the last run that were brought into memory at the start; no gets.
    pub warmed: u64,
    /// Their bytes.
    pub warmed_bytes: u64,
    /// Requests to the store.
    pub store: StoreCounters,
}

impl Inner {
    pub(super) fn stats(&self) -> ColdStats {
        let (counters, index) = (&self.counters, self.index.get().map(|index| &**index));
        let others = self.others.as_ref().map(Others::figures);
        let (also_entries, also_unread, also_bytes) = others.unwrap_or_default();
        ColdStats {
            entries: index.map_or(0, ColdIndex::len),
            queued: self.queue.entries(),
            queued_bytes: self.queue.bytes(),
            index_bytes: index.map_or(0, ColdIndex::resident_bytes) + also_bytes,
            also_entries,
            also_unread,
            also_hits: counters.hits_elsewhere.get(),
            also_hidden: counters.hidden.get(),
            ready: index.is_some(),
            degraded: counters.failing.get() > 0 || self.trust.is_lost() || self.fence.is_lost(),
            warming: counters.warming.get() > 0,
            written: counters.written.get(),
            written_bytes: counters.written_bytes.get(),
            packed: counters.packed.get(),
            packed_bytes: counters.packed_bytes.get(),
            packed_file_bytes: counters.packed_file_bytes.get(),
            segments: counters.segments.get(),
            dropped: counters.dropped.get(),
            dropped_bytes: counters.dropped_bytes.get(),
            failed_writes: counters.failed_writes.get(),
            hits: counters.hits.get(),
            hits_queued: counters.hits_queued.get(),
            read_bytes: counters.read_bytes.get(),
            promoted: counters.promoted.get(),
            damaged: counters.damaged.get(),
            failed_reads: counters.failed_reads.get(),
            forgotten: counters.forgotten.get(),
            rewritten: counters.rewritten.get(),
            segments_dropped: counters.segments_dropped.get(),
            given_up: counters.given_up.get(),
            orphans: counters.orphans.get(),
            warmed: counters.warmed.get(),
            warmed_bytes: counters.warmed_bytes.get(),
            store: self.store.counters(),
        }
    }
}
