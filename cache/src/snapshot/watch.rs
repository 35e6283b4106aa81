//! What leaves a namespace while a snapshot of it is being read.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bowstring_wire::error::{Error, Result};
use bowstring_wire::version::Version;
use parking_lot::Mutex;

use crate::index::Record;
use crate::ledger::{Account, Charge, Ledger};
use crate::view::{Layer, View};

/// What a remembered key takes beside its own bytes.
const KEY_BYTES: u64 = 56;
/// Charged at once, so that the ledger is not asked for every key.
const STEP_BYTES: u64 = 16 << 10;

/// The snapshots that are open in a namespace.
#[derive(Default)]
pub(crate) struct Watches {
    count: AtomicU32,
    open: Mutex<Vec<Arc<Watch>>>,
}

impl Watches {
    /// For who has the base of the namespace locked: whatever leaves it from then on is noted.
    pub(super) fn open(&self, watch: &Arc<Watch>) {
        self.open.lock().push(Arc::clone(watch));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn close(&self, watch: &Arc<Watch>) {
        let mut open = self.open.lock();
        open.retain(|open| !Arc::ptr_eq(open, watch));
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether anybody wants to know what leaves.
    pub(crate) fn are_open(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// A version of a key is not to be found below any more.
    pub(super) fn note_below(&self, key: &str, version: Version) {
        for watch in self.open.lock().iter() {
            if version.hlc <= watch.until {
                watch.remember(key.as_bytes());
            }
        }
    }

    /// An entry is leaving the order in which it stands; the caller has that order locked. `to` is
    /// the generation that it goes to, if any, and its `load_generation` there.
    pub(crate) fn note(&self, record: &Record, key: &[u8], to: Option<(u32, u32)>) {
        if self.are_open() {
            for watch in self.open.lock().iter() {
                watch.note(record, key, to);
            }
        }
    }
}

/// One snapshot's memory of what has left it.
pub(crate) struct Watch {
    pub(super) view: View,
    /// Entries with later versions came after it was taken.
    pub(super) until: u64,
    /// What had expired then was not in it.
    pub(super) taken_ms: u64,
    prefix: Box<[u8]>,
    gone: Mutex<Gone>,
}

struct Gone {
    /// Keys up to this one are no more asked for.
    passed: Option<Box<[u8]>>,
    keys: BTreeSet<Box<[u8]>>,
    room: Room,
    lost: bool,
}

impl Watch {
    pub(super) fn new(
        ledger: &Arc<Ledger>,
        prefix: &[u8],
        view: View,
        (until, taken_ms): (u64, u64),
    ) -> Self {
        Self {
            view,
            until,
            taken_ms,
            prefix: prefix.into(),
            gone: Mutex::new(Gone {
                passed: None,
                keys: BTreeSet::new(),
                room: Room::new(ledger),
                lost: false,
            }),
        }
    }

    /// Whether an entry was there when the snapshot was taken.
    pub(super) fn has(&self, record: &Record) -> bool {
        let (hlc, _) = record.version();
        let expired = |at: u64| at <= self.taken_ms;
        hlc <= self.until && !record.expires_at_ms().is_some_and(expired)
    }

    fn note(&self, record: &Record, key: &[u8], to: Option<(u32, u32)>) {
        let shows = |number, load| self.view.layer(number, load) != Layer::Hidden;
        let goes = shows(record.namespace(), record.load_generation())
            && !to.is_some_and(|(number, load)| shows(number, load));
        if goes && self.has(record) {
            self.remember(key);
        }
    }

    /// A key has left the snapshot.
    fn remember(&self, key: &[u8]) {
        if !key.starts_with(&self.prefix) {
            return;
        }
        let mut gone = self.gone.lock();
        if gone.lost || gone.passed.as_deref().is_some_and(|passed| key <= passed) {
            return;
        }
        if gone.keys.contains(key) {
            return;
        }
        if gone.room.take(key) {
            gone.keys.insert(key.into());
        } else {
            gone.lost = true;
            gone.keys.clear();
            gone.room.clear();
        }
    }

    /// What has gone so far of the keys behind `after`, up to `last` or to the end, and is not
    /// among `there`, which are sorted: of two generations of a key, one may have gone.
    ///
    /// # Errors
    /// `resource_exhausted` where it was too much to be remembered.
    pub(super) fn gone_within(
        &self,
        after: Option<&[u8]>,
        last: Option<&[u8]>,
        there: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Box<[u8]>>> {
        let gone = self.gone.lock();
        if gone.lost {
            return Err(too_many());
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let keys = gone.keys.range::<[u8], _>((from, to));
        Ok(keys.filter(|key| !there(key)).cloned().collect())
    }

    /// Nobody will ask for keys up to `last` again.
    pub(super) fn pass(&self, last: &[u8]) {
        let mut gone = self.gone.lock();
        gone.passed = Some(last.into());
        while let Some(first) = gone.keys.first().filter(|first| &***first <= last) {
            let len = first.len();
            gone.keys.pop_first();
            gone.room.give(len);
        }
    }

    /// Bytes that should be charged so that `ahead` are left for keys that go.
    pub(super) fn wants(&self, ahead: u64) -> u64 {
        let gone = self.gone.lock();
        let left = if gone.lost { ahead } else { gone.room.left() };
        ahead.saturating_sub(left)
    }

    /// Whether anything has gone.
    pub(super) fn is_used(&self) -> bool {
        self.gone.lock().room.used > 0
    }

    pub(super) fn pay(&self, charge: Charge) {
        self.gone.lock().room.pay(charge);
    }
}

/// What remembered keys take, charged before they come.
pub(super) struct Room {
    ledger: Arc<Ledger>,
    used: u64,
    paid: Vec<Charge>,
}

impl Room {
    pub(super) fn new(ledger: &Arc<Ledger>) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            used: 0,
            paid: Vec::new(),
        }
    }

    fn left(&self) -> u64 {
        let paid: u64 = self.paid.iter().map(Charge::bytes).sum();
        paid.saturating_sub(self.used)
    }

    /// False where there is none for a key.
    pub(super) fn take(&mut self, key: &[u8]) -> bool {
        let wanted = key.len() as u64 + KEY_BYTES;
        if self.left() < wanted {
            let Some(charge) = self.ledger.charge(Account::Scan, STEP_BYTES) else {
                return false;
            };
            self.paid.push(charge);
        }
        self.used += wanted;
        true
    }

    pub(super) fn pay(&mut self, charge: Charge) {
        self.paid.push(charge);
    }

    fn give(&mut self, key_len: usize) {
        self.used = self.used.saturating_sub(key_len as u64 + KEY_BYTES);
    }

    fn clear(&mut self) {
        self.used = 0;
        self.paid.clear();
    }
}

/// What is said where more has gone than can be remembered.
fn too_many() -> Error {
    Error::exhausted(
        "more entries have gone since the snapshot was taken than can be remembered; \
         limit=`memory` expected a longer prefix, or a faster reader",
    )
}
