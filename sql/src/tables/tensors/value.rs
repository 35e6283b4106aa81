//! The bytes of tensors: where they lie, as far as a scan may hold so many of them, else copied into what the query has
//! been given of the memory.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::BinaryViewArray;
use arrow_array::builder::BinaryViewBuilder;
use arrow_buffer::{Buffer, MutableBuffer};
use bowstring_cache::Cache;
use bowstring_cache::Id;
use bowstring_cache::generation::Generation;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::lower::{Found, Reading};
use bowstring_cache::read::Entry;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::DfResult;
use crate::limits::{COPIED_BYTES, HELD_BYTES_MAX};

/// What a view can say of where bytes are.
const VIEW_BYTES_MAX: u64 = i32::MAX as u64;
/// What may be held is counted in.
const UNIT_BYTES: usize = 1 << 10;

/// What one scan may hold of the cache's own memory.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Semaphore>);

impl Default for Hold {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HELD_BYTES_MAX / UNIT_BYTES)))
    }
}

/// A tensor that was read.
pub struct Value {
    pub version: Version,
    pub dtype: DType,
    pub shape: Shape,
    pub tier: &'static str,
    pub expires_at_ms: Option<u64>,
    pub bytes: Bytes,
}

impl Value {
    /// The same in memory that the query pays for, for one that keeps it.
    ///
    /// # Errors
    /// `resource_exhausted` where there is none.
    pub fn copied(mut self, cache: &Cache) -> Result<Self> {
        let mut copy = Copied::new(cache, self.bytes.len() as u64)?;
        copy.bytes.extend_from_slice(&self.bytes);
        self.bytes = Bytes::from_owner(copy);
        Ok(self)
    }
}

/// The tensors of a batch: small ones copied one behind the other, the others where they lie.
#[derive(Default)]
pub struct Values {
    small: Vec<u8>,
    each: Vec<Place>,
    bytes: u64,
}

enum Place {
    Small(Range<usize>),
    Apart(Bytes),
}

impl Values {
    /// None yet, with room for as many as there are of others.
    pub fn like(others: &Self) -> Self {
        Self {
            small: Vec::with_capacity(others.small.len()),
            each: Vec::with_capacity(others.each.len()),
            bytes: 0,
        }
    }

    /// Adds a row's.
    pub fn push(&mut self, bytes: Bytes) {
        if (bytes.len() as u64) < COPIED_BYTES {
            return self.copy(&bytes);
        }
        self.bytes += bytes.len() as u64;
        self.each.push(Place::Apart(bytes));
    }

    /// Adds a row's that is small.
    pub fn copy(&mut self, bytes: &[u8]) {
        let start = self.small.len();
        self.small.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        self.each.push(Place::Small(start..self.small.len()));
    }

    /// All of them together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One behind the other: where they lie, if they do, else copied.
    pub fn joined(mut self) -> Buffer {
        if self.small.len() as u64 == self.bytes {
            return Buffer::from_vec(self.small);
        }
        if let [Place::Apart(_)] = &self.each[..]
            && let Some(Place::Apart(bytes)) = self.each.pop()
        {
            return Buffer::from(bytes);
        }
        let mut all = MutableBuffer::with_capacity(usize::try_from(self.bytes).unwrap_or(0));
        for one in &self.each {
            all.extend_from_slice(match one {
                Place::Small(at) => &self.small[at.clone()],
                Place::Apart(bytes) => bytes,
            });
        }
        Buffer::from(all)
    }

    /// As a column.
    pub fn finish(self) -> DfResult<BinaryViewArray> {
        let mut column = BinaryViewBuilder::with_capacity(self.each.len());
        let small = column.append_block(Buffer::from_vec(self.small));
        for one in self.each {
            let (block, at) = match one {
                Place::Small(at) => (small, at),
                Place::Apart(bytes) => {
                    let len = bytes.len();
                    (column.append_block(Buffer::from(bytes)), 0..len)
                }
            };
            let in_view = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            column.try_append_view(block, in_view(at.start), in_view(at.len()))?;
        }
        Ok(column.finish())
    }
}

/// Reads a tensor; `None` where it has gone. It is no younger for it.
///
/// # Errors
/// `resource_exhausted` where there is no memory for a copy, `invalid_argument` for a tensor too large for a column;
/// whatever the tier below meets.
pub async fn read(
    cache: &Cache,
    (generation, id): (&Generation, &Id),
    hold: &Hold,
) -> Result<Option<Value>> {
    let peeked = cache.peek_in(generation, id);
    // It comes up to be read once.
    let is_attached = peeked.is_none() && cache.is_attached(&id.tenant, &id.namespace);
    let found = match peeked {
        Some(entry) => Some(Found::Here(entry)),
        None if generation.is_present() => cache.lower().open(cache, id, Reading::Scan).await?,
        None => None,
    };
    match found {
        None => Ok(None),
        Some(Found::Here(entry)) => {
            let mut value = here(cache, id, entry, hold)?;
            if is_attached {
                value.tier = "attached";
            }
            Ok(Some(value))
        }
        Some(Found::Below(below)) => {
            let description = below.description().clone();
            check(id, description.len)?;
            let Some(mut coming) = below.read(0..description.len).await? else {
                return Ok(None);
            };
            let mut copy = Copied::new(cache, description.len)?;
            loop {
                let bytes = coming.next().await?;
                if bytes.is_empty() {
                    break;
                }
                copy.bytes.extend_from_slice(&bytes);
            }
            Ok(Some(Value {
                version: description.version,
                dtype: description.dtype,
                shape: description.shape,
                tier: "cold",
                expires_at_ms: description.expires_at_ms,
                bytes: Bytes::from_owner(copy),
            }))
        }
    }
}

fn here(cache: &Cache, id: &Id, entry: Entry, hold: &Hold) -> Result<Value> {
    let len = entry.len();
    check(id, len)?;
    let (dtype, shape) = entry.description();
    let (version, expires_at_ms) = (entry.version(), entry.expires_at_ms());
    let mut reader = entry.reader(0..len)?;
    let permit = match len < COPIED_BYTES {
        // It will be copied into the batch.
        true => None,
        false => hold.take(len),
    };
    let bytes = if len < COPIED_BYTES || permit.is_some() {
        let mut pieces = reader.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        match pieces.len() {
            0 => Bytes::new(),
            1 => Bytes::from_owner(Held {
                bytes: pieces.remove(0),
                _permit: permit,
            }),
            _ => {
                let mut copy = Copied::new(cache, len)?;
                for piece in pieces {
                    copy.bytes.extend_from_slice(&piece);
                }
                Bytes::from_owner(copy)
            }
        }
    } else {
        let mut copy = Copied::new(cache, len)?;
        copy.bytes
            .resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        reader.copy_to(&mut copy.bytes)?;
        Bytes::from_owner(copy)
    };
    Ok(Value {
        version,
        dtype,
        shape,
        tier: "hot",
        expires_at_ms,
        bytes,
    })
}

fn check(id: &Id, len: u64) -> Result<()> {
    if len <= VIEW_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a tensor is too large for a column; leave it out, and get it by its key; key=`{}` bytes=`{len}` \
         limit=`{VIEW_BYTES_MAX}`",
        id.key.as_str()
    )))
}

impl Hold {
    /// Of nothing: all but small tensors are copied.
    pub fn nothing() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Room for so many bytes, where there is some: a query that keeps what it has read does not wait for itself.
    fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = usize::try_from(bytes).ok()?.div_ceil(UNIT_BYTES);
        let units = u32::try_from(units.min(HELD_BYTES_MAX / UNIT_BYTES)).ok()?;
        self.0.clone().try_acquire_many_owned(units).ok()
    }
}

/// The cache's own bytes.
struct Held {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes in memory that the query pays for.
struct Copied {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl Copied {
    fn new(cache: &Cache, len: u64) -> Result<Self> {
        let charge = cache.charge(Account::Sql, len).ok_or_else(|| {
            Error::exhausted(format!(
                "the query keeps more tensors than there is memory for; limit=`memory` value=`{}` wanted_bytes=`{len}`",
                cache.ledger().total()
            ))
        })?;
        Ok(Self {
            bytes: Vec::with_capacity(usize::try_from(len).unwrap_or(0)),
            _charge: charge,
        })
    }
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
