//! The rows of a checked batch of a bulk put.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use smallvec::SmallVec;

use super::cells::{Fixed, Nulls, Ranges, Texts};
use super::role::{KeyKind, Text};
use super::{BulkReader, Column, Tensors};
use crate::body::{Body, Slices};
use crate::column::Transform;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ipc_check::{Batch, Place};
use crate::json::quoted;
use crate::limits::MAX_TTL_MS;
use crate::metadata::Metadata;
use crate::name::Key;
use crate::shape::Shape;
use crate::transform::{BitUnpacker, check_bool, normalise_bool8};

/// A checked batch. Rows are read one by one, each with its own error.
#[derive(Debug)]
pub struct BulkBatch<'a> {
    rows: u64,
    body: &'a Body,
    keys: Keys,
    tensors: Data<'a>,
    ttl_ms: Option<Fixed>,
    checksum: Option<Texts>,
    metadata: Option<Pairs>,
}

/// One entry of a batch.
#[derive(Clone, Debug)]
pub struct BulkRow<'b> {
    /// Its key, which is legal.
    pub key: Cow<'b, str>,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Cow<'b, Shape>,
    /// Its bytes in the body, as sent: for [`BulkBatch::is_plain`] those of the tensor.
    pub data: Range<u64>,
    /// Until it expires: 1 to [`MAX_TTL_MS`].
    pub ttl_ms: Option<u64>,
    /// What its bytes should have, where the batch has such a column.
    pub checksum: Option<u128>,
    /// Its own metadata.
    pub metadata: Metadata,
    /// For bits: the first that counts in the first byte.
    first_bit: u32,
}

impl<'a> BulkBatch<'a> {
    pub(super) fn new(reader: &'a BulkReader, body: &'a Body, batch: Batch) -> Result<Self> {
        let texts = |text: &Text| {
            let Place { node, buffer } = text.place;
            Texts::new(body, &batch, node, buffer, text.wide)
        };
        let (kind, place) = &reader.key;
        let keys = match kind {
            KeyKind::Text { wide } => {
                let (place, wide) = (*place, *wide);
                Keys::Text(texts(&Text { place, wide })?)
            }
            KeyKind::Int { bytes, signed } => Keys::Int {
                values: Fixed::new(body, &batch, place.node, place.buffer, *bytes)?,
                signed: *signed,
            },
            KeyKind::Hex { bytes } => {
                Keys::Hex(Fixed::new(body, &batch, place.node, place.buffer, *bytes)?)
            }
        };
        let tensors = match &reader.tensors {
            Tensors::Column(column) => Data::Column(Cells::new(column, body, &batch)?),
            Tensors::Opaque { dtype, shape, data } => Data::Opaque {
                dtype: texts(dtype)?,
                shape: Axes::new(shape, body, &batch)?,
                data: Blobs::new(data, body, &batch)?,
            },
        };
        let ttl_ms = reader
            .ttl_ms
            .map(|place| Fixed::new(body, &batch, place.node, place.buffer, 8));
        let metadata = reader.metadata.map(|place| Pairs::new(place, body, &batch));
        Ok(Self {
            rows: batch.rows,
            body,
            keys,
            tensors,
            ttl_ms: ttl_ms.transpose()?,
            checksum: reader.checksum.as_ref().map(texts).transpose()?,
            metadata: metadata.transpose()?,
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
        let key = self.key(row)?;
        let (dtype, shape, data, first_bit) = match &self.tensors {
            Data::Column(cells) => cells.get(row)?,
            Data::Opaque { dtype, shape, data } => opaque(row, dtype, shape, data)?,
        };
        Ok(BulkRow {
            key,
            dtype,
            shape,
            data,
            ttl_ms: self.ttl_ms(row)?,
            checksum: self.checksum(row)?,
            metadata: match &self.metadata {
                Some(pairs) => pairs.get(row)?,
                None => Metadata::default(),
            },
            first_bit,
        })
    }

    /// Whether the bytes of rows lie in the body as they are to be stored, [`BulkRow::data`]. They
    /// still have to be checked where they are bools.
    pub fn is_plain(&self) -> bool {
        match &self.tensors {
            Data::Column(cells) => {
                let transform = cells.column.tensor.transform;
                cells.column.permute.is_none()
                    && matches!(transform, Transform::Plain | Transform::CheckBool)
            }
            Data::Opaque { .. } => true,
        }
    }

    /// The pieces of a row's tensor as it is to be stored: those of the body where they are plain,
    /// else `scratch`, which is overwritten.
    ///
    /// # Errors
    /// `invalid_argument` for bools that are neither 0 nor 1; this row's error.
    pub fn pieces<'s>(&'s self, row: &BulkRow<'_>, scratch: &'s mut Vec<u8>) -> Result<Pieces<'s>> {
        let slices = self.body.slices(row.data.clone());
        if self.is_plain() {
            if row.dtype == DType::Bool {
                slices.clone().try_for_each(check_bool)?;
            }
            return Ok(Pieces::Body(slices));
        }
        let Data::Column(cells) = &self.tensors else {
            return Err(Error::internal("an opaque row that is not plain"));
        };
        cells.transform(row, slices, scratch)?;
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

#[derive(Debug)]
enum Keys {
    Text(Texts),
    Int { values: Fixed, signed: bool },
    Hex(Fixed),
}

impl Keys {
    fn get(&self, row: u64) -> Result<Cow<'_, str>> {
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

#[derive(Debug)]
enum Data<'a> {
    Column(Cells<'a>),
    Opaque {
        dtype: Texts,
        shape: Axes,
        data: Blobs,
    },
}

type Found<'b> = (DType, Cow<'b, Shape>, Range<u64>, u32);

/// The rows of a tensor column.
#[derive(Debug)]
struct Cells<'a> {
    column: &'a Column,
    /// Where the values begin in the body.
    values: u64,
    /// Nulls of the lists, where there are lists.
    list_nulls: Nulls,
    lists: Option<Ranges>,
    /// Nulls of each level from the cells down, with the values that a cell has there.
    levels: SmallVec<[(Nulls, u64); 2]>,
}

impl<'a> Cells<'a> {
    fn new(column: &'a Column, body: &Body, batch: &Batch) -> Result<Self> {
        let Place {
            mut node,
            mut buffer,
        } = column.place;
        let mut list_nulls = Nulls::default();
        let mut lists = None;
        if let Some(wide) = column.tensor.list {
            list_nulls = Nulls::new(body, batch, node, buffer)?;
            let cells = batch.nodes.get(node + 1).map_or(0, |node| node.len);
            lists = Some(Ranges::new(
                body,
                batch,
                buffer + 1,
                wide,
                batch.rows,
                cells,
            )?);
            node += 1;
            buffer += 2;
        }
        let mut levels = SmallVec::new();
        for values in &column.tensor.level_values {
            levels.push((Nulls::new(body, batch, node, buffer)?, *values));
            node += 1;
            buffer += 1;
        }
        // The last level has its values behind its validity.
        let values = batch.buffers.get(buffer).map_or(0, |range| range.start);
        let cells = Self {
            column,
            values,
            list_nulls,
            lists,
            levels,
        };
        cells.set_list_len(batch.rows);
        Ok(cells)
    }

    /// The first valid list of the put says how long all are.
    fn set_list_len(&self, rows: u64) {
        if self.lists.is_none() || self.column.list.get().is_some() {
            return;
        }
        let valid = (0..rows).find_map(|row| {
            let cells = self.cells(row).ok()?;
            let len = cells.end - cells.start;
            Some((len, self.column.tensor.shape(&[len]).ok()?))
        });
        if let Some(found) = valid {
            // Batches of one put are decoded one after the other.
            let _ = self.column.list.set(found);
        }
    }

    /// The cells of a row, none of which is null or has a null.
    fn cells(&self, row: u64) -> Result<Range<u64>> {
        let cells = match &self.lists {
            None => row..row + 1,
            Some(_) if self.list_nulls.is_null(row) => return Err(null()),
            Some(lists) => lists.get(row),
        };
        for (nulls, values) in &self.levels {
            if nulls.any_in(cells.start * values..cells.end * values) {
                return Err(null());
            }
        }
        Ok(cells)
    }

    fn get(&self, row: u64) -> Result<Found<'_>> {
        let tensor = &self.column.tensor;
        let cells = self.cells(row)?;
        let shape = match (&self.column.shape, self.column.list.get()) {
            (Some(shape), _) => shape,
            (None, Some((len, shape))) if *len == cells.end - cells.start => shape,
            (None, Some((len, _))) => {
                return Err(Error::invalid(format!(
                    "a list has another length than the first one; length=`{}` expected `{len}`",
                    cells.end - cells.start
                )));
            }
            (None, None) => {
                // No list of the put made a tensor; this one says why.
                tensor.shape(&[cells.end - cells.start])?;
                return Err(Error::internal("a list that makes a tensor was overlooked"));
            }
        };
        // `ipc_check` has found these values inside the buffer.
        let start = cells.start * tensor.cell_values * tensor.value_bits();
        let end = cells.end * tensor.cell_values * tensor.value_bits();
        let (start, end) = if start == end { (0, 0) } else { (start, end) };
        let first_bit = u32::try_from(start % 8).unwrap_or(0);
        let data = self.values + start / 8..self.values + end.div_ceil(8);
        Ok((tensor.dtype, Cow::Borrowed(shape), data, first_bit))
    }

    fn transform(&self, row: &BulkRow<'_>, slices: Slices<'_>, to: &mut Vec<u8>) -> Result<()> {
        let tensor = &self.column.tensor;
        to.clear();
        match tensor.transform {
            Transform::UnpackBits => {
                let mut bits = BitUnpacker::new(row.first_bit, row.shape.elements()?);
                slices.for_each(|piece| bits.push(piece, to));
            }
            _ => slices.for_each(|piece| to.extend_from_slice(piece)),
        }
        match tensor.transform {
            Transform::CheckBool => check_bool(to)?,
            Transform::NormaliseBool8 => normalise_bool8(to),
            Transform::Plain | Transform::UnpackBits => {}
        }
        if let Some(permute) = &self.column.permute
            && permute.cell_bytes() > 0
        {
            let from = to.clone();
            let cells = from
                .chunks(permute.cell_bytes())
                .zip(to.chunks_mut(permute.cell_bytes()));
            if !cells.into_iter().all(|(from, to)| permute.apply(from, to)) {
                return Err(Error::internal("a cell of another size than its shape"));
            }
        }
        Ok(())
    }
}

fn null() -> Error {
    Error::invalid("a tensor is null or has nulls; expected none")
}

/// The shapes of opaque rows.
#[derive(Debug)]
struct Axes {
    nulls: Nulls,
    ranges: Ranges,
    dims: Fixed,
}

impl Axes {
    fn new(text: &Text, body: &Body, batch: &Batch) -> Result<Self> {
        let Place { node, buffer } = text.place;
        let dims = batch.nodes.get(node + 1).map_or(0, |node| node.len);
        Ok(Self {
            nulls: Nulls::new(body, batch, node, buffer)?,
            ranges: Ranges::new(body, batch, buffer + 1, text.wide, batch.rows, dims)?,
            dims: Fixed::new(body, batch, node + 1, buffer + 2, 8)?,
        })
    }

    fn get(&self, row: u64) -> Result<Shape> {
        if self.nulls.is_null(row) {
            return Err(null());
        }
        let mut dims: SmallVec<[u64; 8]> = SmallVec::new();
        for at in self.ranges.get(row) {
            let dim = self.dims.i64(at).and_then(|dim| u64::try_from(dim).ok());
            dims.push(dim.ok_or_else(|| {
                Error::invalid("a shape has a null or negative axis; expected lengths")
            })?);
            if dims.len() > crate::limits::MAX_RANK {
                break;
            }
        }
        Shape::new(&dims)
    }
}

/// The bytes of opaque rows, which stay in the body.
#[derive(Debug)]
struct Blobs {
    nulls: Nulls,
    ranges: Ranges,
    start: u64,
}

impl Blobs {
    fn new(text: &Text, body: &Body, batch: &Batch) -> Result<Self> {
        let Place { node, buffer } = text.place;
        let bytes = batch.buffers.get(buffer + 2).cloned().unwrap_or(0..0);
        let limit = bytes.end - bytes.start;
        Ok(Self {
            nulls: Nulls::new(body, batch, node, buffer)?,
            ranges: Ranges::new(body, batch, buffer + 1, text.wide, batch.rows, limit)?,
            start: bytes.start,
        })
    }
}

fn opaque<'b>(row: u64, dtypes: &Texts, shapes: &Axes, blobs: &Blobs) -> Result<Found<'b>> {
    let dtype = DType::parse(dtypes.get(row)?.ok_or_else(null)?)?;
    let shape = shapes.get(row)?;
    if blobs.nulls.is_null(row) {
        return Err(null());
    }
    let data = blobs.ranges.get(row);
    let (found, expected) = (data.end - data.start, shape.bytes(dtype)?);
    if found != expected {
        return Err(Error::invalid(format!(
            "data has another size than its shape; bytes=`{found}` expected `{expected}` for \
             dtype=`{dtype}` shape=`{shape}`"
        )));
    }
    let data = blobs.start + data.start..blobs.start + data.end;
    Ok((dtype, Cow::Owned(shape), data, 0))
}

/// The metadata column: a map is a list of pairs.
#[derive(Debug)]
struct Pairs {
    nulls: Nulls,
    ranges: Ranges,
    names: Texts,
    values: Texts,
}

impl Pairs {
    fn new(place: Place, body: &Body, batch: &Batch) -> Result<Self> {
        let Place { node, buffer } = place;
        let pairs = batch.nodes.get(node + 1).map_or(0, |node| node.len);
        Ok(Self {
            nulls: Nulls::new(body, batch, node, buffer)?,
            ranges: Ranges::new(body, batch, buffer + 1, false, batch.rows, pairs)?,
            // The map's validity and offsets, the pairs' validity.
            names: Texts::new(body, batch, node + 2, buffer + 3, false)?,
            values: Texts::new(body, batch, node + 3, buffer + 6, false)?,
        })
    }

    fn get(&self, row: u64) -> Result<Metadata> {
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
