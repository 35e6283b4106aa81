//! One tensor on its way out.

use std::ops::Range;
use std::sync::Arc;

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use smallvec::SmallVec;

use crate::engine::Engine;
use crate::head::split;
use crate::ledger::{Account, Charge};
use crate::read::Entry;
use crate::reads::Read;

/// Pieces of a tensor, uncopied.
pub type Pieces = SmallVec<[Bytes; 2]>;

/// Reads a range of a tensor from front to back, and holds no more of it than is still to come or
/// still to be dropped by whoever took it.
pub struct Reader {
    remaining: u64,
    source: Source,
}

enum Source {
    /// All of the tensor lies in its slot, which the pin keeps.
    Slot { entry: Arc<Entry>, at: usize },
    /// Pages, held one by one without a pin, then a copy of what the slot has.
    Pages {
        engine: Arc<Engine>,
        read: Option<Arc<Read>>,
        rest: Bytes,
    },
}

impl Reader {
    pub(crate) fn of(entry: Entry, range: Range<u64>) -> Result<Reader> {
        let len = entry.len();
        if range.start > range.end || range.end > len {
            return Err(Error::invalid(format!(
                "range outside the tensor; start=`{}` end=`{}` expected at most {len} bytes",
                range.start, range.end
            )));
        }
        let split = split(len);
        let remaining = range.end - range.start;
        if split.pages == 0 {
            let at = usize::try_from(range.start).unwrap_or(usize::MAX);
            let entry = Arc::new(entry);
            let source = Source::Slot { entry, at };
            return Ok(Reader { remaining, source });
        }
        let engine = Arc::clone(entry.engine());
        let in_pages = len - split.inline as u64;
        let rest = copy_rest(&engine, &entry, &range, in_pages)?;
        let read = if range.start < in_pages {
            let extents = entry.extents()?;
            let hold = engine
                .arena
                .hold(&extents, range.start..range.end.min(in_pages))
                .ok_or_else(|| Error::internal("a pinned entry's pages have no owner"))?;
            let record = entry.record();
            let is_live = || record.is_live();
            let read = engine
                .reads
                .begin(entry.handle(), entry.id()?, hold, is_live);
            Some(read)
        } else {
            None
        };
        drop(entry);
        let source = Source::Pages { engine, read, rest };
        Ok(Reader { remaining, source })
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next bytes, at most `n`, uncopied; empty at the end. Dropping a piece gives back
    /// exactly the memory that it covers.
    ///
    /// # Errors
    /// `resource_exhausted` when this reader was cut off because it stalled.
    pub fn take(&mut self, n: usize) -> Result<Pieces> {
        let n = n.min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let mut pieces = Pieces::new();
        if n == 0 {
            return Ok(pieces);
        }
        let taken = match &mut self.source {
            Source::Slot { entry, at } => {
                pieces.push(Bytes::from_owner(InSlot {
                    entry: Arc::clone(entry),
                    range: *at..*at + n,
                }));
                *at += n;
                n
            }
            Source::Pages { engine, read, rest } => {
                let mut taken = match read {
                    Some(read) => engine.reads.take(read, n, &mut pieces)?,
                    None => 0,
                };
                if taken < n {
                    let more = rest.split_to((n - taken).min(rest.len()));
                    taken += more.len();
                    pieces.push(more);
                }
                taken
            }
        };
        self.passed(taken);
        Ok(pieces)
    }

    /// Fills `out` with the next bytes.
    ///
    /// # Errors
    /// As [`Reader::take`]; `invalid_argument` where fewer bytes remain.
    pub fn copy_to(&mut self, out: &mut [u8]) -> Result<()> {
        if (out.len() as u64) > self.remaining {
            return Err(Error::invalid(format!(
                "fewer bytes remain than asked for; asked=`{}` remaining=`{}`",
                out.len(),
                self.remaining
            )));
        }
        match &mut self.source {
            Source::Slot { entry, at } => {
                out.copy_from_slice(&entry.inline()[*at..*at + out.len()]);
                *at += out.len();
            }
            Source::Pages { engine, read, rest } => {
                let copied = match read {
                    Some(read) => engine.reads.copy_to(read, out)?,
                    None => 0,
                };
                let out = &mut out[copied..];
                out.copy_from_slice(&rest.split_to(out.len()));
            }
        }
        self.passed(out.len());
        Ok(())
    }

    /// Calls `then` once when this reader is cut off, so that whoever waits for the client to read
    /// on can give up. Called at once where that has happened already. A small tensor's reader is
    /// never cut off. `then` runs in the middle of somebody else's put: it should wake a task, and
    /// must not call the cache.
    pub fn on_cut(&mut self, then: impl FnOnce() + Send + 'static) {
        if let Source::Pages {
            engine,
            read: Some(read),
            ..
        } = &self.source
        {
            engine.reads.on_cut(read, Box::new(then));
        }
    }

    fn passed(&mut self, n: usize) {
        self.remaining -= n as u64;
        if self.remaining == 0
            && let Source::Pages { engine, read, .. } = &mut self.source
            && let Some(read) = read.take()
        {
            engine.reads.end(&read);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Source::Pages {
            engine,
            read: Some(read),
            ..
        } = &self.source
        {
            engine.reads.end(read);
        }
    }
}

/// A piece of a small tensor: keeps its entry pinned.
struct InSlot {
    entry: Arc<Entry>,
    range: Range<usize>,
}

impl AsRef<[u8]> for InSlot {
    fn as_ref(&self) -> &[u8] {
        &self.entry.inline()[self.range.clone()]
    }
}

/// A copy of what a large tensor has in its slot. Pinning the slot instead would keep all its
/// pages as well, once it is unlinked; and so few bytes are sent cheaper from a copy anyway.
struct Copied {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn copy_rest(
    engine: &Arc<Engine>,
    entry: &Entry,
    range: &Range<u64>,
    in_pages: u64,
) -> Result<Bytes> {
    if range.end <= in_pages {
        return Ok(Bytes::new());
    }
    let at = |offset: u64| usize::try_from(offset.saturating_sub(in_pages)).unwrap_or(0);
    let bytes = &entry.inline()[at(range.start)..at(range.end)];
    let wanted = bytes.len() as u64;
    let charge = engine.charge_now(Account::Wire, wanted, None);
    let charge = charge.ok_or_else(|| {
        Error::exhausted(format!(
            "no memory to read; limit=`memory` value=`{}` wanted_bytes=`{wanted}`",
            engine.config.memory,
        ))
    })?;
    Ok(Bytes::from_owner(Copied {
        bytes: bytes.to_vec(),
        _charge: charge,
    }))
}
