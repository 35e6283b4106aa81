//! How an index is opened.

use std::fmt;
use std::path::PathBuf;

use super::tree::InStore;

/// Where an index lies.
#[derive(Debug, Clone)]
pub enum Home {
    /// In a directory of its own, created when it is not there.
    Dir(PathBuf),
    /// In the store, next to what it is of.
    Store(InStore),
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Home::Dir(dir) => write!(f, "dir=`{}`", dir.display()),
            Home::Store(place) => write!(f, "store=`{}`", place.store.identity()),
        }
    }
}

/// How an index is opened.
#[derive(Debug, Clone)]
pub struct IndexSettings {
    /// Where it lies.
    pub home: Home,
    /// What it may have in memory besides some bytes an entry; [`IndexSettings::MEMORY_BYTES`].
    pub memory_bytes: u64,
    /// Whether what was acknowledged survives a power cut too, not only the end of the process. In the store, nothing
    /// that was acknowledged is only here.
    pub fsync: bool,
}

impl IndexSettings {
    /// Enough for any number of entries.
    pub const MEMORY_BYTES: u64 = 16 << 20;

    /// An index in this directory, as durable as the page cache.
    pub fn new(dir: impl Into<PathBuf>) -> IndexSettings {
        IndexSettings::at(Home::Dir(dir.into()))
    }

    /// An index in the store. It may be asked by threads that run no tasks.
    pub fn in_store(place: InStore) -> IndexSettings {
        IndexSettings::at(Home::Store(place))
    }

    fn at(home: Home) -> IndexSettings {
        IndexSettings {
            home,
            memory_bytes: Self::MEMORY_BYTES,
            fsync: false,
        }
    }
}
