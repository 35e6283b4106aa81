//! The hash table: from a key's hash to its record's handle.
//!
//! A bucket is one word, 32 bits of hash and a handle; eight make a cache line. A shard is
//! an array of lines kept **sorted by hash**: an entry's home is a line, chosen by scaling
//! its hash to the array's length, and it lies there or as close behind as there is room
//! (linear probing, Robin Hood order). So a look-up reads 1.05 lines on average, a miss ends
//! as early as a hit, growth re-places entries without reading a key, and removal shifts
//! back and leaves no tombstone: churn does not age it.
//!
//! Readers take no lock. They may see a bucket twice or not at all while a writer shifts;
//! a hit is proven by pin and key, so only a *miss* must be believed, and only when the
//! shard's sequence counter stood still and even meanwhile. After a few rounds a reader
//! takes the shard's lock, which bounds its wait by one write (a growth, at worst).
//!
//! Growth extends the array in place, by 14 to 25 % a step, so that load stays between 0.65
//! and 0.81: 10 to 12.5 bytes an entry. Segments are never unmapped.

use std::sync::{Arc, OnceLock};

use super::record::Handle;
use super::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, fence, relax};
use super::{Budget, Full};

/// Buckets a line.
#[cfg(not(feature = "loom"))]
const WIDTH: usize = 8;
#[cfg(feature = "loom")]
const WIDTH: usize = 2;

/// Lines of a shard's first segment.
const FIRST: usize = 4;
/// Grow above 13/16 = 0.8125: beyond that the lines read a look-up rise quickly.
const LOAD_NUMERATOR: usize = 13;
const LOAD_DENOMINATOR: usize = 16;
/// Entries a shard at the table's limit: keeps a growth, during which the shard's misses
/// wait, under about 0.1 ms.
const SHARD_ENTRIES: u64 = 16_384;
const SHARDS_MIN: u64 = 64;
const SHARDS_MAX: u64 = 4_096;
/// Rounds of a look-up before it takes the lock.
const ROUNDS: u32 = 8;

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
    budget: Arc<dyn Budget>,
}

/// One shard, locked for writing; look-ups go on.
pub struct Shard<'t> {
    state: &'t ShardState,
    inner: MutexGuard<'t, Inner>,
    budget: &'t dyn Budget,
    hash: u32,
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
        // Twice a fair share: how uneven shards get is for the hash to say.
        let share = (u64::from(entries_max) / shards).saturating_mul(2).max(256);
        let lines = usize::try_from(share).unwrap_or(usize::MAX).div_ceil(WIDTH) * 2;
        let segments = segment_of(lines).0 + 1;
        let bytes = shards * directory_bytes(segments);
        if !budget.charge(bytes) {
            return Err(Full { bytes });
        }
        Ok(Table {
            shards: (0..shards).map(|_| ShardState::new(segments)).collect(),
            shift: 64 - shards.trailing_zeros(),
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
        let low = low32(hash);
        for round in 0..ROUNDS {
            // Acquire: what the last writer left, at least.
            let before = shard.sequence.load(Ordering::Acquire);
            match shard.scan(low, &mut probe) {
                Probe::Hit(found) => return Some(found),
                Probe::Retry => {}
                Probe::Other => {
                    // Any bucket read above that a writer stored after `before` makes the
                    // next load see that writer's odd number, or a later one.
                    fence(Ordering::Acquire);
                    let after = shard.sequence.load(Ordering::Relaxed);
                    if before == after && before % 2 == 0 {
                        return None;
                    }
                }
            }
            relax(round);
        }
        let _writers_wait = shard.inner.lock();
        shard.scan_settled(low, probe)
    }

    /// Locks the shard of a hash for writing.
    pub fn lock(&self, hash: u64) -> Shard<'_> {
        let state = self.shard(hash);
        Shard {
            state,
            inner: state.inner.lock(),
            budget: &*self.budget,
            hash: low32(hash),
        }
    }

    /// Entries in the table.
    pub fn len(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.inner.lock().count as u64)
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held: segments and directory.
    pub fn bytes(&self) -> u64 {
        let one = |shard: &ShardState| {
            let _still = shard.inner.lock();
            let lines = shard.lines.load(Ordering::Relaxed) as usize;
            (lines * size_of::<Line>()) as u64 + directory_bytes(shard.segments.len())
        };
        self.shards.iter().map(one).sum()
    }

    fn shard(&self, hash: u64) -> &ShardState {
        // The top bits; the low half is the bucket's.
        let index = hash.checked_shr(self.shift).unwrap_or(0);
        &self.shards[usize::try_from(index).unwrap_or(0)]
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.budget.release(self.bytes());
    }
}

impl Shard<'_> {
    /// As [`Table::find`], for the hash that the shard was locked with; waits while `probe`
    /// says [`Probe::Retry`]. An entry found stays in the table while the shard is locked.
    pub fn find<T>(&self, probe: impl FnMut(Handle) -> Probe<T>) -> Option<T> {
        self.state.scan_settled(self.hash, probe)
    }

    /// Whether this very handle is in the table under this hash.
    pub fn contains(&self, handle: Handle) -> bool {
        self.state.position(self.hash, handle).is_some()
    }

    /// Makes room for one entry more, so that the next insert cannot fail.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses to let the shard grow.
    pub fn reserve(&mut self) -> Result<(), Full> {
        self.state.reserve(self.hash, self.inner.count, self.budget)
    }

    /// Adds an entry; its key must not be in the table. `publish` makes its record live.
    ///
    /// # Errors
    /// [`Full`] where the shard has to grow and the budget refuses: nothing has changed,
    /// and `publish` was not called.
    pub fn insert(&mut self, handle: Handle, publish: impl FnOnce()) -> Result<(), Full> {
        self.reserve()?;
        self.state.write(|state| {
            let placed = state.place(self.hash, bucket(self.hash, handle));
            debug_assert!(placed, "room was made");
            publish();
        });
        self.inner.count += 1;
        Ok(())
    }

    /// Puts `new` in the place of `old`, at once: a reader finds the one or the other.
    /// `publish` makes the new record live. The caller unlinks the old one after.
    /// `false`: `old` is not in the table, and nothing has changed.
    #[must_use = "nothing was replaced where it is false"]
    pub fn replace(&mut self, old: Handle, new: Handle, publish: impl FnOnce()) -> bool {
        let Some(at) = self.state.position(self.hash, old) else {
            return false;
        };
        self.state.write(|state| {
            state.set(at, bucket(self.hash, new));
            publish();
        });
        true
    }

    /// Takes an entry out. The caller unlinks its record after. `false`: it is not in the
    /// table (any more).
    #[must_use = "the entry was not there where it is false"]
    pub fn remove(&mut self, handle: Handle) -> bool {
        let Some(at) = self.state.position(self.hash, handle) else {
            return false;
        };
        self.state.write(|state| state.close_gap(at));
        self.inner.count -= 1;
        true
    }
}

/// A cache line of buckets: hash 32 | handle 32; 0 is empty, for no handle is 0.
#[cfg_attr(not(feature = "loom"), repr(align(64)))]
struct Line([AtomicU64; WIDTH]);

/// What writers share under the shard's lock.
struct Inner {
    count: usize,
}

/// A shard. Two lines apart, so that neighbours' writers do not disturb its readers.
#[repr(align(128))]
struct ShardState {
    /// Odd while a writer is at work.
    sequence: AtomicU64,
    /// Lines in use.
    lines: AtomicU32,
    inner: Mutex<Inner>,
    segments: Box<[OnceLock<Box<[Line]>>]>,
}

impl ShardState {
    fn new(segments: usize) -> ShardState {
        ShardState {
            sequence: AtomicU64::new(0),
            lines: AtomicU32::new(0),
            inner: Mutex::new(Inner { count: 0 }),
            segments: (0..segments).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Shows every candidate under a hash to `probe`, beside writers.
    fn scan<T>(&self, hash: u32, probe: &mut impl FnMut(Handle) -> Probe<T>) -> Probe<T> {
        let lines = self.lines();
        let mut result = Probe::Other;
        for line in home_line(hash, lines)..lines {
            // A reader may know of more lines than it sees segments: then it is beside a
            // growth, and will look again.
            let Some(line) = self.line(line) else {
                return Probe::Retry;
            };
            for word in &line.0 {
                // Acquire: the record's chunk is there for who sees its handle.
                let word = word.load(Ordering::Acquire);
                let Some(handle) = Handle::from_raw(low32(word)) else {
                    return result;
                };
                let found = high32(word);
                if found > hash {
                    return result;
                }
                if found == hash {
                    match probe(handle) {
                        Probe::Hit(hit) => return Probe::Hit(hit),
                        Probe::Retry => result = Probe::Retry,
                        Probe::Other => {}
                    }
                }
            }
        }
        result
    }

    /// The same under the lock: only moves can make it wait, and they end without locks.
    fn scan_settled<T>(&self, hash: u32, mut probe: impl FnMut(Handle) -> Probe<T>) -> Option<T> {
        let mut round = 0;
        loop {
            match self.scan(hash, &mut probe) {
                Probe::Hit(found) => return Some(found),
                Probe::Other => return None,
                Probe::Retry => relax(round),
            }
            round = round.saturating_add(1);
        }
    }

    /// Where a handle lies. Under the lock.
    fn position(&self, hash: u32, handle: Handle) -> Option<usize> {
        let wanted = bucket(hash, handle);
        (self.home(hash)..self.capacity())
            .map(|at| (at, self.get(at)))
            .take_while(|&(_, word)| word != 0 && high32(word) <= hash)
            .find(|&(_, word)| word == wanted)
            .map(|(at, _)| at)
    }

    /// Runs a change that readers may see half done. Under the lock.
    fn write<T>(&self, change: impl FnOnce(&ShardState) -> T) -> T {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // Whoever sees a store below sees the odd number above.
        fence(Ordering::Release);
        let result = change(self);
        self.sequence.store(sequence + 2, Ordering::Release);
        result
    }

    /// Grows until one entry more keeps the load, and there is an empty bucket behind the
    /// place of `hash`. Under the lock.
    fn reserve(&self, hash: u32, count: usize, budget: &dyn Budget) -> Result<(), Full> {
        while (count + 1) * LOAD_DENOMINATOR > self.capacity() * LOAD_NUMERATOR
            || (self.home(hash)..self.capacity()).all(|at| self.get(at) != 0)
        {
            self.grow(budget)?;
        }
        Ok(())
    }

    /// Adds the next segment and spreads the entries over all.
    fn grow(&self, budget: &dyn Budget) -> Result<(), Full> {
        let before = self.capacity();
        loop {
            let lines = self.lines();
            let (segment, _) = segment_of(lines);
            let Some(slot) = self.segments.get(segment) else {
                return Err(Full { bytes: 0 });
            };
            let more = segment_lines(segment);
            let bytes = (more * size_of::<Line>()) as u64;
            let next = u32::try_from(lines + more).map_err(|_| Full { bytes: 0 })?;
            if !budget.charge(bytes) {
                return Err(Full { bytes });
            }
            slot.get_or_init(|| (0..more).map(|_| Line::empty()).collect());
            let spread = self.write(|state| {
                let from = state.capacity();
                state.lines.store(next, Ordering::Release);
                state.spread(from)
            });
            if spread {
                return Ok(());
            }
            debug_assert!(self.capacity() > before);
        }
    }

    /// Re-places all entries, of which those below `from` were placed for fewer lines: first
    /// packs them at the array's end, which moves none of them left, then deals them out
    /// from its start, which moves none of them right. Keeps them sorted, needs no memory.
    ///
    /// `false` where the last ones found no room behind their homes: they stay packed at
    /// the end, findable only after the next growth.
    fn spread(&self, from: usize) -> bool {
        let capacity = self.capacity();
        let mut pack = capacity;
        for at in (0..from.min(capacity)).rev() {
            let word = self.get(at);
            if word != 0 {
                pack -= 1;
                self.set(at, 0);
                self.set(pack, word);
            }
        }
        let mut next = 0;
        for at in pack..capacity {
            let word = self.get(at);
            let to = next.max(self.home(high32(word)));
            if to > at {
                return false;
            }
            self.set(at, 0);
            self.set(to, word);
            next = to + 1;
        }
        true
    }

    /// Puts a bucket where its hash belongs, shifting what is behind. `false`: no room.
    fn place(&self, hash: u32, word: u64) -> bool {
        let capacity = self.capacity();
        let Some(at) = (self.home(hash)..capacity).find(|&at| {
            let there = self.get(at);
            there == 0 || high32(there) > hash
        }) else {
            return false;
        };
        let Some(empty) = (at..capacity).find(|&at| self.get(at) == 0) else {
            return false;
        };
        for to in (at + 1..=empty).rev() {
            self.set(to, self.get(to - 1));
        }
        self.set(at, word);
        true
    }

    /// Empties a bucket and shifts back what may lie closer to its home.
    fn close_gap(&self, mut gap: usize) {
        for at in gap + 1..self.capacity() {
            let word = self.get(at);
            if word == 0 || self.home(high32(word)) == at {
                break;
            }
            self.set(gap, word);
            gap = at;
        }
        self.set(gap, 0);
    }

    fn home(&self, hash: u32) -> usize {
        home_line(hash, self.lines()) * WIDTH
    }

    fn capacity(&self) -> usize {
        self.lines() * WIDTH
    }

    fn lines(&self) -> usize {
        self.lines.load(Ordering::Acquire) as usize
    }

    fn get(&self, at: usize) -> u64 {
        self.line(at / WIDTH)
            .map_or(0, |line| line.0[at % WIDTH].load(Ordering::Relaxed))
    }

    fn set(&self, at: usize, word: u64) {
        if let Some(line) = self.line(at / WIDTH) {
            line.0[at % WIDTH].store(word, Ordering::Release);
        }
    }

    fn line(&self, line: usize) -> Option<&Line> {
        let (segment, offset) = segment_of(line);
        self.segments.get(segment)?.get()?.get(offset)
    }
}

impl Line {
    fn empty() -> Line {
        Line(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The home of a hash among `lines` lines. The last lines are nobody's home, so that the
/// array need not wrap around: entries that come last in order overflow into them.
fn home_line(hash: u32, lines: usize) -> usize {
    let homes = lines - (lines / 32).clamp(1, 8).min(lines);
    usize::try_from((u64::from(hash) * homes as u64) >> 32).unwrap_or(0)
}

/// Segment and offset of a line: after the first segment, four to a doubling.
fn segment_of(line: usize) -> (usize, usize) {
    if line < FIRST {
        return (0, line);
    }
    let step = line.ilog2() as usize - 2;
    (1 + 4 * step + (line >> step & 3), line & ((1 << step) - 1))
}

/// Lines of a segment.
fn segment_lines(segment: usize) -> usize {
    if segment == 0 {
        FIRST
    } else {
        1 << ((segment - 1) / 4)
    }
}

fn directory_bytes(segments: usize) -> u64 {
    (size_of::<ShardState>() + segments * size_of::<OnceLock<Box<[Line]>>>()) as u64
}

fn bucket(hash: u32, handle: Handle) -> u64 {
    u64::from(hash) << 32 | u64::from(handle.get())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low32(word: u64) -> u32 {
    word as u32
}

fn high32(word: u64) -> u32 {
    low32(word >> 32)
}
