//! Shapes: how many elements along each axis, with every product checked.

use std::fmt;

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::MAX_RANK;

/// The logical shape of a tensor in C order. `[]` is a scalar; zero-length axes are legal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: SmallVec<[u64; 6]>,
}

impl Shape {
    /// A shape of the given axes.
    ///
    /// # Errors
    /// `invalid_argument` for more than [`MAX_RANK`] axes or an axis over `i64::MAX`.
    pub fn new(dims: &[u64]) -> Result<Shape> {
        if dims.len() > MAX_RANK {
            return Err(Error::invalid(format!(
                "shape has too many axes; rank=`{}` expected at most {MAX_RANK}",
                dims.len()
            )));
        }
        if let Some(dim) = dims.iter().find(|dim| i64::try_from(**dim).is_err()) {
            return Err(Error::invalid(format!(
                "shape has an axis that is too long; axis=`{dim}` expected at most {}",
                i64::MAX
            )));
        }
        Ok(Shape {
            dims: SmallVec::from_slice(dims),
        })
    }

    /// The shape of a scalar, `[]`.
    pub fn scalar() -> Shape {
        Shape::default()
    }

    /// Elements along each axis, the leading (slowest) one first.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// How many elements: 1 for a scalar.
    ///
    /// The product of the axes that are not zero must fit too, so that the size of any part of
    /// the shape is a number.
    ///
    /// # Errors
    /// `invalid_argument` where that product passes `i64::MAX`.
    pub fn elements(&self) -> Result<u64> {
        self.product(1)
    }

    /// How many bytes the elements take.
    ///
    /// # Errors
    /// `invalid_argument` where they pass `i64::MAX`, as [`Shape::elements`] says.
    pub fn bytes(&self, dtype: DType) -> Result<u64> {
        self.product(dtype.size() as u64)
    }

    /// The product of `unit` and all axes, checked as [`Shape::elements`] says.
    fn product(&self, unit: u64) -> Result<u64> {
        let mut nonzero = unit;
        let mut any_zero = false;
        for &dim in &self.dims {
            if dim == 0 {
                any_zero = true;
                continue;
            }
            nonzero = nonzero
                .checked_mul(dim)
                .filter(|product| i64::try_from(*product).is_ok())
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "shape is too large; shape=`{self}` expected at most {} {}",
                        i64::MAX,
                        if unit == 1 { "elements" } else { "bytes" },
                    ))
                })?;
        }
        Ok(if any_zero { 0 } else { nonzero })
    }
}

/// `[2, 3]`, which is also its JSON.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.dims.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scalars_and_zero_length_axes() {
        assert_eq!(Shape::scalar().elements(), Ok(1));
        assert_eq!(Shape::scalar().bytes(DType::Complex128), Ok(16));
        assert_eq!(Shape::scalar().to_string(), "[]");
        let empty = Shape::new(&[3, 0, 5]).unwrap();
        assert_eq!(empty.elements(), Ok(0));
        assert_eq!(empty.to_string(), "[3, 0, 5]");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Shape::new(&[1; MAX_RANK]).is_ok());
        assert!(Shape::new(&[1; MAX_RANK + 1]).is_err());
        assert!(Shape::new(&[u64::MAX]).is_err());
        let half = 1u64 << 62;
        assert_eq!(Shape::new(&[half]).unwrap().elements(), Ok(half));
        assert!(Shape::new(&[half, 2]).unwrap().elements().is_err());
        assert!(Shape::new(&[half]).unwrap().bytes(DType::Int16).is_err());
        // Nothing in it, yet one row of it would have no size.
        assert!(Shape::new(&[0, half, half]).unwrap().elements().is_err());
    }

    proptest! {
        #[test]
        fn elements_are_the_product_or_an_error(dims in prop::collection::vec(any::<u64>().prop_map(|d| d >> (d % 64)), 0..8)) {
            let Ok(shape) = Shape::new(&dims) else {
                prop_assert!(dims.iter().any(|d| *d > i64::MAX as u64));
                return Ok(());
            };
            let exact = dims.iter().filter(|d| **d != 0).try_fold(1u128, |p, d| p.checked_mul(u128::from(*d)));
            match exact {
                Some(product) if product <= i64::MAX as u128 => {
                    let expected = if dims.contains(&0) { 0 } else { u64::try_from(product).unwrap() };
                    prop_assert_eq!(shape.elements(), Ok(expected));
                }
                _ => prop_assert!(shape.elements().is_err()),
            }
        }
    }
}
