//! The hybrid logical clock that versions come from: 48 bits of milliseconds and 16 of counter,
//! beside 32 bits drawn at random per start. A wall clock that steps back, or more than 65,536
//! versions in a millisecond, makes the clock run ahead of the wall, never repeat.
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::version::Version;

const COUNTER_BITS: u32 = 16;

/// Gives versions that are strictly increasing within one start.
#[derive(Debug)]
pub struct HybridClock {
    last: AtomicU64,
    start: u32,
}

impl HybridClock {
    /// A clock for one start of the engine.
    pub fn new(start: u32) -> Self {
        Self {
            last: AtomicU64::new(0),
            start,
        }
    }

    /// The next version at wall time `now_ms` (Unix milliseconds).
    pub fn next(&self, now_ms: u64) -> Version {
        self.next_of(now_ms, 1)
    }

    /// The next `count` versions, of which the first is given: each is one more than the one before.
    pub fn next_of(&self, now_ms: u64, count: u64) -> Version {
        let wall = now_ms << COUNTER_BITS;
        let first = |last: u64| wall.max(last + 1);
        let last = self
            .last
            .update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                first(last) + count.saturating_sub(1)
            });
        Version {
            hlc: first(last),
            start: self.start,
        }
    }

    /// Everything from now on is later than `hlc`: for what a lower tier has stored.
    pub fn observe(&self, hlc: u64) {
        self.last.fetch_max(hlc, Ordering::Relaxed);
    }

    /// The latest so far.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// The random half of every version of this start.
    pub fn start(&self) -> u32 {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn versions_grow_though_the_wall_clock_steps_back() {
        let clock = HybridClock::new(7);
        let mut last = clock.next(1_000);
        assert_eq!((last.hlc >> COUNTER_BITS, last.start), (1_000, 7));
        for now_ms in [1_000, 1_001, 3, 0, 2_000] {
            let next = clock.next(now_ms);
            assert!(next.hlc > last.hlc);
            last = next;
        }
        clock.observe(5_000 << COUNTER_BITS);
        assert!(clock.next(2_001).hlc > 5_000 << COUNTER_BITS);
    }

    #[test]
    fn no_two_threads_get_the_same_version() {
        let clock = Arc::new(HybridClock::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let clock = Arc::clone(&clock);
                std::thread::spawn(move || {
                    let few = |n| {
                        let first = clock.next_of(1, n).hlc;
                        first..first + n
                    };
                    (0..2_000).flat_map(|n| few(n % 3 + 1)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all: Vec<u64> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 15_996);
    }
}
