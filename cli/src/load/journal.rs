//! What is remembered of a load that is not at its end: a line is added for each part that the server has, and the last whole one counts.
//!
//! It lies in `$XDG_STATE_HOME/bowstring/loads/`, by what is loaded to where, and is locked while a load runs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::load::source::Position;
use crate::{Error, state};

/// How far a load is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which start of the server has it.
    pub start: u64,
    /// All before this is there.
    pub position: Position,
    /// The load on the server, of one that is all or nothing.
    pub load_id: Option<String>,
    /// What was counted.
    pub counts: Counts,
    /// How long the file of bad rows is.
    pub bad_rows_bytes: u64,
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Entries that were made.
    pub stored: u64,
    /// Entries that were there and stayed.
    pub existed: u64,
    /// Tensor bytes of what was stored.
    pub bytes: u64,
    /// Rows that were not put.
    pub bad: u64,
}

/// The file.
pub struct Journal {
    path: PathBuf,
    file: File,
    identity: String,
}

impl Journal {
    /// Opens the one of this load, and what it says. `None` where there is no place for it.
    pub fn open(identity: &str) -> Result<Option<(Journal, Option<State>)>, Error> {
        state::folder()
            .map(|folder| Journal::open_in(&folder.join("loads"), identity))
            .transpose()
    }

    fn open_in(folder: &Path, identity: &str) -> Result<(Journal, Option<State>), Error> {
        let path = folder.join(format!("{:016x}.jsonl", fnv(identity)));
        let failed = |error: std::io::Error| {
            Error::file(
                "cannot remember how far the load is",
                &path.to_string_lossy(),
                error,
            )
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Usage(format!(
                    "the same load is running already; journal=`{}`",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut lines = BufReader::new(&file).lines().map_while(Result::ok);
        let known = lines.next().is_some_and(|line| line == identity);
        // The last line may be half of one.
        let state = lines
            .filter_map(|line| serde_json::from_str(&line).ok())
            .last();
        let mut journal = Journal {
            path,
            file,
            identity: identity.to_owned(),
        };
        if !known || state.is_none() {
            journal.forget()?;
            return Ok((journal, None));
        }
        // A half line must not swallow the next one.
        journal.append("")?;
        Ok((journal, state))
    }

    /// The server has all up to here.
    pub fn reached(&mut self, state: &State) -> Result<(), Error> {
        let line = serde_json::to_string(state).unwrap_or_default();
        self.append(&line)?;
        let written = self.file.sync_data();
        written.map_err(|error| self.failed(error))
    }

    /// Begins anew.
    pub fn forget(&mut self) -> Result<(), Error> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.rewind());
        cleared.map_err(|error| self.failed(error))?;
        let identity = self.identity.clone();
        self.append(&identity)
    }

    /// It is at its end.
    pub fn remove(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(|error| self.failed(error))
    }

    fn append(&mut self, line: &str) -> Result<(), Error> {
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::file(
            "cannot remember how far the load is",
            &self.path.to_string_lossy(),
            error,
        )
    }
}

/// FNV-1a: a name for a file, the same in every version. What the name stands for is in the file.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &std::path::Path, identity: &str) -> (Journal, Option<State>) {
        Journal::open_in(folder, identity).unwrap()
    }

    #[test]
    fn the_last_whole_line_counts_and_another_load_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, state) = journal(folder.path(), "a");
        assert_eq!(state, None);
        let locked = Journal::open_in(folder.path(), "a").err().unwrap();
        assert!(locked.to_string().contains("running already"), "{locked}");
        let at = |row| State {
            position: Position { file: 1, row },
            ..State::default()
        };
        first.reached(&at(3)).unwrap();
        first.reached(&at(7)).unwrap();
        // As a kill leaves it.
        first.file.write_all(b"{\"start\": 1, \"posi").unwrap();
        drop(first);
        let (mut second, state) = journal(folder.path(), "a");
        assert_eq!(state, Some(at(7)));
        second.reached(&at(9)).unwrap();
        drop(second);
        assert_eq!(journal(folder.path(), "a").1, Some(at(9)));
        assert_eq!(journal(folder.path(), "b").1, None);
        let (mut third, _) = journal(folder.path(), "a");
        third.forget().unwrap();
        drop(third);
        assert_eq!(journal(folder.path(), "a").1, None);
        journal(folder.path(), "a").0.remove().unwrap();
    }
}
