//! Bytes that say which key and which put of it they are, so that a read can be judged by itself.

use std::sync::OnceLock;

use super::dice::Dice;
use super::is_large;

/// The longest tensor.
pub fn bytes_max() -> usize {
    if is_large() { 64 << 20 } else { 8 << 20 }
}

/// Places where a tensor may begin in the pool, in words.
const STARTS: u64 = 1 << 20;
/// A key's puts are told apart by so many bits.
const PUT_BITS: u32 = 8;
/// Odd, so that a word says where in the pool it is.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A tensor's bytes: a piece of a pool in which every word is another. Where it begins is made of the
/// key and the number of the put; its length is the key's.
pub fn of(key: u64, put: u64, len: usize) -> &'static [u8] {
    let start = usize::try_from(start(key, put)).unwrap_or(0) * 8;
    &pool()[start..start + len]
}

/// Whether these are the bytes of some put of this key.
pub fn is_of(key: u64, bytes: &[u8]) -> bool {
    let Some(word) = bytes.first_chunk::<8>() else {
        return false;
    };
    let at = u64::from_le_bytes(*word).wrapping_mul(inverse());
    if at >= STARTS || at >> PUT_BITS != start(key, 0) >> PUT_BITS {
        return false;
    }
    let at = usize::try_from(at).unwrap_or(0) * 8;
    pool()[at..at + bytes.len()] == *bytes
}

/// A key's length, spread evenly over the magnitudes from `least` to `most`.
pub fn len_of(key: u64, least: usize, most: usize) -> usize {
    let mut dice = Dice::new(key);
    let octaves = (most / least).ilog2();
    let octave = dice.below(usize::try_from(octaves).unwrap_or(1));
    let base = least << octave;
    base + dice.below(base)
}

fn start(key: u64, put: u64) -> u64 {
    let places = STARTS >> PUT_BITS;
    let place = Dice::new(key).next() % places;
    (place << PUT_BITS) | (put % (1 << PUT_BITS))
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

/// Of [`FACTOR`], modulo 2⁶⁴.
fn inverse() -> u64 {
    // Newton's method doubles the bits that are right; an odd number is its own inverse to three.
    let double =
        |inverse: u64| inverse.wrapping_mul(2u64.wrapping_sub(FACTOR.wrapping_mul(inverse)));
    (0..5).fold(FACTOR, |inverse, _| double(inverse))
}

#[test]
fn a_tensor_is_told_from_another_keys() {
    for key in 0..100 {
        let len = len_of(key, 1024, bytes_max());
        assert!((1024..bytes_max()).contains(&len));
        assert!(is_of(key, of(key, key * 7, len)));
        assert!(!is_of(key, of(key + 1, 0, len)));
        let mut damaged = of(key, 3, len).to_vec();
        damaged[len - 1] ^= 1;
        assert!(!is_of(key, &damaged));
    }
}
