//! The handles of one namespace in key order.
//!
//! Sorted leaves of up to 256 handles (`leaf`), in runs of up to 128 leaves, in one list of
//! runs: a B-tree of three levels, of which the middle one is copied a few kilobytes at a
//! time when a leaf is added. Keys stay where they are, in the entries' heads; only each
//! leaf's lower bound is kept here, and which bits tell its keys apart. About 6.6 bytes an entry.
//!
//! Plain and single-threaded: the engine keeps each [`Order`] under a lock of its own, and
//! scans copy handles out of it a step at a time.

use std::ops::Bound;
use std::sync::Arc;

use super::leaf::{Gap, LEAF_MAX, Leaf};
use super::range::{Place, Range, prefix_end};
use super::record::Handle;
use super::{Budget, Full};

/// Leaves of a full run.
const RUN_MAX: usize = 128;
/// A leaf with fewer entries is merged with a neighbour, where both make a light one.
const LEAF_LIGHT: usize = LEAF_MAX * 3 / 8;
const LEAF_MERGED_MAX: usize = LEAF_MAX * 5 / 8;
/// Memory charged ahead by an order that is larger than a leaf, so that the budget is not
/// asked for every entry.
const AHEAD: u64 = 16 << 10;
/// The longest key, for what a split may take at most.
const KEY_BYTES_MAX: usize = 1024;

/// Reads the keys that handles stand for.
pub trait Keys {
    /// Calls `with` with the key of an entry that is in the order. It is live, but may be
    /// moving: then this waits. Calls may nest.
    fn with_key<R>(&self, handle: Handle, with: impl FnOnce(&[u8]) -> R) -> R;
}

/// Handles sorted by their entries' keys, as bytes.
pub struct Order {
    runs: Vec<Run>,
    len: u64,
    /// Bytes of runs and leaves, and of what the leaves hold.
    outline: u64,
    leaves: u64,
    charged: u64,
    budget: Arc<dyn Budget>,
}

/// About where a key belongs, behind an entry: see [`Order::insert_near`]. A hint.
#[derive(Debug, Default, Clone, Copy)]
pub struct Finger(Option<Place>);

impl Finger {
    /// This one, or another where it says nothing.
    #[must_use]
    pub fn or(self, other: Finger) -> Finger {
        Finger(self.0.or(other.0))
    }
}

/// Consecutive leaves; never none.
pub(super) type Run = Vec<Leaf>;

impl Order {
    /// An empty order, which holds no memory yet.
    pub fn new(budget: Arc<dyn Budget>) -> Order {
        Order {
            runs: Vec::new(),
            len: 0,
            outline: 0,
            leaves: 0,
            charged: 0,
            budget,
        }
    }

    /// Adds an entry, or puts it in the place of the one with the same key, which is then
    /// returned; that never fails.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses: nothing has changed.
    pub fn insert(
        &mut self,
        key: &[u8],
        handle: Handle,
        keys: &impl Keys,
    ) -> Result<Option<Handle>, Full> {
        self.insert_near(&mut Finger::default(), key, handle, keys)
    }

    /// As [`Order::insert`], where `finger` says about where that is, as of [`Order::fingers`] or of
    /// the key before in order. It says then where the entry is.
    ///
    /// # Errors
    /// As [`Order::insert`].
    pub fn insert_near(
        &mut self,
        finger: &mut Finger,
        key: &[u8],
        handle: Handle,
        keys: &impl Keys,
    ) -> Result<Option<Handle>, Full> {
        if self.runs.is_empty() {
            self.ensure(192)?;
            let leaf = Leaf::new(Box::default(), handle);
            self.leaves += leaf.bytes();
            self.add_leaf(0, 0, leaf);
            self.len = 1;
            finger.0 = Some((0, 0, 1));
            return Ok(None);
        }
        let near = finger.0.take();
        let near = near.filter(|&(run, leaf, _)| self.belongs(run, leaf, key));
        let (run, leaf) = near.map_or_else(|| self.locate(key), |(run, leaf, _)| (run, leaf));
        let there = &mut self.runs[run][leaf];
        let found = match near {
            Some((_, _, at)) => there.search_near(at, key, keys),
            None => there.search(key, keys),
        };
        let gap = match found {
            Ok(at) => {
                finger.0 = Some((run, leaf, at + 1));
                return Ok(Some(there.replace(at, handle)));
            }
            Err(gap) => gap,
        };
        let (run, leaf, at) = if there.len() < LEAF_MAX {
            let bytes = there.growth(1);
            self.ensure(bytes)?;
            self.insert_at((run, leaf), gap, handle);
            (run, leaf, gap.at)
        } else {
            self.insert_full((run, leaf), gap, (handle, key), keys)?
        };
        finger.0 = Some((run, leaf, at + 1));
        self.len += 1;
        Ok(None)
    }

    /// Where to look for each of several keys in ascending order, with nothing read: at the entries
    /// that [`Order::at`] gives. None for a key that belongs in the leaf of the one before.
    pub fn fingers<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Finger> {
        let mut before = None;
        let finger = |key| {
            if self.runs.is_empty()
                || before.is_some_and(|(run, leaf)| self.ends_behind(run, leaf, key))
            {
                return Finger::default();
            }
            let (run, leaf) = self.locate(key);
            before = Some((run, leaf));
            Finger(Some((run, leaf, self.runs[run][leaf].nearest(key) + 1)))
        };
        keys.map(finger).collect()
    }

    /// The entry that a finger says a key is near to.
    pub fn at(&self, finger: Finger) -> Option<Handle> {
        let (run, leaf, at) = finger.0?;
        self.runs.get(run)?.get(leaf)?.handle(at.checked_sub(1)?)
    }

    /// Puts `new` in the place of `old`, an entry with the same key, where that is at the
    /// finger or right behind it; `false` where it is not, and nothing has changed. It reads no key.
    pub fn replace_near(&mut self, finger: &mut Finger, old: Handle, new: Handle) -> bool {
        let Some((run, leaf, at)) = finger.0 else {
            return false;
        };
        let there = self.runs.get_mut(run).and_then(|run| run.get_mut(leaf));
        let Some((there, at)) =
            there.and_then(|there| there.find_near(at - 1, old).map(|at| (there, at)))
        else {
            return false;
        };
        there.replace(at, new);
        finger.0 = Some((run, leaf, at + 1));
        true
    }

    /// Takes an entry out; `false` where the handle is not there under this key.
    pub fn remove(&mut self, key: &[u8], handle: Handle, keys: &impl Keys) -> bool {
        if self.runs.is_empty() {
            return false;
        }
        let (run, leaf) = self.locate(key);
        let there = &mut self.runs[run][leaf];
        let before = there.bytes();
        let Some(at) = there
            .find(handle)
            .filter(|_| keys.with_key(handle, |there| there == key))
        else {
            return false;
        };
        there.remove(at);
        self.leaves = self.leaves + there.bytes() - before;
        self.len -= 1;
        if there.len() == 0 {
            self.drop_leaf(run, leaf);
        } else if there.len() < LEAF_LIGHT {
            self.merge_light(run, leaf, keys);
        }
        self.give_back();
        true
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Some entry, by a number drawn at random: each nearly as likely as any other.
    pub fn draw(&self, drawn: u64) -> Option<Handle> {
        let below = |bits: u64, len: usize| usize::try_from(bits % len.max(1) as u64).unwrap_or(0);
        let run = self.runs.get(below(drawn & 0xff_ffff, self.runs.len()))?;
        let leaf = run.get(below(drawn >> 24 & 0xffff, run.len()))?;
        leaf.handle(below(drawn >> 40, leaf.len()))
    }

    /// The entry with the smallest key.
    pub fn first(&self) -> Option<Handle> {
        self.runs.first()?.first()?.handle(0)
    }

    /// The entry with the largest key.
    pub fn last(&self) -> Option<Handle> {
        self.runs.last()?.last()?.last()
    }

    /// The entries whose keys lie between the bounds, in order.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, keys: &impl Keys) -> Range<'_> {
        let start = match from {
            Bound::Unbounded => (0, 0, 0),
            Bound::Included(key) => self.seek(key, false, keys),
            Bound::Excluded(key) => self.seek(key, true, keys),
        };
        let end = match to {
            Bound::Unbounded => (self.runs.len(), 0, 0),
            Bound::Included(key) => self.seek(key, true, keys),
            Bound::Excluded(key) => self.seek(key, false, keys),
        };
        Range::new(&self.runs, start, end)
    }

    /// The entries whose keys begin with `prefix`, behind the key `after` if one is given.
    pub fn prefix(&self, prefix: &[u8], after: Option<&[u8]>, keys: &impl Keys) -> Range<'_> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let end = prefix_end(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(from, to, keys)
    }

    /// Bytes held. A few kilobytes more may be charged ahead.
    pub fn bytes(&self) -> u64 {
        self.outline + self.leaves
    }

    /// The leaf that a key belongs to.
    fn locate(&self, key: &[u8]) -> (usize, usize) {
        let run = self
            .runs
            .partition_point(|run| run.first().is_some_and(|leaf| *leaf.low <= *key));
        let run = run.saturating_sub(1);
        let leaf = self.runs[run].partition_point(|leaf| *leaf.low <= *key);
        (run, leaf.saturating_sub(1))
    }

    /// The place of the first key not before `key`, or behind it.
    fn seek(&self, key: &[u8], behind: bool, keys: &impl Keys) -> Place {
        if self.runs.is_empty() {
            return (0, 0, 0);
        }
        let (run, leaf) = self.locate(key);
        match self.runs[run][leaf].search(key, keys) {
            Ok(at) => (run, leaf, at + usize::from(behind)),
            Err(gap) => (run, leaf, gap.at),
        }
    }

    /// Whether a key belongs in a leaf, if there is one.
    fn belongs(&self, run: usize, leaf: usize, key: &[u8]) -> bool {
        let there = self.runs.get(run).and_then(|run| run.get(leaf));
        there.is_some_and(|there| *there.low <= *key) && self.ends_behind(run, leaf, key)
    }

    /// Whether a key that does not come before a leaf comes before the next one.
    fn ends_behind(&self, run: usize, leaf: usize, key: &[u8]) -> bool {
        let in_run = self.runs.get(run).and_then(|run| run.get(leaf + 1));
        let next = in_run.or_else(|| self.runs.get(run + 1)?.first());
        next.is_none_or(|next| *key < *next.low)
    }

    fn insert_at(&mut self, (run, leaf): (usize, usize), gap: Gap, handle: Handle) {
        let there = &mut self.runs[run][leaf];
        let before = there.bytes();
        there.insert(gap, handle);
        self.leaves = self.leaves + there.bytes() - before;
    }

    /// Inserts into a full leaf: behind its last, as where keys come in order, begins a new leaf;
    /// any other is split. Tells where the entry is.
    fn insert_full(
        &mut self,
        (run, leaf): (usize, usize),
        gap: Gap,
        new: (Handle, &[u8]),
        keys: &impl Keys,
    ) -> Result<Place, Full> {
        let (handle, key) = new;
        self.ensure(self.split_bytes(run))?;
        if gap.at == LEAF_MAX {
            let next = Leaf::new(gap.low(key), handle);
            self.leaves += next.bytes();
            let (run, leaf) = self.add_leaf(run, leaf + 1, next);
            return Ok((run, leaf, 0));
        }
        let there = &mut self.runs[run][leaf];
        let before = there.bytes();
        there.insert(gap, handle);
        let next = there.split(new, keys);
        let left = there.len();
        self.leaves = self.leaves + there.bytes() + next.bytes() - before;
        let (right_run, right) = self.add_leaf(run, leaf + 1, next);
        Ok(match gap.at.checked_sub(left) {
            Some(at) => (right_run, right, at),
            // Before the new one, wherever that is now.
            None if right > 0 => (right_run, right - 1, gap.at),
            None => (run, leaf, gap.at),
        })
    }

    /// Adds a leaf to a run, which is split when it is too long; tells where the leaf is.
    fn add_leaf(&mut self, run: usize, at: usize, leaf: Leaf) -> (usize, usize) {
        if self.runs.is_empty() {
            reserve(&mut self.runs, 1);
            self.runs.push(Vec::new());
        }
        let leaves = &mut self.runs[run];
        reserve(leaves, 1);
        leaves.insert(at, leaf);
        let half = leaves.len() / 2;
        let mut place = (run, at);
        if leaves.len() > RUN_MAX {
            // Where keys come in order, a full run stays full.
            let keep = if at == RUN_MAX { RUN_MAX } else { half };
            let mut upper = Vec::new();
            reserve(&mut upper, leaves.len() - keep);
            upper.extend(leaves.drain(keep..));
            leaves.shrink_to(leaves.len() + 1);
            reserve(&mut self.runs, 1);
            self.runs.insert(run + 1, upper);
            if at >= keep {
                place = (run + 1, at - keep);
            }
        }
        self.measure_outline();
        place
    }

    /// Drops an empty leaf, and its run if that was the last one in it.
    fn drop_leaf(&mut self, run: usize, leaf: usize) {
        let gone = self.runs[run].remove(leaf);
        self.leaves -= gone.bytes();
        if self.runs[run].is_empty() {
            self.runs.remove(run);
            self.runs.shrink_to(self.runs.len() * 9 / 8);
        }
        if let Some(first) = self.runs.first_mut().and_then(|run| run.first_mut()) {
            self.leaves -= first.low.len() as u64;
            first.low = Box::default();
        }
        self.measure_outline();
    }

    /// Merges a leaf that has become light with a neighbour, and its run likewise, where
    /// there is a neighbour that is light enough, and memory to do it.
    fn merge_light(&mut self, run: usize, leaf: usize, keys: &impl Keys) {
        let leaves = &self.runs[run];
        let fits = |&left: &usize| {
            leaves
                .get(left + 1)
                .is_some_and(|right| leaves[left].len() + right.len() <= LEAF_MERGED_MAX)
        };
        let Some(left) = [leaf, leaf.wrapping_sub(1)]
            .into_iter()
            .filter(|&left| left < leaves.len())
            .find(fits)
        else {
            return;
        };
        let bytes = leaves[left].growth(leaves[left + 1].len());
        if self.ensure(bytes).is_err() {
            return;
        }
        let leaves = &mut self.runs[run];
        let right = leaves.remove(left + 1);
        let before = leaves[left].bytes() + right.bytes();
        leaves[left].merge(&right, keys);
        self.leaves = self.leaves + leaves[left].bytes() - before;
        leaves.shrink_to(leaves.len() * 9 / 8 + 1);
        self.merge_short_run(run);
        self.measure_outline();
    }

    fn merge_short_run(&mut self, run: usize) {
        let next = run + 1;
        let both = |next: &Run| self.runs[run].len() + next.len() <= RUN_MAX / 2;
        let room = (RUN_MAX * size_of::<Leaf>()) as u64;
        if self.runs.get(next).is_some_and(both) && self.ensure(room).is_ok() {
            let tail = self.runs.remove(next);
            let leaves = &mut self.runs[run];
            leaves.reserve_exact(tail.len());
            leaves.extend(tail);
        }
    }

    /// What a split takes at most: items, a bound, and room for leaves and runs.
    fn split_bytes(&self, run: usize) -> u64 {
        let leaf = size_of::<Leaf>() * (self.runs[run].len() / 8 + 2);
        let run = (RUN_MAX + 2) * size_of::<Leaf>() + size_of::<Run>() * (self.runs.len() / 8 + 2);
        (leaf + run + KEY_BYTES_MAX) as u64 + 2 * Leaf::items_bytes_max()
    }

    fn measure_outline(&mut self) {
        let leaves: usize = self.runs.iter().map(Vec::capacity).sum();
        let bytes = leaves * size_of::<Leaf>() + self.runs.capacity() * size_of::<Run>();
        self.outline = bytes as u64;
    }

    /// Has `bytes` more charged than are held.
    fn ensure(&mut self, bytes: u64) -> Result<(), Full> {
        let wanted = self.bytes() + bytes;
        let Some(short) = wanted.checked_sub(self.charged).filter(|&short| short > 0) else {
            return Ok(());
        };
        let ahead = if self.len > LEAF_MAX as u64 { AHEAD } else { 0 };
        for step in [short + ahead, short] {
            if self.budget.charge(step) {
                self.charged += step;
                return Ok(());
            }
        }
        Err(Full { bytes: short })
    }

    /// Releases what is charged and not near to being needed.
    fn give_back(&mut self) {
        let wanted = self.bytes() + if self.len > LEAF_MAX as u64 { AHEAD } else { 0 };
        let spare = self.charged.saturating_sub(wanted);
        if spare > AHEAD || self.is_empty() {
            self.budget.release(spare);
            self.charged -= spare;
        }
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        self.budget.release(self.charged);
    }
}

/// Makes room for `more` elements, and little beyond.
fn reserve<T>(vec: &mut Vec<T>, more: usize) {
    let wanted = vec.len() + more;
    if wanted > vec.capacity() {
        vec.reserve_exact(more + wanted / 8);
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
#[path = "order_tests.rs"]
mod tests;
