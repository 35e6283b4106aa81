//! The second step of going. An entry is unlinked first: nobody finds it any more. Once its last
//! pin is gone it comes here, still whole, and the sink decides when its memory is free: at once,
//! or when a cold tier has read it.

use crate::event::Why;
use crate::read::Entry;

/// Where unlinked entries go.
pub trait Sink: Send + Sync + 'static {
    /// Takes an entry that has been unlinked. Dropping `entry` frees its memory (when nobody else
    /// has it pinned); keeping it keeps the memory. Called in the middle of somebody's put, who
    /// waits for room: it should take note, and must neither wait nor call the cache.
    fn unlinked(&self, entry: Entry, why: Why);

    /// False where [`Sink::unlinked`] would only drop the entry: then it is not even called.
    fn wants(&self, why: Why) -> bool;
}

/// There is nothing below: memory is free as soon as nobody reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct FreeAtOnce;

impl Sink for FreeAtOnce {
    fn unlinked(&self, _entry: Entry, _why: Why) {}

    fn wants(&self, _why: Why) -> bool {
        false
    }
}
