//! One segment: its number, its file, its sidecar, its entries in the index. What fails is tried again for as
//! long as it takes: until then its entries stay where they are found.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::lower::Description;
use bowstring_cache::read::Entry;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Code, Error, Result};
use bytes::Bytes;

use super::forget::gone_meanwhile;
use super::packing::Batch;
use super::queue::{Fate, Waiting, Which};
use super::{Cold, Inner, ask, blocking, failed};
use crate::entry::{Number, Stored};
use crate::format::{Large, build, check};
use crate::store::ObjectName;

/// How long after a write that failed it is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often memory for a segment is asked for.
const ROOM_TICK: Duration = Duration::from_millis(5);
/// Tensors of fewer bytes are copied together before they are written.
const COPIED_BELOW_BYTES: u64 = 64 << 10;
/// Bytes of a large tensor that are handed on at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Cold {
    pub(super) async fn write_batch(&self, cache: &Cache, mut batch: Batch) {
        let inner = &self.inner;
        let mut failed = false;
        loop {
            batch.waiting = self.dirty(batch.waiting).await;
            if batch.waiting.is_empty() {
                break;
            }
            let Err(why) = self.try_batch(cache, &batch).await else {
                // Some may have been refused: look who is left.
                continue;
            };
            let is_ours = !matches!(why.code, Code::Unavailable | Code::FailedPrecondition);
            if is_ours && self.drop_unwritable(&batch.waiting).await {
                continue;
            }
            if !failed {
                failed = true;
                inner.counters.failing.add(1);
                tracing::warn!(error = %why.message, "cold tier: a segment was not written, it is tried again");
            }
            inner.counters.failed_writes.add(1);
            if inner.fence.is_lost() {
                batch.waiting.iter().for_each(|one| self.give_up(one, &why));
                break;
            }
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

    /// Lets go of those that no trying makes writable; whether there were any.
    async fn drop_unwritable(&self, waiting: &[Arc<Waiting>]) -> bool {
        let (cold, waiting) = (self.clone(), waiting.to_vec());
        let dropped = blocking(move || {
            let checked = |one: &Waiting| {
                let description = Description::of(&one.entry)?;
                check(&description, &pieces(&one.entry)?)
            };
            let mut dropped = false;
            for one in &waiting {
                let Err(why) = checked(one) else { continue };
                // Too many readers have it just now.
                if why.code == Code::Unavailable {
                    continue;
                }
                tracing::error!(
                    error = %why.message, namespace = %one.id.namespace, version = %one.entry.version(),
                    "cold tier: an entry cannot be written down, and is not"
                );
                cold.give_up(one, &why);
                dropped = true;
            }
            dropped
        });
        dropped.await.unwrap_or(false)
    }

    /// It will never be written.
    fn give_up(&self, one: &Arc<Waiting>, why: &Error) {
        let inner = &self.inner;
        inner.counters.dropped.add(1);
        inner.counters.dropped_bytes.add(one.entry.len());
        inner.queue.done(one, Fate::Failed(why.message.to_string()));
    }

    /// Those that are still to be written: the others have been let go, or are down already.
    async fn dirty(&self, waiting: Vec<Arc<Waiting>>) -> Vec<Arc<Waiting>> {
        let cold = self.clone();
        let checked = blocking(move || {
            let inner = &cold.inner;
            let is_down = |waiting: &Waiting| {
                cold.working().is_some_and(|index| {
                    let which = Which::of(&waiting.entry);
                    let there = || index.get(&waiting.id);
                    index.may_have(&waiting.id)
                        && matches!(there(), Ok(Some(there)) if which.is(&there.description))
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
        if self.working().is_none() {
            return Err(gone_meanwhile());
        }
        self.may_write().await?;
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
        let ids: Vec<Id> = entries
            .iter()
            .map(|one| one.description.id.clone())
            .collect();
        let file_bytes = entries
            .iter()
            .map(|one| one.place.offset + one.description.len)
            .max();
        let inserted = ask(self, move |index| {
            index.add_segment(number, file_bytes.unwrap_or(0))?;
            index.insert_all(&entries)
        });
        let inserted = inserted.await?.ok_or_else(gone_meanwhile)?;
        inner.counters.segments.add(1);
        // What was refused is gone; or what it took the place of was forgotten after the number was taken, and it
        // is written once more.
        let refused = ids.iter().zip(inserted).filter(|(_, is_in)| !is_in);
        let refused: HashSet<&Id> = refused.map(|(id, _)| id).collect();
        for one in waiting.iter().filter(|one| !refused.contains(&one.id)) {
            inner.counters.written.add(1);
            inner.counters.written_bytes.add(one.entry.len());
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
        // Small ones first: they are copied side by side, the others are written from where they lie.
        let (mut waiting, large): (Vec<_>, Vec<_>) = waiting
            .iter()
            .cloned()
            .partition(|one| one.entry.len() < COPIED_BELOW_BYTES);
        let copied = waiting.len();
        let bytes = waiting.iter().map(|one| one.entry.len()).sum();
        waiting.extend(large);
        let charge = self.charge(cache, bytes).await;
        let layout = batch.layout.clone();
        let built = blocking(move || {
            let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            let mut at = 0;
            for one in &waiting[..copied] {
                let len = usize::try_from(one.entry.len()).unwrap_or(usize::MAX);
                share(&one.entry)?
                    .reader(0..one.entry.len())?
                    .copy_to(&mut buffer[at..at + len])?;
                at += len;
            }
            let buffer = Bytes::from_owner(Charged {
                bytes: buffer,
                _charge: charge,
            });
            let mut tensors = Vec::with_capacity(waiting.len());
            let mut left = buffer.clone();
            let mut pieces_of_large = Vec::new();
            for (at, one) in waiting.iter().enumerate() {
                let len = usize::try_from(one.entry.len()).unwrap_or(usize::MAX);
                let pieces = if at < copied {
                    vec![left.split_to(len)]
                } else {
                    let pieces = pieces(&one.entry)?;
                    pieces_of_large.extend(pieces.iter().cloned());
                    pieces
                };
                tensors.push((Description::of(&one.entry)?, pieces));
            }
            let mut built = build(number, &layout, tensors)?;
            // The copied ones as the one piece that they are, not as thousands.
            if let (Some(head), Some(tail)) = (built.file.first(), built.file.last()) {
                let around = (head.clone(), tail.clone());
                built.file = vec![around.0, buffer];
                built.file.extend(pieces_of_large);
                built.file.push(around.1);
            }
            Ok::<_, Error>(built)
        });
        let built = built.await??;
        create(inner, ObjectName::Segment(number), built.file).await?;
        self.write_sidecar(number, built.sidecar).await?;
        Ok(built.entries)
    }

    async fn write_large(&self, number: Number, waiting: &Waiting) -> Result<Stored> {
        let inner = &self.inner;
        let mut large = Large::begin(number, Description::of(&waiting.entry)?)?;
        let name = ObjectName::Segment(number);
        let upload = inner.store.upload(&name, large.file_bytes()).await;
        let mut upload = upload.map_err(failed)?;
        upload.write(large.head()).await.map_err(failed)?;
        let mut reader = share(&waiting.entry)?.reader(0..waiting.entry.len())?;
        while reader.remaining() > 0 {
            for piece in reader.take(PIECE_BYTES)? {
                large.pass(&piece);
                upload.write(piece).await.map_err(failed)?;
            }
        }
        let (tail, sidecar, stored) = large.finish()?;
        upload.write(tail).await.map_err(failed)?;
        upload.finish().await.map_err(failed)?;
        self.write_sidecar(number, sidecar).await?;
        Ok(stored)
    }

    /// Memory for a segment's bytes.
    async fn charge(&self, cache: &Cache, bytes: u64) -> Charge {
        loop {
            if let Some(charge) = cache.charge(Account::Cold, bytes) {
                return charge;
            }
            self.inner.clock.sleep(ROOM_TICK).await;
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

/// The bytes of an entry, where they lie.
fn pieces(entry: &Entry) -> Result<Vec<Bytes>> {
    let mut reader = share(entry)?.reader(0..entry.len())?;
    let mut pieces = Vec::new();
    while reader.remaining() > 0 {
        pieces.extend(reader.take(PIECE_BYTES)?);
    }
    Ok(pieces)
}

async fn create(inner: &Inner, name: ObjectName, pieces: Vec<Bytes>) -> Result<()> {
    inner.store.create(&name, pieces).await.map_err(failed)
}
