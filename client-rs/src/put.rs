//! DoPut of one tensor: its bytes go from the caller's buffer to the socket.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{Field, Schema};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::encode_head_into;
use bowstring_wire::shape::Shape;
use bytes::BytesMut;

use crate::protobuf;
use crate::transport::Transport;

pub(crate) const PATH: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// The body of one message, at most: what the server reserves room for at once.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A PutResult, at most.
const RESULT_BYTES_MAX: usize = 16 << 20;

/// Names what is put.
#[derive(Clone, Copy, Debug)]
pub enum Descriptor<'a> {
    /// `[key]` or `[namespace, key]`.
    Path(&'a [&'a str]),
    /// A JSON object: `{"namespace", "key", "mode", …}`.
    Command(&'a [u8]),
}

/// Refuses a buffer that does not fit its description.
pub(crate) fn check(dtype: DType, shape: &Shape, bytes: &[u8]) -> Result<()> {
    let expected = shape.bytes(dtype)?;
    if expected == bytes.len() as u64 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the buffer does not fit the tensor, buffer_bytes=`{}`, expected_bytes=`{expected}`, dtype=`{dtype}`, shape=`{shape}`",
        bytes.len()
    )))
}

/// Sends the whole request: the schema with the descriptor, then the bytes as batches of one primitive column, which may be
/// split anywhere; `tensor.shape` gives the shape. Ends early where the server has ended the call.
pub(crate) fn send(
    to: &mut Transport,
    descriptor: Descriptor<'_>,
    dtype: DType,
    shape: &Shape,
    bytes: &[u8],
) -> Result<()> {
    let schema = schema_of(dtype, &[("tensor.shape", shape.to_string())]);
    let mut head = BytesMut::new();
    encode_head_into(&mut head, &descriptor.encode(), &schema, &[], 0)?;
    if !to.send(&[&head], bytes.is_empty())? {
        return Ok(());
    }
    let element = dtype.size() / dtype.storage_per_element();
    let mut rest = bytes;
    while !rest.is_empty() {
        // Whole elements, and a multiple of 8 so that only the last body needs padding.
        let (body, after) = rest.split_at(rest.len().min(MESSAGE_BYTES_MAX));
        let padded = body.len().next_multiple_of(8);
        let header = batch(body.len() / element, body.len(), padded)?;
        head.clear();
        encode_head_into(&mut head, &[], &header, &[], padded as u64)?;
        if !to.send(
            &[&head, body, &[0; 8][..padded - body.len()]],
            after.is_empty(),
        )? {
            return Ok(());
        }
        rest = after;
    }
    Ok(())
}

/// Receives the last PutResult's `app_metadata`; `None` where the response ended before one came.
pub(crate) fn receive(from: &mut Transport) -> Result<Option<Vec<u8>>> {
    let mut result = None;
    let mut prefix = [0; 5];
    while from.read(&mut prefix)? == prefix.len() {
        let [compressed, length @ ..] = prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 || length > RESULT_BYTES_MAX {
            return Err(Error::internal(
                "the server's result is compressed or too long",
            ));
        }
        let mut message = vec![0; length];
        if from.read(&mut message)? < length {
            break;
        }
        result = Some(
            protobuf::find_bytes(&message, 1)
                .unwrap_or_default()
                .to_vec(),
        );
    }
    Ok(result)
}

impl Descriptor<'_> {
    /// As a protobuf `FlightDescriptor`.
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Descriptor::Path(path) => {
                protobuf::put_number(&mut out, 1, 1);
                for part in path {
                    protobuf::put_bytes(&mut out, 3, part.as_bytes());
                }
            }
            Descriptor::Command(json) => {
                protobuf::put_number(&mut out, 1, 2);
                protobuf::put_bytes(&mut out, 2, json);
            }
        }
        out
    }
}

/// The schema message: one primitive column of the storage's elements.
pub(crate) fn schema_of(dtype: DType, metadata: &[(&str, String)]) -> Vec<u8> {
    let mut field = Field::new("tensor", dtype.storage(), false);
    if !dtype.is_native() {
        field = field.with_metadata(HashMap::from([(
            "tensor.dtype".to_owned(),
            dtype.name().to_owned(),
        )]));
    }
    let metadata = metadata
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let schema = Schema::new_with_metadata(vec![Arc::new(field)], metadata);
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    IpcDataGenerator::default()
        .schema_to_bytes_with_dictionary_tracker(&schema, &mut tracker, &options)
        .ipc_message
}

/// The header of a batch of `rows` elements whose values fill the first `used` of `padded` body bytes.
pub(crate) fn batch(rows: usize, used: usize, padded: usize) -> Result<Vec<u8>> {
    let number =
        |value: usize| i64::try_from(value).map_err(|_| Error::invalid("a batch is too long"));
    let (rows, used, padded) = (number(rows)?, number(used)?, number(padded)?);
    let mut builder = flatbuffers::FlatBufferBuilder::with_capacity(256);
    let nodes = builder.create_vector(&[arrow_ipc::FieldNode::new(rows, 0)]);
    let buffers = builder.create_vector(&[
        arrow_ipc::Buffer::new(0, 0),
        arrow_ipc::Buffer::new(0, used),
    ]);
    let mut batch = arrow_ipc::RecordBatchBuilder::new(&mut builder);
    batch.add_length(rows);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    let batch = batch.finish().as_union_value();
    let mut message = arrow_ipc::MessageBuilder::new(&mut builder);
    message.add_version(arrow_ipc::MetadataVersion::V5);
    message.add_header_type(arrow_ipc::MessageHeader::RecordBatch);
    message.add_header(batch);
    message.add_bodyLength(padded);
    let message = message.finish();
    builder.finish(message, None);
    Ok(builder.finished_data().to_vec())
}
