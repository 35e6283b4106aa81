//! An entry, pinned.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Key;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::arena::ExtentList;
use crate::engine::{Engine, Pinned};
use crate::head::{Rest, split};
use crate::id::Id;
use crate::index::record::ACCESS_MODULUS;
use crate::index::{Handle, Record};

pub use crate::reader::{Pieces, Reader};

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

    /// The same entry, pinned once more, wherever it is by now. `None` where it is pinned as often as
    /// can be counted.
    pub fn share(&self) -> Option<Entry> {
        self.record().pin_again().then(|| {
            Entry::new(Pinned {
                engine: Arc::clone(self.engine()),
                handle: self.handle(),
            })
        })
    }

    pub(crate) fn count_hit(&self) {
        let spaces = &self.engine().spaces;
        if let Some(space) = spaces.at(self.record().namespace()) {
            let space = spaces.home_of(space);
            space.hits.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn into_pinned(self) -> Pinned {
        self.pinned
    }

    /// Whether its time has come.
    pub(crate) fn is_over(&self) -> bool {
        self.engine().is_expired(self.record())
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

    /// Element type and shape, at one reading.
    pub fn description(&self) -> (DType, Shape) {
        let head = self.engine().head(self.record());
        head.map_or_else(
            |_| (DType::UInt8, Shape::default()),
            |head| (head.dtype, head.shape),
        )
    }

    /// A range of a small tensor's bytes, where they lie; `None` where that is not all in one piece: then there is
    /// [`Entry::reader`].
    pub fn in_slot(&self, range: &Range<u64>) -> Option<&[u8]> {
        let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        let all = self.engine().in_slot(self.record())?;
        all.get(at(range.start)..at(range.end))
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
            Some(Rest::Here { kept, .. }) => kept.metadata,
            Some(Rest::Apart { extents, bytes }) => self.apart.get_or_init(|| {
                let apart = self.engine().rest_apart(&extents, bytes);
                apart.map(|(_, kept)| kept.metadata).unwrap_or_default()
            }),
            None => &[],
        }
    }

    /// The version that its source gave it, where it gave one.
    pub fn source_version(&self) -> Option<i64> {
        self.engine().source_version(self.record())
    }

    /// Unix milliseconds from when on this is a miss.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.record().expires_at_ms()
    }

    /// Says whether the tier below has it as it is: then it goes from memory without going there.
    pub fn set_below(&self, below: bool) {
        self.record().set_below(below);
    }

    /// Whether a user has pinned it, so that it is not evicted.
    pub fn is_kept(&self) -> bool {
        self.record().is_kept()
    }

    /// Hits, saturating at 65,535.
    pub fn hits(&self) -> u32 {
        self.record().hits()
    }

    /// When it was last asked for, or put where it never was, in Unix milliseconds. Kept in seconds, modulo
    /// half a year.
    pub fn last_access_ms(&self) -> u64 {
        let engine = self.engine();
        let age = engine.second().wrapping_sub(self.record().last_access()) % ACCESS_MODULUS;
        engine.clock.now_ms().saturating_sub(u64::from(age) * 1000)
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
        Reader::of(self, range)
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

    pub(crate) fn handle(&self) -> Handle {
        self.pinned.handle
    }

    pub(crate) fn extents(&self) -> Result<ExtentList> {
        match self.engine().head(self.record())?.rest {
            Rest::Here { extents, .. } => Ok(extents),
            Rest::Apart { extents, bytes } => {
                let apart = self.engine().rest_apart(&extents, bytes);
                apart.map(|(extents, _)| extents)
            }
        }
    }
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
