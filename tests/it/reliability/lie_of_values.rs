//! Lies that batches tell: values that are missing, lists that do not fit, numbers that disagree with
//! their schema, rows whose description is not that of their bytes.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, LargeBinaryArray, ListArray, RecordBatch,
    StringArray, UInt8Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema};

use super::dice::Dice;
use super::lie::{Batch, by_arrow, column, schema};
use super::lie_of_schema::one;
use super::lies::{Lie, named};

/// Nulls, in the column or below it.
pub fn nulls(dice: &mut Dice) -> Lie {
    let rows = 1 + dice.below(30);
    let hole = dice.below(rows);
    let holed = |at: usize, len: usize| {
        let values = (0..len).map(|i| (i != at).then_some(1.0f32));
        Float32Array::from_iter(values)
    };
    let values: ArrayRef = match dice.below(3) {
        0 => Arc::new(holed(hole, rows)),
        1 => {
            let item = Arc::new(Field::new("item", DataType::Float32, true));
            Arc::new(FixedSizeListArray::new(
                item,
                3,
                Arc::new(holed(hole, rows * 3)),
                None,
            ))
        }
        _ => {
            let item = Arc::new(Field::new("item", DataType::Float32, true));
            let offsets = OffsetBuffer::from_lengths(vec![2; rows]);
            Arc::new(ListArray::new(
                item,
                offsets,
                Arc::new(holed(hole, rows * 2)),
                None,
            ))
        }
    };
    let what = format!("a null among {rows} in {}", values.data_type());
    Lie::new(
        what,
        by_arrow(&one(named(column(DataType::Null)), values), &[]),
    )
}

/// Lists of unequal lengths, and offsets that lead anywhere.
pub fn lists(dice: &mut Dice) -> Lie {
    let rows = 2 + dice.below(10);
    let mut ends: Vec<i32> = (0..=rows)
        .map(|row| i32::try_from(row * 2).expect("few"))
        .collect();
    let at = dice.below(ends.len());
    let odd = *dice.pick(&[i32::MIN, -1, -2, 1, 3, 1 << 20, i32::MAX]);
    ends[at] = match dice.below(3) {
        0 => odd,
        1 => ends[at].wrapping_add(odd),
        _ => ends[at].wrapping_sub(odd),
    };
    let is_regular = ends
        .windows(2)
        .all(|pair| pair[1].wrapping_sub(pair[0]) == 2)
        || ends.windows(2).all(|pair| pair[0] == pair[1]);
    if is_regular {
        ends[at] = -7;
    }
    let offsets = i64::try_from(ends.len() * 4).expect("few");
    let values = i64::try_from(rows * 2 * 4).expect("few");
    let start = (offsets + 7) / 8 * 8;
    let rows = i64::try_from(rows).expect("few");
    let batch = Batch {
        nodes: vec![(rows, 0), (rows * 2, 0)],
        buffers: vec![(0, 0), (0, offsets), (0, 0), (start, values)],
        body_length: (start + values + 7) / 8 * 8,
        ..Batch::of(rows)
    };
    let mut message = batch.message(usize::try_from(batch.body_length).expect("few"));
    for (place, end) in message.body.chunks_exact_mut(4).zip(&ends) {
        place.copy_from_slice(&end.to_le_bytes());
    }
    let item = Field::new("item", DataType::Float32, false).into();
    let fields = vec![named(column(DataType::List(item)))];
    Lie::new(
        format!("offsets {ends:?}"),
        vec![schema(fields, &[]), message],
    )
}

/// Counts and places in a batch's header that do not agree with its schema or its body.
pub fn batch_numbers(dice: &mut Dice) -> Lie {
    let rows = 2 * (1 + i64::try_from(dice.below(20)).expect("few"));
    let mut batch = Batch::of(rows);
    let mut body = usize::try_from(batch.body_length).expect("few");
    let some = 1 + i64::try_from(dice.below(50)).expect("few");
    let mut fields = vec![named(column(DataType::Float32))];
    let what = match dice.below(12) {
        0 => {
            batch.rows += some;
            "more rows than values"
        }
        1 => {
            batch.nodes[0].0 = (rows - some).max(0);
            "fewer values than rows"
        }
        2 => {
            batch.nodes[0].1 = some;
            "nulls without a bitmap"
        }
        3 => {
            batch.buffers[1].1 -= some.min(4 * rows);
            "a buffer that is too short"
        }
        4 => {
            batch.buffers[1].0 = 8 * some;
            "a buffer behind the body"
        }
        5 => {
            batch.buffers[1] = (4, 4 * rows - 4);
            "a buffer out of line"
        }
        6 => {
            batch.nodes.push((rows, 0));
            "more nodes than fields"
        }
        7 => {
            batch.buffers.truncate(dice.below(2));
            "fewer buffers than the type has"
        }
        8 => {
            batch.body_length += 8 * some;
            "a body that is too short"
        }
        9 => {
            body = dice.below(body);
            "a body cut off"
        }
        10 => {
            fields = vec![named(column(DataType::Float64))];
            "values of another width"
        }
        _ => {
            batch.rows = -some;
            "rows below zero"
        }
    };
    let what = format!("{what}: {batch:?} and {body} bytes");
    let messages = match dice.below(8) {
        // A batch where the schema should be, two schemas, a schema of no columns.
        0 => vec![batch.message(body), batch.message(body)],
        1 => vec![schema(fields.clone(), &[]), schema(fields, &[])],
        2 => vec![schema(Vec::new(), &[]), batch.message(body)],
        _ => vec![schema(fields, &[]), batch.message(body)],
    };
    Lie::new(what, messages)
}

/// Rows of a bulk put that are no entries: odd keys, lists of other lengths, nulls.
pub fn rows(dice: &mut Dice) -> Lie {
    let count = 1 + dice.below(20);
    let odd = dice.below(4);
    let long = "k".repeat(1025 + dice.below(3000));
    let keys: Vec<Option<String>> = (0..count)
        .map(|row| match odd {
            0 => Some(String::new()),
            1 => Some(format!("a\0{row}")),
            2 => Some(long.clone()),
            _ => None,
        })
        .collect();
    let keys: ArrayRef = Arc::new(StringArray::from(keys));
    let tensors: ArrayRef = Arc::new(UInt8Array::from(vec![1; count]));
    let fields = vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("tensor", DataType::UInt8, false),
    ];
    let batch = RecordBatch::try_new(Schema::new(fields).into(), vec![keys, tensors]);
    let messages = by_arrow(&batch.expect("columns of one length"), &[]);
    Lie::new(format!("{count} keys that are none, {odd}"), messages).by_row()
}

/// Rows of the opaque layout whose dtype, shape and bytes do not agree.
pub fn opaque(dice: &mut Dice) -> Lie {
    let count = 1 + dice.below(10);
    let (mut dtypes, mut shapes) = (Vec::new(), ListBuilder::new(Int64Builder::new()));
    let (mut data, mut keys) = (Vec::new(), Vec::new());
    let mut what = String::new();
    for row in 0..count {
        let (dtype, shape, bytes): (&str, Vec<i64>, usize) = match dice.below(7) {
            0 => ("float32", vec![2, 3], 23 + 2 * dice.below(20)),
            1 => ("float33", vec![2], 8),
            2 => ("int8", vec![-1, -8], 8),
            3 => ("int8", vec![1; *dice.pick(&[33, 65, 900])], 1),
            4 => ("int8", vec![1 << 32, 1 << 32, 1], 0),
            5 => ("int64", vec![i64::MAX, 2], 16),
            _ => ("bool", vec![4], 4),
        };
        what = format!("{what} {dtype} {shape:?} in {bytes}");
        dtypes.push(dtype);
        shapes.append_value(shape.into_iter().map(Some));
        // Sevens are no truth values.
        data.push(vec![7; bytes]);
        keys.push(format!("opaque-{row}"));
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("key", Arc::new(StringArray::from(keys))),
        ("dtype", Arc::new(StringArray::from(dtypes))),
        ("shape", Arc::new(shapes.finish())),
        ("data", Arc::new(LargeBinaryArray::from_iter_values(data))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    Lie::new(format!("opaque{what}"), by_arrow(&batch, &[])).by_row()
}
