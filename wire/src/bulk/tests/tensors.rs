//! Tensor columns of other kinds than lists of one length.

use arrow_array::types::Int64Type;
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{Fields, Schema};

use super::*;

const RAY: &str = "ray.data.arrow_tensor";
const RAY_V2: &str = "ray.data.arrow_tensor_v2";
const RAY_VARIABLE: &str = "ray.data.arrow_variable_shaped_tensor";

/// Keys a, b, … beside a tensor column of an extension type.
fn extension(array: ArrayRef, name: &str, metadata: &str) -> RecordBatch {
    let pairs = [(NAME_KEY, name), (METADATA_KEY, metadata)];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let field = Field::new("tensor", array.data_type().clone(), true).with_metadata(pairs.into());
    let names: Vec<String> = (b'a'..)
        .take(array.len())
        .map(|c| (c as char).into())
        .collect();
    let key: ArrayRef = Arc::new(StringArray::from(names));
    let fields = vec![Field::new("key", DataType::Utf8, true), field];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![key, array]).unwrap()
}

fn values(count: usize) -> ArrayRef {
    Arc::new((0..count).map(|i| i as f32).collect::<Float32Array>())
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, true))
}

fn lists(lengths: &[usize], nulls: Option<Vec<bool>>) -> ListArray {
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let values = values(lengths.iter().sum());
    ListArray::new(item(), offsets, values, nulls.map(Into::into))
}

fn shapes(rows: &[&[i64]]) -> ArrayRef {
    let rows = rows
        .iter()
        .map(|row| Some(row.iter().map(|dim| Some(*dim))));
    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
        rows.map(|row| row.map(Vec::from_iter)),
    ))
}

#[test]
fn tensors_of_ray_have_the_shape_that_their_type_says() {
    let wide = LargeListArray::new(item(), OffsetBuffer::from_lengths([6, 6]), values(12), None);
    for (array, name) in [
        (Arc::new(lists(&[6, 6], None)) as ArrayRef, RAY),
        (Arc::new(wide), RAY_V2),
    ] {
        let batch = extension(array, name, "[2, 3]");
        let reader = reader(&batch, "{}").unwrap();
        assert_eq!(reader.shape().unwrap().dims(), [2, 3]);
        let second = floats(&[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(
            rows(&reader, &batch)[1],
            Ok(("b".to_owned(), vec![2, 3], second))
        );
    }
    let uneven = extension(Arc::new(lists(&[6, 5], None)), RAY, "[2, 3]");
    let found = rows(&reader(&uneven, "{}").unwrap(), &uneven);
    assert!(found[0].is_ok());
    let told = found[1].as_ref().unwrap_err();
    assert!(told.contains("length=`5` expected `6`"), "{told}");
    // A scalar a row, which Ray writes without axes.
    let scalars = extension(Arc::new(lists(&[1, 1], None)), RAY, "[]");
    let found = rows(&reader(&scalars, "{}").unwrap(), &scalars);
    assert_eq!(found[1], Ok(("b".to_owned(), vec![], floats(&[1.0]))));

    for metadata in [
        "",
        "2",
        "[-1]",
        "[1.5]",
        "{}",
        "[9223372036854775808]",
        "[4611686018427387904, 4]",
    ] {
        let batch = extension(Arc::new(lists(&[1], None)), RAY, metadata);
        assert_eq!(
            refused(&batch, "{}").code,
            Code::InvalidArgument,
            "{metadata}"
        );
    }
}

#[test]
fn tensors_of_ray_that_differ_say_their_shapes_themselves() {
    let variable = |lengths: &[usize], shapes: ArrayRef, nulls: Option<Vec<bool>>| {
        let data: ArrayRef = Arc::new(lists(lengths, None));
        let fields = Fields::from(vec![
            Field::new("data", data.data_type().clone(), true),
            Field::new("shape", shapes.data_type().clone(), true),
        ]);
        let rows = StructArray::new(fields, vec![data, shapes], nulls.map(Into::into));
        extension(Arc::new(rows), RAY_VARIABLE, "2")
    };
    let batch = variable(&[6, 2, 0], shapes(&[&[2, 3], &[1, 2], &[0, 7]]), None);
    let whole = reader(&batch, "{}").unwrap();
    assert_eq!((whole.dtype(), whole.shape()), (Some(DType::Float32), None));
    let found = rows(&whole, &batch);
    assert_eq!(found[0].as_ref().unwrap().1, [2, 3]);
    assert_eq!(
        found[1],
        Ok(("b".to_owned(), vec![1, 2], floats(&[6.0, 7.0])))
    );
    assert_eq!(found[2], Ok(("c".to_owned(), vec![0, 7], vec![])));

    let lying = variable(
        &[6, 2, 2, 2],
        shapes(&[&[2, 2], &[-1, -2], &[i64::MAX, 2], &[2]]),
        Some(vec![true, true, true, false]),
    );
    let found = rows(&reader(&lying, "{}").unwrap(), &lying);
    for (row, says) in [
        (0, "length=`6` expected `4`"),
        (1, "null or negative axis"),
        (2, "shape is too large"),
        (3, "is null"),
    ] {
        let told = found[row].as_ref().unwrap_err();
        assert!(told.contains(says), "{told}");
    }
    // The storage of another type than Ray writes.
    let one = lists(&[1], None);
    let fields = Fields::from(vec![
        Field::new("shape", one.data_type().clone(), true),
        Field::new("data", one.data_type().clone(), true),
    ]);
    let other = StructArray::new(fields, vec![Arc::new(one.clone()), Arc::new(one)], None);
    let told = refused(&extension(Arc::new(other), RAY_VARIABLE, "1"), "{}");
    assert!(told.to_string().contains("another storage"), "{told}");
}

#[test]
fn ragged_rows_have_lengths_of_their_own() {
    let (_, pairs) = cells(5, 2);
    let kind = Arc::new(Field::new("item", pairs.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([2, 0, 3]);
    let ragged: ArrayRef = Arc::new(ListArray::new(kind, offsets, pairs, None));
    let batch = batch(vec![keys(&["a", "b", "c"]), ("tensor", ragged)]);
    let found = rows(&reader(&batch, r#"{"ragged": true}"#).unwrap(), &batch);
    let first = floats(&[0.0, 1.0, 2.0, 3.0]);
    assert_eq!(found[0], Ok(("a".to_owned(), vec![2, 2], first)));
    assert_eq!(found[1], Ok(("b".to_owned(), vec![0, 2], vec![])));
    assert_eq!(found[2].as_ref().unwrap().1, [3, 2]);
    // Without it the first one says how long all are.
    let found = rows(&reader(&batch, "{}").unwrap(), &batch);
    assert!(found[0].is_ok() && found[1].is_err() && found[2].is_err());

    let plain = super::batch(vec![
        keys(&["a", "b"]),
        ("tensor", Arc::new(lists(&[3, 1], None))),
    ]);
    let found = rows(&reader(&plain, r#"{"ragged": true}"#).unwrap(), &plain);
    assert_eq!(found[1], Ok(("b".to_owned(), vec![1], floats(&[3.0]))));
    let cells = super::batch(vec![keys(&["a"]), cells(1, 2)]);
    let told = refused(&cells, r#"{"ragged": true}"#).to_string();
    assert!(told.contains("needs lists of tensors"), "{told}");
}

#[test]
fn list_views_lie_in_any_order_and_inside() {
    let views = |offsets: Vec<i32>, sizes: Vec<i32>| {
        let (offsets, sizes) = (ScalarBuffer::from(offsets), ScalarBuffer::from(sizes));
        let views = ListViewArray::new(item(), offsets, sizes, values(6), None);
        batch(vec![keys(&["a", "b"]), ("tensor", Arc::new(views))])
    };
    let batch = views(vec![4, 1], vec![2, 2]);
    let reader = reader(&batch, "{}").unwrap();
    let found = rows(&reader, &batch);
    assert_eq!(found[0], Ok(("a".to_owned(), vec![2], floats(&[4.0, 5.0]))));
    assert_eq!(found[1], Ok(("b".to_owned(), vec![2], floats(&[1.0, 2.0]))));

    let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(&batch));
    let (header, body) = &messages[0];
    let places = ipc_check::batch(header, body.len() as u64, &reader.tree).unwrap();
    for (buffer, lie) in [
        (4, -1i32),
        (4, 5),
        (4, i32::MAX),
        (5, -1),
        (5, 3),
        (5, i32::MAX),
    ] {
        let mut body = body.to_vec();
        let at = places.buffers[buffer].start as usize;
        body[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        let body = Body::from(Bytes::from(body));
        let found = rows_of(&reader, header, &body, &Dictionaries::default());
        let told = found[0].as_ref().unwrap_err();
        assert!(told.contains("outside its values"), "{told}");
        assert!(found[1].is_ok(), "{found:?}");
    }
}

#[test]
fn opaque_rows_may_have_been_through_another_program() {
    let long: Vec<u8> = (0..24).collect();
    let data = BinaryViewArray::from(vec![&[1u8, 2][..], &long, &[]]);
    let dtypes: ArrayRef = Arc::new(StringViewArray::from(vec!["uint8", "float32", "int8"]));
    let shape: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(2)]),
        Some(vec![Some(2), Some(3)]),
        Some(vec![Some(0)]),
    ]));
    let batch = batch(vec![
        keys(&["a", "b", "c"]),
        ("dtype", dtypes),
        ("shape", shape),
        ("data", Arc::new(data)),
    ]);
    let found = rows(&reader(&batch, "{}").unwrap(), &batch);
    assert_eq!(found[0], Ok(("a".to_owned(), vec![2], vec![1, 2])));
    assert_eq!(found[1], Ok(("b".to_owned(), vec![2, 3], long)));
    assert_eq!(found[2], Ok(("c".to_owned(), vec![0], vec![])));
}

#[test]
fn metadata_may_be_a_list_of_pairs() {
    let names: ArrayRef = Arc::new(StringViewArray::from(vec!["m", "n"]));
    let values: ArrayRef = Arc::new(LargeStringArray::from(vec!["1", "2"]));
    let fields = Fields::from(vec![
        Field::new("key", DataType::Utf8View, true),
        Field::new("value", DataType::LargeUtf8, true),
    ]);
    let pairs = StructArray::new(fields, vec![names, values], None);
    let kind = Arc::new(Field::new("item", pairs.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([2, 0]);
    let lists = LargeListArray::new(kind, offsets, Arc::new(pairs), None);
    let batch = batch(vec![
        keys(&["a", "b"]),
        cells(2, 1),
        ("metadata", Arc::new(lists)),
    ]);
    let reader = reader(&batch, "{}").unwrap();
    let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(&batch));
    let body = Body::from(messages[0].1.clone());
    let decoded = reader
        .decode(&messages[0].0, &body, &Dictionaries::default())
        .unwrap();
    let first = decoded.row(0).unwrap().metadata;
    assert_eq!((first.get("m"), first.get("n")), (Some("1"), Some("2")));
    assert!(decoded.row(1).unwrap().metadata.is_empty());
}
