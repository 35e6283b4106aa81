//! The texts of rows: their keys, and their metadata.

use std::borrow::Cow;
use std::fmt::Write;

use super::cells::{Fixed, Nulls, Ranges, Texts};
use super::role::{KeyKind, Text};
use crate::body::Body;
use crate::error::{Error, Result};
use crate::ipc_check::{Batch, Place};
use crate::metadata::Metadata;

/// The keys of a batch, as they become text.
#[derive(Debug)]
pub(super) enum Keys {
    Text(Texts),
    Int { values: Fixed, signed: bool },
    Hex(Fixed),
}

impl Keys {
    pub fn new(body: &Body, batch: &Batch, (kind, place): (KeyKind, Place)) -> Result<Self> {
        match kind {
            KeyKind::Text { wide } => Texts::new(body, batch, Text { place, wide }).map(Keys::Text),
            KeyKind::Int { bytes, signed } => {
                let values = Fixed::new(body, batch, place, bytes)?;
                Ok(Keys::Int { values, signed })
            }
            KeyKind::Hex { bytes } => Fixed::new(body, batch, place, bytes).map(Keys::Hex),
        }
    }

    /// # Errors
    /// `invalid_argument` for null, or what is not UTF-8.
    pub fn get(&self, row: u64) -> Result<Cow<'_, str>> {
        let key = match self {
            Keys::Text(texts) => texts.get(row)?.map(Cow::Borrowed),
            Keys::Int { values, signed } => {
                values.get(row).map(|b| Cow::Owned(decimal(b, *signed)))
            }
            Keys::Hex(values) => values.get(row).map(|b| Cow::Owned(hex(b))),
        };
        key.ok_or_else(|| Error::invalid("a key is null; expected a key in each row"))
    }
}

fn decimal(bytes: &[u8], signed: bool) -> String {
    let mut wide = [0; 8];
    wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    let bits = 8 * bytes.len().clamp(1, 8);
    if signed {
        let shift = 64 - bits;
        (i64::from_le_bytes(wide) << shift >> shift).to_string()
    } else {
        u64::from_le_bytes(wide).to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The metadata column: a map is a list of pairs.
#[derive(Debug)]
pub(super) struct Pairs {
    nulls: Nulls,
    ranges: Ranges,
    names: Texts,
    values: Texts,
}

impl Pairs {
    pub fn new(body: &Body, batch: &Batch, place: Place) -> Result<Self> {
        let pairs = batch.nodes.get(place.node + 1).map_or(0, |node| node.len);
        // The map's validity and offsets, the pairs' validity; then three buffers a text.
        let text = |nodes, buffers| Text {
            place: place.and(nodes, buffers),
            wide: false,
        };
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, false, batch.rows, pairs)?,
            names: Texts::new(body, batch, text(2, 3))?,
            values: Texts::new(body, batch, text(3, 6))?,
        })
    }

    /// No metadata for null.
    pub fn get(&self, row: u64) -> Result<Metadata> {
        if self.nulls.is_null(row) {
            return Ok(Metadata::default());
        }
        let mut pairs = Vec::new();
        for at in self.ranges.get(row) {
            let (name, value) = (self.names.get(at)?, self.values.get(at)?);
            let (Some(name), Some(value)) = (name, value) else {
                return Err(Error::invalid("metadata has a null; expected texts"));
            };
            pairs.push((name.to_owned(), value.to_owned()));
        }
        Metadata::new(pairs)
    }
}
