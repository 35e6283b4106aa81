//! How many there are of something, by a guard for each.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire},
};

/// Counts its guards. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicUsize>);

/// Is counted until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Counted(Counter);

impl Counter {
    /// How many there are.
    pub fn get(&self) -> usize {
        self.0.load(Acquire)
    }

    /// One more, and how many there were before it.
    pub fn add(&self) -> (Counted, usize) {
        let before = self.0.fetch_add(1, AcqRel);
        (Counted(self.clone()), before)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, AcqRel);
    }
}
