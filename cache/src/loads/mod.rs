//! Loads: many puts that become visible at once.
//!
//! A load fills a generation of its namespace that no view shows ([`crate::view`]). To commit it is
//! one store, whatever it holds; what was before stays until the window for a rollback is over, the
//! next load is committed, or memory is wanted.
//!
//! - `mod`: which loads there are; begin, find, abort
//! - `commit`: commit and roll back
//! - `fold`: from two generations to one, key by key, behind everybody's back
//! - `tidy`: what has to be done now and then: windows, forgotten loads, generations to be emptied
//! - `room`: what open loads may hold
//! - `listed`: which there are, for who looks
//! - `pass`: how they pass to a successor

mod commit;
mod fold;
mod listed;
mod pass;
mod room;
mod tidy;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bowstring_wire::error::{Error, Result, clip};
use bowstring_wire::limits::MAX_QUOTED_BYTES;
use bowstring_wire::name::{Namespace, Tenant};
use parking_lot::Mutex;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::namespaces::Space;

pub use listed::ListedLoad;
pub(crate) use pass::{PassedLoad, Stage};

/// Finished loads that are remembered, so that a call that is sent again has the same answer.
const REMEMBERED_MAX: usize = 1_024;

/// What is known of a load when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadSpec {
    /// When it is committed, keys that it lacks go.
    pub replace_all: bool,
    /// Bytes that it will hold, where they are known: refused at once where there is no room.
    pub size_bytes: Option<u64>,
}

/// What a load came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOutcome {
    /// Entries that it had.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
}

/// How often each thing has happened to loads since the start, and how many are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of what happened")]
pub struct LoadStats {
    pub open: u64,
    /// What the open ones hold, in bytes.
    pub open_bytes: u64,
    pub committed: u64,
    pub rolled_back: u64,
    pub aborted: u64,
    pub expired: u64,
}

pub(crate) struct Loads {
    /// The random half of the ids of those that begin here, so that no load is taken for one of an earlier start.
    start: u32,
    registry: Mutex<Registry>,
    /// Where nothing is open, nobody looks further.
    open: AtomicU64,
    doomed: Doomed,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    aborted: AtomicU64,
    expired: AtomicU64,
}

#[derive(Default)]
struct Registry {
    last: u32,
    by_number: BTreeMap<u32, Arc<Load>>,
    open: Vec<Arc<Load>>,
    /// The last load committed in each namespace that has not been settled.
    unsettled: BTreeMap<u32, Arc<Load>>,
}

/// Generations that no view shows, to be emptied.
#[derive(Default)]
struct Doomed {
    numbers: Mutex<VecDeque<u32>>,
    count: AtomicU64,
}

/// One load.
pub(crate) struct Load {
    number: u32,
    /// The random half of its id: that of the start in which it began.
    start: u32,
    tenant: Tenant,
    namespace: Namespace,
    /// The home of its namespace.
    pub(crate) home: u32,
    /// The generation that it fills.
    pub(crate) space: u32,
    pub(crate) replace_all: bool,
    declared_bytes: u64,
    state: Mutex<State>,
    /// Whether what was before it is no longer whole. Changed in its namespace's turn.
    settling: AtomicBool,
    /// Whether it is sure that the tier below finds nothing of a load that was rolled back. Changed in its
    /// namespace's turn.
    below_forgotten: AtomicBool,
    /// When something was last done with it, in nanoseconds of the monotonic clock.
    used_ns: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Committed(LoadOutcome),
    RolledBack(LoadOutcome),
    Aborted(LoadOutcome),
}

impl Cache {
    /// Opens a load and gives its id.
    ///
    /// # Errors
    /// `resource_exhausted` for too many open loads, or where the size that is said does not fit
    /// beside what is there.
    pub fn begin_load(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        spec: LoadSpec,
    ) -> Result<String> {
        let engine = self.engine();
        engine.check_writable(tenant, namespace)?;
        let home = engine.spaces.intern(tenant, namespace)?;
        let declared_bytes = spec.size_bytes.unwrap_or(0);
        let mut registry = engine.loads.registry.lock();
        room::check_count(&registry, home, engine.config.loads_max)?;
        engine.check_claim(&registry, home, None, declared_bytes)?;
        let space = engine.spaces.generation(home)?;
        let number = registry.last.wrapping_add(1).max(1);
        registry.last = number;
        let load = Arc::new(Load {
            number,
            start: engine.loads.start,
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            home,
            space,
            replace_all: spec.replace_all,
            declared_bytes,
            state: Mutex::new(State::Open),
            settling: AtomicBool::new(false),
            below_forgotten: AtomicBool::new(false),
            used_ns: AtomicU64::new(0),
        });
        let id = load.id();
        engine.open(&mut registry, load);
        Ok(id)
    }

    /// The number of an open load, as puts carry it.
    ///
    /// # Errors
    /// `not_found` for a load that there is not, or not in this namespace; `failed_precondition`
    /// for one that was committed or aborted.
    pub fn load(&self, tenant: &Tenant, namespace: &Namespace, id: &str) -> Result<u32> {
        let engine = self.engine();
        let load = engine.loads.named(tenant, id)?;
        if load.namespace != *namespace {
            return Err(unknown(id));
        }
        engine.open_load(load.number).map(|load| load.number)
    }

    /// Where a load's keys go, whatever became of it.
    ///
    /// # Errors
    /// `not_found` for a load that there is not, or not in the namespace that is `expected`.
    pub fn namespace_of_load(
        &self,
        tenant: &Tenant,
        expected: Option<&Namespace>,
        id: &str,
    ) -> Result<Namespace> {
        let load = self.engine().loads.named(tenant, id)?;
        if expected.is_some_and(|expected| *expected != load.namespace) {
            return Err(unknown(id));
        }
        Ok(load.namespace.clone())
    }

    /// Forgets an open load and all that it holds. A second time it is no error.
    ///
    /// # Errors
    /// `not_found` for a load that there is not, `failed_precondition` for one that was committed.
    pub fn abort_load(&self, tenant: &Tenant, id: &str) -> Result<LoadOutcome> {
        let engine = self.engine();
        let load = engine.loads.named(tenant, id)?;
        if let Some(outcome) = engine.abort(&load) {
            return Ok(outcome);
        }
        match *load.state.lock() {
            State::Aborted(outcome) => Ok(outcome),
            _ => Err(Error::precondition(format!(
                "the load was committed and cannot be aborted, but perhaps rolled back; \
                 load_id=`{id}`"
            ))),
        }
    }
}

impl Loads {
    pub(crate) fn new(start: u32) -> Self {
        Self {
            start,
            registry: Mutex::default(),
            open: AtomicU64::new(0),
            doomed: Doomed::default(),
            committed: AtomicU64::new(0),
            rolled_back: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    /// Whether there are entries that must not be evicted because their load is open.
    pub(crate) fn any_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// The home of a load's namespace; none for 0, which is no load.
    pub(crate) fn home_of(&self, number: u32) -> Option<u32> {
        let known = |number| {
            self.registry
                .lock()
                .by_number
                .get(&number)
                .map(|load| load.home)
        };
        Some(number).filter(|number| *number != 0).and_then(known)
    }

    fn closed(&self, load: &Load) {
        let mut registry = self.registry.lock();
        registry.open.retain(|open| open.number != load.number);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// The load of an id, whatever became of it.
    fn named(&self, tenant: &Tenant, id: &str) -> Result<Arc<Load>> {
        let number = id
            .split_once('-')
            .and_then(|(number, _)| number.parse().ok());
        let load = number.and_then(|number| self.registry.lock().by_number.get(&number).cloned());
        load.filter(|load| load.tenant == *tenant && load.id() == id)
            .ok_or_else(|| unknown(id))
    }
}

impl Engine {
    /// The open load of a number, for a put.
    ///
    /// # Errors
    /// `not_found`, or `failed_precondition` for one that is not open any more.
    pub(crate) fn open_load(&self, number: u32) -> Result<Arc<Load>> {
        let load = self.loads.registry.lock().by_number.get(&number).cloned();
        let load = load.ok_or_else(|| unknown(&id_of(number, self.loads.start)))?;
        let state = *load.state.lock();
        if state == State::Open {
            self.touch(&load);
            return Ok(load);
        }
        Err(self.not_open(&load, state))
    }

    /// What is said to a put whose load was closed meanwhile.
    pub(crate) fn closed_load(&self, number: u32) -> Error {
        match self.open_load(number) {
            Err(error) => error,
            Ok(load) => self.not_open(&load, State::Open),
        }
    }

    fn not_open(&self, load: &Load, state: State) -> Error {
        let was = match state {
            State::Open => "is being committed",
            State::Committed(_) => "was committed",
            State::RolledBack(_) => "was rolled back",
            State::Aborted(_) => "was aborted",
        };
        Error::precondition(format!(
            "the load {was}; load_id=`{}` expected an open one",
            load.id()
        ))
    }

    pub(crate) fn load_stats(&self) -> LoadStats {
        let loads = &self.loads;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LoadStats {
            open: read(&loads.open),
            open_bytes: self.loads_bytes(),
            committed: read(&loads.committed),
            rolled_back: read(&loads.rolled_back),
            aborted: read(&loads.aborted),
            expired: read(&loads.expired),
        }
    }

    /// Has an open load be known, and puts come into its generation.
    fn open(&self, registry: &mut Registry, load: Arc<Load>) {
        self.touch(&load);
        if let Some(space) = self.spaces.at(load.space) {
            let _order = space.order.write();
            space.load.store(load.number, Ordering::Relaxed);
        }
        registry.open.push(Arc::clone(&load));
        registry.by_number.insert(load.number, load);
        self.loads.open.fetch_add(1, Ordering::Relaxed);
    }

    fn touch(&self, load: &Load) {
        let now = self.clock.monotonic().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        load.used_ns.store(now, Ordering::Relaxed);
    }

    fn outcome(&self, load: &Load) -> LoadOutcome {
        let read = |of: fn(&Space) -> &AtomicU64| {
            let space = self.spaces.at(load.space);
            space.map_or(0, |space| of(space).load(Ordering::Relaxed))
        };
        LoadOutcome {
            entries: read(|space| &space.entries),
            bytes: read(|space| &space.bytes),
        }
    }

    /// Aborts a load; `None` where it is not open.
    fn abort(&self, load: &Load) -> Option<LoadOutcome> {
        let mut state = load.state.lock();
        if *state != State::Open {
            return None;
        }
        let outcome = self.outcome(load);
        *state = State::Aborted(outcome);
        drop(state);
        self.close(load);
        self.loads.aborted.fetch_add(1, Ordering::Relaxed);
        Some(outcome)
    }

    /// Takes an open load's generation away from it; it will be emptied.
    fn close(&self, load: &Load) {
        if let Some(space) = self.spaces.at(load.space) {
            let _order = space.order.write();
            space.load.store(0, Ordering::Relaxed);
        }
        self.loads.closed(load);
        self.doom(load.space);
    }

    fn doom(&self, number: u32) {
        self.loads.doomed.numbers.lock().push_back(number);
        self.loads.doomed.count.fetch_add(1, Ordering::Release);
        // Whoever waits for room finds something to evict now.
        self.queue.freed();
    }
}

impl Load {
    fn id(&self) -> String {
        id_of(self.number, self.start)
    }

    fn is_open(&self) -> bool {
        *self.state.lock() == State::Open
    }

    fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }
}

fn id_of(number: u32, start: u32) -> String {
    format!("{number}-{start:08x}")
}

fn unknown(id: &str) -> Error {
    Error::not_found(format!(
        "no such load: it is not known here, or was forgotten because nothing was done with it; \
         load_id=`{}`",
        clip(id, MAX_QUOTED_BYTES)
    ))
}
