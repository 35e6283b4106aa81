//! Readers of one column's buffers. What they read has been checked by `ipc_check` to be there.

use std::ops::Range;

use bytes::Bytes;

use super::role::Text;
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

    /// A negative offset is a huge one, and so is one that is not there.
    fn offset(&self, at: u64) -> u64 {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let found = if self.wide {
            let (offsets, _) = self.offsets.as_chunks::<8>();
            offsets.get(at).map(|bytes| u64::from_le_bytes(*bytes))
        } else {
            let (offsets, _) = self.offsets.as_chunks::<4>();
            let offset = offsets.get(at).map(|bytes| i32::from_le_bytes(*bytes));
            offset.and_then(|offset| u64::try_from(offset).ok())
        };
        found.unwrap_or(u64::MAX)
    }
}

/// A column of texts.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    nulls: Nulls,
    ranges: Ranges,
    bytes: Bytes,
}

impl Texts {
    pub fn new(body: &Body, batch: &Batch, Text { place, wide }: Text) -> Result<Self> {
        let rows = batch.nodes.get(place.node).map_or(0, |node| node.len);
        let bytes = buffer(body, batch, place.buffer + 2)?;
        let limit = bytes.len() as u64;
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, rows, limit)?,
            bytes,
        })
    }

    /// `None` for null.
    ///
    /// # Errors
    /// `invalid_argument` for what is not UTF-8.
    pub fn get(&self, row: u64) -> Result<Option<&str>> {
        if self.nulls.is_null(row) {
            return Ok(None);
        }
        let range = self.ranges.get(row);
        let range = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        let bytes = range.and_then(|(start, end)| self.bytes.get(start..end));
        let text = bytes.map(std::str::from_utf8);
        match text {
            Some(Ok(text)) => Ok(Some(text)),
            _ => Err(Error::invalid("a text is not UTF-8; expected UTF-8")),
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

    /// `None` for null.
    pub fn i64(&self, row: u64) -> Option<i64> {
        self.get(row)?.try_into().ok().map(i64::from_le_bytes)
    }
}
