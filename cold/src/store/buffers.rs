//! Memory that files are read into, used again and again: what is allocated by one thread and freed by another, a MiB
//! at a time, leaves an allocator with many times what is in use. Nobody keeps one: who waits for another would wait for them.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::error::{Result, StoreError};

/// Of each buffer.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// A fixed number of buffers, made when they are first needed.
pub(super) struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
    made: AtomicU64,
    leave: Arc<Semaphore>,
}

/// A buffer in use, with what was read. Dropping it gives it back.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    /// How many of them were read.
    len: usize,
    of: Arc<Buffers>,
    _leave: OwnedSemaphorePermit,
}

/// A buffer that is being filled.
pub(super) struct Filling(JoinHandle<Result<Buffer>>);

impl Filling {
    pub(super) async fn done(self) -> Result<Buffer> {
        let filled = self.0.await;
        filled.map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

impl Buffers {
    pub(super) fn new(count: usize) -> Arc<Buffers> {
        Arc::new(Buffers {
            free: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            leave: Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS))),
        })
    }

    /// Waits for a buffer.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Buffer> {
        let leave = Arc::clone(&self.leave).acquire_owned().await;
        let leave = leave.map_err(|_| StoreError::Failed("it is shutting down".to_owned()))?;
        Ok(self.buffer(leave))
    }

    /// A buffer, where one is free: who waits for a second one while it has a first may wait for ever.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Buffer> {
        let leave = Arc::clone(&self.leave).try_acquire_owned().ok()?;
        Some(self.buffer(leave))
    }

    fn buffer(self: &Arc<Self>, leave: OwnedSemaphorePermit) -> Buffer {
        let bytes = self.free.lock().pop().unwrap_or_else(|| {
            self.made.fetch_add(1, Ordering::Relaxed);
            vec![0; BUFFER_BYTES].into()
        });
        Buffer {
            bytes,
            len: 0,
            of: Arc::clone(self),
            _leave: leave,
        }
    }

    /// Bytes of all that there are, used or not.
    pub(super) fn bytes(&self) -> u64 {
        self.made.load(Ordering::Relaxed) * BUFFER_BYTES as u64
    }
}

impl Buffer {
    /// Reads `range`, which is no longer than a buffer, where that holds nobody up, once the system was told of `next`.
    /// It is read whether anybody waits for it or not.
    pub(super) fn fill(mut self, file: Arc<File>, range: Range<u64>, next: Range<u64>) -> Filling {
        Filling(tokio::task::spawn_blocking(move || {
            announce(&file, &next);
            let room = usize::try_from(range.end.saturating_sub(range.start));
            let room = room.map_or(BUFFER_BYTES, |room| room.min(BUFFER_BYTES));
            self.len = read_file(&file, range.start, &mut self.bytes[..room])?;
            forget(&file, &range);
            Ok(self)
        }))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.of.free.lock().push(bytes);
    }
}

/// Reads a file from `at` on, and gives how much there was: less than there is room for only at its end. In one call of
/// the system where that gives all: eight KiB at a time, as `object_store` reads a file, cost more than the disk.
pub(super) fn read_file(file: &File, at: u64, into: &mut [u8]) -> Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match rustix::io::pread(file, &mut into[len..], at + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    Ok(len)
}

/// Has the system read what somebody will wait for soon. Advice that is not taken costs nothing but time.
pub(super) fn announce(file: &File, range: &Range<u64>) {
    let len = std::num::NonZero::new(range.end.saturating_sub(range.start));
    if len.is_some() {
        let _ = fadvise(file, range.start, len, Advice::WillNeed);
    }
}

/// Has the page cache forget what was read, where that was much: a tensor of that size that is read a second time is
/// in memory by then, and the cache is better used for indices. Advice that is not taken costs nothing but the cache.
pub(super) fn forget(file: &File, range: &Range<u64>) {
    let len = range.end.saturating_sub(range.start);
    if len >= BUFFER_BYTES as u64 {
        let _ = fadvise(
            file,
            range.start,
            std::num::NonZero::new(len),
            Advice::DontNeed,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn there_are_as_many_as_were_asked_for_and_they_are_used_again() {
        let buffers = Buffers::new(2);
        let one = buffers.take().await.unwrap();
        let two = buffers.take().await.unwrap();
        assert!(buffers.try_take().is_none());
        drop(two);
        assert!(buffers.try_take().is_some());
        drop(one);
        let _both = (buffers.take().await.unwrap(), buffers.take().await.unwrap());
        assert_eq!(buffers.bytes(), 2 * BUFFER_BYTES as u64);
    }

    #[tokio::test]
    async fn what_was_in_a_buffer_is_gone_and_the_end_of_a_file_is_found() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let (file, buffers) = (Arc::new(file), Buffers::new(1));
        for (range, expected) in [(2..8, &b"234567"[..]), (7..20, b"789"), (30..40, b"")] {
            let buffer = buffers.take().await.unwrap();
            let filled = buffer
                .fill(Arc::clone(&file), range.clone(), range)
                .done()
                .await
                .unwrap();
            assert_eq!(filled.as_ref(), expected);
        }
        assert_eq!(buffers.bytes(), BUFFER_BYTES as u64);
    }
}
