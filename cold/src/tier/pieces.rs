//! A large tensor's blocks out of its segment, in order: some of them at a time, a few such pieces ahead, each with its
//! room before it is asked for. Who finds no room reads less far ahead, and then waits. Each block is checked. One that is
//! compressed has room for its frame too, until it is decompressed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bowstring_cache::Cache;
use bowstring_wire::error::{Code, Error};
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::passing::Block;
use super::unpacking::{block_bytes, no_frame};
use super::{Cold, blocking, failed};
use crate::entry::{BLOCK_BYTES, Stored};
use crate::format::verify;
use crate::store::{ObjectName, StoreError};

/// Pieces on their way at one time, of one tensor.
const AHEAD: usize = 3;

/// Why bytes did not come.
pub(super) enum Lost {
    /// They are not there, or are not those that were written.
    Damaged,
    /// The store did not answer, or memory has no room.
    Failed(Error),
}

/// Blocks of a tensor on their way.
pub(super) struct Pieces {
    cold: Cold,
    cache: Cache,
    stored: Arc<Stored>,
    start: u64,
    /// What is behind this was not asked for.
    asked: u64,
    end: u64,
    ahead: VecDeque<JoinHandle<Result<VecDeque<Bytes>, Lost>>>,
    came: VecDeque<Bytes>,
}

impl Pieces {
    /// The bytes of `range`, which are those of whole blocks.
    pub(super) fn new(cold: &Cold, cache: &Cache, stored: &Arc<Stored>, range: Range<u64>) -> Self {
        Self {
            cold: cold.clone(),
            cache: cache.clone(),
            stored: Arc::clone(stored),
            start: range.start,
            asked: range.start,
            end: range.end,
            ahead: VecDeque::with_capacity(AHEAD),
            came: VecDeque::new(),
        }
    }

    /// The next block; `None` at the end. Nothing is lost where this is dropped before it is done.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        let passing = Arc::clone(&self.cold.inner.passing);
        while self.came.is_empty() {
            if self.ahead.is_empty() && self.asked < self.end {
                let count = self.step();
                let room = passing.take(&self.cache, self.room_of(count));
                let room = room.await.map_err(Lost::Failed)?;
                self.ask(count, room);
            }
            while self.ahead.len() < AHEAD && self.asked < self.end {
                let count = self.step();
                let room = passing.try_take(&self.cache, self.room_of(count));
                let Some(room) = room else { break };
                self.ask(count, room);
            }
            let Some(first) = self.ahead.front_mut() else {
                return Ok(None);
            };
            let came = first.await;
            self.ahead.pop_front();
            let gone = |_| Lost::Failed(Error::unavailable("the cold tier is being shut down"));
            self.came = came.map_err(gone)??;
        }
        Ok(self.came.pop_front())
    }

    /// Blocks of the next piece; the first one is small, because somebody waits for it.
    fn step(&self) -> usize {
        let left = (self.end - self.asked).div_ceil(BLOCK_BYTES);
        let piece = match self.asked == self.start {
            true => 1,
            false => self.cold.inner.passing.piece_blocks(),
        };
        piece.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn room_of(&self, count: usize) -> usize {
        match self.stored.is_packed() {
            true => 2 * count,
            false => count,
        }
    }

    fn ask(&mut self, count: usize, room: Vec<Block>) {
        let start = self.asked;
        self.asked = self.end.min(start + count as u64 * BLOCK_BYTES);
        let (cold, stored, range) = (
            self.cold.clone(),
            Arc::clone(&self.stored),
            start..self.asked,
        );
        // On a task of its own: it goes on while what came before is sent, and to its end in any case.
        self.ahead.push_back(tokio::spawn(async move {
            cold.read_blocks(stored, range, room).await
        }));
    }
}

impl Cold {
    async fn read_blocks(
        &self,
        stored: Arc<Stored>,
        range: Range<u64>,
        mut room: Vec<Block>,
    ) -> Result<VecDeque<Bytes>, Lost> {
        let (inner, place) = (&self.inner, stored.place);
        inner.is_read(place.prefix, place.segment);
        let store = inner.store_of(place.prefix);
        let name = ObjectName::Segment(place.segment);
        let first = usize::try_from(range.start / BLOCK_BYTES).unwrap_or(usize::MAX);
        let blocks = match stored.is_packed() {
            true => room.split_off(room.len() / 2),
            false => Vec::new(),
        };
        let lies = |nth: usize| match stored.frames.get(nth) {
            Some(frame) => usize::try_from(*frame).unwrap_or(usize::MAX),
            None => block_bytes(&stored, nth),
        };
        let mut at = 0;
        let fill = |mut bytes: &[u8]| {
            while let Some(block) = room.get_mut(at).filter(|_| !bytes.is_empty()) {
                bytes = &bytes[block.fill(bytes, lies(first.saturating_add(at)))..];
                // It is full.
                at += usize::from(!bytes.is_empty());
            }
        };
        let of_file = stored.in_file(range);
        match store.read_pieces(&name, of_file, fill).await {
            Ok(()) => {}
            Err(StoreError::NotFound | StoreError::Short { .. }) => return Err(Lost::Damaged),
            Err(error) => {
                inner.counters.failed_reads.add(1);
                return Err(Lost::Failed(failed(error)));
            }
        }
        if stored.is_packed() {
            let cold = self.clone();
            let unpacked = blocking(move || cold.unpack(&stored, first, room, blocks));
            return unpacked.await.map_err(Lost::Failed)?;
        }
        let are_right = room
            .iter()
            .enumerate()
            .all(|(nth, block)| verify(&stored, first.saturating_add(nth), block.as_ref()));
        match are_right {
            true => Ok(room.into_iter().map(Bytes::from_owner).collect()),
            false => Err(Lost::Damaged),
        }
    }

    /// The blocks of frames, from the `first` on. What a frame had is free at once.
    fn unpack(
        &self,
        stored: &Stored,
        first: usize,
        frames: Vec<Block>,
        blocks: Vec<Block>,
    ) -> Result<VecDeque<Bytes>, Lost> {
        let unpacked = self.inner.unpackers.with(|unpacker| {
            let mut unpacked = VecDeque::with_capacity(blocks.len());
            for (nth, (frame, mut block)) in (first..).zip(frames.into_iter().zip(blocks)) {
                let is_right = block.unpack(unpacker, &frame, block_bytes(stored, nth))
                    && verify(stored, nth, block.as_ref());
                if !is_right {
                    return Err(no_frame());
                }
                unpacked.push_back(Bytes::from_owner(block));
            }
            Ok(unpacked)
        });
        unpacked.map_err(|error| match error.code {
            Code::DataLoss => Lost::Damaged,
            _ => Lost::Failed(error),
        })
    }
}
