//! For tests: Arrow streams as arrow-rs writes and reads them, taken apart into messages.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message_with_opts;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;

use crate::schema::encapsulate;

/// A message's header and body.
pub type Message = (Bytes, Bytes);

/// What arrow-rs writes for `batches`: the schema, then one message a batch, and those of the
/// dictionaries before them.
pub fn written_by_arrow(schema: &Schema, batches: &[RecordBatch]) -> (Bytes, Vec<Message>) {
    written(schema, batches, IpcWriteOptions::default())
}

/// As [`written_by_arrow`], without the schema, where dictionaries change.
pub fn written_with(handling: DictionaryHandling, batches: &[RecordBatch]) -> Vec<Message> {
    let options = IpcWriteOptions::default().with_dictionary_handling(handling);
    written(&batches[0].schema(), batches, options).1
}

fn written(
    schema: &Schema,
    batches: &[RecordBatch],
    options: IpcWriteOptions,
) -> (Bytes, Vec<Message>) {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options).unwrap();
    batches
        .iter()
        .for_each(|batch| writer.write(batch).unwrap());
    let mut stream = Bytes::from(writer.into_inner().unwrap());
    let mut messages = Vec::new();
    while stream.len() > 8 {
        assert_eq!(stream.split_to(4)[..], [0xff; 4]);
        let len = u32::from_le_bytes(stream.split_to(4)[..].try_into().unwrap());
        if len == 0 {
            break;
        }
        let header = stream.split_to(len as usize);
        let deep = flatbuffers::VerifierOptions {
            max_depth: 200,
            ..Default::default()
        };
        let message = root_as_message_with_opts(&deep, &header).unwrap();
        let body_len = message.bodyLength();
        let body = stream.split_to(body_len as usize);
        messages.push((header, body));
    }
    (messages.remove(0).0, messages)
}

/// What arrow-rs reads out of our messages, with every array validated.
pub fn read_by_arrow(schema: &Bytes, batches: &[Message]) -> (SchemaRef, Vec<RecordBatch>) {
    let mut stream = encapsulate(schema).to_vec();
    for (header, body) in batches {
        stream.extend_from_slice(&encapsulate(header));
        stream.extend_from_slice(body);
    }
    stream.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let reader = StreamReader::try_new(&stream[..], None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    for column in batches.iter().flat_map(RecordBatch::columns) {
        column.to_data().validate_full().unwrap();
    }
    (schema, batches)
}

/// One batch of one column `name`.
pub fn one_column(field: arrow_schema::Field, values: arrow_array::ArrayRef) -> RecordBatch {
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values]).unwrap()
}
