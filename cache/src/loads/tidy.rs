//! What has to be done now and then: windows that are over, loads that were forgotten, generations
//! to be emptied. And what goes first when memory is wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Load, REMEMBERED_MAX, Registry, State};
use crate::cache::Cache;
use crate::engine::{Engine, Pinned};
use crate::event::Why;
use crate::index::Handle;
use crate::view::Role;

/// Entries of a generation that one look for a victim passes over.
const LOOKED_AT: usize = 64;

impl Cache {
    /// Does a step of what loads leave behind: under a millisecond. True when there is more to do
    /// at once; else a few times a second is often enough.
    pub fn tidy_loads(&self) -> bool {
        let engine = self.engine();
        engine.expire_loads();
        let more = engine.settle_some();
        engine.empty_some() || more
    }
}

impl Engine {
    /// The next entry of a generation that nobody sees: it goes before all others. Where there is
    /// none, and `wanted` very much, the oldest generation that is only kept for a rollback is
    /// given up.
    pub(crate) fn unseen_victim(
        self: &Arc<Self>,
        takes: &mut dyn FnMut(Handle) -> bool,
    ) -> Option<Pinned> {
        loop {
            if self.loads.doomed.count.load(Ordering::Acquire) > 0 {
                let numbers: Vec<u32> = self.loads.doomed.numbers.lock().iter().copied().collect();
                for number in numbers {
                    if let Some(victim) = self.victim_in(number, takes) {
                        return Some(victim);
                    }
                }
            }
            if !self.give_up_oldest() {
                return None;
            }
        }
    }

    fn victim_in(
        self: &Arc<Self>,
        number: u32,
        takes: &mut dyn FnMut(Handle) -> bool,
    ) -> Option<Pinned> {
        let space = self.spaces.at(number)?;
        let some: Vec<Handle> = {
            let order = space.order.read();
            order.prefix(b"", None, &**self).take(LOOKED_AT).collect()
        };
        let of_it = |entry: &Pinned| entry.record().namespace() == number;
        some.into_iter()
            .filter(|handle| takes(*handle))
            .find_map(|handle| self.pin(handle).filter(of_it))
    }

    fn give_up_oldest(&self) -> bool {
        let kept = {
            let registry = self.loads.registry.lock();
            let kept = registry.unsettled.values().filter_map(|load| {
                let view = self.spaces.at(load.home)?.view();
                (view.role() == Role::Kept).then(|| (load.used(), load.home, view))
            });
            kept.min_by_key(|(used, home, _)| (*used, *home))
        };
        let Some((home, view)) =
            kept.and_then(|(_, home, view)| Some((self.spaces.at(home)?, view)))
        else {
            return false;
        };
        self.give_up(home, view);
        true
    }

    /// Forgets loads that nobody has done anything with, and finished ones that are too many.
    fn expire_loads(&self) {
        let now = self.clock.monotonic();
        let mut forgotten = Vec::new();
        let mut registry = self.loads.registry.lock();
        let mut finished = 0;
        for load in registry.by_number.values() {
            let unused = now.saturating_sub(load.used());
            let mut state = load.state.lock();
            if *state == State::Open {
                if unused >= self.config.load_idle {
                    *state = State::Aborted(self.outcome(load));
                    forgotten.push((Arc::clone(load), true));
                }
            } else {
                finished += 1;
                if unused >= self.config.load_idle.max(self.config.rollback_window) {
                    forgotten.push((Arc::clone(load), false));
                }
            }
        }
        let many = finished.max(REMEMBERED_MAX) - REMEMBERED_MAX;
        let oldest = registry.by_number.values().filter(|load| !load.is_open());
        let oldest: Vec<_> = oldest
            .take(many)
            .map(|load| (Arc::clone(load), false))
            .collect();
        for (load, _) in forgotten.iter().chain(&oldest) {
            registry.by_number.remove(&load.number);
        }
        drop(registry);
        for (load, _) in forgotten.iter().filter(|(_, was_open)| *was_open) {
            self.close(load);
            self.loads.expired.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A step for each namespace whose window is over, or that was rolled back.
    fn settle_some(self: &Arc<Self>) -> bool {
        let now = self.clock.monotonic();
        let unsettled: Vec<Arc<Load>> = {
            let registry = self.loads.registry.lock();
            registry.unsettled.values().cloned().collect()
        };
        let mut more = false;
        for load in unsettled {
            let Some(home) = self.spaces.at(load.home) else {
                continue;
            };
            // Whoever commits or rolls back settles for himself.
            let Ok(_turn) = home.turn.try_lock() else {
                continue;
            };
            let same = |there: &Arc<Load>| Arc::ptr_eq(there, &load);
            let is_last =
                |registry: &Registry| registry.unsettled.get(&load.home).is_some_and(same);
            if !is_last(&self.loads.registry.lock()) {
                continue;
            }
            let over = now.saturating_sub(load.used()) >= self.config.rollback_window;
            let settled = match home.view().role() {
                Role::Alone => true,
                Role::Over | Role::Kept if !over => continue,
                _ => {
                    load.settling.store(true, Ordering::Relaxed);
                    match self.settle_step(home) {
                        Ok(settled) => settled,
                        // The index has no room: later.
                        Err(_) => continue,
                    }
                }
            };
            more |= !settled;
            if settled {
                self.loads.registry.lock().unsettled.remove(&load.home);
            }
        }
        more
    }

    /// Takes some entries out of a generation that is to be emptied, and gives back its number when
    /// it is empty. One that somebody still reads waits, as long as no memory is wanted.
    fn empty_some(self: &Arc<Self>) -> bool {
        let unread = |number: &u32| {
            let space = self.spaces.at(*number);
            space.is_some_and(|space| space.readers.none())
        };
        let next = |numbers: &VecDeque<u32>| numbers.iter().copied().find(unread);
        let Some(number) = next(&self.loads.doomed.numbers.lock()) else {
            return false;
        };
        let Some(space) = self.spaces.at(number) else {
            return false;
        };
        for (_, handle) in self.keys_of(space, &[]) {
            if let Some(entry) = self.pin(handle)
                && entry.record().namespace() == number
            {
                self.unlink(entry, Why::Replaced);
            }
        }
        if !space.order.read().is_empty() {
            return true;
        }
        let mut numbers = self.loads.doomed.numbers.lock();
        if !numbers.contains(&number) || !unread(&number) {
            return next(&numbers).is_some();
        }
        numbers.retain(|other| *other != number);
        self.loads.doomed.count.fetch_sub(1, Ordering::Relaxed);
        let more = next(&numbers).is_some();
        drop(numbers);
        self.spaces.recycle(number);
        more
    }
}
