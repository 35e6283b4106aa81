//! Whose rows are stored next: as many batches at a time as there are threads, in the order in which they were whole.
//!
//! Without an order, a thousand puts that share the threads are all half done when each of them gives up. And one that says by when it must
//! be done (`grpc-timeout`) is refused before its rows are received where those before it take too long: to receive what will not be stored is what
//! a server that is asked for too much must not do. One that names no time waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of a server.
#[derive(Debug)]
pub struct Turns {
    turns: Semaphore,
    /// How long the last one waited, in microseconds.
    waited: AtomicU64,
}

/// A turn, until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Turn<'a>(
    #[expect(dead_code, reason = "gives the turn back")] Option<SemaphorePermit<'a>>,
);

impl Turns {
    /// One for each thread.
    pub fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self::of(threads)
    }

    fn of(turns: usize) -> Self {
        Self {
            turns: Semaphore::new(turns),
            waited: AtomicU64::new(0),
        }
    }

    /// Refuses who has only so much time `left`, where more than half of it would go by before the turn comes: the other half is for what has
    /// come meanwhile, and for the work.
    ///
    /// # Errors
    /// `resource_exhausted`.
    pub fn refuse_late(&self, left: Option<Duration>) -> Result<()> {
        let waited = Duration::from_micros(self.waited.load(Relaxed));
        match left {
            Some(left) if waited > left / 2 && self.turns.available_permits() == 0 => {
                Err(Error::exhausted(format!(
                    "too many rows are waiting to be stored for this put to be done in time, send it later or with a longer deadline; \
                     waited_ms=`{}` deadline_ms=`{}`",
                    waited.as_millis(),
                    left.as_millis()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Waits for a turn.
    pub async fn take(&self, clock: &dyn Clock) -> Turn<'_> {
        let came = clock.monotonic();
        // The semaphore is never closed, so there is always a permit.
        let turn = self.turns.acquire().await.ok();
        let waited = clock.monotonic().saturating_sub(came);
        self.waited.store(
            u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
            Relaxed,
        );
        Turn(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bowstring_cache::clock::ManualClock;
    use bowstring_wire::error::Code;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn who_would_be_late_is_refused_and_nobody_else() {
        let (turns, clock) = (Arc::new(Turns::of(1)), Arc::new(ManualClock::new(0)));
        let second = Duration::from_secs(1);
        let first = turns.take(&*clock).await;
        assert!(
            turns.refuse_late(Some(second)).is_ok(),
            "nobody has waited yet"
        );
        let waiting = tokio::spawn({
            let (turns, clock) = (Arc::clone(&turns), Arc::clone(&clock));
            async move {
                let _turn = turns.take(&*clock).await;
                std::future::pending::<()>().await;
            }
        });
        yield_now().await;
        clock.advance(second);
        drop(first);
        yield_now().await;
        let refused = turns
            .refuse_late(Some(second))
            .expect_err("the last one waited a second");
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(
            refused.to_string().contains("waited_ms=`1000`"),
            "{refused}"
        );
        assert!(turns.refuse_late(Some(2 * second)).is_ok());
        assert!(turns.refuse_late(None).is_ok(), "it has time");
        waiting.abort();
        assert!(waiting.await.is_err());
        assert!(
            turns.refuse_late(Some(second)).is_ok(),
            "it is its turn at once"
        );
    }
}
