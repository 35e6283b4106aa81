//! Columns that nobody asked for, as metadata of the rows: their values as text.

use bytes::Bytes;

use super::Found;
use super::cells::{Fixed, Nulls, buffer};
use super::dictionaries::{Dictionaries, Wanted};
use super::role::{self, Text};
use super::texts::Texts;
use crate::body::Body;
use crate::error::{Error, Result};
use crate::field::{self, Logical};
use crate::ipc_check::{Batch, Place};

/// A column that becomes metadata.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Nothing but nulls.
    Null,
    Text(Text),
    Bool(Place),
    Int {
        place: Place,
        bytes: u64,
        signed: bool,
    },
    Float {
        place: Place,
        bytes: u64,
    },
}

impl Extra {
    /// # Errors
    /// `invalid_argument` for a type whose values have no one text.
    pub fn new((field, place): Found<'_>, wanted: &mut Vec<Wanted>) -> Result<Self> {
        let kind = match field::logical(&field)? {
            Logical::Null => Kind::Null,
            Logical::Bool => Kind::Bool(place),
            Logical::Int { bits, signed } => Kind::Int {
                place,
                bytes: bits / 8,
                signed,
            },
            Logical::Float { bits } => Kind::Float {
                place,
                bytes: bits / 8,
            },
            _ => {
                let expected = "texts, integers, floats or booleans, to be metadata";
                Kind::Text(role::text((field, place), expected, wanted)?)
            }
        };
        let name = field.name().unwrap_or_default().to_owned();
        Ok(Self { name, kind })
    }
}

/// The values of such a column in a batch.
#[derive(Debug)]
pub(super) struct Values<'a> {
    name: &'a str,
    values: Read,
}

#[derive(Debug)]
enum Read {
    Null,
    Text(Texts),
    Bool(Nulls, Bytes),
    Int(Fixed, bool),
    Float(Fixed),
}

impl<'a> Values<'a> {
    pub fn new(
        body: &Body,
        batch: &Batch,
        extra: &'a Extra,
        dictionaries: &Dictionaries,
    ) -> Result<Self> {
        let values = match extra.kind {
            Kind::Null => Read::Null,
            Kind::Text(text) => Read::Text(Texts::new(body, batch, text, dictionaries)?),
            Kind::Bool(place) => Read::Bool(
                Nulls::new(body, batch, place)?,
                buffer(body, batch, place.buffer + 1)?,
            ),
            Kind::Int {
                place,
                bytes,
                signed,
            } => Read::Int(Fixed::new(body, batch, place, bytes)?, signed),
            Kind::Float { place, bytes } => Read::Float(Fixed::new(body, batch, place, bytes)?),
        };
        Ok(Self {
            name: &extra.name,
            values,
        })
    }

    /// Name and value of a row; `None` for null.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn get(&self, row: u64) -> Result<Option<(String, String)>> {
        let text = match &self.values {
            Read::Null => None,
            Read::Text(texts) => texts.get(row)?.map(str::to_owned),
            Read::Bool(nulls, _) if nulls.is_null(row) => None,
            Read::Bool(_, bits) => {
                let byte = usize::try_from(row / 8).ok().and_then(|at| bits.get(at));
                byte.map(|byte| (byte >> (row % 8) & 1 == 1).to_string())
            }
            Read::Int(values, signed) => values.int(row, *signed).map(|value| value.to_string()),
            Read::Float(values) => values.get(row).map(decimal).transpose()?,
        };
        Ok(text.map(|text| (self.name.to_owned(), text)))
    }
}

/// The shortest decimal text that reads back as the same number.
fn decimal(bytes: &[u8]) -> Result<String> {
    match *bytes {
        [a, b] => Ok(format!("{:?}", half::f16::from_le_bytes([a, b]).to_f32())),
        [a, b, c, d] => Ok(format!("{:?}", f32::from_le_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Ok(format!(
            "{:?}",
            f64::from_le_bytes([a, b, c, d, e, f, g, h])
        )),
        _ => Err(Error::internal("a float of another width")),
    }
}
