use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::*;
use arrow_schema::{DataType, Field};

use super::*;
use crate::dtype::DType;
use crate::error::Code;
use crate::extension::{METADATA_KEY, NAME_KEY};
use crate::put_schema::PutSchema;
use crate::testing::written_by_arrow;

mod keys;
mod tensors;

/// Key, shape and bytes.
type Row = (String, Vec<u64>, Vec<u8>);
type Column = (&'static str, ArrayRef);

fn batch(columns: Vec<Column>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn keys(names: &[&str]) -> Column {
    ("key", Arc::new(StringArray::from(names.to_vec())))
}

fn cells(rows: usize, size: i32) -> Column {
    let values: Float32Array = (0..rows * size as usize).map(|i| i as f32).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    (
        "tensor",
        Arc::new(FixedSizeListArray::new(item, size, Arc::new(values), None)),
    )
}

fn command(json: &str) -> PutCommand {
    PutCommand::parse_cmd(json.as_bytes()).unwrap()
}

fn reader(batch: &RecordBatch, json: &str) -> Result<BulkReader> {
    let (schema, _) = written_by_arrow(&batch.schema(), &[]);
    match PutSchema::parse(&schema).unwrap() {
        PutSchema::Bulk(bulk) => bulk.with_command(&command(json)),
        PutSchema::Single(_) => panic!("several columns are a bulk put"),
    }
}

/// Key, shape and bytes of each row, or its error.
fn rows(reader: &BulkReader, batch: &RecordBatch) -> Vec<Result<Row, String>> {
    let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(batch));
    let (header, body) = &messages[0];
    let body: Body = body.chunks(21).map(Bytes::copy_from_slice).collect();
    rows_of(reader, header, &body, &Dictionaries::default())
}

fn rows_of(
    reader: &BulkReader,
    header: &[u8],
    body: &Body,
    known: &Dictionaries,
) -> Vec<Result<Row, String>> {
    let decoded = reader.decode(header, body, known).unwrap();
    let mut scratch = Vec::new();
    let mut row = |i| {
        let row = decoded.row(i)?;
        let bytes = decoded
            .pieces(&row, &mut scratch)?
            .collect::<Vec<_>>()
            .concat();
        Ok((row.key.into_owned(), row.shape.dims().to_vec(), bytes))
    };
    let rows = (0..decoded.rows()).map(|i| row(i).map_err(|error: Error| error.to_string()));
    rows.collect()
}

fn refused(batch: &RecordBatch, json: &str) -> Error {
    reader(batch, json).err().unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn rows_of_cells_by_key() {
    let batch = batch(vec![keys(&["a", "ä", "c"]), cells(3, 2)]);
    let reader = reader(&batch, "{}").unwrap();
    assert_eq!(reader.dtype(), Some(DType::Float32));
    let rows = rows(&reader, &batch.slice(1, 2));
    assert_eq!(rows[0], Ok(("ä".to_owned(), vec![2], floats(&[2.0, 3.0]))));
    assert_eq!(rows[1], Ok(("c".to_owned(), vec![2], floats(&[4.0, 5.0]))));
}

#[test]
fn keys_of_every_kind() {
    let hex = FixedSizeBinaryArray::try_from_iter([[0xabu8, 1], [0, 0xff]].into_iter()).unwrap();
    for (array, wanted) in [
        (
            Arc::new(LargeStringArray::from(vec!["x", "y"])) as ArrayRef,
            ["x", "y"],
        ),
        (Arc::new(Int8Array::from(vec![-128, 7])), ["-128", "7"]),
        (
            Arc::new(Int64Array::from(vec![i64::MIN, -1])),
            ["-9223372036854775808", "-1"],
        ),
        (Arc::new(UInt16Array::from(vec![65535, 0])), ["65535", "0"]),
        (
            Arc::new(UInt64Array::from(vec![u64::MAX, 1])),
            ["18446744073709551615", "1"],
        ),
        (Arc::new(hex), ["ab01", "00ff"]),
    ] {
        let batch = batch(vec![("key", array), cells(2, 1)]);
        let rows = rows(&reader(&batch, "{}").unwrap(), &batch);
        let found: Vec<String> = rows.into_iter().map(|row| row.unwrap().0).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_bad_row_does_not_lose_the_others() {
    let long = "x".repeat(1025);
    let names = vec![
        Some("a"),
        None,
        Some(""),
        Some(&*long),
        Some("e\0"),
        Some("f"),
    ];
    let batch = batch(vec![
        ("key", Arc::new(StringArray::from(names))),
        cells(6, 1),
    ]);
    let rows = rows(&reader(&batch, "{}").unwrap(), &batch);
    let errors: Vec<_> = rows
        .iter()
        .map(|row| row.as_ref().err().map_or("", String::as_str))
        .collect();
    assert_eq!((errors[0], errors[5]), ("", ""));
    for (row, says) in [
        (1, "key is null"),
        (2, "key is empty"),
        (3, "key is too long"),
        (4, "key has a NUL"),
    ] {
        assert!(errors[row].contains(says), "{}", errors[row]);
    }
}

#[test]
fn null_tensors_and_null_values_are_their_rows_errors() {
    let rows_of =
        |lists| FixedSizeListArray::from_iter_primitive::<Int32Type, Vec<Option<i32>>, _>(lists, 2);
    let lists = rows_of(vec![
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![Some(3), None]),
        Some(vec![Some(5), Some(6)]),
    ]);
    let batch = batch(vec![
        keys(&["a", "b", "c", "d"]),
        ("tensor", Arc::new(lists)),
    ]);
    let rows = rows(&reader(&batch, "{}").unwrap(), &batch);
    let fine: Vec<bool> = rows.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, false, true]);
    assert!(rows[1].as_ref().unwrap_err().contains("null"), "{rows:?}");
    let bytes: Vec<u8> = [5i32, 6].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(rows[3].as_ref().unwrap().2, bytes);
}

#[test]
fn lists_take_the_length_of_the_first_valid_one_for_the_whole_put() {
    let lists = |lengths: &[Option<usize>]| {
        let rows = lengths
            .iter()
            .map(|len| len.map(|len| (0..len).map(|i| Some(i as f32))));
        ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| row.map(Vec::from_iter)))
    };
    let first = batch(vec![
        keys(&["a", "b", "c"]),
        ("tensor", Arc::new(lists(&[None, Some(2), Some(3)]))),
    ]);
    let second = batch(vec![
        keys(&["d", "e"]),
        ("tensor", Arc::new(lists(&[Some(3), Some(2)]))),
    ]);
    let reader = reader(&first, "{}").unwrap();
    assert_eq!(reader.shape(), None);
    let found = rows(&reader, &first);
    assert!(found[0].as_ref().unwrap_err().contains("null"));
    assert_eq!(found[1], Ok(("b".to_owned(), vec![2], floats(&[0.0, 1.0]))));
    assert!(
        found[2]
            .as_ref()
            .unwrap_err()
            .contains("length=`3` expected `2`"),
        "{found:?}"
    );
    let found = rows(&reader, &second);
    assert!(found[0].is_err() && found[1].is_ok());
}

#[test]
fn scalars_bits_and_permuted_cells() {
    let bits = BooleanArray::from(vec![true, false, true, true, false, true]);
    let scalars = batch(vec![
        keys(&["a", "b", "c", "d", "e", "f"]),
        ("tensor", Arc::new(bits.clone())),
    ]);
    let found = rows(&reader(&scalars, "{}").unwrap(), &scalars);
    assert_eq!(found[3], Ok(("d".to_owned(), vec![], vec![1])));
    assert_eq!(found[4], Ok(("e".to_owned(), vec![], vec![0])));

    let item = Arc::new(Field::new("item", DataType::Boolean, true));
    let triples = FixedSizeListArray::new(item, 3, Arc::new(bits), None);
    let triples = batch(vec![keys(&["a", "b"]), ("tensor", Arc::new(triples))]);
    let found = rows(&reader(&triples, "{}").unwrap(), &triples);
    assert_eq!(found[1], Ok(("b".to_owned(), vec![3], vec![1, 0, 1])));

    let (_, array) = cells(2, 6);
    let field = Field::new("tensor", array.data_type().clone(), true).with_metadata(
        [
            (NAME_KEY, "arrow.fixed_shape_tensor"),
            (METADATA_KEY, r#"{"shape":[2,3],"permutation":[1,0]}"#),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
    );
    let key = Field::new("key", DataType::Utf8, true);
    let schema = Arc::new(arrow_schema::Schema::new(vec![key, field]));
    let batch = RecordBatch::try_new(schema, vec![keys(&["a", "b"]).1, array]).unwrap();
    let found = rows(&reader(&batch, "{}").unwrap(), &batch);
    let wanted = floats(&[6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    assert_eq!(found[1], Ok(("b".to_owned(), vec![3, 2], wanted)));
}

#[test]
fn time_to_live_and_metadata() {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("n");
    maps.values().append_value("v");
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    maps.append(true).unwrap();
    let maps: ArrayRef = Arc::new(maps.finish());
    let ttl: ArrayRef = Arc::new(Int64Array::from(vec![Some(1000), None, Some(-1)]));
    let batch = batch(vec![
        cells(3, 1),
        ("metadata", maps),
        keys(&["a", "b", "c"]),
        ("ttl_ms", ttl),
    ]);
    let reader = reader(&batch, "{}").unwrap();
    let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(&batch));
    let body = Body::from(messages[0].1.clone());
    let decoded = reader
        .decode(&messages[0].0, &body, &Dictionaries::default())
        .unwrap();
    let first = decoded.row(0).unwrap();
    assert_eq!(
        (first.ttl_ms, first.metadata.get("n")),
        (Some(1000), Some("v"))
    );
    let second = decoded.row(1).unwrap();
    assert_eq!((second.ttl_ms, second.metadata.is_empty()), (None, true));
    let third = decoded.row(2).unwrap_err().to_string();
    assert!(third.contains("ttl_ms=`-1`"), "{third}");
    assert_eq!(decoded.key(2).unwrap(), "c");
    assert_eq!(decoded.row(3).unwrap_err().code, Code::Internal);
}

#[test]
fn columns_are_found_renamed_and_refused_by_name() {
    let extra: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let words = batch(vec![("word", extra.clone()), ("vector", cells(1, 2).1)]);
    assert!(
        reader(
            &words,
            r#"{"key_column": "word", "tensor_column": "vector"}"#
        )
        .is_ok()
    );
    let told = refused(&words, "{}").to_string();
    assert!(
        told.contains("expected column=`key` beside `vector`, `word`"),
        "{told}"
    );

    let more = batch(vec![
        keys(&["a"]),
        cells(1, 2),
        ("lang", extra.clone()),
        ("x", extra.clone()),
    ]);
    let told = refused(&more, "{}").to_string();
    assert!(
        told.starts_with("invalid_argument: ") && told.contains("columns=`lang`, `x`"),
        "{told}"
    );
    let ignoring = reader(&more, r#"{"extra_columns": "ignore"}"#).unwrap();
    assert!(rows(&ignoring, &more)[0].is_ok());
    assert!(
        reader(
            &batch(vec![keys(&["a"]), cells(1, 2)]),
            r#"{"dtype": "float32"}"#
        )
        .is_ok()
    );

    let dictionary: ArrayRef = Arc::new(["a"].into_iter().collect::<DictionaryArray<Int32Type>>());
    for columns in [
        vec![keys(&["a"]), ("tensor", dictionary)],
        vec![
            ("key", Arc::new(Float32Array::from(vec![1.0])) as ArrayRef),
            cells(1, 1),
        ],
        vec![
            (
                "key",
                Arc::new(DictionaryArray::new(
                    Int8Array::from(vec![0]),
                    Arc::new(Int64Array::from(vec![7])),
                )),
            ),
            cells(1, 1),
        ],
        vec![keys(&["a"]), cells(1, 1), ("ttl_ms", extra.clone())],
        vec![keys(&["a"]), cells(1, 1), ("metadata", extra)],
        vec![keys(&["a"]), cells(1, 1), keys(&["b"])],
        vec![
            ("key", new_null_array(&DataType::FixedSizeBinary(0), 1)),
            cells(1, 1),
        ],
    ] {
        let told = refused(&batch(columns), "{}");
        assert_eq!(told.code, Code::InvalidArgument, "{told}");
    }
}

#[test]
fn a_batch_whose_offsets_lie_is_refused_whole() {
    let batch = batch(vec![keys(&["a", "b"]), cells(2, 1)]);
    let reader = reader(&batch, "{}").unwrap();
    let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(&batch));
    let (header, body) = &messages[0];
    let places = ipc_check::batch(header, body.len() as u64, &reader.tree).unwrap();
    for lie in [-1i32, 3, i32::MAX] {
        let mut body = body.to_vec();
        let at = places.buffers[1].start as usize + 4;
        body[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        let body = Body::from(Bytes::from(body));
        let told = reader
            .decode(header, &body, &Dictionaries::default())
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("offsets that descend or lie outside"),
            "{told}"
        );
    }
}
