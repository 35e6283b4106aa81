//! A block of an order: up to 512 handles in key order, searched without reading most keys.
//!
//! Beside each handle lie 16 bits of its key's place within the leaf: the bytes behind the
//! prefix that all keys had in common when the leaf was last measured, as a number, scaled
//! linearly between the first key and the last. The map is monotone for every key, also for
//! one that came later or lacks the prefix: it may be coarse, but it is never wrong. A search
//! is a binary search over these numbers, and reads keys only among equals. Six bytes an
//! entry.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::order::Keys;
use super::record::Handle;

/// Entries of a full leaf.
pub(super) const LEAF_MAX: usize = 512;
/// Equals that a search may meet before the leaf is measured anew.
const EQUALS_MAX: usize = 16;
/// Entries that are passed one by one before a search.
const NEAR: usize = 8;
/// Bytes of a key, behind the common prefix, that make its place; fewer where the number
/// would not fit 64 bits.
const DIGITS_MAX: usize = 12;
/// Where keys come in order, so many bytes of the common prefix are taken for digits that will
/// change: those of two leaves' numbers.
const ORDER_DIGITS: usize = 3;

/// A sorted block of entries.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Greater than all keys of the leaf before, not greater than any of this one's; empty
    /// in the first leaf of all.
    pub(super) low: Box<[u8]>,
    scale: Scale,
    items: Vec<Item>,
}

/// A handle and the place of its key.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(2))]
struct Item {
    handle: Handle,
    place: u16,
}

impl Leaf {
    /// A leaf of one entry.
    pub(super) fn new(low: Box<[u8]>, key: &[u8], handle: Handle) -> Leaf {
        let scale = Scale::new(key, key, key.len(), 0..=u8::MAX, 0);
        let mut items = Vec::new();
        items.reserve_exact(room_for(1));
        items.push(Item {
            handle,
            place: scale.place(key),
        });
        Leaf { low, scale, items }
    }

    /// A key's place within the leaf.
    pub(super) fn place(&self, key: &[u8]) -> u16 {
        self.scale.place(key)
    }

    /// Where a key is, or where it belongs; `place` is its place.
    pub(super) fn search(&self, key: &[u8], place: u16, keys: &impl Keys) -> Result<usize, usize> {
        // Keys that come in order go behind the last one, without a search.
        if let Some(last) = self.items.last().filter(|last| last.place <= place)
            && keys.with_key(last.handle, |there| there < key)
        {
            return Err(self.items.len());
        }
        let from = self.items.partition_point(|item| item.place < place);
        let equals = self.items[from..].partition_point(|item| item.place == place);
        self.items[from..from + equals]
            .binary_search_by(|item| keys.with_key(item.handle, |there| there.cmp(key)))
            .map(|at| from + at)
            .map_err(|at| from + at)
    }

    /// As [`Leaf::search`], for a key greater than the one before `at`, probably there or near.
    pub(super) fn search_from(
        &self,
        at: usize,
        key: &[u8],
        place: u16,
        keys: &impl Keys,
    ) -> Result<usize, usize> {
        let mut at = at.min(self.items.len());
        // Of keys that are put by several, each has some and passes those of the others.
        let before = |item: &&Item| item.place < place;
        let passed = self.items[at..].iter().take(NEAR).take_while(before);
        at += passed.count();
        let Some(next) = self.items.get(at).filter(|next| next.place <= place) else {
            return Err(at);
        };
        if next.place == place {
            match keys.with_key(next.handle, |next| next.cmp(key)) {
                Ordering::Equal => return Ok(at),
                Ordering::Greater => return Err(at),
                Ordering::Less => {}
            }
        }
        self.search(key, place, keys)
    }

    /// Where a handle is, if that is one of the next from `at` on.
    pub(super) fn find_near(&self, at: usize, handle: Handle) -> Option<usize> {
        let mut near = self.items.iter().skip(at).take(NEAR);
        // The field is copied out: no reference to it would be aligned.
        near.position(|item| { item.handle } == handle)
            .map(|near| at + near)
    }

    /// Adds an entry where [`Leaf::search`] said it belongs.
    pub(super) fn insert(&mut self, at: usize, place: u16, handle: Handle, keys: &impl Keys) {
        let len = self.items.len();
        if len == self.items.capacity() {
            self.items.reserve_exact(room_for(len) - len);
        }
        self.items.insert(at, Item { handle, place });
        self.scale.added = self.scale.added.saturating_add(1);
        // To measure reads every key. So it is done where many are equal, and then not
        // before a quarter more has come, should that be how the keys are.
        let ripe = usize::from(self.scale.added) >= EQUALS_MAX.max(len / 4);
        if ripe && self.is_crowded(at, place) {
            self.measure(at == len, keys);
        }
    }

    /// Puts another handle in the place of one with the same key, and returns that.
    pub(super) fn replace(&mut self, at: usize, handle: Handle) -> Handle {
        let old = self.items[at].handle;
        self.items[at].handle = handle;
        old
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: usize) {
        self.items.remove(at);
        let room = room_for(self.items.len());
        if self.items.capacity() > room + room / 8 + 8 {
            self.items.shrink_to(room);
        }
    }

    /// Takes the upper half into a leaf of its own.
    pub(super) fn split(&mut self, keys: &impl Keys) -> Leaf {
        let half = self.items.len() / 2;
        let (before, after) = (self.items[half - 1].handle, self.items[half].handle);
        let low = keys.with_key(before, |before| {
            keys.with_key(after, |after| separator(before, after))
        });
        let mut items = Vec::new();
        items.reserve_exact(room_for(self.items.len() - half));
        items.extend_from_slice(&self.items[half..]);
        self.items.truncate(half);
        self.items.shrink_to(room_for(half));
        Leaf {
            low,
            scale: self.scale.clone(),
            items,
        }
    }

    /// Takes in all of the leaf behind it.
    pub(super) fn merge(&mut self, next: &Leaf, keys: &impl Keys) {
        let room = room_for(self.items.len() + next.items.len());
        self.items.reserve_exact(room - self.items.len());
        self.items.extend_from_slice(&next.items);
        self.measure(false, keys);
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

    /// Bytes held outside the struct itself.
    pub(super) fn bytes(&self) -> u64 {
        let boxes = self.low.len() + self.scale.prefix.len();
        (self.items.capacity() * size_of::<Item>() + boxes) as u64
    }

    /// Whether too many entries share the place of the one at `at`.
    fn is_crowded(&self, at: usize, place: u16) -> bool {
        let equal = |item: &&Item| item.place == place;
        let (before, from) = self.items.split_at(at);
        let before = before.iter().rev().take(EQUALS_MAX).take_while(equal);
        let from = from.iter().take(EQUALS_MAX + 1).take_while(equal);
        before.count() + from.count() > EQUALS_MAX
    }

    /// Fits the scale to the keys that are there, and where they come `in_order`, to as many more
    /// as a leaf holds.
    fn measure(&mut self, in_order: bool, keys: &impl Keys) {
        let (Some(first), Some(last)) = (self.handle(0), self.last()) else {
            return;
        };
        let mut prefix = keys.with_key(first, |first| {
            keys.with_key(last, |last| common(first, last))
        });
        let mut room = 0;
        if in_order {
            // Of numbers, the digits that are next to change. Twice the room, because no number
            // ends in the radix's last digits.
            prefix = prefix.saturating_sub(ORDER_DIGITS);
            room = (2 * LEAF_MAX / self.items.len().max(1)).ilog2() + 1;
        }
        let (mut least, mut greatest) = (u8::MAX, 0);
        for item in &self.items {
            keys.with_key(item.handle, |key| {
                for &byte in key.iter().skip(prefix).take(DIGITS_MAX) {
                    (least, greatest) = (least.min(byte), greatest.max(byte));
                }
            });
        }
        let bytes = least.min(greatest)..=greatest;
        self.scale = keys.with_key(first, |first| {
            keys.with_key(last, |last| Scale::new(first, last, prefix, bytes, room))
        });
        for item in &mut self.items {
            item.place = keys.with_key(item.handle, |key| self.scale.place(key));
        }
    }
}

/// Bytes that a scale and a separator hold at most for keys of at most `key` bytes.
pub(super) fn boxes_max(key: usize) -> u64 {
    2 * key as u64
}

/// The shortest key that is greater than `before` and not greater than `after`.
pub(super) fn separator(before: &[u8], after: &[u8]) -> Box<[u8]> {
    after[..after.len().min(common(before, after) + 1)].into()
}

/// How keys become places: behind the common prefix, bytes are digits of a number whose
/// radix is the range of bytes that occur there, because keys made of decimal digits would
/// else spend 16 bits on two of them.
#[derive(Debug, Clone)]
struct Scale {
    /// What all keys had in common.
    prefix: Box<[u8]>,
    /// The number of the first key behind it.
    zero: u64,
    least: u8,
    greatest: u8,
    /// Digits that fit a number.
    digits: u8,
    shift: u8,
    /// Entries added since.
    added: u16,
}

impl Scale {
    /// A scale for keys from `first` to `last`, which begin with `prefix` bytes in common and then
    /// are made of bytes in a range; with `room` for 2 to that power as many, in order.
    fn new(
        first: &[u8],
        last: &[u8],
        prefix: usize,
        bytes: RangeInclusive<u8>,
        room: u32,
    ) -> Scale {
        let (least, greatest) = bytes.into_inner();
        let mut scale = Scale {
            prefix: first[..prefix].into(),
            zero: 0,
            least,
            greatest,
            digits: digits(radix(least, greatest)),
            shift: 0,
            added: 0,
        };
        scale.zero = scale.number(&first[prefix..]);
        let span = scale.number(&last[prefix..]).saturating_sub(scale.zero);
        // Down to 16 bits.
        let shift = (48 + room).saturating_sub(span.leading_zeros()).min(63);
        scale.shift = u8::try_from(shift).unwrap_or(0);
        scale
    }

    fn place(&self, key: &[u8]) -> u16 {
        let (head, tail) = key.split_at(self.prefix.len().min(key.len()));
        match head.cmp(&self.prefix) {
            Ordering::Less => 0,
            Ordering::Greater => u16::MAX,
            Ordering::Equal => {
                let above = self.number(tail).saturating_sub(self.zero) >> self.shift;
                u16::try_from(above).unwrap_or(u16::MAX)
            }
        }
    }

    /// The first bytes as a number. Behind a byte outside the range all digits are the
    /// least or the greatest: so it sorts as the bytes do, or calls them equal.
    fn number(&self, bytes: &[u8]) -> u64 {
        // The end and smaller bytes are 0, greater ones the last digit.
        let radix = radix(self.least, self.greatest);
        let (mut number, mut outside) = (0, 0);
        let mut left = self.digits;
        for &byte in &bytes[..bytes.len().min(usize::from(left))] {
            if byte > self.greatest {
                outside = radix - 1;
            }
            if byte < self.least || byte > self.greatest {
                break;
            }
            number = number * radix + u64::from(byte - self.least) + 1;
            left -= 1;
        }
        for _ in 0..left {
            number = number * radix + outside;
        }
        number
    }
}

/// One more than the greatest digit.
fn radix(least: u8, greatest: u8) -> u64 {
    u64::from(greatest - least) + 3
}

/// Digits of which every number fits 64 bits, up to as many as are of use.
fn digits(radix: u64) -> u8 {
    let (mut digits, mut most) = (0, 1_u64);
    while usize::from(digits) < DIGITS_MAX
        && let Some(next) = most.checked_mul(radix)
    {
        (digits, most) = (digits + 1, next);
    }
    digits
}

/// Length of the common prefix.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count()
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

    #[test]
    fn sizes_are_what_the_memory_budget_counts_on() {
        assert_eq!((size_of::<Item>(), size_of::<Leaf>()), (6, 72));
    }

    #[test]
    fn the_places_of_numbered_keys_differ() {
        let keys: Vec<_> = (9_800..10_200).map(|i| format!("row/{i:08}")).collect();
        let (first, last) = (keys[0].as_bytes(), keys[399].as_bytes());
        let scale = Scale::new(first, last, common(first, last), b'0'..=b'9', 0);
        let mut places: Vec<_> = keys.iter().map(|key| scale.place(key.as_bytes())).collect();
        places.dedup();
        assert!(places.len() > 300, "places={}", places.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Whatever the scale was measured on, greater keys never have smaller places.
        #[test]
        fn places_are_monotone(
            mut measured in proptest::array::uniform2("[ab]{0,12}[a-z0-9é]{0,9}"),
            mut keys in proptest::array::uniform2("[ab]{0,12}[a-z0-9é]{0,9}"),
            mut bytes in any::<[u8; 2]>(),
            (less, room) in (0..3_usize, 0..9_u32),
        ) {
            measured.sort();
            keys.sort();
            bytes.sort();
            let (first, last) = (measured[0].as_bytes(), measured[1].as_bytes());
            let prefix = common(first, last).saturating_sub(less);
            let scale = Scale::new(first, last, prefix, bytes[0]..=bytes[1], room);
            let [one, other] = keys.map(|key| scale.place(key.as_bytes()));
            prop_assert!(one <= other);
        }

        #[test]
        fn a_separator_separates(mut keys in proptest::array::uniform2("[a-c]{1,6}")) {
            keys.sort();
            prop_assume!(keys[0] != keys[1]);
            let [before, after] = keys.map(String::into_bytes);
            let low = separator(&before, &after);
            prop_assert!(*before < *low && *low <= *after);
        }
    }
}
