mod lies;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder};
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::*;
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::column::Transform;
use crate::extension::{BOOL8, METADATA_KEY, NAME_KEY};
use crate::offsets::OffsetsCheck;
use crate::put_schema::PutSchema;
use crate::testing::{Message, one_column, written_by_arrow};
use crate::transform::{BitUnpacker, check_bool, normalise_bool8};

/// What a server would store of a put.
struct Stored {
    dtype: DType,
    shape: Shape,
    bytes: Vec<u8>,
    metadata: Metadata,
}

fn parse(schema: &Bytes) -> Result<SingleSchema> {
    match PutSchema::parse(schema)? {
        PutSchema::Single(single) => Ok(*single),
        PutSchema::Bulk(_) => panic!("one column is one tensor"),
    }
}

/// As a server does it, with bodies in small pieces.
fn store(schema: &Bytes, messages: &[Message]) -> Result<Stored> {
    let put = parse(schema)?;
    let (mut rows, mut list_len, mut bytes) = (0, None, Vec::new());
    for (header, body) in messages {
        let batch = put.check_batch(header, body.len() as u64)?;
        let slice = |range: &Range<u64>| &body[range.start as usize..range.end as usize];
        let span = match &batch.offsets {
            None => None,
            Some(offsets) => {
                let mut check = OffsetsCheck::new(batch.rows, offsets.wide, list_len);
                slice(&offsets.range)
                    .chunks(3)
                    .try_for_each(|piece| check.push(piece))?;
                let span = check.finish()?;
                list_len = span.len;
                Some(span)
            }
        };
        let values = batch.values(span)?;
        let sent = slice(&values.range);
        let before = bytes.len();
        match put.column().transform {
            Transform::Plain => bytes.extend_from_slice(sent),
            Transform::CheckBool => {
                check_bool(sent)?;
                bytes.extend_from_slice(sent);
            }
            Transform::NormaliseBool8 => {
                let mut sent = sent.to_vec();
                normalise_bool8(&mut sent);
                bytes.extend(sent);
            }
            Transform::UnpackBits => {
                let mut bits = BitUnpacker::new(values.first_bit, values.count);
                sent.chunks(2)
                    .for_each(|piece| bits.push(piece, &mut bytes));
            }
        }
        assert_eq!((bytes.len() - before) as u64, values.stored_bytes);
        rows += batch.rows;
    }
    if let Some(permute) = put.permute()? {
        let from = bytes.clone();
        let cell = permute.cell_bytes();
        for (from, to) in from.chunks(cell).zip(bytes.chunks_mut(cell)) {
            assert!(permute.apply(from, to));
        }
    }
    let shape = put.final_shape(rows, list_len)?;
    assert_eq!(shape.bytes(put.dtype())?, bytes.len() as u64);
    Ok(Stored {
        dtype: put.dtype(),
        shape,
        bytes,
        metadata: put.metadata().clone(),
    })
}

fn put(batches: &[RecordBatch]) -> Result<Stored> {
    let (schema, messages) = written_by_arrow(&batches[0].schema(), batches);
    store(&schema, &messages)
}

/// A put of one batch whose schema has this metadata.
fn put_with(batch: RecordBatch, metadata: &[(&str, &str)]) -> Result<Stored> {
    let metadata = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let schema = batch.schema().as_ref().clone().with_metadata(metadata);
    put(&[batch.with_schema(Arc::new(schema)).unwrap()])
}

fn tagged(field: Field, pairs: &[(&str, &str)]) -> Field {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    field.with_metadata(pairs.collect::<HashMap<_, _>>())
}

fn tensor_field(storage: DataType, json: &str) -> Field {
    tagged(
        Field::new("t", storage, true),
        &[(NAME_KEY, "arrow.fixed_shape_tensor"), (METADATA_KEY, json)],
    )
}

fn cells(values: ArrayRef, size: i32) -> FixedSizeListArray {
    // A nullable child without nulls, as PyArrow has it.
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    FixedSizeListArray::new(item, size, values, None)
}

fn floats(count: usize) -> Float32Array {
    (0..count).map(|i| i as f32).collect()
}

fn bytes_of(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn dims(stored: &Stored) -> &[u64] {
    stored.shape.dims()
}

#[test]
fn a_primitive_column_of_several_and_sliced_batches() {
    let field = Field::new("anything", DataType::Float32, true);
    let whole = floats(100);
    let batch = |from, len| one_column(field.clone(), Arc::new(whole.slice(from, len)));
    let stored = put(&[batch(0, 10), batch(10, 0), batch(10, 7), batch(17, 83)]).unwrap();
    assert_eq!(dims(&stored), [100]);
    assert_eq!(stored.dtype, DType::Float32);
    assert_eq!(stored.bytes, bytes_of((0..100).map(|i| i as f32)));
}

#[test]
fn no_batch_is_a_leading_axis_of_0() {
    let schema = ArrowSchema::new(vec![tensor_field(
        DataType::new_fixed_size_list(DataType::Int8, 6, true),
        r#"{"shape":[2,3]}"#,
    )]);
    let (schema, _) = written_by_arrow(&schema, &[]);
    assert_eq!(dims(&store(&schema, &[]).unwrap()), [0, 2, 3]);
}

#[test]
fn cells_nested_and_sliced() {
    let nested = cells(Arc::new(cells(Arc::new(floats(48)), 3)), 4);
    let field = Field::new("t", nested.data_type().clone(), true);
    let stored = put(&[one_column(field, Arc::new(nested.slice(1, 2)))]).unwrap();
    assert_eq!(dims(&stored), [2, 4, 3]);
    assert_eq!(stored.bytes, bytes_of((12..36).map(|i| i as f32)));
}

#[test]
fn a_permutation_of_three_axes_with_names() {
    // Physical [2, 3, 4] and permutation [2, 0, 1] are logical [4, 2, 3].
    let values = cells(Arc::new(floats(48)), 24);
    let json = r#"{"shape":[2,3,4],"dim_names":["a","b","c"],"permutation":[2,0,1]}"#;
    let field = tensor_field(values.data_type().clone(), json);
    let stored = put(&[one_column(field, Arc::new(values))]).unwrap();
    assert_eq!(dims(&stored), [2, 4, 2, 3]);
    let wanted = (0..2).flat_map(|row| {
        (0..4).flat_map(move |k| {
            (0..2).flat_map(move |i| (0..3).map(move |j| row * 24 + i * 12 + j * 4 + k))
        })
    });
    assert_eq!(stored.bytes, bytes_of(wanted.map(|i| i as f32)));
    assert_eq!(stored.metadata.get(DIM_NAMES), Some(r#"["c","a","b"]"#));
}

#[test]
fn lists_of_equal_lengths() {
    let rows = |rows: std::ops::Range<i32>| {
        let rows = rows.map(|i| Some((0..3).map(move |j| Some((i * 3 + j) as f32))));
        ListArray::from_iter_primitive::<Float32Type, _, _>(rows)
    };
    let field = Field::new("t", rows(0..1).data_type().clone(), true);
    let batch = |array: ListArray| one_column(field.clone(), Arc::new(array));
    let stored = put(&[
        batch(rows(0..0)),
        batch(rows(0..5)),
        batch(rows(0..9).slice(5, 2)),
    ])
    .unwrap();
    assert_eq!(dims(&stored), [7, 3]);
    assert_eq!(stored.bytes, bytes_of((0..21).map(|i| i as f32)));

    let wide = LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), Some(2)])]);
    let field = Field::new("t", wide.data_type().clone(), true);
    assert_eq!(
        dims(&put(&[one_column(field, Arc::new(wide))]).unwrap()),
        [1, 2]
    );

    let mut builder =
        arrow_array::builder::ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), 2));
    for row in 0..3 {
        for cell in 0..2 {
            builder.values().values().append_value(row as f32);
            builder.values().values().append_value(cell as f32);
            builder.values().append(true);
        }
        builder.append(true);
    }
    let lists = builder.finish();
    let field = Field::new("t", lists.data_type().clone(), true);
    assert_eq!(
        dims(&put(&[one_column(field, Arc::new(lists))]).unwrap()),
        [3, 2, 2]
    );

    let unequal = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1)]),
        Some(vec![Some(1), Some(2)]),
    ]);
    let field = Field::new("t", unequal.data_type().clone(), true);
    let refused = put(&[one_column(field, Arc::new(unequal))])
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("different lengths; length=`2` expected `1`"),
        "{refused}"
    );
}

#[test]
fn booleans_in_every_form() {
    let bits = [
        true, false, true, true, false, false, true, false, true, true, false,
    ];
    let wanted: Vec<u8> = bits.iter().map(|b| u8::from(*b)).collect();
    let packed = BooleanArray::from(bits.to_vec());
    let field = Field::new("t", DataType::Boolean, false);
    let stored = put(&[one_column(field, Arc::new(packed.slice(3, 8)))]).unwrap();
    assert_eq!(
        (stored.dtype, stored.bytes),
        (DType::Bool, wanted[3..].to_vec())
    );

    // Lists of bits whose first does not begin a byte.
    let lists = ListArray::new(
        Arc::new(Field::new("item", DataType::Boolean, true)),
        arrow_buffer::OffsetBuffer::new(vec![3, 7, 11].into()),
        Arc::new(packed.clone()),
        None,
    );
    let field = Field::new("t", lists.data_type().clone(), true);
    let stored = put(&[one_column(field, Arc::new(lists))]).unwrap();
    assert_eq!(
        (dims(&stored), &stored.bytes[..]),
        (&[2, 4][..], &wanted[3..])
    );

    let bool8 = Int8Array::from(vec![0, 1, -1, 7]);
    let field = tagged(
        Field::new("t", DataType::Int8, true),
        &[(NAME_KEY, BOOL8), (METADATA_KEY, "")],
    );
    let stored = put(&[one_column(field, Arc::new(bool8))]).unwrap();
    assert_eq!(
        (stored.dtype, stored.bytes),
        (DType::Bool, vec![0, 1, 1, 1])
    );

    let field = tagged(
        Field::new("t", DataType::UInt8, true),
        &[("tensor.dtype", "bool")],
    );
    let bytes = |values: Vec<u8>| one_column(field.clone(), Arc::new(UInt8Array::from(values)));
    assert_eq!(put(&[bytes(vec![0, 1])]).unwrap().dtype, DType::Bool);
    let refused = put(&[bytes(vec![0, 2])]).err().unwrap().to_string();
    assert!(refused.contains("value=`2`"), "{refused}");
}

#[test]
fn dtypes_that_arrow_does_not_have() {
    for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_native()) {
        let field = |storage| {
            tagged(
                Field::new("t", storage, false),
                &[("tensor.dtype", dtype.name())],
            )
        };
        let values = new_null_array(&dtype.storage(), 0);
        if dtype.storage_per_element() == 1 {
            let stored = put(&[one_column(field(dtype.storage()), values)]).unwrap();
            assert_eq!((stored.dtype, dims(&stored)), (dtype, &[0][..]));
        } else {
            let values = cells(values, 2);
            let stored = put(&[one_column(
                field(values.data_type().clone()),
                Arc::new(values),
            )]);
            let stored = stored.unwrap();
            assert_eq!((stored.dtype, dims(&stored)), (dtype, &[0][..]));
        }
        let wrong = put(&[one_column(
            field(DataType::Int64),
            new_null_array(&DataType::Int64, 0),
        )]);
        let refused = wrong.err().unwrap().to_string();
        assert!(refused.contains("tensor.dtype does not agree"), "{refused}");
    }
}

#[test]
fn tensor_shape_gives_the_shape_where_the_elements_agree() {
    let field = Field::new("t", DataType::Float32, true);
    let one = || one_column(field.clone(), Arc::new(floats(1)));
    let six = || one_column(field.clone(), Arc::new(floats(6)));
    assert!(dims(&put_with(one(), &[("tensor.shape", "[]")]).unwrap()).is_empty());
    assert_eq!(
        dims(&put_with(six(), &[("tensor.shape", "[2, 3]")]).unwrap()),
        [2, 3]
    );
    let row = cells(Arc::new(floats(768)), 768);
    let row = one_column(
        Field::new("t", row.data_type().clone(), true),
        Arc::new(row),
    );
    assert_eq!(
        dims(&put_with(row, &[("tensor.shape", "[768]")]).unwrap()),
        [768]
    );
    let rank = format!("[{}]", ["1"; 65].join(","));
    for (shape, says) in [
        ("[2, 2]", "elements=`4` expected `6`"),
        ("[]", "elements=`1` expected `6`"),
        ("[0]", "expected `6`"),
        ("[-6]", "tensor.shape is no shape"),
        ("[6.0]", "tensor.shape is no shape"),
        ("6", "tensor.shape is no shape"),
        ("[9223372036854775807, 2]", "too large"),
        ("[18446744073709551615]", "too long"),
        (&rank, "rank=`65` expected at most 32"),
    ] {
        let refused = put_with(six(), &[("tensor.shape", shape)])
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains(says), "{refused}");
        assert!(refused.starts_with("invalid_argument: "), "{refused}");
    }
}

#[test]
fn metadata_is_kept_or_ignored_by_its_name() {
    let batch = one_column(
        Field::new("t", DataType::Float32, true),
        Arc::new(floats(2)),
    );
    let stored = put_with(
        batch,
        &[
            ("user.a", "1"),
            ("user.dim_names", "[\"x\"]"),
            ("tensor.key", "other"),
            ("tensor.checksum", "wrong"),
            ("pandas", "{}"),
        ],
    );
    let metadata = stored.unwrap().metadata;
    assert_eq!(
        metadata.iter().collect::<Vec<_>>(),
        [("a", "1"), ("dim_names", "[\"x\"]")]
    );
}

proptest! {
    #[test]
    fn permutations_of_any_cell(
        (shape, order) in prop::collection::vec(1u64..4, 1..5).prop_flat_map(|shape| {
            let axes: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(axes).prop_shuffle())
        }),
        rows in 0usize..4,
    ) {
        let size = shape.iter().product::<u64>() as usize;
        let values = cells(Arc::new(floats(rows * size)), size as i32);
        let json = format!(r#"{{"shape":{shape:?},"permutation":{order:?}}}"#);
        let field = tensor_field(values.data_type().clone(), &json);
        let stored = put(&[one_column(field, Arc::new(values))]).unwrap();
        let logical: Vec<u64> = order.iter().map(|axis| shape[*axis]).collect();
        prop_assert_eq!(&stored.shape.dims()[1..], &logical[..]);
        for (at, value) in stored.bytes.as_chunks::<4>().0.iter().enumerate() {
            let mut rest = at % size;
            let mut physical = vec![0; shape.len()];
            for axis in (0..shape.len()).rev() {
                physical[order[axis]] = rest as u64 % logical[axis];
                rest /= logical[axis] as usize;
            }
            let from = physical.iter().zip(&shape).fold(0, |sum, (i, dim)| sum * dim + i);
            prop_assert_eq!(f32::from_le_bytes(*value), (at / size * size + from as usize) as f32);
        }
    }
}
