//! Golden vectors of puts, `proto-notes/vectors/{put,bulk}`: Arrow streams as PyArrow writes them,
//! read by our codec. The lists say what must be stored, or with which code it is refused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bowstring_wire::body::Body;
use bowstring_wire::bulk::{BulkReader, Dictionaries, Held};
use bowstring_wire::column::Transform;
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::Result;
use bowstring_wire::offsets::{ListSpan, OffsetsCheck};
use bowstring_wire::put_schema::PutSchema;
use bowstring_wire::single::SingleSchema;
use bowstring_wire::transform::{BitUnpacker, check_bool, normalise_bool8};
use bytes::Bytes;
use serde_json::Value;

/// A message's header and body.
type Message = (Bytes, Body);

#[test]
fn single_puts_of_pyarrow() {
    let entries = list("put.json");
    assert!(entries.len() > 100);
    for entry in &entries {
        let (schema, batches) = messages(text(entry, "file"));
        let read = PutSchema::parse(&schema).and_then(|schema| match schema {
            PutSchema::Single(schema) => single(&schema, &batches),
            PutSchema::Bulk(_) => panic!("{entry}: several columns"),
        });
        match (read, entry.get("code")) {
            (Ok(tensor), None) => assert_eq!(tensor, expected(entry), "{}", text(entry, "file")),
            (Err(error), Some(code)) => assert_eq!(error.code.as_str(), code, "{entry}: {error}"),
            (Ok(_), Some(_)) => panic!("{entry} was not refused"),
            (Err(error), None) => panic!("{entry}: {error}"),
        }
    }
}

#[test]
fn bulk_puts_of_pyarrow() {
    let entries = list("bulk.json");
    assert!(entries.len() > 20);
    for entry in &entries {
        let (schema, batches) = messages(text(entry, "file"));
        let command = PutCommand::parse_cmd(entry["command"].to_string().as_bytes()).unwrap();
        let Ok(PutSchema::Bulk(schema)) = PutSchema::parse(&schema) else {
            panic!("{entry}: one column");
        };
        let reader = schema.with_command(&command).unwrap();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for row in entry["rows"].as_array().unwrap() {
            match row.get("code").and_then(Value::as_str) {
                Some(code) => bad.push((row["row"].as_u64().unwrap(), code.to_owned())),
                None => good.push((text(row, "key").to_owned(), expected(row))),
            }
        }
        assert_eq!(
            bulk(&reader, &batches),
            (good, bad),
            "{}",
            text(entry, "file")
        );
    }
}

/// What is stored: dtype, shape and bytes.
type Tensor = (String, Vec<u64>, Vec<u8>);

fn expected(entry: &Value) -> Tensor {
    let dims = entry["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dim| dim.as_u64().unwrap());
    (
        text(entry, "dtype").to_owned(),
        dims.collect(),
        unhex(text(entry, "data")),
    )
}

/// A put of one tensor, as a server does it, but with each body at once.
fn single(schema: &SingleSchema, batches: &[Message]) -> Result<Tensor> {
    let column = schema.column();
    let (mut data, mut rows, mut len) = (Vec::new(), 0, None);
    for (header, body) in batches {
        let batch = schema.check_batch(header, body.len())?;
        rows += batch.rows;
        let mut list: Option<ListSpan> = None;
        if let Some(offsets) = &batch.offsets {
            let mut check = OffsetsCheck::new(batch.rows, offsets.wide, len);
            body.slices(offsets.range.clone())
                .try_for_each(|slice| check.push(slice))?;
            let span = check.finish()?;
            len = span.len.or(len);
            list = Some(span);
        }
        let values = batch.values(list)?;
        let at = data.len();
        if column.transform == Transform::UnpackBits {
            let mut bits = BitUnpacker::new(values.first_bit, values.count);
            body.slices(values.range)
                .for_each(|slice| bits.push(slice, &mut data));
        } else {
            body.slices(values.range)
                .for_each(|slice| data.extend_from_slice(slice));
        }
        match column.transform {
            Transform::NormaliseBool8 => normalise_bool8(&mut data[at..]),
            Transform::CheckBool => check_bool(&data[at..])?,
            Transform::Plain | Transform::UnpackBits => {}
        }
        assert_eq!((data.len() - at) as u64, values.stored_bytes);
    }
    if let Some(permute) = schema.permute()? {
        for cell in data.chunks_exact_mut(permute.cell_bytes().max(1)) {
            let physical = cell.to_vec();
            assert!(permute.apply(&physical, cell));
        }
    }
    let shape = schema.final_shape(rows, len)?;
    assert_eq!(shape.bytes(schema.dtype())?, data.len() as u64);
    Ok((
        schema.dtype().name().to_owned(),
        shape.dims().to_vec(),
        data,
    ))
}

/// The rows of a bulk put, and those that are refused.
/// Stored tensors by key, and the codes of rows that were refused.
type Outcome = (Vec<(String, Tensor)>, Vec<(u64, String)>);

fn bulk(reader: &BulkReader, batches: &[Message]) -> Outcome {
    let (mut stored, mut refused, mut before) = (Vec::new(), Vec::new(), 0);
    let mut scratch = Vec::new();
    let mut known = Dictionaries::default();
    for (header, body) in batches {
        let held = |_| -> Result<Held> { Ok(Arc::new(())) };
        if reader.dictionary(&mut known, header, body, held).unwrap() {
            continue;
        }
        let batch = reader.decode(header, body, &known).unwrap();
        for at in 0..batch.rows() {
            let tensor = batch.row(at).and_then(|row| {
                let pieces = batch.pieces(&row, &mut scratch)?;
                let data = pieces.flatten().copied().collect();
                let tensor = (row.dtype.name().to_owned(), row.shape.dims().to_vec(), data);
                Ok((row.key.into_owned(), tensor))
            });
            match tensor {
                Ok(row) => stored.push(row),
                Err(error) => refused.push((before + at, error.code.as_str().to_owned())),
            }
        }
        before += batch.rows();
    }
    (stored, refused)
}

/// The schema's header and the batches of an Arrow stream, each body in pieces of 7 bytes.
fn messages(file: &str) -> (Bytes, Vec<Message>) {
    let mut stream = Bytes::from(fs::read(vectors().join(file)).unwrap());
    let mut messages = Vec::new();
    loop {
        assert_eq!(stream.split_to(4)[..], [0xff; 4], "{file}");
        let len = u32::from_le_bytes(stream.split_to(4)[..].try_into().unwrap());
        if len == 0 {
            break;
        }
        let header = stream.split_to(usize::try_from(len).unwrap());
        let body_len = arrow_ipc::root_as_message(&header).unwrap().bodyLength();
        let mut bytes = stream.split_to(usize::try_from(body_len).unwrap());
        let mut body = Body::new();
        while !bytes.is_empty() {
            body.push(bytes.split_to(bytes.len().min(7)));
        }
        messages.push((header, body));
    }
    (messages.remove(0).0, messages)
}

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto-notes/vectors")
}

fn list(file: &str) -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(vectors().join(file)).unwrap()).unwrap()
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} of {entry}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}
