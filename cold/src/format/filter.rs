//! Which keys a table has, in a few bits each: a Bloom filter. A key that is there is always found, one in some ten
//! thousand that are not is, too.

use twox_hash::XxHash3_64;

/// Bits a key. With [`PROBES`], one key in 15,000 that is not there passes.
const BITS: u64 = 20;
/// Bits that each key sets. Persisted with each filter, as the hash is.
const PROBES: u64 = 14;
/// Numbers are of 32 bits, so a filter has fewer bits than this.
const HALF: u64 = u32::MAX as u64;

/// The hash by which filters know a key.
pub fn hash_of(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// The filter of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Box<[u8]>);

impl Filter {
    /// Of keys by their hashes.
    pub fn of(hashes: &[u64]) -> Filter {
        let bits = (hashes.len() as u64 * BITS).clamp(64, HALF);
        let bytes = usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX);
        let mut filter = vec![0; bytes].into_boxed_slice();
        for hash in hashes {
            for (byte, bit) in places(*hash, filter.len()) {
                if let Some(byte) = filter.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
        Filter(filter)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Filter {
        Filter(bytes.into())
    }

    /// As it is persisted.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the key of this hash may be there: false is sure.
    pub fn may_have(&self, hash: u64) -> bool {
        let mut places = places(hash, self.0.len());
        places.all(|(byte, bit)| self.0.get(byte).is_some_and(|byte| byte & bit != 0))
    }
}

/// The bits of a hash in a filter of so many bytes: bytes, and the bit in each. One half of the hash is where they
/// begin, the other how far apart they are.
fn places(hash: u64, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let (start, step) = (hash & HALF, (hash >> 32) | 1);
    let bits = bytes as u64 * 8;
    (0..PROBES).map(move |nth| {
        let at = (((start + nth * step) & HALF) * bits) >> 32;
        (usize::try_from(at / 8).unwrap_or(usize::MAX), 1 << (at % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_passes_and_hardly_anything_else() {
        let key = |n: u32| hash_of(format!("key {n}").as_bytes());
        let hashes: Vec<u64> = (0..40_000).map(key).collect();
        let filter = Filter::of(&hashes);
        assert_eq!(filter.as_bytes().len(), 100_000);
        assert!(hashes.iter().all(|hash| filter.may_have(*hash)));
        let wrong = (40_000..540_000).filter(|n| filter.may_have(key(*n)));
        let wrong = wrong.count();
        assert!(wrong < 100, "{wrong} of 500,000");
        assert!(!Filter::of(&[]).may_have(key(1)));
        assert!(!Filter::from_bytes(b"").may_have(key(1)));
    }
}
