//! Ranges of files, several files in one go: one thread opens them all and has the system know of all that it will wait for
//! before it waits for the first. A thread for each file, and one more to open it, took longer than the disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::attempt::Kind;
use super::buffers::{announce, forget, read_file};
use super::error::{Result, StoreError};
use super::local::Local;
use super::read::whole;
use super::{ObjectName, Store};
use crate::room::Room;

/// An object, and ranges of it in their order, none of which overlaps the next.
pub type Asked = (ObjectName, Vec<Range<u64>>);

/// Files that are open at one time for one that reads.
const FILES_MAX: usize = 32;

impl Store {
    /// How many objects [`Store::read_each`] reads at a time, where it is one request.
    pub fn objects_at_once(&self) -> usize {
        match self.shared.backend.local {
            Some(_) => FILES_MAX,
            None => 1,
        }
    }

    /// What [`Store::read_each`] reads, of files. Those that could not be read have further tries without the others.
    pub(super) async fn read_files(
        &self,
        local: &Arc<Local>,
        wanted: &[Asked],
    ) -> Vec<Result<Vec<Bytes>>> {
        let bytes = wanted.iter().map(|(_, ranges)| len_of(ranges)).sum();
        let read: Mutex<Vec<Option<Result<Vec<Bytes>>>>> = Mutex::new(vec![None; wanted.len()]);
        let got = self.attempt(Kind::Read, bytes, || async {
            let (mut left, mut files) = (Vec::new(), Vec::new());
            for (at, (name, ranges)) in wanted.iter().enumerate() {
                let is_done =
                    |read: &Result<_>| !read.as_ref().is_err_and(StoreError::is_transient);
                if !read.lock()[at].as_ref().is_some_and(is_done) {
                    left.push(at);
                    files.push((local.file(&self.path(name))?, ranges.clone()));
                }
            }
            let done = tokio::task::spawn_blocking(move || read_files(&files)).await;
            let done = done.map_err(|error| StoreError::Failed(error.to_string()))?;
            let mut failed = done.iter().filter_map(|one| one.as_ref().err());
            let failed = failed.find(|error| error.is_transient()).cloned();
            for (at, one) in left.into_iter().zip(done) {
                read.lock()[at] = Some(one);
            }
            failed.map_or(Ok(()), Err)
        });
        let failed = got.await.err().unwrap_or(StoreError::Timeout);
        let read = read.into_inner().into_iter();
        let read: Vec<_> = read
            .map(|one| one.unwrap_or_else(|| Err(failed.clone())))
            .collect();
        let done = wanted.iter().zip(&read).filter(|(_, read)| read.is_ok());
        let bytes = done.map(|((_, ranges), _)| len_of(ranges)).sum();
        self.shared.counts.read_bytes.add(bytes);
        read
    }
}

/// Each file's, in one go.
fn read_files(wanted: &[(PathBuf, Vec<Range<u64>>)]) -> Vec<Result<Vec<Bytes>>> {
    let open = |(path, ranges): &(PathBuf, Vec<Range<u64>>)| {
        let file = open(path, ranges)?;
        ranges.iter().for_each(|range| announce(&file, range));
        Ok(file)
    };
    let files: Vec<Result<File>> = wanted.iter().map(open).collect();
    let read = files.into_iter().zip(wanted).map(|(file, (_, ranges))| {
        let file = file?;
        let each = ranges.iter();
        each.map(|range| whole(file_range(&file, range)?, range.end - range.start))
            .collect()
    });
    read.collect()
}

fn len_of(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// A file that has all of these ranges.
fn open(path: &Path, ranges: &[Range<u64>]) -> Result<File> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound,
        io::ErrorKind::PermissionDenied => StoreError::Refused(error.to_string()),
        _ => error.into(),
    };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata()?.len();
    let expected = ranges.last().map_or(0, |last| last.end);
    match bytes < expected {
        true => Err(StoreError::Short { expected, bytes }),
        false => Ok(file),
    }
}

/// Bytes of a file; fewer than were asked for at its end.
pub(super) fn file_range(file: &File, range: &Range<u64>) -> Result<Bytes> {
    let mut room = Room::new(range.end.saturating_sub(range.start))?;
    let len = read_file(file, range.start, room.as_mut())?;
    forget(file, range);
    Ok(room.freeze(len))
}
