//! Commit and rollback: one store each, then what follows from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Tenant;

use super::{Load, LoadOutcome, State};
use crate::below::to_its_end;
use crate::cache::Cache;
use crate::engine::Engine;
use crate::id::Id;
use crate::lower::Description;
use crate::namespaces::Space;
use crate::reserve::Line;
use crate::room::GROW_TRIES;
use crate::view::Role;

impl Cache {
    /// Publishes all of a load at once. A second time it gives the same answer.
    ///
    /// What the load before it left to be rolled back is given up first, which takes time where
    /// that load was merged: a few microseconds a key.
    ///
    /// # Errors
    /// `not_found` for a load that there is not; `failed_precondition` for one that was aborted or
    /// rolled back; `resource_exhausted` where the index has no room, or whatever the lower tier meets:
    /// then it is still open.
    pub async fn commit_load(&self, tenant: &Tenant, id: &str) -> Result<LoadOutcome> {
        if !self.engine().lower.is_there() {
            return self.commit(tenant, id).await;
        }
        // What is forgotten below and what shows in memory go together.
        let (cache, tenant, id) = (self.clone(), tenant.clone(), id.to_owned());
        to_its_end(async move { cache.commit(&tenant, &id).await }).await
    }

    async fn commit(&self, tenant: &Tenant, id: &str) -> Result<LoadOutcome> {
        let engine = self.engine();
        let load = engine.loads.named(tenant, id)?;
        let home = engine.home(&load)?;
        let _turn = home.turn.lock().await;
        home.check_writable()?;
        let state = *load.state.lock();
        match state {
            State::Open => engine.touch(&load),
            State::Committed(outcome) => return Ok(outcome),
            State::RolledBack(_) | State::Aborted(_) => return Err(engine.not_open(&load, state)),
        }
        engine.settle_load(home).await?;
        home.brought.lock().clear();
        let changing = engine.keep_from_below(home);
        // Before it shows: what it takes the place of must not be found again, even where the load's own entry
        // is evicted at once. Until it shows, those keys are missed where only the tier below had them.
        let closing = engine.keep_closed(&load);
        engine.forget_under(&load, home).await?;
        let outcome = engine.publish_load(&load, home)?;
        drop((changing, closing));
        while !engine.count_step(home) {
            tokio::task::yield_now().await;
        }
        engine.keep_own_limits(home).await;
        Ok(outcome)
    }

    /// Restores what was before a load. What was put or deleted since stays so. A second time it
    /// gives the same answer. What the tier below has of the namespace goes.
    ///
    /// # Errors
    /// `not_found` for a load that there is not; `failed_precondition` for one that was not
    /// committed, and where what was before is not held any more.
    pub async fn rollback_load(&self, tenant: &Tenant, id: &str) -> Result<LoadOutcome> {
        let engine = self.engine();
        let load = engine.loads.named(tenant, id)?;
        let home = engine.home(&load)?;
        let _turn = home.turn.lock().await;
        home.check_writable()?;
        // Not held over what follows: whoever holds an order may wait for the list of loads, and
        // whoever has that for a load's state. The turn keeps others away.
        let state = *load.state.lock();
        let outcome = match state {
            State::Committed(outcome) => outcome,
            State::RolledBack(outcome) => {
                engine.forget_namespace_below(&load, home).await?;
                return Ok(outcome);
            }
            State::Open | State::Aborted(_) => {
                return Err(Error::precondition(format!(
                    "the load was not committed, so there is nothing to restore; load_id=`{id}`"
                )));
            }
        };
        if !engine.take_back(&load, home) {
            return Err(Error::precondition(format!(
                "what was before the load is not held any more: its time was over, another load \
                 was committed, or memory was wanted; load_id=`{id}`"
            )));
        }
        *load.state.lock() = State::RolledBack(outcome);
        self.take_back_brought(home);
        engine.loads.rolled_back.fetch_add(1, Ordering::Relaxed);
        // What of the load went below is not told apart from the rest there.
        engine.forget_namespace_below(&load, home).await?;
        Ok(outcome)
    }
}

/// What `Space::load` is of a load that takes no more puts for now.
pub(super) const CLOSING: u32 = u32::MAX;

/// See [`Engine::keep_closed`].
struct Closed<'a> {
    space: &'a Space,
    load: u32,
}

impl Drop for Closed<'_> {
    /// Where it was not committed after all, it is open again.
    fn drop(&mut self) {
        let order = self.space.order.write();
        let load = &self.space.load;
        let _ = load.compare_exchange(CLOSING, self.load, Ordering::Relaxed, Ordering::Relaxed);
        drop(order);
    }
}

/// Keys that may come up from below while a load can be rolled back.
const BROUGHT_MAX: usize = 1 << 16;

impl Cache {
    /// What has come up since the load that was just rolled back may be of it. No more than a miss where it is not.
    fn take_back_brought(&self, home: &Space) {
        for (key, version) in std::mem::take(&mut *home.brought.lock()) {
            let id = Id {
                tenant: home.tenant.clone(),
                namespace: home.namespace.clone(),
                key,
            };
            self.take_back(&id, version);
        }
    }
}

impl Engine {
    /// An entry has come up from below, in its namespace's turn.
    pub(crate) fn note_brought(&self, home: &Space, came: &Description) {
        let mut brought = home.brought.lock();
        if home.view().beside().is_none() {
            *brought = Vec::new();
        } else if brought.len() < BROUGHT_MAX {
            brought.push((came.id.key.clone(), came.version));
        } else if let Some(last) = self.loads.registry.lock().unsettled.get(&home.home) {
            // Too many to tell: what was before is not held any more.
            last.settling.store(true, Ordering::Relaxed);
        }
    }

    /// Nothing comes into an open load as long as the guard lives; what is asked of the tier below is asked of all
    /// of it.
    fn keep_closed(&self, load: &Load) -> Option<Closed<'_>> {
        let space = self
            .spaces
            .at(load.space)
            .filter(|_| self.lower.is_there())?;
        let order = space.order.write();
        let (number, open) = (load.number, &space.load);
        let closed = open.compare_exchange(number, CLOSING, Ordering::Relaxed, Ordering::Relaxed);
        drop(order);
        closed.is_ok().then_some(Closed {
            space,
            load: number,
        })
    }

    fn home(&self, load: &Load) -> Result<&Space> {
        let home = self.spaces.at(load.home);
        home.ok_or_else(|| Error::internal("a load's namespace is not known"))
    }

    async fn forget_namespace_below(self: &Arc<Self>, load: &Load, home: &Space) -> Result<()> {
        if !load.below_forgotten.load(Ordering::Relaxed) {
            let (tenant, namespace) = (&home.tenant, &home.namespace);
            self.forget_prefix_below(tenant, namespace, "").await?;
            load.below_forgotten.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends what the last commit left open: one generation is left.
    async fn settle_load(self: &Arc<Self>, home: &Space) -> Result<()> {
        if let Some(last) = self.loads.registry.lock().unsettled.get(&home.home) {
            last.settling.store(true, Ordering::Relaxed);
        }
        let mut grown = 0;
        loop {
            match self.settle_step(home) {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::task::yield_now().await,
                Err(full) if grown < GROW_TRIES => {
                    grown += 1;
                    self.let_index_grow(full, Line::Holder.into()).await?;
                }
                Err(full) => {
                    return Err(Error::exhausted(format!(
                        "no room for the index to merge the load before; limit=`memory` {full}"
                    )));
                }
            }
        }
    }

    /// Makes a load visible.
    fn publish_load(&self, load: &Arc<Load>, home: &Space) -> Result<LoadOutcome> {
        let space = self.spaces.at(load.space);
        let space = space.ok_or_else(|| Error::internal("a load's generation is not known"))?;
        let base = self.spaces.base(home);
        // Puts of the load that are under way come before this, or find it closed.
        let own = space.order.write();
        let mut state = load.state.lock();
        if *state != State::Open {
            return Err(self.not_open(load, *state));
        }
        space.load.store(0, Ordering::Relaxed);
        *home.shadow.lock() = crate::layers::Shadow::default();
        let view = if load.replace_all || base.order.is_empty() {
            let before = (base.view.base(), Role::Kept);
            base.view.next(load.space, Some(before))
        } else {
            base.view
                .next(base.view.base(), Some((load.space, Role::Over)))
        };
        home.set_view(view);
        let outcome = self.outcome(load);
        *state = State::Committed(outcome);
        drop(state);
        drop((own, base));
        self.loads.closed(load);
        self.loads.committed.fetch_add(1, Ordering::Relaxed);
        self.touch(load);
        let mut registry = self.loads.registry.lock();
        registry.unsettled.insert(load.home, Arc::clone(load));
        Ok(outcome)
    }

    /// Makes a load invisible again; false where what was before is not held.
    fn take_back(&self, load: &Arc<Load>, home: &Space) -> bool {
        // The generation of a load before it may be another one's by now.
        let is_last = {
            let registry = self.loads.registry.lock();
            let last = registry.unsettled.get(&load.home);
            last.is_some_and(|last| Arc::ptr_eq(last, load))
        };
        if !is_last || load.settling.load(Ordering::Relaxed) {
            return false;
        }
        let base = self.spaces.base(home);
        let view = base.view;
        match view.role() {
            Role::Over if view.beside() == Some(load.space) => {
                home.set_view(view.next(view.base(), None));
                drop(base);
                self.doom(load.space);
                true
            }
            Role::Kept if view.base() == load.space => {
                let Some(before) = view.beside() else {
                    return false;
                };
                home.set_view(view.next(before, Some((load.space, Role::Back))));
                true
            }
            _ => false,
        }
    }
}
