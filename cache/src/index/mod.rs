//! The hot index: which entry answers to a key, and the keys of a namespace in order.
//!
//! | file | what |
//! |---|---|
//! | [`record`] | an entry's packed 64-byte record |
//! | `state` | its state word: life cycle, pins, move lock, marks of hits |
//! | `slab` | all records, in memory that keeps its type for ever |
//! | [`table`] | sharded hash table of handles; look-ups take no lock |
//! | `lines` | one shard: a sorted array of buckets that readers scan beside a writer |
//! | [`order`] | the handles of one namespace in key order |
//! | `range` | a walk over an order |
//! | `leaf` | a block of an order, searched without reading most keys |
//! | `hash` | the keyed hash that chooses shard and bucket |
//! | `sync` | std's atomics, or loom's under the feature `loom` |
//!
//! # Why there is no `unsafe` here
//! A record's memory is never unmapped and never becomes anything but a record, and all of
//! it is atomics. A reader with a stale handle therefore reads some *record*; the pin (a
//! compare-and-swap that succeeds only on a live record) and the comparison of the full key
//! decide whether it is the one that was asked for.
//!
//! # Rules for writers
//! 1. Under the shard's lock ([`Table::lock`]): change the table first, [`Record::unlink`]
//!    after. A reader that meets an unlinked record then always sees that the table changed,
//!    and looks again: a replaced key is never missed.
//! 2. [`Record::publish`] runs inside [`Shard::insert`] and [`Shard::replace`], between the
//!    bucket's change and the end of the write section.
//! 3. Lock order: shard, then a namespace's order, then the policy. Several shards are locked
//!    only together ([`Table::lock_all`]). Nothing is locked while a move lock is held: who
//!    meets a moving record spins.
//! 4. Whoever gets `true` from [`Record::unlink`], [`Record::unpin`] or
//!    [`Record::unlock_move`] owns the dead record alone, and calls [`Records::free`].

use std::sync::Arc;

mod hash;
mod leaf;
mod lines;
pub mod order;
mod range;
pub mod record;
mod slab;
mod state;
pub(crate) mod sync;
pub mod table;

pub use hash::{KeyHash, NameHash};
pub use order::{Finger, Keys, Order};
pub use range::Range;
pub use record::{Fields, Handle, Record};
pub use slab::Records;
pub(crate) use state::low32;
pub use state::{Mark, Pin};
pub use table::{Probe, Shard, Shards, Table};

/// What the index asks before it allocates, and tells when it has freed.
pub trait Budget: Send + Sync {
    /// Takes `bytes` from the budget; `false`, with nothing taken, where they are not there.
    fn charge(&self, bytes: u64) -> bool;
    /// Gives `bytes` back that were charged before.
    fn release(&self, bytes: u64);
}

/// A budget that refuses nothing: for tests and benches.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unlimited;

impl Budget for Unlimited {
    fn charge(&self, _bytes: u64) -> bool {
        true
    }

    fn release(&self, _bytes: u64) {}
}

/// The index could not grow: the budget refused, or the limit on entries is reached.
/// Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index cannot grow: bytes=`{bytes}`")]
pub struct Full {
    /// Bytes that the refused step asked for; 0 where the limit on entries is reached.
    pub bytes: u64,
}

/// Records and table together: the look-up that readers use.
pub struct Index {
    /// The records.
    pub records: Records,
    /// The table that finds them.
    pub table: Table,
}

impl Index {
    /// An index for at most `entries_max` entries, which asks `budget` before it grows.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses the fixed part.
    pub fn new(entries_max: u32, budget: &Arc<dyn Budget>) -> Result<Index, Full> {
        Ok(Index {
            records: Records::new(entries_max, budget.clone())?,
            table: Table::new(entries_max, budget.clone())?,
        })
    }

    /// The live record of a key, pinned: the caller unpins it. Takes no lock.
    ///
    /// `eq` compares the full key of a pinned record. `last` is called where this look-up
    /// took the last pin off an unlinked record that was not the one (rule 4 above).
    pub fn get(
        &self,
        hash: u64,
        mark: Mark,
        mut eq: impl FnMut(Handle, &Record) -> bool,
        mut last: impl FnMut(Handle),
    ) -> Option<Handle> {
        self.table.find(hash, |handle| {
            let record = self.records.at(handle);
            match record.try_pin(mark) {
                Pin::Pinned if eq(handle, record) => Probe::Hit(handle),
                Pin::Pinned => {
                    if record.unpin() {
                        last(handle);
                    }
                    Probe::Other
                }
                Pin::Busy => Probe::Retry,
                Pin::Gone => Probe::Other,
            }
        })
    }

    /// Bytes that records and table hold.
    pub fn bytes(&self) -> u64 {
        self.records.bytes() + self.table.bytes()
    }
}
