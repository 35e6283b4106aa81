//! Bytes that say which key and which put of it they are, so that a read can be judged by itself.

use std::sync::OnceLock;

use super::dice::Dice;
use super::is_large;

/// The longest tensor.
pub fn bytes_max() -> usize {
    if is_large() { 64 << 20 } else { 8 << 20 }
}

/// What a tensor begins with: the key, and the number of the put.
const HEAD: usize = 16;
/// Places where the rest may begin in the pool, in words.
const STARTS: u64 = 1 << 20;
/// Odd, so that every word of the pool is another.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A tensor's bytes: key and put, by which no two are alike, and a piece of a pool that begins where both of them say,
/// so that half of one and half of another are seen too. Its length, of 16 at least, is the key's.
pub fn of(key: u64, put: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&put.to_le_bytes());
    bytes.extend_from_slice(rest(key, put, len));
    bytes
}

/// Whether these are the bytes of some put of this key.
pub fn is_of(key: u64, bytes: &[u8]) -> bool {
    let Some((head, tail)) = bytes.split_first_chunk::<HEAD>() else {
        return false;
    };
    let [of, put] = [&head[..8], &head[8..]].map(word);
    of == key && *tail == *rest(key, put, bytes.len())
}

/// A key's length, spread evenly over the magnitudes from `least` to `most`.
pub fn len_of(key: u64, least: usize, most: usize) -> usize {
    let mut dice = Dice::new(key);
    let octaves = (most / least).ilog2();
    let octave = dice.below(usize::try_from(octaves).unwrap_or(1));
    let base = least << octave;
    base + dice.below(base)
}

fn rest(key: u64, put: u64, len: usize) -> &'static [u8] {
    let start = Dice::new(Dice::new(key).next() ^ put).next() % STARTS;
    let start = usize::try_from(start).unwrap_or(0) * 8;
    &pool()[start..start + len - HEAD]
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| {
        let words = STARTS + bytes_max() as u64 / 8;
        (0..words)
            .flat_map(|at| at.wrapping_mul(FACTOR).to_le_bytes())
            .collect()
    })
}

#[test]
fn a_tensor_is_told_from_another_keys_and_from_any_other_put() {
    for key in 0..100 {
        let len = len_of(key, 1024, bytes_max());
        assert!((1024..bytes_max()).contains(&len));
        assert!(is_of(key, &of(key, key * 7, len)));
        assert!(!is_of(key, &of(key + 1, 0, len)));
        let mut damaged = of(key, 3, len);
        damaged[len - 1] ^= 1;
        assert!(!is_of(key, &damaged));
        damaged = of(key, 3, len);
        damaged[HEAD..].copy_from_slice(&of(key, 4, len)[HEAD..]);
        assert!(!is_of(key, &damaged), "of two puts");
    }
    let puts = [0, 1, 2, 256, 512, 1 << 20, 1 << 40, u64::MAX];
    for (at, put) in puts.into_iter().enumerate() {
        for other in &puts[..at] {
            assert!(of(5, put, 1024) != of(5, *other, 1024));
            assert!(of(5, put, 1024)[HEAD..] != of(5, *other, 1024)[HEAD..]);
        }
    }
}
