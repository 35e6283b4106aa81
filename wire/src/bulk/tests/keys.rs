//! Keys that are views, and those of dictionaries.

use arrow_array::types::ArrowDictionaryKeyType;
use arrow_ipc::writer::DictionaryHandling;

use super::*;
use crate::testing::written_with;

/// Key, shape and bytes of each row of a stream, its dictionaries taken as they come.
fn streamed(reader: &BulkReader, messages: &[(Bytes, Bytes)]) -> Vec<Result<Row, String>> {
    let mut known = Dictionaries::default();
    let mut found = Vec::new();
    for (header, body) in messages {
        let body: Body = body.chunks(21).map(Bytes::copy_from_slice).collect();
        let held = |_| -> Result<Held> { Ok(Arc::new(())) };
        if !reader.dictionary(&mut known, header, &body, held).unwrap() {
            found.extend(rows_of(reader, header, &body, &known));
        }
    }
    found
}

fn words<K: ArrowDictionaryKeyType>(values: ArrayRef, indices: PrimitiveArray<K>) -> ArrayRef {
    Arc::new(DictionaryArray::new(indices, values))
}

#[test]
fn keys_are_views_and_come_from_dictionaries_of_every_kind() {
    let long = "a key that is too long for a view to hold";
    let names = vec![Some("ä"), Some(long), None, Some("d")];
    let plain: ArrayRef = Arc::new(StringArray::from(names.clone()));
    let kinds: [(&str, ArrayRef); 8] = [
        ("view", Arc::new(StringViewArray::from(names.clone()))),
        (
            "int8",
            words(plain.clone(), Int8Array::from(vec![0, 1, 2, 3])),
        ),
        (
            "uint8",
            words(plain.clone(), UInt8Array::from(vec![0, 1, 2, 3])),
        ),
        (
            "int16",
            words(plain.clone(), Int16Array::from(vec![0, 1, 2, 3])),
        ),
        (
            "uint32",
            words(plain.clone(), UInt32Array::from(vec![0, 1, 2, 3])),
        ),
        (
            "int64",
            words(
                plain.clone(),
                Int64Array::from(vec![Some(0), Some(1), None, Some(3)]),
            ),
        ),
        (
            "uint64 of large",
            words(
                Arc::new(LargeStringArray::from(names.clone())),
                UInt64Array::from(vec![0, 1, 2, 3]),
            ),
        ),
        (
            "uint16 of views",
            words(
                Arc::new(StringViewArray::from(names)),
                UInt16Array::from(vec![0, 1, 2, 3]),
            ),
        ),
    ];
    for (kind, keys) in kinds {
        let batch = batch(vec![("key", keys), cells(4, 1)]);
        let reader = reader(&batch, "{}").unwrap();
        let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(&batch));
        let found = streamed(&reader, &messages);
        let keys: Vec<_> = found
            .iter()
            .map(|row| row.as_ref().map(|row| row.0.as_str()))
            .collect();
        assert_eq!(
            (keys[0], keys[1], keys[3]),
            (Ok("ä"), Ok(long), Ok("d")),
            "{kind}"
        );
        assert!(keys[2].unwrap_err().contains("key is null"), "{kind}");
    }
}

#[test]
fn a_dictionary_is_replaced_and_added_to() {
    let word = |values: &[&str], at: &[i8]| {
        let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let keys = words(values, Int8Array::from(at.to_vec()));
        batch(vec![("key", keys), cells(at.len(), 1)])
    };
    let batches = [
        word(&["a", "b"], &[0, 1]),
        word(&["a", "b", "c"], &[2, 0]),
        word(&["x"], &[0]),
    ];
    for handling in [DictionaryHandling::Delta, DictionaryHandling::Resend] {
        let messages = written_with(handling, &batches);
        let reader = reader(&batches[0], "{}").unwrap();
        let found = streamed(&reader, &messages);
        let keys: Vec<_> = found.into_iter().map(|row| row.unwrap().0).collect();
        assert_eq!(keys, ["a", "b", "c", "a", "x"], "{handling:?}");
        // Without the first one, what is added is added to nothing; an index points nowhere.
        let late = &messages[1..];
        let mut known = Dictionaries::default();
        let body = Body::from(late[0].1.clone());
        let batch = reader.decode(&late[0].0, &body, &known).unwrap();
        let told = batch.row(0).unwrap_err().to_string();
        assert!(told.contains("index=`0` expected less than `0`"), "{told}");
        if handling == DictionaryHandling::Delta {
            let (header, body) = &late[1];
            let body = Body::from(body.clone());
            let held = |_| -> Result<Held> { Ok(Arc::new(())) };
            let told = reader.dictionary(&mut known, header, &body, held);
            let told = told.unwrap_err().to_string();
            assert!(told.contains("added to before it came"), "{told}");
        }
    }
}

#[test]
fn views_and_indices_that_lie_are_their_rows_errors() {
    let long = "a key that is too long for a view to hold";
    let names = StringViewArray::from(vec![long, long, "c"]);
    let plain = batch(vec![("key", Arc::new(names)), cells(3, 1)]);
    let reader_of_views = reader(&plain, "{}").unwrap();
    let (_, messages) = written_by_arrow(&plain.schema(), std::slice::from_ref(&plain));
    let (header, body) = &messages[0];
    let places = ipc_check::batch(header, body.len() as u64, &reader_of_views.tree).unwrap();
    let at = places.buffers[1].start as usize;
    for (lie, part) in [
        (-1i32, 0),
        (i32::MAX, 0),
        (7, 8),
        (-1, 8),
        (i32::MAX, 12),
        (-5, 12),
    ] {
        let mut body = body.to_vec();
        body[at + part..at + part + 4].copy_from_slice(&lie.to_le_bytes());
        let body = Body::from(Bytes::from(body));
        let found = rows_of(&reader_of_views, header, &body, &Dictionaries::default());
        let told = found[0].as_ref().unwrap_err();
        assert!(told.contains("points outside"), "{told}");
        assert_eq!(found[2].as_ref().unwrap().0, "c");
    }

    let values: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let keys = words(values, Int32Array::from(vec![0, 0]));
    let plain = batch(vec![("key", keys), cells(2, 1)]);
    let reader_of_words = reader(&plain, "{}").unwrap();
    let (_, mut messages) = written_by_arrow(&plain.schema(), std::slice::from_ref(&plain));
    let (header, body) = messages.pop().unwrap();
    let places = ipc_check::batch(&header, body.len() as u64, &reader_of_words.tree).unwrap();
    let at = places.buffers[1].start as usize;
    for lie in [1i32, -1, i32::MIN, i32::MAX] {
        let mut body = body.to_vec();
        body[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        let mut messages = messages.clone();
        messages.push((header.clone(), body.into()));
        let found = streamed(&reader_of_words, &messages);
        let told = found[0].as_ref().unwrap_err();
        assert!(told.contains("outside its dictionary"), "{told}");
        assert_eq!(found[1].as_ref().unwrap().0, "a");
    }
}

/// The metadata of each row, as JSON, or its error.
fn metadata(batch: &RecordBatch) -> Vec<Result<String, String>> {
    let reader = reader(batch, r#"{"extra_columns": "metadata"}"#).unwrap();
    let (_, messages) = written_by_arrow(&batch.schema(), std::slice::from_ref(batch));
    let mut known = Dictionaries::default();
    for (header, body) in &messages {
        let body = Body::from(body.clone());
        let held = |_| -> Result<Held> { Ok(Arc::new(())) };
        if !reader.dictionary(&mut known, header, &body, held).unwrap() {
            let decoded = reader.decode(header, &body, &known).unwrap();
            let row = |at| decoded.row(at).map(|row| row.metadata.encode());
            let text = |at| row(at).map(|json| String::from_utf8(json).unwrap());
            let rows = (0..decoded.rows()).map(|at| text(at).map_err(|error| error.to_string()));
            return rows.collect();
        }
    }
    panic!("no batch came")
}

#[test]
fn extra_columns_become_metadata_as_text() {
    let words = ["de", "en"]
        .into_iter()
        .collect::<DictionaryArray<Int32Type>>();
    let extra: [(&str, ArrayRef); 8] = [
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("float", Arc::new(Float32Array::from(vec![0.1, 1e20]))),
        (
            "half",
            Arc::new(Float16Array::from(vec![half::f16::ONE, half::f16::NAN])),
        ),
        ("int", Arc::new(Int16Array::from(vec![Some(-7), None]))),
        ("lang", Arc::new(words)),
        ("large", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("none", Arc::new(NullArray::new(2))),
        (
            "wide",
            Arc::new(Float64Array::from(vec![1.0, f64::NEG_INFINITY])),
        ),
    ];
    let columns = [keys(&["a", "b"]), cells(2, 1)].into_iter().chain(extra);
    let found = metadata(&batch(columns.collect()));
    let first = concat!(
        r#"{"bool":"true","float":"0.1","half":"1.0","int":"-7","lang":"de","#,
        r#""large":"18446744073709551615","wide":"1.0"}"#
    );
    assert_eq!(found[0].as_deref(), Ok(first));
    let second = r#"{"float":"1e20","half":"NaN","lang":"en","large":"0","wide":"-inf"}"#;
    assert_eq!(found[1].as_deref(), Ok(second));
}

#[test]
fn extra_columns_that_cannot_be_metadata_are_refused_by_name() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    for (columns, says) in [
        (vec![("when", dates)], "column=`when`"),
        (vec![("w", text.clone()), ("w", text.clone())], "column=`w`"),
    ] {
        let columns = [keys(&["a"]), cells(1, 1)].into_iter().chain(columns);
        let told = refused(
            &batch(columns.collect()),
            r#"{"extra_columns": "metadata"}"#,
        );
        assert_eq!(told.code, Code::InvalidArgument);
        assert!(told.message.contains(says), "{told}");
    }
    // One name in a row's own metadata and a column's name.
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("w");
    maps.values().append_value("v");
    maps.append(true).unwrap();
    let columns = vec![
        keys(&["a"]),
        cells(1, 1),
        ("w", text),
        ("metadata", Arc::new(maps.finish())),
    ];
    let found = metadata(&batch(columns));
    assert!(found[0].as_ref().unwrap_err().contains('w'), "{found:?}");
}
