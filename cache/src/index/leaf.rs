//! A block of an order: up to 256 handles in key order, searched by reading one key.
//!
//! Beside each handle lies the first bit in which its key differs from the one before: a bit tree
//! (D. Ferguson, "Bit-Tree", Communications of the ACM 35, 1992). It says which bits of a key tell
//! those of the leaf apart, so that a search goes by these alone and comes to one entry: the one that
//! has the key, or one with which the key has as much in common as with any. Where the two differ is
//! where the key belongs. That holds whatever the keys are made of. An insert writes two of these
//! numbers and a removal one, and neither reads another key. Six bytes an entry.

use std::cmp::Ordering;

use super::order::Keys;
use super::record::Handle;

/// Entries of a full leaf.
pub(super) const LEAF_MAX: usize = 256;
/// Entries that are looked at for a handle that is probably near.
const NEAR: usize = 8;

/// A sorted block of entries.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Greater than all keys of the leaf before, not greater than any of this one's; empty
    /// in the first leaf of all.
    pub(super) low: Box<[u8]>,
    items: Vec<Item>,
}

/// A handle, and where its key differs from the one before in the leaf. The first one's says nothing.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(2))]
struct Item {
    handle: Handle,
    differs: Bit,
}

/// Where a key that is not there belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Before this one.
    pub(super) at: usize,
    /// Where it differs from the neighbour that it has more in common with.
    differs: Bit,
    /// Whether that is the one before.
    behind: bool,
}

/// A bit of a key, counted from its first byte's highest; a byte has one more, which comes first and
/// says that there is such a byte. Keys have fewer than 4,096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bit(u16);

impl Leaf {
    /// A leaf of one entry.
    pub(super) fn new(low: Box<[u8]>, handle: Handle) -> Leaf {
        let mut items = Vec::new();
        items.reserve_exact(room_for(1));
        let differs = Bit::FIRST;
        items.push(Item { handle, differs });
        Leaf { low, items }
    }

    /// Where a key is, or where it belongs.
    pub(super) fn search(&self, key: &[u8], keys: &impl Keys) -> Result<usize, Gap> {
        self.settle(self.nearest(key), key, keys)
    }

    /// The entry that has a key, or one that has most in common with it: the one that a search reads.
    pub(super) fn nearest(&self, key: &[u8]) -> usize {
        self.candidate(0, Bit::FIRST, key)
    }

    /// As [`Leaf::search`], from the entry before `at` on: where the key comes next to it, no other
    /// one's is read.
    pub(super) fn search_near(
        &self,
        at: usize,
        key: &[u8],
        keys: &impl Keys,
    ) -> Result<usize, Gap> {
        let near = at.clamp(1, self.len()) - 1;
        let gap = match self.settle(near, key, keys) {
            Err(gap) => gap,
            found => return found,
        };
        let there = |item: &&Item| gap.at > 0 && { item.differs } == gap.differs;
        if self.items.get(gap.at).filter(there).is_none() {
            return Err(gap);
        }
        // The key belongs among the others on the far side of the gap: what was read is not of those.
        let from = if gap.behind {
            gap.at
        } else {
            self.first_near(gap.at - 1, gap.differs)
        };
        self.settle(self.candidate(from, gap.differs, key), key, keys)
    }

    /// Where a handle is, if that is one of the next from `at` on.
    pub(super) fn find_near(&self, at: usize, handle: Handle) -> Option<usize> {
        let mut near = self.items.iter().skip(at).take(NEAR);
        // The field is copied out: no reference to it would be aligned.
        near.position(|item| { item.handle } == handle)
            .map(|near| at + near)
    }

    /// Where a handle is.
    pub(super) fn find(&self, handle: Handle) -> Option<usize> {
        (self.items.iter()).position(|item| { item.handle } == handle)
    }

    /// Adds an entry where [`Leaf::search`] said it belongs.
    pub(super) fn insert(&mut self, gap: Gap, handle: Handle) {
        let len = self.items.len();
        if len == self.items.capacity() {
            self.items.reserve_exact(room_for(len) - len);
        }
        let mut differs = gap.differs;
        if !gap.behind
            && let Some(next) = self.items.get_mut(gap.at)
        {
            differs = next.differs;
            next.differs = gap.differs;
        }
        self.items.insert(gap.at, Item { handle, differs });
    }

    /// Puts another handle in the place of one with the same key, and returns that.
    pub(super) fn replace(&mut self, at: usize, handle: Handle) -> Handle {
        let old = self.items[at].handle;
        self.items[at].handle = handle;
        old
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: usize) {
        let gone = self.items.remove(at);
        if let Some(next) = self.items.get_mut(at) {
            next.differs = gone.differs.min(next.differs);
        }
        let room = room_for(self.items.len());
        if self.items.capacity() > room + room / 16 + 4 {
            self.items.shrink_to(room);
        }
    }

    /// Takes the upper half into a leaf of its own. `new` is an entry whose key may not be read yet,
    /// and the key.
    pub(super) fn split(&mut self, new: (Handle, &[u8]), keys: &impl Keys) -> Leaf {
        let half = self.items.len() / 2;
        let Item { handle, differs } = self.items[half];
        let low = |key: &[u8]| separator(key, differs);
        let low = if handle == new.0 {
            low(new.1)
        } else {
            keys.with_key(handle, low)
        };
        let mut items = Vec::new();
        items.reserve_exact(room_for(self.items.len() - half));
        items.extend_from_slice(&self.items[half..]);
        self.items.truncate(half);
        self.items.shrink_to(room_for(half));
        Leaf { low, items }
    }

    /// Takes in all of the leaf behind it.
    pub(super) fn merge(&mut self, next: &Leaf, keys: &impl Keys) {
        let room = room_for(self.items.len() + next.items.len());
        self.items.reserve_exact(room - self.items.len());
        let behind = self.items.len();
        self.items.extend_from_slice(&next.items);
        if let (Some(last), Some(first)) = (self.handle(behind.wrapping_sub(1)), next.handle(0)) {
            let (_, differs) = keys.with_key(last, |last| {
                keys.with_key(first, |first| compare(last, first))
            });
            self.items[behind].differs = differs;
        }
    }

    pub(super) fn handle(&self, at: usize) -> Option<Handle> {
        self.items.get(at).map(|item| item.handle)
    }

    pub(super) fn last(&self) -> Option<Handle> {
        self.items.last().map(|item| item.handle)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes that adding `more` entries allocates at most, beside the entries' keys.
    pub(super) fn growth(&self, more: usize) -> u64 {
        let wanted = self.items.len() + more;
        let room = if wanted > self.items.capacity() {
            room_for(wanted)
        } else {
            0
        };
        (room.saturating_sub(self.items.capacity()) * size_of::<Item>()) as u64
    }

    /// Bytes that the items of a leaf take at most, with one too many.
    pub(super) fn items_bytes_max() -> u64 {
        (room_for(LEAF_MAX + 1) * size_of::<Item>()) as u64
    }

    /// Bytes held outside the struct itself.
    pub(super) fn bytes(&self) -> u64 {
        (self.items.capacity() * size_of::<Item>() + self.low.len()) as u64
    }

    /// Of the entries from `from` on that differ from the one before behind `above`: the one that has
    /// the key, if any has, or one with which it has most in common.
    fn candidate(&self, from: usize, above: Bit, key: &[u8]) -> usize {
        let mut found = from;
        let mut skipped = Bit::LAST;
        for (at, item) in self.items.iter().enumerate().skip(from + 1) {
            let differs = item.differs;
            if differs > skipped {
                // Among those that have a bit that the key has not.
                continue;
            }
            if differs <= above {
                break;
            }
            if differs.is_set(key) {
                (found, skipped) = (at, Bit::LAST);
            } else {
                skipped = differs;
            }
        }
        found
    }

    /// Where a key is, or where it belongs, by its candidate.
    fn settle(&self, found: usize, key: &[u8], keys: &impl Keys) -> Result<usize, Gap> {
        let handle = self.items[found].handle;
        let (order, differs) = keys.with_key(handle, |there| compare(there, key));
        // Past those that have more in common with what was found than the key has.
        let near = |item: &&Item| { item.differs } > differs;
        let (at, behind) = match order {
            Ordering::Equal => return Ok(found),
            Ordering::Less => {
                let items = self.items[found + 1..].iter();
                (found + 1 + items.take_while(near).count(), true)
            }
            Ordering::Greater => (self.first_near(found, differs), false),
        };
        Err(Gap {
            at,
            differs,
            behind,
        })
    }

    /// The first of those up to `at` that have more in common with it than their bits before `differs`
    /// and that one.
    fn first_near(&self, at: usize, differs: Bit) -> usize {
        let before = self.items[1..=at].iter().rev();
        at - before.take_while(|item| { item.differs } > differs).count()
    }
}

impl Gap {
    /// The lower bound of a leaf that begins with the key, behind one that ends before the gap.
    pub(super) fn low(self, key: &[u8]) -> Box<[u8]> {
        separator(key, self.differs)
    }
}

impl Bit {
    /// Before those that two keys can differ in.
    const FIRST: Bit = Bit(0);
    const LAST: Bit = Bit(u16::MAX);
    /// Bits of a byte's number in one of these, and how many bits a byte has.
    const SHIFT: u32 = 4;
    const WIDTH: u16 = 9;

    /// Which bit of a byte, where a key has one.
    fn in_byte(byte: usize, bit: u16) -> Bit {
        let byte = u16::try_from(byte).unwrap_or(u16::MAX);
        Bit(byte.saturating_mul(1 << Bit::SHIFT).saturating_add(bit + 1))
    }

    fn byte(self) -> usize {
        usize::from(self.0 >> Bit::SHIFT)
    }

    fn is_set(self, key: &[u8]) -> bool {
        let bit = self.0 & ((1 << Bit::SHIFT) - 1);
        bits_of(key, self.byte()) >> (Bit::WIDTH - bit) & 1 != 0
    }
}

/// A byte's bits: that it is there, and its own.
fn bits_of(key: &[u8], byte: usize) -> u16 {
    key.get(byte).map_or(0, |&byte| 0x100 | u16::from(byte))
}

/// How one key compares to another, and the first bit in which they differ.
fn compare(one: &[u8], other: &[u8]) -> (Ordering, Bit) {
    let byte = common(one, other);
    let [one, other] = [one, other].map(|key| bits_of(key, byte));
    let bit = (one ^ other).leading_zeros() - (u16::BITS - u32::from(Bit::WIDTH));
    let bit = u16::try_from(bit).unwrap_or(Bit::WIDTH);
    (one.cmp(&other), Bit::in_byte(byte, bit))
}

/// The shortest beginning of a key that is greater than another one, from which it `differs` there.
fn separator(key: &[u8], differs: Bit) -> Box<[u8]> {
    key[..key.len().min(differs.byte() + 1)].into()
}

/// Length of the common prefix.
fn common(one: &[u8], other: &[u8]) -> usize {
    // Eight at a time, as far as that goes.
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let same = 8 * words.take_while(|(one, other)| one == other).count();
    let bytes = one[same..].iter().zip(&other[same..]);
    same + bytes.take_while(|(one, other)| one == other).count()
}

/// Capacity for so many entries: little to spare, for there are many leaves.
fn room_for(len: usize) -> usize {
    len + len / 16 + 4
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key by its handle.
    struct Names(Vec<Vec<u8>>);

    impl Names {
        fn add(&mut self, key: &[u8]) -> Handle {
            self.0.push(key.to_vec());
            Handle::from_raw(u32::try_from(self.0.len()).unwrap()).unwrap()
        }
    }

    impl Keys for Names {
        fn with_key<R>(&self, handle: Handle, with: impl FnOnce(&[u8]) -> R) -> R {
            with(&self.0[handle.get() as usize - 1])
        }
    }

    /// Its numbers are what the keys say.
    fn check(leaf: &Leaf, names: &Names) {
        for pair in leaf.items.windows(2) {
            let [before, after] = [pair[0].handle, pair[1].handle];
            let compared = names.with_key(before, |before| {
                names.with_key(after, |key| compare(before, key))
            });
            assert_eq!(compared, (Ordering::Less, { pair[1].differs }));
        }
    }

    #[test]
    fn sizes_are_what_the_memory_budget_counts_on() {
        assert_eq!((size_of::<Item>(), size_of::<Leaf>()), (6, 40));
    }

    #[test]
    fn the_longest_keys_differ_in_their_last_bit() {
        let [one, other] = [b'a', b'`'].map(|last| [&[b'x'; 1023][..], &[last]].concat());
        let (order, bit) = compare(&one, &other);
        assert_eq!((order, bit.byte()), (Ordering::Greater, 1023));
        assert!(bit.is_set(&one) && !bit.is_set(&other));
        let (order, bit) = compare(&one[..1023], &one);
        assert_eq!((order, bit.byte()), (Ordering::Less, 1023));
        assert!(bit.is_set(&one) && !bit.is_set(&one[..1023]));
    }

    /// Any bytes, few of them different; some only begin like others.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0), Just(1), Just(b'a'), Just(b'b'), any::<u8>()];
        proptest::collection::vec(byte, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// A leaf agrees with a sorted vector: where keys are and belong, from the start and from any
        /// place before, through inserts, removals, a split and a merge.
        #[test]
        fn agrees_with_a_sorted_vector(
            steps in proptest::collection::vec((any_key(), any::<bool>(), 0..200_usize), 2..120),
            asked in proptest::collection::vec((any_key(), 0..100_usize), 20),
        ) {
            let mut names = Names(Vec::new());
            let first = names.add(&steps[0].0);
            let mut leaf = Leaf::new(Box::default(), first);
            let mut model = vec![(steps[0].0.clone(), first)];
            for (key, removes, from) in &steps[1..] {
                let handle = names.add(key);
                let there = model.binary_search_by(|(there, _)| there.cmp(key));
                let found = match from % 2 {
                    0 => leaf.search(key, &names),
                    _ => leaf.search_near(from / 2 % (leaf.len() + 1), key, &names),
                };
                match found {
                    Ok(at) => {
                        prop_assert_eq!(Ok(at), there);
                        if *removes && leaf.len() > 1 {
                            prop_assert_eq!(leaf.find(model[at].1), Some(at));
                            leaf.remove(at);
                            model.remove(at);
                        } else {
                            prop_assert_eq!(leaf.replace(at, handle), model[at].1);
                            model[at].1 = handle;
                        }
                    }
                    Err(gap) => {
                        prop_assert_eq!(Err(gap.at), there);
                        leaf.insert(gap, handle);
                        model.insert(gap.at, (key.clone(), handle));
                    }
                }
                check(&leaf, &names);
            }
            for (key, from) in &asked {
                let there = model.binary_search_by(|(there, _)| there.cmp(key));
                prop_assert_eq!(leaf.search(key, &names).map_err(|gap| gap.at), there);
                let behind = leaf.search_near(from % (leaf.len() + 1), key, &names);
                prop_assert_eq!(behind.map_err(|gap| gap.at), there);
            }
            if leaf.len() > 1 {
                let nobody = (Handle::from_raw(u32::MAX).unwrap(), &b""[..]);
                let right = leaf.split(nobody, &names);
                let at = leaf.len();
                prop_assert!(model[at - 1].0[..] < *right.low && *right.low <= model[at].0[..]);
                check(&right, &names);
                leaf.merge(&right, &names);
                check(&leaf, &names);
            }
            let handles: Vec<_> = (0..leaf.len()).filter_map(|at| leaf.handle(at)).collect();
            prop_assert_eq!(handles, model.iter().map(|(_, handle)| *handle).collect::<Vec<_>>());
        }

        #[test]
        fn keys_compare_as_their_bytes_do(keys in proptest::array::uniform2(any_key())) {
            let [one, other] = &keys;
            let (order, bit) = compare(one, other);
            prop_assert_eq!(order, one.cmp(other));
            if order != Ordering::Equal {
                prop_assert_eq!(bit.is_set(one), order == Ordering::Greater);
                prop_assert_eq!(bit.is_set(other), order == Ordering::Less);
            }
        }
    }
}
