//! Texts of rows, however they are stored: behind offsets, as views, by a dictionary.

use std::ops::Range;

use bytes::Bytes;

use super::cells::{Fixed, Nulls, Ranges, buffer};
use super::dictionaries::{Dictionaries, Dictionary};
use super::role::{Form, Text};
use crate::body::Body;
use crate::error::{Error, Result};
use crate::ipc_check::{Batch, Place};

/// A column of texts.
#[derive(Clone, Debug)]
pub(super) enum Texts {
    Plain(Values),
    Dictionary {
        indices: Fixed,
        signed: bool,
        values: Dictionary,
    },
}

impl Texts {
    pub fn new(
        body: &Body,
        batch: &Batch,
        text: Text,
        dictionaries: &Dictionaries,
    ) -> Result<Self> {
        match text.form {
            Form::Dictionary {
                number,
                bytes,
                signed,
            } => Ok(Texts::Dictionary {
                indices: Fixed::new(body, batch, text.place, bytes)?,
                signed,
                values: dictionaries.get(number),
            }),
            _ => Values::new(body, batch, text).map(Texts::Plain),
        }
    }

    /// `None` for null.
    ///
    /// # Errors
    /// `invalid_argument` for what is not UTF-8, a view or an index that points outside.
    pub fn get(&self, row: u64) -> Result<Option<&str>> {
        match self {
            Texts::Plain(values) => values.get(row),
            Texts::Dictionary {
                indices,
                signed,
                values,
            } => match indices.int(row, *signed) {
                Some(index) => values.text(index),
                None => Ok(None),
            },
        }
    }
}

/// Texts that a batch has itself.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Offsets {
        nulls: Nulls,
        ranges: Ranges,
        bytes: Bytes,
    },
    Views {
        views: Views,
        pointed: Vec<Bytes>,
    },
}

impl Values {
    pub fn new(body: &Body, batch: &Batch, Text { place, form }: Text) -> Result<Self> {
        let wide = match form {
            Form::Offsets { wide } => wide,
            Form::Views => {
                let views = Views::new(body, batch, place)?;
                let pointed = views.buffers.iter().map(|range| whole(body, range));
                return Ok(Values::Views {
                    pointed: pointed.collect::<Result<_>>()?,
                    views,
                });
            }
            Form::Dictionary { .. } => {
                return Err(Error::internal("a dictionary's values are a dictionary"));
            }
        };
        let rows = batch.nodes.get(place.node).map_or(0, |node| node.len);
        let bytes = buffer(body, batch, place.buffer + 2)?;
        let limit = bytes.len() as u64;
        Ok(Values::Offsets {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, rows, limit)?,
            bytes,
        })
    }

    /// `None` for null.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn get(&self, row: u64) -> Result<Option<&str>> {
        let bytes = match self {
            Values::Offsets { nulls, .. } if nulls.is_null(row) => return Ok(None),
            Values::Offsets { ranges, bytes, .. } => slice(bytes, &ranges.get(row)),
            Values::Views { views, pointed } => match views.get(row)? {
                None => return Ok(None),
                Some(Viewed::Here(range)) => slice(&views.views, &range),
                Some(Viewed::In(buffer, range)) => {
                    pointed.get(buffer).and_then(|bytes| slice(bytes, &range))
                }
            },
        };
        match bytes.map(std::str::from_utf8) {
            Some(Ok(text)) => Ok(Some(text)),
            _ => Err(Error::invalid("a text is not UTF-8; expected UTF-8")),
        }
    }
}

/// A column of views: each is a length and, in 12 bytes, the value itself or where it begins.
#[derive(Clone, Debug)]
pub(super) struct Views {
    nulls: Nulls,
    views: Bytes,
    /// Where they begin in the body.
    at: u64,
    /// What they point into, in the body.
    buffers: Vec<Range<u64>>,
}

/// Where a value is.
pub(super) enum Viewed {
    /// Bytes of the views.
    Here(Range<u64>),
    /// Bytes of a buffer that they point into.
    In(usize, Range<u64>),
}

const VIEW_BYTES: u64 = 16;
const HERE_MAX: u64 = 12;

impl Views {
    pub fn new(body: &Body, batch: &Batch, place: Place) -> Result<Self> {
        let viewed = batch.viewed.iter().find(|(node, _)| *node == place.node);
        let at = batch.buffers.get(place.buffer + 1);
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            views: buffer(body, batch, place.buffer + 1)?,
            at: at.map_or(0, |range| range.start),
            buffers: viewed.map_or_else(Vec::new, |(_, buffers)| buffers.clone()),
        })
    }

    /// `None` for null.
    ///
    /// # Errors
    /// `invalid_argument` for a view that points outside.
    pub fn get(&self, row: u64) -> Result<Option<Viewed>> {
        if self.nulls.is_null(row) {
            return Ok(None);
        }
        self.viewed(row).map(Some).ok_or_else(|| {
            Error::invalid("a view points outside its buffers; expected bytes that are there")
        })
    }

    /// The bytes of the body that a value is; `None` for null.
    ///
    /// # Errors
    /// As [`Views::get`].
    pub fn in_body(&self, row: u64) -> Result<Option<Range<u64>>> {
        Ok(self.get(row)?.map(|viewed| {
            let (start, range) = match viewed {
                Viewed::Here(range) => (self.at, range),
                Viewed::In(buffer, range) => {
                    (self.buffers.get(buffer).map_or(0, |b| b.start), range)
                }
            };
            start + range.start..start + range.end
        }))
    }

    fn viewed(&self, row: u64) -> Option<Viewed> {
        let at = row.checked_mul(VIEW_BYTES)?;
        let from = usize::try_from(at).ok()?;
        let view = self.views.get(from..)?.first_chunk::<16>()?;
        let part = |at: usize| {
            let bytes = view.get(at..at + 4)?.try_into().ok()?;
            u64::try_from(i32::from_le_bytes(bytes)).ok()
        };
        let len = part(0)?;
        if len <= HERE_MAX {
            return Some(Viewed::Here(at + 4..at + 4 + len));
        }
        let (buffer, start) = (usize::try_from(part(8)?).ok()?, part(12)?);
        let range = self.buffers.get(buffer)?;
        let end = start + len;
        (end <= range.end - range.start).then_some(Viewed::In(buffer, start..end))
    }
}

fn whole(body: &Body, range: &Range<u64>) -> Result<Bytes> {
    body.contiguous(range.clone())
        .ok_or_else(|| Error::internal("a checked buffer is not in the body"))
}

fn slice<'b>(bytes: &'b Bytes, range: &Range<u64>) -> Option<&'b [u8]> {
    let start = usize::try_from(range.start).ok()?;
    bytes.get(start..usize::try_from(range.end).ok()?)
}
