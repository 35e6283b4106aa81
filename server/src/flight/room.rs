//! Memory of the calls themselves: their tasks, and requests as far as they have come.
//!
//! A stranger can begin as many calls as connections and streams allow, send a part of each, and never
//! end them. What that costs is charged like everything else, and limited: some calls of every
//! connection are always taken, all others share a part of the memory. The ledger is asked for a step
//! at a time, and what it gave is kept until much of it is free, so that a small get costs two
//! additions.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_wire::error::{Error, Result};
use parking_lot::Mutex;

use crate::conn::{CallOn, ConnHandle};

/// What a call costs that waits for its request: its task, and what h2 keeps of a stream. Measured
/// with 25,000 of them: 9.8 KiB each.
pub const CALL_BYTES: u64 = 12 * 1024;
/// So many calls of a connection are taken whatever others do.
const CALLS_ALWAYS: usize = 4;
/// The part of the memory that calls may use, of which no more than half by being there.
const MEMORY_SHARE: u64 = 8;
/// A request that has no more than this is in [`CALL_BYTES`].
const SMALL_BYTES: u64 = 4 * 1024;
/// What the ledger is asked for at once; so much is kept for the next calls.
const STEP_BYTES: u64 = 1 << 20;

/// Room for calls. Cheap to clone.
#[derive(Clone)]
pub struct CallRoom(Arc<Inner>);

struct Inner {
    cache: Cache,
    used: AtomicU64,
    charged: AtomicU64,
    charges: Mutex<Vec<Charge>>,
}

/// A call that there is room for.
pub struct CallGuard {
    _bytes: CallBytes,
    _on: CallOn,
}

/// Room that one call has, given back on drop.
pub struct CallBytes {
    room: CallRoom,
    bytes: u64,
}

impl CallRoom {
    /// Room charged to the ledger of `cache`; entries go for it where they must.
    pub fn new(cache: Cache) -> Self {
        Self(Arc::new(Inner {
            cache,
            used: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            charges: Mutex::default(),
        }))
    }

    /// Room for one call more on a connection.
    ///
    /// # Errors
    /// `resource_exhausted` where the calls' part of the memory is used up.
    pub fn call(&self, conn: &Arc<ConnHandle>) -> Result<CallGuard> {
        let on = conn.call();
        if on.number() < CALLS_ALWAYS {
            self.take(CALL_BYTES, u64::MAX)?;
        } else {
            self.take(CALL_BYTES, self.limit() / 2)?;
        }
        Ok(CallGuard {
            _bytes: CallBytes {
                room: self.clone(),
                bytes: CALL_BYTES,
            },
            _on: on,
        })
    }

    /// No room yet, to grow with a request.
    pub fn nothing(&self) -> CallBytes {
        CallBytes {
            room: self.clone(),
            bytes: 0,
        }
    }

    fn limit(&self) -> u64 {
        self.0.cache.config().memory / MEMORY_SHARE
    }

    /// Takes room, up to `limit` with what all others have.
    fn take(&self, bytes: u64, limit: u64) -> Result<()> {
        let inner = &*self.0;
        let used = inner.used.fetch_add(bytes, AcqRel) + bytes;
        if used <= limit && (used <= inner.charged.load(Acquire) || self.charge()) {
            return Ok(());
        }
        self.give(bytes);
        Err(Error::exhausted(format!(
            "calls that are under way have the memory that they may have; bytes=`{bytes}` limit=`{limit}`"
        )))
    }

    /// Charges what is used and not charged.
    fn charge(&self) -> bool {
        let inner = &*self.0;
        let mut charges = inner.charges.lock();
        let charged: u64 = charges.iter().map(Charge::bytes).sum();
        let used = inner.used.load(Acquire);
        if used <= charged {
            return true;
        }
        let wanted = (used - charged).next_multiple_of(STEP_BYTES);
        let charge = inner.cache.charge(Account::Wire, wanted);
        let given = charge.is_some();
        charges.extend(charge);
        inner.publish(&charges);
        given
    }

    fn give(&self, bytes: u64) {
        let inner = &*self.0;
        let used = inner.used.fetch_sub(bytes, AcqRel) - bytes;
        // Twice the step before anything is given back: not at every call around a limit.
        if inner.charged.load(Acquire).saturating_sub(used) < 3 * STEP_BYTES {
            return;
        }
        let mut charges = inner.charges.lock();
        let used = inner.used.load(Acquire);
        let mut spare = charges.iter().map(Charge::bytes).sum::<u64>();
        spare = spare.saturating_sub(used.next_multiple_of(STEP_BYTES).max(STEP_BYTES));
        while spare > 0
            && let Some(last) = charges.last_mut()
        {
            let part = last.bytes().min(spare);
            last.shrink(part);
            spare -= part;
            if last.bytes() == 0 {
                charges.pop();
            }
        }
        inner.publish(&charges);
    }
}

impl Inner {
    fn publish(&self, charges: &[Charge]) {
        let charged = charges.iter().map(Charge::bytes).sum();
        self.charged.store(charged, Release);
    }
}

impl CallBytes {
    /// Says how much of a request is held now, so that there is room for it.
    ///
    /// # Errors
    /// `resource_exhausted`; what was held before stays so.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        let bytes = if bytes <= SMALL_BYTES {
            0
        } else {
            // Not at every frame.
            bytes.next_multiple_of(16 * SMALL_BYTES)
        };
        self.resize(bytes)
    }

    fn resize(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.bytes {
            self.room.take(bytes - self.bytes, self.room.limit())?;
        } else if bytes < self.bytes {
            self.room.give(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for CallBytes {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.give(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowstring_cache::CacheConfig;
    use bowstring_cache::clock::ManualClock;
    use bowstring_wire::error::Code;

    use crate::listener::Peer;
    use crate::shutdown::Shutdown;

    fn room(memory: u64) -> (CallRoom, Cache) {
        let config = CacheConfig {
            memory,
            heap: true,
            ..CacheConfig::default()
        };
        let cache = Cache::new(config, Arc::new(ManualClock::new(0))).unwrap();
        (CallRoom::new(cache.clone()), cache)
    }

    fn connection() -> Arc<ConnHandle> {
        let peer = Peer::Unix { uid: 0, pid: None };
        ConnHandle::new(peer, Shutdown::new().running())
    }

    #[test]
    fn a_step_is_charged_at_once_and_kept_and_more_is_given_back() {
        let (room, cache) = room(64 << 20);
        let wire = || cache.ledger().used_by(Account::Wire);
        let conn = connection();
        let first = room.call(&conn).unwrap();
        assert_eq!(wire(), STEP_BYTES);
        let calls: Vec<_> = (0..300).map(|_| room.call(&conn).unwrap()).collect();
        assert!(wire() >= 301 * CALL_BYTES);
        drop((first, calls));
        assert!(
            (STEP_BYTES..=3 * STEP_BYTES).contains(&wire()),
            "{}",
            wire()
        );
    }

    #[test]
    fn a_crowd_of_one_connection_leaves_room_for_the_next() {
        let (room, cache) = room(64 << 20);
        let wire = || cache.ledger().used_by(Account::Wire);
        let crowd = connection();
        let calls: Vec<_> = (0..2000).map_while(|_| room.call(&crowd).ok()).collect();
        assert!(calls.len() < 500, "{}", calls.len());
        let honest = connection();
        let taken: Vec<_> = (0..CALLS_ALWAYS).map(|_| room.call(&honest)).collect();
        assert!(taken.iter().all(Result::is_ok));
        assert!(room.call(&honest).is_err());
        drop((calls, taken));

        let mut request = room.nothing();
        request.hold(SMALL_BYTES).unwrap();
        request.hold(6 << 20).unwrap();
        assert!(wire() >= 6 << 20);
        let refused = request.hold(9 << 20).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(wire() >= 6 << 20, "what was held before is held");
        drop(request);
        assert!(wire() <= 3 * STEP_BYTES, "{}", wire());
    }
}
