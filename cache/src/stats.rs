//! What a cache shows of itself.

use std::sync::atomic::Ordering;

use bowstring_wire::settings::NamespaceSettings;
use bowstring_wire::version::Version;

use crate::arena::PAGE_BYTES_U64;
use crate::engine::Engine;
use crate::event::EventCounts;
use crate::evict::Eviction;
use crate::ledger::AccountUse;
use crate::loads::LoadStats;

/// Counters and gauges of the whole cache, in bytes and since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Which start of the engine this is: the last 32 bits of its versions.
    pub start: u32,
    /// What all accounts together may use.
    pub memory: u64,
    /// Every account of the ledger.
    pub accounts: Vec<AccountUse>,
    /// Which entries go when memory is full.
    pub eviction: Eviction,
    /// The policy that decides which: another one than `eviction` where that is adaptive.
    pub eviction_follows: Eviction,
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
    /// What users have pinned: pages and slots.
    pub pinned_bytes: u64,
    /// The most that they may.
    pub pinned_bytes_max: u64,
    /// How many entries that is.
    pub pinned_entries: u64,
    /// Pins that were refused.
    pub pins_refused: u64,
    /// What pins, open puts and readers may hold together.
    pub busy_bytes_max: u64,
    /// Reads of large tensors that are under way.
    pub reads_open: u64,
    /// Readers that were cut off because they stalled.
    pub reads_cut: u64,
    /// Puts that wait for room.
    pub puts_waiting: u64,
    /// Loads, and what the open ones hold.
    pub loads: LoadStats,
    /// Gets that found their key.
    pub hits: u64,
    /// Gets that did not.
    pub misses: u64,
    /// Namespaces, of all tenants.
    pub namespaces: u32,
    /// The most that there may be.
    pub namespaces_max: u32,
    /// Small entries that were moved to empty a page.
    pub moved: u64,
    /// Entries that came and went.
    pub events: EventCounts,
    /// Evictions that are not among the last ones that are listed, because the list was in use just then.
    pub evictions_unlisted: u64,
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
    /// Gets that did not.
    pub misses: u64,
    /// Entries that were evicted.
    pub evicted: u64,
    /// Entries that expired.
    pub expired: u64,
    /// What is set.
    pub settings: NamespaceSettings,
    /// Its version; `None` where nothing ever was.
    pub settings_version: Option<Version>,
    /// Rows of files that it is attached to; `None` where it is not.
    pub attached_rows: Option<u64>,
}

impl Engine {
    pub(crate) fn stats(&self) -> Stats {
        let totals = self.spaces.totals();
        let arena = self.arena.stats();
        let whole = u64::from(arena.pages_owned + arena.pages_held) * PAGE_BYTES_U64;
        Stats {
            start: self.hlc.start(),
            memory: self.config.memory,
            accounts: self.ledger.accounts().collect(),
            eviction: self.config.eviction,
            eviction_follows: self.policy.follows(),
            entries: totals.entries,
            live_bytes: totals.bytes,
            arena_used_bytes: whole + arena.slot_bytes_used,
            reserved_bytes: self.reserved.load(Ordering::Relaxed),
            held_bytes: self.arena.held_bytes(),
            held_bytes_max: self.held_bytes_max(),
            pinned_bytes: self.pins.bytes(),
            pinned_bytes_max: self.pinned_bytes_max(),
            pinned_entries: self.pins.entries(),
            pins_refused: self.pins.refused(),
            busy_bytes_max: self.busy_bytes_max(),
            reads_open: self.reads.count(),
            reads_cut: self.reads.cut_count(),
            puts_waiting: self.queue.waiting() as u64,
            loads: self.load_stats(),
            hits: totals.hits,
            misses: self.misses.0.load(Ordering::Relaxed),
            namespaces: self.spaces.count(),
            namespaces_max: self.spaces.max(),
            moved: self.moved.load(Ordering::Relaxed),
            events: self.events.counts(),
            evictions_unlisted: self.evictions.unlisted(),
        }
    }
}
