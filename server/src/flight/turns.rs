//! Whose rows are stored next: as many batches at a time as there are threads, in the order in which they were whole.
//!
//! Without an order, a thousand puts that share the threads are all half done when each of them gives up. And one that says by when it must
//! be done (`grpc-timeout`) is refused before its rows are received where those before it will take too long: to receive what will not be
//! stored is what a server that is asked for too much must not do. One that names no time waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::counter::{Counted, Counter};

/// How many turns the mean time of a turn looks back.
const MEMORY: u64 = 16;

/// The turns of a server.
#[derive(Debug)]
pub struct Turns {
    count: usize,
    turns: Semaphore,
    /// Puts that have not had their first turn.
    newcomers: Counter,
    /// How long a turn took lately, in microseconds.
    took: AtomicU64,
}

/// A put that has not had its first turn.
pub type Newcomer = Counted;

/// A turn, until it is dropped.
#[must_use]
pub struct Turn<'a> {
    of: &'a Turns,
    clock: &'a dyn Clock,
    began: Duration,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Turns {
    /// One for each thread.
    pub fn new() -> Self {
        Self::of(thread::available_parallelism().map_or(1, usize::from))
    }

    fn of(count: usize) -> Self {
        Self {
            count,
            turns: Semaphore::new(count),
            newcomers: Counter::default(),
            took: AtomicU64::new(0),
        }
    }

    /// How many there are at a time: the threads of the server.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A put more, which has only so much time `left`. It is refused where the turns of those before it are expected to take more than half
    /// of that; the other half is for its rows to come, and to be stored.
    ///
    /// # Errors
    /// `resource_exhausted`.
    pub fn enter(&self, left: Option<Duration>) -> Result<Newcomer> {
        let (newcomer, before) = self.newcomers.add();
        let wait = Duration::from_micros(self.took.load(Relaxed))
            .saturating_mul(u32::try_from(before / self.count).unwrap_or(u32::MAX));
        match left {
            Some(left) if wait > left / 2 && self.turns.available_permits() == 0 => {
                Err(Error::exhausted(format!(
                    "too many rows are to be stored for this put to be done in time, send it later or with a longer deadline; \
                     expected_wait_ms=`{}` deadline_ms=`{}`",
                    wait.as_millis(),
                    left.as_millis()
                )))
            }
            _ => Ok(newcomer),
        }
    }

    /// Waits for a turn.
    pub async fn take<'a>(&'a self, clock: &'a dyn Clock) -> Turn<'a> {
        // The semaphore is never closed, so there is always a permit.
        let permit = self.turns.acquire().await.ok();
        Turn {
            of: self,
            clock,
            began: clock.monotonic(),
            _permit: permit,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let took = self.clock.monotonic().saturating_sub(self.began);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two that end at once may forget one of them: it is a mean.
        let mean = self.of.took.load(Relaxed);
        let mean = (mean / MEMORY)
            .saturating_mul(MEMORY - 1)
            .saturating_add(took / MEMORY);
        self.of.took.store(mean, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bowstring_cache::clock::ManualClock;
    use bowstring_wire::error::Code;

    use super::*;

    #[tokio::test]
    async fn who_would_be_late_is_refused_and_nobody_else() {
        let (turns, clock) = (Turns::of(1), ManualClock::new(0));
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let _turn = turns.take(&clock).await;
            clock.advance(second / 10);
        }
        let busy = turns.take(&clock).await;
        let mut newcomers = Vec::new();
        let refused = loop {
            match turns.enter(Some(second)) {
                Ok(newcomer) => newcomers.push(newcomer),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(
            refused.to_string().contains("deadline_ms=`1000`"),
            "{refused}"
        );
        assert!(
            (5..=7).contains(&newcomers.len()),
            "about five tenths of a second of work: {}",
            newcomers.len()
        );
        drop(turns.enter(Some(2 * second)).expect("it has time"));
        drop(turns.enter(None).expect("it waits"));
        drop(newcomers.pop());
        drop(turns.enter(Some(second)).expect("one less before it"));
        drop(busy);
        newcomers.extend(turns.enter(None));
        drop(turns.enter(Some(second)).expect("nobody has the turn"));
    }
}
