//! Buffers into which small things are gathered before they are sent: a thousand 3 KiB pieces cost
//! three times the CPU of one copy. All of them are paid for from the wire account.

use std::sync::Arc;

use bowstring_wire::error::Result;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::conn::{WireBudget, WireBytes};

/// Pieces below this are gathered, larger ones are sent from where they lie.
pub const GATHER_BELOW_BYTES: u64 = 64 * 1024;

/// Size of a pooled buffer: warm in the second-level cache, and many to a wire account.
const POOLED_BYTES: usize = 256 * 1024;
/// What the wire account counts in.
const LEAST_BYTES: usize = 1024;
/// Warm buffers kept for the next answer.
const KEPT_MAX: usize = 8;

/// Where gather buffers come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BufferPool {
    budget: WireBudget,
    kept: Arc<Mutex<Vec<Paid>>>,
}

#[derive(Debug)]
struct Paid {
    bytes: Vec<u8>,
    _room: WireBytes,
}

/// A buffer being filled.
#[derive(Debug)]
pub struct GatherBuf {
    paid: Paid,
    pool: BufferPool,
}

impl BufferPool {
    /// Buffers paid for from `budget`.
    pub fn new(budget: WireBudget) -> Self {
        Self {
            budget,
            kept: Arc::default(),
        }
    }

    /// A buffer for about `wanted` bytes: exact where they are few, else pooled and of
    /// one size. Waits in line while the wire account is used up: whoever waits should hold nothing
    /// of it.
    pub async fn take(&self, wanted: u64) -> Result<GatherBuf> {
        if let Some(buf) = self.try_take(wanted) {
            return Ok(buf);
        }
        // Those that are kept warm are paid for too.
        self.kept.lock().clear();
        let bytes = size(wanted);
        let room = self.budget.take(bytes as u64).await?;
        Ok(self.filling(Paid::new(bytes, room)))
    }

    /// As [`BufferPool::take`], if there is room at once.
    pub fn try_take(&self, wanted: u64) -> Option<GatherBuf> {
        if let Some(paid) = self.kept(wanted) {
            return Some(self.filling(paid));
        }
        let bytes = size(wanted);
        let room = self.budget.try_take(bytes as u64)?;
        Some(self.filling(Paid::new(bytes, room)))
    }

    fn kept(&self, wanted: u64) -> Option<Paid> {
        (wanted >= GATHER_BELOW_BYTES)
            .then(|| self.kept.lock().pop())
            .flatten()
    }

    fn filling(&self, paid: Paid) -> GatherBuf {
        GatherBuf {
            paid,
            pool: self.clone(),
        }
    }
}

impl Paid {
    fn new(bytes: usize, room: WireBytes) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            _room: room,
        }
    }
}

/// A buffer's size where `wanted` bytes are to come for sure.
fn size(wanted: u64) -> usize {
    match usize::try_from(wanted) {
        Ok(exact) if wanted < GATHER_BELOW_BYTES => exact.max(LEAST_BYTES),
        _ => POOLED_BYTES,
    }
}

impl GatherBuf {
    /// Room left.
    pub fn room(&self) -> usize {
        self.paid.bytes.capacity() - self.paid.bytes.len()
    }

    /// Appends as much of `bytes` as there is room for; how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        self.paid.bytes.extend_from_slice(&bytes[..n]);
        n
    }

    /// Appends `n` bytes, at most the room there is, that `fill` writes.
    pub fn fill(&mut self, n: usize, fill: impl FnOnce(&mut [u8])) {
        let start = self.paid.bytes.len();
        debug_assert!(n <= self.room());
        self.paid.bytes.resize(start + n, 0);
        fill(&mut self.paid.bytes[start..]);
    }

    /// What was gathered, to send. The buffer returns to the pool when it is sent.
    pub fn freeze(self) -> Bytes {
        if self.paid.bytes.is_empty() {
            Bytes::new()
        } else {
            Bytes::from_owner(Sent(Some(self)))
        }
    }
}

struct Sent(Option<GatherBuf>);

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |buf| &buf.paid.bytes)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let Some(GatherBuf { mut paid, pool }) = self.0.take() else {
            return;
        };
        // Where there is room for no other it is given back: somebody may wait for it.
        let room = pool.budget.free_bytes() >= POOLED_BYTES as u64;
        if paid.bytes.capacity() == POOLED_BYTES && room {
            paid.bytes.clear();
            let mut kept = pool.kept.lock();
            if kept.len() < KEPT_MAX {
                kept.push(paid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowstring_cache::ledger::Ledger;

    #[tokio::test]
    async fn a_sent_buffer_comes_back_warm_and_small_ones_are_exact() {
        let budget = WireBudget::within(&Ledger::new(1 << 20), 0, 1 << 20).unwrap();
        let pool = BufferPool::new(budget.clone());
        let mut buf = pool.take(10 << 20).await.unwrap();
        assert_eq!(buf.push(&vec![1; 300_000]), POOLED_BYTES);
        let sent = buf.freeze();
        let address = sent.as_ptr();
        drop(sent);
        let mut again = pool.take(10 << 20).await.unwrap();
        again.push(b"x");
        assert_eq!(again.freeze().as_ptr(), address);

        let used = budget.used_bytes();
        let mut small = pool.take(2000).await.unwrap();
        small.fill(3, |to| to.copy_from_slice(b"abc"));
        assert_eq!(small.room(), 1997);
        let sent = small.freeze();
        assert_eq!(&sent[..], b"abc");
        drop(sent);
        assert_eq!(budget.used_bytes(), used);
    }

    #[tokio::test]
    async fn no_buffer_is_kept_warm_while_somebody_waits_for_its_room() {
        let budget = WireBudget::within(&Ledger::new(1 << 20), 0, 1 << 20).unwrap();
        let pool = BufferPool::new(budget.clone());
        let filled = async || {
            let mut buf = pool.take(POOLED_BYTES as u64).await.unwrap();
            buf.push(b"x");
            buf.freeze()
        };
        drop((filled().await, filled().await));
        assert_eq!(
            budget.used_bytes(),
            2 * POOLED_BYTES as u64,
            "both are warm"
        );
        let others = budget.try_take(2 * POOLED_BYTES as u64).unwrap();
        // A small one, for which no warm buffer is used.
        let small = pool.take(1).await.unwrap();
        drop((small, others));

        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(filled().await);
        }
        let waiting = pool.take(POOLED_BYTES as u64);
        let (got, ()) = tokio::join!(waiting, async { drop(sent.pop()) });
        assert!(got.is_ok());
    }
}
