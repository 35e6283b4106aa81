//! The numbers of a cache, apart from its parts.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::entropy::Entropy;
use crate::event::Listener;
use crate::evict::Eviction;
use crate::lower::{LowerTier, NoLowerTier};

/// Settings: numbers only. [`Default`] is what the server starts with, but for `memory`.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Bytes that all accounts of the ledger together may use.
    pub memory: u64,
    /// Bytes of a region of the arena; `None` chooses by `memory`.
    pub region_bytes: Option<u64>,
    /// Regions in anonymous heap memory instead of `memfd`: for Miri and simulations.
    pub heap: bool,
    /// Which entries go when memory is full.
    pub eviction: Eviction,
    /// How long a put that holds room waits for more.
    pub reserve_wait: Duration,
    /// How long a put that holds nothing waits for its first room.
    pub first_wait: Duration,
    /// Puts that may wait for room at once.
    pub waiters_max: usize,
    /// Namespaces, over all tenants.
    pub namespaces_max: u32,
    /// Loads that may be open at once.
    pub loads_max: usize,
    /// Hundredths of the arena that open loads may hold, with pins and readers.
    pub loads_percent: u64,
    /// An open load with which nothing is done for this long is forgotten.
    pub load_idle: Duration,
    /// How long what was before a committed load is kept for a rollback.
    pub rollback_window: Duration,
    /// Hundredths of the arena that readers may hold of entries that have left the index.
    pub held_percent: u64,
    /// Hundredths of the arena that users may pin.
    pub pinned_percent: u64,
    /// Hundredths of the arena that pins, open puts and readers together may hold.
    pub busy_percent: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            region_bytes: None,
            heap: false,
            eviction: Eviction::default(),
            reserve_wait: Duration::from_secs(2),
            first_wait: Duration::from_secs(10),
            waiters_max: 8_192,
            namespaces_max: 65_536,
            loads_max: 64,
            loads_percent: 60,
            load_idle: Duration::from_secs(600),
            rollback_window: Duration::from_secs(600),
            held_percent: 25,
            pinned_percent: 50,
            busy_percent: 75,
        }
    }
}

/// Components: what the cache is built from besides numbers.
#[derive(Clone)]
pub struct Parts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What this start draws at random; `None` draws from the operating system.
    pub entropy: Option<Entropy>,
    /// Who takes what is evicted and answers a miss.
    pub lower: Arc<dyn LowerTier>,
    /// Who hears of entries that come and go.
    pub listeners: Vec<Arc<dyn Listener>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            entropy: None,
            lower: Arc::new(NoLowerTier),
            listeners: Vec::new(),
        }
    }
}
