//! The texts of rows: their keys, and their metadata.

use std::borrow::Cow;
use std::fmt::Write;

use super::cells::{Fixed, Nulls, Ranges};
use super::dictionaries::Dictionaries;
use super::role::{KeyKind, Map};
use super::texts::Texts;
use crate::body::Body;
use crate::error::{Error, Result};
use crate::ipc_check::Batch;

/// The keys of a batch, as they become text.
#[derive(Debug)]
pub(super) enum Keys {
    Text(Texts),
    Int { values: Fixed, signed: bool },
    Hex(Fixed),
}

impl Keys {
    pub fn new(
        body: &Body,
        batch: &Batch,
        kind: KeyKind,
        dictionaries: &Dictionaries,
    ) -> Result<Self> {
        match kind {
            KeyKind::Text(text) => Texts::new(body, batch, text, dictionaries).map(Keys::Text),
            KeyKind::Int {
                place,
                bytes,
                signed,
            } => {
                let values = Fixed::new(body, batch, place, bytes)?;
                Ok(Keys::Int { values, signed })
            }
            KeyKind::Hex { place, bytes } => Fixed::new(body, batch, place, bytes).map(Keys::Hex),
        }
    }

    /// # Errors
    /// `invalid_argument` for null, what is not UTF-8, and what points outside.
    pub fn get(&self, row: u64) -> Result<Cow<'_, str>> {
        let key = match self {
            Keys::Text(texts) => texts.get(row)?.map(Cow::Borrowed),
            Keys::Int { values, signed } => {
                let value = values.int(row, *signed);
                value.map(|value| Cow::Owned(value.to_string()))
            }
            Keys::Hex(values) => values.get(row).map(|b| Cow::Owned(hex(b))),
        };
        key.ok_or_else(|| Error::invalid("a key is null; expected a key in each row"))
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
    pub fn new(body: &Body, batch: &Batch, map: Map, dictionaries: &Dictionaries) -> Result<Self> {
        let Map {
            place,
            wide,
            name,
            value,
        } = map;
        let pairs = batch.nodes.get(place.node + 1).map_or(0, |node| node.len);
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, batch.rows, pairs)?,
            names: Texts::new(body, batch, name, dictionaries)?,
            values: Texts::new(body, batch, value, dictionaries)?,
        })
    }

    /// None for null.
    pub fn get(&self, row: u64) -> Result<Vec<(String, String)>> {
        if self.nulls.is_null(row) {
            return Ok(Vec::new());
        }
        let mut pairs = Vec::new();
        for at in self.ranges.get(row) {
            let (name, value) = (self.names.get(at)?, self.values.get(at)?);
            let (Some(name), Some(value)) = (name, value) else {
                return Err(Error::invalid("metadata has a null; expected texts"));
            };
            pairs.push((name.to_owned(), value.to_owned()));
        }
        Ok(pairs)
    }
}
