//! The memory of one query: as much as it may have, and no more than the ledger gives.

use std::fmt;
use std::sync::mpsc::sync_channel;

use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::DfResult;
use crate::limits::CHARGE_BYTES;

/// See above. What it was given is the ledger's again when it is dropped.
pub struct QueryPool {
    cache: Cache,
    /// Where the cache is asked for room: making it takes locks, which an idle thread must not hold.
    normal: Handle,
    bytes_max: u64,
    /// Whether the query can go on on the disk.
    spills: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    charged: u64,
    charges: Vec<Charge>,
}

impl QueryPool {
    /// A pool of at most `bytes_max` bytes, of a query that can go on on the disk or not.
    pub fn new(cache: Cache, normal: Handle, bytes_max: u64, spills: bool) -> Self {
        Self {
            cache,
            normal,
            bytes_max,
            spills,
            state: Mutex::default(),
        }
    }

    /// Has the ledger's word for what is used.
    fn charge(&self, state: &mut State) -> bool {
        while state.charged < state.used {
            let wanted = (state.used - state.charged).max(CHARGE_BYTES);
            let (tell, told) = sync_channel(1);
            let cache = self.cache.clone();
            self.normal.spawn(async move {
                // Nobody may be left to tell: then it is given back at once.
                let _ = tell.send(cache.charge(Account::Sql, wanted));
            });
            let Some(charge) = told.recv().ok().flatten() else {
                return false;
            };
            state.charged += charge.bytes();
            state.charges.push(charge);
        }
        true
    }

    fn refused(&self, limit: &str, value: u64, wanted: u64, who: &str) -> DataFusionError {
        let help = match self.spills {
            true => "ask for less at once, or raise the limit",
            false => {
                "ask for less at once, raise the limit, or have `sql_spill_dir` name a directory for sorts to go on in"
            }
        };
        DataFusionError::ResourcesExhausted(format!(
            "the query needs more memory than there is for it: {help}; limit=`{limit}` value=`{value}` \
             wanted_bytes=`{wanted}` for=`{who}`"
        ))
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "ledger"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        let mut state = self.state.lock();
        state.used += additional as u64;
        // It is used whatever we say; the next who asks is refused.
        let _ = self.charge(&mut state);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        let mut state = self.state.lock();
        state.used = state.used.saturating_sub(shrink as u64);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        let mut state = self.state.lock();
        let wanted = state.used.saturating_add(additional as u64);
        let who = reservation.consumer().name();
        if wanted > self.bytes_max {
            return Err(self.refused("sql_memory", self.bytes_max, wanted, who));
        }
        let before = std::mem::replace(&mut state.used, wanted);
        if !self.charge(&mut state) {
            state.used = before;
            let memory = self.cache.ledger().total();
            return Err(self.refused("memory", memory, wanted, who));
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        usize::try_from(self.state.lock().used).unwrap_or(usize::MAX)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(usize::try_from(self.bytes_max).unwrap_or(usize::MAX))
    }
}

impl fmt::Debug for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("QueryPool")
            .field("bytes_max", &self.bytes_max)
            .field("used", &state.used)
            .field("charged", &state.charged)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ledger({} of {})", self.reserved(), self.bytes_max)
    }
}
