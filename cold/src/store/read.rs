//! Bytes of an object, all that were asked for.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload};
use parking_lot::Mutex;

use super::attempt::Kind;
use super::buffers::{BUFFER_BYTES, Buffer, Buffers, Filling, announce};
use super::error::{Result, StoreError};
use super::files::{Asked, file_range};
use super::{ObjectName, Store};
use crate::room::Room;

/// Bytes of a file that are read at a time.
const STEP_BYTES: u64 = BUFFER_BYTES as u64;
/// Bytes of a file that the system is told of before they are read: by itself it begins with 128 KiB.
const AHEAD_BYTES: u64 = 4 << 20;
/// Ranges of an object that are asked for at one time, where each is a request.
const RANGES: usize = 8;

impl Store {
    /// Bytes of an object; `range` is not empty, or nothing is asked.
    ///
    /// # Errors
    /// `NotFound`; `Short` where the object ends before the range does; as [`StoreError`] says.
    pub async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes> {
        let len = range.end.saturating_sub(range.start);
        if len == 0 {
            return Ok(Bytes::new());
        }
        let path = self.path(name);
        let asked_size = AtomicBool::new(false);
        let got = self.attempt(Kind::Read, len, || async {
            let got = self.get(&path, range.clone(), &asked_size).await?;
            body(got).await
        });
        let bytes = got.await?;
        self.shared.counts.read_bytes.add(len);
        Ok(bytes)
    }

    /// Bytes of several ranges of an object, which are in order and do not overlap, several at a time.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_ranges(
        &self,
        name: &ObjectName,
        ranges: Vec<Range<u64>>,
    ) -> Result<Vec<Bytes>> {
        let mut read = self.read_each(&[(*name, ranges)]).await;
        read.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// As [`Store::read_ranges`], of several objects. Of files they are one request; of what is not, at most
    /// [`Store::objects_at_once`] are read together.
    pub async fn read_each(&self, wanted: &[Asked]) -> Vec<Result<Vec<Bytes>>> {
        if let Some(local) = &self.shared.backend.local {
            return self.read_files(local, wanted).await;
        }
        let mut read = Vec::with_capacity(wanted.len());
        for (name, ranges) in wanted {
            read.push(self.read_requests(name, ranges).await);
        }
        read
    }

    async fn read_requests(&self, name: &ObjectName, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let each = ranges.iter().map(|range| self.read(name, range.clone()));
        let each: Vec<_> = each.collect();
        stream::iter(each).buffered(RANGES).try_collect().await
    }

    /// Hands on bytes of an object in order, as they come; `range` is not empty, or nothing is asked. Where a try
    /// fails half-way, the next goes on from there.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_pieces(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        by: impl FnMut(&[u8]) + Send,
    ) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        let path = self.path(name);
        let asked_size = AtomicBool::new(false);
        let taken = Mutex::new(Taken {
            at: range.start,
            by,
        });
        let got = self.attempt(Kind::Read, len, || async {
            let left = taken.lock().at..range.end;
            if left.is_empty() {
                return Ok(());
            }
            let got = self.get(&path, left, &asked_size).await?;
            pieces(got, &self.shared.buffers, &taken).await
        });
        got.await?;
        self.shared.counts.read_bytes.add(len);
        Ok(())
    }

    /// A whole object of at most `max` bytes.
    ///
    /// # Errors
    /// `NotFound`; `TooLong`; as [`StoreError`] says.
    pub async fn read_all(&self, name: &ObjectName, max: u64) -> Result<Bytes> {
        let path = self.path(name);
        let got = self.attempt(Kind::Read, max, || self.read_all_once(&path, max));
        let bytes = got.await?;
        self.shared.counts.read_bytes.add(bytes.len() as u64);
        Ok(bytes)
    }

    /// Bytes of an object.
    ///
    /// # Errors
    /// `NotFound`; as [`StoreError`] says.
    pub async fn size(&self, name: &ObjectName) -> Result<u64> {
        let path = self.path(name);
        self.attempt(Kind::Read, 0, || self.size_once(&path)).await
    }

    /// The beginning of an answer. What is not there is asked for once, `asked_size` being whether it was.
    async fn get(
        &self,
        path: &Path,
        range: Range<u64>,
        asked_size: &AtomicBool,
    ) -> Result<GetResult> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let short = |bytes| StoreError::Short {
            expected: range.end,
            bytes,
        };
        let got = match self.shared.backend.inner.get_opts(path, options).await {
            Ok(got) => got,
            Err(error) => {
                let error = StoreError::from(error);
                // A range behind the end has no error of its own.
                if matches!(error, StoreError::Failed(_))
                    && !asked_size.swap(true, Ordering::Relaxed)
                    && let Ok(bytes) = self.size_once(path).await
                    && bytes < range.end
                {
                    return Err(short(bytes));
                }
                return Err(error);
            }
        };
        if got.meta.size < range.end {
            return Err(short(got.meta.size));
        }
        if got.range != range {
            return Err(StoreError::Failed(format!(
                "it gave another range; range=`{:?}` expected `{range:?}`",
                got.range
            )));
        }
        Ok(got)
    }

    pub(super) async fn read_all_once(&self, path: &Path, max: u64) -> Result<Bytes> {
        let got = self
            .shared
            .backend
            .inner
            .get_opts(path, GetOptions::default())
            .await?;
        if got.meta.size > max {
            return Err(StoreError::TooLong {
                max,
                bytes: got.meta.size,
            });
        }
        body(got).await
    }

    pub(super) async fn size_once(&self, path: &Path) -> Result<u64> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        Ok(self
            .shared
            .backend
            .inner
            .get_opts(path, options)
            .await?
            .meta
            .size)
    }
}

/// All bytes of an answer, or an error: never fewer.
async fn body(got: GetResult) -> Result<Bytes> {
    let range = got.range;
    let len = range.end.saturating_sub(range.start);
    let bytes = match got.payload {
        GetResultPayload::File(file, _) => {
            let read = tokio::task::spawn_blocking(move || {
                announce(&file, &range);
                file_range(&file, &range)
            });
            let bytes = read.await;
            bytes.map_err(|error| StoreError::Failed(error.to_string()))??
        }
        GetResultPayload::Stream(mut stream) => {
            let mut whole = None;
            let mut at = 0;
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                if piece.len() as u64 == len {
                    return Ok(piece);
                }
                fits((at + piece.len()) as u64, len)?;
                // The length is what the caller asked for, or has checked.
                let room = match &mut whole {
                    Some(room) => room,
                    none => none.insert(Room::new(len)?),
                };
                room.as_mut()[at..at + piece.len()].copy_from_slice(&piece);
                at += piece.len();
            }
            whole.map_or_else(Bytes::new, |room| room.freeze(at))
        }
    };
    whole(bytes, len)
}

pub(super) fn whole(bytes: Bytes, len: u64) -> Result<Bytes> {
    match bytes.len() as u64 == len {
        true => Ok(bytes),
        false => Err(cut(bytes.len() as u64, len)),
    }
}

/// Hands on the bytes of an answer, as they come.
async fn pieces<F: FnMut(&[u8]) + Send>(
    got: GetResult,
    buffers: &Arc<Buffers>,
    taken: &Mutex<Taken<F>>,
) -> Result<()> {
    let range = got.range;
    let len = range.end.saturating_sub(range.start);
    let so_far = || taken.lock().at - range.start;
    match got.payload {
        GetResultPayload::File(file, _) => {
            let file = Arc::new(file);
            let step = |at: u64| at..range.end.min(at + STEP_BYTES);
            let mut steps = (range.start..range.end)
                .step_by(BUFFER_BYTES)
                .map(step)
                .peekable();
            let mut told = range.start;
            let mut fill = |buffer: Buffer, now: Range<u64>| {
                let until = range.end.min(now.end + AHEAD_BYTES);
                let next = std::mem::replace(&mut told, until)..until;
                buffer.fill(Arc::clone(&file), now, next)
            };
            let mut ahead: Option<Filling> = None;
            while let Some(now) = steps.next() {
                let expected = now.end - now.start;
                let filling = match ahead.take() {
                    Some(filling) => filling,
                    None => fill(buffers.take().await?, now),
                };
                let filled = filling.done().await?;
                // While one is used, the next is read.
                if let Some(next) = steps.peek() {
                    let buffer = buffers.try_take();
                    ahead = buffer.map(|buffer| fill(buffer, next.clone()));
                }
                let bytes = filled.as_ref();
                if bytes.len() as u64 != expected {
                    return Err(cut(so_far() + bytes.len() as u64, len));
                }
                taken.lock().take(bytes);
            }
        }
        GetResultPayload::Stream(mut stream) => {
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                fits(so_far() + piece.len() as u64, len)?;
                taken.lock().take(&piece);
            }
        }
    }
    match so_far() {
        all if all == len => Ok(()),
        some => Err(cut(some, len)),
    }
}

/// Who takes pieces, and up to where it has them.
struct Taken<F> {
    at: u64,
    by: F,
}

impl<F: FnMut(&[u8])> Taken<F> {
    fn take(&mut self, piece: &[u8]) {
        self.at += piece.len() as u64;
        (self.by)(piece);
    }
}

fn fits(bytes: u64, len: u64) -> Result<()> {
    match bytes <= len {
        true => Ok(()),
        false => Err(StoreError::Failed(format!(
            "an answer has more bytes than it said; expected `{len}`"
        ))),
    }
}

fn cut(bytes: u64, len: u64) -> StoreError {
    StoreError::Failed(format!(
        "an answer ended early; bytes=`{bytes}` expected `{len}`"
    ))
}
