//! What decompresses, used again and again, so that the ledger is told of all there is. Nobody keeps one while waiting.

use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::error::{Error, Result};
use parking_lot::Mutex;

use crate::entry::{BLOCK_BYTES, Stored};
use crate::format::pack::UNPACKER_BYTES;
use crate::format::{Unpacker, verify};

/// As many as were ever needed at one time, which is what there are threads.
#[derive(Default)]
pub(super) struct Unpackers {
    free: Mutex<Vec<Unpacker>>,
    made: AtomicU64,
}

impl Unpackers {
    /// Bytes of all that there are, used or not.
    pub(super) fn bytes(&self) -> u64 {
        self.made.load(Ordering::Relaxed) * UNPACKER_BYTES
    }

    /// Does something with one.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Unpacker) -> Result<T>) -> Result<T> {
        let free = self.free.lock().pop();
        let mut unpacker = match free {
            Some(unpacker) => unpacker,
            None => {
                self.made.fetch_add(1, Ordering::Relaxed);
                Unpacker::new()?
            }
        };
        let done = work(&mut unpacker);
        self.free.lock().push(unpacker);
        done
    }

    /// Hands on the blocks of a compressed tensor, of whose frames `bytes` are all. None is checked but for its length.
    ///
    /// # Errors
    /// As `each`; `data_loss` where a frame is not one of a block.
    pub(super) fn each_block(
        &self,
        stored: &Stored,
        mut bytes: &[u8],
        mut each: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.with(|unpacker| {
            let mut block = Vec::new();
            for (nth, frame) in stored.frames.iter().enumerate() {
                let frame = usize::try_from(*frame).unwrap_or(usize::MAX);
                let frame = bytes.split_off(..frame).ok_or_else(no_frame)?;
                if !unpacker.unpack(frame, block_bytes(stored, nth), &mut block) {
                    return Err(no_frame());
                }
                each(nth, &block)?;
            }
            Ok(())
        })
    }

    /// Whether these are the bytes that a tensor has in its segment.
    pub(super) fn are_right(&self, stored: &Stored, bytes: &[u8]) -> bool {
        if bytes.len() as u64 != stored.file_bytes() {
            return false;
        }
        let check = |nth, block: &[u8]| match verify(stored, nth, block) {
            true => Ok(()),
            false => Err(no_frame()),
        };
        match stored.is_packed() {
            true => self.each_block(stored, bytes, check).is_ok(),
            false => {
                let step = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
                let mut blocks = bytes.chunks(step).enumerate();
                bytes.is_empty() || blocks.all(|(nth, block)| check(nth, block).is_ok())
            }
        }
    }
}

/// How long a tensor's block is.
pub(super) fn block_bytes(stored: &Stored, nth: usize) -> usize {
    let left = (nth as u64).saturating_mul(BLOCK_BYTES);
    let left = stored.description.len.saturating_sub(left);
    usize::try_from(left.min(BLOCK_BYTES)).unwrap_or(0)
}

pub(super) fn no_frame() -> Error {
    Error::data_loss("the bytes that came back are not those of a compressed block")
}
