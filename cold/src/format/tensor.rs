//! A tensor as it is put into a segment: as it is, or compressed.

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;

use super::arrow_file::Lying;
use super::blocks::{Blocks, table_len};
use super::pack::{Packer, is_worth, total};
use crate::entry::{Description, Stored};

/// A tensor that is to be written, with its bytes in pieces as they will lie there.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub(super) description: Description,
    pub(super) blocks: Vec<u64>,
    pub(super) frames: Vec<u32>,
    pub(super) pieces: Vec<Bytes>,
}

impl Tensor {
    /// As it is.
    ///
    /// # Errors
    /// `data_loss` where one of several blocks has not the bytes that its description says.
    pub fn new(description: Description, pieces: Vec<Bytes>) -> Result<Tensor> {
        Ok(Tensor {
            blocks: table(&description, &pieces)?,
            frames: Vec::new(),
            description,
            pieces,
        })
    }

    /// As it lay in another segment, of which `bytes` were checked.
    pub fn moved(stored: Stored, bytes: Bytes) -> Tensor {
        Tensor {
            description: stored.description,
            blocks: stored.blocks,
            frames: stored.frames,
            pieces: vec![bytes],
        }
    }

    /// Compressed, if that is worth it: then `out` has its frames behind what was there. `next` copies its bytes, one
    /// block after the other.
    ///
    /// # Errors
    /// As `next`; `data_loss` where they are not those that its description says.
    pub fn pack(
        description: &Description,
        packer: &mut Packer,
        mut next: impl FnMut(&mut [u8]) -> Result<()>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Packed>> {
        let (at, mut blocks, mut frames) = (out.len(), Blocks::new(), Vec::new());
        let mut left = description.len;
        while left > 0 {
            let (block, frame) = packer.pack(left, &mut next)?;
            blocks.pass(block);
            left -= block.len() as u64;
            frames.push(u32::try_from(frame.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(frame);
        }
        let blocks = blocks.finish(description).ok_or_else(damaged_in_memory)?;
        if is_worth(description.len, &frames) {
            return Ok(Some(Packed { blocks, frames }));
        }
        out.truncate(at);
        Ok(None)
    }

    /// One that was compressed, with its frames.
    pub fn packed(description: Description, packed: Packed, frames: Bytes) -> Tensor {
        Tensor {
            description,
            blocks: packed.blocks,
            frames: packed.frames,
            pieces: vec![frames],
        }
    }

    pub(super) fn lying(&self) -> Lying<'_> {
        Lying {
            description: &self.description,
            frames: &self.frames,
        }
    }
}

/// What is known of a tensor whose blocks were compressed.
#[derive(Debug, Clone)]
pub struct Packed {
    blocks: Vec<u64>,
    frames: Vec<u32>,
}

impl Packed {
    /// Bytes of all frames.
    pub fn bytes(&self) -> u64 {
        total(&self.frames)
    }
}

/// The checksums of a tensor's blocks. One of a single block needs none, and is not read here: whoever
/// reads it compares its own.
pub(super) fn table(description: &Description, pieces: &[Bytes]) -> Result<Vec<u64>> {
    let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if len != description.len {
        return Err(not_all(len, description.len));
    }
    if table_len(len) == 0 {
        return Ok(Vec::new());
    }
    let mut blocks = Blocks::new();
    for piece in pieces {
        blocks.pass(piece);
    }
    blocks.finish(description).ok_or_else(damaged_in_memory)
}

pub(super) fn not_all(len: u64, expected: u64) -> Error {
    Error::internal(format!(
        "a tensor's pieces are not all of it; bytes=`{len}` expected `{expected}`"
    ))
}

/// `data_loss`: what is about to be written is not what was put.
pub(super) fn damaged_in_memory() -> Error {
    Error::data_loss("a tensor's bytes in memory have not its checksum; it is not written down")
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;

    use super::*;
    use crate::format::testing::described;

    #[test]
    fn a_large_tensor_whose_bytes_changed_in_memory_is_not_written() {
        let mut bytes = vec![7; (1 << 20) + 1];
        let description = described(&bytes);
        bytes[5] = 8;
        let refused = Tensor::new(description, vec![Bytes::from(bytes)]).unwrap_err();
        assert_eq!(refused.code, Code::DataLoss);
    }
}
