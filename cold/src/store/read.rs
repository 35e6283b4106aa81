//! Bytes of an object, all that were asked for.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload};
use rustix::fs::{Advice, fadvise};

use super::attempt::Kind;
use super::error::{Result, StoreError};
use super::{ObjectName, Store};

/// From here on what is read of a file leaves the page cache again: a tensor of that size that is read a
/// second time is in memory by then, and the cache is better used for indices.
const FORGET_BYTES: u64 = 1 << 20;

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
            let failed = match self.read_once(&path, range.clone()).await {
                // A range behind the end has no error of its own.
                Err(failed @ StoreError::Failed(_)) => failed,
                done => return done,
            };
            let end = range.end;
            match asked_size.swap(true, Ordering::Relaxed) {
                false => match self.size_once(&path).await {
                    Ok(bytes) if bytes < end => Err(StoreError::Short {
                        expected: end,
                        bytes,
                    }),
                    _ => Err(failed),
                },
                true => Err(failed),
            }
        });
        let bytes = got.await?;
        self.shared.counts.read_bytes.add(len);
        Ok(bytes)
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

    async fn read_once(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let got = self.shared.backend.inner.get_opts(path, options).await?;
        if got.meta.size < range.end {
            return Err(StoreError::Short {
                expected: range.end,
                bytes: got.meta.size,
            });
        }
        if got.range != range {
            return Err(StoreError::Failed(format!(
                "it gave another range; range=`{:?}` expected `{range:?}`",
                got.range
            )));
        }
        body(got).await
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
    let cut = |came: usize| {
        StoreError::Failed(format!(
            "an answer ended early; bytes=`{came}` expected `{len}`"
        ))
    };
    match got.payload {
        GetResultPayload::File(file, _) => {
            let read = tokio::task::spawn_blocking(move || read_file(&file, &range));
            let bytes = read
                .await
                .map_err(|error| StoreError::Failed(error.to_string()))??;
            if bytes.len() as u64 != len {
                return Err(cut(bytes.len()));
            }
            Ok(bytes)
        }
        GetResultPayload::Stream(mut stream) => {
            let mut whole = BytesMut::new();
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                if piece.len() as u64 == len {
                    return Ok(piece);
                }
                // The length is what the caller asked for, or has checked.
                if whole.is_empty() {
                    whole.reserve(usize::try_from(len).unwrap_or(0));
                }
                if (whole.len() + piece.len()) as u64 > len {
                    return Err(StoreError::Failed(format!(
                        "an answer has more bytes than it said; expected `{len}`"
                    )));
                }
                whole.extend_from_slice(&piece);
            }
            if whole.len() as u64 != len {
                return Err(cut(whole.len()));
            }
            Ok(whole.freeze())
        }
    }
}

/// In one call of the system where that gives all: eight KiB at a time, as `object_store` reads a file,
/// cost more than the disk.
fn read_file(file: &File, range: &Range<u64>) -> Result<Bytes> {
    let len = range.end.saturating_sub(range.start);
    let mut bytes: Vec<u8> = Vec::new();
    let room = usize::try_from(len).unwrap_or(usize::MAX);
    bytes
        .try_reserve_exact(room)
        .map_err(|_| StoreError::Failed(format!("no memory for a read; bytes=`{len}`")))?;
    while bytes.len() < room {
        let at = range.start + bytes.len() as u64;
        let spare = rustix::buffer::spare_capacity(&mut bytes);
        match rustix::io::pread(file, spare, at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    // A reserve may give more than was asked for.
    bytes.truncate(room);
    if len >= FORGET_BYTES {
        // Advice that is not taken costs nothing but the cache.
        let _ = fadvise(
            file,
            range.start,
            std::num::NonZero::new(len),
            Advice::DontNeed,
        );
    }
    Ok(bytes.into())
}
