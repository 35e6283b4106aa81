use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use proptest::prelude::*;

use super::*;
use crate::body::Body;
use crate::bulk::Dictionaries;
use crate::descriptor::PutCommand;
use crate::put_schema::PutSchema;
use crate::schema::StreamSchema;
use crate::testing::read_by_arrow;
use crate::ticket::With;

const ALL: [With; 5] = [
    With::Version,
    With::Checksum,
    With::Metadata,
    With::TtlMs,
    With::SourceVersion,
];

fn body(batch: &RowsBatch, data: &[u8]) -> Bytes {
    assert_eq!(batch.data_len, data.len() as u64);
    assert_eq!(batch.prelude.len() % 64, 0);
    let body = Bytes::from([&batch.prelude[..], data, &batch.tail[..]].concat());
    assert_eq!(body.len() as u64, batch.body_len());
    body
}

fn read(schema: &StreamSchema<'_>, batch: &RowsBatch, data: &[u8]) -> RecordBatch {
    let schema = schema.message().unwrap();
    let message = (batch.header.clone(), body(batch, data));
    read_by_arrow(&schema, &[message]).1.remove(0)
}

fn keys(batch: &RecordBatch) -> Vec<&str> {
    batch
        .column_by_name("key")
        .unwrap()
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect()
}

#[test]
fn rows_with_all_columns_and_nulls() {
    let shape = Shape::new(&[2, 3]).unwrap();
    let metadata = Metadata::new([("n".to_owned(), "v".to_owned())]).unwrap();
    let with = [
        WithColumn::Version(&[Some(Version::from_parts(1, 2, 3)), None, None]),
        WithColumn::Checksum(&[Some(7), None, Some(u128::MAX)]),
        WithColumn::Metadata(&[Some(&metadata), None, Some(&Metadata::default())]),
        WithColumn::TtlMs(&[None, None, Some(5)]),
        WithColumn::SourceVersion(&[Some(i64::MIN), None, None]),
    ];
    let valid = [true, false, true];
    let batch = rows_batch(DType::Int16, &shape, &["a", "ä", ""], Some(&valid), &with).unwrap();
    let data: Vec<u8> = (0..36).collect();
    let schema = StreamSchema::Rows {
        dtype: DType::Int16,
        shape: &shape,
        nullable: true,
        with: &ALL,
    };
    let read = read(&schema, &batch, &data);
    assert_eq!(keys(&read), ["a", "ä", ""]);
    let tensor = read.column_by_name("tensor").unwrap().as_fixed_size_list();
    assert_eq!(
        (0..3).map(|i| tensor.is_valid(i)).collect::<Vec<_>>(),
        valid
    );
    assert_eq!(tensor.value_length(), 6);
    let versions = read.column_by_name("version").unwrap().as_string::<i32>();
    let versions: Vec<_> = versions.iter().map(|v| v.map(str::to_owned)).collect();
    assert_eq!(
        versions,
        [Some(Version::from_parts(1, 2, 3).to_string()), None, None]
    );
    let checksums = read.column_by_name("checksum").unwrap().as_string::<i32>();
    assert_eq!(checksums.value(2), "f".repeat(32));
    let maps = read.column_by_name("metadata").unwrap().as_map();
    assert_eq!(
        (0..3)
            .map(|i| (maps.is_valid(i), maps.value_length(i)))
            .collect::<Vec<_>>(),
        [(true, 1), (false, 0), (true, 0)]
    );
    let ttl = read
        .column_by_name("ttl_ms")
        .unwrap()
        .as_primitive::<Int64Type>();
    assert_eq!(ttl.iter().collect::<Vec<_>>(), [None, None, Some(5)]);
}

#[test]
fn the_closing_batch_has_no_rows() {
    let scalar = Shape::scalar();
    for shape in [&scalar, &Shape::new(&[4]).unwrap()] {
        let schema = StreamSchema::Rows {
            dtype: DType::Float32,
            shape,
            nullable: false,
            with: &[],
        };
        let batch = rows_batch::<&str>(DType::Float32, shape, &[], None, &[]).unwrap();
        assert_eq!(read(&schema, &batch, &[]).num_rows(), 0);
    }
    let schema = StreamSchema::Opaque {
        nullable: false,
        with: &ALL,
    };
    let with = [
        WithColumn::Version(&[]),
        WithColumn::Checksum(&[]),
        WithColumn::Metadata(&[]),
        WithColumn::TtlMs(&[]),
        WithColumn::SourceVersion(&[]),
    ];
    let batch = opaque_batch(&[], false, &with).unwrap();
    assert_eq!(read(&schema, &batch, &[]).num_rows(), 0);
    assert!(rows_batch(DType::Int8, &scalar, &["a"], Some(&[]), &[]).is_err());
}

#[test]
fn nothing_known() {
    let batch = unknown_batch(&["a", "b"]).unwrap();
    let read = read(&StreamSchema::Unknown, &batch, &[]);
    assert_eq!(keys(&read), ["a", "b"]);
    assert_eq!(read.column(1).logical_null_count(), 2);
    let schema = read.schema();
    let types: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| (f.name().as_str(), f.data_type()))
        .collect();
    assert_eq!(
        types,
        [("key", &DataType::Utf8), ("tensor", &DataType::Null)]
    );
}

#[test]
fn a_budget_takes_one_row_always_and_no_more_than_fit() {
    let mut budget = RowsBudget::new(0);
    assert!(budget.take("k", 1 << 40, None, 0));
    assert!(!budget.take("k", 0, None, 0));
    let mut budget = RowsBudget::new(3 << 20);
    let shape = Shape::new(&[768]).unwrap();
    let names: Vec<String> = (0..10_000).map(|i| format!("key-{i}")).collect();
    let fit = names
        .iter()
        .take_while(|key| budget.take(key, 3072, None, 0))
        .count();
    assert_eq!(fit as u64, budget.rows());
    let batch = rows_batch(DType::Float32, &shape, &names[..fit], None, &[]).unwrap();
    let body_len = batch.body_len();
    assert!(
        (3 << 20) - 2 * 3072 - 200_000 < body_len && body_len <= 3 << 20,
        "{body_len}"
    );
}

proptest! {
    #[test]
    fn rows_are_read_by_arrow_and_can_be_put(
        (dtype, shape, bytes) in crate::get_layout::tests::tensor(),
        keys in prop::collection::vec("[a-zäö]{1,6}", 0..20),
    ) {
        let batch = rows_batch(dtype, &shape, &keys, None, &[]).unwrap();
        let data = bytes.repeat(keys.len());
        let schema = StreamSchema::Rows { dtype, shape: &shape, nullable: false, with: &[] };
        let by_arrow = read(&schema, &batch, &data);
        prop_assert_eq!(super::tests::keys(&by_arrow), &keys[..]);
        // Scalars are a primitive column; one element is a list of one.
        let rank = shape.rank() + dtype.storage_per_element() - 1;
        let nested = matches!(by_arrow.column(1).data_type(), DataType::FixedSizeList(..));
        prop_assert_eq!(nested, rank >= 1);

        let schema = schema.message().unwrap();
        let PutSchema::Bulk(put) = PutSchema::parse(&schema).unwrap() else { panic!() };
        let put = put.with_command(&PutCommand::default()).unwrap();
        prop_assert_eq!((put.dtype(), put.shape()), (Some(dtype), Some(&shape)));
        let body = Body::from(body(&batch, &data));
        let rows = put.decode(&batch.header, &body, &Dictionaries::default()).unwrap();
        prop_assert_eq!(rows.rows(), keys.len() as u64);
        let mut scratch = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let row = rows.row(i as u64).unwrap();
            prop_assert_eq!(&*row.key, key.as_str());
            prop_assert_eq!((row.dtype, &*row.shape), (dtype, &shape));
            prop_assert_eq!(rows.pieces(&row, &mut scratch).unwrap().collect::<Vec<_>>().concat(), &bytes[..]);
        }
    }

    #[test]
    fn opaque_is_read_by_arrow_and_can_be_put(
        entries in prop::collection::vec(("[a-z]{1,6}", crate::get_layout::tests::tensor()), 0..8),
        ttl in prop::collection::vec(prop::option::of(1i64..1000), 8),
    ) {
        let rows: Vec<_> = entries.iter().map(|(key, (dtype, shape, _))| OpaqueRow { key, tensor: Some((*dtype, shape)) }).collect();
        let data: Vec<u8> = entries.iter().flat_map(|(_, (_, _, bytes))| bytes.clone()).collect();
        let metadata = Metadata::new([("a".to_owned(), "b".to_owned())]).unwrap();
        let many = vec![Some(&metadata); rows.len()];
        let ttl = &ttl[..rows.len()];
        let checksums: Vec<_> = (0..rows.len() as u128).map(Some).collect();
        let with = [WithColumn::Metadata(&many), WithColumn::TtlMs(ttl), WithColumn::Checksum(&checksums)];
        let asked = [With::Metadata, With::TtlMs, With::Checksum];
        let batch = opaque_batch(&rows, false, &with).unwrap();
        let schema = StreamSchema::Opaque { nullable: false, with: &asked };
        let by_arrow = read(&schema, &batch, &data);
        let blobs = by_arrow.column_by_name("data").unwrap().as_binary::<i64>();
        let dtypes = by_arrow.column_by_name("dtype").unwrap().as_string::<i32>();
        let shapes = by_arrow.column_by_name("shape").unwrap().as_list::<i32>();

        let schema = schema.message().unwrap();
        let PutSchema::Bulk(put) = PutSchema::parse(&schema).unwrap() else { panic!() };
        let put = put.with_command(&PutCommand::default()).unwrap();
        let body: Body = body(&batch, &data).chunks(37).map(Bytes::copy_from_slice).collect();
        let decoded = put.decode(&batch.header, &body, &Dictionaries::default()).unwrap();
        let mut scratch = Vec::new();
        for (i, (key, (dtype, shape, bytes))) in entries.iter().enumerate() {
            prop_assert_eq!(blobs.value(i), &bytes[..]);
            prop_assert_eq!(dtypes.value(i), dtype.name());
            let dims = shapes.value(i);
            let dims: Vec<u64> = dims.as_primitive::<Int64Type>().values().iter().map(|d| *d as u64).collect();
            prop_assert_eq!(&dims[..], shape.dims());
            let row = decoded.row(i as u64).unwrap();
            prop_assert_eq!((&*row.key, row.dtype, &*row.shape), (key.as_str(), *dtype, shape));
            prop_assert_eq!(row.ttl_ms.map(|t| t as i64), ttl[i]);
            prop_assert_eq!(row.checksum, Some(i as u128));
            prop_assert_eq!(&row.metadata, &metadata);
            prop_assert_eq!(decoded.pieces(&row, &mut scratch).unwrap().collect::<Vec<_>>().concat(), &bytes[..]);
        }
    }

    #[test]
    fn opaque_rows_may_be_null(valid in prop::collection::vec(any::<bool>(), 1..20)) {
        let shape = Shape::new(&[3]).unwrap();
        let rows: Vec<_> = valid.iter().map(|valid| OpaqueRow { key: "k", tensor: valid.then_some((DType::Int8, &shape)) }).collect();
        let batch = opaque_batch(&rows, true, &[]).unwrap();
        let data = vec![1; 3 * valid.iter().filter(|v| **v).count()];
        let read = read(&StreamSchema::Opaque { nullable: true, with: &[] }, &batch, &data);
        for name in ["dtype", "shape", "data"] {
            let column = read.column_by_name(name).unwrap();
            prop_assert_eq!((0..valid.len()).map(|i| column.is_valid(i)).collect::<Vec<_>>(), valid.clone());
        }
    }
}
