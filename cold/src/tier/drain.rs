//! The end: what memory has and the store has not is written down, what was asked for most first, for as long
//! as there is time.

use std::ops::RangeInclusive;
use std::time::Duration;

use bowstring_cache::{Cache, Id};

use super::Cold;

/// Hits of those that go first, second and last.
const BANDS: [RangeInclusive<u32>; 3] = [8..=u32::MAX, 1..=7, 0..=0];
/// Keys that are looked at at once.
const STEP: usize = 1_000;
/// Between two looks whether the queue has room.
const TICK: Duration = Duration::from_millis(2);

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saved {
    /// Entries that were looked at in time, and are below.
    pub entries: u64,
    /// Entries of memory that may be lost: there was no time for them, or their writes failed.
    pub left: u64,
}

impl Cold {
    /// Writes down all that `cache` has, until `until` on the monotonic clock; `None` where this tier writes nothing.
    pub async fn save(&self, cache: &Cache, until: Duration) -> Option<Saved> {
        let inner = &self.inner;
        if let Err(error) = self.write_noted().await {
            tracing::warn!(error = %error.message, "cold tier: the log was not written");
        }
        if !inner.writes() {
            return None;
        }
        let all = cache.stats().entries;
        let is_late = || inner.clock.monotonic() >= until;
        let mut noted = 0;
        'bands: for band in BANDS {
            for (tenant, namespace) in cache.names() {
                let mut after: Option<String> = None;
                loop {
                    let step = cache.scan(&tenant, &namespace, "", after.as_deref(), STEP);
                    let Some(last) = step.last() else { break };
                    after = Some(last.key.as_str().to_owned());
                    for item in step {
                        if is_late() {
                            break 'bands;
                        }
                        let id = Id {
                            tenant: tenant.clone(),
                            namespace: namespace.clone(),
                            key: item.key,
                        };
                        noted += u64::from(self.save_one(cache, &id, &band, until).await);
                    }
                }
            }
        }
        let waiting = async {
            let _ = self.flush().await;
        };
        let left_time = until.saturating_sub(inner.clock.monotonic());
        tokio::select! {
            () = waiting => {}
            () = inner.clock.sleep(left_time) => {}
        }
        let left_time = until.saturating_sub(inner.clock.monotonic());
        tokio::select! {
            biased;
            () = inner.clock.sleep(left_time) => {}
            noted = self.note_hot(cache) => {
                if let Err(error) = noted {
                    tracing::debug!(error = %error.message, "cold tier: what memory has was not noted");
                }
            }
        }
        let left_time = until.saturating_sub(inner.clock.monotonic());
        tokio::select! {
            () = self.save_index() => {}
            () = inner.clock.sleep(left_time) => {}
        }
        let unwritten = inner.queue.entries();
        Some(Saved {
            entries: noted.saturating_sub(unwritten),
            left: all.saturating_sub(noted) + unwritten,
        })
    }

    /// The end where a successor has the memory: writes down only what is on its way, until `until` on the monotonic clock.
    /// Gives how many entries of that are left, and are lost with this process.
    pub async fn pass_on(&self, until: Duration) -> u64 {
        let inner = &self.inner;
        let writing = async {
            if let Err(error) = self.write_noted().await {
                tracing::warn!(error = %error.message, "cold tier: the log was not written");
            }
            let _ = self.flush().await;
            self.save_index().await;
        };
        tokio::select! {
            () = writing => {}
            () = inner.clock.sleep(until.saturating_sub(inner.clock.monotonic())) => {}
        }
        inner.queue.entries()
    }

    /// Whether a key is of this band, and on its way.
    async fn save_one(
        &self,
        cache: &Cache,
        id: &Id,
        band: &RangeInclusive<u32>,
        until: Duration,
    ) -> bool {
        let inner = &self.inner;
        while let Some(entry) = cache.peek(id).filter(|entry| band.contains(&entry.hits())) {
            if inner.enqueue(entry, true).is_some() {
                return true;
            }
            if inner.clock.monotonic() >= until {
                return false;
            }
            inner.clock.sleep(TICK).await;
        }
        false
    }
}
