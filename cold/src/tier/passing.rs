//! Room for large tensors on their way past memory: blocks, of which there are so many for all who read. Their memory
//! is used again: what one thread allocates and another frees costs an allocator several times as much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_wire::error::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Cold;
use crate::entry::BLOCK_BYTES;
use crate::format::Unpacker;
use crate::format::pack::FRAME_BYTES_MAX;

/// Blocks of one piece: at most so many, and one part in so many of all there are.
const PIECE_BLOCKS_MAX: usize = 8;
const PIECE_SHARE: usize = 16;
/// Blocks that are kept while nobody reads.
const KEPT_MAX: usize = 8;

/// All of them.
pub(super) struct Passing {
    blocks_max: usize,
    leave: Arc<Semaphore>,
    spare: Mutex<Vec<Spare>>,
    waiting: AtomicU64,
}

/// Memory of a block, paid for.
struct Spare {
    bytes: Vec<u8>,
    _charge: Charge,
}

/// A block that has a place; it is given back when this is dropped.
pub(super) struct Block {
    spare: Option<Spare>,
    of: Arc<Passing>,
    _leave: OwnedSemaphorePermit,
}

impl Passing {
    /// Room for `bytes`, and for a block and its frame at least.
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let blocks = usize::try_from(bytes / BLOCK_BYTES).unwrap_or(usize::MAX);
        let blocks_max = blocks.clamp(2, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            blocks_max,
            leave: Arc::new(Semaphore::new(blocks_max)),
            spare: Mutex::default(),
            waiting: AtomicU64::new(0),
        })
    }

    /// Blocks that are worth one request to the store.
    pub(super) fn piece_blocks(&self) -> usize {
        (self.blocks_max / PIECE_SHARE).clamp(1, PIECE_BLOCKS_MAX)
    }

    /// So many blocks, if they are there at once.
    pub(super) fn try_take(self: &Arc<Self>, cache: &Cache, count: usize) -> Option<Vec<Block>> {
        let leave = Arc::clone(&self.leave).try_acquire_many_owned(permits(count));
        let mut leave = leave.ok()?;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let spare = match self.kept() {
                Some(spare) => spare,
                None => Spare::new(cache.charge(Account::Cold, BLOCK_BYTES)?),
            };
            blocks.push(self.block(spare, leave.split(1)?));
        }
        Some(blocks)
    }

    /// Waits in line for so many. Who has some that its reader does not take may be why: who waits must have
    /// none itself.
    pub(super) async fn take(self: &Arc<Self>, cache: &Cache, count: usize) -> Result<Vec<Block>> {
        let _waits = Waits::begin(&self.waiting);
        let ending = || Error::unavailable("the cold tier is being shut down");
        let leave = Arc::clone(&self.leave).acquire_many_owned(permits(count));
        let mut leave = leave.await.map_err(|_| ending())?;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let spare = match self.kept() {
                Some(spare) => spare,
                None => Spare::new(cache.charge_in_turn(Account::Cold, BLOCK_BYTES).await?),
            };
            blocks.push(self.block(spare, leave.split(1).ok_or_else(ending)?));
        }
        Ok(blocks)
    }

    /// Gives back most of what nobody has used lately.
    pub(super) fn trim(&self) {
        self.spare.lock().truncate(KEPT_MAX);
    }

    fn kept(&self) -> Option<Spare> {
        self.spare.lock().pop()
    }

    fn block(self: &Arc<Self>, spare: Spare, leave: OwnedSemaphorePermit) -> Block {
        Block {
            spare: Some(spare),
            of: Arc::clone(self),
            _leave: leave,
        }
    }
}

impl Spare {
    fn new(charge: Charge) -> Self {
        let room = usize::try_from(FRAME_BYTES_MAX).unwrap_or(0);
        Self {
            bytes: Vec::with_capacity(room),
            _charge: charge,
        }
    }
}

impl Block {
    /// Appends as much of `bytes` as makes it `len` bytes long; gives how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8], len: usize) -> usize {
        let Some(spare) = &mut self.spare else {
            return 0;
        };
        let room = len.saturating_sub(spare.bytes.len());
        let fits = bytes.len().min(room);
        spare.bytes.extend_from_slice(&bytes[..fits]);
        fits
    }

    /// Decompresses a block that has `len` bytes into this.
    pub(super) fn unpack(&mut self, unpacker: &mut Unpacker, frame: &Block, len: usize) -> bool {
        let spare = self.spare.as_mut();
        spare.is_some_and(|spare| unpacker.unpack(frame.as_ref(), len, &mut spare.bytes))
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.spare.as_ref().map_or(&[], |spare| &spare.bytes)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(mut spare) = self.spare.take() {
            spare.bytes.clear();
            self.of.spare.lock().push(spare);
        }
    }
}

struct Waits<'a>(&'a AtomicU64);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cold {
    /// Whether somebody waits for room that others have whose readers are slow.
    pub fn is_short_of_room(&self) -> bool {
        self.inner.passing.waiting.load(Ordering::Relaxed) > 0
    }
}

fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
