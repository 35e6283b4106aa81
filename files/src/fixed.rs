//! Lists whose rows have one shape, as fixed-size lists over the same values: no offsets travel, and rows of another shape are known here.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, BooleanArray, FixedSizeListArray};
use arrow_schema::{ArrowError, DataType, Field};

/// The shape of a column's rows, once the first valid one was seen.
#[derive(Debug, Default)]
pub struct Shapes {
    expected: Option<Vec<usize>>,
}

/// Whether a column has lists of any length.
pub fn has_lists(of: &DataType) -> bool {
    match of {
        DataType::List(_) | DataType::LargeList(_) => true,
        DataType::FixedSizeList(item, _) => has_lists(item.data_type()),
        _ => false,
    }
}

impl Shapes {
    /// What is wrong with each row that is not like the first one.
    pub fn odd_rows(&mut self, column: &ArrayRef) -> Vec<(usize, String)> {
        let mut odd = Vec::new();
        let mut dims = Vec::new();
        if self.all_alike(column) {
            return odd;
        }
        for row in 0..column.len() {
            dims.clear();
            match shape_of(column.as_ref(), row, &mut dims) {
                Err(why) => odd.push((row, why.to_owned())),
                Ok(()) => {
                    let expected = self.expected.get_or_insert_with(|| dims.clone());
                    if *expected != dims {
                        let said = format!(
                            "the row has another shape than the first; shape=`{dims:?}` expected `{expected:?}`"
                        );
                        odd.push((row, said));
                    }
                }
            }
        }
        odd
    }

    /// Whether all rows are lists of numbers as long as the first one was: the common case, told by the offsets alone.
    fn all_alike(&self, column: &ArrayRef) -> bool {
        let (Some([expected]), None) = (self.expected.as_deref(), column.nulls()) else {
            return false;
        };
        let alike = |(start, end): (usize, usize)| end - start == *expected;
        match column.data_type() {
            DataType::List(item) | DataType::LargeList(item) if item.data_type().is_nested() => {
                false
            }
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                lists.value_offsets().windows(2).map(ends).all(alike)
            }
            DataType::LargeList(_) => {
                let lists = column.as_list::<i64>();
                lists.value_offsets().windows(2).map(ends).all(alike)
            }
            _ => false,
        }
    }
}

/// All rows but these.
pub fn without(rows: usize, odd: &[(usize, String)]) -> BooleanArray {
    let mut keep = vec![true; rows];
    for (row, _) in odd {
        keep[*row] = false;
    }
    keep.into()
}

/// The same values in fixed-size lists. All rows have one shape, and there is one at least.
pub fn fixed(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let (values, rows) = match column.data_type() {
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let (start, end) = ends(lists.value_offsets());
            (lists.values().slice(start, end - start), lists.len())
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            let (start, end) = ends(lists.value_offsets());
            (lists.values().slice(start, end - start), lists.len())
        }
        DataType::FixedSizeList(item, _) if has_lists(item.data_type()) => {
            let lists = column.as_fixed_size_list();
            (Arc::clone(lists.values()), lists.len())
        }
        _ => return Ok(Arc::clone(column)),
    };
    let size = values.len() / rows.max(1);
    let values = if values.is_empty() && has_lists(values.data_type()) {
        return Err(ArrowError::InvalidArgumentError(
            "lists of no lists, whose shape nobody knows".to_owned(),
        ));
    } else {
        fixed(&values)?
    };
    let size = i32::try_from(size)
        .map_err(|_| ArrowError::InvalidArgumentError("a list is too long".to_owned()))?;
    let item = Field::new("item", values.data_type().clone(), true);
    let lists = FixedSizeListArray::try_new_with_length(Arc::new(item), size, values, None, rows)?;
    Ok(Arc::new(lists))
}

fn ends<T: TryInto<usize> + Copy>(offsets: &[T]) -> (usize, usize) {
    let end = |at: Option<&T>| at.and_then(|at| (*at).try_into().ok()).unwrap_or(0);
    (end(offsets.first()), end(offsets.last()))
}

fn shape_of(array: &dyn Array, row: usize, dims: &mut Vec<usize>) -> Result<(), &'static str> {
    let (values, start, end) = match array.data_type() {
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let (start, end) = ends(&lists.value_offsets()[row..row + 2]);
            (lists.values(), start, end)
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            let (start, end) = ends(&lists.value_offsets()[row..row + 2]);
            (lists.values(), start, end)
        }
        DataType::FixedSizeList(_, size) => {
            let lists = array.as_fixed_size_list();
            let size = usize::try_from(*size).unwrap_or(0);
            (lists.values(), row * size, row * size + size)
        }
        _ => return Ok(()),
    };
    if array.is_null(row) {
        return Err("the tensor is null");
    }
    dims.push(end - start);
    if !matches!(
        values.data_type(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
    ) {
        return Ok(());
    }
    let depth = dims.len();
    for row in start..end {
        let mut inner = Vec::new();
        shape_of(values.as_ref(), row, &mut inner)?;
        if row == start {
            dims.extend(inner);
        } else if dims[depth..] != inner {
            return Err("the tensor is ragged: its lists have different lengths");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::{Float32Type, Int32Type};
    use arrow_array::{LargeListArray, ListArray};
    use arrow_buffer::OffsetBuffer;

    #[test]
    fn lists_of_one_length_share_their_values() {
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(
            (0..5).map(|row| Some(vec![Some(row as f32); 3])),
        );
        let column: ArrayRef = Arc::new(lists.slice(1, 3));
        assert!(Shapes::default().odd_rows(&column).is_empty());
        let fixed = fixed(&column).unwrap();
        assert_eq!(
            (fixed.len(), fixed.as_fixed_size_list().value_length()),
            (3, 3)
        );
        let values = fixed.as_fixed_size_list().value(2);
        assert_eq!(values.as_primitive::<Float32Type>().values()[..], [3.0; 3]);
    }

    #[test]
    fn odd_rows_are_named_and_nested_lists_have_a_shape() {
        let rows = [
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![Some(3)]),
            Some(vec![Some(4), Some(5)]),
        ];
        let lists = LargeListArray::from_iter_primitive::<Int32Type, _, _>(rows);
        let column: ArrayRef = Arc::new(lists);
        let odd = Shapes::default().odd_rows(&column);
        assert_eq!(odd.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(without(4, &odd).true_count(), 2);

        let inner = ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..4).map(|row| Some(vec![Some(row); 2])),
        );
        let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
        let offsets = OffsetBuffer::new(vec![0, 2, 4].into());
        let column: ArrayRef = Arc::new(ListArray::new(
            Arc::clone(&item),
            offsets,
            Arc::new(inner.clone()),
            None,
        ));
        assert!(Shapes::default().odd_rows(&column).is_empty());
        assert!(
            fixed(&column)
                .unwrap()
                .data_type()
                .to_string()
                .contains("FixedSizeList(2 x FixedSizeList(2"),
            "{}",
            fixed(&column).unwrap().data_type()
        );
        let offsets = OffsetBuffer::new(vec![0, 3, 4].into());
        let column: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::new(inner), None));
        assert_eq!(Shapes::default().odd_rows(&column).len(), 1);
    }
}
