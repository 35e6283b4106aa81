//! How a tensor lies in Arrow columns: rows of cells, or a primitive column.

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::MAX_ROW_BYTES;
use crate::shape::Shape;

/// Axes of what is stored; complex numbers have one more than the tensor.
pub type Dims = SmallVec<[u64; 7]>;

/// The rows of one tensor column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// How many rows the tensor is.
    pub rows: u64,
    /// The axes of each row, as `arrow.fixed_shape_tensor`; `None` for a primitive column.
    pub cell: Option<Dims>,
    /// Storage values (`DType::storage`) in each row.
    pub row_values: u64,
    /// Bytes of each row.
    pub row_bytes: u64,
}

impl Form {
    /// One tensor by its leading axis. Rank 0 and 1 of what is stored are a primitive column,
    /// the rest a `fixed_shape_tensor` whose cell is all axes but the first.
    ///
    /// # Errors
    /// `invalid_argument` for a shape whose size is no number, `failed_precondition` for rows over
    /// [`MAX_ROW_BYTES`], which only `flat` can carry.
    pub fn rows(dtype: DType, shape: &Shape) -> Result<Self> {
        let dims = storage_dims(dtype, shape);
        match dims.as_slice() {
            [] => Self::new(dtype, 1, None),
            [rows] => Self::new(dtype, *rows, None),
            [rows, cell @ ..] => {
                shape.bytes(dtype)?;
                Self::new(dtype, *rows, Some(cell))
            }
        }
    }

    /// One tensor as a primitive column of all its storage values.
    ///
    /// # Errors
    /// `invalid_argument` for a shape whose size is no number.
    pub fn flat(dtype: DType, shape: &Shape) -> Result<Self> {
        let values = shape.bytes(dtype)? / storage_width(dtype);
        Self::new(dtype, values, None)
    }

    /// `rows` whole tensors: a cell each, or a primitive column of scalars.
    ///
    /// # Errors
    /// As [`Form::rows`].
    pub fn entries(dtype: DType, shape: &Shape, rows: u64) -> Result<Self> {
        let dims = storage_dims(dtype, shape);
        shape.bytes(dtype)?;
        Self::new(dtype, rows, (!dims.is_empty()).then_some(dims.as_slice()))
    }

    fn new(dtype: DType, rows: u64, cell: Option<&[u64]>) -> Result<Self> {
        // The caller has checked the product of all axes that are not zero.
        let row_values: u64 = cell.map_or(1, |cell| cell.iter().product());
        let row_bytes = row_values.saturating_mul(storage_width(dtype));
        if row_bytes > MAX_ROW_BYTES {
            return Err(Error::precondition(format!(
                "a row is too large for one message; row_bytes=`{row_bytes}` expected at most \
                 {MAX_ROW_BYTES}, or a ticket with \"layout\": \"flat\""
            )));
        }
        Ok(Self {
            rows,
            cell: cell.map(SmallVec::from_slice),
            row_values,
            row_bytes,
        })
    }
}

/// The axes of what is stored: those of the tensor, and for complex numbers one of 2, last.
pub fn storage_dims(dtype: DType, shape: &Shape) -> Dims {
    let mut dims = Dims::from_slice(shape.dims());
    if dtype.storage_per_element() > 1 {
        dims.push(dtype.storage_per_element() as u64);
    }
    dims
}

/// Bytes of one storage value.
pub fn storage_width(dtype: DType) -> u64 {
    (dtype.size() / dtype.storage_per_element()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[u64]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn rank_decides_and_complex_follows_its_storage() {
        let form = |dtype, dims: &[u64]| {
            let form = Form::rows(dtype, &shape(dims)).unwrap();
            (
                form.rows,
                form.cell.map(|cell| cell.to_vec()),
                form.row_bytes,
            )
        };
        assert_eq!(form(DType::Float32, &[]), (1, None, 4));
        assert_eq!(form(DType::Float32, &[5]), (5, None, 4));
        assert_eq!(form(DType::Float32, &[5, 3]), (5, Some(vec![3]), 12));
        assert_eq!(form(DType::Int8, &[0, 3, 2]), (0, Some(vec![3, 2]), 6));
        assert_eq!(form(DType::Int8, &[4, 0]), (4, Some(vec![0]), 0));
        assert_eq!(form(DType::Complex64, &[]), (2, None, 4));
        assert_eq!(form(DType::Complex128, &[7]), (7, Some(vec![2]), 16));
        assert_eq!(form(DType::Complex64, &[7, 3]), (7, Some(vec![3, 2]), 24));
    }

    #[test]
    fn entries_are_cells_but_for_scalars() {
        let form = |dtype, dims: &[u64]| {
            Form::entries(dtype, &shape(dims), 9)
                .unwrap()
                .cell
                .map(|cell| cell.to_vec())
        };
        assert_eq!(form(DType::Float32, &[]), None);
        assert_eq!(form(DType::Float32, &[5]), Some(vec![5]));
        assert_eq!(form(DType::Complex64, &[]), Some(vec![2]));
    }

    #[test]
    fn flat_counts_storage_values_and_has_no_row_limit() {
        let large = shape(&[2, 1 << 31]);
        assert_eq!(Form::flat(DType::Complex64, &large).unwrap().rows, 1 << 33);
        let refused = Form::rows(DType::Complex64, &large)
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("failed_precondition: a row is too large"),
            "{refused}"
        );
        assert!(Form::flat(DType::Int8, &shape(&[1 << 62, 4])).is_err());
        assert!(Form::rows(DType::Int8, &shape(&[0, 1 << 62, 4])).is_err());
    }
}
