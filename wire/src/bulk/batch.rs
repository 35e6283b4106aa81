//! The rows of a checked batch of a bulk put.

use std::borrow::Cow;
use std::ops::Range;

use super::BulkReader;
use super::cells::Fixed;
use super::dictionaries::Dictionaries;
use super::extras;
use super::keys::{Keys, Pairs};
use super::tensors::Data;
use super::texts::Texts;
use crate::body::{Body, Slices};
use crate::cast::Cast;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ipc_check::Batch;
use crate::json::quoted;
use crate::limits::MAX_TTL_MS;
use crate::metadata::Metadata;
use crate::name::Key;
use crate::shape::Shape;
use crate::transform::check_bool;

/// A checked batch. Rows are read one by one, each with its own error.
#[derive(Debug)]
pub struct BulkBatch<'a> {
    rows: u64,
    /// What all rows are cast to.
    dtype: Option<DType>,
    body: &'a Body,
    keys: Keys,
    tensors: Data<'a>,
    ttl_ms: Option<Fixed>,
    source_version: Option<Fixed>,
    checksum: Option<Texts>,
    metadata: Option<Pairs>,
    extras: Vec<extras::Values<'a>>,
}

/// One entry of a batch.
#[derive(Clone, Debug)]
pub struct BulkRow<'b> {
    /// Its key, which is legal.
    pub key: Cow<'b, str>,
    /// Its element type, as it is to be stored.
    pub dtype: DType,
    /// Its shape.
    pub shape: Cow<'b, Shape>,
    /// Its bytes in the body, as sent: for [`BulkRow::is_plain`] those of the tensor.
    pub data: Range<u64>,
    /// Until it expires: 1 to [`MAX_TTL_MS`].
    pub ttl_ms: Option<u64>,
    /// What its bytes should have, where the batch has such a column.
    pub checksum: Option<u128>,
    /// The version that its source gives it.
    pub source_version: Option<i64>,
    /// Its own metadata.
    pub metadata: Metadata,
    /// For bits: the first that counts in the first byte.
    pub(super) first_bit: u32,
    /// From what is sent to what is to be stored.
    cast: Option<Cast>,
    is_plain: bool,
}

impl BulkRow<'_> {
    /// Whether its bytes lie in the body as they are to be stored, [`BulkRow::data`]. They still have
    /// to be checked where they are bools. For others there has to be room while they are stored.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The element type that it came with.
    pub(super) fn sent(&self) -> DType {
        self.cast.map_or(self.dtype, |cast| cast.from())
    }
}

impl<'a> BulkBatch<'a> {
    pub(super) fn new(
        reader: &'a BulkReader,
        body: &'a Body,
        batch: &Batch,
        dictionaries: &Dictionaries,
    ) -> Result<Self> {
        let ttl_ms = reader
            .ttl_ms
            .map(|place| Fixed::new(body, batch, place, 8))
            .transpose()?;
        let source_version = reader
            .source_version
            .map(|place| Fixed::new(body, batch, place, 8))
            .transpose()?;
        let checksum = reader
            .checksum
            .map(|text| Texts::new(body, batch, text, dictionaries))
            .transpose()?;
        let metadata = reader
            .metadata
            .map(|map| Pairs::new(body, batch, map, dictionaries))
            .transpose()?;
        let extras = reader.extras.iter();
        let extras = extras.map(|extra| extras::Values::new(body, batch, extra, dictionaries));
        Ok(Self {
            rows: batch.rows,
            dtype: reader.dtype,
            keys: Keys::new(body, batch, reader.key, dictionaries)?,
            tensors: Data::new(body, batch, &reader.tensors, dictionaries)?,
            body,
            ttl_ms,
            source_version,
            checksum,
            metadata,
            extras: extras.collect::<Result<_>>()?,
        })
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A row's key, for whoever has to name the row, whatever else is wrong with it.
    ///
    /// # Errors
    /// `invalid_argument` for null, or no legal key.
    pub fn key(&self, row: u64) -> Result<Cow<'_, str>> {
        if row >= self.rows {
            return Err(Error::internal(format!(
                "a batch has no such row; row=`{row}` expected less than `{}`",
                self.rows
            )));
        }
        let key = self.keys.get(row)?;
        Key::check(&key)?;
        Ok(key)
    }

    /// A row.
    ///
    /// # Errors
    /// What is wrong with this row, which says nothing of the others: a null, a bad key, a list
    /// of another length, a time to live out of range, ….
    pub fn row(&self, row: u64) -> Result<BulkRow<'_>> {
        self.row_of(row, self.key(row)?)
    }

    /// As [`BulkBatch::row`], for who has its key.
    ///
    /// # Errors
    /// As [`BulkBatch::row`].
    pub fn row_of<'b>(&'b self, row: u64, key: Cow<'b, str>) -> Result<BulkRow<'b>> {
        let (sent, shape, data, first_bit) = self.tensors.get(row)?;
        let dtype = self.dtype.unwrap_or(sent);
        let cast = Cast::new(sent, dtype)?;
        Ok(BulkRow {
            key,
            dtype,
            cast,
            is_plain: cast.is_none() && self.tensors.is_plain(),
            shape,
            data,
            ttl_ms: self.ttl_ms(row)?,
            source_version: self.source_version.as_ref().and_then(|v| v.i64(row)),
            checksum: self.checksum(row)?,
            metadata: self.metadata(row)?,
            first_bit,
        })
    }

    /// The pieces of a row's tensor as it is to be stored: those of the body where they are plain,
    /// else `scratch`, which is overwritten.
    ///
    /// # Errors
    /// `invalid_argument` for bools that are neither 0 nor 1, and for values that do not fit the
    /// dtype that they are cast to; this row's error.
    pub fn pieces<'s>(&'s self, row: &BulkRow<'_>, scratch: &'s mut Vec<u8>) -> Result<Pieces<'s>> {
        let slices = self.body.slices(row.data.clone());
        if row.is_plain {
            if row.dtype == DType::Bool {
                slices.clone().try_for_each(check_bool)?;
            }
            return Ok(Pieces::Body(slices));
        }
        self.tensors.transform(row, slices, scratch)?;
        if let Some(cast) = row.cast {
            let sent = std::mem::take(scratch);
            cast.append(&sent, scratch)?;
        }
        Ok(Pieces::Scratch(Some(scratch.as_slice())))
    }

    fn ttl_ms(&self, row: u64) -> Result<Option<u64>> {
        let Some(value) = self.ttl_ms.as_ref().and_then(|ttl| ttl.i64(row)) else {
            return Ok(None);
        };
        match u64::try_from(value) {
            Ok(ttl @ 1..=MAX_TTL_MS) => Ok(Some(ttl)),
            _ => Err(Error::invalid(format!(
                "a time to live is out of range; ttl_ms=`{value}` expected 1 to {MAX_TTL_MS}, or \
                 null"
            ))),
        }
    }

    fn metadata(&self, row: u64) -> Result<Metadata> {
        let mut pairs = match &self.metadata {
            Some(pairs) => pairs.get(row)?,
            None if self.extras.is_empty() => return Ok(Metadata::default()),
            None => Vec::new(),
        };
        for extra in &self.extras {
            pairs.extend(extra.get(row)?);
        }
        Metadata::new(pairs)
    }

    fn checksum(&self, row: u64) -> Result<Option<u128>> {
        let Some(texts) = &self.checksum else {
            return Ok(None);
        };
        let Some(text) = texts.get(row)? else {
            return Ok(None);
        };
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(checksum) if hex => Ok(Some(checksum)),
            _ => Err(Error::invalid(format!(
                "a checksum is none; checksum=`{}` expected 32 hex digits",
                quoted(text)
            ))),
        }
    }
}

/// The pieces of one tensor, in order.
#[derive(Clone, Debug)]
pub enum Pieces<'s> {
    /// As they were received.
    Body(Slices<'s>),
    /// One piece, made from them.
    Scratch(Option<&'s [u8]>),
}

impl<'s> Iterator for Pieces<'s> {
    type Item = &'s [u8];

    fn next(&mut self) -> Option<&'s [u8]> {
        match self {
            Pieces::Body(slices) => slices.next(),
            Pieces::Scratch(piece) => piece.take(),
        }
    }
}
