//! An answer as it comes.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Code, Error, Result};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// A step of an answer; `None` is its end.
pub type Step<T> = Result<Option<T>>;

/// The parts of an answer, in order. Dropped, the query ends where it next gives way.
pub struct Answer<T> {
    steps: mpsc::Receiver<Step<T>>,
    until: Until,
    _query: AbortOnDropHandle<()>,
}

/// When a query's time is over. Kept by the server's threads: those of queries may have none.
#[derive(Clone)]
pub struct Until {
    clock: Arc<dyn Clock>,
    at: Duration,
    timeout: Duration,
}

impl Until {
    /// So long from now.
    pub fn new(clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        let at = clock.monotonic().saturating_add(timeout);
        Self { clock, at, timeout }
    }

    /// What `work` makes, if that is in time.
    pub async fn keep<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let left = self.at.saturating_sub(self.clock.monotonic());
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.clock.sleep(left) => Err(self.over()),
        }
    }

    /// For who begins something that is not to be left half done.
    ///
    /// # Errors
    /// `deadline_exceeded` where its time is over.
    pub fn check(&self) -> Result<()> {
        match self.clock.monotonic() < self.at {
            true => Ok(()),
            false => Err(self.over()),
        }
    }

    fn over(&self) -> Error {
        let timeout_ms = self.timeout.as_millis();
        Error::new(
            Code::DeadlineExceeded,
            format!("the query's time is over; limit=`sql_timeout` value_ms=`{timeout_ms}`"),
        )
    }
}

impl<T> Answer<T> {
    pub(crate) fn new(
        steps: mpsc::Receiver<Step<T>>,
        until: Until,
        query: AbortOnDropHandle<()>,
    ) -> Self {
        Self {
            steps,
            until,
            _query: query,
        }
    }

    /// When the query's time is over, for who hands on what has come.
    pub fn until(&self) -> &Until {
        &self.until
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// Those of the query: then nothing comes any more. `deadline_exceeded` where its time is over.
    pub async fn next(&mut self) -> Step<T> {
        match self.until.keep(self.steps.recv()).await? {
            Some(step) => step,
            // It tells its end: this is none.
            None => Err(Error::internal("the query ended before its end")),
        }
    }
}
