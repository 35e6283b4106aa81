//! Packed records: one cache line an entry.
//!
//! ```text
//! state   see `state`     len   48 | start of the version, low half 16
//! hlc     64              expiry, unix ms 46 | below 1 | kept 1 | start, high half 16
//! check   128             namespace 20 | load generation 20 | last access 24
//! loc     64
//! ```

use std::num::NonZeroU32;

use super::state::{Mark, Pin, State, low32};
use super::sync::{AtomicU64, Ordering};

/// The largest `namespace` and `load_generation` a record holds.
pub const ID_MAX: u32 = (1 << 20) - 1;
/// The largest tensor (48 bits).
pub const U48_MAX: u64 = (1 << 48) - 1;
/// The latest expiry (46 bits): the year 4199.
pub const EXPIRY_MAX: u64 = (1 << 46) - 1;
/// The last access is kept modulo this.
pub const ACCESS_MODULUS: u32 = 1 << 24;

/// Names a record. The memory behind it is always a record, though perhaps another
/// entry's by now: pin, then compare the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(NonZeroU32);

impl Handle {
    /// The handle as a number, never 0.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The handle of a number that [`Handle::get`] gave; `None` for 0.
    pub fn from_raw(raw: u32) -> Option<Handle> {
        NonZeroU32::new(raw).map(Handle)
    }

    pub(super) fn index(self) -> usize {
        self.0.get() as usize
    }
}

const LOW48: u64 = (1 << 48) - 1;
const BELOW: u64 = 1 << 46;
const KEPT: u64 = 1 << 47;
const OWNER_LOAD_SHIFT: u32 = 20;
const OWNER_ACCESS_SHIFT: u32 = 40;

/// One entry's hot fields: a cache line.
///
/// Setters are for the owner of a private record, except where they say otherwise;
/// [`Record::publish`] makes them visible, a pin keeps them as they are.
#[derive(Debug)]
#[repr(align(64))]
pub struct Record {
    state: State,
    hlc: AtomicU64,
    check_low: AtomicU64,
    check_high: AtomicU64,
    loc: AtomicU64,
    len_start: AtomicU64,
    expiry_start: AtomicU64,
    owner: AtomicU64,
}

/// What is known of an entry that is about to be published, but for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields {
    /// As [`Record::len`].
    pub len: u64,
    /// As [`Record::checksum`].
    pub checksum: u128,
    /// As [`Record::version`].
    pub version: (u64, u32),
    /// As [`Record::expires_at_ms`].
    pub expires_at_ms: Option<u64>,
    /// As [`Record::namespace`].
    pub namespace: u32,
    /// As [`Record::load_generation`].
    pub load_generation: u32,
    /// As [`Record::last_access`].
    pub last_access: u32,
}

impl Record {
    /// Sets all of a private record but its place, at once: each field by itself is an exchange,
    /// and eight of them take longer than a small tensor's copy. It is neither kept nor below then.
    pub fn set(&self, fields: &Fields) {
        let (hlc, start) = fields.version;
        let start = u64::from(start);
        let expiry = fields.expires_at_ms;
        let expiry = expiry.map_or(0, |at| at.clamp(1, EXPIRY_MAX));
        let namespace = u64::from(fields.namespace & ID_MAX);
        let load = u64::from(fields.load_generation & ID_MAX) << OWNER_LOAD_SHIFT;
        let access = u64::from(fields.last_access % ACCESS_MODULUS) << OWNER_ACCESS_SHIFT;
        self.set_checksum(fields.checksum);
        for (word, bits) in [
            (&self.hlc, hlc),
            (&self.len_start, fields.len & LOW48 | start << 48),
            (&self.expiry_start, expiry | start >> 16 << 48),
            (&self.owner, namespace | load | access),
        ] {
            word.store(bits, Ordering::Relaxed);
        }
    }

    /// Pins a live record.
    pub fn try_pin(&self, mark: Mark) -> Pin {
        self.pin(None, mark)
    }

    /// Pins a live record of this generation.
    pub fn try_pin_generation(&self, generation: u32, mark: Mark) -> Pin {
        self.pin(Some(generation), mark)
    }

    /// Pins a record that the caller has pinned, live or not; false where it is pinned as often as can
    /// be.
    #[must_use = "a pin is taken off again"]
    pub fn pin_again(&self) -> bool {
        self.state.pin_again()
    }

    /// Takes one pin off. `true`: it was the last of an unlinked record, which is now the
    /// caller's to free.
    #[must_use = "the last pin of an unlinked record frees it"]
    pub fn unpin(&self) -> bool {
        self.state.unpin()
    }

    /// Private to live. Called inside the table's write section.
    pub fn publish(&self) {
        self.state.publish();
    }

    /// Live to dead, once, after the table has let go of it. `true`: there are no pins, and
    /// it is now the caller's to free.
    #[must_use = "an unlinked record without pins is the caller's to free"]
    pub fn unlink(&self) -> bool {
        self.state.unlink()
    }

    /// Locks a live record that nobody has pinned, so that its bytes can be moved; readers
    /// that meet it retry. It counts as a pin. `false`: it cannot be moved now.
    pub fn lock_move(&self) -> bool {
        self.state.lock_move()
    }

    /// Ends a move; a new place set with [`Record::set_loc`] becomes visible. `true`: the
    /// record was unlinked meanwhile, and is now the caller's to free.
    #[must_use = "the last pin of an unlinked record frees it"]
    pub fn unlock_move(&self) -> bool {
        self.state.unlock_move()
    }

    /// Whether it is live at this moment.
    pub fn is_live(&self) -> bool {
        self.state.is_live()
    }

    /// Pins at this moment, a move lock included.
    pub fn pins(&self) -> u32 {
        self.state.pins()
    }

    /// How often this record was used before, modulo 2²⁰: tells a held handle that its
    /// entry is gone. A hint, for it wraps; the key decides.
    pub fn generation(&self) -> u32 {
        self.state.generation()
    }

    /// Hits, counted to 65,535.
    pub fn hits(&self) -> u32 {
        self.state.hits()
    }

    /// Sets [`Record::hits`]: for an entry that had them in another process.
    pub fn set_hits(&self, hits: u16) {
        self.state.set_hits(u64::from(hits));
    }

    /// Takes over what is set and counted of the record whose place it takes: expiry, hits, last access. While it is private,
    /// and the other's shard is locked.
    pub fn inherit(&self, old: &Record) {
        self.set_expires_at_ms(old.expires_at_ms());
        self.state.set_hits(u64::from(old.hits()));
        self.set_last_access(old.last_access());
    }

    /// Hits since the marks were last set, counted to 3. For the policy.
    pub fn marks(&self) -> u32 {
        self.state.marks()
    }

    /// Sets the marks, and tells what they were. For the policy.
    pub fn set_marks(&self, marks: u32) -> u32 {
        self.state.set_marks(marks)
    }

    /// Version: hybrid clock and the number drawn at the process's start.
    pub fn version(&self) -> (u64, u32) {
        let low = self.len_start.load(Ordering::Relaxed) >> 48;
        let high = self.expiry_start.load(Ordering::Relaxed) >> 48;
        (self.hlc.load(Ordering::Relaxed), low32(high << 16 | low))
    }

    /// Sets [`Record::version`].
    pub fn set_version(&self, hlc: u64, start: u32) {
        self.hlc.store(hlc, Ordering::Relaxed);
        let (low, high) = (u64::from(start & 0xffff), u64::from(start >> 16));
        replace_bits(&self.len_start, !LOW48, low << 48);
        replace_bits(&self.expiry_start, !LOW48, high << 48);
    }

    /// Checksum of the tensor's bytes.
    pub fn checksum(&self) -> u128 {
        let low = u128::from(self.check_low.load(Ordering::Relaxed));
        u128::from(self.check_high.load(Ordering::Relaxed)) << 64 | low
    }

    /// Sets [`Record::checksum`].
    pub fn set_checksum(&self, checksum: u128) {
        self.check_low.store(low64(checksum), Ordering::Relaxed);
        self.check_high
            .store(low64(checksum >> 64), Ordering::Relaxed);
    }

    /// Where its head lies, as the arena packs it.
    pub fn loc(&self) -> u64 {
        self.loc.load(Ordering::Relaxed)
    }

    /// Sets [`Record::loc`]: while private, or under the move lock.
    pub fn set_loc(&self, loc: u64) {
        self.loc.store(loc, Ordering::Relaxed);
    }

    /// Bytes of the tensor.
    pub fn len(&self) -> u64 {
        self.len_start.load(Ordering::Relaxed) & LOW48
    }

    /// Whether the tensor has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets [`Record::len`], at most [`U48_MAX`].
    pub fn set_len(&self, bytes: u64) {
        debug_assert!(bytes <= U48_MAX);
        replace_bits(&self.len_start, LOW48, bytes & LOW48);
    }

    /// When it expires, in unix milliseconds.
    pub fn expires_at_ms(&self) -> Option<u64> {
        let at = self.expiry_start.load(Ordering::Relaxed) & EXPIRY_MAX;
        (at != 0).then_some(at)
    }

    /// Sets [`Record::expires_at_ms`], at any time while it is pinned or its shard is
    /// locked. Later than [`EXPIRY_MAX`] is as late as that. What is below has another one, if any.
    pub fn set_expires_at_ms(&self, at: Option<u64>) {
        replace_bits(
            &self.expiry_start,
            EXPIRY_MAX | BELOW,
            at.map_or(0, |at| at.clamp(1, EXPIRY_MAX)),
        );
    }

    /// Whether the tier below has it as it is: then nothing is lost with it here. Where that is no longer so and
    /// this says it is, it may be lost.
    pub fn is_below(&self) -> bool {
        self.expiry_start.load(Ordering::Relaxed) & BELOW != 0
    }

    /// Sets [`Record::is_below`], at any time while it is pinned.
    pub fn set_below(&self, below: bool) {
        replace_bits(&self.expiry_start, BELOW, if below { BELOW } else { 0 });
    }

    /// Whether a user has pinned it: then it is not evicted, and no policy has it.
    pub fn is_kept(&self) -> bool {
        self.expiry_start.load(Ordering::Relaxed) & KEPT != 0
    }

    /// Sets [`Record::is_kept`]: while private, or under its shard's lock.
    pub fn set_kept(&self, kept: bool) {
        replace_bits(&self.expiry_start, KEPT, if kept { KEPT } else { 0 });
    }

    /// Number of the tenant and namespace it belongs to.
    pub fn namespace(&self) -> u32 {
        low32(self.owner.load(Ordering::Relaxed)) & ID_MAX
    }

    /// Sets [`Record::namespace`], at most [`ID_MAX`].
    pub fn set_namespace(&self, id: u32) {
        debug_assert!(id <= ID_MAX);
        replace_bits(&self.owner, u64::from(ID_MAX), u64::from(id & ID_MAX));
    }

    /// What is known of the load that brought it; 0 for none.
    pub fn load_generation(&self) -> u32 {
        low32(self.owner.load(Ordering::Relaxed) >> OWNER_LOAD_SHIFT & u64::from(ID_MAX))
    }

    /// Sets [`Record::load_generation`], at most [`ID_MAX`].
    pub fn set_load_generation(&self, load: u32) {
        debug_assert!(load <= ID_MAX);
        let mask = u64::from(ID_MAX) << OWNER_LOAD_SHIFT;
        replace_bits(
            &self.owner,
            mask,
            u64::from(load & ID_MAX) << OWNER_LOAD_SHIFT,
        );
    }

    /// Sets [`Record::namespace`] and [`Record::load_generation`] at once, at any time while its
    /// shard is locked.
    pub fn set_owner(&self, namespace: u32, load: u32) {
        debug_assert!(namespace <= ID_MAX && load <= ID_MAX);
        let mask = u64::from(ID_MAX) << OWNER_LOAD_SHIFT | u64::from(ID_MAX);
        let bits = u64::from(load & ID_MAX) << OWNER_LOAD_SHIFT | u64::from(namespace & ID_MAX);
        replace_bits(&self.owner, mask, bits);
    }

    /// The second of the last hit, as [`Mark::Hit`] gave it, modulo [`ACCESS_MODULUS`].
    pub fn last_access(&self) -> u32 {
        low32(self.owner.load(Ordering::Relaxed) >> OWNER_ACCESS_SHIFT)
    }

    /// Sets [`Record::last_access`], at any time while it is pinned or private.
    pub fn set_last_access(&self, second: u32) {
        let owner = self.owner.load(Ordering::Relaxed);
        let second = u64::from(second % ACCESS_MODULUS);
        if owner >> OWNER_ACCESS_SHIFT != second {
            let kept = owner & ((1 << OWNER_ACCESS_SHIFT) - 1);
            let next = second << OWNER_ACCESS_SHIFT | kept;
            // Where it fails another reader has just set it.
            let _ = self
                .owner
                .compare_exchange(owner, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn pin(&self, generation: Option<u32>, mark: Mark) -> Pin {
        let pin = self.state.try_pin(generation, mark != Mark::Peek);
        if let (Pin::Pinned, Mark::Hit(second)) = (pin, mark) {
            self.set_last_access(second);
        }
        pin
    }

    pub(super) fn free() -> Record {
        Record {
            state: State::free(),
            hlc: AtomicU64::new(0),
            check_low: AtomicU64::new(0),
            check_high: AtomicU64::new(0),
            loc: AtomicU64::new(0),
            len_start: AtomicU64::new(0),
            expiry_start: AtomicU64::new(0),
            owner: AtomicU64::new(0),
        }
    }

    /// Free to private, with all fields zero.
    pub(super) fn make_private(&self) {
        for word in [
            &self.hlc,
            &self.check_low,
            &self.check_high,
            &self.loc,
            &self.len_start,
            &self.expiry_start,
            &self.owner,
        ] {
            word.store(0, Ordering::Relaxed);
        }
        self.state.make_private();
    }

    /// Private or dead to free.
    pub(super) fn make_free(&self) {
        self.state.make_free();
    }
}

/// Replaces the bits of `mask`; the others may change at the same time.
fn replace_bits(word: &AtomicU64, mask: u64, bits: u64) {
    let mut now = word.load(Ordering::Relaxed);
    while let Err(seen) = word.compare_exchange_weak(
        now,
        now & !mask | bits,
        Ordering::Relaxed,
        Ordering::Relaxed,
    ) {
        now = seen;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low64(word: u128) -> u64 {
    word as u64
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_one_cache_line() {
        assert_eq!((size_of::<Record>(), align_of::<Record>()), (64, 64));
        assert_eq!(size_of::<Option<Handle>>(), 4);
    }

    #[test]
    fn a_hit_marks_and_a_peek_does_not() {
        let record = Record::free();
        record.make_private();
        record.publish();
        assert_eq!(record.try_pin(Mark::Peek), Pin::Pinned);
        assert_eq!(
            (record.hits(), record.last_access(), record.marks()),
            (0, 0, 0)
        );
        assert_eq!(record.try_pin(Mark::Hit(ACCESS_MODULUS + 7)), Pin::Pinned);
        assert_eq!(
            (record.hits(), record.last_access(), record.marks()),
            (1, 7, 1)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Fields share words: setting one leaves the others, in any order.
        #[test]
        fn fields_do_not_touch_each_other(
            hlc: u64,
            start: u32,
            checksum: u128,
            loc: u64,
            len in 0..=U48_MAX,
            expiry in proptest::option::of(1..=EXPIRY_MAX),
            kept: bool,
            namespace in 0..=ID_MAX,
            load in 0..=ID_MAX,
            second in 0..ACCESS_MODULUS,
            order in Just([0, 1, 2, 3, 4, 5, 6, 7, 8]).prop_shuffle(),
        ) {
            let record = Record::free();
            record.make_private();
            for flip in [u64::MAX, 0] {
                let flip32 = low32(flip);
                for step in order {
                    match step {
                        0 => record.set_version(hlc ^ flip, start ^ flip32),
                        1 => record.set_checksum(checksum),
                        2 => record.set_loc(loc),
                        3 => record.set_len(len ^ (flip & U48_MAX)),
                        4 => record.set_expires_at_ms(expiry.filter(|_| flip == 0)),
                        5 => record.set_namespace(namespace ^ (flip32 & ID_MAX)),
                        6 => record.set_load_generation(load ^ (flip32 & ID_MAX)),
                        7 => record.set_kept(kept ^ (flip != 0)),
                        _ => record.set_last_access(second ^ (flip32 % ACCESS_MODULUS)),
                    }
                }
            }
            let at_once = Record::free();
            at_once.make_private();
            at_once.set_loc(loc);
            at_once.set(&Fields {
                len,
                checksum,
                version: (hlc, start),
                expires_at_ms: expiry,
                namespace,
                load_generation: load,
                last_access: second,
            });
            at_once.set_kept(kept);
            prop_assert_eq!(format!("{record:?}"), format!("{at_once:?}"));
            prop_assert_eq!(record.version(), (hlc, start));
            prop_assert_eq!(record.checksum(), checksum);
            prop_assert_eq!(record.loc(), loc);
            prop_assert_eq!((record.len(), record.is_empty()), (len, len == 0));
            prop_assert_eq!((record.expires_at_ms(), record.is_kept()), (expiry, kept));
            prop_assert_eq!((record.namespace(), record.load_generation()), (namespace, load));
            prop_assert_eq!(record.last_access(), second);
        }
    }
}
