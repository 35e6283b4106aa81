//! Lies that a schema tells: types that are no tensors, shapes that cannot be, cells that do not
//! agree with their storage.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, new_null_array};
use arrow_schema::{
    DataType, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode,
};

use super::dice::Dice;
use super::lie::{Batch, by_arrow, column, schema, tensor_column};
use super::lies::{Lie, named};

/// A column of a type that is no tensor, on its own or in lists, alone or beside keys.
pub fn wrong_type(dice: &mut Dice) -> Lie {
    let mut data_type = dice.pick(&no_tensors()).clone();
    for _ in 0..dice.below(3) {
        data_type = wrapped(dice, data_type);
    }
    let rows = dice.below(4);
    let batch = if dice.once_in(2) {
        batch_of(vec![(named(column(data_type)), rows)])
    } else {
        let key = Field::new("key", DataType::Int64, true);
        let tensor = Field::new("tensor", data_type, true);
        batch_of(vec![(key, rows), (tensor, rows)])
    };
    let what = format!("type {}", batch.schema());
    Lie::new(what, by_arrow(&batch, &[]))
}

/// `tensor.dtype` that its storage denies, or that nobody knows.
pub fn wrong_dtype(dice: &mut Dice) -> Lie {
    let dtype = *dice.pick(&[
        "bool",
        "bfloat16",
        "float8_e5m2",
        "complex64",
        "complex128",
        "float64",
        "int3",
        "",
        "null",
        "FLOAT32",
        "float32\0",
        "float8_e4m3fn",
        "string",
    ]);
    // Two floats would be a complex scalar.
    let rows = 3 + dice.below(20);
    let field = named(column(DataType::Float32));
    let (field, metadata) = if dice.once_in(2) {
        let tag = [("tensor.dtype".to_owned(), dtype.to_owned())];
        (field.with_metadata(tag.into()), vec![])
    } else {
        (field, vec![("tensor.dtype", dtype)])
    };
    let batch = Batch::of(i64::try_from(rows).expect("few"));
    let body = usize::try_from(batch.body_length).expect("few");
    let messages = vec![schema(vec![field], &metadata), batch.message(body)];
    Lie::new(format!("dtype {dtype:?}"), messages)
}

/// `tensor.shape` that is no shape, or not this tensor's.
pub fn tensor_shape(dice: &mut Dice) -> Lie {
    let rows = 1 + dice.below(40);
    let shape = match dice.below(9) {
        0 => format!("[{}]", rows + 1 + dice.below(1000)),
        1 => format!("[{rows}, {}]", *dice.pick(&[0, 2, 3, 1 << 20])),
        2 => format!("[-{rows}]"),
        3 => format!("[{rows}, -1, -1]"),
        4 => ones(*dice.pick(&[33, 64, 65, 1000])),
        5 => format!("[{}, {}]", u64::MAX - dice.next() % 9, 1 + dice.below(9)),
        6 => format!("[{}, 0, {}]", i64::MAX, 4 + dice.below(9)),
        7 => format!("[{rows}.0]"),
        _ => (*dice.pick(&[
            "",
            "[",
            "[]",
            "null",
            "7",
            "{}",
            "\"[7]\"",
            "[[7]]",
            "[1e3]",
            "[\"7\"]",
            "[7,]",
            "[99999999999999999999999]",
            "[true]",
            "(7)",
            "[ 0x7 ]",
            "[7] [7]",
        ]))
        .to_owned(),
    };
    // One row is what `[]` means.
    let rows = if shape == "[]" { rows + 1 } else { rows };
    let values = Float32Array::from(vec![1.0; rows]);
    let batch = one(named(column(DataType::Float32)), Arc::new(values));
    let mut messages = by_arrow(&batch, &[("tensor.shape", &shape)]);
    if dice.once_in(4) {
        let again = messages[1].clone();
        messages.push(again);
        // Twice as many values agree with none of the shapes above either, but for the second.
        if shape.starts_with(&format!("[{rows}, 2]")) || shape == format!("[{}]", 2 * rows) {
            messages.pop();
        }
    }
    Lie::new(format!("tensor.shape {shape} of {rows}"), messages)
}

/// A `fixed_shape_tensor` whose metadata and storage differ, or that makes no sense.
pub fn cell(dice: &mut Dice) -> Lie {
    let (size, metadata) = match dice.below(8) {
        0 => (6, format!("{{\"shape\":[{}]}}", 7 + dice.below(100))),
        1 => (6, "{\"shape\":[-2,-3]}".to_owned()),
        2 => (
            6,
            format!("{{\"shape\":[{},{}]}}", i64::MAX, 2 + dice.below(9)),
        ),
        3 => {
            let permutation = *dice.pick(&[
                "[0]",
                "[0,0]",
                "[1,2]",
                "[0,1,2]",
                "[-1,0]",
                "[0,1.5]",
                "[\"0\",1]",
                "{}",
                "[0,4294967296]",
                "[1,18446744073709551615]",
            ]);
            (
                6,
                format!("{{\"shape\":[2,3],\"permutation\":{permutation}}}"),
            )
        }
        4 => {
            let names = *dice.pick(&["[\"a\"]", "[\"a\",\"b\",\"c\"]", "[1,2]", "7"]);
            (6, format!("{{\"shape\":[2,3],\"dim_names\":{names}}}"))
        }
        5 => (
            1,
            format!("{{\"shape\":{}}}", ones(*dice.pick(&[33, 64, 65, 500]))),
        ),
        6 => (
            *dice.pick(&[-6, -1, i32::MIN]),
            "{\"shape\":[6]}".to_owned(),
        ),
        _ => {
            let odd = *dice.pick(&[
                "",
                "null",
                "[]",
                "{}",
                "{\"shape\":6}",
                "{\"shape\":[\"6\"]}",
                "{\"shape\":[6.5]}",
                "{\"shape\":[6]",
                "{\"shape\":[6]}{}",
                "{\"shape\":[2,3],\"shape\":[6,2]}",
                "\"6\"",
                "{\"shape\":[[6]]}",
                "{\"shape\":[1e30]}",
            ]);
            (6, odd.to_owned())
        }
    };
    let field = tensor_column(DataType::Float32, size, &metadata);
    let batch = Batch {
        nodes: vec![(2, 0), (12, 0)],
        buffers: vec![(0, 0), (0, 0), (0, 48)],
        body_length: 48,
        ..Batch::of(2)
    };
    let what = format!("cell {metadata} in lists of {size}");
    if dice.once_in(2) {
        return Lie::new(
            what,
            vec![schema(vec![named(field)], &[]), batch.message(48)],
        );
    }
    let fields = vec![
        Field::new("key", DataType::Int32, false),
        field.with_name("tensor"),
    ];
    let batch = Batch {
        nodes: vec![(2, 0), (2, 0), (12, 0)],
        buffers: vec![(0, 0), (0, 8), (0, 0), (0, 0), (8, 48)],
        body_length: 56,
        ..batch
    };
    Lie::new(what, vec![schema(fields, &[]), batch.message(56)])
}

/// Lists in lists: deeper than a tensor has axes, or with more elements than can be.
pub fn nested(dice: &mut Dice) -> Lie {
    let (depth, size) = *dice.pick(&[
        (32, 1),
        (33, 1),
        (65, 1),
        (200, 1),
        (5, i32::MAX),
        (3, 1 << 30),
    ]);
    let mut data_type = DataType::Int8;
    for _ in 0..depth {
        data_type = DataType::FixedSizeList(Field::new("item", data_type, false).into(), size);
    }
    let mut nodes = vec![(1, 0)];
    let mut buffers = vec![(0, 0)];
    for _ in 1..depth {
        nodes.push((i64::from(size), 0));
        buffers.push((0, 0));
    }
    nodes.push((i64::from(size), 0));
    buffers.extend([(0, 0), (0, 8)]);
    let batch = Batch {
        nodes,
        buffers,
        body_length: 8,
        ..Batch::of(1)
    };
    let messages = vec![
        schema(vec![named(column(data_type))], &[]),
        batch.message(8),
    ];
    Lie::new(format!("{depth} lists of {size}"), messages)
}

/// One column of these values.
pub fn one(field: Field, values: ArrayRef) -> RecordBatch {
    let field = field
        .with_nullable(true)
        .with_data_type(values.data_type().clone());
    RecordBatch::try_new(Schema::new(vec![field]).into(), vec![values]).expect("one column")
}

fn batch_of(columns: Vec<(Field, usize)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(field, rows)| {
        let values = new_null_array(field.data_type(), rows);
        (field.with_nullable(true), values)
    });
    let (fields, values): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    RecordBatch::try_new(Schema::new(fields).into(), values).expect("columns of one length")
}

fn ones(rank: usize) -> String {
    format!("[{}]", vec!["1"; rank].join(","))
}

fn wrapped(dice: &mut Dice, data_type: DataType) -> DataType {
    let item = Arc::new(Field::new("item", data_type, true));
    match dice.below(5) {
        0 => DataType::List(item),
        1 => DataType::LargeList(item),
        2 => DataType::FixedSizeList(item, i32::try_from(dice.below(4)).expect("few")),
        3 => DataType::Struct(Fields::from(vec![item])),
        _ => DataType::ListView(item),
    }
}

fn no_tensors() -> Vec<DataType> {
    let item = || Arc::new(Field::new("item", DataType::Float32, true));
    let run_ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
    let values = Arc::new(Field::new("values", DataType::Float32, true));
    let pair = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Float32, true),
    ]);
    let entries = Arc::new(Field::new("entries", DataType::Struct(pair), false));
    let union = UnionFields::from_fields(vec![
        Field::new("a", DataType::Float32, true),
        Field::new("b", DataType::Int8, true),
    ]);
    vec![
        DataType::Null,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        DataType::FixedSizeBinary(4),
        DataType::Date32,
        DataType::Date64,
        DataType::Time32(TimeUnit::Second),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal128(10, 2),
        DataType::Decimal256(40, 2),
        DataType::Struct(Fields::from(vec![Field::new("a", DataType::Float32, true)])),
        DataType::Struct(Fields::empty()),
        DataType::Map(entries, false),
        DataType::Union(union.clone(), UnionMode::Sparse),
        DataType::Union(union, UnionMode::Dense),
        DataType::RunEndEncoded(run_ends, values),
        DataType::Dictionary(DataType::Int32.into(), DataType::Float32.into()),
        DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()),
        DataType::List(Arc::new(Field::new(
            "item",
            DataType::ListView(item()),
            true,
        ))),
        DataType::List(Arc::new(Field::new("item", DataType::List(item()), true))),
    ]
}
