//! How often a key was asked for lately, nearly: counters of four bits in four rows, of which the
//! least is the answer (Cormode and Muthukrishnan's count-min sketch, with conservative update).
//! After ten times as many requests as there are entries all counters are halved (Einziger et al.,
//! TinyLFU, ACM ToS 2017), so that what was wanted yesterday makes way.

use std::sync::Arc;

use crate::index::Budget;

const ROWS: usize = 4;
/// Counters a word.
const WORD: usize = 16;
const COUNT_MAX: u64 = 15;
/// Counters of the smallest row.
const WIDTH_MIN: usize = 64;
/// Requests an entry until all counters are halved.
const SAMPLE: u64 = 10;
const HALF: u64 = 0x7777_7777_7777_7777;
/// Odd, one a row: the high half of a product with it is another hash.
const SEEDS: [u64; ROWS] = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
];

/// The counters: two to four bytes an entry, charged to a budget. Where that refuses, they stay as
/// few as they are.
pub struct Sketch {
    /// Row after row.
    words: Vec<u64>,
    /// Counters a row; a power of two.
    width: usize,
    added: u64,
    budget: Arc<dyn Budget>,
}

impl Sketch {
    /// Without a counter, until there is something to count.
    pub fn new(budget: Arc<dyn Budget>) -> Self {
        Self {
            words: Vec::new(),
            width: 0,
            added: 0,
            budget,
        }
    }

    /// Counts a request, while there are so many entries.
    pub fn add(&mut self, hash: u32, entries: u64) {
        self.fit(entries);
        let places = self.places(hash);
        let least = places.into_iter().map(|at| self.count(at)).min();
        let least = least.unwrap_or(COUNT_MAX);
        for at in places {
            if least < COUNT_MAX
                && self.count(at) == least
                && let Some(word) = self.words.get_mut(at / WORD)
            {
                *word += 1 << (at % WORD * 4);
            }
        }
        self.added += 1;
        if self.added >= SAMPLE * entries.max(WIDTH_MIN as u64) {
            self.words
                .iter_mut()
                .for_each(|word| *word = *word >> 1 & HALF);
            self.added /= 2;
        }
    }

    /// How often it was asked for, up to 15.
    pub fn estimate(&self, hash: u32) -> u64 {
        let counts = self.places(hash).map(|at| self.count(at));
        counts.into_iter().min().unwrap_or(0)
    }

    fn places(&self, hash: u32) -> [usize; ROWS] {
        std::array::from_fn(|row| {
            let mixed = u64::from(hash).wrapping_add(1).wrapping_mul(SEEDS[row]) >> 24;
            let column = usize::try_from(mixed).unwrap_or(0) & self.width.saturating_sub(1);
            row * self.width + column
        })
    }

    fn count(&self, at: usize) -> u64 {
        self.words
            .get(at / WORD)
            .map_or(0, |word| word >> (at % WORD * 4) & COUNT_MAX)
    }

    /// Doubles the rows until there is a counter for each entry in each of them. A counter's two
    /// heirs start with what it had: which keys those were is not known.
    fn fit(&mut self, entries: u64) {
        let wanted = usize::try_from(entries).unwrap_or(usize::MAX >> 8);
        let wanted = wanted.next_power_of_two().max(WIDTH_MIN);
        if wanted <= self.width {
            return;
        }
        let words = ROWS * wanted / WORD;
        let more = (words - self.words.len()) * size_of::<u64>();
        if !self.budget.charge(more as u64) {
            return;
        }
        let row_words = self.width / WORD;
        let grown = if row_words == 0 {
            vec![0; words]
        } else {
            let rows = self.words.chunks(row_words);
            let times = wanted / self.width;
            rows.flat_map(|row| std::iter::repeat_n(row, times).flatten().copied())
                .collect()
        };
        self.words = grown;
        self.width = wanted;
    }
}

impl Drop for Sketch {
    fn drop(&mut self) {
        let bytes = self.words.len() * size_of::<u64>();
        self.budget.release(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Unlimited;

    fn hash(n: u32) -> u32 {
        n.wrapping_mul(0x9e37_79b9) ^ n.rotate_left(15).wrapping_mul(0x85eb_ca6b)
    }

    #[test]
    fn what_is_asked_for_more_often_counts_more_and_is_forgotten_in_time() {
        let mut sketch = Sketch::new(Arc::new(Unlimited));
        assert_eq!(sketch.estimate(1), 0);
        for round in 0..8 {
            for n in 0..1_000 {
                if n % 8 >= round {
                    sketch.add(hash(n), 1_000);
                }
            }
        }
        let right = (0..1_000).filter(|n| sketch.estimate(hash(*n)) == u64::from(n % 8 + 1));
        let right = right.count();
        assert!(right > 900, "{right}");
        let before = sketch.estimate(hash(7));
        (0..20_000).for_each(|n| sketch.add(hash(1_000 + n % 300), 1_000));
        assert!(sketch.estimate(hash(7)) < before);
    }

    #[test]
    fn it_grows_without_forgetting() {
        let mut sketch = Sketch::new(Arc::new(Unlimited));
        (0..5).for_each(|_| sketch.add(hash(1), 10));
        sketch.add(hash(2), 100_000);
        assert_eq!(sketch.estimate(hash(1)), 5);
        assert_eq!(sketch.words.len() * 8, 4 * (1 << 17) / 2);
    }
}
