//! One segment: its number, its file, its sidecar, its entries in the index. What fails is tried again for as
//! long as it takes: until then its entries stay where they are found.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::lower::Description;
use bowstring_cache::read::Entry;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::settings::Compression;
use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::forget::gone_meanwhile;
use super::packing::Batch;
use super::queue::{Fate, Waiting, Which};
use super::{Cold, Inner, ask, blocking, failed};
use crate::entry::{Number, Stored};
use crate::format::pack::PACKER_BYTES;
use crate::format::{Built, Layout, Packer, Tensor, build, check};
use crate::store::ObjectName;

/// How long after a write that failed it is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often memory for a segment is asked for.
const ROOM_TICK: Duration = Duration::from_millis(5);
/// One processor in so many compresses.
const PACK_SHARE: usize = 4;
/// Tensors of fewer bytes are copied together before they are written.
const COPIED_BELOW_BYTES: u64 = 64 << 10;
/// Bytes of a large tensor that are handed on at a time.
pub(super) const PIECE_BYTES: usize = 1 << 20;

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
            let ids: Vec<Id> = waiting.iter().map(|one| one.id.clone()).collect();
            let there = cold.working().and_then(|index| index.get_all(&ids).ok());
            let mut there = there.unwrap_or_default().into_iter();
            let mut dirty = Vec::with_capacity(waiting.len());
            for one in waiting {
                let is_down = there
                    .next()
                    .flatten()
                    .is_some_and(|there| Which::of(&one.entry).is(&there.description));
                if one.is_gone() {
                    continue;
                }
                if inner.is_expired(one.entry.expires_at_ms()) || is_down {
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
                vec![self.write_large(cache, number, large).await?]
            }
            _ => self.write_small(cache, number, batch, waiting).await?,
        };
        let ids: Vec<Id> = entries
            .iter()
            .map(|one| one.description.id.clone())
            .collect();
        let packed = entries.iter().filter(|one| one.is_packed());
        let packed: HashMap<Id, u64> = packed
            .map(|one| (one.description.id.clone(), one.file_bytes()))
            .collect();
        let file_bytes = entries
            .iter()
            .map(|one| one.place.offset + one.file_bytes())
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
            if let Some(file_bytes) = packed.get(&one.id) {
                inner.counters.packed.add(1);
                inner.counters.packed_bytes.add(one.entry.len());
                inner.counters.packed_file_bytes.add(*file_bytes);
            }
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
        let all = waiting.iter().cloned();
        let (to_pack, plain): (Vec<_>, Vec<_>) = all.partition(|one| may_pack(cache, &one.id));
        let len = |one: &Arc<Waiting>| one.entry.len();
        let copied = plain.iter().filter(|one| is_copied(one));
        // What is not worth being compressed is copied into the room of its frames.
        let bytes: u64 = to_pack.iter().chain(copied).map(len).sum();
        let (mut room, mut leave) = (bytes, None);
        if !to_pack.is_empty() {
            room += PACKER_BYTES;
            leave = Some(self.leave_to_pack().await?);
        }
        let charge = self.charge(cache, room).await;
        let layout = batch.layout.clone();
        let built = blocking(move || {
            let room = usize::try_from(bytes).unwrap_or(usize::MAX);
            build_small(number, &layout, to_pack, plain, (room, charge))
        });
        let built = built.await??;
        drop(leave);
        create(inner, ObjectName::Segment(number), built.file).await?;
        self.write_sidecar(number, built.sidecar).await?;
        Ok(built.entries)
    }

    /// Waits for others who compress.
    pub(super) async fn leave_to_pack(&self) -> Result<SemaphorePermit<'_>> {
        let leave = self.inner.packing.acquire().await;
        leave.map_err(|_| Error::unavailable("the cold tier is being shut down"))
    }

    /// Memory for a segment's bytes.
    pub(super) async fn charge(&self, cache: &Cache, bytes: u64) -> Charge {
        loop {
            if let Some(charge) = cache.charge(Account::Cold, bytes) {
                return charge;
            }
            self.inner.clock.sleep(ROOM_TICK).await;
        }
    }
}

/// How many may compress at one time: most of the processors are for those who are served.
pub(super) fn packers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / PACK_SHARE).max(1)
}

/// Whether a key's namespace has its tensors compressed, where that is worth it.
pub(super) fn may_pack(cache: &Cache, id: &Id) -> bool {
    let settings = cache.settings(&id.tenant, &id.namespace);
    settings.compression == Some(Compression::Zstd)
}

fn is_copied(waiting: &Waiting) -> bool {
    waiting.entry.len() < COPIED_BELOW_BYTES
}

/// A segment out of what is to be compressed and what is not. Frames and small tensors are copied side by side, the
/// others are written from where they lie.
fn build_small(
    number: Number,
    layout: &Layout,
    to_pack: Vec<Arc<Waiting>>,
    mut plain: Vec<Arc<Waiting>>,
    (room, charge): (usize, Charge),
) -> Result<Built> {
    let mut buffer = Vec::with_capacity(room);
    let mut packed = Vec::new();
    if !to_pack.is_empty() {
        let mut packer = Packer::new()?;
        for one in to_pack {
            let description = Description::of(&one.entry)?;
            let mut reader = share(&one.entry)?.reader(0..one.entry.len())?;
            let next = |block: &mut [u8]| reader.copy_to(block);
            match Tensor::pack(&description, &mut packer, next, &mut buffer)? {
                Some(frames) => packed.push((description, frames)),
                None => plain.push(one),
            }
        }
    }
    let (copied, large): (Vec<_>, Vec<_>) = plain.into_iter().partition(|one| is_copied(one));
    for one in &copied {
        let at = buffer.len();
        buffer.resize(at + length(one.entry.len()), 0);
        share(&one.entry)?
            .reader(0..one.entry.len())?
            .copy_to(&mut buffer[at..])?;
    }
    let buffer = Bytes::from_owner(Charged {
        bytes: buffer,
        _charge: charge,
    });
    let mut left = buffer.clone();
    let mut tensors = Vec::with_capacity(packed.len() + copied.len() + large.len());
    for (description, packed) in packed {
        let frames = left.split_to(length(packed.bytes()));
        tensors.push(Tensor::packed(description, packed, frames));
    }
    for one in &copied {
        let bytes = left.split_to(length(one.entry.len()));
        tensors.push(Tensor::new(Description::of(&one.entry)?, vec![bytes])?);
    }
    let mut pieces_of_large = Vec::new();
    for one in &large {
        let pieces = pieces(&one.entry)?;
        pieces_of_large.extend(pieces.iter().cloned());
        tensors.push(Tensor::new(Description::of(&one.entry)?, pieces)?);
    }
    let mut built = build(number, layout, tensors)?;
    // The copied ones as the one piece that they are, not as thousands.
    if let (Some(head), Some(tail)) = (built.file.first(), built.file.last()) {
        let around = (head.clone(), tail.clone());
        built.file = vec![around.0, buffer];
        built.file.extend(pieces_of_large);
        built.file.push(around.1);
    }
    Ok(built)
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
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

pub(super) fn share(entry: &Entry) -> Result<Entry> {
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
