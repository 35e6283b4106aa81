//! How many elements of a tensor lie where.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, Int64Builder, ListBuilder};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array};
use bowstring_wire::error::{Error, Result};

use super::check_room;
use crate::limits::BUCKETS_MAX;
use crate::tensor::read::Column;

/// Counts elements in `buckets` parts of `low` to `high`, all as wide as each other, as NumPy does: a part has its lower end
/// and not its upper one, but the last has both; what is outside, or NaN, is not counted.
///
/// # Errors
/// `invalid_argument` where there are no buckets or too many, or `low` is not below `high`.
pub fn histogram(
    function: &str,
    of: &Column,
    buckets: &Int64Array,
    (lows, highs): (&Float64Array, &Float64Array),
    rows: usize,
) -> Result<ArrayRef> {
    let mut made = ListBuilder::new(Int64Builder::new());
    for row in 0..rows {
        let tensor = of.row(row)?;
        let is_null = buckets.is_null(row) || lows.is_null(row) || highs.is_null(row);
        let (Some(tensor), false) = (tensor, is_null) else {
            made.append(false);
            continue;
        };
        let range = Buckets::new(buckets.value(row), lows.value(row), highs.value(row))?;
        let elements = tensor.elements(function)?;
        let all = ArrayBuilder::len(made.values()).saturating_add(range.count);
        check_room(function, all.saturating_mul(size_of::<i64>()))?;
        let mut counts = vec![0_i64; range.count];
        elements.blocks(|block: &[f64]| {
            for value in block {
                if let Some(count) = range.of(*value).and_then(|at| counts.get_mut(at)) {
                    *count += 1;
                }
            }
        });
        made.values().append_slice(&counts);
        made.append(true);
    }
    Ok(Arc::new(made.finish()))
}

struct Buckets {
    count: usize,
    low: f64,
    high: f64,
}

impl Buckets {
    fn new(count: i64, low: f64, high: f64) -> Result<Self> {
        let buckets = usize::try_from(count).ok();
        let buckets = buckets.filter(|count| (1..=BUCKETS_MAX).contains(count));
        let is_range = low < high && (high - low).is_finite();
        match (buckets, is_range) {
            (Some(count), true) => Ok(Self { count, low, high }),
            _ => Err(Error::invalid(format!(
                "a histogram cannot be made so; buckets=`{count}` low=`{low}` high=`{high}` expected 1 to {BUCKETS_MAX} \
                 buckets, and `low` below `high`"
            ))),
        }
    }

    /// Where bucket `at` begins.
    fn edge(&self, at: usize) -> f64 {
        match at == self.count {
            true => self.high,
            false => self.low + at as f64 * ((self.high - self.low) / self.count as f64),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a value in the range is at most the number of buckets"
    )]
    fn of(&self, value: f64) -> Option<usize> {
        if !(self.low..=self.high).contains(&value) {
            return None;
        }
        let share = (value - self.low) / (self.high - self.low);
        let at = ((share * self.count as f64) as usize).min(self.count - 1);
        // The product is rounded: the edges decide.
        if value < self.edge(at) {
            return at.checked_sub(1);
        }
        match value >= self.edge(at + 1) && at + 1 < self.count {
            true => Some(at + 1),
            false => Some(at),
        }
    }
}
