//! A policy over entries that have a size and no bytes: what it would have kept.
//!
//! `adaptive` runs small ones beside the real entries; benches replay traces with it. The policy's
//! code is the same as over real entries.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::{Choice, Enter, Eviction, Look, Policy};
use crate::index::{Budget, Handle, Mark, Records, Unlimited};

/// A cache of nothing but names and sizes.
pub struct Simulation {
    records: Records,
    policy: Box<dyn Policy>,
    entries: HashMap<u32, Handle, BuildHasherDefault<AsItIs>>,
    bytes: u64,
    bytes_max: u64,
    budget: Arc<dyn Budget>,
    /// Charged for `entries`.
    map_bytes: u64,
}

/// What the map takes for an entry, at most: it doubles.
const MAP_BYTES: u64 = 20;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It was there.
    Hit,
    /// It was not, and is now, unless it is larger than the cache.
    Miss,
}

impl Simulation {
    /// A cache of `bytes_max` bytes and at most `entries_max` entries, whatever memory that takes.
    ///
    /// # Panics
    /// Never: nothing is refused.
    #[must_use]
    pub fn new(eviction: Eviction, bytes_max: u64, entries_max: u32) -> Self {
        let budget: Arc<dyn Budget> = Arc::new(Unlimited);
        let Some(simulation) = Self::within(eviction, bytes_max, entries_max, &budget) else {
            unreachable!("an unlimited budget refuses nothing")
        };
        simulation
    }

    /// A cache whose own memory is charged to `budget`; `None` where that refuses.
    pub(crate) fn within(
        eviction: Eviction,
        bytes_max: u64,
        entries_max: u32,
        budget: &Arc<dyn Budget>,
    ) -> Option<Self> {
        let map_bytes = u64::from(entries_max) * MAP_BYTES;
        if !budget.charge(map_bytes) {
            return None;
        }
        let records = Records::new(entries_max, Arc::clone(budget)).ok();
        if records.is_none() {
            budget.release(map_bytes);
        }
        Some(Self {
            budget: Arc::clone(budget),
            map_bytes,
            records: records?,
            policy: eviction.build(Arc::clone(budget), bytes_max),
            entries: HashMap::default(),
            bytes: 0,
            bytes_max,
        })
    }

    /// Asks for an object by the hash of its name, and puts it where it is not there. Objects with
    /// the same hash are the same.
    pub fn ask(&mut self, hash: u32, bytes: u64) -> Asked {
        self.request(hash, bytes, Enter::Hot)
    }

    /// Puts an object that nobody has asked for, where it is not there.
    pub fn load(&mut self, hash: u32, bytes: u64) {
        if !self.entries.contains_key(&hash) {
            self.request(hash, bytes, Enter::Probation);
        }
    }

    /// Entries and bytes that it has.
    #[must_use]
    pub fn held(&self) -> (usize, u64) {
        (self.entries.len(), self.bytes)
    }

    /// The policy that decides at the moment.
    #[must_use]
    pub fn follows(&self) -> Eviction {
        self.policy.follows()
    }

    /// Changes how much it may have.
    pub(crate) fn resize(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        self.policy.resize(bytes_max);
        self.shrink_to(bytes_max);
    }

    /// Lets go of those whose hash is not wanted any more, as if they had never come.
    pub(crate) fn retain(&mut self, wanted: impl Fn(u32) -> bool) {
        let gone: Vec<(u32, Handle)> = self
            .entries
            .iter()
            .filter(|(hash, _)| !wanted(**hash))
            .map(|(hash, entry)| (*hash, *entry))
            .collect();
        for (hash, entry) in gone {
            self.entries.remove(&hash);
            self.forget(entry, None);
        }
    }

    fn request(&mut self, hash: u32, bytes: u64, enter: Enter) -> Asked {
        if let Some(&entry) = self.entries.get(&hash) {
            let record = self.records.at(entry);
            let _ = record.try_pin(Mark::Hit(0));
            let last = record.unpin();
            debug_assert!(!last, "it is live");
            self.policy.hit(entry, hash);
            return Asked::Hit;
        }
        if bytes <= self.bytes_max {
            self.shrink_to(self.bytes_max - bytes);
            if let Some(entry) = self.alloc() {
                let record = self.records.at(entry);
                record.set_len(bytes);
                // Nobody reads it here, and a record has no other place for a hash.
                record.set_checksum(hash.into());
                record.publish();
                self.policy.insert(&self.records, entry, hash, enter);
                self.entries.insert(hash, entry);
                self.bytes += bytes;
            }
        }
        Asked::Miss
    }

    fn alloc(&mut self) -> Option<Handle> {
        loop {
            if let Some(entry) = self.records.alloc() {
                return Some(entry);
            }
            if !self.evict() {
                return None;
            }
        }
    }

    fn shrink_to(&mut self, bytes: u64) {
        while self.bytes > bytes && self.evict() {}
    }

    fn evict(&mut self) -> bool {
        loop {
            match self.policy.victim(&self.records, &mut All(&self.records)) {
                Choice::Victim(entry) => {
                    let hash = hash_of(&self.records, entry);
                    self.entries.remove(&hash);
                    self.forget(entry, Some(hash));
                    return true;
                }
                Choice::Later => {}
                Choice::Nothing => return false,
            }
        }
    }

    fn forget(&mut self, entry: Handle, evicted: Option<u32>) {
        let record = self.records.at(entry);
        self.bytes -= record.len();
        self.policy.remove(&self.records, entry, evicted);
        let last = record.unlink();
        debug_assert!(last, "nobody pins it");
        self.records.free(entry);
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.budget.release(self.map_bytes);
    }
}

struct All<'a>(&'a Records);

impl Look for All<'_> {
    fn takes(&mut self, _entry: Handle) -> bool {
        true
    }

    fn hash(&mut self, entry: Handle) -> u32 {
        hash_of(self.0, entry)
    }
}

fn hash_of(records: &Records, entry: Handle) -> u32 {
    u32::try_from(records.at(entry).checksum() & u128::from(u32::MAX)).unwrap_or(0)
}

/// Hashes are hashed already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, word: u32) {
        // The map looks at the top bits and at the bottom ones.
        self.0 = u64::from(word) << 32 | u64::from(word);
    }
}
