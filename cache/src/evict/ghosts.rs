//! Keys that have gone, as a few bits each: whether one comes back soon.
//!
//! Buckets of eight slots of 32 bits: 16 of the key's hash, and when it went, in steps of bytes
//! gone by. A slot is taken from the one that went longest ago. So a key is remembered for as many
//! bytes as are asked for, nearly; one in 8,000 strangers is taken for one.

use std::sync::Arc;

use crate::index::Budget;

const BUCKET: usize = 8;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 64;
/// Steps that the time remembered is divided into, at least, when the table is made: the time is
/// kept modulo 65,536 of them.
const STEPS: u64 = 4_096;
/// A table is made anew when it is more.
const STEPS_MAX: u64 = 32_768;

/// A table of those who went. Its memory is charged to a budget; where that refuses, it stays as
/// small as it is.
pub(super) struct Ghosts {
    /// Hash 16 | time 16; 0 is empty.
    slots: Vec<u32>,
    /// Bytes that have gone so far.
    gone: u64,
    /// A step is two to this power bytes.
    shift: u32,
    budget: Arc<dyn Budget>,
}

impl Ghosts {
    pub(super) fn new(budget: Arc<dyn Budget>) -> Self {
        Self {
            slots: Vec::new(),
            gone: 0,
            shift: 0,
            budget,
        }
    }

    /// Remembers a key whose entry had so many bytes, until `window` more have gone. `residents`
    /// is how many entries there are: about as many are remembered.
    pub(super) fn remember(&mut self, hash: u32, bytes: u64, window: u64, residents: u64) {
        self.gone += bytes;
        self.fit(window, residents);
        let now = self.now();
        let Some(bucket) = self.bucket(hash) else {
            return;
        };
        let age = |slot: &u32| u32::from(now.wrapping_sub(low16(*slot)));
        let print = fingerprint(hash);
        let known = bucket.iter_mut().position(|slot| high16(*slot) == print);
        let at = known.or_else(|| bucket.iter().position(|slot| *slot == 0));
        let at = at.or_else(|| (0..BUCKET).max_by_key(|at| age(&bucket[*at])));
        if let Some(slot) = at.and_then(|at| bucket.get_mut(at)) {
            *slot = u32::from(print) << 16 | u32::from(now);
        }
    }

    /// Whether a key went while at most `window` bytes have gone since; it is forgotten with this.
    pub(super) fn recall(&mut self, hash: u32, window: u64) -> bool {
        let (now, shift) = (self.now(), self.shift);
        let Some(bucket) = self.bucket(hash) else {
            return false;
        };
        let print = fingerprint(hash);
        let Some(slot) = bucket.iter_mut().find(|slot| high16(**slot) == print) else {
            return false;
        };
        let age = u64::from(now.wrapping_sub(low16(*slot))) << shift;
        *slot = 0;
        age <= window
    }

    fn now(&self) -> u16 {
        low16(u32::try_from(self.gone >> self.shift & 0xffff).unwrap_or(0))
    }

    fn bucket(&mut self, hash: u32) -> Option<&mut [u32]> {
        let buckets = self.slots.len() / BUCKET;
        let at = usize::try_from((u64::from(hash) * buckets as u64) >> 32).ok()? * BUCKET;
        self.slots.get_mut(at..at + BUCKET)
    }

    /// Makes the table anew, and forgets, where it is too small or its steps too short.
    fn fit(&mut self, window: u64, residents: u64) {
        let wanted = usize::try_from(residents).unwrap_or(usize::MAX / 8);
        let too_small = wanted > self.slots.len();
        if !too_small && window >> self.shift <= STEPS_MAX {
            return;
        }
        let shift = (window / STEPS).checked_ilog2().unwrap_or(0);
        if !too_small {
            self.slots.fill(0);
            self.shift = shift;
            return;
        }
        // A quarter more, so that a cache whose entries become a little smaller need not forget.
        let slots = (wanted + wanted / 4)
            .max(SLOTS_MIN)
            .next_multiple_of(BUCKET);
        let more = bytes_of(slots - self.slots.len());
        if self.budget.charge(more) {
            self.slots = vec![0; slots];
            self.shift = shift;
        }
    }
}

impl Drop for Ghosts {
    fn drop(&mut self) {
        self.budget.release(bytes_of(self.slots.len()));
    }
}

fn bytes_of(slots: usize) -> u64 {
    (slots * size_of::<u32>()) as u64
}

/// Never 0. The bucket is chosen by the hash's high bits.
fn fingerprint(hash: u32) -> u16 {
    low16(hash).max(1)
}

fn high16(slot: u32) -> u16 {
    low16(slot >> 16)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low16(word: u32) -> u16 {
    word as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Unlimited;

    fn hash(n: u32) -> u32 {
        n.wrapping_mul(0x9e37_79b9) ^ n.rotate_left(15).wrapping_mul(0x85eb_ca6b)
    }

    #[test]
    fn who_went_lately_is_known_once_and_others_are_not() {
        let mut ghosts = Ghosts::new(Arc::new(Unlimited));
        assert!(!ghosts.recall(hash(1), 1 << 30));
        let (bytes, window) = (1_000, 900 * 1_000);
        for n in 0..10_000 {
            ghosts.remember(hash(n), bytes, window, 1_000);
        }
        let known = |ghosts: &mut Ghosts, range: std::ops::Range<u32>| {
            range.filter(|n| ghosts.recall(hash(*n), window)).count()
        };
        assert!(known(&mut ghosts, 9_200..10_000) > 750);
        assert_eq!(known(&mut ghosts, 9_200..10_000), 0);
        assert!(known(&mut ghosts, 0..9_000) < 10);
        assert!(known(&mut ghosts, 20_000..30_000) < 10);
    }

    #[test]
    fn a_refused_budget_leaves_it_small() {
        struct None;
        impl Budget for None {
            fn charge(&self, _: u64) -> bool {
                false
            }
            fn release(&self, bytes: u64) {
                assert_eq!(bytes, 0);
            }
        }
        let mut ghosts = Ghosts::new(Arc::new(None));
        ghosts.remember(7, 100, 1_000, 10);
        assert!(!ghosts.recall(7, 1_000));
    }
}
