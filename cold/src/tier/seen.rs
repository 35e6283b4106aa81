//! How often keys were read from below lately: what is read often enough stays in memory.

use std::sync::Arc;

use bowstring_cache::evict::sketch::Sketch;
use bowstring_cache::index::Unlimited;
use parking_lot::Mutex;

/// Keys that are told apart, nearly; after ten times as many reads each counts half. 256 KiB.
const KEYS: u64 = 1 << 17;

/// See above. What is taken for read more often than it was costs a copy, nothing else.
pub(super) struct Seen {
    sketch: Mutex<Sketch>,
    enough: u64,
}

impl Seen {
    /// For what stays from so many reads on.
    pub(super) fn new(enough: u32) -> Self {
        Self {
            sketch: Mutex::new(Sketch::new(Arc::new(Unlimited))),
            enough: enough.into(),
        }
    }

    /// Counts a read; whether there were enough of this hash by now.
    pub(super) fn enough(&self, hash: u64) -> bool {
        let mut sketch = self.sketch.lock();
        let hash = u32::try_from(hash >> 32).unwrap_or(0);
        sketch.add(hash, KEYS);
        sketch.estimate(hash) >= self.enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn it_is_enough_after_so_many_reads_with_a_hundred_thousand_others_between() {
        for (reads, enough) in [(1, 1), (2, 2), (5, 5)] {
            let seen = Seen::new(enough);
            for nth in 1..reads {
                assert!(!seen.enough(hash(0)), "{nth} of {enough}");
            }
            let wrong = (1..100_000)
                .filter(|n| enough > 1 && seen.enough(hash(*n)))
                .count();
            assert!(wrong < 1_000, "{wrong}");
            assert!(seen.enough(hash(0)));
        }
    }

    #[test]
    fn what_was_read_long_ago_is_forgotten() {
        let seen = Seen::new(2);
        assert!(!seen.enough(hash(0)));
        for n in 0..25 * KEYS {
            seen.enough(hash(1 + n % 1_000));
        }
        assert!(!seen.enough(hash(0)));
    }
}
