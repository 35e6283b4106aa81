//! One tensor on its way in.

use std::future::Future;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::cache::Cache;
use crate::id::Id;

/// What a put does where the key is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Write once: the same dtype, shape and bytes again succeed, anything else is refused.
    #[default]
    Create,
    /// The first value stays.
    Keep,
    /// The new tensor takes the key.
    Replace,
}

/// What is known of a tensor before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutSpec {
    /// Element type.
    pub dtype: DType,
    /// What to do where the key is there already.
    pub mode: Mode,
    /// Publish only over this version.
    pub if_version: Option<Version>,
    /// The entry's own metadata as the caller encodes it; given back unread. At most
    /// [`METADATA_BYTES_MAX`].
    pub metadata: Vec<u8>,
    /// Unix milliseconds from when on the entry is a miss; `None` is never.
    pub expires_at_ms: Option<u64>,
    /// The load that this put belongs to; 0 is none.
    pub load: u32,
    /// Bytes of the tensor, where they are known: reserved at once by the first
    /// [`Put::reserve`].
    pub size_bytes: Option<u64>,
    /// What xxh3-128 of the tensor's bytes must be.
    pub checksum: Option<u128>,
}

impl PutSpec {
    /// A plain write-once put.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            mode: Mode::Create,
            if_version: None,
            metadata: Vec::new(),
            expires_at_ms: None,
            load: 0,
            size_bytes: None,
            checksum: None,
        }
    }
}

/// The most that [`PutSpec::metadata`] may be: what the wire allows, and room for an encoding.
pub const METADATA_BYTES_MAX: usize = 2 * bowstring_wire::limits::MAX_METADATA_BYTES;

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The version that the key has now.
    pub version: Version,
    /// True when what was there stayed and nothing was stored.
    pub existed: bool,
    /// Bytes of the tensor that was put.
    pub bytes: u64,
}

/// One tensor on its way in. Dropping it gives everything back.
pub struct Put {
    _cache: Cache,
}

impl Cache {
    /// Begins to put one tensor, and refuses what can be refused already.
    ///
    /// # Errors
    /// `invalid_argument` for metadata that is too long, `failed_precondition` for an `if_version`
    /// that does not hold, `already_exists` where dtype or size alone show that `create` will
    /// fail, `resource_exhausted` for a size that cannot ever fit.
    pub fn put(&self, _id: Id, _spec: PutSpec) -> Result<Put> {
        todo!()
    }
}

impl Put {
    /// Waits until there is room for `bytes` more than what is written (or for the whole
    /// `size_bytes`, where that is more).
    ///
    /// # Errors
    /// `resource_exhausted`, naming the limit and its value: at once where the tensor cannot ever
    /// fit, after 2 s where the room did not come.
    pub fn reserve(&mut self, _bytes: u64) -> impl Future<Output = Result<()>> + Send {
        async { todo!() }
    }

    /// Copies `bytes` behind what is written already.
    ///
    /// # Errors
    /// `internal` for more than was reserved: a bug of the caller's.
    pub fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        todo!()
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        todo!()
    }

    /// Makes the tensor readable, whole and at once, as `shape`.
    ///
    /// # Errors
    /// `invalid_argument` where the shape takes other than the written bytes, `data_loss` where
    /// the given checksum does not agree, `already_exists`, `failed_precondition`,
    /// `resource_exhausted`. Nothing is stored then.
    pub fn publish(self, _shape: Shape) -> impl Future<Output = Result<Published>> + Send {
        async { todo!() }
    }
}
