//! The hash table: from a key's hash to its record's handle.
//!
//! The hash's upper bits choose a shard; the lower 32 place the entry in the shard's sorted
//! array of buckets (`lines`), where a look-up reads 1.05 cache lines on average and a miss
//! ends as early as a hit.
//!
//! Readers take no lock. They may see a bucket twice or not at all while a writer shifts;
//! a hit is proven by pin and key, so only a *miss* must be believed, and only when the
//! shard's sequence counter stood still and even meanwhile. After a few rounds a reader
//! takes the shard's lock, which bounds its wait by one write (a growth, at worst).
//!
//! A shard grows in place by 14 to 25 % a step, so that load stays between 0.65 and 0.81:
//! 10 to 12.5 bytes an entry. It does not shrink.

use std::sync::Arc;

use super::lines::Lines;
use super::record::Handle;
use super::state::low32;
use super::sync::{Mutex, MutexGuard, relax};
use super::{Budget, Full};
use crate::arena::prefetch;

/// Entries a shard at the table's limit: keeps a growth, during which the shard's misses
/// wait, under 0.2 ms.
const SHARD_ENTRIES: u64 = 16_384;
const SHARDS_MIN: u64 = 64;
const SHARDS_MAX: u64 = 4_096;
/// Bits of a word.
const WORD: usize = u64::BITS as usize;
/// Rounds of a look-up before it takes the lock.
#[cfg(not(feature = "loom"))]
const ROUNDS: u32 = 8;
#[cfg(feature = "loom")]
const ROUNDS: u32 = 2;

/// What a probe of a candidate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<T> {
    /// The entry that is looked for.
    Hit(T),
    /// Another entry, or one that is no longer live.
    Other,
    /// Cannot be told at the moment (it is being moved): look again.
    Retry,
}

/// A sharded table of handles.
pub struct Table {
    shards: Box<[ShardState]>,
    shift: u32,
    directory_bytes: u64,
    budget: Arc<dyn Budget>,
}

/// One shard, locked for writing; look-ups go on.
pub struct Shard<'t> {
    lines: &'t Lines,
    count: MutexGuard<'t, usize>,
    budget: &'t dyn Budget,
    hash: u32,
}

/// See [`Shard::position`].
#[derive(Debug, Clone, Copy)]
pub struct Position(usize);

/// Several shards, locked for writing; look-ups go on.
pub struct Shards<'t> {
    table: &'t Table,
    /// A bit for each shard that is locked, and how many there are in the words before.
    which: Vec<(u64, usize)>,
    /// By their numbers.
    locked: Vec<Shard<'t>>,
}

impl Table {
    /// A table for about `entries_max` entries, empty but for its directory.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses the directory.
    pub fn new(entries_max: u32, budget: Arc<dyn Budget>) -> Result<Table, Full> {
        let wanted = u64::from(entries_max)
            .div_ceil(SHARD_ENTRIES)
            .next_power_of_two();
        Table::with_shards(entries_max, wanted.clamp(SHARDS_MIN, SHARDS_MAX), budget)
    }

    /// A table of `shards` shards, a power of two: for tests.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub fn with_shards(
        entries_max: u32,
        shards: u64,
        budget: Arc<dyn Budget>,
    ) -> Result<Table, Full> {
        debug_assert!(shards.is_power_of_two());
        // Twice a fair share: the hash does not deal evenly, least of all to few.
        let share = (u64::from(entries_max) / shards * 2).max(256);
        let directory_bytes =
            shards * (size_of::<ShardState>() as u64 + Lines::directory_bytes(share));
        if !budget.charge(directory_bytes) {
            return Err(Full {
                bytes: directory_bytes,
            });
        }
        let shard = |_| ShardState {
            lines: Lines::new(share),
            count: Mutex::new(0),
        };
        Ok(Table {
            shards: (0..shards).map(shard).collect(),
            shift: 64 - shards.trailing_zeros(),
            directory_bytes,
            budget,
        })
    }

    /// Finds the entry of a hash that `probe` says is the one. Takes no lock, but for a
    /// miss beside a writer that outlasts it.
    ///
    /// `probe` gets every handle under this hash, perhaps a stale one: it pins the record
    /// and compares the key. It must not lock this table.
    pub fn find<T>(&self, hash: u64, mut probe: impl FnMut(Handle) -> Probe<T>) -> Option<T> {
        let shard = self.shard(hash);
        for round in 0..ROUNDS {
            let before = shard.lines.sequence();
            match shard.lines.scan(low32(hash), &mut probe) {
                Probe::Hit(found) => return Some(found),
                Probe::Other if shard.lines.stood_still(before) => return None,
                Probe::Other | Probe::Retry => relax(round),
            }
        }
        self.lock(hash).find(probe)
    }

    /// Has the processor fetch the line where a look-up of this hash begins.
    pub fn prefetch(&self, hash: u64) {
        self.shard(hash).lines.prefetch(low32(hash));
    }

    /// Has the processor fetch what [`Table::prefetch`] of this hash reads.
    pub fn prefetch_shard(&self, hash: u64) {
        prefetch(self.shard(hash));
    }

    /// Locks the shard of a hash for writing. Whoever has one locked locks no other.
    pub fn lock(&self, hash: u64) -> Shard<'_> {
        self.lock_shard(self.shard(hash), hash)
    }

    /// Locks the shards of all these hashes for writing, in the order in which everybody does.
    pub fn lock_all(&self, hashes: impl Iterator<Item = u64>) -> Shards<'_> {
        let mut which = vec![(0_u64, 0); self.shards.len().div_ceil(WORD)];
        for number in hashes.map(|hash| self.number(hash)) {
            which[number / WORD].0 |= 1 << (number % WORD);
        }
        let mut locked = Vec::new();
        for ((bits, before), shards) in which.iter_mut().zip(self.shards.chunks(WORD)) {
            *before = locked.len();
            let mut left = *bits;
            while left != 0 {
                let shard = &shards[left.trailing_zeros() as usize];
                locked.push(self.lock_shard(shard, 0));
                left &= left - 1;
            }
        }
        Shards {
            table: self,
            which,
            locked,
        }
    }

    /// Locks all shards for writing: for who has the table alone, and much to add.
    pub fn lock_every(&self) -> Shards<'_> {
        let words = self.shards.chunks(WORD).enumerate();
        let which = words.map(|(word, shards)| {
            let unused = u32::try_from(WORD - shards.len()).unwrap_or(0);
            (u64::MAX.checked_shr(unused).unwrap_or(0), word * WORD)
        });
        let locked = self.shards.iter().map(|shard| self.lock_shard(shard, 0));
        Shards {
            table: self,
            which: which.collect(),
            locked: locked.collect(),
        }
    }

    /// Brings what a look-up of this hash reads first into the cache, where many are made in turn:
    /// their misses overlap then. Gives the handle there, if there is one; it may be anybody's.
    pub fn touch(&self, hash: u64) -> Option<Handle> {
        self.shard(hash).lines.touch(low32(hash))
    }

    /// Entries in the table.
    pub fn len(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| *shard.count.lock() as u64)
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held: segments and directory.
    pub fn bytes(&self) -> u64 {
        let one = |shard: &ShardState| {
            let _no_growth = shard.count.lock();
            shard.lines.bytes()
        };
        self.shards.iter().map(one).sum::<u64>() + self.directory_bytes
    }

    fn lock_shard<'t>(&'t self, shard: &'t ShardState, hash: u64) -> Shard<'t> {
        Shard {
            lines: &shard.lines,
            count: shard.count.lock(),
            budget: &*self.budget,
            hash: low32(hash),
        }
    }

    fn shard(&self, hash: u64) -> &ShardState {
        &self.shards[self.number(hash)]
    }

    fn number(&self, hash: u64) -> usize {
        // One shard alone shifts by 64, which `>>` does not do.
        let index = hash.checked_shr(self.shift).unwrap_or(0);
        usize::try_from(index).unwrap_or(0)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.budget.release(self.bytes());
    }
}

impl<'t> Shards<'t> {
    /// Lets shards that are empty grow for `entries` entries in the whole table, so that they need not do so step by step. A
    /// hint: where the budget refuses, the rest stays as it is.
    pub fn expect(&mut self, entries: u64) {
        // What one has more than its share: the hash does not deal evenly.
        let share = entries / self.table.shards.len() as u64;
        let share = usize::try_from(share + share / 16).unwrap_or(0);
        for shard in &mut self.locked {
            let is_empty = *shard.count == 0;
            if is_empty && shard.lines.expect(share, shard.budget).is_err() {
                return;
            }
        }
    }

    /// The shard of one of the hashes that were locked.
    pub fn of(&mut self, hash: u64) -> Option<&mut Shard<'t>> {
        let number = self.table.number(hash);
        let (bits, before) = *self.which.get(number / WORD)?;
        let bit = 1 << (number % WORD);
        if bits & bit == 0 {
            return None;
        }
        let at = before + (bits & (bit - 1)).count_ones() as usize;
        let shard = self.locked.get_mut(at)?;
        shard.hash = low32(hash);
        Some(shard)
    }
}

impl Shard<'_> {
    /// As [`Table::find`], for the hash that the shard was locked with; waits while `probe`
    /// says [`Probe::Retry`]. An entry found stays in the table while the shard is locked.
    pub fn find<T>(&self, mut probe: impl FnMut(Handle) -> Probe<T>) -> Option<T> {
        for round in 0.. {
            match self.lines.scan(self.hash, &mut probe) {
                Probe::Hit(found) => return Some(found),
                Probe::Other => return None,
                // Only a move makes it wait, and who moves waits for no lock.
                Probe::Retry => relax(round),
            }
        }
        None
    }

    /// Whether this very handle is in the table under this hash.
    pub fn contains(&self, handle: Handle) -> bool {
        self.lines.position(self.hash, handle).is_some()
    }

    /// Where a handle is under this hash, while the shard is locked and nothing is added or taken out.
    pub fn position(&self, handle: Handle) -> Option<Position> {
        self.lines.position(self.hash, handle).map(Position)
    }

    /// As [`Shard::replace`], of what is at that position.
    pub fn replace_at(&mut self, at: Position, new: Handle, publish: impl FnOnce()) {
        self.lines.write(|| {
            self.lines.replace(at.0, self.hash, new);
            publish();
        });
    }

    /// Makes room for one entry more, so that the next insert cannot fail.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses to let the shard grow.
    pub fn reserve(&mut self) -> Result<(), Full> {
        self.lines.reserve(self.hash, *self.count, self.budget)
    }

    /// Adds an entry; its key must not be in the table. `publish` makes its record live.
    ///
    /// # Errors
    /// [`Full`] where the shard has to grow and the budget refuses: nothing has changed,
    /// and `publish` was not called.
    pub fn insert(&mut self, handle: Handle, publish: impl FnOnce()) -> Result<(), Full> {
        self.reserve()?;
        self.insert_reserved(handle, publish);
        Ok(())
    }

    /// As [`Shard::insert`], after [`Shard::reserve`] has made room.
    pub fn insert_reserved(&mut self, handle: Handle, publish: impl FnOnce()) {
        self.lines.write(|| {
            self.lines.place(self.hash, handle);
            publish();
        });
        *self.count += 1;
    }

    /// Puts `new` in the place of `old`, at once: a reader finds the one or the other.
    /// `publish` makes the new record live. The caller unlinks the old one after.
    /// `false`: `old` is not in the table, and nothing has changed.
    #[must_use = "nothing was replaced where it is false"]
    pub fn replace(&mut self, old: Handle, new: Handle, publish: impl FnOnce()) -> bool {
        let at = self.position(old);
        at.map(|at| self.replace_at(at, new, publish)).is_some()
    }

    /// Takes an entry out. The caller unlinks its record after. `false`: it is not in the
    /// table (any more).
    #[must_use = "the entry was not there where it is false"]
    pub fn remove(&mut self, handle: Handle) -> bool {
        let Some(at) = self.lines.position(self.hash, handle) else {
            return false;
        };
        self.lines.write(|| self.lines.close_gap(at));
        *self.count -= 1;
        true
    }
}

/// A shard. Two lines apart, so that neighbours' writers do not disturb its readers.
#[repr(align(128))]
struct ShardState {
    lines: Lines,
    count: Mutex<usize>,
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::super::Unlimited;
    use super::*;

    fn handle(raw: u32) -> Handle {
        Handle::from_raw(raw).unwrap()
    }

    fn found(table: &Table, hash: u64, wanted: Handle) -> bool {
        let probe = |there| {
            if there == wanted {
                Probe::Hit(())
            } else {
                Probe::Other
            }
        };
        table.find(hash, probe).is_some()
    }

    /// A budget that counts, and refuses above its limit.
    #[derive(Default)]
    struct Counted {
        used: AtomicU64,
        limit: AtomicU64,
    }

    impl Budget for Counted {
        fn charge(&self, bytes: u64) -> bool {
            let fits =
                self.used.load(Ordering::Relaxed) + bytes <= self.limit.load(Ordering::Relaxed);
            if fits {
                self.used.fetch_add(bytes, Ordering::Relaxed);
            }
            fits
        }

        fn release(&self, bytes: u64) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Hashes that crowd the array's start and its end, or are spread out; some collide.
    fn crowded(key: u32) -> u64 {
        u64::from(match key % 12 {
            0 => key / 24,
            1 => u32::MAX - key / 24,
            _ => key.wrapping_mul(0x9e37_79b9),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Any run of inserts, replacements and removals agrees with a map; the bytes held
        /// are those charged.
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0..4, 0u32..200), 1..600)) {
            let budget = Arc::new(Counted { limit: AtomicU64::new(u64::MAX), ..Counted::default() });
            let table = Table::with_shards(0, 1, budget.clone()).unwrap();
            let mut model: HashMap<u32, Handle> = HashMap::new();
            for (next, (step, key)) in (1..).zip(steps) {
                let new = handle(next);
                let mut shard = table.lock(crowded(key));
                match (step, model.get(&key).copied()) {
                    (0 | 1, None) => {
                        shard.insert(new, || {}).unwrap();
                        model.insert(key, new);
                    }
                    (2, Some(old)) => {
                        let replaced = shard.replace(old, new, || {});
                        prop_assert!(replaced && !shard.contains(old));
                        model.insert(key, new);
                    }
                    (3, Some(old)) => {
                        prop_assert!(shard.remove(old) && !shard.contains(old));
                        model.remove(&key);
                    }
                    _ => prop_assert!(!shard.remove(new)),
                }
            }
            prop_assert_eq!(table.len(), model.len() as u64);
            prop_assert_eq!(table.bytes(), budget.used.load(Ordering::Relaxed));
            for key in 0..200 {
                let there = model.get(&key).copied();
                prop_assert!(there.is_none_or(|there| found(&table, crowded(key), there)));
                prop_assert!(!found(&table, crowded(key), handle(u32::MAX)));
            }
            drop(table);
            prop_assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn shards_are_locked_together_and_each_by_its_hashes() {
        let table = Table::with_shards(100_000, 64, Arc::new(Unlimited)).unwrap();
        let hashes = [u64::MAX, 5, 1 << 60 | 9, 6, u64::MAX - 1];
        let mut shards = table.lock_all(hashes.into_iter());
        for (hash, raw) in hashes.into_iter().zip(1..) {
            let shard = shards.of(hash).unwrap();
            shard.insert(handle(raw), || {}).unwrap();
            assert!(shard.contains(handle(raw)));
        }
        assert!(
            shards.of(1 << 50 | 1 << 61).is_none(),
            "a shard that was not locked"
        );
        drop(shards);
        for (hash, raw) in hashes.into_iter().zip(1..) {
            assert!(found(&table, hash, handle(raw)));
            assert_eq!(table.touch(hash), Some(handle(raw)));
        }
        assert_eq!((table.len(), table.touch(7)), (5, None));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many entries")]
    fn what_was_expected_needs_no_growth() {
        const ENTRIES: u32 = 60_000;
        let hash = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let budget = Arc::new(Counted {
            limit: AtomicU64::new(u64::MAX),
            ..Counted::default()
        });
        let table = Table::with_shards(ENTRIES, 128, budget.clone()).unwrap();
        let empty = table.bytes();
        budget.limit.store(empty, Ordering::Relaxed);
        table.lock_every().expect(ENTRIES.into());
        assert_eq!(table.bytes(), empty, "a hint");
        budget.limit.store(u64::MAX, Ordering::Relaxed);
        let mut shards = table.lock_every();
        shards.expect(ENTRIES.into());
        let expected = budget.used.load(Ordering::Relaxed);
        assert!(expected > empty);
        for n in 1..=ENTRIES {
            let shard = shards.of(hash(n)).unwrap();
            shard.insert(handle(n), || {}).unwrap();
        }
        drop(shards);
        // Some have more than their share.
        let grown = table.bytes() - expected;
        assert!(grown * 20 < expected, "{grown} of {expected}");
        assert_eq!(table.len(), u64::from(ENTRIES));
        assert!((1..=ENTRIES).all(|n| found(&table, hash(n), handle(n))));
    }

    #[test]
    fn a_refused_growth_changes_nothing() {
        let budget = Arc::new(Counted {
            limit: AtomicU64::new(1 << 20),
            ..Counted::default()
        });
        let table = Table::with_shards(100_000, 64, budget.clone()).unwrap();
        let bytes = table.bytes();
        budget.limit.store(bytes, Ordering::Relaxed);
        let mut shard = table.lock(5);
        let refused = shard.insert(handle(1), || unreachable!("not published"));
        assert!(matches!(refused, Err(Full { bytes: 256 })));
        assert!(!shard.contains(handle(1)));
        drop(shard);
        assert_eq!((table.len(), table.bytes()), (0, bytes));
        budget.limit.store(u64::MAX, Ordering::Relaxed);
        let mut shard = table.lock(5);
        shard.reserve().unwrap();
        budget.limit.store(0, Ordering::Relaxed);
        shard.insert(handle(1), || {}).unwrap();
    }

    /// Load, and with it the memory an entry takes, stays within what the module says.
    #[test]
    #[cfg_attr(miri, ignore = "too many entries")]
    fn an_entry_takes_ten_to_thirteen_bytes() {
        let table = Table::new(1 << 20, Arc::new(Unlimited)).unwrap();
        for i in 1..=400_000u32 {
            let hash = u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            table.lock(hash).insert(handle(i), || {}).unwrap();
            if i >= 100_000 && i % 20_000 == 0 {
                let bytes = (table.bytes() - table.directory_bytes) as f64 / f64::from(i);
                assert!((9.8..13.0).contains(&bytes), "entries={i} bytes={bytes}");
            }
        }
    }

    /// Churn at a constant number of entries neither grows the table nor spreads it.
    #[test]
    #[cfg_attr(miri, ignore = "too many entries")]
    fn churn_does_not_age_it() {
        let table = Table::with_shards(10_000, 1, Arc::new(Unlimited)).unwrap();
        let hash = |i: u32| u64::from(i.wrapping_mul(0x9e37_79b9));
        let live = 5_000;
        for i in 1..=live {
            table.lock(hash(i)).insert(handle(i), || {}).unwrap();
        }
        let bytes = table.bytes();
        for i in live + 1..40 * live {
            assert!(table.lock(hash(i - live)).remove(handle(i - live)));
            table.lock(hash(i)).insert(handle(i), || {}).unwrap();
        }
        assert_eq!((table.len(), table.bytes()), (u64::from(live), bytes));
    }
}
