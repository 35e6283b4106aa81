use std::sync::Arc;

use arrow_array::*;
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::body::Body;
use crate::bulk::Dictionaries;
use crate::descriptor::PutCommand;
use crate::error::Code;
use crate::ipc_write::{ABSENT, record_batch};
use crate::offsets::OffsetsCheck;
use crate::put_schema::PutSchema;
use crate::testing::{Message, one_column, written_by_arrow};

fn tree(field: Field) -> Tree {
    let (header, _) = written_by_arrow(&arrow_schema::Schema::new(vec![field]), &[]);
    let schema = schema(&header).unwrap();
    let mut tree = Tree::default();
    tree.push(schema.fields().unwrap().get(0)).unwrap();
    tree
}

fn refused(result: Result<Batch>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn counts_and_places_that_lie() {
    let tree = tree(Field::new("t", DataType::Int32, true));
    let one = |len, nulls| vec![Node { len, nulls }];
    let check = |rows, nodes: Vec<Node>, places: &[(u64, u64)], declared, body_len| {
        batch(
            &record_batch(rows, &nodes, places, declared),
            body_len,
            &tree,
        )
    };
    let fine = check(2, one(2, 0), &[ABSENT, (0, 8)], 8, 8).unwrap();
    assert_eq!((fine.rows, fine.buffers[1].clone()), (2, 0..8));
    for (result, says) in [
        (
            check(2, one(2, 0), &[ABSENT, (0, 8)], 16, 8),
            "shorter than its header says",
        ),
        (
            check(2, one(2, 0), &[ABSENT, (8, 8)], 8, 8),
            "outside the body",
        ),
        (
            check(2, one(2, 0), &[ABSENT, (i64::MAX as u64, 8)], 8, 8),
            "outside the body",
        ),
        (
            check(2, one(2, 0), &[ABSENT, (4, 8)], 16, 16),
            "not aligned",
        ),
        (
            check(3, one(3, 0), &[ABSENT, (0, 8)], 8, 8),
            "too short for its rows; bytes=`8` expected `12`",
        ),
        (
            check(3, one(2, 0), &[ABSENT, (0, 8)], 8, 8),
            "counts that do not fit",
        ),
        (
            check(1, one(2, 0), &[ABSENT, (0, 8)], 8, 8),
            "another length than its batch",
        ),
        (
            check(2, one(2, 3), &[(0, 1), (8, 8)], 16, 16),
            "counts that do not fit",
        ),
        (
            check(2, one(2, 1), &[ABSENT, (0, 8)], 8, 8),
            "too short for its rows; bytes=`0` expected `1`",
        ),
        (check(2, one(2, 0), &[(0, 8), (0, 8)], 8, 8), "overlaps"),
        (
            check(2, one(2, 0), &[(0, 8)], 8, 8),
            "buffers=`1` expected `2`",
        ),
        (
            check(2, vec![], &[ABSENT, (0, 8)], 8, 8),
            "nodes=`0` expected `1`",
        ),
        (
            check(
                i64::MAX as u64,
                one(i64::MAX as u64, 0),
                &[ABSENT, (0, 8)],
                8,
                8,
            ),
            "too short for its rows",
        ),
    ] {
        let refused = refused(result);
        assert!(refused.contains(says), "{refused} / {says}");
        assert!(refused.starts_with("invalid_argument: "), "{refused}");
    }
}

#[test]
fn rows_without_bytes_may_be_many() {
    let tree = tree(Field::new(
        "t",
        DataType::new_fixed_size_list(DataType::Int32, 0, true),
        true,
    ));
    let nodes = [Node::of(1 << 60), Node::of(0)];
    assert!(batch(&record_batch(1 << 60, &nodes, &[ABSENT; 3], 0), 0, &tree).is_ok());
    let tree = self::tree(Field::new(
        "t",
        DataType::new_fixed_size_list(DataType::Int32, 1 << 30, true),
        true,
    ));
    let refused = refused(batch(
        &record_batch(1 << 60, &nodes, &[ABSENT; 3], 0),
        0,
        &tree,
    ));
    assert!(refused.contains("more values than can be"), "{refused}");
}

#[test]
fn negative_counts() {
    use arrow_ipc::{Buffer, FieldNode, MessageBuilder, RecordBatchBuilder};
    let tree = tree(Field::new("t", DataType::Int32, true));
    let message = |rows: i64, node: FieldNode, place: Buffer, body_len: i64| {
        let mut fbb = flatbuffers::FlatBufferBuilder::new();
        let places = fbb.create_vector(&[Buffer::new(0, 0), place]);
        let nodes = fbb.create_vector(&[node]);
        let mut builder = RecordBatchBuilder::new(&mut fbb);
        builder.add_length(rows);
        builder.add_nodes(nodes);
        builder.add_buffers(places);
        let header = builder.finish().as_union_value();
        let mut builder = MessageBuilder::new(&mut fbb);
        builder.add_version(MetadataVersion::V5);
        builder.add_header_type(MessageHeader::RecordBatch);
        builder.add_header(header);
        builder.add_bodyLength(body_len);
        let root = builder.finish();
        fbb.finish(root, None);
        batch(fbb.finished_data(), 8, &tree)
    };
    let node = FieldNode::new(2, 0);
    assert!(message(2, node, Buffer::new(0, 8), 8).is_ok());
    for (result, says) in [
        (message(-2, node, Buffer::new(0, 8), 8), "length=`-2`"),
        (
            message(2, FieldNode::new(-1, 0), Buffer::new(0, 8), 8),
            "length of a node=`-1`",
        ),
        (
            message(2, FieldNode::new(2, -1), Buffer::new(0, 8), 8),
            "null_count=`-1`",
        ),
        (
            message(2, node, Buffer::new(-8, 8), 8),
            "offset of a buffer=`-8`",
        ),
        (
            message(2, node, Buffer::new(0, i64::MIN), 8),
            "length of a buffer",
        ),
        (message(2, node, Buffer::new(0, 8), -8), "bodyLength=`-8`"),
    ] {
        let refused = refused(result);
        assert!(refused.contains(says), "{refused} / {says}");
    }
}

#[test]
fn compression_and_other_messages_are_refused() {
    use arrow_ipc::{BodyCompressionBuilder, MessageBuilder, RecordBatchBuilder};
    let tree = tree(Field::new("t", DataType::Null, true));
    let mut fbb = flatbuffers::FlatBufferBuilder::new();
    let compression = BodyCompressionBuilder::new(&mut fbb).finish();
    let mut builder = RecordBatchBuilder::new(&mut fbb);
    builder.add_compression(compression);
    let header = builder.finish().as_union_value();
    let mut builder = MessageBuilder::new(&mut fbb);
    builder.add_version(MetadataVersion::V5);
    builder.add_header_type(MessageHeader::RecordBatch);
    builder.add_header(header);
    let root = builder.finish();
    fbb.finish(root, None);
    let refused = batch(fbb.finished_data(), 0, &tree).unwrap_err();
    assert_eq!(refused.code, Code::Unimplemented);
    assert!(refused.message.contains("compressed"), "{refused}");

    let (header, _) = written_by_arrow(&arrow_schema::Schema::empty(), &[]);
    assert!(
        batch(&header, 0, &tree)
            .unwrap_err()
            .message
            .contains("header=`Schema`")
    );
    let batch = record_batch(0, &[], &[], 0);
    assert!(
        schema(&batch)
            .unwrap_err()
            .message
            .contains("header=`RecordBatch`")
    );
    assert!(schema(b"").is_err());
    let large = vec![0; MAX_HEADER_BYTES + 1];
    assert_eq!(schema(&large).unwrap_err().code, Code::ResourceExhausted);
}

/// Puts as arrow-rs writes them, of every kind.
fn puts() -> Vec<(Bytes, Vec<Message>)> {
    let floats: Float32Array = (0..24).map(|i| i as f32).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let cells: ArrayRef = Arc::new(FixedSizeListArray::new(
        item.clone(),
        4,
        Arc::new(floats),
        None,
    ));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<types::Int32Type, _, _>(
        (0..6).map(|i| Some((0..3).map(move |j| (i + j != 4).then_some(j)))),
    ));
    let bits: ArrayRef = Arc::new(BooleanArray::from(vec![
        true, false, true, true, false, true,
    ]));
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d", "e", "f"]));
    let numbers: ArrayRef = Arc::new(Int16Array::from_iter_values(-3..3));
    let ttl: ArrayRef = Arc::new(Int64Array::from(vec![
        Some(5),
        None,
        Some(0),
        Some(-1),
        Some(9),
        Some(1),
    ]));
    let single = |array: &ArrayRef| {
        one_column(
            Field::new("t", array.data_type().clone(), true),
            array.clone(),
        )
    };
    let bulk = |key: &ArrayRef, tensor: &ArrayRef| {
        let columns = [
            ("key", key.clone(), true),
            ("tensor", tensor.clone(), true),
            ("ttl_ms", ttl.clone(), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let views: ArrayRef = Arc::new(StringViewArray::from(vec![
        "a",
        "b",
        "c",
        "d",
        "a key too long for a view",
        "f",
    ]));
    let spans = [0i32, 3, 3, 1, 6, 0].to_vec();
    let list_views: ArrayRef = Arc::new(ListViewArray::new(
        item,
        spans.into(),
        vec![2; 6].into(),
        Arc::new((0..8).map(|i| i as f32).collect::<Float32Array>()),
        None,
    ));
    let batches = [
        single(&cells),
        single(&lists),
        single(&bits),
        single(&numbers),
        bulk(&keys, &cells),
        bulk(&numbers, &lists),
        bulk(&keys, &bits),
        bulk(&views, &cells),
        bulk(&views, &list_views),
    ];
    let written = batches
        .iter()
        .map(|batch| written_by_arrow(&batch.schema(), std::slice::from_ref(batch)));
    let mut puts: Vec<_> = written.collect();
    puts.push(opaque_put());
    puts
}

/// What an opaque get with metadata returns.
fn opaque_put() -> (Bytes, Vec<Message>) {
    use crate::get_rows::{OpaqueRow, WithColumn, opaque_batch};
    use crate::schema::StreamSchema;
    let shape = crate::shape::Shape::new(&[2, 2]).unwrap();
    let metadata = crate::metadata::Metadata::new([("a".to_owned(), "b".to_owned())]).unwrap();
    let with = [
        WithColumn::Metadata(&[Some(&metadata), None]),
        WithColumn::Checksum(&[Some(1), None]),
    ];
    let asked = [crate::ticket::With::Metadata, crate::ticket::With::Checksum];
    let row = OpaqueRow {
        key: "k",
        tensor: Some((crate::dtype::DType::Bool, &shape)),
    };
    let batch = opaque_batch(&[row, row], false, &with).unwrap();
    let body = [&batch.prelude[..], &[1; 8], &batch.tail[..]].concat();
    let schema = StreamSchema::Opaque {
        nullable: false,
        with: &asked,
    };
    (schema.message().unwrap(), vec![(batch.header, body.into())])
}

/// Everything that a server does with a put; the bytes that it would store.
fn serve(schema: &[u8], header: &[u8], body: &Bytes) -> Result<u64> {
    let mut stored = 0;
    match PutSchema::parse(schema)? {
        PutSchema::Single(put) => {
            let batch = put.check_batch(header, body.len() as u64)?;
            let slice = |range: &Range<u64>| &body[range.start as usize..range.end as usize];
            let mut list = None;
            if let Some(offsets) = &batch.offsets {
                let mut check = OffsetsCheck::new(batch.rows, offsets.wide, None);
                check.push(slice(&offsets.range))?;
                list = Some(check.finish()?);
            }
            let values = batch.values(list)?;
            let sent = slice(&values.range).len() as u64;
            assert!(values.stored_bytes <= sent * 8);
            stored += values.stored_bytes;
            let len = list.and_then(|list| list.len);
            let shape = put.final_shape(batch.rows, len)?;
            assert_eq!(shape.bytes(put.dtype())?, values.stored_bytes);
        }
        PutSchema::Bulk(put) => {
            let put = put.with_command(&PutCommand::default())?;
            let body: Body = body.chunks(50).map(Bytes::copy_from_slice).collect();
            let batch = put.decode(header, &body, &Dictionaries::default())?;
            let mut scratch = Vec::new();
            // Rows may be many where they have no bytes; the last ones are looked at too.
            let rows = batch.rows();
            for row in (0..rows.min(20)).chain(rows.saturating_sub(3)..rows) {
                let Ok(row) = batch.row(row) else { continue };
                assert!(row.data.end <= body.len());
                let Ok(pieces) = batch.pieces(&row, &mut scratch) else {
                    continue;
                };
                let bytes: usize = pieces.map(<[u8]>::len).sum();
                assert_eq!(row.shape.bytes(row.dtype)?, bytes as u64);
                stored += bytes as u64;
            }
        }
    }
    Ok(stored)
}

#[test]
fn valid_puts_are_served() {
    for (i, (schema, messages)) in puts().iter().enumerate() {
        let (header, body) = &messages[0];
        let stored = serve(schema, header, body);
        // The lists have a null.
        assert_eq!(stored.is_ok(), i != 1, "{i} {stored:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn damaged_puts_are_refused_or_served_and_never_panic(
        which in any::<Index>(),
        damage in prop::collection::vec((0u8..3, any::<Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0x7f), Just(0x80), Just(0)]), 1..6),
        cut in prop::option::of(any::<Index>()),
    ) {
        let puts = puts();
        let (schema, messages) = &puts[which.index(puts.len())];
        let mut parts = [schema.to_vec(), messages[0].0.to_vec(), messages[0].1.to_vec()];
        for (part, at, to) in damage {
            let part = &mut parts[usize::from(part)];
            if !part.is_empty() {
                let at = at.index(part.len());
                part[at] = to;
            }
        }
        if let Some(cut) = cut {
            let part = &mut parts[cut.index(3)];
            part.truncate(cut.index(part.len() + 1));
        }
        let [schema, header, body] = parts;
        let _ = serve(&schema, &header, &Bytes::from(body));
    }

    #[test]
    fn headers_of_one_put_with_the_body_of_another(a in any::<Index>(), b in any::<Index>(), c in any::<Index>()) {
        let puts = puts();
        let [a, b, c] = [a, b, c].map(|i| &puts[i.index(puts.len())]);
        let _ = serve(&a.0, &b.1[0].0, &c.1[0].1);
    }

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PutSchema::parse(&bytes);
        for (schema, messages) in puts() {
            let _ = serve(&schema, &bytes, &messages[0].1);
        }
    }

    #[test]
    fn any_counts_and_places(
        rows in numbers(), nodes in prop::collection::vec((numbers(), numbers()), 2), places in prop::collection::vec((numbers(), numbers()), 3),
        body_len in numbers(),
    ) {
        let nodes: Vec<Node> = nodes.into_iter().map(|(len, nulls)| Node { len, nulls }).collect();
        let header = record_batch(rows, &nodes, &places, body_len);
        let tree = tree(Field::new("t", DataType::new_fixed_size_list(DataType::Int32, 2, true), true));
        if let Ok(batch) = batch(&header, 64, &tree) {
            prop_assert!(batch.buffers.iter().all(|range| range.start <= range.end && range.end <= 64));
            prop_assert!(batch.rows * 8 <= batch.buffers[2].end - batch.buffers[2].start);
        }
    }
}

/// Small ones, and those around which sums and products wrap.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..10,
        2 => (0u64..10).prop_map(|n| 8 * n),
        1 => (0u64..4).prop_map(|n| i64::MAX as u64 - n),
        1 => (0u32..63).prop_map(|n| 1 << n),
    ]
}
