//! Blocks of a tensor, each compressed by itself: whoever reads some of them decompresses those and no others.
//!
//! A block is one frame of zstd. What cannot be made smaller stands in its frame as it is, at some tens of bytes more, so
//! that the frames of a tensor, one behind the other, are what any zstd reads as one stream.

use std::io;

use bowstring_wire::error::{Error, Result};
use zstd::bulk::{Compressor, Decompressor};

use crate::entry::BLOCK_BYTES;

/// How hard zstd tries. Tensors of numbers become hardly smaller by more, and cost several times as long.
pub const LEVEL: i32 = 1;
/// What a frame has at most beyond its block: its header, and what says of each 128 KiB that it is as it was.
const FRAME_OVER_BYTES: u64 = 256;
/// Bytes of a frame.
pub const FRAME_BYTES_MAX: u64 = BLOCK_BYTES + FRAME_OVER_BYTES;
/// What a [`Packer`] has in memory: a block, its frame, and the tables of zstd, which at this level are no MiB.
pub const PACKER_BYTES: u64 = 3 << 20;
/// What an [`Unpacker`] has in memory.
pub const UNPACKER_BYTES: u64 = 256 << 10;
/// A tensor lies compressed where that saves one part in so many.
const WORTH_SHARE: u64 = 16;

/// How many frames a tensor of `len` bytes has, where it lies compressed.
pub fn frames_len(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES)
}

/// Whether a tensor of `len` bytes may have these frames.
pub(super) fn are_frames(len: u64, frames: &[u32]) -> bool {
    let mut left = len;
    let fit = frames.iter().all(|frame| {
        let block = left.min(BLOCK_BYTES);
        left -= block;
        *frame > 0 && u64::from(*frame) <= block + FRAME_OVER_BYTES
    });
    fit && frames.len() as u64 == frames_len(len) && total(frames) < len
}

/// Whether a tensor of `len` bytes is written as these frames.
pub fn is_worth(len: u64, frames: &[u32]) -> bool {
    are_frames(len, frames) && total(frames) <= len - len / WORTH_SHARE
}

/// Bytes of frames one behind the other.
pub fn total(frames: &[u32]) -> u64 {
    frames.iter().map(|frame| u64::from(*frame)).sum()
}

/// Compresses one block after the other.
pub struct Packer {
    zstd: Compressor<'static>,
    block: Vec<u8>,
    frame: Vec<u8>,
}

impl Packer {
    /// For any number of tensors.
    ///
    /// # Errors
    /// `internal` where zstd does not know the level.
    pub fn new() -> Result<Packer> {
        Ok(Packer {
            zstd: Compressor::new(LEVEL).map_err(|error| failed(&error))?,
            block: Vec::new(),
            frame: Vec::with_capacity(usize::try_from(FRAME_BYTES_MAX).unwrap_or(0)),
        })
    }

    /// The next block of a tensor, of which so many bytes are `left`, and its frame. `fill` copies it.
    ///
    /// # Errors
    /// As `fill`; `internal` for a frame that cannot be.
    pub fn pack(
        &mut self,
        left: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<(&[u8], &[u8])> {
        let len = usize::try_from(left.min(BLOCK_BYTES)).unwrap_or(usize::MAX);
        self.block.resize(len, 0);
        fill(&mut self.block)?;
        self.frame.clear();
        let packed = self.zstd.compress_to_buffer(&self.block, &mut self.frame);
        packed.map_err(|error| failed(&error))?;
        Ok((&self.block, &self.frame))
    }
}

/// Decompresses blocks.
pub struct Unpacker(Decompressor<'static>);

impl Unpacker {
    /// For any number of blocks.
    ///
    /// # Errors
    /// `internal` would be a bug of ours.
    pub fn new() -> Result<Unpacker> {
        Decompressor::new()
            .map(Unpacker)
            .map_err(|error| failed(&error))
    }

    /// Replaces what is in `block` by a frame's block, which has `len` bytes. False where it has not: it takes no more
    /// room than that, whatever the frame says.
    pub fn unpack(&mut self, frame: &[u8], len: usize, block: &mut Vec<u8>) -> bool {
        block.clear();
        block.reserve_exact(len);
        let unpacked = self.0.decompress_to_buffer(frame, block);
        matches!(unpacked, Ok(unpacked) if unpacked == len)
    }
}

fn failed(error: &io::Error) -> Error {
    Error::internal(format!("zstd does not do what it should; error=`{error}`"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = BLOCK_BYTES as usize;

    fn pack(packer: &mut Packer, block: &[u8]) -> Vec<u8> {
        let fill = |out: &mut [u8]| {
            out.copy_from_slice(block);
            Ok(())
        };
        let (copied, frame) = packer.pack(block.len() as u64, fill).unwrap();
        assert_eq!(copied, block);
        frame.to_vec()
    }

    /// Numbers without a pattern.
    fn noise(len: usize) -> Vec<u8> {
        let mut word = 7u64;
        let mut next = || {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (word >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn what_cannot_be_made_smaller_has_hardly_more_bytes() {
        let mut packer = Packer::new().unwrap();
        for len in [1, 100, 5_000, 131_072, 200_000, BLOCK - 1, BLOCK] {
            let block = noise(len);
            let frame = pack(&mut packer, &block);
            assert!(frame.len() <= len + 64, "{len} {}", frame.len());
            let mut out = Vec::new();
            assert!(Unpacker::new().unwrap().unpack(&frame, len, &mut out));
            assert_eq!(out, block);
        }
    }

    #[test]
    fn a_frame_of_more_than_its_block_is_refused_and_takes_no_room() {
        let mut packer = Packer::new().unwrap();
        let mut unpacker = Unpacker::new().unwrap();
        let frame = pack(&mut packer, &vec![0; BLOCK]);
        assert!(frame.len() < 200);
        // A stream of a GiB in a few hundred bytes, and one that says nothing of how much it is.
        let bomb = frame.repeat(1 << 10);
        let mut endless = io::Cursor::new(Vec::new());
        let mut encoder = zstd::stream::Encoder::new(&mut endless, LEVEL).unwrap();
        io::copy(&mut io::Read::take(io::repeat(0), 64 << 20), &mut encoder).unwrap();
        encoder.finish().unwrap();
        for (frame, len) in [
            (&bomb[..], BLOCK),
            (endless.get_ref(), BLOCK),
            (&frame, BLOCK - 1),
            (&frame, BLOCK + 1),
            (&frame[..frame.len() - 1], BLOCK),
            (b"", 9),
        ] {
            let mut block = Vec::new();
            assert!(!unpacker.unpack(frame, len, &mut block), "{len}");
            assert!(block.capacity() <= len.next_multiple_of(64));
        }
        let mut block = Vec::new();
        assert!(unpacker.unpack(&frame, BLOCK, &mut block), "it still works");
    }

    #[test]
    fn frames_are_those_of_a_tensor_and_worth_it() {
        let two = BLOCK_BYTES + 100;
        assert!(are_frames(two, &[9, 9]) && is_worth(two, &[9, 9]));
        for frames in [&[9, 9, 9][..], &[9], &[], &[0, 9], &[9, 400]] {
            assert!(!are_frames(two, frames), "{frames:?}");
        }
        let block = BLOCK_BYTES as u32;
        assert!(are_frames(two, &[block + 50, 9]) && !is_worth(two, &[block + 50, 9]));
        assert!(!are_frames(two, &[block, 100]), "it saves nothing");
        assert!(!are_frames(0, &[]) && !are_frames(0, &[1]));
    }

    proptest! {
        #[test]
        fn a_block_comes_back(seed in prop::collection::vec(any::<u8>(), 1..200), times in 1usize..900) {
            let block = seed.repeat(times);
            let frame = pack(&mut Packer::new().unwrap(), &block);
            let mut out = vec![1, 2, 3];
            prop_assert!(Unpacker::new().unwrap().unpack(&frame, block.len(), &mut out));
            prop_assert_eq!(out, block);
        }

        #[test]
        fn any_bytes_are_a_block_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            crate::feed::frame(&bytes);
        }
    }
}
