//! Which loads there are, for who looks.

use std::sync::Arc;

use bowstring_wire::name::{Namespace, Tenant};

use super::pass::Stage;
use super::{Load, LoadOutcome};
use crate::cache::Cache;
use crate::engine::Engine;

/// A load that is open, or that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLoad {
    /// Its id.
    pub id: String,
    /// Where its keys go.
    pub namespace: Namespace,
    /// `open`, `committed`, `rolled_back` or `aborted`.
    pub state: &'static str,
    /// Whether keys that it lacks go when it is committed.
    pub replace_all: bool,
    /// What it has, or had at its end.
    pub holds: LoadOutcome,
    /// Bytes that it was said to hold; `None` where nothing was said.
    pub declared_bytes: Option<u64>,
    /// When something was last done with it, in Unix milliseconds.
    pub last_used_ms: u64,
}

impl Cache {
    /// The tenant's loads: those that are open, and the finished ones that are remembered, in the order in
    /// which they were begun.
    pub fn loads(&self, tenant: &Tenant) -> Vec<ListedLoad> {
        let engine = self.engine();
        let of_tenant: Vec<Arc<Load>> = {
            let registry = engine.loads.registry.lock();
            let all = registry.by_number.values();
            all.filter(|load| load.tenant == *tenant).cloned().collect()
        };
        of_tenant.iter().map(|load| engine.listed(load)).collect()
    }
}

impl Engine {
    fn listed(&self, load: &Load) -> ListedLoad {
        let passed = load.passed();
        let (state, holds) = match passed.stage {
            Stage::Open => ("open", self.outcome(load)),
            Stage::Committed => ("committed", passed.outcome),
            Stage::RolledBack => ("rolled_back", passed.outcome),
            Stage::Aborted => ("aborted", passed.outcome),
        };
        let unused = self.clock.monotonic().saturating_sub(load.used());
        let unused_ms = u64::try_from(unused.as_millis()).unwrap_or(u64::MAX);
        ListedLoad {
            id: load.id(),
            namespace: load.namespace.clone(),
            state,
            replace_all: load.replace_all,
            holds,
            declared_bytes: (load.declared_bytes > 0).then_some(load.declared_bytes),
            last_used_ms: self.clock.now_ms().saturating_sub(unused_ms),
        }
    }
}
