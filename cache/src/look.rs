//! A look-up among the generations of a key.
//!
//! The hash finds entries of every generation; the namespace's view, one word, says which one shows.
//! It is read after an entry is pinned. Where it rules an entry out that a commit has just brought,
//! or where the entry went before the view was read, there is nothing to believe: look again.
//!
//! What is around the entries is behind [`Ground`], so that a model of them can be checked in every
//! order of events (`tests/loom_view.rs`).

use std::sync::Arc;

use crate::engine::{Engine, PinnedHere, policy_hash};
use crate::id::Name;
use crate::index::sync::relax;
use crate::index::{Handle, Index, Mark, Pin, Record};
use crate::namespaces::Space;
use crate::view::{Layer, View, Word};

/// By what a look-up goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// What shows now.
    Now,
    /// What showed by this view.
    By(View),
    /// This generation alone: for a load, which is judged by its own keys.
    In(u32),
}

/// What a look-up for a key asks about the entries that it meets.
pub trait Ground {
    /// One generation of a namespace.
    type Space;
    /// A pin on an entry, taken off when this is dropped.
    type Pinned;

    /// The generation of a pinned record, where it is of the key and namespace that are looked for.
    fn space(&self, record: &Record) -> Option<&Self::Space>;

    /// What the namespace of a generation shows.
    fn word<'a>(&'a self, space: &'a Self::Space) -> &'a Word;

    /// Whether nothing of the base can be shown to who goes by this view.
    fn is_lost(&self, view: View) -> bool;

    /// Takes over a pin.
    fn pinned(&self, handle: Handle) -> Self::Pinned;

    /// Frees a record whose last pin was taken off.
    fn free(&self, handle: Handle);
}

/// Finds and pins a live entry.
pub fn find<G: Ground>(
    index: &Index,
    ground: &G,
    hash: u64,
    mark: Mark,
    seen: Seen,
) -> Option<(Handle, G::Pinned)> {
    let mut round = 0;
    loop {
        let mut look = Look {
            index,
            ground,
            seen,
            view: None,
            below: None,
            again: false,
        };
        let is_it = |handle, record: &Record| look.is(handle, record);
        if let Some(handle) = index.get(hash, mark, is_it, |last| ground.free(last)) {
            return Some((handle, ground.pinned(handle)));
        }
        match look.end() {
            Ended::Found(handle, pinned) => return Some((handle, pinned)),
            Ended::Missed => return None,
            Ended::Again => relax(round),
        }
        round += 1;
    }
}

impl Engine {
    /// Finds and pins a live entry, expired or not.
    pub(crate) fn find(
        self: &Arc<Self>,
        hash: u64,
        name: Name<'_>,
        mark: Mark,
        seen: Seen,
    ) -> Option<PinnedHere<'_>> {
        let ground = Named { engine: self, name };
        let (handle, found) = find(&self.index, &ground, hash, mark, seen)?;
        if mark != Mark::Peek {
            self.policy.hit(handle, policy_hash(hash));
        }
        Some(found)
    }
}

/// The entries of a name.
struct Named<'e, 'n> {
    engine: &'e Arc<Engine>,
    name: Name<'n>,
}

impl<'e> Ground for Named<'e, '_> {
    type Space = Space;
    type Pinned = PinnedHere<'e>;

    fn space(&self, record: &Record) -> Option<&Space> {
        if self.engine.key(record) != self.name.key.as_bytes() {
            return None;
        }
        let space = self.engine.spaces.at(record.namespace())?;
        let same = space.namespace == *self.name.namespace && space.tenant == *self.name.tenant;
        same.then_some(space)
    }

    fn word<'a>(&'a self, space: &'a Space) -> &'a Word {
        &self.engine.spaces.home_of(space).word
    }

    fn is_lost(&self, view: View) -> bool {
        self.engine.spaces.is_lost(view)
    }

    fn pinned(&self, handle: Handle) -> PinnedHere<'e> {
        PinnedHere {
            engine: self.engine,
            handle,
        }
    }

    fn free(&self, handle: Handle) {
        self.engine.free(handle);
    }
}

/// One round.
struct Look<'a, G: Ground> {
    index: &'a Index,
    ground: &'a G,
    seen: Seen,
    /// The namespace's word and what it showed, once an entry has told.
    view: Option<(&'a Word, View)>,
    /// What the base has, until it is known that nothing is over it.
    below: Option<(Handle, G::Pinned)>,
    again: bool,
}

enum Ended<P> {
    Found(Handle, P),
    Missed,
    Again,
}

impl<'a, G: Ground> Look<'a, G> {
    /// Whether a pinned record is the one.
    fn is(&mut self, handle: Handle, record: &Record) -> bool {
        // Read once: it may be merged into another one meanwhile.
        let number = record.namespace();
        let Some(space) = self.ground.space(record) else {
            return false;
        };
        let view = match self.seen {
            Seen::In(wanted) => return number == wanted,
            Seen::By(view) => view,
            Seen::Now => {
                let word = self.ground.word(space);
                let view = word.view();
                if view.is_first() && number == view.base() {
                    return true;
                }
                self.note(word, view);
                view
            }
        };
        let layer = view.layer(number, record.load_generation());
        // Between the pin and the view it may have gone, or been merged into the base.
        if !record.is_live() || record.namespace() != number {
            self.again = true;
            return false;
        }
        match layer {
            Layer::Over => true,
            Layer::Base if !view.is_layered() => true,
            Layer::Base => {
                self.keep(handle, record);
                false
            }
            Layer::Hidden => false,
        }
    }

    fn note(&mut self, word: &'a Word, view: View) {
        match self.view {
            None => self.view = Some((word, view)),
            Some((_, before)) => self.again |= before != view,
        }
    }

    fn keep(&mut self, handle: Handle, record: &Record) {
        match record.try_pin(Mark::Peek) {
            Pin::Pinned => self.below = Some((handle, self.ground.pinned(handle))),
            Pin::Busy | Pin::Gone => self.again = true,
        }
    }

    /// Nothing was found that shows whatever else there is.
    fn end(self) -> Ended<G::Pinned> {
        let changed = self.view.is_some_and(|(word, view)| word.view() != view);
        if self.again || changed {
            return Ended::Again;
        }
        match self.below {
            Some(_) if matches!(self.seen, Seen::By(view) if self.ground.is_lost(view)) => {
                Ended::Missed
            }
            Some((handle, below)) if self.index.records.at(handle).is_live() => {
                Ended::Found(handle, below)
            }
            Some(_) => Ended::Again,
            None => Ended::Missed,
        }
    }
}
