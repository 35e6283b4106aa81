//! What a cache shows of itself.

use crate::event::EventCounts;
use crate::ledger::AccountUse;

/// Counters and gauges of the whole cache, in bytes and since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// What all accounts together may use.
    pub memory: u64,
    /// Every account of the ledger.
    pub accounts: Vec<AccountUse>,
    /// Entries that can be found.
    pub entries: u64,
    /// Their tensors' bytes.
    pub live_bytes: u64,
    /// Pages and slots of the arena that are in use, for whatever reason.
    pub arena_used_bytes: u64,
    /// What open puts have reserved.
    pub reserved_bytes: u64,
    /// What readers hold of entries that have left the index.
    pub held_bytes: u64,
    /// The most that may be.
    pub held_bytes_max: u64,
    /// Reads of large tensors that are under way.
    pub reads_open: u64,
    /// Readers that were cut off because they stalled.
    pub reads_cut: u64,
    /// Puts that wait for room.
    pub puts_waiting: u64,
    /// Gets that found their key.
    pub hits: u64,
    /// Gets that did not.
    pub misses: u64,
    /// Small entries that were moved to empty a page.
    pub moved: u64,
    /// Entries that came and went.
    pub events: EventCounts,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceStats {
    /// Its name.
    pub namespace: bowstring_wire::name::Namespace,
    /// Entries that can be found.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
    /// Gets that found their key, since the start.
    pub hits: u64,
}
