//! Large reads that are under way, so that one that stalls can be cut off.

use std::time::Duration;

use crate::id::Id;

/// Names one large read for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// One large read as a supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRead {
    /// Names it.
    pub id: ReadId,
    /// What is read.
    pub entry: Id,
    /// Bytes of pages that it still holds.
    pub outstanding_bytes: u64,
    /// When it last took or gave back a piece, on the cache's monotonic clock.
    pub last_progress: Duration,
    /// True when the entry has left the index, so that the bytes count as held.
    pub unlinked: bool,
}

/// The large reads that are under way.
pub struct Reads {
    _private: (),
}

impl Reads {
    /// All of them, the one that has stalled longest first.
    pub fn active(&self) -> Vec<ActiveRead> {
        todo!()
    }

    /// Takes away what a read has not taken yet; false when it has ended. Its next
    /// [`Reader::take`](crate::read::Reader::take) says so.
    pub fn cut(&self, _id: ReadId) -> bool {
        todo!()
    }
}
