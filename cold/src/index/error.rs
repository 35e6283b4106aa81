//! What can go wrong with the index, told apart by what the tier above does about it.

use std::fmt;
use std::path::PathBuf;

/// Why the index did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexError {
    /// Another process has the directory: stop.
    Locked(PathBuf),
    /// What lies in the directory cannot be opened: [`wipe`](super::wipe) it and build it anew.
    Unusable(String),
    /// A write failed (a full disk, an I/O error): what was acknowledged is on the disk, what was not may
    /// be or not. Nothing works until [`reopen`](super::ColdIndex::reopen).
    Lost(String),
    /// The store did not answer, or refused: ask again later.
    Store(String),
    /// A row cannot be read back as it was written: a miss, and the index is to be built anew.
    Corrupt(String),
}

/// Of an operation on the index.
pub type Result<T> = std::result::Result<T, IndexError>;

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(dir) => write!(
                f,
                "index is in use by another process; dir=`{}` expected a directory of its own",
                dir.display()
            ),
            Self::Unusable(why) => write!(f, "index cannot be opened and must be rebuilt; {why}"),
            Self::Lost(why) => write!(f, "index failed to write and must be reopened; {why}"),
            Self::Store(why) => write!(f, "index in the store was not reached; error=`{why}`"),
            Self::Corrupt(why) => write!(f, "index row cannot be read; {why}"),
        }
    }
}

impl std::error::Error for IndexError {}

/// A read that failed.
pub(super) fn unreadable(error: fjall::Error) -> IndexError {
    IndexError::Corrupt(format!("error=`{error}`"))
}
