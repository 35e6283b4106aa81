//! Words as a language has them, made up: what keys are when nobody numbers them. Few letters and few
//! syllables make most of them, many begin alike, and some have a digit, a hyphen or a letter of two
//! bytes somewhere. Shared by the benches of the index and of the engine.

use std::collections::HashSet;

const ONSETS: [&str; 24] = [
    "s", "c", "m", "b", "p", "t", "d", "r", "h", "k", "g", "l", "f", "n", "w", "v", "st", "tr",
    "ch", "br", "sch", "pl", "j", "z",
];
const NUCLEI: [&str; 12] = [
    "a", "e", "i", "o", "u", "er", "in", "ea", "ou", "y", "é", "io",
];
const CODAS: [&str; 8] = ["", "n", "r", "s", "", "l", "ng", "t"];

/// So many words of at most `bytes_max` bytes, each of them once, in no order; the same ones each
/// time.
pub fn words(count: usize, bytes_max: usize) -> Vec<String> {
    let mut random = Random(1);
    let mut seen = HashSet::with_capacity(count);
    let mut words = Vec::with_capacity(count);
    while words.len() < count {
        let word = word(&mut random);
        if word.len() <= bytes_max && seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

fn word(random: &mut Random) -> String {
    let mut word = String::new();
    for _ in 0..2 + random.below(3) {
        for part in [&ONSETS[..], &NUCLEI, &CODAS] {
            // Twice as often one of the first half.
            let among = part.len() >> u32::from(random.below(3) > 0);
            word += part[random.below(among)];
        }
    }
    match random.below(40) {
        0 => word.insert(random.below(2), '-'),
        1 => word.insert_str(0, &random.below(1_000).to_string()),
        2 => word = random.below(100_000).to_string(),
        _ => {}
    }
    word
}

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(((mixed >> 32) * end as u64) >> 32).unwrap_or(0)
    }
}
