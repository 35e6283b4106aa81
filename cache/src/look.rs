//! A look-up among the generations of a key.
//!
//! The hash finds entries of every generation; the namespace's view, one word, says which one shows.
//! It is read after an entry is pinned. Where it rules an entry out that a commit has just brought,
//! or where the entry went before the view was read, there is nothing to believe: look again.

use std::sync::Arc;

use crate::engine::{Engine, Pinned, policy_hash};
use crate::id::Name;
use crate::index::{Handle, Mark, Pin, Record};
use crate::namespaces::Space;
use crate::view::{Layer, View};

/// By what a look-up goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// What shows now.
    Now,
    /// What showed by this view.
    By(View),
    /// This generation alone: for a load, which is judged by its own keys.
    In(u32),
}

impl Engine {
    /// Finds and pins a live entry, expired or not.
    pub(crate) fn find(
        self: &Arc<Self>,
        hash: u64,
        name: Name<'_>,
        mark: Mark,
        seen: Seen,
    ) -> Option<Pinned> {
        loop {
            let mut look = Look {
                engine: self,
                name,
                seen,
                view: None,
                below: None,
                again: false,
            };
            let is_it = |handle, record: &Record| look.is(handle, record);
            let found = self.index.get(hash, mark, is_it, |last| self.free(last));
            let ended = match found {
                None => look.end(),
                Some(handle) => Ended::Found(Pinned {
                    engine: Arc::clone(self),
                    handle,
                }),
            };
            match ended {
                Ended::Found(found) => {
                    if mark != Mark::Peek {
                        self.policy.hit(found.handle, policy_hash(hash));
                    }
                    return Some(found);
                }
                Ended::Missed => return None,
                Ended::Again => std::hint::spin_loop(),
            }
        }
    }
}

/// One round.
struct Look<'a> {
    engine: &'a Arc<Engine>,
    name: Name<'a>,
    seen: Seen,
    /// The namespace's home and what it showed, once an entry has told.
    view: Option<(&'a Space, View)>,
    /// What the base has, until it is known that nothing is over it.
    below: Option<Pinned>,
    again: bool,
}

enum Ended {
    Found(Pinned),
    Missed,
    Again,
}

impl<'a> Look<'a> {
    /// Whether a pinned record is the one.
    fn is(&mut self, handle: Handle, record: &Record) -> bool {
        let engine = self.engine;
        let number = record.namespace();
        if engine.key(record) != self.name.key.as_bytes() {
            return false;
        }
        let Some(space) = engine.spaces.at(number) else {
            return false;
        };
        if space.namespace != *self.name.namespace || space.tenant != *self.name.tenant {
            return false;
        }
        let view = match self.seen {
            Seen::In(wanted) => return number == wanted,
            Seen::By(view) => view,
            Seen::Now => {
                let home = engine.spaces.home_of(space);
                let view = home.view();
                if view.is_first() && number == view.base() {
                    return true;
                }
                self.note(home, view);
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

    fn note(&mut self, home: &'a Space, view: View) {
        match self.view {
            None => self.view = Some((home, view)),
            Some((_, before)) => self.again |= before != view,
        }
    }

    fn keep(&mut self, handle: Handle, record: &Record) {
        match record.try_pin(Mark::Peek) {
            Pin::Pinned => {
                self.below = Some(Pinned {
                    engine: Arc::clone(self.engine),
                    handle,
                });
            }
            Pin::Busy | Pin::Gone => self.again = true,
        }
    }

    /// Nothing was found that shows whatever else there is.
    fn end(self) -> Ended {
        let changed = self.view.is_some_and(|(home, view)| home.view() != view);
        if self.again || changed {
            return Ended::Again;
        }
        match self.below {
            Some(_) if matches!(self.seen, Seen::By(view) if self.engine.spaces.is_lost(view)) => {
                Ended::Missed
            }
            Some(below) if below.record().is_live() => Ended::Found(below),
            Some(_) => Ended::Again,
            None => Ended::Missed,
        }
    }
}
