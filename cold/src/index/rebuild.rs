//! Building the index anew out of what the store has: sidecars, and log records of what was removed.

use super::{ColdIndex, IndexSettings, error::Result, open::wipe};
use crate::entry::{Number, Stored};
use crate::format::Gone;

/// An index that is being built. It vouches for nothing until [`Rebuild::finish`].
pub struct Rebuild {
    index: ColdIndex,
    next: Number,
}

impl Rebuild {
    /// Begins with nothing: whatever lies in the directory goes.
    ///
    /// # Errors
    /// `Locked`, `Unusable`.
    pub fn begin(settings: IndexSettings) -> Result<Rebuild> {
        wipe(&settings.dir)?;
        Ok(Rebuild {
            index: ColdIndex::open(settings)?,
            next: Number(0),
        })
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
    pub fn finish(self, store: &str, epoch: u64) -> Result<ColdIndex> {
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
