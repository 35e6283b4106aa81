//! One large tensor as an Arrow IPC file of one row: what stands around its bytes is known before they
//! are, so that they pass from the arena to the store without being all held.

use bowstring_wire::error::Result;
use bytes::Bytes;

use super::arrow_file::{Frame, Layout, Lying, frame};
use super::blocks::Blocks;
use super::sidecar::encode_sidecar;
use super::tensor::damaged_in_memory;
use crate::entry::{Description, Number, Place, Prefix, Stored};

/// A segment of one tensor while it is written: [`Large::head`], then the tensor's bytes, each piece past
/// [`Large::pass`], then what [`Large::finish`] gives. Of one that is compressed, its frames are written where its
/// bytes pass.
pub struct Large {
    number: Number,
    description: Description,
    frames: Vec<u32>,
    frame: Frame,
    blocks: Blocks,
}

impl Large {
    /// A row of a column of `arrow.fixed_shape_tensor`; of blobs, where a row of that cannot be so large, or there are
    /// `frames`: the file says how long they are before the first of them.
    ///
    /// # Errors
    /// `internal` for a description whose length is not its shape's.
    pub fn begin(number: Number, description: Description, frames: Vec<u32>) -> Result<Large> {
        let rows = Layout::Rows {
            dtype: description.dtype,
            shape: description.shape.clone(),
        };
        let lying = [Lying {
            description: &description,
            frames: &frames,
        }];
        let frame =
            frame(number, &rows, &lying).or_else(|_| frame(number, &Layout::Opaque, &lying))?;
        Ok(Large {
            number,
            description,
            frames,
            frame,
            blocks: Blocks::new(),
        })
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.frame.file_bytes()
    }

    /// The file up to the tensor's first byte.
    pub fn head(&self) -> Bytes {
        self.frame.head.clone()
    }

    /// Takes the checksums of the tensor's next bytes.
    pub fn pass(&mut self, piece: &[u8]) {
        self.blocks.pass(piece);
    }

    /// The file from the tensor's last byte on, its sidecar, and what is known of the tensor.
    ///
    /// # Errors
    /// `data_loss` where other bytes have passed than the description says: the file must not be kept.
    pub fn finish(self) -> Result<(Bytes, Bytes, Stored)> {
        let blocks = self.blocks.finish(&self.description);
        let stored = Stored {
            blocks: blocks.ok_or_else(damaged_in_memory)?,
            frames: self.frames,
            description: self.description,
            place: Place {
                prefix: Prefix::OWN,
                segment: self.number,
                offset: self.frame.head.len() as u64,
            },
        };
        let entries = [stored];
        let sidecar = encode_sidecar(self.number, self.frame.file_bytes(), &entries);
        let [stored] = entries;
        Ok((self.frame.tail, sidecar, stored))
    }
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;
    use bowstring_wire::shape::Shape;

    use super::*;
    use crate::format::testing::described;
    use crate::format::{Tensor, build, read_sidecar};

    fn write(description: Description, bytes: &[u8], piece: usize) -> (Vec<u8>, Bytes, Stored) {
        let mut large = Large::begin(Number(9), description, Vec::new()).unwrap();
        let file_bytes = large.file_bytes();
        let mut file = large.head().to_vec();
        for piece in bytes.chunks(piece) {
            large.pass(piece);
            file.extend_from_slice(piece);
        }
        let (tail, sidecar, stored) = large.finish().unwrap();
        file.extend_from_slice(&tail);
        assert_eq!(file.len() as u64, file_bytes);
        (file, sidecar, stored)
    }

    #[test]
    fn it_is_the_segment_of_one_tensor() {
        let bytes: Vec<u8> = (0..(2 << 20) + 3).map(|i| (i % 253) as u8).collect();
        let description = described(&bytes);
        let layout = Layout::Rows {
            dtype: description.dtype,
            shape: description.shape.clone(),
        };
        let pieces = vec![Bytes::from(bytes.clone())];
        let tensors = vec![Tensor::new(description.clone(), pieces).unwrap()];
        let built = build(Number(9), &layout, tensors).unwrap();
        let (file, sidecar, stored) = write(description, &bytes, 100_000);
        assert_eq!(file, built.file.concat());
        assert_eq!(sidecar, built.sidecar);
        assert_eq!([stored], &built.entries[..]);
    }

    #[test]
    fn other_bytes_than_described_do_not_finish() {
        let mut large = Large::begin(Number(9), described(&[1, 2]), Vec::new()).unwrap();
        large.pass(&[1]);
        assert_eq!(large.finish().unwrap_err().code, Code::DataLoss);
        let mut large = Large::begin(Number(9), described(&[1, 2]), Vec::new()).unwrap();
        large.pass(&[2, 1]);
        assert_eq!(large.finish().unwrap_err().code, Code::DataLoss);
    }

    #[test]
    fn more_than_a_row_can_hold_is_a_blob() {
        let mut description = described(&[]);
        description.shape = Shape::new(&[3 << 30]).unwrap();
        description.len = 3 << 30;
        let large = Large::begin(Number(9), description, Vec::new()).unwrap();
        assert!(large.file_bytes() > 3 << 30);
        assert!(large.head().len().is_multiple_of(64));
        let refused = read_sidecar(Number(9), &large.head()).unwrap_err();
        assert_eq!(refused.code, Code::DataLoss);
    }
}
