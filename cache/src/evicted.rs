//! What was evicted last, and why: a ring of a fixed size that is paid for at the start.
//!
//! To write one down costs no allocation: its key is copied, and a few words beside it, when its shard's
//! lock is free again. Nobody waits for the ring: who finds it in use goes on, and that is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use parking_lot::Mutex;

use crate::cache::Cache;
use crate::engine::{Engine, Pinned};
use crate::event::Cause;
use crate::head;
use crate::ledger::{Account, Charge, Ledger};

/// The most that are listed.
const ENTRIES_MAX: usize = 4_096;
/// What there is for the key of each; where keys are longer, fewer are listed.
const KEY_BYTES: usize = 64;
const ENTRY_BYTES: usize = size_of::<Listed>() + KEY_BYTES;
/// At most one part in so many of the memory is for them, which from 108 MiB on is enough for all.
const MEMORY_SHARE: u64 = 256;

/// An entry that was evicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictedEntry {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Where it was.
    pub namespace: Namespace,
    /// Its key.
    pub key: String,
    /// Which of the key's tensors.
    pub version: Version,
    /// Its element type.
    pub dtype: DType,
    /// Bytes of the tensor.
    pub bytes: u64,
    /// What for.
    pub cause: Cause,
    /// Whether the tier below had it, or took it then. It may have dropped it since.
    pub is_below: bool,
}

impl Cache {
    /// The tenant's entries among those that were evicted last, of all tenants: the oldest first.
    pub fn evicted(&self, tenant: &Tenant) -> Vec<EvictedEntry> {
        let engine = self.engine();
        let (listed, keys) = engine.evictions.copy();
        let mut keys = &keys[..];
        let mut of_tenant = Vec::new();
        for one in listed {
            let (key, left) = keys.split_at(one.key_bytes.into());
            keys = left;
            let space = engine.spaces.at(one.space);
            let Some(space) = space.filter(|space| space.tenant == *tenant) else {
                continue;
            };
            of_tenant.push(EvictedEntry {
                at_ms: one.at_ms,
                namespace: space.namespace.clone(),
                key: String::from_utf8_lossy(key).into_owned(),
                version: Version {
                    hlc: one.hlc,
                    start: one.start,
                },
                dtype: one.dtype,
                bytes: one.bytes,
                cause: one.cause,
                is_below: one.is_below,
            });
        }
        of_tenant
    }
}

impl Engine {
    /// Lists an entry that has left the index, and that the caller has pinned.
    pub(crate) fn list_evicted(&self, entry: &Pinned, cause: Cause, is_below: bool) {
        let record = entry.record();
        let head = self.head_bytes(record);
        let key = head::key_of(head);
        let (hlc, start) = record.version();
        let listed = Listed {
            at_ms: self.clock.now_ms(),
            hlc,
            bytes: record.len(),
            start,
            space: record.namespace(),
            key_bytes: u16::try_from(key.len()).unwrap_or(u16::MAX),
            dtype: head::dtype_of(head).unwrap_or(DType::UInt8),
            cause,
            is_below,
        };
        self.evictions.list(listed, key);
    }
}

/// One of the ring; its key is beside it.
#[derive(Debug, Clone, Copy)]
struct Listed {
    at_ms: u64,
    hlc: u64,
    bytes: u64,
    start: u32,
    /// The number of its generation: namespaces stay.
    space: u32,
    key_bytes: u16,
    dtype: DType,
    cause: Cause,
    is_below: bool,
}

/// See above.
pub(crate) struct Evictions {
    ring: Mutex<Ring>,
    unlisted: AtomicU64,
    _charge: Charge,
}

struct Ring {
    entries_max: usize,
    entries: VecDeque<Listed>,
    /// Their keys, one after the other.
    keys: VecDeque<u8>,
}

impl Evictions {
    /// A ring that fits the memory; `None` where there is not even so much.
    pub(crate) fn within(ledger: &Arc<Ledger>) -> Option<Self> {
        let share = usize::try_from(ledger.total() / MEMORY_SHARE).unwrap_or(usize::MAX);
        let entries_max = (share / ENTRY_BYTES).min(ENTRIES_MAX);
        let charge = ledger.charge(Account::Index, (entries_max * ENTRY_BYTES) as u64)?;
        Some(Self {
            ring: Mutex::new(Ring {
                entries_max,
                entries: VecDeque::with_capacity(entries_max),
                keys: VecDeque::with_capacity(entries_max * KEY_BYTES),
            }),
            unlisted: AtomicU64::new(0),
            _charge: charge,
        })
    }

    /// How many were not listed because the ring was in use.
    pub(crate) fn unlisted(&self) -> u64 {
        self.unlisted.load(Ordering::Relaxed)
    }

    fn list(&self, listed: Listed, key: &[u8]) {
        match self.ring.try_lock() {
            Some(mut ring) => ring.push(listed, key),
            None => {
                self.unlisted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// All of them and their keys, as they lie there: what is done with them is done without the lock.
    fn copy(&self) -> (Vec<Listed>, Vec<u8>) {
        let ring = self.ring.lock();
        let mut keys = Vec::with_capacity(ring.keys.len());
        let (first, second) = ring.keys.as_slices();
        keys.extend_from_slice(first);
        keys.extend_from_slice(second);
        (ring.entries.iter().copied().collect(), keys)
    }
}

impl Ring {
    /// In the place of the oldest, as many as it takes.
    fn push(&mut self, listed: Listed, key: &[u8]) {
        let key_bytes_max = self.entries_max * KEY_BYTES;
        while self.entries.len() >= self.entries_max || self.keys.len() + key.len() > key_bytes_max
        {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.keys.drain(..usize::from(oldest.key_bytes));
        }
        self.entries.push_back(listed);
        self.keys.extend(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(at_ms: u64, key: &str) -> Listed {
        Listed {
            at_ms,
            hlc: 0,
            bytes: 0,
            start: 0,
            space: 0,
            key_bytes: u16::try_from(key.len()).unwrap(),
            dtype: DType::UInt8,
            cause: Cause::Room,
            is_below: false,
        }
    }

    #[test]
    fn the_last_ones_stay_in_order_within_what_was_paid() {
        let ledger = Ledger::new(8 << 20);
        let evictions = Evictions::within(&ledger).unwrap();
        let paid = ledger.used_by(Account::Index);
        assert!(
            (16 << 10..=32 << 10).contains(&paid),
            "one part in 256: {paid}"
        );
        let mut lengths = Vec::new();
        for (at, len) in [1, 10, 64, 64, 64, 200, 1_024, 3]
            .into_iter()
            .cycle()
            .take(5_000)
            .enumerate()
        {
            let key = "k".repeat(len);
            evictions.list(listed(at as u64, &key), key.as_bytes());
            lengths.push(len);
            let ring = evictions.ring.lock();
            let used = ring.entries.capacity() * size_of::<Listed>() + ring.keys.capacity();
            assert!(used as u64 <= paid, "{used} of {paid}");
        }
        let (entries, keys) = evictions.copy();
        let last = entries.len();
        assert!((50..315).contains(&last), "{last}: keys are long");
        let at: Vec<u64> = entries.iter().map(|one| one.at_ms).collect();
        let expected: Vec<u64> = (5_000 - last as u64..5_000).collect();
        assert_eq!(at, expected);
        assert_eq!(keys.len(), lengths[5_000 - last..].iter().sum::<usize>());
        assert_eq!(evictions.unlisted(), 0);
        drop(evictions);
        assert_eq!(ledger.used_by(Account::Index), 0);
    }

    #[test]
    fn a_large_memory_lists_as_many_as_it_says() {
        let ledger = Ledger::new(1 << 30);
        let evictions = Evictions::within(&ledger).unwrap();
        for at in 0..5_000 {
            evictions.list(listed(at, "key"), b"key");
        }
        assert_eq!(evictions.copy().0.len(), ENTRIES_MAX);
    }

    #[test]
    fn who_finds_the_ring_in_use_goes_on() {
        let evictions = Evictions::within(&Ledger::new(8 << 20)).unwrap();
        let in_use = evictions.ring.lock();
        evictions.list(listed(0, "a"), b"a");
        drop(in_use);
        evictions.list(listed(1, "b"), b"b");
        let (entries, keys) = evictions.copy();
        assert_eq!((entries.len(), &keys[..]), (1, &b"b"[..]));
        assert_eq!(evictions.unlisted(), 1);
    }
}
