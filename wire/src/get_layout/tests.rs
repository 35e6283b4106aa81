use arrow_array::Array;
use arrow_schema::{DataType, Schema};
use proptest::prelude::*;

use super::*;
use crate::metadata::Metadata;
use crate::put_schema::PutSchema;
use crate::schema::{StreamSchema, Tags};
use crate::testing::{Message, read_by_arrow};
use crate::version::Version;

/// Any tensor: mostly small axes, zero-length ones among them.
pub(crate) fn tensor() -> impl Strategy<Value = (DType, Shape, Vec<u8>)> {
    let dtype = prop::sample::select(DType::ALL.to_vec());
    let dims = prop_oneof![
        prop::collection::vec(0u64..6, 0..4),
        prop::collection::vec(1u64..4, 0..=8),
        (0u64..2000).prop_map(|rows| vec![rows, 3]),
    ];
    (dtype, dims, any::<u8>()).prop_map(|(dtype, dims, seed)| {
        let shape = Shape::new(&dims).unwrap();
        let len = shape.bytes(dtype).unwrap() as usize;
        let mask = if dtype == DType::Bool { 1 } else { 0xff };
        let bytes = (0..len).map(|i| (i as u8).wrapping_mul(31) ^ seed);
        let bytes = bytes.map(|byte| byte & mask).collect();
        (dtype, shape, bytes)
    })
}

/// The schema and the whole messages of a get.
fn get(
    dtype: DType,
    shape: &Shape,
    bytes: &[u8],
    layout: Layout,
    max: u64,
    metadata: &Metadata,
) -> (Bytes, Vec<Message>) {
    let tags = Tags {
        namespace: "default",
        key: "k",
        version: Version::from_parts(77, 1, 2),
        checksum: Some(0xabc),
        metadata,
    };
    let schema = StreamSchema::Tensor {
        dtype,
        shape,
        flat: layout == Layout::Flat,
        tags,
    };
    let messages = Chunks::new(dtype, shape, layout, max)
        .unwrap()
        .map(|chunk| {
            let mut body = bytes[chunk.body.start as usize..chunk.body.end as usize].to_vec();
            body.resize(chunk.body_len() as usize, 0);
            (chunk.header, Bytes::from(body))
        });
    (schema.message().unwrap(), messages.collect())
}

/// The values' bytes of a read column, whatever it is nested in.
fn leaf_bytes(column: &dyn Array) -> Vec<u8> {
    let mut data = column.to_data();
    while let [child] = data.child_data() {
        data = child.clone();
    }
    let width = data.data_type().primitive_width().unwrap();
    data.buffers()[0][data.offset() * width..][..data.len() * width].to_vec()
}

fn meta(schema: &Schema, name: &str) -> Option<String> {
    schema.metadata().get(name).cloned()
}

#[test]
fn the_schema_says_what_the_tensor_is() {
    let shape = Shape::new(&[2, 3, 4]).unwrap();
    let metadata = Metadata::new([("a".to_owned(), "ä".to_owned())]).unwrap();
    let (schema, messages) = get(
        DType::BFloat16,
        &shape,
        &[0; 48],
        Layout::Rows,
        1 << 20,
        &metadata,
    );
    let (schema, batches) = read_by_arrow(&schema, &messages);
    assert_eq!(batches[0].num_rows(), 2);
    assert_eq!(meta(&schema, "tensor.shape").unwrap(), "[2, 3, 4]");
    assert_eq!(meta(&schema, "tensor.dtype").unwrap(), "bfloat16");
    assert_eq!(meta(&schema, "tensor.namespace").unwrap(), "default");
    assert_eq!(meta(&schema, "tensor.key").unwrap(), "k");
    let version = Version::from_parts(77, 1, 2).to_string();
    assert_eq!(meta(&schema, "tensor.version").unwrap(), version);
    assert_eq!(
        meta(&schema, "tensor.checksum").unwrap(),
        format!("{:032x}", 0xabc)
    );
    assert_eq!(meta(&schema, "user.a").unwrap(), "ä");
    let field = schema.field(0);
    assert_eq!(field.name(), "tensor");
    assert!(!field.is_nullable());
    let own = field.metadata();
    assert_eq!(own["ARROW:extension:name"], "arrow.fixed_shape_tensor");
    assert_eq!(own["ARROW:extension:metadata"], r#"{"shape":[3,4]}"#);
    assert_eq!(own["tensor.dtype"], "bfloat16");
    let DataType::FixedSizeList(item, 12) = field.data_type() else {
        panic!("{field}");
    };
    assert_eq!((item.name().as_str(), item.is_nullable()), ("item", false));
    assert_eq!(item.data_type(), &DataType::UInt16);
}

#[test]
fn one_batch_of_no_rows_for_no_rows() {
    for dims in [&[0][..], &[0, 3], &[0, 0]] {
        let chunks = Chunks::new(
            DType::Int8,
            &Shape::new(dims).unwrap(),
            Layout::Rows,
            1 << 20,
        );
        let chunks: Vec<Chunk> = chunks.unwrap().collect();
        assert_eq!(chunks.len(), 1);
        assert_eq!((chunks[0].rows, chunks[0].body_len()), (0, 0));
    }
    // Rows without bytes are no reason to send many messages.
    let shape = Shape::new(&[1 << 40, 0]).unwrap();
    let chunks = Chunks::new(DType::Int8, &shape, Layout::Rows, 8).unwrap();
    assert_eq!(
        chunks.map(|chunk| chunk.rows).collect::<Vec<_>>(),
        [1 << 40]
    );
}

#[test]
fn rows_larger_than_a_message_are_sent_whole_up_to_a_limit() {
    let shape = Shape::new(&[3, 1000]).unwrap();
    let chunks = Chunks::new(DType::Float64, &shape, Layout::Rows, 1).unwrap();
    assert_eq!(
        chunks.map(|chunk| chunk.body_len()).collect::<Vec<_>>(),
        [8000; 3]
    );
    let huge = Shape::new(&[1, 1 << 28]).unwrap();
    assert!(Chunks::new(DType::Float64, &huge, Layout::Rows, 1 << 20).is_err());
    assert!(Chunks::new(DType::Float64, &huge, Layout::Flat, 1 << 20).is_ok());
    let mut most = Chunks::new(DType::Float64, &huge, Layout::Flat, u64::MAX).unwrap();
    assert!(most.all(|chunk| chunk.head(b"").is_ok()));
    let chunks = Chunks::new(DType::Float64, &Shape::scalar(), Layout::Flat, 1).unwrap();
    assert_eq!(chunks.map(|chunk| chunk.rows).sum::<u64>(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arrow_reads_it_and_it_can_be_put_as_it_is(
        (dtype, shape, bytes) in tensor(),
        layout in prop::sample::select(vec![Layout::Rows, Layout::Flat]),
        max in prop_oneof![1u64..200, Just(1u64 << 20)],
        metadata in prop::collection::btree_map("[a-z.]{1,5}", ".{0,5}", 0..3),
    ) {
        let metadata = Metadata::new(metadata).unwrap();
        let (schema, messages) = get(dtype, &shape, &bytes, layout, max, &metadata);

        // By arrow-rs.
        let (read, batches) = read_by_arrow(&schema, &messages);
        let columns = batches.iter().map(|batch| leaf_bytes(batch.column(0)));
        prop_assert_eq!(columns.collect::<Vec<_>>().concat(), &bytes[..]);
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        let chunks = Chunks::new(dtype, &shape, layout, max).unwrap();
        prop_assert_eq!(rows as u64, chunks.rows());
        let rank = shape.rank() + dtype.storage_per_element() - 1;
        let nested = matches!(read.field(0).data_type(), DataType::FixedSizeList(..));
        prop_assert_eq!(nested, rank >= 2 && layout == Layout::Rows);

        // By ourselves, as a put.
        let PutSchema::Single(put) = PutSchema::parse(&schema).unwrap() else { panic!() };
        prop_assert_eq!(put.dtype(), dtype);
        prop_assert_eq!(put.metadata(), &metadata);
        let (mut rows, mut stored) = (0, Vec::new());
        for (header, body) in &messages {
            let batch = put.check_batch(header, body.len() as u64).unwrap();
            let values = batch.values(None).unwrap();
            stored.extend_from_slice(&body[values.range.start as usize..values.range.end as usize]);
            prop_assert_eq!(values.stored_bytes, values.range.end - values.range.start);
            rows += batch.rows;
        }
        prop_assert_eq!(&stored, &bytes);
        prop_assert_eq!(put.final_shape(rows, None).unwrap(), shape);
    }

    #[test]
    fn bodies_keep_to_the_limit_and_cover_the_tensor(
        (dtype, shape, bytes) in tensor(),
        layout in prop::sample::select(vec![Layout::Rows, Layout::Flat]),
        max in 1u64..5000,
    ) {
        let mut at = 0;
        for chunk in Chunks::new(dtype, &shape, layout, max).unwrap() {
            prop_assert_eq!(chunk.body.start, at);
            at = chunk.body.end;
            prop_assert!(chunk.body_len() <= max || chunk.rows == 1);
            prop_assert_eq!(chunk.body_len() % 8, 0);
            prop_assert_eq!((chunk.head(b"").unwrap().len() - 5) % 64, if chunk.body_len() > 0 { 48 } else { (chunk.head(b"").unwrap().len() - 5) % 64 });
        }
        prop_assert_eq!(at, bytes.len() as u64);
    }
}
