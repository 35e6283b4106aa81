//! Time comes in through a handle, so that a whole server can be simulated and no test sleeps.
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

/// What [`Clock::sleep`] gives: it needs nothing but an executor.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wall clock, monotonic clock and timer in one handle.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May step backwards; versions never do ([`crate::hlc`]).
    fn now_ms(&self) -> u64;
    /// Time since some fixed moment; never goes backwards.
    fn monotonic(&self) -> Duration;
    /// Completes when `duration` has passed on the monotonic clock.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The machine's clocks and tokio's timer.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::monotonic`] counts from now.
    #[expect(clippy::disallowed_methods, reason = "this is the handle")]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the handle")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the handle")]
    fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.started)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the handle")]
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    epoch_ms: u64,
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    /// A clock that shows `epoch_ms` (Unix milliseconds) until it is moved.
    pub fn new(epoch_ms: u64) -> Self {
        Self {
            epoch_ms,
            elapsed: watch::Sender::new(Duration::ZERO),
        }
    }

    /// Moves both clocks on and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.elapsed.borrow().as_millis()).unwrap_or(u64::MAX);
        self.epoch_ms.saturating_add(elapsed)
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut moved = self.elapsed.subscribe();
        let until = self.monotonic().saturating_add(duration);
        Box::pin(async move {
            // An error means that the clock is gone: then nobody waits for time any more.
            let _ = moved.wait_for(|elapsed| *elapsed >= until).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_it_is_moved() {
        let clock = ManualClock::new(1_000);
        let mut sleep = clock.sleep(Duration::from_millis(10));
        let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(sleep.as_mut().poll(cx)));
        assert!(pending.await.is_pending());
        clock.advance(Duration::from_millis(10));
        sleep.await;
        assert_eq!(clock.now_ms(), 1_010);
        assert_eq!(clock.monotonic(), Duration::from_millis(10));
    }

    #[test]
    fn the_system_clock_is_past_2020_and_does_not_go_back() {
        let clock = SystemClock::new();
        assert!(clock.now_ms() > 1_577_836_800_000);
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }
}
