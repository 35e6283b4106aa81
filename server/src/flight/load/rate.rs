//! How fast files are read, all loads together.

use std::time::Duration;

use bowstring_cache::clock::Clock;
use parking_lot::Mutex;

/// So many bytes a second.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When what was taken so far is over.
    over: Mutex<Duration>,
}

impl Rate {
    /// Of at least one.
    pub fn new(bytes_per_second: u64) -> Rate {
        Rate {
            bytes_per_second: bytes_per_second.max(1),
            over: Mutex::default(),
        }
    }

    /// Waits until all that was taken before has had its time, and takes so many more.
    pub async fn take(&self, clock: &dyn Clock, bytes: u64) {
        let wait = self.wait(clock.monotonic(), bytes);
        if !wait.is_zero() {
            clock.sleep(wait).await;
        }
    }

    fn wait(&self, now: Duration, bytes: u64) -> Duration {
        let takes = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        let mut over = self.over.lock();
        let begin = (*over).max(now);
        *over = begin.saturating_add(takes);
        begin - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_has_its_time_before_the_next() {
        let rate = Rate::new(1000);
        let at = Duration::from_millis;
        assert_eq!(rate.wait(at(0), 500), at(0));
        assert_eq!(rate.wait(at(0), 250), at(500));
        assert_eq!(rate.wait(at(600), 0), at(150));
        // What was not used is not saved.
        assert_eq!(rate.wait(at(5000), 1000), at(0));
        assert_eq!(rate.wait(at(5000), 1), at(1000));
    }
}
