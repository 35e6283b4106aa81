//! Readers of one column's buffers. What they read has been checked by `ipc_check` to be there.

use std::ops::Range;

use bytes::Bytes;

use crate::body::Body;
use crate::error::{Error, Result};
use crate::ipc_check::{Batch, Place};

/// A buffer as one piece.
pub(super) fn buffer(body: &Body, batch: &Batch, index: usize) -> Result<Bytes> {
    batch
        .buffers
        .get(index)
        .and_then(|range| body.contiguous(range.clone()))
        .ok_or_else(|| Error::internal("a checked buffer is not in the body"))
}

/// Which values of a node are null.
#[derive(Clone, Debug, Default)]
pub(super) struct Nulls(Option<Bytes>);

impl Nulls {
    /// Of the node and validity at `place`.
    pub fn new(body: &Body, batch: &Batch, place: Place) -> Result<Self> {
        match batch.nodes.get(place.node) {
            Some(node) if node.nulls > 0 => buffer(body, batch, place.buffer).map(Some).map(Self),
            _ => Ok(Self(None)),
        }
    }

    pub fn any(&self) -> bool {
        self.0.is_some()
    }

    pub fn is_null(&self, at: u64) -> bool {
        let Some(bits) = &self.0 else { return false };
        let byte = usize::try_from(at / 8).ok().and_then(|byte| bits.get(byte));
        byte.is_none_or(|byte| byte >> (at % 8) & 1 == 0)
    }

    pub fn any_in(&self, range: Range<u64>) -> bool {
        self.any() && range.into_iter().any(|at| self.is_null(at))
    }
}

/// The offsets of a column of texts, bytes or lists.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    offsets: Bytes,
    wide: bool,
}

impl Ranges {
    /// Reads the buffer, whose `rows + 1` offsets must ascend from 0 or more to at most `limit`.
    pub fn new(
        body: &Body,
        batch: &Batch,
        index: usize,
        wide: bool,
        rows: u64,
        limit: u64,
    ) -> Result<Self> {
        let ranges = Self {
            offsets: buffer(body, batch, index)?,
            wide,
        };
        let mut last = 0;
        let count = if rows == 0 { 0 } else { rows + 1 };
        for at in 0..count {
            // A negative offset is a huge one here.
            let next = ranges.offset(at);
            if next < last || next > limit {
                return Err(Error::invalid(format!(
                    "a column has offsets that descend or lie outside its values; row=`{at}` \
                     expected `{last}` to `{limit}`"
                )));
            }
            last = next;
        }
        Ok(ranges)
    }

    pub fn get(&self, row: u64) -> Range<u64> {
        self.offset(row)..self.offset(row + 1)
    }

    fn offset(&self, at: u64) -> u64 {
        offset(&self.offsets, self.wide, at)
    }
}

/// A negative offset is a huge one, and so is one that is not there.
fn offset(offsets: &[u8], wide: bool, at: u64) -> u64 {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let found = if wide {
        let (offsets, _) = offsets.as_chunks::<8>();
        offsets.get(at).map(|bytes| u64::from_le_bytes(*bytes))
    } else {
        let (offsets, _) = offsets.as_chunks::<4>();
        let offset = offsets.get(at).map(|bytes| i32::from_le_bytes(*bytes));
        offset.and_then(|offset| u64::try_from(offset).ok())
    };
    found.unwrap_or(u64::MAX)
}

/// The offsets and lengths of a column of lists as views.
#[derive(Clone, Debug)]
pub(super) struct Lengths {
    offsets: Bytes,
    lengths: Bytes,
    wide: bool,
    limit: u64,
}

impl Lengths {
    /// Reads two buffers, whose lists must lie within `limit` values: that is looked at row by row.
    pub fn new(body: &Body, batch: &Batch, index: usize, wide: bool, limit: u64) -> Result<Self> {
        Ok(Self {
            offsets: buffer(body, batch, index)?,
            lengths: buffer(body, batch, index + 1)?,
            wide,
            limit,
        })
    }

    /// # Errors
    /// `invalid_argument` for a list outside the values.
    pub fn get(&self, row: u64) -> Result<Range<u64>> {
        let start = offset(&self.offsets, self.wide, row);
        let len = offset(&self.lengths, self.wide, row);
        match start.checked_add(len) {
            Some(end) if end <= self.limit => Ok(start..end),
            _ => Err(Error::invalid(format!(
                "a list lies outside its values; offset=`{start}` length=`{len}` expected at most \
                 `{}` values",
                self.limit
            ))),
        }
    }
}

/// A column of values of a fixed width.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    nulls: Nulls,
    bytes: Bytes,
    width: usize,
}

impl Fixed {
    pub fn new(body: &Body, batch: &Batch, place: Place, width: u64) -> Result<Self> {
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            bytes: buffer(body, batch, place.buffer + 1)?,
            width: usize::try_from(width).unwrap_or(usize::MAX),
        })
    }

    /// `None` for null.
    pub fn get(&self, row: u64) -> Option<&[u8]> {
        if self.nulls.is_null(row) {
            return None;
        }
        let from = usize::try_from(row).ok()?.checked_mul(self.width)?;
        self.bytes.get(from..from.checked_add(self.width)?)
    }

    /// As an integer of the column's width; `None` for null.
    pub fn int(&self, row: u64, signed: bool) -> Option<i128> {
        self.get(row).map(|bytes| int(bytes, signed))
    }

    /// `None` for null.
    pub fn i64(&self, row: u64) -> Option<i64> {
        self.get(row)?.try_into().ok().map(i64::from_le_bytes)
    }
}

/// An integer of at most 8 bytes.
pub(super) fn int(bytes: &[u8], signed: bool) -> i128 {
    let mut wide = [0; 8];
    let len = bytes.len().min(8);
    wide[..len].copy_from_slice(&bytes[..len]);
    let shift = 64 - 8 * len.max(1);
    if signed {
        i128::from(i64::from_le_bytes(wide) << shift >> shift)
    } else {
        i128::from(u64::from_le_bytes(wide))
    }
}
