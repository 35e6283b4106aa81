//! The state word of a record: its life, its pins, and the marks of its hits.
//!
//! A record's life: free, private (allocated, being filled by its owner), live (published:
//! can be pinned), dead (unlinked: keeps the pins it has and gets no more), free again with
//! the next generation. One word holds it all, so that a hit is one compare-and-swap: pin,
//! mark and count.
//!
//! ```text
//! pins 23 | life 2 | moving 1 | marks 2 | hits 16 | generation 20
//! ```

use super::sync::{AtomicU64, Ordering, fence};

/// What a pin leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing: a look that is no use.
    Peek,
    /// A hit: visited for the policy, counted, last access set. Seconds since the process
    /// started (any unit would do), kept modulo [`super::record::ACCESS_MODULUS`].
    Hit(u32),
}

/// What became of an attempt to pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Pinned: the caller unpins it.
    Pinned,
    /// Being moved, or has 8 million pins: try again at once.
    Busy,
    /// Not live, or of another generation.
    Gone,
}

const PIN: u64 = 1;
const PINS: u64 = (1 << 23) - 1;
const LIFE_SHIFT: u32 = 23;
const LIFE: u64 = 3 << LIFE_SHIFT;
const FREE: u64 = 0;
const PRIVATE: u64 = 1 << LIFE_SHIFT;
const LIVE: u64 = 2 << LIFE_SHIFT;
/// LIVE with one bit more, so that to unlink is one `fetch_or`.
const DEAD: u64 = 3 << LIFE_SHIFT;
const MOVING: u64 = 1 << 25;
const MARK_SHIFT: u32 = 26;
const MARK: u64 = 1 << MARK_SHIFT;
const MARKS: u64 = 3 << MARK_SHIFT;
const HIT_SHIFT: u32 = 28;
const HIT: u64 = 1 << HIT_SHIFT;
const HITS: u64 = 0xffff << HIT_SHIFT;
const GENERATION_SHIFT: u32 = 44;

/// Every change of life is a release, also by the next owner: a reader with a stale handle
/// that finds the record gone must see what happened to the table before.
#[derive(Debug)]
pub(super) struct State(AtomicU64);

impl State {
    pub(super) fn free() -> State {
        State(AtomicU64::new(FREE))
    }

    /// Pins, where it is live and its generation `wanted`, or any.
    pub(super) fn try_pin(&self, wanted: Option<u32>, hit: bool) -> Pin {
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            if state & LIFE != LIVE || wanted.is_some_and(|wanted| generation(state) != wanted) {
                // With the releases above: who sees it gone sees the table changed.
                fence(Ordering::Acquire);
                return Pin::Gone;
            }
            if state & MOVING != 0 || state & PINS == PINS {
                return Pin::Busy;
            }
            let mut next = state + PIN;
            if hit {
                if state & MARKS != MARKS {
                    next += MARK;
                }
                if state & HITS != HITS {
                    next += HIT;
                }
            }
            // Acquire: sees what the owner wrote before it published, or moved it.
            match self
                .0
                .compare_exchange_weak(state, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Pin::Pinned,
                Err(now) => state = now,
            }
        }
    }

    /// One pin more for who has one, though it be dead; false where there are as many as can be counted.
    pub(super) fn pin_again(&self) -> bool {
        let one_more = |state| (state & PINS != PINS).then_some(state + PIN);
        let updated = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        debug_assert!(
            updated.unwrap_or_default() & PINS != 0 || updated.is_err(),
            "the caller has a pin"
        );
        updated.is_ok()
    }

    /// `true`: was the last pin of a dead one.
    pub(super) fn unpin(&self) -> bool {
        // Release: what this reader read happens before the memory is used again.
        // Acquire: so does what the other readers read, for the one that frees.
        let before = self.0.fetch_sub(PIN, Ordering::AcqRel);
        debug_assert!(before & PINS != 0, "unpinned more often than pinned");
        before & PINS == PIN && before & LIFE == DEAD
    }

    pub(super) fn make_private(&self) {
        let state = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(
            state & !(u64::MAX << GENERATION_SHIFT),
            FREE,
            "allocated twice"
        );
        self.0.store(state | PRIVATE, Ordering::Release);
    }

    pub(super) fn publish(&self) {
        let state = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(state & LIFE, PRIVATE, "published twice, or never allocated");
        self.0.store((state & !LIFE) | LIVE, Ordering::Release);
    }

    /// `true`: it has no pins.
    pub(super) fn unlink(&self) -> bool {
        let before = self.0.fetch_or(DEAD, Ordering::AcqRel);
        debug_assert_eq!(before & LIFE, LIVE, "unlinked twice, or never published");
        before & PINS == 0
    }

    pub(super) fn make_free(&self) {
        let state = self.0.load(Ordering::Relaxed);
        debug_assert!(
            matches!(state & LIFE, PRIVATE | DEAD),
            "freed while live, or twice"
        );
        debug_assert_eq!(state & PINS, 0, "freed while pinned");
        // The generation is the top of the word: past its end it wraps to 0.
        let next = (state >> GENERATION_SHIFT).wrapping_add(1) << GENERATION_SHIFT;
        self.0.store(next | FREE, Ordering::Release);
    }

    pub(super) fn lock_move(&self) -> bool {
        let state = self.0.load(Ordering::Relaxed);
        let locked = state + MOVING + PIN;
        state & (LIFE | PINS | MOVING) == LIVE
            && self
                .0
                .compare_exchange(state, locked, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// `true`: it has died meanwhile.
    pub(super) fn unlock_move(&self) -> bool {
        let before = self.0.fetch_sub(MOVING + PIN, Ordering::AcqRel);
        debug_assert!(before & MOVING != 0, "was not locked for a move");
        before & PINS == PIN && before & LIFE == DEAD
    }

    pub(super) fn is_live(&self) -> bool {
        self.0.load(Ordering::Acquire) & LIFE == LIVE
    }

    pub(super) fn pins(&self) -> u32 {
        low32(self.0.load(Ordering::Relaxed) & PINS)
    }

    pub(super) fn generation(&self) -> u32 {
        generation(self.0.load(Ordering::Acquire))
    }

    pub(super) fn set_hits(&self, hits: u64) {
        let hits = hits.min(HITS >> HIT_SHIFT) << HIT_SHIFT;
        let set = |state| Some(state & !HITS | hits);
        let _ = (self.0).fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }

    pub(super) fn hits(&self) -> u32 {
        low32((self.0.load(Ordering::Relaxed) & HITS) >> HIT_SHIFT)
    }

    pub(super) fn marks(&self) -> u32 {
        low32((self.0.load(Ordering::Relaxed) & MARKS) >> MARK_SHIFT)
    }

    /// What there was before. A hit meanwhile may be lost.
    pub(super) fn set_marks(&self, marks: u32) -> u32 {
        let marks = u64::from(marks.min(3)) << MARK_SHIFT;
        let mut state = self.0.load(Ordering::Relaxed);
        // Most are what they should be when the hand passes: look before writing.
        while state & MARKS != marks {
            let next = state & !MARKS | marks;
            match self
                .0
                .compare_exchange_weak(state, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        low32((state & MARKS) >> MARK_SHIFT)
    }
}

fn generation(state: u64) -> u32 {
    low32(state >> GENERATION_SHIFT)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
pub(crate) fn low32(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    fn live() -> State {
        let state = State::free();
        state.make_private();
        state.publish();
        state
    }

    #[test]
    fn only_a_live_record_is_pinned() {
        let state = State::free();
        assert_eq!(state.try_pin(None, false), Pin::Gone);
        state.make_private();
        assert_eq!(state.try_pin(None, true), Pin::Gone);
        state.publish();
        assert_eq!(state.try_pin(None, false), Pin::Pinned);
        assert!(!state.unlink());
        assert_eq!(state.try_pin(None, false), Pin::Gone);
        assert!(state.unpin(), "the last pin of a dead record");
        assert_eq!(state.generation(), 0);
        state.make_free();
        assert_eq!(state.generation(), 1);
        assert_eq!((state.hits(), state.marks()), (0, 0));
    }

    #[test]
    fn exactly_one_gets_to_free_it() {
        let state = live();
        for _ in 0..3 {
            assert_eq!(state.try_pin(None, false), Pin::Pinned);
        }
        assert_eq!(state.pins(), 3);
        assert!(!state.unpin());
        assert!(!state.unlink());
        assert!(!state.unpin());
        assert!(state.unpin());
        assert!(live().unlink(), "without pins the unlinker frees");
    }

    #[test]
    fn a_move_keeps_readers_out_and_outlives_an_unlink() {
        let state = live();
        assert_eq!(state.try_pin(None, false), Pin::Pinned);
        assert!(!state.lock_move(), "pinned");
        assert!(!state.unpin());
        assert!(state.lock_move());
        assert!(!state.lock_move(), "moving already");
        assert_eq!(state.try_pin(None, false), Pin::Busy);
        assert!(!state.unlink(), "the mover still holds it");
        assert_eq!(state.try_pin(None, false), Pin::Gone);
        assert!(state.unlock_move());
    }

    #[test]
    fn hits_are_counted_to_the_end_and_no_further() {
        let state = State(AtomicU64::new(LIVE | 0xfffd << HIT_SHIFT));
        for hits in [0xfffe, 0xffff, 0xffff, 0xffff] {
            assert_eq!(state.try_pin(None, true), Pin::Pinned);
            assert!(!state.unpin());
            assert_eq!(state.hits(), hits);
        }
        assert_eq!((state.pins(), state.generation()), (0, 0));
        assert_eq!(state.set_marks(1), 3);
        assert_eq!(state.set_marks(0), 1);
        assert_eq!(state.try_pin(None, false), Pin::Pinned);
        assert_eq!(state.marks(), 0, "a peek leaves no mark");
        assert_eq!(state.try_pin(None, true), Pin::Pinned);
        assert_eq!((state.marks(), state.pins()), (1, 2));
    }

    #[test]
    fn pins_do_not_run_over() {
        let state = State(AtomicU64::new(LIVE | (PINS - 1)));
        assert_eq!(state.try_pin(None, false), Pin::Pinned);
        assert_eq!(state.try_pin(None, true), Pin::Busy);
        assert_eq!((state.pins(), state.marks()), (0x7f_ffff, 0));
    }

    #[test]
    fn another_generation_is_gone_and_the_generation_wraps() {
        let last = (1 << 20) - 1;
        let state = State(AtomicU64::new(LIVE | u64::from(last) << GENERATION_SHIFT));
        assert_eq!(state.try_pin(Some(0), false), Pin::Gone);
        assert_eq!(state.try_pin(Some(last), false), Pin::Pinned);
        assert!(!state.unlink());
        assert!(state.unpin());
        state.make_free();
        assert_eq!((state.generation(), state.pins()), (0, 0));
        state.make_private();
        state.publish();
        assert_eq!(state.try_pin(Some(last), false), Pin::Gone);
        assert_eq!(state.try_pin(Some(0), false), Pin::Pinned);
    }
}
