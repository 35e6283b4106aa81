//! From the queue into segments, and from segments into the index. What fails is tried again for as long as
//! it takes: until then its entries stay where they are found, and what comes after them is let go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::lower::Description;
use bowstring_cache::read::Entry;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::packing::{Batch, Packing};
use super::queue::{Fate, Waiting};
use super::settings::WritePolicy;
use super::{Cold, Inner, ask, blocking};
use crate::entry::{Number, Stored};
use crate::format::{Large, build};
use crate::store::{ObjectName, StoreError};

/// How often the writer looks whether something has waited long enough.
const TICK: Duration = Duration::from_millis(5);
/// How long after a write that failed it is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often room in the queue is looked for.
const ROOM_TICK: Duration = Duration::from_millis(5);
/// How long a put waits for room in the queue.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How long a read waits for room that is being made.
const FREE_WAIT: Duration = Duration::from_millis(200);
const FREE_TICK: Duration = Duration::from_millis(1);
/// Bytes of a large tensor that are handed on at a time.
const PIECE_BYTES: usize = 1 << 20;
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
        let mut fates = Vec::new();
        for id in ids {
            if let Some(waiting) = self.note(cache, &id, wait).await? {
                fates.push(waiting.fate());
            }
        }
        for mut fate in fates.into_iter().filter(|_| wait) {
            let ended = fate.wait_for(|fate| *fate != Fate::Waits).await;
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
        Ok(None)
    }

    /// Hands entries of `cache` down ahead of need. Runs until it is dropped.
    pub async fn hand_down(&self, cache: Cache) {
        let inner = &self.inner;
        if inner.settings.write_policy == WritePolicy::Off {
            return std::future::pending().await;
        }
        let free = free_wanted(&cache);
        loop {
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
                        layout: crate::format::Layout::Rows { dtype, shape },
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

    /// Waits until all that is in the queue now is written or let go.
    ///
    /// # Errors
    /// `unavailable` where a write fails: what it was for is still tried.
    pub async fn flush(&self) -> Result<()> {
        let inner = &self.inner;
        let waiting = inner.queue.all();
        inner.flushes.fetch_add(1, Ordering::AcqRel);
        let mut result = Ok(());
        for one in waiting {
            let mut fate = one.fate();
            drop(one);
            let ended = fate.wait_for(|fate| *fate != Fate::Waits).await;
            if let Ok(Fate::Failed(why)) = ended.map(|fate| fate.clone()) {
                result = Err(Error::unavailable(format!(
                    "a write to the cold tier failed and is tried again; error=`{why}`"
                )));
                break;
            }
        }
        inner.flushes.fetch_sub(1, Ordering::AcqRel);
        result
    }

    async fn write_batch(&self, cache: &Cache, mut batch: Batch) {
        let inner = &self.inner;
        let mut failed = false;
        loop {
            batch.waiting = self.dirty(batch.waiting).await;
            let Err(why) = self.try_batch(cache, &batch).await else {
                break;
            };
            if !failed {
                failed = true;
                inner.counters.failing.add(1);
                tracing::warn!(error = %why.message, "cold tier: a segment was not written, it is tried again");
            }
            inner.counters.failed_writes.add(1);
            for waiting in &batch.waiting {
                waiting.tell(Fate::Failed(why.message.to_string()));
            }
            inner.clock.sleep(AGAIN).await;
        }
        if failed {
            inner.counters.failing.subtract(1);
            tracing::info!("cold tier: writes succeed again");
        }
    }

    /// Those that are still to be written: the others have been let go, or are down already.
    async fn dirty(&self, waiting: Vec<Arc<Waiting>>) -> Vec<Arc<Waiting>> {
        let cold = self.clone();
        let checked = blocking(move || {
            let inner = &cold.inner;
            let is_down = |waiting: &Waiting| {
                inner.index.get().is_some_and(|index| {
                    index.may_have(&waiting.id)
                        && matches!(
                            index.get(&waiting.id),
                            Ok(Some(there)) if there.description.version == waiting.entry.version()
                        )
                })
            };
            let mut dirty = Vec::with_capacity(waiting.len());
            for one in waiting {
                if one.is_gone() {
                    continue;
                }
                if inner.is_expired(one.entry.expires_at_ms()) || is_down(&one) {
                    inner.queue.done(&one, Fate::Written);
                } else {
                    dirty.push(one);
                }
            }
            dirty
        });
        checked.await.unwrap_or_default()
    }

    async fn try_batch(&self, cache: &Cache, batch: &Batch) -> Result<()> {
        let inner = &self.inner;
        // One number for what nobody has forgotten at that moment: what is forgotten later has a higher one.
        let mut waiting = Vec::with_capacity(batch.waiting.len());
        let number = inner.queue.standing_still(|| {
            waiting.extend(batch.waiting.iter().filter(|one| !one.is_gone()).cloned());
            inner.open_number()
        });
        let written = self.write_segment(cache, batch, number, &waiting).await;
        inner.open.lock().remove(&number);
        written
    }

    async fn write_segment(
        &self,
        cache: &Cache,
        batch: &Batch,
        number: Number,
        waiting: &[Arc<Waiting>],
    ) -> Result<()> {
        let inner = &self.inner;
        let entries = match waiting {
            [] => return Ok(()),
            [large] if large.entry.len() >= inner.settings.large_bytes => {
                vec![self.write_large(number, large).await?]
            }
            _ => self.write_small(cache, number, batch, waiting).await?,
        };
        let bytes = entries.iter().map(|one| one.description.len).sum();
        let file_bytes = entries
            .iter()
            .map(|one| one.place.offset + one.description.len)
            .max();
        let inserted = ask(self, move |index| {
            index.add_segment(number, file_bytes.unwrap_or(0))?;
            index.insert_all(&entries)
        });
        inserted.await?;
        inner.counters.segments.add(1);
        inner.counters.written.add(waiting.len() as u64);
        inner.counters.written_bytes.add(bytes);
        for one in waiting {
            inner.queue.done(one, Fate::Written);
        }
        Ok(())
    }

    async fn write_small(
        &self,
        cache: &Cache,
        number: Number,
        batch: &Batch,
        waiting: &[Arc<Waiting>],
    ) -> Result<Vec<Stored>> {
        let inner = &self.inner;
        let bytes = waiting.iter().map(|one| one.entry.len()).sum();
        let charge = self.charge(cache, bytes).await?;
        let (layout, waiting) = (batch.layout.clone(), waiting.to_vec());
        let built = blocking(move || {
            let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            let mut at = 0;
            for one in &waiting {
                let len = usize::try_from(one.entry.len()).unwrap_or(usize::MAX);
                copy(&one.entry, &mut buffer[at..at + len])?;
                at += len;
            }
            let buffer = Bytes::from_owner(Charged {
                bytes: buffer,
                _charge: charge,
            });
            let mut tensors = Vec::with_capacity(waiting.len());
            let mut left = buffer.clone();
            for one in &waiting {
                let len = usize::try_from(one.entry.len()).unwrap_or(usize::MAX);
                tensors.push((Description::of(&one.entry)?, vec![left.split_to(len)]));
            }
            let mut built = build(number, &layout, tensors)?;
            // One piece, not thousands, where they lie side by side.
            if let (Some(head), Some(tail)) = (built.file.first(), built.file.last()) {
                built.file = vec![head.clone(), buffer, tail.clone()];
            }
            Ok::<_, Error>(built)
        });
        let built = built.await??;
        create(inner, ObjectName::Segment(number), built.file).await?;
        create(inner, ObjectName::Sidecar(number), vec![built.sidecar]).await?;
        Ok(built.entries)
    }

    async fn write_large(&self, number: Number, waiting: &Waiting) -> Result<Stored> {
        let inner = &self.inner;
        let mut large = Large::begin(number, Description::of(&waiting.entry)?)?;
        let name = ObjectName::Segment(number);
        let upload = inner.store.upload(&name, large.file_bytes()).await;
        let mut upload = upload.map_err(unwritten)?;
        upload.write(large.head()).await.map_err(unwritten)?;
        let mut reader = share(&waiting.entry)?.reader(0..waiting.entry.len())?;
        while reader.remaining() > 0 {
            for piece in reader.take(PIECE_BYTES)? {
                large.pass(&piece);
                upload.write(piece).await.map_err(unwritten)?;
            }
        }
        let (tail, sidecar, stored) = large.finish()?;
        upload.write(tail).await.map_err(unwritten)?;
        upload.finish().await.map_err(unwritten)?;
        create(inner, ObjectName::Sidecar(number), vec![sidecar]).await?;
        Ok(stored)
    }

    /// Memory for a segment's bytes.
    async fn charge(&self, cache: &Cache, bytes: u64) -> Result<Charge> {
        loop {
            if let Some(charge) = cache.charge(Account::Cold, bytes) {
                return Ok(charge);
            }
            self.inner.clock.sleep(ROOM_TICK).await;
        }
    }
}

/// What is kept free by handing entries down.
fn free_wanted(cache: &Cache) -> u64 {
    cache.config().memory / FREE_SHARE
}

impl Cold {
    /// Waits a little for room that is being made by handing entries down, so that a read does not push out
    /// what is nowhere else.
    pub(super) async fn wait_for_room(&self, cache: &Cache, bytes: u64) {
        let inner = &self.inner;
        if inner.settings.write_policy == WritePolicy::Off || bytes > free_wanted(cache) {
            return;
        }
        let until = inner.clock.monotonic() + FREE_WAIT;
        while cache.free_bytes() < bytes && inner.clock.monotonic() < until {
            inner.clock.sleep(FREE_TICK).await;
        }
    }
}

/// Bytes of a segment, paid for until they are written.
struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn share(entry: &Entry) -> Result<Entry> {
    let shared = entry.share();
    shared.ok_or_else(|| Error::unavailable("too many readers have the entry"))
}

fn copy(entry: &Entry, out: &mut [u8]) -> Result<()> {
    share(entry)?.reader(0..entry.len())?.copy_to(out)
}

async fn create(inner: &Inner, name: ObjectName, pieces: Vec<Bytes>) -> Result<()> {
    inner.store.create(&name, pieces).await.map_err(unwritten)
}

fn unwritten(error: StoreError) -> Error {
    Error::unavailable(format!("cold store: {error}"))
}
