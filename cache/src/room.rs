//! Making room: evicting, emptying sparse slabs, giving pages back, and waiting for others.
//!
//! Whoever needs memory takes it if it is there. If not, one at a time evicts what the policy says
//! until it is, and tries between any two victims: what one has freed, another must not take for
//! its own shortage and evict on. Where nothing can be evicted (all is pinned, held, or reserved
//! by open puts), the caller waits in the queue ([`crate::reserve`]). What goes is in
//! [`crate::victim`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowstring_wire::error::{Error, Result};

use crate::arena::{Loc, PAGE_BYTES_U64, Pages, Slot};
use crate::engine::{Engine, Pinned};
use crate::index::{Full, Handle, Mark, Pin};
use crate::ledger::{Account, Charge};
use crate::reserve::{Attempt, Line, NoRoom};
use crate::victim::{Evicted, Terms};

/// Victims that one attempt takes before it lets others run: about a millisecond.
const VICTIMS_A_TURN: u32 = 256;
/// Small victims between two looks at the slabs.
const VICTIMS_A_COMPACTION: u32 = 32;
/// A slab fuller than this is not worth emptying.
const COMPACT_FILL_MAX: u8 = 90;
/// How often room is made for the index before it is told that there is none: others may take what
/// was made.
pub(crate) const GROW_TRIES: u32 = 16;
/// How much more the arena has touched when its own overhead is charged again.
const OVERHEAD_STEP_BYTES: u64 = 1 << 20;
/// What the index asks for when it has no record left: 4,096 of them, with their links and places.
const RECORD_CHUNK_BYTES: u64 = 4_096 * 73;
/// Slabs emptied a look.
const SLABS_A_COMPACTION: u32 = 2;
/// A reader that took something so lately is not cut off while there are other victims.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is charged beyond need for bytes on their way, so that a crowd of small charges does not
/// evict one entry each.
const GIVE_BACK_BYTES: u64 = 1 << 20;

/// Who wants room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) line: Line,
    /// The home of the namespace that it is for a load of: what that shows stays, and where nothing
    /// else can go the asker is refused at once.
    pub(crate) spares: Option<u32>,
}

impl From<Line> for Asker {
    fn from(line: Line) -> Self {
        Asker { line, spares: None }
    }
}

impl Engine {
    /// The most that the arena may have now, with the other accounts as they are.
    pub(crate) fn arena_bytes_max(&self) -> u64 {
        let arena = self.ledger.used_by(Account::Arena);
        let others = self.ledger.used().saturating_sub(arena);
        let reach = self.config.memory - self.config.memory / 32;
        reach.min(self.config.memory.saturating_sub(others))
    }

    /// What readers may hold of entries that have left the index.
    pub(crate) fn held_bytes_max(&self) -> u64 {
        self.arena_bytes_max() / 100 * self.config.held_percent
    }

    /// What pins, open puts and readers together may hold; no tensor can be larger.
    pub(crate) fn busy_bytes_max(&self) -> u64 {
        self.arena_bytes_max() / 100 * self.config.busy_percent
    }

    /// What they hold. Whoever wants more of it adds first and looks then, so that two who come
    /// at once do not both get the last of it.
    pub(crate) fn busy_bytes(&self) -> u64 {
        let busy = self.reserved.load(Ordering::SeqCst) + self.pins.bytes();
        busy + self.arena.held_bytes() + self.loads_bytes()
    }

    /// Waits for `pages` pages for a put, which are counted as reserved until
    /// [`Engine::unreserve`].
    pub(crate) async fn pages(self: &Arc<Self>, pages: u32, asker: Asker) -> Result<Pages> {
        let bytes = u64::from(pages) * PAGE_BYTES_U64;
        let attempt = || {
            if !self.reserve(bytes) {
                return Attempt::Wait;
            }
            let attempt = self.attempt(asker.spares, || self.arena.alloc_pages(pages));
            if !matches!(attempt, Attempt::Done(_)) {
                // Not told to who waits in front: that is who asks, and would ask again at once, and again.
                self.reserved.fetch_sub(bytes, Ordering::AcqRel);
            }
            attempt
        };
        self.wait(asker, bytes, attempt).await
    }

    /// Waits for a slot.
    pub(crate) async fn slot_of(self: &Arc<Self>, bytes: usize, asker: Asker) -> Result<Slot> {
        let attempt = || self.attempt(asker.spares, || self.arena.alloc_slot(bytes));
        self.wait(asker, bytes as u64, attempt).await
    }

    /// Waits for a private record.
    pub(crate) async fn new_record(self: &Arc<Self>, asker: Asker) -> Result<Handle> {
        for _ in 0..GROW_TRIES {
            if let Some(handle) = self.index.records.alloc() {
                return Ok(handle);
            }
            self.let_index_grow(Full { bytes: 0 }, asker).await?;
        }
        Err(Error::exhausted(format!(
            "too many entries for the memory; limit=`memory` value=`{}`",
            self.config.memory
        )))
    }

    /// Makes room for the index to grow, or for one entry more in it.
    pub(crate) async fn let_index_grow(self: &Arc<Self>, full: Full, asker: Asker) -> Result<()> {
        let bytes = if full.bytes == 0 {
            RECORD_CHUNK_BYTES
        } else {
            full.bytes
        };
        // Held for a moment only: the index charges for itself.
        self.charge_waiting(Account::Index, bytes, asker)
            .await
            .map(drop)
    }

    /// Waits until `bytes` are charged to `account`.
    pub(crate) async fn charge_waiting(
        self: &Arc<Self>,
        account: Account,
        bytes: u64,
        asker: Asker,
    ) -> Result<Charge> {
        let attempt = || self.attempt(asker.spares, || self.charge_free(account, bytes));
        self.wait(asker, bytes, attempt).await
    }

    /// Charges `bytes` to `account`, and evicts for it; `None` where that is not enough. `spares` is
    /// as in [`Asker`].
    pub(crate) fn charge_now(
        self: &Arc<Self>,
        account: Account,
        bytes: u64,
        spares: Option<u32>,
    ) -> Option<Charge> {
        loop {
            match self.attempt(spares, || self.charge_free(account, bytes)) {
                Attempt::Done(charge) => return Some(charge),
                Attempt::Again => {}
                Attempt::Wait | Attempt::Never => return None,
            }
        }
    }

    pub(crate) fn unreserve(&self, bytes: u64) {
        self.reserved.fetch_sub(bytes, Ordering::AcqRel);
        self.queue.freed();
    }

    /// After an entry has left the index: readers that hold more than they may lose it, the most
    /// stalled first.
    pub(crate) fn enforce_held(&self) {
        while self.reads.count() > 1
            && self.arena.held_bytes() > self.held_bytes_max()
            && let Some((read, _)) = self.reads.most_stalled(None)
        {
            self.reads.cut_off(&read);
        }
    }

    /// Counts open puts against what may be busy. False where it is too much at the moment.
    fn reserve(&self, bytes: u64) -> bool {
        self.reserved.fetch_add(bytes, Ordering::SeqCst);
        let fits = self.busy_bytes() <= self.busy_bytes_max();
        if !fits {
            self.reserved.fetch_sub(bytes, Ordering::SeqCst);
        }
        fits
    }

    fn charge_free(&self, account: Account, bytes: u64) -> Option<Charge> {
        if let Some(charge) = self.ledger.charge(account, bytes) {
            return Some(charge);
        }
        let short = bytes.saturating_sub(self.ledger.free());
        self.arena.give_back(short.max(GIVE_BACK_BYTES));
        self.ledger.charge(account, bytes)
    }

    async fn wait<T>(
        &self,
        asker: Asker,
        bytes: u64,
        attempt: impl FnMut() -> Attempt<T>,
    ) -> Result<T> {
        let wait_max = match asker.line {
            Line::Holder => self.config.reserve_wait,
            Line::Newcomer => self.config.first_wait,
        };
        self.queue
            .room(asker.line, wait_max, attempt)
            .await
            .map_err(|no_room| self.refusal(no_room, bytes, wait_max))
    }

    fn refusal(&self, no_room: NoRoom, bytes: u64, waited: Duration) -> Error {
        match no_room {
            NoRoom::QueueFull => Error::exhausted(format!(
                "too many puts wait for room; limit=`waiters_max` value=`{}`",
                self.config.waiters_max
            )),
            NoRoom::Spared => Error::exhausted(format!(
                "no room for the load beside what its namespace shows, which stays until the \
                 commit; limit=`memory` value=`{}` wanted_bytes=`{bytes}` loads_bytes=`{}` \
                 held_bytes=`{}` pinned_bytes=`{}`",
                self.config.memory,
                self.loads_bytes(),
                self.arena.held_bytes(),
                self.pins.bytes(),
            )),
            NoRoom::TimedOut => Error::exhausted(format!(
                "no room: what is there is held by open puts, readers and pins; limit=`memory` \
                 value=`{}` wanted_bytes=`{bytes}` waited_ms=`{}` reserved_bytes=`{}` \
                 held_bytes=`{}` pinned_bytes=`{}`",
                self.config.memory,
                waited.as_millis(),
                self.reserved.load(Ordering::Relaxed),
                self.arena.held_bytes(),
                self.pins.bytes(),
            )),
        }
    }

    /// Takes, and evicts until it can.
    fn attempt<T>(
        self: &Arc<Self>,
        spares: Option<u32>,
        mut take: impl FnMut() -> Option<T>,
    ) -> Attempt<T> {
        if let Some(taken) = take() {
            return Attempt::Done(taken);
        }
        if self.arena.is_frozen() {
            return Attempt::Wait;
        }
        let _one_at_a_time = self.evicting.lock();
        let mut patience = PATIENCE;
        let nothing_helps = spares.map_or(Attempt::Wait, |_| Attempt::Never);
        let mut progress = false;
        for turn in 1..=VICTIMS_A_TURN {
            if let Some(taken) = take() {
                return Attempt::Done(taken);
            }
            let terms = Terms {
                patience,
                spares,
                ..Terms::default()
            };
            match self.evict(terms) {
                Evicted::One => progress = true,
                Evicted::Later => progress = true,
                Evicted::Nothing if self.compact(COMPACT_FILL_MAX) => progress = true,
                Evicted::Nothing if !patience.is_zero() && self.reads.count() > 0 => {
                    patience = Duration::ZERO;
                }
                Evicted::Nothing if progress => return Attempt::Again,
                Evicted::Nothing => return nothing_helps,
            }
            if turn % VICTIMS_A_COMPACTION == 0 {
                self.compact(COMPACT_FILL_MAX);
            }
        }
        self.charge_overhead();
        Attempt::Again
    }

    pub(crate) fn pin(self: &Arc<Self>, handle: Handle) -> Option<Pinned> {
        match self.record(handle).try_pin(Mark::Peek) {
            Pin::Pinned => Some(Pinned {
                engine: Arc::clone(self),
                handle,
            }),
            Pin::Busy | Pin::Gone => None,
        }
    }

    /// Empties the sparsest slabs into others of their class. True when pages became free.
    pub(crate) fn compact(&self, fill_max: u8) -> bool {
        let before = self.arena.free_bytes();
        for _ in 0..SLABS_A_COMPACTION {
            let Some(slab) = self.arena.compact(fill_max) else {
                break;
            };
            for loc in slab.survivors() {
                let moved = self.move_slot(*loc, || slab.destination());
                self.moved.fetch_add(u64::from(moved), Ordering::Relaxed);
            }
        }
        self.arena.free_bytes() > before
    }

    /// Moves the entry in a slot, if it is one that nobody has pinned.
    fn move_slot(&self, from: Loc, destination: impl FnOnce() -> Option<Slot>) -> bool {
        // For a moment after it was taken, a slot has where its tag will be what its page held
        // before: any client's bytes.
        let Some(handle) = Handle::from_raw(self.arena.tag(from)) else {
            return false;
        };
        let Some(record) = self.index.records.try_at(handle) else {
            return false;
        };
        let number = record.namespace();
        let Some(space) = self.spaces.at(number) else {
            return false;
        };
        // Whoever compares keys of this namespace's order reads slots without a pin, under this.
        let _order = space.order.write();
        if !record.lock_move() {
            return false;
        }
        let mut moved = false;
        if record.loc() == from.to_bits()
            && record.namespace() == number
            && let Some(mut slot) = destination()
        {
            let bytes = self.arena.slot(from);
            slot.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            let to = slot.into_loc();
            self.arena.set_tag(to, handle.get());
            record.set_loc(to.to_bits());
            moved = true;
        }
        if record.unlock_move() {
            self.free(handle);
        }
        if moved {
            self.arena.free_slot(from);
        }
        moved
    }

    /// What the arena keeps on the heap about itself grows with what it has touched: charges that
    /// too, whenever there is noticeably more.
    pub(crate) fn charge_overhead(&self) {
        let committed = self.arena.committed_bytes();
        let charged_at = self.overhead_at.load(Ordering::Relaxed);
        if committed.abs_diff(charged_at) < OVERHEAD_STEP_BYTES {
            return;
        }
        if let Some(mut charge) = self.overhead.try_lock()
            && charge.resize(self.arena.overhead_bytes())
        {
            self.overhead_at.store(committed, Ordering::Relaxed);
        }
    }
}
