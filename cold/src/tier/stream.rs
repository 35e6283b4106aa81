//! A large tensor straight from the store to who reads it: all of it, or the blocks in which the rows lie that were
//! asked for. Memory has no more of it than a few pieces; no byte is given before its block was checked.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cache::lower::{Coming, Description, InPieces, Later};
use bowstring_wire::error::{Error, Result};
use bytes::Bytes;

use super::Cold;
use super::pieces::{Lost, Pieces};
use super::reader::Landed;
use crate::entry::{BLOCK_BYTES, Stored};
use crate::format::blocks_of;

/// How often a block is asked for anew once others were sent, in the time that there is: who reads can do nothing but begin again.
const TRIES: usize = 5;

/// One that was found.
pub(super) struct Large {
    pub(super) cold: Cold,
    pub(super) cache: Cache,
    pub(super) stored: Arc<Stored>,
}

/// One that is being read.
struct Stream {
    cold: Cold,
    cache: Cache,
    stored: Arc<Stored>,
    /// What was not given yet.
    left: Range<u64>,
    pieces: Pieces,
    first: Option<Bytes>,
    /// How long it has waited for blocks, all together.
    waited: Duration,
}

impl InPieces for Large {
    fn description(&self) -> &Description {
        &self.stored.description
    }

    fn read(&self, range: Range<u64>) -> Later<'_, Option<Box<dyn Coming>>> {
        Box::pin(async move {
            let begun = Stream::begin(self, range).await?;
            Ok(begun.map(|stream| Box::new(stream) as Box<dyn Coming>))
        })
    }
}

impl Stream {
    async fn begin(large: &Large, range: Range<u64>) -> Result<Option<Self>> {
        let Large {
            cold,
            cache,
            stored,
        } = large;
        let mut stream = Self {
            cold: cold.clone(),
            cache: cache.clone(),
            stored: Arc::clone(stored),
            pieces: pieces(cold, cache, stored, &range),
            left: range,
            first: None,
            waited: Duration::ZERO,
        };
        match stream.next_piece().await {
            Ok(first) => {
                cold.inner.count_hit(stored.place.prefix);
                stream.first = first;
                Ok(Some(stream))
            }
            Err(Lost::Failed(error)) => Err(error),
            Err(Lost::Damaged) => match cold.damaged(Stored::clone(stored)).await {
                Landed::Failed(error) => Err(error),
                _ => Ok(None),
            },
        }
    }

    async fn next_bytes(&mut self) -> Result<Bytes> {
        let mut tries = 0;
        while !self.left.is_empty() {
            let came = match self.first.take() {
                Some(first) => Ok(Some(first)),
                None => self.next_piece().await,
            };
            match came {
                Ok(Some(piece)) => return Ok(self.give(piece)),
                Ok(None) => return Err(Error::internal("a stream ended before its range")),
                Err(Lost::Failed(error)) if tries + 1 == TRIES || !self.has_time() => {
                    return Err(error);
                }
                Err(Lost::Failed(_)) => {
                    tries += 1;
                    self.pieces = pieces(&self.cold, &self.cache, &self.stored, &self.left);
                }
                Err(Lost::Damaged) => self.look_again().await?,
            }
        }
        Ok(Bytes::new())
    }

    /// The next block. Nobody waits for all blocks of a tensor together longer than one request for it may take.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, Lost> {
        let inner = &self.cold.inner;
        let (store, clock) = (inner.store_of(self.stored.place.prefix), &inner.clock);
        let (began, len) = (clock.monotonic(), self.stored.description.len);
        let next = self.pieces.next();
        let next = store.in_time(began.saturating_sub(self.waited), len, next);
        let next = next.await;
        self.waited += clock.monotonic() - began;
        let late = || Error::unavailable("the store did not answer in time");
        next.unwrap_or_else(|| Err(Lost::Failed(late())))
    }

    fn has_time(&self) -> bool {
        let store = self.cold.inner.store_of(self.stored.place.prefix);
        self.waited < store.time_for(self.stored.description.len)
    }

    /// What was asked for of a piece: it begins with the block in which that begins.
    fn give(&mut self, mut piece: Bytes) -> Bytes {
        let inner = &self.cold.inner;
        inner.counters.read_bytes.add(piece.len() as u64);
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let skip = at(self.left.start % BLOCK_BYTES);
        let len = at(self.left.end - self.left.start);
        let mut own = piece.split_off(skip.min(piece.len()));
        own.truncate(len);
        self.left.start += own.len() as u64;
        own
    }

    /// The bytes are not where they were: they were moved, which is no damage, or they are lost.
    async fn look_again(&mut self) -> Result<()> {
        let was = &self.stored.description;
        match self.cold.damaged(Stored::clone(&self.stored)).await {
            Landed::Failed(error) => return Err(error),
            Landed::Missing => {
                return Err(Error::data_loss(format!(
                    "bytes of the tensor are not those that were written to the cold tier, which has it \
                     no more; offset=`{}`",
                    self.left.start
                )));
            }
            Landed::Here(_) | Landed::Large(_) | Landed::Again => {}
        }
        let now = self.cold.look_up(&was.id).await?;
        let is_same = |now: &Stored| {
            now.description.version == was.version && now.description.checksum == was.checksum
        };
        let Some(now) = now.filter(is_same) else {
            return Err(Error::unavailable(
                "the tensor was replaced or deleted while it was read, and its bytes are gone; try again",
            ));
        };
        self.stored = Arc::new(now);
        self.pieces = pieces(&self.cold, &self.cache, &self.stored, &self.left);
        Ok(())
    }
}

impl Coming for Stream {
    fn next(&mut self) -> Later<'_, Bytes> {
        Box::pin(self.next_bytes())
    }
}

fn pieces(cold: &Cold, cache: &Cache, stored: &Arc<Stored>, range: &Range<u64>) -> Pieces {
    let blocks = match range.is_empty() {
        true => 0..0,
        false => blocks_of(stored, range.clone()),
    };
    Pieces::new(cold, cache, stored, blocks)
}
