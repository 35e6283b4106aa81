//! A decoder that panics on a broken file ends the reading of that file with an error, not the process.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Error, Lookup, Rows, Table};

/// What it says, or that it gave up.
pub fn guard<T>(read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let caught = catch_unwind(AssertUnwindSafe(read));
    caught.unwrap_or_else(|_| Err(Error::of("its decoder gave up; the file is broken")))
}

/// A table; after an error there is nothing more.
pub struct Guarded {
    table: Box<dyn Table>,
    failed: Option<Error>,
}

impl Guarded {
    /// What is opened.
    pub fn open(
        open: impl FnOnce() -> Result<Box<dyn Table>, Error>,
    ) -> Result<Box<dyn Table>, Error> {
        let table = guard(open)?;
        Ok(Box::new(Guarded {
            table,
            failed: None,
        }))
    }
}

impl Table for Guarded {
    fn next(&mut self) -> Result<Option<Rows>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = guard(|| self.table.next());
        self.failed = next.as_ref().err().cloned();
        next
    }

    fn rows(&self) -> Option<u64> {
        self.table.rows()
    }

    fn left_out(&self) -> &[String] {
        self.table.left_out()
    }
}

/// Rows anywhere; each reading is one of its own.
pub struct GuardedLookup(pub Box<dyn Lookup>);

impl Lookup for GuardedLookup {
    fn rows(&self) -> u64 {
        self.0.rows()
    }

    fn read(&self, rows: Range<u64>) -> Result<Rows, Error> {
        guard(|| self.0.read(rows))
    }

    fn read_each(&self, rows: &[u64], give: &mut dyn FnMut(Rows)) -> Result<(), Error> {
        guard(|| self.0.read_each(rows, give))
    }
}
