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
/// What SipHash takes at a time.
const WORD: usize = 8;

/// The index's hash function, keyed.
#[derive(Clone)]
pub struct KeyHash {
    keyed: SipHasher13,
}

/// The same, of names that begin alike: the beginning is hashed once.
#[derive(Clone)]
pub struct NameHash {
    begun: SipHasher13,
}

impl KeyHash {
    /// A hash under `key`, which is drawn at random once per process (or fixed, in a
    /// simulation) and shown to nobody.
    pub fn new(key: [u64; 2]) -> KeyHash {
        KeyHash {
            keyed: SipHasher13::new_with_keys(key[0], key[1]),
        }
    }

    /// The hash of a name: what it begins with (tenant, namespace), and its key. The lengths of
    /// the former go in first, so that `("a", "bc")` and `("ab", "c")` differ.
    pub fn hash<const N: usize>(&self, begin: [&[u8]; N], key: &[u8]) -> u64 {
        // In one piece where it is short, as nearly all are: a third fewer instructions.
        let mut name = [0; ONE_PIECE];
        let lengths = padded(begin) + key.len();
        if lengths > ONE_PIECE {
            return self.within(begin).hash(key);
        }
        let mut at = 0;
        let mut push = |bytes: &[u8]| {
            name[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        begin.iter().for_each(|part| push(&length(part)));
        begin.iter().for_each(|part| push(part));
        name[padded(begin)..lengths].copy_from_slice(key);
        self.keyed.hash(&name[..lengths])
    }

    /// For many names that begin with these parts.
    pub fn within<const N: usize>(&self, begin: [&[u8]; N]) -> NameHash {
        let mut begun = self.keyed;
        let mut left = padded(begin);
        let mut push = |bytes: &[u8]| {
            begun.write(bytes);
            left -= bytes.len();
        };
        begin.iter().for_each(|part| push(&length(part)));
        begin.iter().for_each(|part| push(part));
        begun.write(&[0; WORD][..left]);
        NameHash { begun }
    }
}

impl NameHash {
    /// As [`KeyHash::hash`].
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.begun.hash(key)
    }
}

/// What a name begins with takes so many bytes: whole words, so that its key begins one.
fn padded<const N: usize>(begin: [&[u8]; N]) -> usize {
    let lengths = begin.iter().map(|part| part.len() + 2).sum::<usize>();
    lengths.next_multiple_of(WORD)
}

/// The length modulo 2¹⁶, which is more than any name has.
fn length(part: &[u8]) -> [u8; 2] {
    let [low, high, ..] = part.len().to_le_bytes();
    [low, high]
}

impl std::fmt::Debug for NameHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NameHash(..)")
    }
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
        let begin = [b"public".as_slice(), b"default"];
        assert_eq!(one.hash(begin, b"key"), one.clone().hash(begin, b"key"));
        assert_ne!(one.hash(begin, b"key"), other.hash(begin, b"key"));
        let all = [
            (["a", "bc"], "d"),
            (["ab", "c"], "d"),
            (["a", "b"], "cd"),
            (["", "abcd"], ""),
        ];
        let hashes = all.map(|([tenant, namespace], key)| {
            one.hash([tenant.as_bytes(), namespace.as_bytes()], key.as_bytes())
        });
        let different: std::collections::HashSet<u64> = hashes.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn one_piece_or_several_is_the_same() {
        let hash = KeyHash::new([1, 2]);
        for begin in (0..30).step_by(if cfg!(miri) { 13 } else { 1 }) {
            let begin = [b"public".as_slice(), &[7; 30][..begin]];
            for len in 0..ONE_PIECE {
                let key = &[9; ONE_PIECE][..len];
                assert_eq!(hash.hash(begin, key), hash.within(begin).hash(key));
            }
        }
        assert_ne!(hash.hash([], &[1; 1000]), hash.hash([], &[1; 1001]));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let hash = KeyHash::new([1, 2]);
        assert_eq!(format!("{hash:?}"), "KeyHash(..)");
        assert_eq!(format!("{:?}", hash.within([b"a"])), "NameHash(..)");
    }
}
