//! The keyed hash that chooses shard and bucket.
//!
//! SipHash-1-3 with a key drawn at random per process: what std, Python and Ruby use
//! against flooding, the same value on every processor (so that a simulation with a fixed
//! key repeats), and about 20 ns for a short key beside a look-up's three memory accesses.
//! xxh3 and its kin are faster by ten of those, but no one claims that an adversary who
//! sees timings cannot find collisions for an unknown secret. The hash finds; the full key
//! decides.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Bytes of a name that are hashed in one piece.
const ONE_PIECE: usize = 128;

/// The index's hash function, keyed.
#[derive(Clone)]
pub struct KeyHash {
    keyed: SipHasher13,
}

impl KeyHash {
    /// A hash under `key`, which is drawn at random once per process (or fixed, in a
    /// simulation) and shown to nobody.
    pub fn new(key: [u64; 2]) -> KeyHash {
        KeyHash {
            keyed: SipHasher13::new_with_keys(key[0], key[1]),
        }
    }

    /// The hash of a name of several parts (tenant, namespace, key). All lengths go in
    /// first, so that `("a", "bc")` and `("ab", "c")` differ.
    pub fn hash<const N: usize>(&self, parts: [&[u8]; N]) -> u64 {
        // In one piece where it is short, as nearly all are: a third fewer instructions.
        let mut name = [0; ONE_PIECE];
        let lengths = parts.iter().map(|part| part.len()).sum::<usize>() + 2 * N;
        if lengths > ONE_PIECE {
            return self.hash_long(parts);
        }
        let mut at = 0;
        let mut push = |bytes: &[u8]| {
            name[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        parts.iter().for_each(|part| push(&length(part)));
        parts.iter().for_each(|part| push(part));
        self.keyed.hash(&name[..lengths])
    }

    fn hash_long<const N: usize>(&self, parts: [&[u8]; N]) -> u64 {
        let mut hasher = self.keyed;
        parts.iter().for_each(|part| hasher.write(&length(part)));
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

/// The length modulo 2¹⁶, which is more than any name has.
fn length(part: &[u8]) -> [u8; 2] {
    let [low, high, ..] = part.len().to_le_bytes();
    [low, high]
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_and_the_key_matters() {
        let one = KeyHash::new([1, 2]);
        let other = KeyHash::new([1, 3]);
        let name = [b"public".as_slice(), b"default", b"key"];
        assert_eq!(one.hash(name), one.clone().hash(name));
        assert_ne!(one.hash(name), other.hash(name));
        assert_ne!(
            one.hash([b"a", b"bc".as_slice()]),
            one.hash([b"ab".as_slice(), b"c"])
        );
        assert_ne!(
            one.hash([b"".as_slice(), b"a"]),
            one.hash([b"a".as_slice(), b""])
        );
    }

    #[test]
    fn one_piece_or_several_is_the_same() {
        let hash = KeyHash::new([1, 2]);
        for len in 0..ONE_PIECE - 6 {
            let parts = [
                b"public".as_slice(),
                &[],
                &[7; ONE_PIECE][..len.min(ONE_PIECE - 12)],
            ];
            assert_eq!(hash.hash(parts), hash.hash_long(parts));
        }
        assert_ne!(hash.hash([&[1; 1000]]), hash.hash([&[1; 1001]]));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        assert_eq!(format!("{:?}", KeyHash::new([1, 2])), "KeyHash(..)");
    }
}
