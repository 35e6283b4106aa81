//! One tensor on its way out.

use std::ops::Range;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::cache::Cache;

/// Pieces of a tensor, uncopied.
pub type Pieces = SmallVec<[Bytes; 2]>;

/// A pinned entry: it stays as it is, whatever happens to its key, until this is dropped. Hold it
/// no longer than it takes to look at it: what is pinned cannot be evicted. To send a tensor, make
/// a [`Reader`] of it.
pub struct Entry {
    _cache: Cache,
}

impl Entry {
    /// Which of the key's tensors this is.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        todo!()
    }

    /// Shape.
    pub fn shape(&self) -> Shape {
        todo!()
    }

    /// Bytes of the tensor.
    #[expect(clippy::len_without_is_empty, reason = "a tensor of no bytes is no special case")]
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// xxh3-128 of the tensor's bytes.
    pub fn checksum(&self) -> u128 {
        todo!()
    }

    /// The key.
    pub fn key(&self) -> &str {
        todo!()
    }

    /// The entry's own metadata, as it was put.
    pub fn metadata(&self) -> &[u8] {
        todo!()
    }

    /// Unix milliseconds from when on this is a miss.
    pub fn expires_at_ms(&self) -> Option<u64> {
        todo!()
    }

    /// Hits, saturating at 65,535.
    pub fn hits(&self) -> u16 {
        todo!()
    }

    /// All bytes, copied out: for small tensors and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads `range` of the tensor's bytes.
    ///
    /// # Errors
    /// `invalid_argument` for a range outside the tensor, `resource_exhausted` where readers hold
    /// as much as they may.
    pub fn reader(self, _range: Range<u64>) -> Result<Reader> {
        todo!()
    }
}

/// Reads a range of a tensor from front to back, and holds no more of it than is still to come or
/// still to be dropped by whoever took it.
pub struct Reader {
    _cache: Cache,
}

impl Reader {
    /// Bytes not yet taken.
    pub fn remaining(&self) -> u64 {
        todo!()
    }

    /// The next bytes, at most `n`, uncopied; empty at the end. Dropping a piece gives back
    /// exactly the memory that it covers.
    ///
    /// # Errors
    /// `resource_exhausted` when this reader was cut off because it stalled.
    pub fn take(&mut self, _n: usize) -> Result<Pieces> {
        todo!()
    }

    /// Fills `out` with the next bytes.
    ///
    /// # Errors
    /// As [`Reader::take`]; `internal` where fewer bytes remain.
    pub fn copy_to(&mut self, _out: &mut [u8]) -> Result<()> {
        todo!()
    }

    /// Calls `then` once when this reader is cut off, so that whoever waits for the client to read
    /// on can give up. Called at once where that has happened already.
    pub fn on_cut(&mut self, _then: impl FnOnce() + Send + 'static) {
        todo!()
    }
}
