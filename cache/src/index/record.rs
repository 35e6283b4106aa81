//! Packed records: one cache line an entry, in memory that is never unmapped.
//!
//! A record's life: free, private (allocated, being filled by its owner), live (published:
//! can be pinned), dead (unlinked: keeps the pins it has and gets no more), free again with
//! the next generation. The state word holds it all, so that a hit is one
//! compare-and-swap: pin, mark and count.
//!
//! ```text
//! state   pins 24 | life 2 | moving 1 | visited 1 | hits 16 | generation 20
//! hlc     64      start and len:  len 48 | start, low half 16
//! check   128     expiry:         unix ms 48 | start, high half 16
//! loc     64      owner:          namespace 20 | load generation 20 | last access 24
//! ```

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use super::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use super::{Budget, Full};

/// Records a chunk. 4,096 make 288 KiB with their links: small beside any budget, and the
/// directory of a billion records still fits a few megabytes.
#[cfg(not(feature = "loom"))]
const CHUNK: usize = 4096;
#[cfg(feature = "loom")]
const CHUNK: usize = 4;

/// The largest `namespace` and `load_generation` a record holds.
pub const ID_MAX: u32 = (1 << 20) - 1;
/// The largest tensor and the latest expiry (48 bits).
pub const U48_MAX: u64 = (1 << 48) - 1;
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

    fn index(self) -> usize {
        self.0.get() as usize
    }
}

/// What a pin leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing: a look that is no use.
    Peek,
    /// A hit: visited for the policy, counted, last access set. Seconds since the process
    /// started (any unit would do), kept modulo [`ACCESS_MODULUS`].
    Hit(u32),
}

/// What became of an attempt to pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Pinned: the caller unpins it.
    Pinned,
    /// Being moved, or has 16 million pins: try again at once.
    Busy,
    /// Not live, or of another generation.
    Gone,
}

const PIN: u64 = 1;
const PINS: u64 = (1 << 24) - 1;
const LIFE_SHIFT: u32 = 24;
const LIFE: u64 = 3 << LIFE_SHIFT;
const FREE: u64 = 0;
const PRIVATE: u64 = 1 << LIFE_SHIFT;
const LIVE: u64 = 2 << LIFE_SHIFT;
/// LIVE with one bit more, so that to unlink is one `fetch_or`.
const DEAD: u64 = 3 << LIFE_SHIFT;
const MOVING: u64 = 1 << 26;
const VISITED: u64 = 1 << 27;
const HIT_SHIFT: u32 = 28;
const HIT: u64 = 1 << HIT_SHIFT;
const HITS: u64 = 0xffff << HIT_SHIFT;
const GENERATION_SHIFT: u32 = 44;

const LOW48: u64 = (1 << 48) - 1;
const OWNER_LOAD_SHIFT: u32 = 20;
const OWNER_ACCESS_SHIFT: u32 = 40;

/// One entry's hot fields: a cache line.
///
/// Setters are for the owner of a private record, except where they say otherwise;
/// [`Record::publish`] makes them visible, a pin keeps them as they are.
#[derive(Debug)]
#[repr(align(64))]
pub struct Record {
    state: AtomicU64,
    hlc: AtomicU64,
    check_low: AtomicU64,
    check_high: AtomicU64,
    loc: AtomicU64,
    len_start: AtomicU64,
    expiry_start: AtomicU64,
    owner: AtomicU64,
}

impl Record {
    /// Pins a live record.
    pub fn try_pin(&self, mark: Mark) -> Pin {
        self.pin_where(mark, |_| true)
    }

    /// Pins a live record of this generation.
    pub fn try_pin_generation(&self, generation: u32, mark: Mark) -> Pin {
        self.pin_where(mark, |state| generation_of(state) == generation)
    }

    /// Takes one pin off. `true`: it was the last of an unlinked record, which is now the
    /// caller's to free.
    #[must_use = "the last pin of an unlinked record frees it"]
    pub fn unpin(&self) -> bool {
        // Release: what this reader read happens before the memory is used again.
        // Acquire: so does what the other readers read, for the one that frees.
        let before = self.state.fetch_sub(PIN, Ordering::AcqRel);
        debug_assert!(before & PINS != 0, "unpinned more often than pinned");
        before & PINS == PIN && before & LIFE == DEAD
    }

    /// Private to live. Called inside the table's write section.
    pub fn publish(&self) {
        let state = self.state.load(Ordering::Relaxed);
        debug_assert_eq!(state & LIFE, PRIVATE, "published twice, or never allocated");
        self.state.store((state & !LIFE) | LIVE, Ordering::Release);
    }

    /// Live to dead, once, after the table has let go of it. `true`: there are no pins, and
    /// it is now the caller's to free.
    #[must_use = "an unlinked record without pins is the caller's to free"]
    pub fn unlink(&self) -> bool {
        let before = self.state.fetch_or(DEAD, Ordering::AcqRel);
        debug_assert_eq!(before & LIFE, LIVE, "unlinked twice, or never published");
        before & PINS == 0
    }

    /// Locks a live record that nobody has pinned, so that its bytes can be moved; readers
    /// that meet it retry. It counts as a pin. `false`: it cannot be moved now.
    pub fn lock_move(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & (LIFE | PINS | MOVING) == LIVE
            && self
                .state
                .compare_exchange(
                    state,
                    state + MOVING + PIN,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Ends a move; a new place set with [`Record::set_loc`] becomes visible. `true`: the
    /// record was unlinked meanwhile, and is now the caller's to free.
    #[must_use = "the last pin of an unlinked record frees it"]
    pub fn unlock_move(&self) -> bool {
        let before = self.state.fetch_sub(MOVING + PIN, Ordering::AcqRel);
        debug_assert!(before & MOVING != 0, "was not locked for a move");
        before & PINS == PIN && before & LIFE == DEAD
    }

    /// Whether it is live at this moment.
    pub fn is_live(&self) -> bool {
        self.state.load(Ordering::Acquire) & LIFE == LIVE
    }

    /// Pins at this moment, a move lock included.
    pub fn pins(&self) -> u32 {
        low32(self.state.load(Ordering::Relaxed) & PINS)
    }

    /// How often this record was used before, modulo 2²⁰: tells a held handle that its
    /// entry is gone. A hint, for it wraps; the key decides.
    pub fn generation(&self) -> u32 {
        generation_of(self.state.load(Ordering::Acquire))
    }

    /// Hits, counted to 65,535.
    pub fn hits(&self) -> u32 {
        low32((self.state.load(Ordering::Relaxed) & HITS) >> HIT_SHIFT)
    }

    /// Whether it was hit since the mark was last cleared.
    pub fn is_visited(&self) -> bool {
        self.state.load(Ordering::Relaxed) & VISITED != 0
    }

    /// Clears the mark of a hit, and tells whether it was set. For the policy.
    pub fn clear_visited(&self) -> bool {
        // Most are not set when the hand passes: look before writing.
        self.is_visited() && self.state.fetch_and(!VISITED, Ordering::Relaxed) & VISITED != 0
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
        let at = self.expiry_start.load(Ordering::Relaxed) & LOW48;
        (at != 0).then_some(at)
    }

    /// Sets [`Record::expires_at_ms`], at any time while it is pinned or its shard is
    /// locked. Later than [`U48_MAX`] (the year 10,889) is as late as that.
    pub fn set_expires_at_ms(&self, at: Option<u64>) {
        replace_bits(
            &self.expiry_start,
            LOW48,
            at.map_or(0, |at| at.clamp(1, LOW48)),
        );
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

    /// The load that brought it; 0 for none.
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

    fn pin_where(&self, mark: Mark, wanted: impl Fn(u64) -> bool) -> Pin {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & LIFE != LIVE || !wanted(state) {
                // Acquire: who sees it dead also sees that the table has changed.
                super::sync::fence(Ordering::Acquire);
                return Pin::Gone;
            }
            if state & MOVING != 0 || state & PINS == PINS {
                return Pin::Busy;
            }
            let mut next = state + PIN;
            if mark != Mark::Peek {
                next |= VISITED;
                if state & HITS != HITS {
                    next += HIT;
                }
            }
            // Acquire: sees what the owner wrote before it published, or moved it.
            match self.state.compare_exchange_weak(
                state,
                next,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        if let Mark::Hit(second) = mark {
            self.set_last_access(second);
        }
        Pin::Pinned
    }

    fn empty() -> Record {
        Record {
            state: AtomicU64::new(FREE),
            hlc: AtomicU64::new(0),
            check_low: AtomicU64::new(0),
            check_high: AtomicU64::new(0),
            loc: AtomicU64::new(0),
            len_start: AtomicU64::new(0),
            expiry_start: AtomicU64::new(0),
            owner: AtomicU64::new(0),
        }
    }

    fn make_private(&self) {
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
        let state = self.state.load(Ordering::Relaxed);
        debug_assert_eq!(
            state & !(u64::MAX << GENERATION_SHIFT),
            FREE,
            "allocated twice"
        );
        // Release, as every change of life: a reader with a stale handle that meets the new
        // owner's record must see all that happened to the table before.
        let kept = (state >> GENERATION_SHIFT) << GENERATION_SHIFT;
        self.state.store(kept | PRIVATE, Ordering::Release);
    }

    fn make_free(&self) {
        let state = self.state.load(Ordering::Relaxed);
        debug_assert!(
            matches!(state & LIFE, PRIVATE | DEAD),
            "freed while live, or twice"
        );
        debug_assert_eq!(state & PINS, 0, "freed while pinned");
        // The generation is the top of the word: past its end it wraps to 0.
        let next = (state >> GENERATION_SHIFT).wrapping_add(1) << GENERATION_SHIFT;
        self.state.store(next | FREE, Ordering::Release);
    }
}

/// The links a policy strings its records on. Only the policy's lock makes them consistent.
#[derive(Debug)]
struct Links {
    prev: AtomicU32,
    next: AtomicU32,
}

/// All records: a slab that grows by chunks and never shrinks.
pub struct Records {
    hot: Box<[OnceLock<Box<[Record]>>]>,
    links: Box<[OnceLock<Box<[Links]>>]>,
    free: Mutex<FreeList>,
    budget: Arc<dyn Budget>,
}

/// Free records, strung on their `next` links.
#[derive(Debug)]
struct FreeList {
    head: Option<Handle>,
    len: u32,
    chunks: usize,
}

impl Records {
    /// A slab for at most `entries_max` records, rounded up to whole chunks.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses the directory.
    pub fn new(entries_max: u32, budget: Arc<dyn Budget>) -> Result<Records, Full> {
        // Record 0 is never given out, so that a handle is never 0. Number u32::MAX is in
        // the last chunk of all, hence no handle overflows.
        let chunks = (entries_max as usize / CHUNK + 1).min(u32::MAX as usize / CHUNK + 1);
        let bytes = directory_bytes(chunks);
        if !budget.charge(bytes) {
            return Err(Full { bytes });
        }
        Ok(Records {
            hot: (0..chunks).map(|_| OnceLock::new()).collect(),
            links: (0..chunks).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(FreeList {
                head: None,
                len: 0,
                chunks: 0,
            }),
            budget,
        })
    }

    /// A private record, all zero, for the caller to fill; `None` where the slab cannot
    /// grow. Given back by [`Records::free`].
    pub fn alloc(&self) -> Option<Handle> {
        let mut free = self.free.lock();
        self.pop(&mut free)
    }

    /// Appends `n` private records to `out` under one lock, or as many as there are room
    /// for, and tells how many.
    pub fn alloc_many(&self, n: usize, out: &mut Vec<Handle>) -> usize {
        let mut free = self.free.lock();
        (0..n)
            .map_while(|_| self.pop(&mut free))
            .map(|handle| out.push(handle))
            .count()
    }

    /// Ends a record that is the caller's alone: private, or dead without pins.
    pub fn free(&self, handle: Handle) {
        self.at(handle).make_free();
        let mut free = self.free.lock();
        self.set_next(handle, free.head);
        free.head = Some(handle);
        free.len += 1;
    }

    /// The record of a handle that this slab gave out.
    pub fn at(&self, handle: Handle) -> &Record {
        let Some(chunk) = self.hot[handle.index() / CHUNK].get() else {
            // No handle leaves the slab before its chunk is there.
            unreachable!("a handle of another slab")
        };
        &chunk[handle.index() % CHUNK]
    }

    /// The policy's link to the record before.
    pub fn prev(&self, handle: Handle) -> Option<Handle> {
        Handle::from_raw(self.links(handle).prev.load(Ordering::Relaxed))
    }

    /// The policy's link to the record behind.
    pub fn next(&self, handle: Handle) -> Option<Handle> {
        Handle::from_raw(self.links(handle).next.load(Ordering::Relaxed))
    }

    /// Sets [`Records::prev`]. Between `alloc` and `free` only.
    pub fn set_prev(&self, handle: Handle, to: Option<Handle>) {
        self.links(handle)
            .prev
            .store(to.map_or(0, Handle::get), Ordering::Relaxed);
    }

    /// Sets [`Records::next`]. Between `alloc` and `free` only.
    pub fn set_next(&self, handle: Handle, to: Option<Handle>) {
        self.links(handle)
            .next
            .store(to.map_or(0, Handle::get), Ordering::Relaxed);
    }

    /// Records that are not free.
    pub fn used(&self) -> u64 {
        let free = self.free.lock();
        (free.chunks * CHUNK) as u64 - u64::from(free.len) - u64::from(free.chunks > 0)
    }

    /// Bytes held: chunks and directory.
    pub fn bytes(&self) -> u64 {
        self.free.lock().chunks as u64 * chunk_bytes() + directory_bytes(self.hot.len())
    }

    fn links(&self, handle: Handle) -> &Links {
        let Some(chunk) = self.links[handle.index() / CHUNK].get() else {
            unreachable!("a handle of another slab")
        };
        &chunk[handle.index() % CHUNK]
    }

    fn pop(&self, free: &mut FreeList) -> Option<Handle> {
        if free.head.is_none() {
            self.grow(free)?;
        }
        let handle = free.head?;
        free.head = self.next(handle);
        free.len -= 1;
        self.set_next(handle, None);
        self.set_prev(handle, None);
        self.at(handle).make_private();
        Some(handle)
    }

    fn grow(&self, free: &mut FreeList) -> Option<()> {
        let (hot, links) = (self.hot.get(free.chunks)?, self.links.get(free.chunks)?);
        if !self.budget.charge(chunk_bytes()) {
            return None;
        }
        let base = u32::try_from(free.chunks * CHUNK).ok()?;
        let count = u32::try_from(CHUNK).ok()?;
        hot.get_or_init(|| (0..CHUNK).map(|_| Record::empty()).collect());
        // Strung in ascending order; the last one ends the list, which is empty now.
        links.get_or_init(|| {
            (1..=count)
                .map(|i| Links {
                    prev: AtomicU32::new(0),
                    next: AtomicU32::new(if i < count { base + i } else { 0 }),
                })
                .collect()
        });
        free.head = Handle::from_raw(base).or(Handle::from_raw(base + 1));
        free.len = count - u32::from(base == 0);
        free.chunks += 1;
        Some(())
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.budget.release(self.bytes());
    }
}

fn chunk_bytes() -> u64 {
    (CHUNK * (size_of::<Record>() + size_of::<Links>())) as u64
}

fn directory_bytes(chunks: usize) -> u64 {
    let slot = size_of::<OnceLock<Box<[Record]>>>() + size_of::<OnceLock<Box<[Links]>>>();
    (chunks * slot) as u64
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

fn generation_of(state: u64) -> u32 {
    low32(state >> GENERATION_SHIFT)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low32(word: u64) -> u32 {
    word as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low64(word: u128) -> u64 {
    word as u64
}
