//! Building the index out of what the store has: sidecars, and log records of what was removed. Anew, or onto one that
//! lies in the store and knows all but the last of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ColdIndex, IndexSettings, error::Result};
use crate::entry::{Number, Stored};
use crate::format::Gone;

/// An index that is being built. It vouches for nothing until [`Rebuild::finish`].
pub struct Rebuild {
    pub(super) index: Arc<ColdIndex>,
    next: Number,
    is_anew: bool,
}

impl Rebuild {
    /// Begins with nothing: whatever lies there goes.
    ///
    /// # Errors
    /// `Locked`, `Unusable`, `Store`.
    pub fn begin(settings: IndexSettings) -> Result<Rebuild> {
        Ok(Rebuild {
            index: Arc::new(ColdIndex::begin(settings)?),
            next: Number(0),
            is_anew: true,
        })
    }

    /// Begins with nothing in the place of an index in the store, which nobody uses meanwhile.
    ///
    /// # Errors
    /// `Store`.
    pub fn renew(index: Arc<ColdIndex>) -> Result<Rebuild> {
        index.renew()?;
        Ok(Rebuild {
            index,
            next: Number(0),
            is_anew: true,
        })
    }

    /// Goes on where an index ends that was opened in the store. Of its segments, those have gone since that have no
    /// sidecar any more: what the log said of them may have gone with them.
    ///
    /// # Errors
    /// `Lost`, `Store`.
    pub fn onto(index: ColdIndex, sidecars: &BTreeSet<Number>) -> Result<Rebuild> {
        for segment in index.segments() {
            if !sidecars.contains(&segment.number) {
                index.drop_segment(segment.number)?;
            }
        }
        Ok(Rebuild {
            next: index.covered(),
            index: Arc::new(index),
            is_anew: false,
        })
    }

    /// The number up to which segments and log records are in it.
    pub fn next(&self) -> Number {
        self.next
    }

    /// Whether it began with nothing.
    pub fn is_anew(&self) -> bool {
        self.is_anew
    }

    /// Takes in a segment. Segments and log records come together in the order of their numbers: that is what
    /// says which entries a record is about.
    ///
    /// # Errors
    /// `Lost`.
    pub fn segment(&mut self, number: Number, total_bytes: u64, entries: &[Stored]) -> Result<()> {
        self.in_order(number);
        self.index.add_segment(number, total_bytes)?;
        self.index.insert_all(entries).map(drop)
    }

    /// Takes in a log record: what it names is gone from all segments below the number beside it.
    ///
    /// # Errors
    /// `Lost`, `Corrupt`.
    pub fn gone(&mut self, number: Number, gone: &[(Gone, Number)]) -> Result<()> {
        self.in_order(number);
        self.index.remove_logged(gone)
    }

    /// The index of this store, whole in this epoch.
    ///
    /// # Errors
    /// `Lost`.
    pub fn finish(self, store: &str, epoch: u64) -> Result<Arc<ColdIndex>> {
        self.index.set_state(store, epoch)?;
        Ok(self.index)
    }

    fn in_order(&mut self, number: Number) {
        debug_assert!(self.next <= number, "numbers must ascend");
        self.next = Number(number.0.saturating_add(1));
        // Nothing comes late.
        self.index.settle(number);
    }
}
