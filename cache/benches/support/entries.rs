//! An index with entries behind it, as the engine has them: a record points at a head of
//! which the key is the beginning. Shared by the bench and by `examples/lookup_misses.rs`.

use std::sync::Arc;

use bowstring_cache::index::{Budget, Handle, Index, KeyHash, Keys, Mark, Order, Unlimited};

/// Bytes of a key; where it is shorter, zeros fill it up.
pub const KEY_BYTES: usize = 16;
/// Bytes of a head: a key, the fields of a small head, and a tensor of 64 bytes, rounded up
/// to 16.
const HEAD_BYTES: usize = 96;

/// Entries 0 to n, found by name.
pub struct Entries {
    /// Records and table.
    pub index: Index,
    hash: KeyHash,
    heads: Box<[u8]>,
}

impl Entries {
    /// An index of `entries` entries that has room for `entries_max`.
    pub fn new(entries: u32, entries_max: u32) -> Entries {
        Entries::named((0..entries).map(name), entries_max)
    }

    /// An index of entries with these keys.
    pub fn named(keys: impl IntoIterator<Item = [u8; KEY_BYTES]>, entries_max: u32) -> Entries {
        let budget: Arc<dyn Budget> = Arc::new(Unlimited);
        let mut made = Entries {
            index: Index::new(entries_max, &budget).expect("an unlimited budget"),
            hash: KeyHash::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]),
            heads: vec![0; (entries_max as usize + 1) * HEAD_BYTES].into(),
        };
        (0..)
            .zip(keys)
            .for_each(|(number, key)| made.add(number, key));
        made
    }

    fn add(&mut self, number: u32, key: [u8; KEY_BYTES]) {
        let handle = self.index.records.alloc().expect("room for a record");
        let record = self.index.records.at(handle);
        let loc = number as usize * HEAD_BYTES;
        record.set_loc(loc as u64);
        self.heads[loc..loc + KEY_BYTES].copy_from_slice(&key);
        let mut shard = self.index.table.lock(self.key_hash(&key));
        shard
            .insert(handle, || record.publish())
            .expect("an unlimited budget");
    }

    /// Looks a key up as a get does, and lets go of it; whether it is there.
    pub fn hit(&self, key: &[u8; KEY_BYTES]) -> bool {
        let eq = |handle, _: &_| self.with_key(handle, |there| there == key);
        let last = |handle| self.index.records.free(handle);
        match self.index.get(self.key_hash(key), Mark::Hit(1), eq, last) {
            Some(handle) => {
                if self.index.records.at(handle).unpin() {
                    last(handle);
                }
                true
            }
            None => false,
        }
    }

    /// The order of the entries of some numbers.
    pub fn order(&self, numbers: impl IntoIterator<Item = u32>) -> Order {
        let mut order = Order::new(Arc::new(Unlimited));
        for number in numbers {
            // Handles were given out in the order of the numbers, from 1.
            let handle = Handle::from_raw(number + 1).expect("not 0");
            let loc = number as usize * HEAD_BYTES;
            let key: [u8; KEY_BYTES] = std::array::from_fn(|at| self.heads[loc + at]);
            order
                .insert(trimmed(&key), handle, self)
                .expect("an unlimited budget");
        }
        order
    }

    fn key_hash(&self, key: &[u8]) -> u64 {
        self.hash.hash([b"public", b"default"], key)
    }
}

impl Keys for Entries {
    fn with_key<R>(&self, handle: Handle, with: impl FnOnce(&[u8]) -> R) -> R {
        let loc = usize::try_from(self.index.records.at(handle).loc()).expect("made from usize");
        with(trimmed(&self.heads[loc..loc + KEY_BYTES]))
    }
}

/// Without the zeros behind it.
fn trimmed(key: &[u8]) -> &[u8] {
    let last = key.iter().rposition(|&byte| byte != 0);
    &key[..last.map_or(0, |last| last + 1)]
}

/// The key of an entry's number.
pub fn name(number: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"row/000000000000";
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    key
}

/// The numbers below `entries` in an order that no prefetcher guesses, for ever.
pub fn shuffled(entries: u32, seed: u32) -> impl Iterator<Item = u32> {
    let mut state = u64::from(seed) + 1;
    std::iter::repeat_with(move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(((mixed >> 32) * u64::from(entries)) >> 32).expect("below entries")
    })
}
