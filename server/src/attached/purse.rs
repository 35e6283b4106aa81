//! Who pays for what is kept and read of files: the cache. Before there is one, a ledger of as many bytes.

use std::sync::Arc;

use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge, Ledger};
use parking_lot::RwLock;

/// Clones are the same one.
#[derive(Clone)]
pub struct Purse(Arc<Inner>);

struct Inner {
    before: Arc<Ledger>,
    cache: RwLock<Option<Cache>>,
}

impl Purse {
    /// The cache's from the first on.
    pub fn of(cache: &Cache) -> Self {
        let purse = Self::before(cache.config().memory);
        purse.pass_to(cache);
        purse
    }

    /// One of `memory` bytes, until there is a cache.
    pub fn before(memory: u64) -> Self {
        Self(Arc::new(Inner {
            before: Ledger::new(memory),
            cache: RwLock::default(),
        }))
    }

    /// From now on this cache pays; what is charged already is to be charged again.
    pub fn pass_to(&self, cache: &Cache) {
        *self.0.cache.write() = Some(cache.clone());
    }

    /// As [`Cache::charge`].
    pub fn charge(&self, account: Account, bytes: u64) -> Option<Charge> {
        // To pay, it may have to evict, which is not for who holds a lock.
        let cache = self.0.cache.read().clone();
        match cache {
            Some(cache) => cache.charge(account, bytes),
            None => self.0.before.charge(account, bytes),
        }
    }

    /// All the memory that there is, in bytes.
    pub fn memory(&self) -> u64 {
        self.0.before.total()
    }
}
