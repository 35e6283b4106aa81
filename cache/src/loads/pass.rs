//! Loads pass to a successor: which there are and what they came to, so that a call that is sent again has the same answer
//! there; and of the open ones what they hold.
//!
//! What a committed one could be rolled back to stays behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::commit::CLOSING;
use super::{Load, LoadOutcome, State};
use crate::engine::Engine;

/// What a successor has to know of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassedLoad {
    pub(crate) number: u32,
    /// The random half of its id.
    pub(crate) start: u32,
    pub(crate) stage: Stage,
    pub(crate) replace_all: bool,
    pub(crate) below_forgotten: bool,
    /// What it was said that it would hold.
    pub(crate) declared_bytes: u64,
    /// What it came to; nothing where it is open.
    pub(crate) outcome: LoadOutcome,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    Committed,
    RolledBack,
    Aborted,
}

impl Load {
    /// What it is now. Who has its namespace's base locked sees what the view of that says.
    pub(crate) fn passed(&self) -> PassedLoad {
        let nothing = LoadOutcome {
            entries: 0,
            bytes: 0,
        };
        let (stage, outcome) = match *self.state.lock() {
            State::Open => (Stage::Open, nothing),
            State::Committed(outcome) => (Stage::Committed, outcome),
            State::RolledBack(outcome) => (Stage::RolledBack, outcome),
            State::Aborted(outcome) => (Stage::Aborted, outcome),
        };
        PassedLoad {
            number: self.number,
            start: self.start,
            stage,
            replace_all: self.replace_all,
            below_forgotten: self.below_forgotten.load(Ordering::Relaxed),
            declared_bytes: self.declared_bytes,
            outcome,
        }
    }
}

impl Engine {
    /// The number of the last load that was begun, and all that are known, by the homes of their namespaces.
    pub(crate) fn loads_to_pass(&self) -> (u32, BTreeMap<u32, Vec<Arc<Load>>>) {
        let registry = self.loads.registry.lock();
        let mut by_home: BTreeMap<u32, Vec<Arc<Load>>> = BTreeMap::new();
        for load in registry.by_number.values() {
            by_home.entry(load.home).or_default().push(load.clone());
        }
        (registry.last, by_home)
    }

    /// No load that begins from now on has a number up to this.
    pub(crate) fn number_loads_after(&self, last: u32) {
        let mut registry = self.loads.registry.lock();
        registry.last = registry.last.max(last);
    }

    /// Takes over a load of a namespace, and gives the generation that its entries go into: `None` where it is not open, or
    /// cannot be. Its time begins anew.
    pub(crate) fn adopt_load(&self, home: u32, passed: &PassedLoad) -> Option<u32> {
        let names = self.spaces.at(home)?;
        let PassedLoad { number, stage, .. } = *passed;
        let mut registry = self.loads.registry.lock();
        if [0, CLOSING].contains(&number) || registry.by_number.contains_key(&number) {
            return None;
        }
        let space = match stage {
            Stage::Open => self.spaces.generation(home).ok()?,
            // Nothing of it is looked for there.
            Stage::Committed | Stage::RolledBack | Stage::Aborted => home,
        };
        let load = Arc::new(Load {
            number,
            start: passed.start,
            tenant: names.tenant.clone(),
            namespace: names.namespace.clone(),
            home,
            space,
            replace_all: passed.replace_all,
            declared_bytes: passed.declared_bytes,
            state: Mutex::new(match stage {
                Stage::Open => State::Open,
                Stage::Committed => State::Committed(passed.outcome),
                Stage::RolledBack => State::RolledBack(passed.outcome),
                Stage::Aborted => State::Aborted(passed.outcome),
            }),
            settling: AtomicBool::new(stage != Stage::Open),
            below_forgotten: AtomicBool::new(passed.below_forgotten),
            used_ns: AtomicU64::new(0),
        });
        registry.last = registry.last.max(number);
        if stage == Stage::Open {
            self.open(&mut registry, load);
            return Some(space);
        }
        self.touch(&load);
        registry.by_number.insert(number, load);
        None
    }

    /// Aborts the open load that holds most; false where none is open. There is less memory than there was.
    pub(crate) fn abort_largest_load(&self) -> bool {
        let largest = {
            let registry = self.loads.registry.lock();
            let open = registry.open.iter();
            open.max_by_key(|load| self.stored_bytes(load)).cloned()
        };
        largest.is_some_and(|load| self.abort(&load).is_some())
    }
}
