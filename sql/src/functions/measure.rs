//! Numbers of one tensor, or of two of the same shape, whose elements are taken in C order.

use std::cell::OnceCell;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{Float64Builder, Int64Builder};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::shape::Shape;

use crate::tensor::elements::{
    BLOCK, Elements, Lanes, Wide, check, pairs, sum, sums as sums_of_pairs,
};
use crate::tensor::read::Column;

/// Sums of products of two tensors.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of the left with the right.
    both: f64,
    left: f64,
    right: f64,
}

/// The cosine of the angle between two vectors, −1 to 1. One of length 0 has no direction: it is like nothing, 0, rather than
/// NaN, which sorts above all that is alike.
pub fn cosine_similarity(function: &str, of: &[Column], rows: usize) -> Result<ArrayRef> {
    each_pair(function, of, rows, |left, right| {
        let sums = products(left, right, true);
        if sums.left == 0.0 || sums.right == 0.0 {
            return 0.0;
        }
        // Each by itself: their product may be out of range.
        (sums.both / sums.left.sqrt() / sums.right.sqrt()).clamp(-1.0, 1.0)
    })
}

/// The length of the difference of two vectors.
pub fn l2_distance(function: &str, of: &[Column], rows: usize) -> Result<ArrayRef> {
    each_pair(function, of, rows, |left, right| {
        let square = |single: bool| match single {
            true => squares::<f32>(left, right),
            false => squares::<f64>(left, right),
        };
        in_range(left.is_single(right), square).sqrt()
    })
}

/// The sum of the products of two tensors' elements.
pub fn dot(function: &str, of: &[Column], rows: usize) -> Result<ArrayRef> {
    each_pair(function, of, rows, |left, right| {
        products(left, right, false).both
    })
}

/// The length of a vector: the square root of the sum of the squares.
pub fn norm(function: &str, of: &Column, rows: usize) -> Result<ArrayRef> {
    each_one(function, of, rows, |elements| {
        let square = |single: bool| match single {
            true => square_of::<f32>(elements),
            false => square_of::<f64>(elements),
        };
        Some(in_range(is_single(elements.dtype), square).sqrt())
    })
}

/// The mean of a tensor's elements; null where it has none.
pub fn mean(function: &str, of: &Column, rows: usize) -> Result<ArrayRef> {
    each_one(function, of, rows, |elements| {
        let mut all = 0.0;
        // A sum of single precision may be out of its range, where the mean is not.
        elements.lanes(|block: &[Lanes<f64>]| all += sum(block, block, |value, _| value));
        (elements.len() > 0).then(|| all / elements.len() as f64)
    })
}

/// The element that is `better` than all others; NaN where one is NaN, and null where there are none.
pub fn extreme(
    function: &str,
    of: &Column,
    rows: usize,
    better: fn(f64, f64) -> bool,
) -> Result<ArrayRef> {
    each_one(function, of, rows, |elements| {
        best(elements, better).map(|(_, best)| best)
    })
}

/// Where the element lies that [`extreme`] gives, from 0 in C order; the first of several.
pub fn index_of_extreme(
    function: &str,
    of: &Column,
    rows: usize,
    better: fn(f64, f64) -> bool,
) -> Result<ArrayRef> {
    let mut found = Int64Builder::with_capacity(rows);
    for row in 0..rows {
        let best = match of.row(row)? {
            Some(tensor) => best(tensor.elements(function)?, better),
            None => None,
        };
        found.append_option(best.and_then(|(at, _)| i64::try_from(at).ok()));
    }
    Ok(Arc::new(found.finish()))
}

fn best(elements: Elements<'_>, better: fn(f64, f64) -> bool) -> Option<(usize, f64)> {
    let mut found: Option<(usize, f64)> = None;
    let mut at = 0;
    elements.blocks(|block: &[f64]| {
        for value in block {
            let is_better = match found {
                None => true,
                Some((_, best)) => !best.is_nan() && (value.is_nan() || better(*value, best)),
            };
            if is_better {
                found = Some((at, *value));
            }
            at += 1;
        }
    });
    found
}

fn each_one(
    function: &str,
    of: &Column,
    rows: usize,
    measure: impl Fn(Elements<'_>) -> Option<f64>,
) -> Result<ArrayRef> {
    let mut found = Float64Builder::with_capacity(rows);
    if let Some(all) = of.alike(rows) {
        check(function, all.dtype)?;
        (0..rows).for_each(|row| found.append_option(measure(all.elements(row))));
        return Ok(Arc::new(found.finish()));
    }
    for row in 0..rows {
        let value = match of.row(row)? {
            Some(tensor) => measure(tensor.elements(function)?),
            None => None,
        };
        found.append_option(value);
    }
    Ok(Arc::new(found.finish()))
}

/// One side of a pair.
struct Side<'a> {
    elements: Elements<'a>,
    /// Of a constant: what is made once for all rows of a batch.
    made: Option<&'a Made>,
}

#[derive(Default)]
struct Made {
    singles: OnceCell<(Vec<Lanes<f32>>, f64)>,
    doubles: OnceCell<(Vec<Lanes<f64>>, f64)>,
}

impl Side<'_> {
    /// Whether single precision is exact for both.
    fn is_single(&self, other: &Side<'_>) -> bool {
        is_single(self.elements.dtype) && is_single(other.elements.dtype)
    }
}

/// A constant's elements and the sum of their squares, made where they were not.
trait Kept: Wide {
    fn kept<'a>(elements: Elements<'_>, made: &'a Made) -> &'a (Vec<Lanes<Self>>, f64);
}

impl Kept for f32 {
    fn kept<'a>(elements: Elements<'_>, made: &'a Made) -> &'a (Vec<Lanes<f32>>, f64) {
        made.singles
            .get_or_init(|| (elements.all(), square_of::<f32>(elements)))
    }
}

impl Kept for f64 {
    fn kept<'a>(elements: Elements<'_>, made: &'a Made) -> &'a (Vec<Lanes<f64>>, f64) {
        made.doubles
            .get_or_init(|| (elements.all(), square_of::<f64>(elements)))
    }
}

fn each_pair(
    function: &str,
    of: &[Column],
    rows: usize,
    measure: impl Fn(&Side<'_>, &Side<'_>) -> f64,
) -> Result<ArrayRef> {
    let [left, right] = of else {
        return Err(Error::internal("a function of two tensors has not two"));
    };
    // All measures are the same both ways: a constant stands on the right.
    let (left, right) = match left.is_constant() && !right.is_constant() {
        true => (right, left),
        false => (left, right),
    };
    let made = right.is_constant().then(Made::default);
    let constant = match right.is_constant() {
        true => right.row(0)?,
        false => None,
    };
    let mut found = Float64Builder::with_capacity(rows);
    if let (Some(all), Some(constant)) = (left.alike(rows), &constant) {
        check(function, all.dtype)?;
        check_shapes(function, all.shape, &constant.shape)?;
        let right = Side {
            elements: constant.elements(function)?,
            made: made.as_ref(),
        };
        for row in 0..rows {
            let left = Side {
                elements: all.elements(row),
                made: None,
            };
            found.append_value(measure(&left, &right));
        }
        return Ok(Arc::new(found.finish()));
    }
    for row in 0..rows {
        let own = match right.is_constant() {
            true => None,
            false => right.row(row)?,
        };
        let (Some(left), Some(right)) = (left.row(row)?, constant.as_ref().or(own.as_ref())) else {
            found.append_null();
            continue;
        };
        check_shapes(function, &left.shape, &right.shape)?;
        let left = Side {
            elements: left.elements(function)?,
            made: None,
        };
        let right = Side {
            elements: right.elements(function)?,
            made: made.as_ref(),
        };
        found.append_value(measure(&left, &right));
    }
    Ok(Arc::new(found.finish()))
}

fn check_shapes(function: &str, one: &Shape, other: &Shape) -> Result<()> {
    if one == other {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "two tensors have not the same shape; function=`{function}` shapes=`{one}` and `{other}`"
    )))
}

fn is_single(dtype: DType) -> bool {
    dtype != DType::Float64
}

/// A sum of squares in single precision, where it is in range there; else in double.
fn in_range(single: bool, square: impl Fn(bool) -> f64) -> f64 {
    let sum = square(single);
    match !single || is_in_range(sum) {
        true => sum,
        false => square(false),
    }
}

/// Neither beyond single precision, nor so small that squares were rounded to nothing.
fn is_in_range(sum: f64) -> bool {
    sum.is_finite() && sum > 1e-30
}

fn products(left: &Side<'_>, right: &Side<'_>, with_squares: bool) -> Sums {
    if left.is_single(right) {
        let sums = sums_of::<f32>(left, right, with_squares);
        let squares_fit = !with_squares || (is_in_range(sums.left) && is_in_range(sums.right));
        if sums.both.is_finite() && squares_fit {
            return sums;
        }
    }
    sums_of::<f64>(left, right, with_squares)
}

fn sums_of<T: Kept>(left: &Side<'_>, right: &Side<'_>, with_squares: bool) -> Sums {
    let mut sums = Sums::default();
    match right.made {
        Some(made) => {
            let (values, square) = T::kept(right.elements, made);
            let mut others = values.chunks(BLOCK);
            sums.right = *square;
            left.elements.lanes(|block: &[Lanes<T>]| {
                let other = others.next().unwrap_or_default();
                if with_squares {
                    let [both, left] = sums_of_pairs(block, other, |a, b| [a * b, a * a]);
                    sums.both += both;
                    sums.left += left;
                } else {
                    sums.both += sum(block, other, |a, b| a * b);
                }
            });
        }
        None => pairs(
            left.elements,
            right.elements,
            |one: &[Lanes<T>], other: &[Lanes<T>]| {
                if with_squares {
                    let [both, left, right] =
                        sums_of_pairs(one, other, |a, b| [a * b, a * a, b * b]);
                    sums.both += both;
                    sums.left += left;
                    sums.right += right;
                } else {
                    sums.both += sum(one, other, |a, b| a * b);
                }
            },
        ),
    }
    sums
}

fn squares<T: Kept>(left: &Side<'_>, right: &Side<'_>) -> f64 {
    let mut all = 0.0;
    let mut add =
        |one: &[Lanes<T>], other: &[Lanes<T>]| all += sum(one, other, |a, b| (a - b) * (a - b));
    match right.made {
        Some(made) => {
            let mut others = T::kept(right.elements, made).0.chunks(BLOCK);
            left.elements
                .lanes(|block: &[Lanes<T>]| add(block, others.next().unwrap_or_default()));
        }
        None => pairs(left.elements, right.elements, add),
    }
    all
}

fn square_of<T: Wide>(elements: Elements<'_>) -> f64 {
    let mut all = 0.0;
    elements.lanes(|block: &[Lanes<T>]| all += sum(block, block, |a, b| a * b));
    all
}
