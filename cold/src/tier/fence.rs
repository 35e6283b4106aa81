//! Who has lost its prefix to a later start writes there no more: a machine that was paused, a network that was
//! parted. It looks for the epoch after its own, now and then, and before and after what it writes that others
//! believe, at most once a second.
//!
//! A start reads what is there once. What comes to the store behind that from one who does not know yet is
//! older than everything of the new one by its number, and its sidecars are taken away again as soon as it
//! knows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Cold, failed};
use crate::entry::Number;
use crate::store::{ObjectName, StoreError};

/// A look is good for so long, by either clock: one of them may stand still while a machine is paused.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// Between two looks where nothing is written.
const TICK: Duration = Duration::from_secs(5);
/// More than the text of an epoch.
const EPOCH_BYTES_MAX: u64 = 4 << 10;

/// Whether this start is still the last one under its prefix.
pub(super) struct Fence {
    epoch: u64,
    lost: AtomicBool,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When it was last found to be ours, by both clocks.
    at: (Duration, u64),
    /// Sidecars written since, and those on their way.
    since: BTreeMap<Number, Way>,
}

/// How far a sidecar has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Going,
    Written,
}

impl Fence {
    /// Begun at a time on both clocks.
    pub(super) fn new(epoch: u64, at: (Duration, u64)) -> Self {
        Self {
            epoch,
            lost: AtomicBool::new(false),
            looking: tokio::sync::Mutex::default(),
            seen: Mutex::new(Seen {
                at,
                since: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Refuses what would be written, once the prefix is another's.
    pub(super) fn check(&self) -> Result<()> {
        if !self.is_lost() {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "the cold store's prefix was taken over by a later start of a server, and this one writes there no \
             more; stop it, or give each a prefix of its own; epoch=`{}` later=`{}`",
            self.epoch,
            self.epoch + 1
        )))
    }
}

impl Cold {
    /// Looks now and then whether the prefix is still ours. Runs until it is dropped.
    pub async fn watch(&self) {
        loop {
            self.inner.clock.sleep(TICK).await;
            // A store that does not answer is told of by who needs it.
            let _ = self.may_write().await;
        }
    }

    /// Whether the prefix is ours, as far as a look of the last second tells.
    pub(super) async fn may_write(&self) -> Result<()> {
        self.look_for_epoch(GOOD_FOR).await
    }

    /// Whether the prefix is ours still: what is on the store by now, a later start finds there.
    pub(super) async fn is_ours(&self) -> Result<()> {
        self.look_for_epoch(Duration::ZERO).await
    }

    async fn look_for_epoch(&self, good_for: Duration) -> Result<()> {
        let inner = &self.inner;
        inner.fence.check()?;
        let _one_at_a_time = inner.fence.looking.lock().await;
        inner.fence.check()?;
        let now = (inner.clock.monotonic(), inner.clock.now_ms());
        let before: Vec<Number> = {
            let seen = inner.fence.seen.lock();
            if age(seen.at, now) < good_for {
                return Ok(());
            }
            let written = seen.since.iter().filter(|(_, way)| **way == Way::Written);
            written.map(|(number, _)| *number).collect()
        };
        let next = ObjectName::Epoch(inner.fence.epoch + 1);
        match inner.store.read_all(&next, EPOCH_BYTES_MAX).await {
            Err(StoreError::NotFound) => {
                let mut seen = inner.fence.seen.lock();
                seen.at = now;
                seen.since.retain(|number, _| !before.contains(number));
                Ok(())
            }
            Ok(_) | Err(StoreError::TooLong { .. }) => {
                self.lose_prefix().await;
                inner.fence.check()
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes what makes a segment count.
    pub(super) async fn write_sidecar(&self, number: Number, sidecar: Bytes) -> Result<()> {
        let inner = &self.inner;
        self.may_write().await?;
        let since = |way| inner.fence.seen.lock().since.insert(number, way);
        since(Way::Going);
        let name = ObjectName::Sidecar(number);
        let written = inner.store.create(&name, vec![sidecar]).await;
        // Even where it failed: the answer may have been lost.
        since(Way::Written);
        written.map_err(failed)?;
        // That may have taken long.
        self.may_write().await
    }

    async fn lose_prefix(&self) {
        let inner = &self.inner;
        let since = std::mem::take(&mut inner.fence.seen.lock().since);
        if !inner.fence.lost.swap(true, Ordering::AcqRel) {
            tracing::error!(
                epoch = inner.fence.epoch,
                "cold tier: a later start of a server has taken over the prefix of the store; nothing more is written there, memory goes on alone"
            );
        }
        for number in since.into_keys() {
            // The new one may have read it: then its entries are found, and not found again by who builds an
            // index anew.
            if let Err(error) = inner.store.delete(&ObjectName::Sidecar(number)).await {
                tracing::warn!(%error, segment = number.0, "cold tier: a late sidecar was not taken away");
            }
        }
    }
}

/// By the clock that says more.
fn age((at, at_ms): (Duration, u64), (now, now_ms): (Duration, u64)) -> Duration {
    let by_wall = Duration::from_millis(now_ms.saturating_sub(at_ms));
    now.saturating_sub(at).max(by_wall)
}
