//! How a server stops: drain, then end; a second signal does not wait.

use std::future::Future;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A handle to one server's end; clones share it.
///
/// While it drains, nothing new is taken and `/healthz` says so; what runs may finish. When it is
/// forced, what runs is dropped.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    forced: CancellationToken,
    running: TaskTracker,
}

/// Something that runs and that a drain waits for, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Running {
    _token: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All that ran was finished.
    Finished,
    /// The time was over; so many still ran.
    TimedOut(usize),
    /// Somebody did not want to wait; so many still ran.
    Forced(usize),
}

impl Shutdown {
    /// A server that has yet to end.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that ends with this one, or before it: for what can be begun anew behind it.
    pub fn part(&self) -> Self {
        Self {
            draining: self.draining.child_token(),
            forced: self.forced.child_token(),
            running: TaskTracker::new(),
        }
    }

    /// Starts the drain. Calling it again changes nothing.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends what still runs, without waiting.
    pub fn force(&self) {
        self.draining.cancel();
        self.forced.cancel();
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Completes when the drain starts.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.draining.cancelled()
    }

    /// Completes when what still runs must end.
    pub fn forced(&self) -> WaitForCancellationFuture<'_> {
        self.forced.cancelled()
    }

    /// Is cancelled when the drain starts; for those who keep a token of their own.
    pub fn drain_token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Is cancelled when what still runs must end.
    pub fn force_token(&self) -> CancellationToken {
        self.forced.clone()
    }

    /// Counts something that runs: the drain waits until the guard is dropped.
    pub fn running(&self) -> Running {
        Running {
            _token: self.running.token(),
        }
    }

    /// Starts the drain and waits until nothing runs, `deadline` completes, or somebody forces.
    /// Unless all is finished, what runs is then forced.
    pub async fn drained(&self, deadline: impl Future<Output = ()>) -> Drained {
        self.drain();
        self.running.close();
        let how = tokio::select! {
            // What is forced ends, and might then pass for finished.
            biased;
            () = self.forced() => Drained::Forced(self.running.len()),
            () = self.running.wait() => return Drained::Finished,
            () = deadline => Drained::TimedOut(self.running.len()),
        };
        self.force();
        how
    }

    /// Whether all that ran has ended, before `deadline` completes: also what was forced.
    pub async fn ended(&self, deadline: impl Future<Output = ()>) -> bool {
        self.running.close();
        tokio::select! {
            biased;
            () = self.running.wait() => true,
            () = deadline => false,
        }
    }

    /// Lets SIGTERM and SIGINT drain, and a second one force.
    ///
    /// # Errors
    /// Where the handlers cannot be installed. Must be called within a runtime.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            let signal = next().await;
            tracing::info!(signal, "draining; a second signal ends at once");
            shutdown.drain();
            let signal = next().await;
            tracing::warn!(signal, "not waiting for what still runs");
            shutdown.force();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn a_drain_waits_for_what_runs() {
        let shutdown = Shutdown::new();
        let running = shutdown.running();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.drained(pending()).await }
        });
        shutdown.draining().await;
        assert!(shutdown.is_draining() && !waiting.is_finished());
        drop(running);
        assert_eq!(waiting.await.unwrap(), Drained::Finished);
        assert!(!shutdown.forced.is_cancelled(), "nothing was left to force");
    }

    #[tokio::test]
    async fn a_deadline_forces_and_counts_what_it_cut() {
        let shutdown = Shutdown::new();
        let _running = (shutdown.running(), shutdown.running());
        assert_eq!(shutdown.drained(ready(())).await, Drained::TimedOut(2));
        shutdown.forced().await;
    }

    #[tokio::test]
    async fn a_second_request_does_not_wait() {
        let shutdown = Shutdown::new();
        let _running = shutdown.running();
        shutdown.force();
        assert!(shutdown.is_draining());
        assert_eq!(shutdown.drained(pending()).await, Drained::Forced(1));
    }

    #[tokio::test]
    async fn what_was_cut_short_is_not_finished() {
        let shutdown = Shutdown::new();
        let running = shutdown.running();
        shutdown.force();
        drop(running);
        assert_eq!(shutdown.drained(pending()).await, Drained::Forced(0));
    }

    #[tokio::test]
    async fn nothing_running_needs_no_time() {
        assert_eq!(Shutdown::new().drained(ready(())).await, Drained::Finished);
    }

    /// The only test that may send signals to the process: handlers are the whole process's.
    #[tokio::test]
    async fn a_signal_drains_and_a_second_forces() {
        use rustix::process::{Signal, getpid, kill_process};
        let shutdown = Shutdown::new();
        shutdown.on_signals().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        shutdown.draining().await;
        assert!(!shutdown.forced.is_cancelled());
        kill_process(getpid(), Signal::INT).unwrap();
        shutdown.forced().await;
    }
}
