//! The tensors of rows: where their bytes lie, and what has to be done to them.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::batch::BulkRow;
use super::cells::{Fixed, Nulls, Ranges, Texts};
use super::role::Text;
use super::{Column, Tensors};
use crate::body::{Body, Slices};
use crate::column::Transform;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ipc_check::Batch;
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
    pub fn new(body: &Body, batch: &Batch, tensors: &'a Tensors) -> Result<Self> {
        match tensors {
            Tensors::Column(column) => Cells::new(body, batch, column).map(Data::Column),
            Tensors::Opaque { dtype, shape, data } => Ok(Data::Opaque {
                dtype: Texts::new(body, batch, *dtype)?,
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
            Data::Opaque { .. } => Err(Error::internal("an opaque row that is not plain")),
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
    lists: Option<Ranges>,
    /// Nulls of each level from the cells down, with the values that a cell has there.
    levels: SmallVec<[(Nulls, u64); 2]>,
}

impl<'a> Cells<'a> {
    fn new(body: &Body, batch: &Batch, column: &'a Column) -> Result<Self> {
        let mut place = column.place;
        let mut list_nulls = Nulls::default();
        let mut lists = None;
        if let Some(wide) = column.tensor.list {
            list_nulls = Nulls::new(body, batch, place)?;
            let cells = batch.nodes.get(place.node + 1).map_or(0, |node| node.len);
            let offsets = place.buffer + 1;
            lists = Some(Ranges::new(body, batch, offsets, wide, batch.rows, cells)?);
            place = place.and(1, 2);
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
pub(super) struct Axes {
    nulls: Nulls,
    ranges: Ranges,
    dims: Fixed,
}

impl Axes {
    fn new(body: &Body, batch: &Batch, Text { place, wide }: Text) -> Result<Self> {
        let dims = batch.nodes.get(place.node + 1).map_or(0, |node| node.len);
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, batch.rows, dims)?,
            dims: Fixed::new(body, batch, place.and(1, 2), 8)?,
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
            if dims.len() > MAX_RANK {
                break;
            }
        }
        Shape::new(&dims)
    }
}

/// The bytes of opaque rows, which stay in the body.
#[derive(Debug)]
pub(super) struct Blobs {
    nulls: Nulls,
    ranges: Ranges,
    start: u64,
}

impl Blobs {
    fn new(body: &Body, batch: &Batch, Text { place, wide }: Text) -> Result<Self> {
        let bytes = batch.buffers.get(place.buffer + 2).cloned();
        let bytes = bytes.unwrap_or_default();
        let limit = bytes.end - bytes.start;
        Ok(Self {
            nulls: Nulls::new(body, batch, place)?,
            ranges: Ranges::new(body, batch, place.buffer + 1, wide, batch.rows, limit)?,
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
