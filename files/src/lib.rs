//! Files of rows, Parquet and Arrow's IPC, as puts take rows: `key` and `tensor`, or `key`, `dtype`, `shape` and `data`.
//!
//! - [`open`]: a file from its beginning, a batch after the other ([`Table`]). [`open_at`]: any of its rows, as often as one likes ([`Rows`] by [`Lookup`])
//! - `source`: what is read: a file, or whatever else can be read anywhere. `pages` (with `thrift`): what a Parquet file claims, before it is believed
//! - `arrow` (with `messages`), `parquet` (with `lists`): the formats. `picked`: which columns are key and tensor; `columns`: rows of them; `fixed`: lists of one shape. `guard`: a decoder that gives up
//!
//! # What is always so
//! - Nothing is allocated because a file says so: what it claims is held against its length, or against a limit.
//! - A batch at a time is in memory: about [`BATCH_BYTES`], or a row, or what the writer of an Arrow file made one batch.

mod arrow;
mod columns;
mod fixed;
mod guard;
mod lists;
mod messages;
mod pages;
mod parquet;
mod picked;
mod rows;
mod source;
mod thrift;

use std::ops::Range;

pub use arrow::open_stream;
pub use columns::prefixed;
use guard::{Guarded, GuardedLookup, guard};
pub use picked::{Asked, BY_FLAG, ColumnMap, Keys};
pub use rows::{BadRow, Numbers, Rows};
pub use source::{ReadAt, Room, Source, append, values};

/// Rows that lie so near are read together: the page that one is in is decoded up to it.
const NEAR_ROWS: u64 = 16;
/// So many of them.
const TOGETHER_ROWS: usize = 64;

/// About what a batch of a Parquet file takes.
pub const BATCH_BYTES: u64 = 2 << 20;

/// Why a file cannot be read; whoever opened it knows its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// How rows lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Arrow's IPC file, which is Feather too.
    Arrow,
    /// Arrow's IPC stream.
    ArrowStream,
    /// Parquet.
    Parquet,
}

/// A file of rows, from its beginning.
pub trait Table: Send {
    /// The rows that come next; `None` at the end.
    fn next(&mut self) -> Result<Option<Rows>, Error>;

    /// How many rows there are in all, where the file says; it may lie.
    fn rows(&self) -> Option<u64>;

    /// Its outermost columns that are not read.
    fn left_out(&self) -> &[String];
}

/// Rows of a file, anywhere in it.
pub trait Lookup: Send + Sync {
    /// How many rows there are.
    fn rows(&self) -> u64;

    /// These rows, in order; those behind the last one are not there. A row whose shape is not that of the first of them is a bad row. It reads and
    /// decodes them anew at each call, and no more than the pages or batches that they lie in.
    fn read(&self, rows: Range<u64>) -> Result<Rows, Error>;

    /// These rows, which ascend, as few of them at a time as can be read together, and perhaps some that lie between them. One that is not given is a
    /// bad row: alone it may be none.
    fn read_each(&self, rows: &[u64], give: &mut dyn FnMut(Rows)) -> Result<(), Error> {
        for near in rows.chunk_by(|one, next| next - one <= NEAR_ROWS) {
            for some in near.chunks(TOGETHER_ROWS) {
                let (Some(first), Some(last)) = (some.first(), some.last()) else {
                    continue;
                };
                give(self.read(*first..last + 1)?);
            }
        }
        Ok(())
    }
}

/// Reads a file from its beginning.
///
/// # Errors
/// It is broken, or has not the columns that are wanted.
pub fn open(source: Source, format: Format, map: &ColumnMap) -> Result<Box<dyn Table>, Error> {
    Guarded::open(|| match format {
        Format::Arrow => arrow::open(source, true, map),
        Format::ArrowStream => arrow::open(source, false, map),
        Format::Parquet => parquet::open(source, map),
    })
}

/// Reads any rows of a file. Where they lie is found out here: of Parquet from its footer, of Arrow from the headers of all of its messages.
///
/// # Errors
/// As [`open`].
pub fn open_at(source: Source, format: Format, map: &ColumnMap) -> Result<Box<dyn Lookup>, Error> {
    let opened = guard(|| match format {
        Format::Arrow => arrow::open_at(source, true, map),
        Format::ArrowStream => arrow::open_at(source, false, map),
        Format::Parquet => parquet::open_at(source, map),
    })?;
    Ok(Box::new(GuardedLookup(opened)))
}

impl Format {
    /// The format that the first bytes say; 8 are enough.
    #[must_use]
    pub fn of_head(head: &[u8]) -> Option<Format> {
        Some(match head {
            [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Format::Arrow,
            [0xff, 0xff, 0xff, 0xff, ..] => Format::ArrowStream,
            [b'P', b'A', b'R', b'1', ..] => Format::Parquet,
            _ => return None,
        })
    }

    /// Whether a file of that name is of a format that is read here.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Format> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "arrow" | "feather" | "ipc" => Format::Arrow,
            "arrows" => Format::ArrowStream,
            "parquet" | "pq" => Format::Parquet,
            _ => return None,
        })
    }
}

impl Error {
    pub(crate) fn of(error: impl ToString) -> Error {
        Error(error.to_string())
    }
}

#[cfg(test)]
mod tests;
