//! Booleans as others send them, made into bytes of 0 and 1 as they arrive.

use crate::error::{Error, Result};

/// Refuses bytes that are neither 0 nor 1.
///
/// # Errors
/// `invalid_argument` with the first of them.
pub fn check_bool(bytes: &[u8]) -> Result<()> {
    // Blocks without a branch inside are vector code.
    let bad = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) > 1;
    let Some(block) = bytes.chunks(256).find(|block| bad(block)) else {
        return Ok(());
    };
    let value = block
        .iter()
        .find(|byte| **byte > 1)
        .copied()
        .unwrap_or_default();
    Err(Error::invalid(format!(
        "a bool is neither 0 nor 1; value=`{value}` expected bytes of 0 and 1"
    )))
}

/// Whatever is not 0 becomes 1.
pub fn normalise_bool8(bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .for_each(|byte| *byte = u8::from(*byte != 0));
}

/// Unpacks the bits of one batch, lowest bit first, in any split.
#[derive(Clone, Debug)]
pub struct BitUnpacker {
    skip: u32,
    left: u64,
}

impl BitUnpacker {
    /// For `count` bits, of which the first is bit `first_bit` of the first byte.
    pub fn new(first_bit: u32, count: u64) -> Self {
        Self {
            skip: first_bit % 8,
            left: count,
        }
    }

    /// Appends the bits of the next bytes to `to`; what is behind the last bit is not looked at.
    pub fn push(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        to.reserve(bytes.len().saturating_mul(8).min(most));
        for byte in bytes {
            if self.left == 0 {
                return;
            }
            let bits: [u8; 8] = std::array::from_fn(|bit| byte >> bit & 1);
            let from = std::mem::take(&mut self.skip) as usize;
            let count = usize::try_from(self.left).unwrap_or(8).min(8 - from);
            to.extend_from_slice(&bits[from..from + count]);
            self.left -= count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_bytes_than_0_and_1_are_refused() {
        let mut bytes = vec![1; 1000];
        assert!(check_bool(&bytes).is_ok());
        bytes[777] = 3;
        let refused = check_bool(&bytes).unwrap_err().to_string();
        assert!(refused.contains("value=`3`"), "{refused}");
        normalise_bool8(&mut bytes);
        assert_eq!(bytes, vec![1; 1000]);
    }

    proptest! {
        #[test]
        fn bits_in_any_split(
            bytes in prop::collection::vec(any::<u8>(), 1..60), first in 0u32..8, split in 1usize..9, less in 0u64..9,
        ) {
            let count = (bytes.len() as u64 * 8 - u64::from(first)).saturating_sub(less);
            let mut unpacker = BitUnpacker::new(first, count);
            let mut unpacked = Vec::new();
            bytes.chunks(split).for_each(|piece| unpacker.push(piece, &mut unpacked));
            let wanted: Vec<u8> = (0..count as usize)
                .map(|i| i + first as usize)
                .map(|bit| bytes[bit / 8] >> (bit % 8) & 1)
                .collect();
            prop_assert_eq!(unpacked, wanted);
        }
    }
}
