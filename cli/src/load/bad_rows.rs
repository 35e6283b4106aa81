//! Rows that were not put, as JSON lines; and such a file as a choice of rows.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};

use serde::{Deserialize, Serialize};

use crate::Error;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The file, as it was named.
    pub file: String,
    /// Which row of it.
    pub row: u64,
    /// Its key, where it has one.
    pub key: Option<String>,
    /// The stable code.
    pub code: String,
    /// What was wrong and what was expected.
    pub message: String,
}

/// The file that they are written to.
pub struct BadRows {
    path: String,
    file: File,
    bytes: u64,
}

impl BadRows {
    /// Opens it, with the first `keep` bytes of what is there.
    pub fn open(path: &str, keep: u64) -> Result<BadRows, Error> {
        let failed = |error| Error::file("cannot write the bad rows", path, error);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed)?;
        let mut rows = BadRows {
            path: path.to_owned(),
            file,
            bytes: keep,
        };
        rows.cut(keep)?;
        Ok(rows)
    }

    /// Keeps only so much.
    pub fn cut(&mut self, keep: u64) -> Result<(), Error> {
        let cut = self
            .file
            .set_len(keep)
            .and_then(|()| self.file.seek(SeekFrom::Start(keep)));
        self.bytes =
            cut.map_err(|error| Error::file("cannot write the bad rows", &self.path, error))?;
        Ok(())
    }

    /// Adds some; how long it is now.
    pub fn write(&mut self, lines: &[Line]) -> Result<u64, Error> {
        let mut text = Vec::new();
        for line in lines {
            text.extend(serde_json::to_vec(line).unwrap_or_default());
            text.push(b'\n');
        }
        let written = self
            .file
            .write_all(&text)
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| Error::file("cannot write the bad rows", &self.path, error))?;
        self.bytes += text.len() as u64;
        Ok(self.bytes)
    }
}

/// The rows that such a file names, by their files.
pub fn read(path: &str) -> Result<HashMap<String, BTreeSet<u64>>, Error> {
    let failed = |error: String| Error::file("cannot read the bad rows", path, error);
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut rows: HashMap<String, BTreeSet<u64>> = HashMap::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| failed(error.to_string()))?;
        let line: Line = serde_json::from_str(&line)
            .map_err(|error| failed(format!("line {}: {error}", number + 1)))?;
        rows.entry(line.file).or_default().insert(line.row);
    }
    Ok(rows)
}
