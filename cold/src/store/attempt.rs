//! One request and its tries: a permit each, a time-out each, and a pause before the next.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use futures::future::{Either, select};
use tokio::sync::SemaphorePermit;

use super::error::{Result, StoreError};
use super::{Shared, Store};

/// What a time-out is for; each as many bytes again have as much again.
const BYTES_A_TIMEOUT: u64 = 4 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A request for the sake of somebody who waits, or one that only has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// Leave to ask the store for something, given back when it is dropped.
pub(super) struct Permit<'a> {
    _write: Option<SemaphorePermit<'a>>,
    _request: SemaphorePermit<'a>,
}

impl Store {
    /// Tries `once` until it is done, or fails for good, or time is up. `bytes` is the size of what it
    /// moves.
    pub(super) async fn attempt<T, F: Future<Output = Result<T>>>(
        &self,
        kind: Kind,
        bytes: u64,
        mut once: impl FnMut() -> F,
    ) -> Result<T> {
        let shared = &*self.shared;
        if shared.read_only && kind == Kind::Write {
            return Err(StoreError::Failed("it was opened to be read only".into()));
        }
        let settings = &shared.settings;
        let one = shared.timeout(bytes);
        let end = match kind {
            Kind::Read => shared.clock.monotonic() + one,
            Kind::Write => shared.clock.monotonic() + settings.retry_budget.max(one),
        };
        let mut tries = 0;
        loop {
            let left = end.saturating_sub(shared.clock.monotonic());
            // One request that hangs must leave a read time for another.
            let limit = match kind {
                Kind::Read if tries < settings.retries => left.min(one / 2),
                Kind::Read => left,
                Kind::Write => one,
            };
            let failed = match shared.limited(kind, limit, once()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            tries += 1;
            let pause = shared.pause(tries);
            let now = shared.clock.monotonic();
            if !failed.is_transient() || tries > settings.retries || now + pause >= end {
                return Err(failed);
            }
            shared.clock.sleep(pause).await;
            shared.counts.retries.add(1);
        }
    }

    /// As [`Store::attempt`], but once.
    pub(super) async fn once<T>(
        &self,
        kind: Kind,
        bytes: u64,
        once: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.shared.timeout(bytes);
        self.shared.limited(kind, limit, once).await
    }

    /// How long a request for so many bytes may take.
    pub fn time_for(&self, bytes: u64) -> Duration {
        self.shared.timeout(bytes)
    }

    /// What several requests give, where all of them together, since `began`, take no longer than one for `bytes` may.
    pub async fn in_time<T>(
        &self,
        began: Duration,
        bytes: u64,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let clock = &*self.shared.clock;
        let end = began + self.time_for(bytes);
        within(clock, end.saturating_sub(clock.monotonic()), work).await
    }
}

impl Shared {
    fn timeout(&self, bytes: u64) -> Duration {
        let times = bytes.div_ceil(BYTES_A_TIMEOUT).max(1);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.settings.timeout.saturating_mul(times)
    }

    pub(super) async fn permit(&self, kind: Kind) -> Result<Permit<'_>> {
        // Neither is ever closed.
        let closed = |_| StoreError::Failed("it is shutting down".to_owned());
        let write = match kind {
            Kind::Read => None,
            Kind::Write => Some(self.writes.acquire().await.map_err(closed)?),
        };
        let request = self.requests.acquire().await.map_err(closed)?;
        Ok(Permit {
            _write: write,
            _request: request,
        })
    }

    /// One try: the wait for a permit is part of it.
    async fn limited<T>(
        &self,
        kind: Kind,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let permitted = async {
            let permit = self.permit(kind).await?;
            self.counts.requests.add(1);
            let done = work.await;
            drop(permit);
            done
        };
        let done = within(&*self.clock, limit, permitted).await;
        self.count(done)
    }

    /// Counts what a try gave; `None` is that it took too long.
    pub(super) fn count<T>(&self, done: Option<Result<T>>) -> Result<T> {
        let done = done.unwrap_or_else(|| {
            self.counts.timeouts.add(1);
            Err(StoreError::Timeout)
        });
        match &done {
            Ok(_) | Err(StoreError::NotFound | StoreError::Exists) => {}
            Err(_) => {
                self.counts.errors.add(1);
            }
        }
        done
    }

    pub(super) fn patience(&self) -> Duration {
        self.settings.timeout
    }

    /// Twice as long each time, and never the same for two that failed together.
    pub(super) fn pause(&self, tries: usize) -> Duration {
        let doubled = u32::try_from(tries - 1).map_or(u32::MAX, |n| 1 << n.min(16));
        let most = PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX);
        // Spread is all that is asked of it.
        let nth = self
            .counts
            .pauses
            .add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let share = u32::try_from(nth >> 48).unwrap_or(0);
        most / 2 + most.saturating_mul(share) / (2 << 16)
    }
}

/// What `work` gives, where that is within `limit`.
pub(super) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(work), clock.sleep(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
