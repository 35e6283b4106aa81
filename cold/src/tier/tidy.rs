//! What is done in the background: segments of which little is alive are rewritten, dead ones and orphans go,
//! the store is kept within its limit by giving up what was not read for longest, old log records go, and the
//! ledger is told what the index has in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::lower::Description;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bytes::Bytes;

use super::build::RECORD_BYTES_MAX;
use super::packing::{Kind, kind_of, layout_of};
use super::{Cold, ask, blocking, failed};
use crate::entry::{BLOCK_BYTES, Number, Place, Stored};
use crate::format::{Layout, Tensor, build, read_sidecar};
use crate::index::Segment;
use crate::store::{Folder, ObjectName, StoreError};

/// Between two rounds.
const TICK: Duration = Duration::from_secs(1);
/// Rounds between two looks for log records that nobody needs.
const LOG_ROUNDS: u64 = 300;
/// Rows of cleared namespaces that one round takes away.
const ROWS_A_ROUND: usize = 16_384;
/// Segments of which less than one part in so many is alive are rewritten.
const LIVE_SHARE: u64 = 2;
/// What of a segment is dead at least, for it to be worth a write.
const DEAD_MIN: u64 = 256 << 10;
/// A segment is small that has less than one part in so many of what one may have, and so many of those are
/// too many.
const SMALL_SHARE: u64 = 16;
const SMALL_MIN: usize = 32;
/// Bytes a second that rewriting may read.
const REWRITE_RATE: u64 = 64 << 20;
/// Segments that one round takes away.
const DROPS_A_ROUND: usize = 64;

impl Cold {
    /// Does all of the above. Runs until it is dropped.
    pub async fn tidy(&self, cache: Cache) {
        let inner = &self.inner;
        while inner.index.get().is_none() {
            inner.clock.sleep(TICK).await;
        }
        if let Err(error) = self.drop_orphans().await {
            tracing::warn!(error = %error.message, "cold tier: orphans were not removed");
        }
        let mut charge: Option<Charge> = None;
        for round in 1_u64.. {
            inner.clock.sleep(TICK).await;
            self.charge_own(&cache, &mut charge);
            inner.passing.trim();
            if inner.fence.is_lost() {
                continue;
            }
            let done = async {
                self.sweep().await?;
                self.drop_dead().await?;
                self.keep_within_limit(&cache).await?;
                self.rewrite_some(&cache).await?;
                self.merge_kept(&cache).await?;
                if round % LOG_ROUNDS == 0 {
                    // What an earlier start has written behind our back is one, too.
                    self.drop_orphans().await?;
                    self.drop_old_log().await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = done.await {
                tracing::debug!(error = %error.message, "cold tier: tidying is tried again");
            }
        }
    }

    fn charge_own(&self, cache: &Cache, charge: &mut Option<Charge>) {
        let inner = &self.inner;
        let bytes =
            inner.stats().index_bytes + inner.store.buffer_bytes() + inner.unpackers.bytes();
        let held = charge.as_ref().map_or(0, Charge::bytes);
        if charge.as_mut().is_some_and(|charge| charge.resize(bytes)) {
            return;
        }
        // Makes room for what is missing. Where there is none, what is paid for stays so.
        let room = cache.charge(Account::Cold, bytes.saturating_sub(held));
        match charge {
            Some(charge) => {
                drop(room);
                let _ = charge.resize(bytes);
            }
            None => *charge = room,
        }
    }

    /// Rows of namespaces that were cleared.
    async fn sweep(&self) -> Result<()> {
        let settled = self.settled();
        ask(self, move |index| {
            index.settle(settled);
            let mut left = ROWS_A_ROUND;
            while left > 0 && index.tidy(512)? {
                left = left.saturating_sub(512);
            }
            Ok(())
        })
        .await
        .map(drop)
    }

    /// No segment below this number is on its way.
    pub(super) fn settled(&self) -> Number {
        let open = self.inner.open.lock();
        let next = Number(self.inner.next.load(Ordering::SeqCst));
        open.first().copied().unwrap_or(next)
    }

    /// Segments that are whole, with what of them is alive.
    pub(super) async fn segments(&self) -> Result<Vec<Segment>> {
        let open: BTreeSet<Number> = self.inner.open.lock().clone();
        let segments = ask(self, |index| Ok(index.segments())).await?;
        let mut segments = segments.unwrap_or_default();
        segments.retain(|segment| !open.contains(&segment.number));
        Ok(segments)
    }

    pub(super) async fn drop_dead(&self) -> Result<()> {
        let segments = self.segments().await?.into_iter();
        let dead = segments.filter(|segment| segment.live_entries == 0);
        for segment in dead.take(DROPS_A_ROUND) {
            self.drop_segment(segment.number).await?;
        }
        Ok(())
    }

    /// The sidecar first: without it, the rest does not count.
    async fn drop_segment(&self, number: Number) -> Result<()> {
        let inner = &self.inner;
        self.may_write().await?;
        for name in [ObjectName::Sidecar(number), ObjectName::Segment(number)] {
            inner.store.delete(&name).await.map_err(failed)?;
        }
        inner.last_read.lock().remove(&number);
        ask(self, move |index| index.drop_segment(number)).await?;
        inner.counters.segments_dropped.add(1);
        Ok(())
    }

    /// Gives up what was not read for longest, until the rest is no more than may be.
    pub(super) async fn keep_within_limit(&self, cache: &Cache) -> Result<()> {
        let Some(max) = self.inner.settings.bytes_max else {
            return Ok(());
        };
        let mut segments = self.segments().await?;
        let mut total: u64 = segments.iter().map(|segment| segment.total_bytes).sum();
        if total <= max {
            return Ok(());
        }
        let read: BTreeMap<Number, Duration> = self.inner.last_read.lock().clone();
        segments.sort_by_key(|segment| (read.get(&segment.number).copied(), segment.number));
        for segment in segments.into_iter().take(DROPS_A_ROUND) {
            if total <= max {
                break;
            }
            total -= segment.total_bytes;
            let entries = self.sidecar(segment.number).await?;
            let given_up = segment.live_entries;
            let placed = |stored: Stored| (stored.description.id, stored.place);
            let all: Arc<[_]> = entries.into_iter().map(placed).collect();
            let removed = Arc::clone(&all);
            ask(self, move |index| index.remove_placed(&removed)).await?;
            // What memory has of it goes down once more before it goes.
            for entry in all.iter().filter_map(|(id, _)| cache.peek(id)) {
                entry.set_below(false);
            }
            self.inner.counters.given_up.add(given_up);
            self.drop_segment(segment.number).await?;
        }
        Ok(())
    }

    async fn sidecar(&self, number: Number) -> Result<Vec<Stored>> {
        let name = ObjectName::Sidecar(number);
        match self.inner.store.read_all(&name, RECORD_BYTES_MAX).await {
            Ok(bytes) => Ok(read_sidecar(number, &bytes)?.entries),
            Err(StoreError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Rewrites segments of which little is alive, and those that are small, each kind of tensors together.
    pub(super) async fn rewrite_some(&self, cache: &Cache) -> Result<()> {
        let inner = &self.inner;
        let (from, bytes) = chosen(self.segments().await?, inner.settings.segment_bytes);
        if from.is_empty() {
            return Ok(());
        }
        // And a block, for one that is to be decompressed.
        let Some(_charge) = cache.charge(Account::Cold, bytes + BLOCK_BYTES) else {
            return Ok(());
        };
        let mut entries = Vec::new();
        for number in from {
            entries.extend(self.sidecar(number).await?);
        }
        let mut read = 0;
        let entries = self.alive(entries).await?;
        for (layout, entries) in by_kind(entries, inner.settings.segment_bytes / SMALL_SHARE) {
            // The number first: what is forgotten from now on is forgotten of it too.
            let number = inner.open_number();
            let rewritten = self.rewrite(number, &layout, entries).await;
            inner.open.lock().remove(&number);
            read += rewritten?;
        }
        let pause = Duration::from_millis(read * 1_000 / REWRITE_RATE);
        inner.clock.sleep(pause).await;
        Ok(())
    }

    /// Those that the index has where they were.
    async fn alive(&self, entries: Vec<Stored>) -> Result<Vec<Stored>> {
        let alive = ask(self, move |index| {
            let ids = entries.iter().map(|stored| stored.description.id.clone());
            let ids: Vec<Id> = ids.collect();
            let now = index.get_all(&ids)?.into_iter();
            let is_alive = |(stored, now): (Stored, Option<Stored>)| {
                now.is_some_and(|now| now.place == stored.place)
                    .then_some(stored)
            };
            Ok(entries.into_iter().zip(now).filter_map(is_alive).collect())
        });
        Ok(alive.await?.unwrap_or_default())
    }

    /// Writes them into a segment of this number; gives the bytes that were read.
    async fn rewrite(&self, number: Number, layout: &Layout, entries: Vec<Stored>) -> Result<u64> {
        let inner = &self.inner;
        let live = self.alive(entries).await?;
        let (mut tensors, mut moved, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        let mut read = 0;
        for stored in live {
            let len = stored.file_bytes();
            let range = stored.place.offset..stored.place.offset + len;
            let name = ObjectName::Segment(stored.place.segment);
            let bytes = match len {
                0 => Bytes::new(),
                _ => inner.store.read(&name, range).await.map_err(failed)?,
            };
            read += len;
            // What lies compressed moves as it is.
            let cold = self.clone();
            let checked = blocking(move || (cold.is_whole(&stored, &bytes), stored, bytes));
            let (is_whole, stored, bytes) = checked.await?;
            if is_whole {
                moved.push(stored.place);
                tensors.push(Tensor::moved(stored, bytes));
            } else {
                dead.push((stored.description.id, stored.place));
            }
        }
        if !dead.is_empty() {
            ask(self, move |index| index.remove_placed(&dead)).await?;
        }
        if tensors.is_empty() {
            return Ok(read);
        }
        let built = build(number, layout, tensors)?;
        let bytes = built.file_bytes();
        let name = ObjectName::Segment(number);
        let written = inner.store.create(&name, built.file).await;
        written.map_err(failed)?;
        self.write_sidecar(number, built.sidecar).await?;
        let moves: Vec<(Place, Stored)> = moved.into_iter().zip(built.entries).collect();
        ask(self, move |index| {
            index.add_segment(number, bytes)?;
            index.move_all(&moves)
        })
        .await?;
        inner.counters.rewritten.add(1);
        Ok(read)
    }

    /// Whether a tensor is not expired, and these are its bytes.
    fn is_whole(&self, stored: &Stored, bytes: &[u8]) -> bool {
        let inner = &self.inner;
        !inner.is_expired(stored.description.expires_at_ms)
            && inner.unpackers.are_right(stored, bytes)
    }

    /// Objects that the index knows nothing of, and that nobody is writing: their writes were not acknowledged.
    pub(super) async fn drop_orphans(&self) -> Result<()> {
        let inner = &self.inner;
        self.may_write().await?;
        let until = self.settled();
        let known: BTreeSet<Number> = self
            .segments()
            .await?
            .iter()
            .map(|one| one.number)
            .collect();
        let listed = inner.store.list(Folder::Segments).await.map_err(failed)?;
        let is_orphan = |name: &ObjectName| {
            let number = Number(name.number());
            number < until && !known.contains(&number)
        };
        let orphans = listed.into_iter().map(|listed| listed.name);
        let orphans = orphans.filter(is_orphan);
        for (nth, name) in orphans.enumerate() {
            if nth % DROPS_A_ROUND == DROPS_A_ROUND - 1 {
                inner.clock.sleep(TICK).await;
            }
            inner.store.delete(&name).await.map_err(failed)?;
            inner.counters.orphans.add(1);
        }
        if inner.settings.state_dir.is_some() {
            // Of a start that had its index there.
            for listed in inner.store.list(Folder::Index).await.map_err(failed)? {
                inner.store.delete(&listed.name).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Leaves the index in the store as it is now, where it lies there.
    pub(super) async fn save_index(&self) {
        let settled = self.settled();
        let saved = ask(self, move |index| {
            if index.is_in_store() {
                index.settle(settled);
                index.save()?;
            }
            Ok(())
        });
        if let Err(error) = saved.await {
            tracing::warn!(error = %error.message, "cold tier: the index was not saved, the next start reads more");
        }
    }

    /// A record says nothing any more once all segments are younger.
    async fn drop_old_log(&self) -> Result<()> {
        let inner = &self.inner;
        self.may_write().await?;
        let settled = self.settled();
        let oldest = self.segments().await?.first().map(|segment| segment.number);
        let oldest = oldest.map_or(settled, |oldest| oldest.min(settled));
        for listed in inner.store.list(Folder::Log).await.map_err(failed)? {
            if listed.name.number() < oldest.0 {
                inner.store.delete(&listed.name).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Tensors for a segment each: those of one kind, where they make more than a small one, and the others together.
fn by_kind(entries: Vec<Stored>, small_bytes: u64) -> Vec<(Layout, Vec<Stored>)> {
    let mut kinds: HashMap<Kind, Vec<Stored>> = HashMap::new();
    for stored in entries {
        let Description {
            id, dtype, shape, ..
        } = &stored.description;
        let kind = kind_of(id, *dtype, shape.clone());
        kinds.entry(kind).or_default().push(stored);
    }
    let mut others = Vec::new();
    let mut segments = Vec::new();
    for (kind, entries) in kinds {
        let bytes: u64 = entries.iter().map(Stored::file_bytes).sum();
        // A small one would be rewritten again and again.
        if bytes < small_bytes {
            others.extend(entries);
        } else {
            segments.push((layout_of(kind), entries));
        }
    }
    if !others.is_empty() {
        segments.push((Layout::Opaque, others));
    }
    segments
}

/// Segments that are worth rewriting together, and the bytes in them that are alive.
fn chosen(segments: Vec<Segment>, segment_bytes: u64) -> (Vec<Number>, u64) {
    let small = segments
        .iter()
        .filter(|segment| segment.total_bytes < segment_bytes / SMALL_SHARE)
        .count();
    let mut worth: Vec<Segment> = segments
        .into_iter()
        .filter(|segment| {
            let dead = segment.total_bytes.saturating_sub(segment.live_bytes);
            let is_small = segment.total_bytes < segment_bytes / SMALL_SHARE;
            segment.live_bytes < segment_bytes
                && (dead >= DEAD_MIN && segment.live_bytes * LIVE_SHARE < segment.total_bytes
                    || is_small && small >= SMALL_MIN)
        })
        .collect();
    worth.sort_by_key(|segment| segment.live_bytes);
    let mut bytes = 0;
    let taken = worth.iter().take_while(|segment| {
        bytes += segment.live_bytes;
        bytes <= segment_bytes
    });
    let taken: Vec<Segment> = taken.copied().collect();
    let bytes = taken.iter().map(|segment| segment.live_bytes).sum();
    (taken.iter().map(|segment| segment.number).collect(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, live_entries: u64, live_bytes: u64, total_bytes: u64) -> Segment {
        Segment {
            number: Number(number),
            live_entries,
            live_bytes,
            total_bytes,
        }
    }

    #[test]
    fn what_is_mostly_dead_is_rewritten_the_emptiest_first() {
        const MIB: u64 = 1 << 20;
        let segments = vec![
            segment(1, 9, 31 * MIB, 32 * MIB),
            segment(2, 9, 15 * MIB, 32 * MIB),
            segment(3, 1, 10, 3_000),
            segment(4, 2, 2 * MIB, 32 * MIB),
            segment(5, 2, 16 * MIB - 1, 32 * MIB),
        ];
        let (numbers, bytes) = chosen(segments, 32 * MIB);
        assert_eq!(
            numbers,
            [Number(4), Number(2)],
            "and no more than fits into one"
        );
        assert_eq!(bytes, 17 * MIB);
    }

    #[test]
    fn many_small_ones_become_one_and_few_stay() {
        let few: Vec<Segment> = (0..31).map(|n| segment(n, 1, 100, 2_000)).collect();
        assert_eq!(chosen(few.clone(), 32 << 20), (vec![], 0));
        let many: Vec<Segment> = (0..32).map(|n| segment(n, 1, 100, 2_000)).collect();
        assert_eq!(chosen(many, 32 << 20).0.len(), 32);
    }
}
