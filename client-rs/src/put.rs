//! DoPut of one tensor: its bytes go from the caller's buffer to the socket.

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::encode_head_into;
use bowstring_wire::get_layout::Chunks;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::put_result::PutReply;
use bowstring_wire::schema::{StreamSchema, Tags};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::Layout;
use bowstring_wire::version::Version;
use bytes::BytesMut;

use crate::protobuf;
use crate::transport::Transport;

pub(crate) const PATH: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// The body of one message, at most: what the server reserves room for at once.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
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

/// Sends the whole request: the schema with the descriptor, then the bytes as batches of one
/// primitive column, which may be split anywhere; `tensor.shape` gives the shape. Ends early where
/// the server has ended the call.
pub(crate) fn send(
    to: &mut Transport,
    descriptor: Descriptor<'_>,
    dtype: DType,
    shape: &Shape,
    bytes: &[u8],
) -> Result<()> {
    // What a get returns can be put: name and version are ignored, the descriptor has the name.
    let schema = StreamSchema::Tensor {
        dtype,
        shape,
        flat: true,
        tags: Tags {
            namespace: "",
            key: "",
            version: Version::from_parts(0, 0, 0),
            checksum: None,
            metadata: &Metadata::default(),
        },
    };
    let mut head = BytesMut::new();
    encode_head_into(&mut head, &descriptor.encode(), &schema.message()?, &[], 0)?;
    if !to.send(&[&head], false)? {
        return Ok(());
    }
    let mut rest = bytes;
    for chunk in Chunks::new(dtype, shape, Layout::Flat, MESSAGE_BYTES_MAX)? {
        let head = chunk.head(&[])?;
        let (body, after) = rest.split_at(length(chunk.body.end - chunk.body.start)?);
        let padding = &[0; 8][..length(chunk.padding)?];
        rest = after;
        if !to.send(&[&head, body, padding], rest.is_empty())? {
            break;
        }
    }
    Ok(())
}

fn length(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::invalid("a tensor larger than memory"))
}

/// Receives the last PutResult; `None` where the response ended before one came.
pub(crate) fn receive(from: &mut Transport) -> Result<Option<PutReply>> {
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
        let json = protobuf::find_bytes(&message, 1).unwrap_or_default();
        result = Some(PutReply::parse(json)?);
    }
    Ok(result)
}

impl Descriptor<'_> {
    /// As a protobuf `FlightDescriptor`.
    pub(crate) fn encode(self) -> Vec<u8> {
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
