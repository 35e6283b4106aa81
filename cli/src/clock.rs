//! Time. It passes on a person's terminal: nothing here is simulated, so there is no handle to it.

use std::time::Duration;

/// What `work` gives, or `None` where it takes longer than `limit`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the command line that may"
)]
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Waits.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the command line that may"
)]
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Time since a beginning.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of the command line that may"
    )]
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Time since then.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
