//! What queries do and have done, for who shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Semaphore;

use crate::spill::Spills;

/// The figures of a [`crate::Sql`]. Cheap to clone; it keeps neither its threads nor its tables.
#[derive(Clone)]
pub struct Counters(Arc<Counted>);

/// All of them. What is no number of the moment counts from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqlStats {
    /// Statements whose turn it is: they are planned, or run.
    pub running: u64,
    /// Statements that wait for their turn.
    pub waiting: u64,
    /// Queries that were answered to their end. What a change finds is a query, too.
    pub answered: u64,
    /// Queries that ended with an error of their own.
    pub failed: u64,
    /// Queries that nobody waited for any more, or whose time was over.
    pub given_up: u64,
    /// Rows that queries found.
    pub rows: u64,
    /// Entries that statements changed, deleted or put.
    pub changed: u64,
    /// Bytes on the disk that queries go on on.
    pub spill_bytes: u64,
}

struct Counted {
    turns: Arc<Semaphore>,
    turns_max: usize,
    spills: Option<Spills>,
    waiting: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    rows: AtomicU64,
    changed: AtomicU64,
}

/// A statement that waits, until it is dropped.
pub struct Waiting(Counters);

/// A query that runs. Dropped before it has ended, it was given up.
pub struct Running {
    counters: Counters,
    ended: bool,
}

impl Counters {
    /// All at zero. So many have a turn at one time.
    pub(crate) fn new(turns: Arc<Semaphore>, turns_max: usize, spills: Option<Spills>) -> Self {
        Self(Arc::new(Counted {
            turns,
            turns_max,
            spills,
            waiting: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            changed: AtomicU64::new(0),
        }))
    }

    /// The figures, now.
    pub fn now(&self) -> SqlStats {
        let counted = &*self.0;
        let free = counted.turns.available_permits();
        SqlStats {
            running: counted.turns_max.saturating_sub(free) as u64,
            waiting: counted.waiting.load(Relaxed),
            answered: counted.answered.load(Relaxed),
            failed: counted.failed.load(Relaxed),
            given_up: counted.given_up.load(Relaxed),
            rows: counted.rows.load(Relaxed),
            changed: counted.changed.load(Relaxed),
            spill_bytes: counted.spills.as_ref().map_or(0, Spills::used_bytes),
        }
    }

    pub(crate) fn waits(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }

    pub(crate) fn begins(&self) -> Running {
        Running {
            counters: self.clone(),
            ended: false,
        }
    }

    pub(crate) fn found(&self, rows: u64) {
        self.0.rows.fetch_add(rows, Relaxed);
    }

    pub(crate) fn changed(&self, entries: u64) {
        self.0.changed.fetch_add(entries, Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Running {
    /// It was answered, or failed.
    pub(crate) fn ends(mut self, is_answered: bool) {
        self.ended = true;
        let counted = &*self.counters.0;
        let end = match is_answered {
            true => &counted.answered,
            false => &counted.failed,
        };
        end.fetch_add(1, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.counters.0.given_up.fetch_add(1, Relaxed);
        }
    }
}
