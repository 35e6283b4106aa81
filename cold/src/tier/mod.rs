//! The tier as the engine sees it: it takes what is evicted, answers misses, and forgets.
//!
//! - `queue`: entries on their way down, found until they are there
//! - `writer`: into the queue, and out of it; `packing` says what goes into a segment, `segment` writes it, `large` one
//!   of a single tensor
//! - `reader`: one load a key however many wait, and who stays in memory; `seen` is how it knows, `flights` are those
//!   under way
//! - `stream`: a large tensor past memory, or rows of it; `pieces` reads ahead, in the room that is `passing`
//! - `unpacking`: what decompresses
//! - `many`: several keys at once; `joined` is what is read of them together
//! - `look`: which there are
//! - `forget`: what is gone, before the answer; `owed` is what no log record says yet
//! - `fence`: a later start has taken over
//! - `others`: prefixes of other servers, which are read only
//! - `degraded`: when the index cannot be written
//! - `drain`: what memory has, at the end
//! - `hot`: what memory has, noted for the next start; `warm`: that start brings it up
//! - `kept`: what is set of namespaces
//! - `tidy`: what is done in the background
//! - `start`: who writes under this prefix, and what is there already; `census`: what of it counts; `build`: the index out of that
//! - `counters`: what an operator sees
//!
//! One rule holds it together: an entry is inserted into the index only out of the queue, put back into
//! memory only while the index has it, and forgotten in all three places under the lock of its stripe.

mod build;
mod census;
mod counters;
mod degraded;
mod drain;
mod fence;
mod flights;
mod forget;
mod hot;
mod joined;
mod kept;
mod large;
mod look;
mod many;
mod others;
mod owed;
mod packing;
mod passing;
mod pieces;
mod queue;
mod reader;
mod seen;
mod segment;
mod settings;
mod start;
mod stream;
#[cfg(test)]
mod tests;
mod tidy;
mod unpacking;
mod warm;
mod writer;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_cache::lower::{Description, Found, Gone, Later, LowerTier, Reading, SettingsOf};
use bowstring_cache::read::Entry;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use build::Unread;
pub use counters::ColdStats;
pub use drain::Saved;
pub use settings::{ColdSettings, WritePolicy};

use crate::entry::{Number, Prefix};
use crate::index::{ColdIndex, Segment};
use crate::store::{Store, StoreError};
use counters::Counters;
use degraded::Trust;
use fence::Fence;
use flights::Flights;
use forget::GoneBefore;
use hot::Hot;
use kept::Kept;
use others::Others;
use owed::Owed;
use passing::Passing;
use queue::Queue;
use seen::Seen;
use unpacking::Unpackers;

/// Locks of which each name has one: for who puts it back into memory, and who forgets it.
const STRIPES: usize = 64;
/// Threads that wait for the store on behalf of an index that lies there: others need some to do what it is asked for.
const ASKING_MAX: usize = 64;

/// A cold tier. Clones are the same one.
#[derive(Clone)]
pub struct Cold {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ColdSettings,
    clock: Arc<dyn Clock>,
    store: Store,
    /// Not there while it is being built.
    index: OnceLock<Arc<ColdIndex>>,
    /// What is gone since it was not there, or lost.
    gone_before: Mutex<Vec<GoneBefore>>,
    queue: Queue,
    flights: Flights,
    stripes: [tokio::sync::Mutex<()>; STRIPES],
    hash: RandomState,
    seen: Seen,
    /// Room for what passes in pieces.
    passing: Arc<Passing>,
    unpackers: Unpackers,
    /// Who may compress: others want the processors too.
    packing: Semaphore,
    /// Who may ask an index that may ask the store.
    asking: Semaphore,
    /// The next number of a segment or log record.
    next: AtomicU64,
    /// Segments that are on their way: what the index has of them is not all.
    open: Mutex<BTreeSet<Number>>,
    /// When a segment was last read, of those that were.
    last_read: Mutex<BTreeMap<Number, Duration>>,
    owed: Owed,
    fence: Fence,
    trust: Trust,
    hot: Hot,
    kept: Kept,
    others: Option<Others>,
    counters: Counters,
    /// Who waits for all that is in the queue.
    flushes: AtomicU64,
    /// Removed with this: indices of others' prefixes, where there is no other place for them.
    _dir: Option<tempfile::TempDir>,
}

impl Inner {
    fn number(&self) -> Number {
        Number(self.next.fetch_add(1, Ordering::SeqCst))
    }

    /// The number of a segment that is begun.
    fn open_number(&self) -> Number {
        let mut open = self.open.lock();
        let number = self.number();
        open.insert(number);
        number
    }

    /// A get was answered with what lies under a prefix.
    fn count_hit(&self, prefix: Prefix) {
        self.counters.hits.add(1);
        if prefix != Prefix::OWN {
            self.counters.hits_elsewhere.add(1);
        }
    }

    /// Something of a segment is read now.
    fn is_read(&self, prefix: Prefix, segment: Number) {
        if prefix == Prefix::OWN {
            let now = self.clock.monotonic();
            self.last_read.lock().insert(segment, now);
        }
    }

    fn hash_of(&self, id: &Id) -> u64 {
        self.hash.hash_one(id)
    }

    fn stripe_of(&self, id: &Id) -> usize {
        usize::try_from(self.hash_of(id) % STRIPES as u64).unwrap_or(0)
    }

    /// Whether anything is written down at all.
    fn writes(&self) -> bool {
        self.settings.write_policy != WritePolicy::Off && !self.fence.is_lost()
    }

    fn is_expired(&self, expires_at_ms: Option<u64>) -> bool {
        expires_at_ms.is_some_and(|at| at <= self.clock.now_ms())
    }
}

impl Cold {
    /// What an operator sees.
    pub fn stats(&self) -> ColdStats {
        self.inner.stats()
    }

    /// The segments under its own prefix that its index knows, with what of them is alive, the oldest first; none while
    /// that is being built. May wait for a lock: not for a thread that must not block.
    pub fn segments_now(&self) -> Vec<Segment> {
        let index = self.working();
        index.map(ColdIndex::segments).unwrap_or_default()
    }
}

/// To who needs the tier, all that the store does not do is the same: later it may work.
fn failed(error: StoreError) -> Error {
    Error::unavailable(format!("cold store: {error}"))
}

/// Whether a key is of this namespace and begins with `prefix`.
fn is_under(id: &Id, (tenant, namespace): (&Tenant, &Namespace), prefix: &str) -> bool {
    (&id.tenant, &id.namespace) == (tenant, namespace) && id.key.as_str().starts_with(prefix)
}

/// Runs what reads or writes the disk where that holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::unavailable("the cold tier is being shut down"))
}

/// Asks the index where that holds nobody up; `None` while there is none.
async fn ask<T: Send + 'static>(
    cold: &Cold,
    what: impl FnOnce(&ColdIndex) -> crate::index::Result<T> + Send + 'static,
) -> Result<Option<T>> {
    let asking = cold.clone();
    let is_far = cold.working().is_some_and(ColdIndex::is_in_store);
    let _turn = match is_far {
        true => Some(cold.inner.asking.acquire().await),
        false => None,
    };
    let asked = blocking(move || asking.working().map(what).transpose()).await?;
    asked.map_err(|error| cold.index_failed(&error))
}

impl LowerTier for Cold {
    fn may_have(&self, tenant: &Tenant, namespace: &Namespace, key: &str) -> bool {
        let inner = &self.inner;
        let Some(index) = self.working() else {
            // Nobody knows.
            return true;
        };
        let is_elsewhere = !inner.owed.is_empty() || inner.others.is_some();
        if inner.queue.is_empty() && index.is_empty() && !is_elsewhere {
            return false;
        }
        let Ok(key) = Key::parse(key) else {
            return false;
        };
        let id = Id {
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            key,
        };
        // One that has just failed says no.
        inner.queue.has(&id)
            || index.may_have(&id)
            || inner.owed.has(&id)
            || inner.may_be_elsewhere(&id)
            || index.check().is_err()
    }

    fn load<'a>(&'a self, cache: &'a Cache, id: &'a Id) -> Later<'a, Option<Entry>> {
        Box::pin(self.bring(cache, id))
    }

    fn open<'a>(
        &'a self,
        cache: &'a Cache,
        id: &'a Id,
        reading: Reading,
    ) -> Later<'a, Option<Found>> {
        Box::pin(self.find(cache, id, reading))
    }

    fn open_all<'a>(
        &'a self,
        cache: &'a Cache,
        ids: &'a [Id],
        bytes_max: u64,
        reading: Reading,
    ) -> Later<'a, Vec<Option<Found>>> {
        Box::pin(self.bring_many(cache, ids, bytes_max, Some(reading)))
    }

    fn describe<'a>(&'a self, id: &'a Id) -> Later<'a, Option<Description>> {
        Box::pin(self.described(id))
    }

    fn describe_all<'a>(&'a self, ids: &'a [Id]) -> Later<'a, Vec<Option<Description>>> {
        Box::pin(self.describe_many(ids))
    }

    fn load_all<'a>(
        &'a self,
        cache: &'a Cache,
        ids: &'a [Id],
        bytes_max: u64,
    ) -> Later<'a, Vec<Option<Entry>>> {
        Box::pin(async move {
            let found = self.bring_many(cache, ids, bytes_max, None).await?;
            let here = found.into_iter().map(|found| match found {
                Some(Found::Here(entry)) => Some(entry),
                Some(Found::Below(_)) | None => None,
            });
            Ok(here.collect())
        })
    }

    fn list<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Later<'a, Vec<Description>> {
        Box::pin(self.list_some(tenant, namespace, prefix, after, limit))
    }

    fn flush(&self) -> Later<'_, ()> {
        Box::pin(Cold::flush(self))
    }

    fn take(&self, entry: Entry) -> bool {
        self.inner.writes() && self.inner.enqueue(entry, false).is_some()
    }

    fn check_writes(&self) -> Result<()> {
        match self.inner.settings.write_policy {
            WritePolicy::Off => Err(Error::precondition(
                "nothing is written to the cold tier; write_policy=`off`",
            )),
            WritePolicy::OnEvict | WritePolicy::OnPut => self.inner.fence.check(),
        }
    }

    fn writes_at_once(&self) -> bool {
        self.inner.settings.write_policy == WritePolicy::OnPut && self.inner.writes()
    }

    fn write_down<'a>(&'a self, cache: &'a Cache, ids: Vec<Id>, wait: bool) -> Later<'a, ()> {
        Box::pin(self.write_all(cache, ids, wait))
    }

    fn forget<'a>(&'a self, cache: &'a Cache, gone: Vec<Gone>) -> Later<'a, Vec<Option<Version>>> {
        Box::pin(self.forget_names(cache, gone))
    }

    fn forget_prefix<'a>(
        &'a self,
        cache: &'a Cache,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
    ) -> Later<'a, u64> {
        Box::pin(self.forget_under(cache, tenant, namespace, prefix))
    }

    fn keep_settings<'a>(&'a self, of: &'a SettingsOf) -> Later<'a, ()> {
        Box::pin(self.keep(of))
    }
}
