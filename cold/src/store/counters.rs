//! What was asked of a store, and what came of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// All since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Tries, the first of each request too.
    pub requests: u64,
    /// Tries that failed otherwise than for want of an object, or for one that is there.
    pub errors: u64,
    /// Of those, the ones that had no answer in time.
    pub timeouts: u64,
    /// Tries after the first of a request.
    pub retries: u64,
    /// Bytes of objects that were read.
    pub read_bytes: u64,
    /// Bytes of objects that were written.
    pub written_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: Count,
    pub(super) errors: Count,
    pub(super) timeouts: Count,
    pub(super) retries: Count,
    pub(super) read_bytes: Count,
    pub(super) written_bytes: Count,
    /// Pauses between tries.
    pub(super) pauses: Count,
}

impl Counts {
    pub(super) fn read(&self) -> StoreCounters {
        StoreCounters {
            requests: self.requests.read(),
            errors: self.errors.read(),
            timeouts: self.timeouts.read(),
            retries: self.retries.read(),
            read_bytes: self.read_bytes.read(),
            written_bytes: self.written_bytes.read(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Gives what it was before.
    pub(super) fn add(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed)
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
