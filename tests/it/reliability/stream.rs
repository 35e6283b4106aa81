//! Puts as streams of `FlightData`, field by field.

use std::fs;
use std::path::PathBuf;

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use bowstring_wire::dtype::DType;
use bowstring_wire::get_layout::Chunks;
use bowstring_wire::get_rows::{OpaqueRow, opaque_batch, rows_batch};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::schema::{StreamSchema, Tags};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::Layout;
use bowstring_wire::version::Version;
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::raw::prefixed;

/// One message; an empty field is left out.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub descriptor: Vec<u8>,
    pub header: Vec<u8>,
    pub app_metadata: Vec<u8>,
    pub body: Vec<u8>,
}

/// One put.
#[derive(Clone, Debug)]
pub struct PutStream {
    /// Where it is from.
    pub name: String,
    /// Members that its command must have beside names.
    pub command: Value,
    /// One tensor, or a tensor a row.
    pub single: bool,
    /// Schema and batches, without a descriptor.
    pub messages: Vec<Message>,
}

/// Field numbers of `FlightData`.
pub mod field {
    pub const DESCRIPTOR: u64 = 1;
    pub const HEADER: u64 = 2;
    pub const APP_METADATA: u64 = 3;
    pub const BODY: u64 = 1000;
}

impl Message {
    pub fn new(header: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self {
            header: header.as_ref().to_vec(),
            body: body.as_ref().to_vec(),
            ..Self::default()
        }
    }

    /// Its fields in the order in which writers send them.
    pub fn fields(&self) -> Vec<(u64, &[u8])> {
        let all = [
            (field::DESCRIPTOR, &self.descriptor[..]),
            (field::HEADER, &self.header),
            (field::APP_METADATA, &self.app_metadata),
            (field::BODY, &self.body),
        ];
        all.into_iter()
            .filter(|(_, bytes)| !bytes.is_empty())
            .collect()
    }

    /// As protobuf, behind gRPC's prefix.
    pub fn encode(&self) -> Vec<u8> {
        prefixed(&encode_fields(&self.fields()))
    }
}

impl PutStream {
    /// The messages with a descriptor on the first.
    pub fn with(&self, descriptor: &FlightDescriptor) -> Vec<Message> {
        let mut messages = self.messages.clone();
        if let Some(first) = messages.first_mut() {
            first.descriptor = descriptor.encode_to_vec();
        }
        messages
    }

    /// A descriptor for this put: of one tensor by its key, of many by the namespace.
    pub fn descriptor(&self, namespace: &str, key: &str) -> FlightDescriptor {
        let mut command = self.command.clone();
        command["namespace"] = namespace.into();
        if self.single {
            command["key"] = key.into();
        }
        by_command(&command.to_string())
    }
}

/// Fields as protobuf, in this order.
pub fn encode_fields(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in fields {
        put_varint(&mut out, number << 3 | 2);
        put_varint(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
    out
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub fn by_path<S: Into<String>>(path: impl IntoIterator<Item = S>) -> FlightDescriptor {
    FlightDescriptor {
        r#type: DescriptorType::Path.into(),
        cmd: Bytes::new(),
        path: path.into_iter().map(Into::into).collect(),
    }
}

pub fn by_command(json: &str) -> FlightDescriptor {
    FlightDescriptor {
        r#type: DescriptorType::Cmd.into(),
        cmd: Bytes::copy_from_slice(json.as_bytes()),
        path: Vec::new(),
    }
}

/// What PyArrow wrote, as the golden vectors keep it: every type and form that a put may have, and
/// some that it may not.
pub fn by_pyarrow() -> Vec<PutStream> {
    let mut streams = Vec::new();
    for (list, single) in [("put.json", true), ("bulk.json", false)] {
        for entry in read_list(list) {
            let file = entry["file"].as_str().expect("a file").to_owned();
            let command = match &entry["command"] {
                Value::Object(members) => Value::Object(members.clone()),
                _ => Value::Object(serde_json::Map::new()),
            };
            streams.push(PutStream {
                messages: messages_of(&file),
                name: file,
                command,
                single,
            });
        }
    }
    streams
}

/// What our own codec writes: one tensor in several batches, rows of one shape, rows of any.
pub fn by_us() -> Vec<PutStream> {
    let bytes: Vec<u8> = (0..300_000u32).map(|at| at.to_le_bytes()[1]).collect();
    vec![
        tensor_stream("large", DType::UInt8, &[300, 1000], &bytes, 64 << 10),
        tensor_stream("small", DType::Float32, &[3, 5], &bytes[..60], 1 << 20),
        tensor_stream("flags", DType::Bool, &[7], &[1, 0, 1, 1, 0, 0, 1], 1 << 20),
        tensor_stream("scalar", DType::Complex64, &[], &bytes[..8], 1 << 20),
        tensor_stream("empty", DType::Int16, &[0, 4], &[], 1 << 20),
        rows_stream(&bytes),
        opaque_stream(&bytes),
    ]
}

/// A put of one tensor as a get returns it, in messages of at most `message_bytes`.
pub fn tensor_stream(
    name: &str,
    dtype: DType,
    dims: &[u64],
    bytes: &[u8],
    message_bytes: u64,
) -> PutStream {
    let shape = Shape::new(dims).expect("a shape");
    let schema = StreamSchema::Tensor {
        dtype,
        shape: &shape,
        flat: false,
        tags: Tags {
            namespace: "n",
            key: "k",
            version: Version::from_parts(1, 2, 3),
            checksum: None,
            metadata: &Metadata::new([("model".to_owned(), "m".to_owned())]).expect("metadata"),
        },
    };
    let mut messages = vec![Message::new(schema.message().expect("a schema"), [])];
    let at = |offset: u64| usize::try_from(offset).expect("a small tensor");
    for chunk in Chunks::new(dtype, &shape, Layout::Rows, message_bytes).expect("batches") {
        let mut body = bytes[at(chunk.body.start)..at(chunk.body.end)].to_vec();
        body.resize(body.len() + at(chunk.padding), 0);
        messages.push(Message::new(&chunk.header, body));
    }
    PutStream {
        name: format!("ours/{name}"),
        command: serde_json::json!({}),
        single: true,
        messages,
    }
}

fn rows_stream(bytes: &[u8]) -> PutStream {
    let shape = Shape::new(&[2, 8]).expect("a shape");
    let schema = StreamSchema::Rows {
        dtype: DType::Float16,
        shape: &shape,
        nullable: false,
        with: &[],
    };
    let mut messages = vec![Message::new(schema.message().expect("a schema"), [])];
    for batch in 0..3 {
        let keys: Vec<String> = (0..20).map(|row| format!("row-{batch}-{row}")).collect();
        let batch = rows_batch(DType::Float16, &shape, &keys, None, &[]).expect("a batch");
        let body = [&batch.prelude, &bytes[..20 * 32], &batch.tail].concat();
        messages.push(Message::new(&batch.header, body));
    }
    PutStream {
        name: "ours/rows".to_owned(),
        command: serde_json::json!({}),
        single: false,
        messages,
    }
}

fn opaque_stream(bytes: &[u8]) -> PutStream {
    let schema = StreamSchema::Opaque {
        nullable: false,
        with: &[],
    };
    let shapes = [&[4, 4][..], &[], &[0], &[3, 1, 2]];
    let shapes: Vec<Shape> = shapes
        .iter()
        .map(|dims| Shape::new(dims).expect("a shape"))
        .collect();
    let dtypes = [DType::UInt8, DType::Float64, DType::Int32, DType::BFloat16];
    let mut messages = vec![Message::new(schema.message().expect("a schema"), [])];
    for batch in 0..3 {
        let keys: Vec<String> = (0..4).map(|row| format!("opaque-{batch}-{row}")).collect();
        let rows: Vec<OpaqueRow<'_>> = keys
            .iter()
            .zip(dtypes.iter().zip(&shapes))
            .map(|(key, (dtype, shape))| OpaqueRow {
                key,
                tensor: Some((*dtype, shape)),
            })
            .collect();
        let batch = opaque_batch(&rows, false, &[]).expect("a batch");
        let data = usize::try_from(batch.data_len).expect("small tensors");
        let body = [&batch.prelude, &bytes[..data], &batch.tail].concat();
        messages.push(Message::new(&batch.header, body));
    }
    PutStream {
        name: "ours/opaque".to_owned(),
        command: serde_json::json!({}),
        single: false,
        messages,
    }
}

/// Schema and batches of an Arrow stream in a file.
fn messages_of(file: &str) -> Vec<Message> {
    let stream = fs::read(vectors().join(file)).expect("a golden vector");
    let mut rest = &stream[..];
    let mut messages = Vec::new();
    while let Some((marker, after)) = rest.split_first_chunk::<8>() {
        let [.., a, b, c, d] = *marker;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).expect("a length");
        if length == 0 {
            break;
        }
        let (header, after) = after.split_at(length);
        let message = arrow_ipc::root_as_message(header).expect("a golden vector");
        let body = usize::try_from(message.bodyLength()).expect("a length");
        let (body, after) = after.split_at(body);
        messages.push(Message::new(header, body));
        rest = after;
    }
    messages
}

/// A list of golden vectors, or what is accepted of one that has both.
pub fn read_list(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(vectors().join(file)).expect("golden vectors");
    match serde_json::from_str(&text).expect("JSON") {
        Value::Array(list) => list,
        Value::Object(mut lists) => match lists.remove("accepted") {
            Some(Value::Array(list)) => list,
            other => panic!("no list in {file}: {other:?}"),
        },
        other => panic!("no list in {file}: {other:?}"),
    }
}

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto-notes/vectors")
}
