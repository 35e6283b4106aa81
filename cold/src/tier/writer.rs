//! Into the queue, ahead of need or because a put waits for it; and out of it, when there is enough for a segment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowstring_cache::read::Entry;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::packing::{Batch, Packing};
use super::queue::{Fate, Waiting};
use super::settings::WritePolicy;
use super::{Cold, Inner};
use crate::format::Layout;

/// How often the writer looks whether something has waited long enough.
const TICK: Duration = Duration::from_millis(5);
/// How often room in the queue is looked for.
const ROOM_TICK: Duration = Duration::from_millis(5);
/// How long a put waits for room in the queue.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How long a read waits for room that is being made.
const FREE_WAIT: Duration = Duration::from_millis(200);
const FREE_TICK: Duration = Duration::from_millis(1);
/// One part in so many of the memory is kept free by handing entries down ahead of need.
const FREE_SHARE: u64 = 16;

impl Inner {
    /// Notes an entry; `None` where there is no room for it.
    pub(super) fn enqueue(&self, entry: Entry, urgent: bool) -> Option<Arc<Waiting>> {
        let bytes = entry.len();
        let id = entry.id().ok()?;
        let now = self.clock.monotonic();
        let max = self.settings.queue_bytes.max(2 * bytes);
        let waiting = self.queue.push(id, entry, now, max);
        match &waiting {
            Some(waiting) => {
                waiting.urgent.fetch_or(urgent, Ordering::Relaxed);
            }
            // Who waits tries again.
            None if urgent => {}
            None => {
                self.counters.dropped.add(1);
                self.counters.dropped_bytes.add(bytes);
            }
        }
        waiting
    }
}

impl Cold {
    /// Writes down keys that memory has.
    pub(super) async fn write_all(&self, cache: &Cache, ids: Vec<Id>, wait: bool) -> Result<()> {
        if wait {
            self.inner.fence.check()?;
        }
        if wait && self.working().is_none() {
            return Err(Error::unavailable(
                "the cold tier takes nothing until its index is there, memory has the entry; try again",
            ));
        }
        let mut fates = Vec::new();
        for id in ids {
            if let Some(waiting) = self.note(cache, &id, wait).await? {
                fates.push(waiting.fate());
            }
        }
        for mut fate in fates.into_iter().filter(|_| wait) {
            let ended = fate.wait_for(|fate| *fate != Fate::Waits).await;
            self.inner.fence.check()?;
            if let Ok(Fate::Failed(why)) = ended.as_deref() {
                return Err(Error::unavailable(format!(
                    "the write to the cold tier failed, memory has the entry; error=`{why}`"
                )));
            }
        }
        Ok(())
    }

    /// Notes a key; waits for room where `wait` says so. `None` where it has gone again: then somebody
    /// else's put or delete is what counts; or where there was no room.
    async fn note(&self, cache: &Cache, id: &Id, wait: bool) -> Result<Option<Arc<Waiting>>> {
        let inner = &self.inner;
        let until = inner.clock.monotonic() + ROOM_WAIT;
        while let Some(entry) = cache.peek(id) {
            inner.fence.check()?;
            match inner.enqueue(entry, wait) {
                Some(waiting) => return Ok(Some(waiting)),
                None if !wait => return Ok(None),
                None if inner.clock.monotonic() >= until => {
                    return Err(Error::unavailable(
                        "the cold tier does not keep up, memory has the entry; try again",
                    ));
                }
                None => inner.clock.sleep(ROOM_TICK).await,
            }
        }
        let on_its_way = inner.queue.waiting(id);
        if let Some(waiting) = &on_its_way {
            waiting.urgent.fetch_or(wait, Ordering::Relaxed);
        }
        Ok(on_its_way)
    }

    /// Hands entries of `cache` down ahead of need. Runs until it is dropped.
    pub async fn hand_down(&self, cache: Cache) {
        let inner = &self.inner;
        if inner.settings.write_policy == WritePolicy::Off {
            return std::future::pending().await;
        }
        let free = free_wanted(&cache);
        loop {
            if inner.fence.is_lost() {
                return std::future::pending().await;
            }
            while cache.hand_down(free, || inner.queue.bytes()) {
                tokio::task::yield_now().await;
            }
            inner.clock.sleep(TICK).await;
        }
    }

    /// Writes what comes into the queue. Runs until it is dropped.
    pub async fn write(&self, cache: Cache) {
        let inner = &self.inner;
        while inner.index.get().is_none() {
            inner.clock.sleep(TICK).await;
        }
        let mut packing = Packing::new(&inner.settings);
        let permits = Arc::new(Semaphore::new(inner.settings.writes.max(1)));
        let mut writes = JoinSet::new();
        loop {
            if packing.is_empty() && inner.queue.is_empty() {
                inner.queue.came.notified().await;
            } else {
                inner.clock.sleep(TICK).await;
            }
            while writes.try_join_next().is_some() {}
            let mut batches = Vec::new();
            for waiting in inner.queue.take_new() {
                if waiting.is_gone() {
                    continue;
                }
                if waiting.entry.len() >= inner.settings.large_bytes {
                    let (dtype, shape) = waiting.entry.description();
                    batches.push(Batch {
                        layout: Layout::Rows { dtype, shape },
                        waiting: vec![waiting],
                    });
                } else {
                    batches.extend(packing.add(waiting));
                }
            }
            // What waits for others of its kind has memory that is wanted.
            let is_wanted = cache.free_bytes() < free_wanted(&cache) / 4 * 3;
            let flush = is_wanted || inner.flushes.load(Ordering::Acquire) > 0;
            batches.extend(packing.due(inner.clock.monotonic(), flush));
            for batch in batches {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let (cold, cache) = (self.clone(), cache.clone());
                writes.spawn(async move {
                    cold.write_batch(&cache, batch).await;
                    drop(permit);
                });
            }
        }
    }

    /// Waits until all that is in the queue now is written or let go, and the log says what has gone.
    ///
    /// # Errors
    /// `unavailable` where a write fails: what it was for is still tried.
    pub async fn flush(&self) -> Result<()> {
        let inner = &self.inner;
        inner.fence.check()?;
        let waiting = inner.queue.all();
        if self.working().is_none() && !waiting.is_empty() {
            return Err(Error::unavailable(
                "nothing is written to the cold tier until its index is there",
            ));
        }
        inner.flushes.fetch_add(1, Ordering::AcqRel);
        let mut result = Ok(());
        for one in waiting {
            let mut fate = one.fate();
            drop(one);
            let ended = fate.wait_for(|fate| *fate != Fate::Waits).await;
            if let Ok(Fate::Failed(why)) = ended.map(|fate| fate.clone()) {
                result = Err(Error::unavailable(format!(
                    "a write to the cold tier failed; error=`{why}`"
                )));
                break;
            }
        }
        inner.flushes.fetch_sub(1, Ordering::AcqRel);
        result?;
        // The store then says of itself what is there and what is not, whatever becomes of the state directory.
        self.write_noted().await
    }
}

/// What is kept free by handing entries down.
pub(super) fn free_wanted(cache: &Cache) -> u64 {
    cache.config().memory / FREE_SHARE
}

impl Cold {
    /// Waits a little for room that is being made by handing entries down, so that a read does not push out
    /// what is nowhere else.
    pub(super) async fn wait_for_room(&self, cache: &Cache, bytes: u64) {
        let inner = &self.inner;
        if !inner.writes() || bytes > free_wanted(cache) {
            return;
        }
        let until = inner.clock.monotonic() + FREE_WAIT;
        while cache.free_bytes() < bytes && inner.clock.monotonic() < until {
            inner.clock.sleep(FREE_TICK).await;
        }
    }
}
