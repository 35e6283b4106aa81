//! One shard of the table: an array of buckets, kept sorted, that readers scan beside a
//! writer.
//!
//! A bucket is one word, 32 bits of hash and a handle; eight make a cache line. An entry's
//! home is a line, chosen by scaling its hash to the array's length; it lies there, or as
//! close behind as there is room, in the order of the hashes (linear probing, Robin Hood
//! order). So no bucket is empty between an entry's home and its place, a scan may end at
//! the first greater hash, growth re-places entries without reading a key, and removal
//! shifts back and leaves no tombstone.
//!
//! What changes the array runs inside [`Lines::write`], between two steps of the sequence
//! counter, under a lock that the caller holds. Everything readers touch is atomic, stored
//! with release and loaded with acquire.

use std::sync::OnceLock;

use super::record::Handle;
use super::state::low32;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::table::Probe;
use super::{Budget, Full};
use crate::arena::prefetch;

/// Buckets a line; one under loom, so that four entries make an array grow.
#[cfg(not(feature = "loom"))]
const WIDTH: usize = 8;
#[cfg(feature = "loom")]
const WIDTH: usize = 1;

/// Lines of the first segment.
const FIRST: usize = 4;
/// Grow above 13/16 = 0.8125: beyond that the lines read a look-up rise quickly.
const LOAD_NUMERATOR: usize = 13;
const LOAD_DENOMINATOR: usize = 16;

/// A sorted array of buckets, in segments that are never unmapped.
pub(super) struct Lines {
    /// Odd while a writer is at work.
    sequence: AtomicU64,
    /// Lines in use.
    lines: AtomicU32,
    segments: Box<[OnceLock<Box<[Line]>>]>,
}

/// A cache line of buckets: hash 32 | handle 32; 0 is empty, for no handle is 0.
#[cfg_attr(not(feature = "loom"), repr(align(64)))]
struct Line([AtomicU64; WIDTH]);

impl Lines {
    /// Bytes of the directory of an array that can grow to `entries`.
    pub(super) fn directory_bytes(entries: u64) -> u64 {
        (segments_for(entries) * size_of::<OnceLock<Box<[Line]>>>()) as u64
    }

    /// An empty array, which can grow to at least `entries`.
    pub(super) fn new(entries: u64) -> Lines {
        Lines {
            sequence: AtomicU64::new(0),
            lines: AtomicU32::new(0),
            segments: (0..segments_for(entries))
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    /// Bytes of the segments.
    pub(super) fn bytes(&self) -> u64 {
        (self.lines() * size_of::<Line>()) as u64
    }

    /// The sequence counter, at a reader's start.
    pub(super) fn sequence(&self) -> u64 {
        // Acquire: what the last writer left, at least.
        self.sequence.load(Ordering::Acquire)
    }

    /// Whether no writer was at work since `before` was read: then a miss is a miss.
    pub(super) fn stood_still(&self, before: u64) -> bool {
        // A bucket's load acquires and its store releases: whoever read one that a writer
        // stored after `before` sees that writer's odd number here, or a later one.
        before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before
    }

    /// Shows every candidate under a hash to `probe`, beside writers. What it finds is to
    /// be proven by `probe`, that it finds nothing by [`Lines::stood_still`].
    pub(super) fn scan<T>(&self, hash: u32, mut probe: impl FnMut(Handle) -> Probe<T>) -> Probe<T> {
        let lines = self.lines();
        let mut result = Probe::Other;
        for line in home_line(hash, lines)..lines {
            // Not there: beside a growth.
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

    /// The last handle under a hash in the first of the lines where it would be.
    pub(super) fn touch(&self, hash: u32) -> Option<Handle> {
        let line = self.line(home_line(hash, self.lines()))?;
        let mut words = line.0.iter().map(|word| word.load(Ordering::Acquire));
        let there = words.rfind(|word| high32(*word) == hash)?;
        Handle::from_raw(low32(there))
    }

    /// Has the processor fetch the home of a hash.
    pub(super) fn prefetch(&self, hash: u32) {
        if let Some(line) = self.line(home_line(hash, self.lines())) {
            prefetch(line);
        }
    }

    /// Where a handle lies.
    pub(super) fn position(&self, hash: u32, handle: Handle) -> Option<usize> {
        let wanted = bucket(hash, handle);
        (self.home(hash)..self.capacity())
            .map(|at| (at, self.get(at)))
            .take_while(|&(_, word)| word != 0 && high32(word) <= hash)
            .find(|&(_, word)| word == wanted)
            .map(|(at, _)| at)
    }

    /// Runs a change that readers may see half done.
    pub(super) fn write<T>(&self, change: impl FnOnce() -> T) -> T {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        let result = change();
        self.sequence.store(sequence + 2, Ordering::Release);
        result
    }

    /// Makes room for one entry more under `hash` beside the `count` that there are.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses, or there are no more segments: nothing changed.
    pub(super) fn reserve(&self, hash: u32, count: usize, budget: &dyn Budget) -> Result<(), Full> {
        let now = self.lines();
        if loaded(count, now) || !self.has_gap(hash) {
            self.grow(now, hash, count, budget)?;
        }
        Ok(())
    }

    /// Makes an empty array large enough for `count` entries.
    ///
    /// # Errors
    /// As [`Lines::reserve`].
    pub(super) fn expect(&self, count: usize, budget: &dyn Budget) -> Result<(), Full> {
        match count.checked_sub(1) {
            Some(count) if loaded(count, self.lines()) => self.grow(self.lines(), 0, count, budget),
            _ => Ok(()),
        }
    }

    /// Puts an entry where its hash belongs, shifting what is behind; room was made.
    pub(super) fn place(&self, hash: u32, handle: Handle) {
        let (mut word, mut displaced) = (bucket(hash, handle), false);
        let lines = self.lines();
        for line in (home_line(hash, lines)..lines).filter_map(|line| self.line(line)) {
            for bucket in &line.0 {
                let there = bucket.load(Ordering::Relaxed);
                // Behind those with an equal hash; then each takes the next one's place.
                if there == 0 || displaced || high32(there) > hash {
                    bucket.store(word, Ordering::Release);
                    if there == 0 {
                        return;
                    }
                    (word, displaced) = (there, true);
                }
            }
        }
        debug_assert!(false, "room was made");
    }

    /// Puts another handle into the bucket at a position.
    pub(super) fn replace(&self, at: usize, hash: u32, handle: Handle) {
        self.set(at, bucket(hash, handle));
    }

    /// Empties a bucket and shifts back what may lie closer to its home.
    pub(super) fn close_gap(&self, mut gap: usize) {
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

    /// Whether there is an empty bucket behind the home of a hash.
    fn has_gap(&self, hash: u32) -> bool {
        let lines = self.lines();
        (home_line(hash, lines)..lines)
            .filter_map(|line| self.line(line))
            .any(|line| line.0.iter().any(|word| word.load(Ordering::Relaxed) == 0))
    }

    /// Adds as many segments as it takes, and spreads the entries over all.
    fn grow(&self, now: usize, hash: u32, count: usize, budget: &dyn Budget) -> Result<(), Full> {
        let mut lines = now;
        while loaded(count, lines) || lines == now || !self.would_fit(lines, hash) {
            lines += segment_lines(segment_of(lines).0);
        }
        let added = segment_of(now).0..segment_of(lines).0;
        let (Some(segments), Ok(in_use)) = (self.segments.get(added.clone()), u32::try_from(lines))
        else {
            return Err(Full { bytes: 0 });
        };
        let bytes = ((lines - now) * size_of::<Line>()) as u64;
        if !budget.charge(bytes) {
            return Err(Full { bytes });
        }
        for (segment, number) in segments.iter().zip(added) {
            segment.get_or_init(|| (0..segment_lines(number)).map(|_| Line::empty()).collect());
        }
        self.write(|| {
            self.lines.store(in_use, Ordering::Release);
            self.spread(now);
        });
        Ok(())
    }

    /// Whether all entries and one more under `hash` find places among `lines` lines, which are more
    /// than there are.
    ///
    /// They do where no entry's home lies closer to the end than it and those behind it take. As they
    /// all fit now, that can only be wrong at the end: the home of a hash that is a part `h` of the
    /// greatest moves away by `h` of the lines that are added, and the end by all of them; so of those
    /// with `h` below 1 - 3 / added no one needs to be looked at.
    fn would_fit(&self, lines: usize, hash: u32) -> bool {
        let now = self.lines();
        let (homes, capacity) = (homes_of(lines), lines * WIDTH);
        let added = u32::try_from(lines - now).unwrap_or(1);
        let closest = (u32::MAX / added)
            .checked_mul(3)
            .map_or(0, |end| u32::MAX - end);
        let (mut behind, mut more) = (0, Some(hash));
        let mut step = |hash| {
            behind += 1;
            scaled(hash, homes) * WIDTH + behind <= capacity
        };
        for line in (0..now).rev().filter_map(|line| self.line(line)) {
            for bucket in line.0.iter().rev() {
                let word = bucket.load(Ordering::Relaxed);
                if word == 0 {
                    continue;
                }
                if let Some(more) = more.take_if(|more| *more >= high32(word))
                    && !step(more)
                {
                    return false;
                }
                if high32(word) < closest {
                    return true;
                }
                if !step(high32(word)) {
                    return false;
                }
            }
        }
        more.is_none_or(step)
    }

    /// Re-places all entries, which lie in the first `from` lines and were placed for so
    /// few: first packs them at the array's end, which moves none of them left, then deals
    /// them out from its start, which, as they fit, moves none of them right. Keeps them
    /// sorted, needs no memory.
    fn spread(&self, from: usize) {
        let lines = self.lines();
        let homes = homes_of(lines);
        let mut packed = lines * WIDTH;
        let mut to = Cursor::new(self);
        for line in (0..from).rev().filter_map(|line| self.line(line)) {
            for bucket in line.0.iter().rev() {
                let word = bucket.load(Ordering::Relaxed);
                if word != 0 {
                    bucket.store(0, Ordering::Release);
                    packed -= 1;
                    to.set(packed, word);
                }
            }
        }
        let mut next = 0;
        for line in (packed / WIDTH..lines).filter_map(|line| self.line(line)) {
            for bucket in &line.0 {
                let word = bucket.load(Ordering::Relaxed);
                if word != 0 {
                    bucket.store(0, Ordering::Release);
                    let place = next.max(scaled(high32(word), homes) * WIDTH);
                    debug_assert!(place <= packed, "they fit");
                    to.set(place, word);
                    (next, packed) = (place + 1, packed + 1);
                }
            }
        }
    }

    /// Position of the first bucket of a hash's home.
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

/// Sets buckets that lie close together one after the other, without looking for each one's line.
struct Cursor<'a> {
    lines: &'a Lines,
    number: usize,
    line: Option<&'a Line>,
}

impl<'a> Cursor<'a> {
    fn new(lines: &'a Lines) -> Cursor<'a> {
        let line = lines.line(0);
        Cursor {
            lines,
            number: 0,
            line,
        }
    }

    fn set(&mut self, at: usize, word: u64) {
        if at / WIDTH != self.number {
            self.number = at / WIDTH;
            self.line = self.lines.line(self.number);
        }
        if let Some(line) = self.line {
            line.0[at % WIDTH].store(word, Ordering::Release);
        }
    }
}

impl Line {
    fn empty() -> Line {
        Line(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Whether one entry more is too many for `lines` lines.
fn loaded(count: usize, lines: usize) -> bool {
    (count + 1) * LOAD_DENOMINATOR > lines * WIDTH * LOAD_NUMERATOR
}

/// The home of a hash among `lines` lines.
fn home_line(hash: u32, lines: usize) -> usize {
    scaled(hash, homes_of(lines))
}

/// Lines that are homes. The last ones are nobody's, so that the array need not wrap around: what
/// comes last in order overflows into them.
fn homes_of(lines: usize) -> usize {
    lines - (lines / 32).clamp(1, 8).min(lines)
}

fn scaled(hash: u32, homes: usize) -> usize {
    usize::try_from((u64::from(hash) * homes as u64) >> 32).unwrap_or(0)
}

/// Segment and offset of a line: behind the first segment, four to a doubling, so that an
/// array grows by 14 to 25 %.
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

/// Segments of an array that can grow to `entries`: twice as many lines as they need.
fn segments_for(entries: u64) -> usize {
    let lines = usize::try_from(entries)
        .unwrap_or(usize::MAX / 4)
        .div_ceil(WIDTH)
        * 2;
    segment_of(lines).0 + 1
}

fn bucket(hash: u32, handle: Handle) -> u64 {
    u64::from(hash) << 32 | u64::from(handle.get())
}

fn high32(word: u64) -> u32 {
    low32(word >> 32)
}
