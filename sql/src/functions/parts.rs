//! Elements and slices of tensors, and tensors as lists and as bytes.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BinaryViewBuilder, Float64Builder, ListBuilder};
use arrow_array::{Array, ArrayRef, Int64Array};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::shape::Shape;

use super::check_room;
use crate::DfResult;
use crate::error::passed;
use crate::tensor::Builder;
use crate::tensor::read::{Column, Tensor};

/// One element, by an index for each axis, from 0.
///
/// # Errors
/// `invalid_argument` where there are more or fewer indices than axes, or one is outside its axis.
pub fn element(
    function: &str,
    of: &Column,
    indices: &[Int64Array],
    rows: usize,
) -> Result<ArrayRef> {
    let mut found = Float64Builder::with_capacity(rows);
    for row in 0..rows {
        let tensor = of.row(row)?;
        let (Some(tensor), false) = (tensor, indices.iter().any(|index| index.is_null(row))) else {
            found.append_null();
            continue;
        };
        let elements = tensor.elements(function)?;
        let wrong = || {
            let given: Vec<String> = indices
                .iter()
                .map(|index| index.value(row).to_string())
                .collect();
            Error::invalid(format!(
                "an element is not there; indices=`[{}]` shape=`{}` expected an index for each axis, from 0 and below its \
                 length",
                given.join(", "),
                tensor.shape
            ))
        };
        let dims = tensor.shape.dims();
        if indices.len() != dims.len() {
            return Err(wrong());
        }
        let mut at = 0_u64;
        for (index, dim) in indices.iter().zip(dims) {
            let index = u64::try_from(index.value(row))
                .ok()
                .filter(|index| index < dim);
            // Below the number of elements, so in range.
            at = at
                .saturating_mul(*dim)
                .saturating_add(index.ok_or_else(wrong)?);
        }
        let value = usize::try_from(at).ok().and_then(|at| elements.at(at));
        found.append_value(value.ok_or_else(wrong)?);
    }
    Ok(Arc::new(found.finish()))
}

/// Rows `start` to `end` (which is not in it) of the leading axis: a tensor, whose bytes are not copied.
///
/// # Errors
/// `invalid_argument` where they are not 0 ≤ start ≤ end ≤ the axis's length, or there is no axis.
pub fn slice(
    of: &Column,
    starts: &Int64Array,
    ends: &Int64Array,
    rows: usize,
) -> DfResult<ArrayRef> {
    let mut made = Builder::new(of.buffers(), rows);
    for row in 0..rows {
        let tensor = of.row(row).map_err(passed)?;
        let (Some(tensor), false) = (tensor, starts.is_null(row) || ends.is_null(row)) else {
            made.append_null();
            continue;
        };
        let part = part(tensor, starts.value(row), ends.value(row)).map_err(passed)?;
        made.append(part.dtype, &part.shape, part.bytes, part.at)?;
    }
    Ok(Arc::new(made.finish()?))
}

fn part(tensor: Tensor<'_>, start: i64, end: i64) -> Result<Tensor<'_>> {
    let wrong = || {
        Error::invalid(format!(
            "a slice is not in the tensor; start=`{start}` end=`{end}` shape=`{}` expected 0 <= start <= end <= the length \
             of the leading axis",
            tensor.shape
        ))
    };
    let [length, inner @ ..] = tensor.shape.dims() else {
        return Err(wrong());
    };
    let (start, end) = match (u64::try_from(start), u64::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= *length => (start, end),
        _ => return Err(wrong()),
    };
    let each = Shape::new(inner)?.bytes(tensor.dtype)?;
    let place = |row: u64| usize::try_from(row.saturating_mul(each)).unwrap_or(usize::MAX);
    let bytes = tensor
        .bytes
        .get(place(start)..place(end))
        .ok_or_else(wrong)?;
    let mut dims = vec![end - start];
    dims.extend(inner);
    let at = tensor.at.and_then(|(buffer, offset)| {
        let offset = u32::try_from(place(start)).ok()?.checked_add(offset)?;
        Some((buffer, offset))
    });
    Ok(Tensor {
        dtype: tensor.dtype,
        shape: Shape::new(&dims)?,
        bytes,
        at,
    })
}

/// A tensor's elements as a list, in C order.
///
/// # Errors
/// `resource_exhausted` where a batch's would be too many.
pub fn to_list(function: &str, of: &Column, rows: usize) -> Result<ArrayRef> {
    let mut made = ListBuilder::new(Float64Builder::new());
    for row in 0..rows {
        let Some(tensor) = of.row(row)? else {
            made.append(false);
            continue;
        };
        let elements = tensor.elements(function)?;
        let all = ArrayBuilder::len(made.values()).saturating_add(elements.len());
        check_room(function, all.saturating_mul(size_of::<f64>()))?;
        elements.blocks(|block: &[f64]| made.values().append_slice(block));
        made.append(true);
    }
    Ok(Arc::new(made.finish()))
}

/// A tensor's bytes, in C order, little-endian; they are not copied.
pub fn to_binary(of: &Column, rows: usize) -> DfResult<ArrayRef> {
    let mut made = BinaryViewBuilder::with_capacity(rows);
    for buffer in of.buffers() {
        made.append_block(buffer);
    }
    for row in 0..rows {
        let Some(tensor) = of.row(row).map_err(passed)? else {
            made.append_null();
            continue;
        };
        match (tensor.at, u32::try_from(tensor.bytes.len())) {
            (Some((buffer, offset)), Ok(len)) => made.try_append_view(buffer, offset, len)?,
            _ => made.try_append_value(tensor.bytes)?,
        }
    }
    Ok(Arc::new(made.finish()))
}
