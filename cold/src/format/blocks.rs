//! Checksums of a tensor's bytes, so that a part of a large one is checked without the rest.
//!
//! A tensor of more than [`BLOCK_BYTES`] has an xxh3-64 for each of them, the last block being what is
//! left. Any other has one block, itself, and its checksum is the description's.

use std::hash::Hasher;
use std::ops::Range;

use twox_hash::{XxHash3_64, XxHash3_128};

use crate::entry::{BLOCK_BYTES, Description, Stored};

/// How many checksums a tensor of `len` bytes has in its table: none where it has but one block.
pub fn table_len(len: u64) -> u64 {
    if len > BLOCK_BYTES {
        len.div_ceil(BLOCK_BYTES)
    } else {
        0
    }
}

/// Whether `bytes` are the `block`th block of a tensor.
pub fn verify(stored: &Stored, block: usize, bytes: &[u8]) -> bool {
    let len = stored.description.len;
    let at = (block as u64).checked_mul(BLOCK_BYTES);
    let Some(left) = at.and_then(|at| len.checked_sub(at)) else {
        return false;
    };
    if bytes.len() as u64 != left.min(BLOCK_BYTES) {
        return false;
    }
    match stored.blocks.get(block) {
        Some(sum) => XxHash3_64::oneshot(bytes) == *sum,
        None => {
            block == 0
                && stored.blocks.is_empty()
                && XxHash3_128::oneshot(bytes) == stored.description.checksum
        }
    }
}

/// Which of a tensor's bytes to read for those of `range` to be checked: whole blocks. Both ranges count
/// from the tensor's first byte; what `range` has behind the last is left out.
pub fn blocks_of(stored: &Stored, range: Range<u64>) -> Range<u64> {
    let len = stored.description.len;
    let start = range.start.min(len) / BLOCK_BYTES * BLOCK_BYTES;
    let end = range.end.min(len).next_multiple_of(BLOCK_BYTES).min(len);
    start..end.max(start)
}

/// Takes the checksums while a tensor's bytes pass.
pub(super) struct Blocks {
    /// xxh3-64 of each block that is whole.
    sums: Vec<u64>,
    /// Of the block that is not.
    block: XxHash3_64,
    filled: u64,
    whole: XxHash3_128,
    len: u64,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            sums: Vec::new(),
            block: XxHash3_64::new(),
            filled: 0,
            whole: XxHash3_128::new(),
            len: 0,
        }
    }

    pub(super) fn pass(&mut self, mut piece: &[u8]) {
        self.whole.write(piece);
        self.len += piece.len() as u64;
        while !piece.is_empty() {
            let room = usize::try_from(BLOCK_BYTES - self.filled).unwrap_or(usize::MAX);
            let (now, rest) = piece.split_at(room.min(piece.len()));
            self.block.write(now);
            self.filled += now.len() as u64;
            if self.filled == BLOCK_BYTES {
                self.close();
            }
            piece = rest;
        }
    }

    /// The table of a tensor whose bytes have all passed; `None` where they are not those of
    /// `description`: what was damaged in memory must not get a checksum that agrees with it.
    pub(super) fn finish(mut self, description: &Description) -> Option<Vec<u64>> {
        if self.len != description.len || self.whole.finish_128() != description.checksum {
            return None;
        }
        if self.filled > 0 {
            self.close();
        }
        if table_len(self.len) == 0 {
            self.sums.clear();
        }
        Some(self.sums)
    }

    fn close(&mut self) {
        let block = std::mem::replace(&mut self.block, XxHash3_64::new());
        self.sums.push(block.finish());
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::stored_of;
    use proptest::prelude::*;

    const BLOCK: usize = BLOCK_BYTES as usize;

    #[test]
    fn a_tensor_of_one_block_is_its_own() {
        for len in [0, 1, BLOCK] {
            let stored = stored_of(&vec![3; len]);
            assert!(stored.blocks.is_empty(), "{len}");
            assert!(verify(&stored, 0, &vec![3; len]));
            assert!(!verify(&stored, 1, &[]));
            let mut bad = vec![3; len + 1];
            assert!(!verify(&stored, 0, &bad));
            bad.truncate(len);
            if let Some(last) = bad.last_mut() {
                *last ^= 1;
                assert!(!verify(&stored, 0, &bad));
            }
        }
    }

    #[test]
    fn blocks_are_checked_one_by_one() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 5).map(|i| (i % 251) as u8).collect();
        let stored = stored_of(&bytes);
        assert_eq!(stored.blocks.len(), 3);
        let blocks: Vec<_> = bytes.chunks(BLOCK).collect();
        for (i, block) in blocks.iter().enumerate() {
            assert!(verify(&stored, i, block));
        }
        assert!(!verify(&stored, 1, blocks[0]));
        assert!(!verify(&stored, 2, &blocks[2][..4]));
        assert!(!verify(&stored, 3, &[]));
        assert!(!verify(&stored, usize::MAX, &[]));
        let no_table = Stored {
            blocks: vec![],
            ..stored
        };
        assert!(!verify(&no_table, 0, blocks[0]));
    }

    #[test]
    fn a_range_is_widened_to_blocks() {
        let stored = stored_of(&vec![0; 2 * BLOCK + 5]);
        let len = stored.description.len;
        assert_eq!(blocks_of(&stored, 0..1), 0..BLOCK_BYTES);
        assert_eq!(
            blocks_of(&stored, BLOCK_BYTES - 1..BLOCK_BYTES + 1),
            0..2 * BLOCK_BYTES
        );
        assert_eq!(
            blocks_of(&stored, 2 * BLOCK_BYTES..len),
            2 * BLOCK_BYTES..len
        );
        assert_eq!(blocks_of(&stored, 0..u64::MAX), 0..len);
        assert!(blocks_of(&stored, 7..7).end <= BLOCK_BYTES);
        assert!(blocks_of(&stored, u64::MAX..u64::MAX).end <= len);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_have_the_same_checksums(cuts in prop::collection::vec(0usize..2 * BLOCK + 5, 0..6)) {
            let bytes: Vec<u8> = (0..2 * BLOCK + 5).map(|i| (i % 249) as u8).collect();
            let whole = stored_of(&bytes);
            let mut cuts = cuts;
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut blocks = Blocks::new();
            for cut in cuts.windows(2) {
                blocks.pass(&bytes[cut[0]..cut[1]]);
            }
            prop_assert_eq!(blocks.finish(&whole.description), Some(whole.blocks));
        }
    }

    #[test]
    fn other_bytes_than_described_get_no_table() {
        let stored = stored_of(&[1, 2, 3, 4]);
        let mut blocks = Blocks::new();
        blocks.pass(&[1, 2, 3, 5]);
        assert_eq!(blocks.finish(&stored.description), None);
        let mut blocks = Blocks::new();
        blocks.pass(&[1, 2, 3]);
        assert_eq!(blocks.finish(&stored.description), None);
    }
}
