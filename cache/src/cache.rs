//! The cache: a cheap handle on one engine.

use std::future::Future;
use std::sync::Arc;

use bowstring_wire::error::Result;
use bowstring_wire::name::Tenant;
use bowstring_wire::version::Version;

use crate::clock::Clock;
use crate::config::{CacheConfig, Parts};
use crate::id::Id;
use crate::ledger::Ledger;
use crate::read::Entry;
use crate::reads::Reads;
use crate::stats::{NamespaceStats, Stats};

/// A cheap handle; clones are the same cache.
#[derive(Clone)]
pub struct Cache {
    _engine: Arc<()>,
}

impl Cache {
    /// A cache of `config.memory` bytes with nothing below it.
    ///
    /// # Errors
    /// `invalid_argument` for a memory too small to work in, `internal` where the operating system
    /// gives no memory or randomness.
    pub fn new(config: CacheConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::with_parts(
            config,
            Parts {
                clock,
                ..Parts::default()
            },
        )
    }

    /// A cache of these parts.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn with_parts(_config: CacheConfig, _parts: Parts) -> Result<Self> {
        todo!()
    }

    /// The settings that it was built with.
    pub fn config(&self) -> &CacheConfig {
        todo!()
    }

    /// Who uses how much memory.
    pub fn ledger(&self) -> &Arc<Ledger> {
        todo!()
    }

    /// The time that this cache goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        todo!()
    }

    /// Finds and pins an entry in memory, and counts a hit or a miss. Takes no exclusive lock.
    pub fn get(&self, _id: &Id) -> Option<Entry> {
        todo!()
    }

    /// As [`Cache::get`], but leaves no mark: the entry is no younger for it.
    pub fn peek(&self, _id: &Id) -> Option<Entry> {
        todo!()
    }

    /// As [`Cache::get`], and asks the lower tier where memory has it not.
    ///
    /// # Errors
    /// Whatever the lower tier meets.
    pub fn get_or_load(&self, _id: &Id) -> impl Future<Output = Result<Option<Entry>>> + Send {
        async { todo!() }
    }

    /// Deletes a key and says which version went; `None` when there was none.
    ///
    /// # Errors
    /// `failed_precondition` where another version than `if_version` is there.
    pub fn delete(
        &self,
        _id: &Id,
        _if_version: Option<Version>,
    ) -> impl Future<Output = Result<Option<Version>>> + Send {
        async { todo!() }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// The tenant's namespaces, in order of their names.
    pub fn namespaces(&self, _tenant: &Tenant) -> Vec<NamespaceStats> {
        todo!()
    }

    /// Reads of large tensors that are under way, for a supervisor that cuts off stalled ones.
    pub fn reads(&self) -> &Reads {
        todo!()
    }
}
