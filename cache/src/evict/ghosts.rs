//! Keys that have gone, as a few bits each: whether one comes back soon.
//!
//! Buckets of eight slots of 32 bits: 16 of the key's hash, and when it went, in steps of bytes
//! gone by. A slot is taken from the one that went longest ago. So a key is remembered for as many
//! bytes as are asked for, nearly; one in 8,000 strangers is taken for one.
//!
//! A queue of those who went would be as long as the window, and shorter by each who comes back. So
//! time stands still for the bytes of who comes back, for the part of the window that it still had:
//! as many are behind it in the queue as that.

use std::sync::Arc;

use crate::index::Budget;

const BUCKET: usize = 8;
/// Slots of the smallest table; a power of two, as all.
const SLOTS_MIN: usize = 64;
/// Steps that the time remembered is divided into, at least, when the table is made: the time is
/// kept modulo 65,536 of them.
const STEPS: u64 = 4_096;
/// A table begins anew when it is more.
const STEPS_MAX: u64 = 32_768;

/// A table of those who went. Its memory is charged to a budget; where that refuses, it stays as
/// small as it is.
pub(super) struct Ghosts {
    /// Hash 16 | time 16; 0 is empty.
    slots: Vec<u32>,
    /// Bytes that have gone so far, but for those for which time stood still.
    gone: u64,
    /// Bytes for which time will stand still.
    spare: u64,
    /// A step is two to this power bytes.
    shift: u32,
    budget: Arc<dyn Budget>,
}

impl Ghosts {
    pub(super) fn new(budget: Arc<dyn Budget>) -> Self {
        Self {
            slots: Vec::new(),
            gone: 0,
            spare: 0,
            shift: 0,
            budget,
        }
    }

    /// Remembers a key whose entry had so many bytes, until `window` more have gone. `residents`
    /// is how many entries there are: about as many are remembered.
    pub(super) fn remember(&mut self, hash: u32, bytes: u64, window: u64, residents: u64) {
        let still = bytes.min(self.spare);
        self.spare -= still;
        self.gone += bytes - still;
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

    /// Whether a key went while at most `window` bytes have gone since, its own among them; it is
    /// forgotten with this.
    pub(super) fn recall(&mut self, hash: u32, bytes: u64, window: u64) -> bool {
        let (now, shift) = (self.now(), self.shift);
        let Some(bucket) = self.bucket(hash) else {
            return false;
        };
        let print = fingerprint(hash);
        let Some(slot) = bucket.iter_mut().find(|slot| high16(**slot) == print) else {
            return false;
        };
        let age = u64::from(now.wrapping_sub(low16(*slot)));
        *slot = 0;
        // At most 32,768, so that a product with the bytes of a tensor fits.
        let steps = window >> shift;
        let Some(left) = steps.checked_sub(age) else {
            return false;
        };
        self.spare += bytes * left / steps.max(1);
        true
    }

    fn now(&self) -> u16 {
        low16(u32::try_from(self.gone >> self.shift & 0xffff).unwrap_or(0))
    }

    fn bucket(&mut self, hash: u32) -> Option<&mut [u32]> {
        let buckets = self.slots.len() / BUCKET;
        let at = usize::try_from((u64::from(hash) * buckets as u64) >> 32).ok()? * BUCKET;
        self.slots.get_mut(at..at + BUCKET)
    }

    /// Makes the table larger where there are more entries, and begins anew where its steps are too
    /// short for the window.
    fn fit(&mut self, window: u64, residents: u64) {
        if self.slots.is_empty() || window >> self.shift > STEPS_MAX {
            self.slots.fill(0);
            self.shift = (window / STEPS).checked_ilog2().unwrap_or(0);
        }
        // Half as many again: keys do not fall into the buckets evenly.
        let wanted = residents.min(u32::MAX.into());
        let wanted = usize::try_from(wanted + wanted / 2).unwrap_or(SLOTS_MIN);
        let wanted = wanted.next_power_of_two().max(SLOTS_MIN);
        let known = self.slots.len();
        if wanted <= known || !self.budget.charge(bytes_of(wanted - known)) {
            return;
        }
        self.slots = if known == 0 {
            vec![0; wanted]
        } else {
            // A bucket's heirs are neighbours, and each has all: whose a key is is not known.
            let buckets = self.slots.chunks(BUCKET);
            let heirs = buckets.flat_map(|slots| std::iter::repeat_n(slots, wanted / known));
            heirs.flatten().copied().collect()
        };
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
        assert!(!ghosts.recall(hash(1), 1, 1 << 30));
        let (bytes, window) = (1_000, 900 * 1_000);
        for n in 0..10_000 {
            ghosts.remember(hash(n), bytes, window, 1_000);
        }
        let known = |ghosts: &mut Ghosts, range: std::ops::Range<u32>| {
            let known = |n: &u32| ghosts.recall(hash(*n), 0, window);
            range.filter(known).count()
        };
        assert!(known(&mut ghosts, 9_200..10_000) > 750);
        assert_eq!(known(&mut ghosts, 9_200..10_000), 0);
        assert!(known(&mut ghosts, 0..9_000) < 10);
        assert!(known(&mut ghosts, 20_000..30_000) < 10);
    }

    #[test]
    fn those_who_come_back_make_room_for_others() {
        let mut ghosts = Ghosts::new(Arc::new(Unlimited));
        let (bytes, window) = (1_000, 1_000 * 1_000);
        let remember = |ghosts: &mut Ghosts, range: std::ops::Range<u32>| {
            range.for_each(|n| ghosts.remember(hash(n), bytes, window, 1_000));
        };
        remember(&mut ghosts, 0..1_000);
        // The newest half: nearly all of its bytes are behind what went first.
        let back = (500..1_000).rev();
        let back = back.filter(|n| ghosts.recall(hash(*n), bytes, window));
        assert!(back.count() > 480);
        remember(&mut ghosts, 1_000..1_300);
        let known = (0..500).filter(|n| ghosts.recall(hash(*n), 0, window));
        assert!(known.count() > 450);
    }

    #[test]
    fn it_grows_without_forgetting() {
        let mut ghosts = Ghosts::new(Arc::new(Unlimited));
        (0..40).for_each(|n| ghosts.remember(hash(n), 10, 1_000, 40));
        (40..60).for_each(|n| ghosts.remember(hash(n), 10, 1_000, 4_000));
        assert_eq!(ghosts.slots.len(), 8_192);
        let known = (0..60).filter(|n| ghosts.recall(hash(*n), 10, 1_000));
        assert_eq!(known.count(), 60);
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
        assert!(!ghosts.recall(7, 100, 1_000));
    }
}
