//! From two generations to one: bounded steps, each key under its shard's lock and the locks of
//! both orders, so that it shows all the time and in one generation only.

use std::sync::Arc;

use crate::engine::Engine;
use crate::event::Why;
use crate::index::{Full, Handle};
use crate::layers::Shadow;
use crate::namespaces::Space;
use crate::view::{LOADED, Role, View};

/// Keys of one step: under a millisecond.
const STEP: usize = 256;

impl Engine {
    /// One step towards a namespace of one generation; true when it is one.
    ///
    /// # Errors
    /// [`Full`] where the index must grow first.
    pub(super) fn settle_step(self: &Arc<Self>, home: &Space) -> Result<bool, Full> {
        let view = home.view();
        match view.role() {
            Role::Alone => Ok(true),
            Role::Kept => {
                self.give_up(home, view);
                Ok(true)
            }
            Role::Over | Role::Back => {
                if !self.count_step(home) {
                    return Ok(false);
                }
                self.fold_step(home, view)
            }
        }
    }

    /// Forgets what was before a load that replaced all.
    pub(super) fn give_up(&self, home: &Space, view: View) {
        let base = self.spaces.base(home);
        if base.view != view || view.role() != Role::Kept {
            return;
        }
        home.set_view(view.with(None));
        drop(base);
        if let Some(before) = view.beside() {
            self.doom(before);
        }
    }

    /// Counts some of what a load hides of the base under it, and pins what is over something pinned;
    /// true when all is counted.
    pub(super) fn count_step(self: &Arc<Self>, home: &Space) -> bool {
        let view = home.view();
        let (Role::Over, Some(beside)) = (view.role(), self.spaces.beside(view)) else {
            return true;
        };
        let Some(after) = home.shadow.lock().next().map(<[u8]>::to_vec) else {
            return true;
        };
        let step = self.keys_of(beside, &after);
        for (key, _) in &step {
            let shard = self.index.table.lock(self.hash_in(home, key));
            let base = self.spaces.base(home);
            if base.view != view {
                return true;
            }
            let standing = self.standing(&shard, view, key);
            let hidden = standing.base.filter(|_| standing.beside.is_some());
            if let (Some(hidden), Some(over)) = (hidden, standing.beside)
                && let Ok(over) = self.pin_locked(over)
            {
                self.pin_over(&over, hidden);
            }
            let bytes = hidden.map(|hidden| self.record(hidden).len());
            home.shadow.lock().count(key, bytes);
        }
        if step.len() == STEP {
            return false;
        }
        let base = self.spaces.base(home);
        if base.view == view {
            home.shadow.lock().all_counted();
        }
        true
    }

    /// Brings some keys of the generation beside into the base.
    fn fold_step(self: &Arc<Self>, home: &Space, view: View) -> Result<bool, Full> {
        let (Some(beside), Some(number)) = (self.spaces.beside(view), view.beside()) else {
            return Ok(true);
        };
        for (key, handle) in self.keys_of(beside, &[]) {
            self.fold(home, view, &key, handle)?;
        }
        let base = self.spaces.base(home);
        if base.view != view || !beside.order.read().is_empty() {
            return Ok(false);
        }
        home.set_view(view.with(None));
        *home.shadow.lock() = Shadow::default();
        drop(base);
        self.doom(number);
        Ok(true)
    }

    fn fold(
        self: &Arc<Self>,
        home: &Space,
        view: View,
        key: &[u8],
        handle: Handle,
    ) -> Result<(), Full> {
        let mut shard = self.index.table.lock(self.hash_in(home, key));
        let mut base = self.spaces.base(home);
        if base.view != view {
            return Ok(());
        }
        let (standing, Some(beside)) = (self.standing(&shard, view, key), self.spaces.beside(view))
        else {
            return Ok(());
        };
        if standing.beside != Some(handle) {
            return Ok(());
        }
        let record = self.record(handle);
        let loaded = record.load_generation() == LOADED;
        if view.role() == Role::Back && loaded {
            drop(base);
            drop(shard);
            if let Some(entry) = self.pin(handle) {
                self.unlink(entry, Why::Replaced);
            }
            return Ok(());
        }
        base.order.insert(key, handle, &**self)?;
        let mut below = None;
        if let Some(hidden) = standing.base
            && let Ok(hidden) = self.pin_locked(hidden)
        {
            let removed = shard.remove(hidden.handle);
            debug_assert!(removed, "it was there");
            self.leaves_order(home, hidden.record(), key);
            home.shadow.lock().unhide(key, hidden.record().len());
            below = Some(hidden);
        }
        // Who goes by a view from before the load knows by the mark that it is not for him.
        let mark = if loaded { view.epoch() } else { 0 };
        let mut order = beside.order.write();
        home.watches.note(record, key, Some((view.base(), mark)));
        order.remove(key, handle, &**self);
        drop(order);
        beside.subtract(record.len(), loaded);
        base.space.add(record.len(), false);
        record.set_owner(view.base(), mark);
        drop(base);
        if let Some(below) = &below {
            self.let_go_of(below, None);
            self.went(below, Why::Replaced);
        }
        drop(shard);
        if let Some(below) = below {
            self.after_unlink(below);
        }
        Ok(())
    }

    /// The first keys of a generation after one.
    pub(super) fn keys_of(&self, space: &Space, after: &[u8]) -> Vec<(Vec<u8>, Handle)> {
        let order = space.order.read();
        let after = (!after.is_empty()).then_some(after);
        order
            .prefix(b"", after, self)
            .take(STEP)
            .map(|handle| (self.key(self.record(handle)).to_vec(), handle))
            .collect()
    }
}
