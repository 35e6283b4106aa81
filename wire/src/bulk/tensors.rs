//! The tensors of rows: where their bytes lie, and what has to be done to them.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::batch::BulkRow;
use super::cells::{Fixed, Lengths, Nulls, Ranges};
use super::dictionaries::Dictionaries;
use super::role::{Form, Ints, Text};
use super::texts::{Texts, Views};
use super::{Column, RowShape, Tensors};
use crate::body::{Body, Slices};
use crate::column::{self, Transform};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ipc_check::{Batch, Place};
use crate::limits::MAX_RANK;
use crate::shape::Shape;
use crate::transform::{BitUnpacker, check_bool, normalise_bool8};

/// The tensors of a batch.
#[derive(Debug)]
pub(super) enum Data<'a> {
    Column(Cells<'a>),
    Opaque {
        dtype: Texts,
        shape: Axes,
        data: Blobs,
    },
}

/// Dtype, shape, bytes of the body, and the first bit that counts of the first of them.
pub(super) type Found<'b> = (DType, Cow<'b, Shape>, Range<u64>, u32);

impl<'a> Data<'a> {
    pub fn new(
        body: &Body,
        batch: &Batch,
        tensors: &'a Tensors,
        dictionaries: &Dictionaries,
    ) -> Result<Self> {
        match tensors {
            Tensors::Column(column) => Cells::new(body, batch, column).map(Data::Column),
            Tensors::Opaque { dtype, shape, data } => Ok(Data::Opaque {
                dtype: Texts::new(body, batch, *dtype, dictionaries)?,
                shape: Axes::new(body, batch, *shape)?,
                data: Blobs::new(body, batch, *data)?,
            }),
        }
    }

    /// # Errors
    /// What is wrong with this row's tensor.
    pub fn get(&self, row: u64) -> Result<Found<'_>> {
        match self {
            Data::Column(cells) => cells.get(row),
            Data::Opaque { dtype, shape, data } => opaque(row, dtype, shape, data),
        }
    }

    pub fn is_plain(&self) -> bool {
        match self {
            Data::Column(cells) => {
                let transform = cells.column.tensor.transform;
                cells.column.permute.is_none()
                    && matches!(transform, Transform::Plain | Transform::CheckBool)
            }
            Data::Opaque { .. } => true,
        }
    }

    /// Makes a row's tensor of what was sent.
    ///
    /// # Errors
    /// `invalid_argument` for bools that are neither 0 nor 1.
    pub fn transform(&self, row: &BulkRow<'_>, sent: Slices<'_>, to: &mut Vec<u8>) -> Result<()> {
        match self {
            Data::Column(cells) => cells.transform(row, sent, to),
            Data::Opaque { .. } => {
                to.clear();
                sent.for_each(|piece| to.extend_from_slice(piece));
                match row.sent() {
                    DType::Bool => check_bool(to),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The rows of a tensor column.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    column: &'a Column,
    /// Where the values begin in the body.
    values: u64,
    /// Nulls of the lists, where there are lists.
    list_nulls: Nulls,
    lists: Option<Lists>,
    /// Nulls of the rows and their shapes, where those have a column beside the values.
    beside: Option<(Nulls, Axes)>,
    /// Nulls of each level from the cells down, with the values that a cell has there.
    levels: SmallVec<[(Nulls, u64); 2]>,
}

impl<'a> Cells<'a> {
    fn new(body: &Body, batch: &Batch, column: &'a Column) -> Result<Self> {
        let mut place = column.place;
        let mut list_nulls = Nulls::default();
        let (mut lists, mut beside) = (None, None);
        if let RowShape::Beside(shape) = &column.shape {
            let nulls = Nulls::new(body, batch, place)?;
            beside = Some((nulls, Axes::new(body, batch, *shape)?));
            place = place.and(1, 1);
        }
        if let Some(list) = &column.tensor.list {
            list_nulls = Nulls::new(body, batch, place)?;
            lists = Some(Lists::new(body, batch, place, list)?);
            place = place.and(1, if list.views { 3 } else { 2 });
        }
        let mut levels = SmallVec::new();
        for values in &column.tensor.level_values {
            levels.push((Nulls::new(body, batch, place)?, *values));
            place = place.and(1, 1);
        }
        // The last level has its values behind its validity.
        let values = batch.buffers.get(place.buffer);
        let values = values.map_or(0, |range| range.start);
        let cells = Self {
            column,
            values,
            list_nulls,
            lists,
            beside,
            levels,
        };
        cells.set_list_len(batch.rows);
        Ok(cells)
    }

    /// The first valid list of the put says how long all are.
    fn set_list_len(&self, rows: u64) {
        let RowShape::First(list) = &self.column.shape else {
            return;
        };
        if list.get().is_some() {
            return;
        }
        let valid = (0..rows).find_map(|row| {
            let cells = self.cells(row).ok()?;
            let len = cells.end - cells.start;
            Some((len, self.column.tensor.shape(&[len]).ok()?))
        });
        if let Some(found) = valid {
            // Batches of one put are decoded one after the other.
            let _ = list.set(found);
        }
    }

    /// The cells of a row, none of which is null or has a null.
    fn cells(&self, row: u64) -> Result<Range<u64>> {
        let is_null = |(nulls, _): &(Nulls, Axes)| nulls.is_null(row);
        let cells = match &self.lists {
            None => row..row + 1,
            Some(_) if self.list_nulls.is_null(row) => return Err(null()),
            Some(_) if self.beside.as_ref().is_some_and(is_null) => return Err(null()),
            Some(lists) => lists.get(row)?,
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
        let shape = self.shape(row, cells.end - cells.start)?;
        // `ipc_check` has found these values inside the buffer.
        let start = cells.start * tensor.cell_values * tensor.value_bits();
        let end = cells.end * tensor.cell_values * tensor.value_bits();
        let (start, end) = if start == end { (0, 0) } else { (start, end) };
        let first_bit = u32::try_from(start % 8).unwrap_or(0);
        let data = self.values + start / 8..self.values + end.div_ceil(8);
        Ok((tensor.dtype, shape, data, first_bit))
    }

    /// The shape of a row of so many cells.
    fn shape(&self, row: u64, cells: u64) -> Result<Cow<'_, Shape>> {
        let tensor = &self.column.tensor;
        let other = |expected: u64, than: &str| {
            Err(Error::invalid(format!(
                "a list has another length than {than}; length=`{cells}` expected `{expected}`"
            )))
        };
        match &self.column.shape {
            RowShape::Fixed(shape) => Ok(Cow::Borrowed(shape)),
            RowShape::List(len, shape) if *len == cells => Ok(Cow::Borrowed(shape)),
            RowShape::List(len, _) => other(*len, "its type says"),
            RowShape::First(list) => match list.get() {
                Some((len, shape)) if *len == cells => Ok(Cow::Borrowed(shape)),
                Some((len, _)) => other(*len, "the first one"),
                None => {
                    // No list of the put made a tensor; this one says why.
                    tensor.shape(&[cells])?;
                    Err(Error::internal("a list that makes a tensor was overlooked"))
                }
            },
            RowShape::Ragged => tensor.shape(&[cells]).map(Cow::Owned),
            RowShape::Beside(_) => {
                let Some((_, axes)) = &self.beside else {
                    return Err(Error::internal("shapes that are not there"));
                };
                let shape = tensor.shape(axes.get(row)?.dims())?;
                match shape.elements()? * tensor.dtype.storage_per_element() as u64 {
                    values if values == cells => Ok(Cow::Owned(shape)),
                    values => other(values, "its shape says"),
                }
            }
        }
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

/// The lists of a column.
#[derive(Debug)]
enum Lists {
    Offsets(Ranges),
    Views(Lengths),
}

impl Lists {
    fn new(body: &Body, batch: &Batch, place: Place, list: &column::Lists) -> Result<Self> {
        let cells = batch.nodes.get(place.node + 1).map_or(0, |node| node.len);
        let offsets = place.buffer + 1;
        if list.views {
            return Lengths::new(body, batch, offsets, list.wide, cells).map(Lists::Views);
        }
        Ranges::new(body, batch, offsets, list.wide, batch.rows, cells).map(Lists::Offsets)
    }

    fn get(&self, row: u64) -> Result<Range<u64>> {
        match self {
            Lists::Offsets(ranges) => Ok(ranges.get(row)),
            Lists::Views(lengths) => lengths.get(row),
        }
    }
}

/// The shapes of rows that say their own.
#[derive(Debug)]
pub(super) struct Axes {
    nulls: Nulls,
    ranges: Ranges,
    dims: Fixed,
    signed: bool,
}

impl Axes {
    fn new(body: &Body, batch: &Batch, ints: Ints) -> Result<Self> {
        let Ints {
            place, wide, bytes, ..
        } = ints;
        let dims = batch.nodes.get(place.node + 1).map_or(0, |node| node.len);
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, batch.rows, dims)?,
            dims: Fixed::new(body, batch, place.and(1, 2), bytes)?,
            signed: ints.signed,
        })
    }

    fn get(&self, row: u64) -> Result<Shape> {
        if self.nulls.is_null(row) {
            return Err(null());
        }
        let mut dims: SmallVec<[u64; 8]> = SmallVec::new();
        for at in self.ranges.get(row) {
            let dim = self.dims.int(at, self.signed);
            let dim = dim.and_then(|dim| u64::try_from(dim).ok());
            dims.push(dim.ok_or_else(|| {
                Error::invalid("a shape has a null or negative axis; expected lengths")
            })?);
            if dims.len() > MAX_RANK {
                break;
            }
        }
        Shape::new(&dims)
    }
}

/// The bytes of opaque rows, which stay in the body.
#[derive(Debug)]
pub(super) enum Blobs {
    Offsets {
        nulls: Nulls,
        ranges: Ranges,
        start: u64,
    },
    Views(Views),
}

impl Blobs {
    fn new(body: &Body, batch: &Batch, Text { place, form }: Text) -> Result<Self> {
        let Form::Offsets { wide } = form else {
            return Views::new(body, batch, place).map(Blobs::Views);
        };
        let bytes = batch.buffers.get(place.buffer + 2).cloned();
        let bytes = bytes.unwrap_or_default();
        let limit = bytes.end - bytes.start;
        Ok(Blobs::Offsets {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, batch.rows, limit)?,
            start: bytes.start,
        })
    }

    /// Bytes of the body.
    fn get(&self, row: u64) -> Result<Range<u64>> {
        match self {
            Blobs::Offsets { nulls, .. } if nulls.is_null(row) => Err(null()),
            Blobs::Offsets { ranges, start, .. } => {
                let range = ranges.get(row);
                Ok(start + range.start..start + range.end)
            }
            Blobs::Views(views) => views.in_body(row)?.ok_or_else(null),
        }
    }
}

fn opaque<'b>(row: u64, dtypes: &Texts, shapes: &Axes, blobs: &Blobs) -> Result<Found<'b>> {
    let dtype = DType::parse(dtypes.get(row)?.ok_or_else(null)?)?;
    let shape = shapes.get(row)?;
    let data = blobs.get(row)?;
    let (found, expected) = (data.end - data.start, shape.bytes(dtype)?);
    if found != expected {
        return Err(Error::invalid(format!(
            "data has another size than its shape; bytes=`{found}` expected `{expected}` for \
             dtype=`{dtype}` shape=`{shape}`"
        )));
    }
    Ok((dtype, Cow::Owned(shape), data, 0))
}
