//! What memory has, the hottest first, noted on the store every now and then and at the end: a hint for the
//! next start. Only names: a tensor is found by the index, so an old list brings nothing old back.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cache::heat::Heat;
use bowstring_cache::ledger::Account;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::{Cold, failed};
use crate::entry::Number;
use crate::format::encode_hot;
use crate::store::{Folder, ObjectName};

/// Between two notes, and how many times longer than one has taken.
const EVERY: Duration = Duration::from_secs(60);
const COST: u32 = 100;
/// Bytes of a list: one part in so many of the memory, and no more than this. 16 MiB are some 500,000 names.
const MEMORY_SHARE: u64 = 256;
const BYTES_MAX: u64 = 16 << 20;

/// What is known of the lists on the store.
#[derive(Default)]
pub(super) struct Hot {
    lists: tokio::sync::Mutex<Option<Lists>>,
    /// What the last run left has been made use of.
    is_read: AtomicBool,
}

struct Lists {
    /// Those of earlier starts.
    before: Vec<ObjectName>,
    ours: u64,
    /// A hash of what is there.
    written: Option<u64>,
}

impl Hot {
    /// From now on a list of this run may take the place of the last one's.
    pub(super) fn was_read(&self) {
        self.is_read.store(true, Ordering::Release);
    }
}

impl Cold {
    /// The list that the last run has left.
    pub(super) async fn last_list(&self) -> Result<Option<ObjectName>> {
        let mut lists = self.inner.hot.lists.lock().await;
        let lists = self.find_lists(&mut lists).await?;
        Ok(lists.before.last().copied())
    }

    /// Notes what memory has now and then. Runs until it is dropped.
    pub async fn keep_hot(&self, cache: Cache) {
        let clock = &self.inner.clock;
        let mut pause = EVERY;
        loop {
            clock.sleep(pause).await;
            let started = clock.monotonic();
            if let Err(error) = self.note_hot(&cache).await {
                tracing::debug!(error = %error.message, "cold tier: what memory has was not noted");
            }
            pause = EVERY.max((clock.monotonic() - started) * COST);
        }
    }

    /// Writes down which names memory has, the hottest first, as many as a list may have.
    ///
    /// # Errors
    /// `unavailable` where the store fails.
    pub async fn note_hot(&self, cache: &Cache) -> Result<()> {
        let hot = &self.inner.hot;
        if !hot.is_read.load(Ordering::Acquire) {
            return Ok(());
        }
        // A later start has lists of its own.
        self.may_write().await?;
        let mut lists = hot.lists.lock().await;
        let lists = self.find_lists(&mut lists).await?;
        let max = (cache.config().memory / MEMORY_SHARE).min(BYTES_MAX);
        // What is looked through, and then the list.
        let Some(_charge) = cache.charge(Account::Cold, 3 * max) else {
            return Ok(());
        };
        let list = hottest(cache, Number(lists.ours), max).await;
        let hash = XxHash3_64::oneshot(&list);
        if lists.written == Some(hash) {
            return Ok(());
        }
        let store = &self.inner.store;
        let written = store.replace(&ObjectName::Hot(lists.ours), list).await;
        written.map_err(failed)?;
        lists.written = Some(hash);
        while let Some(name) = lists.before.last() {
            store.delete(name).await.map_err(failed)?;
            lists.before.pop();
        }
        Ok(())
    }

    async fn find_lists<'l>(&self, lists: &'l mut Option<Lists>) -> Result<&'l mut Lists> {
        let found = match lists.take() {
            Some(found) => found,
            None => {
                let listed = self.inner.store.list(Folder::Hot).await.map_err(failed)?;
                let last = listed.last().map_or(0, |listed| listed.name.number());
                Lists {
                    before: listed.into_iter().map(|listed| listed.name).collect(),
                    ours: last.saturating_add(1),
                    written: None,
                }
            }
        };
        Ok(lists.insert(found))
    }
}

/// The list of a number.
async fn hottest(cache: &Cache, number: Number, bytes_max: u64) -> Bytes {
    let namespaces: Vec<(Tenant, Namespace)> = cache.names();
    let mut found = Hottest::new(bytes_max);
    for (at, (tenant, namespace)) in namespaces.iter().enumerate() {
        let mut after: Option<String> = None;
        loop {
            let tell = |key: &str, heat| found.add(heat, at, key);
            after = cache.heat(tenant, namespace, after.as_deref(), tell);
            if after.is_none() {
                break;
            }
            // Not under the lock under which names are told.
            found.keep_within();
            tokio::task::yield_now().await;
        }
    }
    found.cut();
    encode_hot(number, &namespaces, found.names())
}

/// The hottest names of those told, in about twice the bytes that they may have.
struct Hottest {
    bytes_max: usize,
    keys: String,
    found: Vec<Found>,
    /// What is less hot has been left out already.
    least: Option<Heat>,
}

struct Found {
    heat: Heat,
    namespace: u32,
    start: u32,
    len: u32,
}

impl Hottest {
    fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            keys: String::new(),
            found: Vec::new(),
            least: None,
        }
    }

    fn add(&mut self, heat: Heat, namespace: usize, key: &str) {
        let numbers = (
            u32::try_from(namespace),
            u32::try_from(self.keys.len()),
            u32::try_from(key.len()),
        );
        if let (Ok(namespace), Ok(start), Ok(len)) = numbers
            && self.least.is_none_or(|least| heat >= least)
        {
            self.keys.push_str(key);
            self.found.push(Found {
                heat,
                namespace,
                start,
                len,
            });
        }
    }

    fn bytes(&self) -> usize {
        self.keys.len() + self.found.len() * size_of::<Found>()
    }

    fn keep_within(&mut self) {
        if self.bytes() > 2 * self.bytes_max {
            self.cut();
            self.least = self.found.last().map(|found| found.heat);
        }
    }

    /// Leaves the hottest, in order, as many as may be.
    fn cut(&mut self) {
        // Of those that are as hot, in the order in which they came.
        self.found.sort_by_key(|found| Reverse(found.heat));
        let mut bytes = 0;
        let fits = |found: &&Found| {
            bytes += found.len as usize + size_of::<Found>();
            bytes <= self.bytes_max
        };
        let kept = self.found.iter().take_while(fits).count();
        self.found.truncate(kept);
        let mut keys = String::with_capacity(self.bytes_max.min(self.keys.len()));
        for found in &mut self.found {
            let start = found.start as usize;
            found.start = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            keys.push_str(&self.keys[start..start + found.len as usize]);
        }
        self.keys = keys;
    }

    fn names(&self) -> impl ExactSizeIterator<Item = (usize, &str)> {
        self.found.iter().map(|found| {
            let start = found.start as usize;
            let key = &self.keys[start..start + found.len as usize];
            (found.namespace as usize, key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_are_kept_in_their_order_and_no_more_than_fit() {
        let each = size_of::<Found>() + 5;
        let mut hottest = Hottest::new(10 * each as u64);
        for at in 0..10_000_u32 {
            // Each heat comes a hundred times, in no order.
            let hits = at * 7_919 % 100;
            hottest.add(Heat::new(hits, 0), 3, &format!("{at:05}"));
            hottest.keep_within();
            assert!(hottest.bytes() <= 2 * hottest.bytes_max + each);
        }
        hottest.cut();
        let kept: Vec<(usize, &str)> = hottest.names().collect();
        assert_eq!(kept.len(), 10);
        for (namespace, key) in kept {
            assert_eq!(namespace, 3);
            assert_eq!(key.parse::<u32>().unwrap() * 7_919 % 100, 99);
        }
    }
}
