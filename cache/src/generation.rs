//! What a namespace shows at one moment, for several look-ups that must agree.
//!
//! A load that is committed or rolled back meanwhile changes nothing for who holds a [`Generation`]:
//! each look-up gives what it would have given before, or nothing where that has gone. Single puts
//! and deletes show at once, as always.

use std::sync::Arc;

use bowstring_wire::name::{Namespace, Tenant};

use crate::cache::Cache;
use crate::engine::Engine;
use crate::id::Id;
use crate::index::Mark;
use crate::look::Seen;
use crate::namespaces::Space;
use crate::read::Entry;
use crate::view::{Readers, View};

/// See above.
pub struct Generation {
    engine: Arc<Engine>,
    held: Option<Held>,
}

struct Held {
    home: u32,
    view: View,
}

impl Cache {
    /// What a namespace shows now.
    pub fn generation(&self, tenant: &Tenant, namespace: &Namespace) -> Generation {
        let engine = Arc::clone(self.engine());
        let held = engine.spaces.find(tenant, namespace).and_then(|home| {
            let view = engine.hold_view(engine.spaces.at(home)?);
            Some(Held { home, view })
        });
        Generation { engine, held }
    }

    /// As [`Cache::get`], in a generation of the same namespace.
    pub fn get_in(&self, generation: &Generation, id: &Id) -> Option<Entry> {
        let found = self.find(id, self.mark(), generation.seen()?);
        self.count(id, found)
    }

    /// As [`Cache::peek`], in a generation of the same namespace.
    pub fn peek_in(&self, generation: &Generation, id: &Id) -> Option<Entry> {
        self.find(id, Mark::Peek, generation.seen()?)
    }
}

impl Generation {
    fn seen(&self) -> Option<Seen> {
        self.view().map(Seen::By)
    }

    pub(crate) fn view(&self) -> Option<View> {
        self.held.as_ref().map(|held| held.view)
    }

    /// The home and what it showed; `None` where the namespace is not known.
    pub(crate) fn shown(&self) -> Option<(u32, &Space, View)> {
        let held = self.held.as_ref()?;
        Some((held.home, self.engine.spaces.at(held.home)?, held.view))
    }

    /// Whether it is what the namespace shows now: the tier below knows no other.
    pub fn is_present(&self) -> bool {
        let Some(held) = &self.held else {
            return true;
        };
        let home = self.engine.spaces.at(held.home);
        home.is_some_and(|home| home.view() == held.view)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            self.engine.let_view_go(held.view);
        }
    }
}

impl Engine {
    /// The present view of a namespace, whose generations are not used again until it is let go.
    pub(crate) fn hold_view(&self, home: &Space) -> View {
        let count = |view| self.count_readers(view, Readers::come);
        home.word.hold(count, |view| self.let_view_go(view))
    }

    pub(crate) fn let_view_go(&self, view: View) {
        self.count_readers(view, Readers::go);
    }

    fn count_readers(&self, view: View, count: impl Fn(&Readers)) {
        let beside = self.spaces.beside(view).filter(|_| view.is_layered());
        for space in self.spaces.at(view.base()).into_iter().chain(beside) {
            count(&space.readers);
        }
    }
}
