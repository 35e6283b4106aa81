//! One tensor on its way out.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Key;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::arena::ExtentList;
use crate::engine::{Engine, Pinned};
use crate::head::{Rest, split};
use crate::id::Id;
use crate::index::Record;
use crate::ledger::{Account, Charge};
use crate::reads::Read;

/// Pieces of a tensor, uncopied.
pub type Pieces = SmallVec<[Bytes; 2]>;

/// A pinned entry: it stays as it is, whatever happens to its key, until this is dropped. Hold it
/// no longer than it takes to look at it: what is pinned cannot be evicted. To send a tensor, make
/// a [`Reader`] of it.
pub struct Entry {
    pinned: Pinned,
    /// Metadata that was too long for the head, once someone has asked for it.
    apart: OnceLock<Vec<u8>>,
}

impl Entry {
    pub(crate) fn new(pinned: Pinned) -> Self {
        Self {
            pinned,
            apart: OnceLock::new(),
        }
    }

    pub(crate) fn count_hit(&self) {
        if let Some(space) = self.engine().spaces.at(self.record().namespace()) {
            space.hits.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn into_pinned(self) -> Pinned {
        self.pinned
    }

    /// Which of the key's tensors this is.
    pub fn version(&self) -> Version {
        let (hlc, start) = self.record().version();
        Version { hlc, start }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        let head = self.engine().head(self.record());
        head.map_or(DType::UInt8, |head| head.dtype)
    }

    /// Shape.
    pub fn shape(&self) -> Shape {
        let head = self.engine().head(self.record());
        head.map(|head| head.shape).unwrap_or_default()
    }

    /// Bytes of the tensor.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a tensor of no bytes is no special case"
    )]
    pub fn len(&self) -> u64 {
        self.record().len()
    }

    /// xxh3-128 of the tensor's bytes.
    pub fn checksum(&self) -> u128 {
        self.record().checksum()
    }

    /// The key.
    pub fn key(&self) -> &str {
        str::from_utf8(self.engine().key(self.record())).unwrap_or_default()
    }

    /// Tenant, namespace and key.
    ///
    /// # Errors
    /// `internal`: an entry without a name would be a bug of ours.
    pub fn id(&self) -> Result<Id> {
        let space = self.engine().spaces.at(self.record().namespace());
        let space = space.ok_or_else(|| Error::internal("an entry's namespace is not known"))?;
        Ok(Id {
            tenant: space.tenant.clone(),
            namespace: space.namespace.clone(),
            key: Key::parse(self.key())?,
        })
    }

    /// The entry's own metadata, as it was put.
    pub fn metadata(&self) -> &[u8] {
        match self.rest() {
            Some(Rest::Here { metadata, .. }) => metadata,
            Some(Rest::Apart { extents, bytes }) => self.apart.get_or_init(|| {
                let apart = self.engine().rest_apart(&extents, bytes);
                apart.map(|(_, metadata)| metadata).unwrap_or_default()
            }),
            None => &[],
        }
    }

    /// Unix milliseconds from when on this is a miss.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.record().expires_at_ms()
    }

    /// Hits, saturating at 65,535.
    pub fn hits(&self) -> u32 {
        self.record().hits()
    }

    /// The load that brought it; 0 for none.
    pub fn load(&self) -> u32 {
        self.record().load_generation()
    }

    /// All bytes, copied out: for small tensors and tests.
    ///
    /// # Errors
    /// As [`Entry::reader`] and [`Reader::take`].
    pub fn into_vec(self) -> Result<Vec<u8>> {
        let len = self.len();
        let mut out = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.reader(0..len)?.copy_to(&mut out)?;
        Ok(out)
    }

    /// Reads `range` of the tensor's bytes.
    ///
    /// # Errors
    /// `invalid_argument` for a range outside the tensor, `resource_exhausted` where there is no
    /// memory for a copy of the bytes that fill no whole page (at most 56 KiB).
    pub fn reader(self, range: Range<u64>) -> Result<Reader> {
        let len = self.len();
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
            let entry = Arc::new(self);
            let source = Source::Slot { entry, at };
            return Ok(Reader { remaining, source });
        }
        let engine = Arc::clone(self.engine());
        let in_pages = len - split.inline as u64;
        let rest = copy_rest(&engine, &self, &range, in_pages)?;
        let read = if range.start < in_pages {
            let extents = self.extents()?;
            let hold = engine
                .arena
                .hold(&extents, range.start..range.end.min(in_pages))
                .ok_or_else(|| Error::internal("a pinned entry's pages have no owner"))?;
            let record = self.record();
            let is_live = || record.is_live();
            let read = engine
                .reads
                .begin(self.pinned.handle, self.id()?, hold, is_live);
            Some(read)
        } else {
            None
        };
        drop(self);
        let source = Source::Pages { engine, read, rest };
        Ok(Reader { remaining, source })
    }

    pub(crate) fn record(&self) -> &Record {
        self.pinned.record()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.pinned.engine
    }

    /// The tensor's bytes that lie in its slot.
    pub(crate) fn inline(&self) -> &[u8] {
        let inline = split(self.len()).inline;
        let slot = self.engine().slot(self.record());
        slot.get(..inline).unwrap_or_default()
    }

    /// Whether its bytes are those of `pieces`, one after the other.
    pub(crate) fn equals(&self, pieces: &[&[u8]]) -> bool {
        let Ok(extents) = self.extents() else {
            return false;
        };
        let in_pages = self.len() - split(self.len()).inline as u64;
        let own = self.engine().pieces(&extents, in_pages);
        let mut own: Vec<&[u8]> = own.iter().map(|piece| &piece[..]).collect();
        own.push(self.inline());
        same_bytes(&own, pieces)
    }

    fn rest(&self) -> Option<Rest<'_>> {
        self.engine().head(self.record()).map(|head| head.rest).ok()
    }

    fn extents(&self) -> Result<ExtentList> {
        match self.engine().head(self.record())?.rest {
            Rest::Here { extents, .. } => Ok(extents),
            Rest::Apart { extents, bytes } => {
                let apart = self.engine().rest_apart(&extents, bytes);
                apart.map(|(extents, _)| extents)
            }
        }
    }
}

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
    /// never cut off.
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
    let charge = engine.charge_now(Account::Wire, wanted).ok_or_else(|| {
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

/// Whether two lists of pieces are the same bytes.
fn same_bytes(one: &[&[u8]], other: &[&[u8]]) -> bool {
    let (mut ones, mut others) = (one.iter().copied(), other.iter().copied());
    let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
    loop {
        while a.is_empty() {
            match ones.next() {
                Some(next) => a = next,
                None => return b.is_empty() && others.all(<[u8]>::is_empty),
            }
        }
        while b.is_empty() {
            match others.next() {
                Some(next) => b = next,
                None => return false,
            }
        }
        let n = a.len().min(b.len());
        if a[..n] != b[..n] {
            return false;
        }
        (a, b) = (&a[n..], &b[n..]);
    }
}
