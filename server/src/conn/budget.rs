//! The wire account: memory for bytes that are on their way.
//!
//! A share of `--memory` is set aside for it at start: [`GUARANTEED_BYTES`] for each connection that
//! may be there, which caps their number, and a part that all share. Wider windows and gather buffers
//! take what they need of the shared part and give it back when they are done; what a connection is
//! guaranteed they never take, or a crowd of uploads would turn the next client away. Of the shared
//! part windows have at most half: a put keeps its own as long as it lasts, and no get waits for that.

use std::sync::Arc;

use bowstring_cache::ledger::{Account, Charge, Ledger};
use bowstring_wire::error::{Code, Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What every connection may have received and not consumed (HTTP/2's initial window).
pub const GUARANTEED_BYTES: u64 = 64 * 1024;

/// Permits are counted in KiB, so that a u32 of them is 4 TiB.
const UNIT_BYTES: u64 = 1024;

/// A fair allotment of the shared bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WireBudget {
    free: Arc<Semaphore>,
    /// What is left of the windows' half; they take it from `free` too.
    windows: Arc<Semaphore>,
    total_bytes: u64,
    /// What the ledger was charged for all of it.
    _charge: Arc<Charge>,
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
pub struct WireBytes {
    _permit: OwnedSemaphorePermit,
    _of_windows: Option<OwnedSemaphorePermit>,
}

impl WireBudget {
    /// Sets bytes aside in the ledger: those that connections are guaranteed, and `total_bytes` to
    /// be shared.
    ///
    /// # Errors
    /// `resource_exhausted` where the ledger has not so many.
    pub fn within(ledger: &Arc<Ledger>, guaranteed_bytes: u64, total_bytes: u64) -> Result<Self> {
        let bytes = guaranteed_bytes.saturating_add(total_bytes);
        let charge = ledger.charge(Account::Wire, bytes).ok_or_else(|| {
            Error::new(
                Code::ResourceExhausted,
                format!(
                    "the wire account does not fit into the memory; bytes=`{bytes}` free=`{}`",
                    ledger.free()
                ),
            )
        })?;
        let units = usize::try_from(total_bytes / UNIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        let units = units.min(Semaphore::MAX_PERMITS);
        Ok(Self {
            free: Arc::new(Semaphore::new(units)),
            windows: Arc::new(Semaphore::new(units / 2)),
            total_bytes,
            _charge: Arc::new(charge),
        })
    }

    /// All that is shared.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// What is taken now.
    pub fn used_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.free_bytes())
    }

    /// What nobody has taken; nothing while somebody waits for more.
    pub fn free_bytes(&self) -> u64 {
        self.free.available_permits() as u64 * UNIT_BYTES
    }

    /// Whether less than a quarter of it is free: more than windows alone can take.
    pub fn is_scarce(&self) -> bool {
        self.free_bytes() < self.total_bytes / 4
    }

    /// Takes `bytes` if they are free now.
    pub fn try_take(&self, bytes: u64) -> Option<WireBytes> {
        Some(WireBytes {
            _permit: try_acquire(&self.free, bytes)?,
            _of_windows: None,
        })
    }

    /// Takes a window of the widest of these sizes, widest first, that is at most a quarter of what
    /// windows may still take, so that the next put has one too; in need the narrowest.
    pub fn try_take_window(&self, sizes: &[u32]) -> Option<(u32, WireBytes)> {
        let left = self.windows.available_permits() as u64 * UNIT_BYTES;
        let fitting = |bytes: &&u32| u64::from(**bytes) <= left / 4;
        let bytes = *sizes.iter().find(fitting).or(sizes.last())?;
        let of_windows = try_acquire(&self.windows, u64::from(bytes))?;
        let paid = WireBytes {
            _permit: try_acquire(&self.free, u64::from(bytes))?,
            _of_windows: Some(of_windows),
        };
        Some((bytes, paid))
    }

    /// Takes `bytes`, waiting in line for them. More than the whole budget is refused at once.
    pub async fn take(&self, bytes: u64) -> Result<WireBytes> {
        if bytes > self.total_bytes {
            return Err(Error::new(
                Code::ResourceExhausted,
                format!(
                    "one message needs more room than the wire account has, send smaller batches; \
                     bytes=`{bytes}` limit=`{}`",
                    self.total_bytes
                ),
            ));
        }
        let permit = self
            .free
            .clone()
            .acquire_many_owned(units(bytes)?)
            .await
            .map_err(|_| Error::new(Code::Unavailable, "the server is shutting down"))?;
        Ok(WireBytes {
            _permit: permit,
            _of_windows: None,
        })
    }
}

fn try_acquire(from: &Arc<Semaphore>, bytes: u64) -> Option<OwnedSemaphorePermit> {
    let units = units(bytes).ok()?;
    from.clone().try_acquire_many_owned(units).ok()
}

fn units(bytes: u64) -> Result<u32> {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(|_| {
        Error::new(
            Code::ResourceExhausted,
            format!("too many bytes at once; bytes=`{bytes}`"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_comes_back() {
        let ledger = Ledger::new(2 << 20);
        let budget = WireBudget::within(&ledger, 1 << 20, 1 << 20).unwrap();
        assert_eq!(
            ledger.free(),
            0,
            "guarantees are charged beside what is shared"
        );
        let half = budget.take(512 * 1024).await.unwrap();
        assert_eq!(budget.used_bytes(), 512 * 1024);
        assert!(budget.try_take(513 * 1024).is_none());
        drop(half);
        assert!(budget.try_take(1 << 20).is_some());
        assert_eq!(budget.used_bytes(), 0);
        let error = budget.take((1 << 20) + 1).await.unwrap_err();
        assert_eq!(error.code, Code::ResourceExhausted);
    }

    #[test]
    fn windows_leave_half_to_responses_and_the_first_leaves_some_to_the_next() {
        const MIB: u32 = 1 << 20;
        let budget = WireBudget::within(&Ledger::new(32 << 20), 0, 32 << 20).unwrap();
        let sizes = [8 * MIB, 4 * MIB, MIB];
        let windows: Vec<_> = std::iter::from_fn(|| budget.try_take_window(&sizes)).collect();
        let taken: Vec<_> = windows.iter().map(|(bytes, _)| bytes / MIB).collect();
        assert_eq!(taken, [vec![4], vec![1; 12]].concat());
        assert_eq!(budget.used_bytes(), 16 << 20);
        let responses = budget.try_take(16 << 20).unwrap();
        assert!(budget.is_scarce());
        drop(windows);
        assert!(!budget.is_scarce());
        let _more = budget.try_take(16 << 20).unwrap();
        assert!(budget.try_take_window(&sizes).is_none());
        drop(responses);
        assert_eq!(
            budget.try_take_window(&sizes).map(|(bytes, _)| bytes),
            Some(4 * MIB)
        );
    }
}
