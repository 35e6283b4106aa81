//! Two generations of one key: which of them shows, and what goes with it.
//!
//! Everything here is done under the lock of the key's shard and with the base locked, so that the
//! view stays as it is and nobody else touches the key's entries.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::{Arc, atomic};

use bowstring_wire::error::{Error, Result};

use crate::ahead::{Fetch, Fetched};
use crate::engine::{Engine, Pinned};
use crate::event::Why;
use crate::index::{Handle, Keys, Mark, Order, Pin, Probe, Shard};
use crate::namespaces::{Base, Space};
use crate::view::{Layer, Role, View};

/// The entries of one key in the two generations of a view.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) base: Option<Handle>,
    pub(crate) beside: Option<Handle>,
}

/// What the entries of a load hide of the base under it. It is counted key by key after the commit;
/// up to there, what comes and goes changes the count.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    counted: Counted,
}

#[derive(Debug, Default)]
enum Counted {
    #[default]
    Nothing,
    UpTo(Box<[u8]>),
    All,
}

impl Shadow {
    /// `key` is the next one that is counted; the base has `bytes` of it, or not.
    pub(crate) fn count(&mut self, key: &[u8], bytes: Option<u64>) {
        if self.has_counted(key) {
            return;
        }
        self.counted = Counted::UpTo(key.into());
        if let Some(bytes) = bytes {
            self.entries += 1;
            self.bytes += bytes;
        }
    }

    pub(crate) fn all_counted(&mut self) {
        self.counted = Counted::All;
    }

    /// The key to go on after; `None` when all are counted.
    pub(crate) fn next(&self) -> Option<&[u8]> {
        match &self.counted {
            Counted::Nothing => Some(&[]),
            Counted::UpTo(key) => Some(key),
            Counted::All => None,
        }
    }

    /// An entry of the base is hidden no more: it went, or what hid it did.
    pub(crate) fn unhide(&mut self, key: &[u8], bytes: u64) {
        if self.has_counted(key) {
            self.entries = self.entries.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn has_counted(&self, key: &[u8]) -> bool {
        match &self.counted {
            Counted::Nothing => false,
            Counted::UpTo(last) => key <= &**last,
            Counted::All => true,
        }
    }
}

impl Standing {
    /// The one that shows.
    pub(crate) fn visible(self, engine: &Engine, view: View) -> Option<Handle> {
        let shows = |handle: &Handle| {
            let record = engine.record(*handle);
            view.layer(record.namespace(), record.load_generation()) == Layer::Over
        };
        self.beside.filter(shows).or(self.base)
    }
}

impl Engine {
    /// Who has a key in a locked shard.
    pub(crate) fn standing(&self, shard: &Shard<'_>, view: View, key: &[u8]) -> Standing {
        let mut standing = Standing::default();
        let beside = view.beside();
        shard.find(|handle| {
            let record = self.record(handle);
            match record.try_pin(Mark::Peek) {
                Pin::Busy => return Probe::<()>::Retry,
                Pin::Gone => return Probe::Other,
                Pin::Pinned => {}
            }
            let number = record.namespace();
            let of_view = number == view.base() || Some(number) == beside;
            if of_view && self.key(record) == key {
                let place = if number == view.base() {
                    &mut standing.base
                } else {
                    &mut standing.beside
                };
                *place = Some(handle);
            }
            let last = record.unpin();
            debug_assert!(!last, "what is in a locked shard is not unlinked");
            Probe::Other
        });
        standing
    }

    /// What an entry of a merged load hides of the base.
    pub(crate) fn below(&self, shard: &Shard<'_>, entry: &Pinned) -> Option<Handle> {
        let space = self.spaces.at(entry.record().namespace())?;
        let home = self.spaces.home_of(space);
        if home.view().role() != Role::Over {
            return None;
        }
        let base = self.spaces.base(home);
        let standing = self.standing(shard, base.view, self.key(entry.record()));
        let is_over = base.view.role() == Role::Over && standing.beside == Some(entry.handle);
        standing.base.filter(|_| is_over)
    }

    /// Pins what is in a locked shard.
    pub(crate) fn pin_locked(self: &Arc<Self>, handle: Handle) -> Result<Pinned> {
        loop {
            match self.record(handle).try_pin(Mark::Peek) {
                Pin::Pinned => {
                    return Ok(Pinned {
                        engine: Arc::clone(self),
                        handle,
                    });
                }
                // Only a move makes it wait, and who moves waits for no lock.
                Pin::Busy => std::hint::spin_loop(),
                Pin::Gone => return Err(Error::internal("what is in a locked shard has gone")),
            }
        }
    }

    /// Takes an entry of one of a view's generations out of table and orders, and with it what it
    /// hid, or what a rollback would bring back though its key was deleted. Gives that other one.
    pub(crate) fn unlink_layered(
        &self,
        shard: &mut Shard<'_>,
        home: &Space,
        entry: &Pinned,
        why: Why,
    ) -> Option<Pinned> {
        let record = entry.record();
        let key = self.key(record);
        let mut base = self.spaces.base(home);
        let view = base.view;
        let standing = self.standing(shard, view, key);
        if ![standing.base, standing.beside].contains(&Some(entry.handle)) {
            drop(base);
            self.unlink_plain(shard, home, entry);
            return None;
        }
        let removed = shard.remove(entry.handle);
        debug_assert!(removed, "the caller has looked");
        if standing.base == Some(entry.handle) {
            self.take_out(base.space, &mut base.order, key, entry.handle);
            let beside = standing.beside?;
            match view.role() {
                Role::Over => home.shadow.lock().unhide(key, record.len()),
                Role::Kept | Role::Back if why == Why::Deleted => {
                    return entry.engine.remove_beside(shard, &base, beside);
                }
                _ => {}
            }
            return None;
        }
        if let Some(beside) = self.spaces.beside(view) {
            self.take_out(beside, &mut beside.order.write(), key, entry.handle);
        }
        let below = standing.base.filter(|_| view.role() == Role::Over)?;
        let below = entry.engine.pin_locked(below).ok()?;
        let removed = shard.remove(below.handle);
        debug_assert!(removed, "it was there");
        self.take_out(base.space, &mut base.order, key, below.handle);
        home.shadow.lock().unhide(key, below.record().len());
        Some(below)
    }

    /// Takes an entry out of table and order that has no other beside it, or that no view shows.
    pub(crate) fn unlink_plain(&self, shard: &mut Shard<'_>, home: &Space, entry: &Pinned) {
        let number = entry.record().namespace();
        let Some(space) = self.spaces.at(number) else {
            return;
        };
        // Under the shard's lock nobody merges it into another generation.
        let mut order = space.order.write();
        let view = home.view();
        let is_shown = number == view.base() || view.beside() == Some(number);
        if !is_shown && space.load.load(atomic::Ordering::Relaxed) == 0 {
            // Before it goes: who misses it then sees this.
            space.lost.store(true, atomic::Ordering::Release);
        }
        let key = self.key(entry.record());
        let ordered = self.take_out(space, &mut order, key, entry.handle);
        debug_assert!(ordered, "the order names what the table names");
        let removed = shard.remove(entry.handle);
        debug_assert!(removed, "it was there");
    }

    /// Takes out of a key's entries those that do not show, before another one comes.
    pub(crate) fn remove_hidden(
        self: &Arc<Self>,
        shard: &mut Shard<'_>,
        base: &Base<'_>,
        standing: Standing,
        visible: Option<Handle>,
    ) -> Option<Pinned> {
        let hidden = |of: Option<Handle>| of.filter(|of| Some(*of) != visible);
        if let Some(beside) = hidden(standing.beside) {
            return self.remove_beside(shard, base, beside);
        }
        // The base's order has the new one in its place already.
        let below = self.pin_locked(hidden(standing.base)?).ok()?;
        let removed = shard.remove(below.handle);
        debug_assert!(removed, "it was there");
        let home = self.spaces.home_of(base.space);
        let record = below.record();
        let key = self.key(record);
        self.leaves_order(base.space, record, key);
        home.shadow.lock().unhide(key, record.len());
        Some(below)
    }

    /// Takes an entry out of the generation beside the base.
    pub(crate) fn remove_beside(
        self: &Arc<Self>,
        shard: &mut Shard<'_>,
        base: &Base<'_>,
        beside: Handle,
    ) -> Option<Pinned> {
        let space = self.spaces.beside(base.view)?;
        let beside = self.pin_locked(beside).ok()?;
        let removed = shard.remove(beside.handle);
        debug_assert!(removed, "it was there");
        let key = self.key(beside.record());
        self.take_out(space, &mut space.order.write(), key, beside.handle);
        Some(beside)
    }
}

/// What a view shows of two orders, in key order. Both are locked.
pub(crate) struct Merged<'a> {
    engine: &'a Engine,
    view: View,
    lost: bool,
    base: Peekable<Fetched<'a>>,
    beside: Option<Peekable<Fetched<'a>>>,
}

impl<'a> Merged<'a> {
    /// The keys that begin with `prefix`, behind `after`, by a view; nothing of the base where that
    /// is [lost](crate::namespaces::Namespaces::is_lost).
    pub(crate) fn new(
        engine: &'a Engine,
        (view, lost): (View, bool),
        (base, beside): (&'a Order, Option<&'a Order>),
        prefix: &[u8],
        after: Option<&[u8]>,
        fetch: Fetch,
    ) -> Self {
        let range = |order: &'a Order| {
            let range = order.prefix(prefix, after, engine);
            Fetched::new(engine, range, fetch).peekable()
        };
        Self {
            engine,
            view,
            lost,
            base: range(base),
            beside: beside.map(range),
        }
    }
}

impl Iterator for Merged<'_> {
    type Item = Handle;

    fn next(&mut self) -> Option<Handle> {
        let (engine, view) = (self.engine, self.view);
        let hides = |handle: &Handle| {
            let record = engine.record(*handle);
            view.layer(record.namespace(), record.load_generation()) == Layer::Hidden
        };
        while self.base.next_if(|base| self.lost || hides(base)).is_some() {}
        let Some(beside) = &mut self.beside else {
            return self.base.next();
        };
        while beside.next_if(hides).is_some() {}
        let (Some(over), Some(below)) = (beside.peek().copied(), self.base.peek().copied()) else {
            return beside.next().or_else(|| self.base.next());
        };
        let order = engine.with_key(over, |over| engine.with_key(below, |below| over.cmp(below)));
        match order {
            Ordering::Less => beside.next(),
            Ordering::Greater => self.base.next(),
            Ordering::Equal => {
                self.base.next();
                beside.next()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_yet_changes_no_count() {
        let mut shadow = Shadow::default();
        shadow.unhide(b"a", 5);
        assert_eq!(shadow.next(), Some(&b""[..]));
        shadow.count(b"a", Some(5));
        shadow.count(b"b", None);
        shadow.count(b"c", Some(7));
        assert_eq!((shadow.entries, shadow.bytes), (2, 12));
        shadow.unhide(b"d", 9);
        shadow.unhide(b"a", 5);
        assert_eq!((shadow.entries, shadow.bytes), (1, 7));
        shadow.all_counted();
        shadow.unhide(b"c", 7);
        assert_eq!((shadow.entries, shadow.bytes, shadow.next()), (0, 0, None));
    }
}
