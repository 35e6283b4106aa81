//! Expiry. An expired entry is a miss at once, for every look-up compares the time. It is also freed
//! without being asked for, within about a second, by whoever calls [`Cache::expire_due`].
//!
//! - `groups`: one timer for 32 neighbouring records: 0.4 bytes an entry
//! - `wheel`: the timers that run, in the order in which they are due
//!
//! A group's timer runs for the first of its records that expires, or for an earlier one that has
//! gone meanwhile: then nothing is due, and it is set anew. So a record that goes, or gets a later
//! expiry, costs nothing here, and timers never pile up. Where the ledger has no memory for a timer,
//! an entry goes when it is looked up or evicted.

mod groups;
mod wheel;

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use bowstring_wire::error::Result;
use bowstring_wire::version::Version;
use parking_lot::Mutex;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::event::Why;
use crate::id::Id;
use crate::index::{Budget, Handle};
use crate::lower::NewExpiry;
use groups::{Groups, group_of, members};
use wheel::{Popped, Wheel};

/// Timers are this coarse.
const TICK_MS: u64 = 1_000;
/// Groups that one step looks at: at most 2,048 records, a few milliseconds where all of them go.
const GROUPS_A_STEP: u32 = 64;
/// Groups that move to a lower level of the wheel while it is locked: some microseconds.
const MOVES_A_LOCK: u32 = 64;

/// The timers of a cache.
pub(crate) struct Expiry {
    started_ms: u64,
    groups: Groups,
    wheel: Mutex<Wheel>,
}

impl Cache {
    /// Gives a key another expiry, in Unix milliseconds; `None` is never. False where there is no
    /// such key.
    ///
    /// # Errors
    /// Whatever the lower tier meets.
    pub async fn expire(&self, id: &Id, expires_at_ms: Option<u64>) -> Result<bool> {
        self.expire_where(id, None, expires_at_ms).await
    }

    /// As [`Cache::expire`], where the key's entry is of this version.
    ///
    /// # Errors
    /// As [`Cache::expire`].
    pub async fn expire_version(
        &self,
        id: &Id,
        version: Version,
        expires_at_ms: Option<u64>,
    ) -> Result<bool> {
        self.expire_where(id, Some(version), expires_at_ms).await
    }

    async fn expire_where(
        &self,
        id: &Id,
        wanted: Option<Version>,
        expires_at_ms: Option<u64>,
    ) -> Result<bool> {
        let engine = self.engine();
        engine.check_writable(&id.tenant, &id.namespace)?;
        // One that loses against another change of the key looks again.
        while let Some(entry) = engine.here(id).await? {
            let version = entry.version();
            if wanted.is_some_and(|wanted| wanted != version) {
                break;
            }
            let entry = entry.into_pinned();
            let changed = engine.change(&entry, |record| record.set_expires_at_ms(expires_at_ms));
            if changed.is_some() {
                engine.expiry.note(entry.handle, expires_at_ms);
                drop(entry);
                let expiry = NewExpiry(expires_at_ms);
                engine.expire_below(id, version, expiry).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Frees entries whose time has come, at most 2,048 of them. True where there may be more now;
    /// else call it again in a second.
    pub fn expire_due(&self) -> bool {
        self.engine().expire_step()
    }
}

impl Expiry {
    pub(crate) fn new(entries_max: u32, now_ms: u64, budget: Arc<dyn Budget>) -> Self {
        Self {
            started_ms: now_ms,
            groups: Groups::new(entries_max, budget),
            wheel: Mutex::new(Wheel::new()),
        }
    }

    /// An entry that can be read expires at this time.
    pub(crate) fn note(&self, entry: Handle, expires_at_ms: Option<u64>) {
        let Some(at) = expires_at_ms else {
            return;
        };
        let group = group_of(entry);
        if !self.groups.make(group) {
            return;
        }
        // With the fence in `pop`: whoever looks through the group sees this entry's expiry, or
        // the timer is seen here as not running.
        fence(Ordering::SeqCst);
        let due = self.due_tick(at);
        let early_enough = |there: u32| there != 0 && there <= due;
        if early_enough(self.groups.due(group)) {
            return;
        }
        let mut wheel = self.wheel.lock();
        if !early_enough(self.groups.due(group)) {
            wheel.arm(&self.groups, group, due);
        }
    }

    fn pop(&self, now_ms: u64) -> Popped {
        let tick = self.tick(now_ms);
        let popped = self.wheel.lock().pop(&self.groups, tick, MOVES_A_LOCK);
        fence(Ordering::SeqCst);
        popped
    }

    fn arm_later(&self, group: u32, expires_at_ms: u64) {
        let due = self.due_tick(expires_at_ms);
        self.wheel.lock().arm_later(&self.groups, group, due);
    }

    /// The tick that a time lies in; the first is 1.
    fn tick(&self, at_ms: u64) -> u32 {
        let ticks = at_ms.saturating_sub(self.started_ms) / TICK_MS;
        u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The first tick that begins when the time has come.
    fn due_tick(&self, at_ms: u64) -> u32 {
        self.tick(at_ms.saturating_add(TICK_MS - 1))
    }
}

impl Engine {
    /// One step of [`Cache::expire_due`].
    fn expire_step(self: &Arc<Self>) -> bool {
        let now_ms = self.clock.now_ms();
        for _ in 0..GROUPS_A_STEP {
            match self.expiry.pop(now_ms) {
                Popped::Group(group) => self.expire_group(group, now_ms),
                Popped::Later => return true,
                Popped::Nothing => return false,
            }
        }
        true
    }

    /// Frees what has expired in a group, and sets its timer for the next one.
    fn expire_group(self: &Arc<Self>, group: u32, now_ms: u64) {
        let mut next: Option<u64> = None;
        for handle in members(group) {
            let Some(record) = self.index.records.try_at(handle) else {
                break;
            };
            // A record that is not live yet is noted once it is.
            let at = if record.is_live() {
                record.expires_at_ms()
            } else {
                None
            };
            let Some(at) = at else {
                continue;
            };
            let gone = at <= now_ms
                && self
                    .pin(handle)
                    .is_some_and(|entry| self.unlink(entry, Why::Expired));
            // One that is being moved, or was given another expiry just now, has its turn later.
            if !gone {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        if let Some(at) = next {
            self.expiry.arm_later(group, at);
        }
    }
}
