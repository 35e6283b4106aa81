//! DoGet of one tensor: its bytes go from the socket to where the caller wants them.

use std::ops::Range;

use arrow_ipc::{Message as IpcMessage, root_as_message};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::message::Message;
use crate::protobuf;
use crate::transport::Transport;

pub(crate) const PATH: &str = "/arrow.flight.protocol.FlightService/DoGet";

/// What a get says about its tensor before the first of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The element type.
    pub dtype: DType,
    /// The logical shape; of the rows asked for, where the ticket named a range.
    pub shape: Shape,
    /// Bytes of the tensor in C order: what the destination must hold.
    pub bytes: usize,
    /// The entry's version.
    pub version: Option<Version>,
    /// xxh3-128 of the bytes; absent where only rows were asked for.
    pub checksum: Option<u128>,
    /// The entry's own metadata, without its prefix `user.`, in the server's order.
    pub metadata: Vec<(String, String)>,
}

/// Sends the whole request: one message, a `Ticket`.
pub(crate) fn request(to: &mut Transport, ticket: &[u8]) -> Result<()> {
    let mut head = Vec::with_capacity(16);
    protobuf::put_length(&mut head, 1, ticket.len());
    let message = protobuf::grpc_prefix(head.len() + ticket.len())?;
    // A server that has already ended the call says why, below.
    to.send(&[&message, &head, ticket], true).map(drop)
}

/// Receives one tensor into what `place` gives for it; `None` where the response ended before a schema came.
///
/// The bool says whether every byte came. How the call ended is still to be asked of `from`.
pub(crate) fn receive<'a>(
    from: &mut Transport,
    message: &mut Message,
    place: impl FnOnce(&Tensor) -> Result<&'a mut [u8]>,
) -> Result<Option<(Tensor, bool)>> {
    if !message.next(from)? {
        return Ok(None);
    }
    let tensor = Tensor::parse(&message.data_header)?;
    message.end(from)?;
    let mut rest = place(&tensor)?;
    if rest.len() != tensor.bytes {
        return Err(Error::invalid(format!(
            "the destination does not fit the tensor, destination_bytes=`{}`, tensor_bytes=`{}`",
            rest.len(),
            tensor.bytes
        )));
    }
    let element = tensor.dtype.size() / tensor.dtype.storage_per_element();
    while message.next(from)? {
        let body = message.body_left();
        let values = values(&message.data_header, element, body)?;
        let Some((piece, after)) = rest.split_at_mut_checked(values.len()) else {
            return Err(malformed("it sends more bytes than the shape says"));
        };
        message.skip_body(from, values.start)?;
        message.read_body(from, piece)?;
        message.end(from)?;
        rest = after;
    }
    Ok(Some((tensor, rest.is_empty())))
}

impl Tensor {
    fn parse(header: &[u8]) -> Result<Tensor> {
        let schema = ipc(header)?
            .header_as_schema()
            .ok_or_else(|| malformed("its first message is no schema"))?;
        if schema.fields().is_none_or(|fields| fields.len() != 1) {
            return Err(Error::invalid(
                "the ticket asks for several columns, expected one tensor: a `key`, and no layout `opaque`",
            ));
        }
        let mut dtype = None;
        let mut shape = None;
        let mut version = None;
        let mut checksum = None;
        let mut metadata = Vec::new();
        for pair in schema.custom_metadata().iter().flatten() {
            let (name, value) = (
                pair.key().unwrap_or_default(),
                pair.value().unwrap_or_default(),
            );
            match name {
                "tensor.dtype" => dtype = Some(DType::parse(value)?),
                "tensor.shape" => shape = Some(parse_shape(value)?),
                "tensor.version" => version = Some(Version::parse(value)?),
                "tensor.checksum" => checksum = u128::from_str_radix(value, 16).ok(),
                _ => {
                    if let Some(name) = name.strip_prefix("user.") {
                        metadata.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
        }
        let (Some(dtype), Some(shape)) = (dtype, shape) else {
            return Err(malformed(
                "its schema lacks `tensor.dtype` or `tensor.shape`",
            ));
        };
        let bytes = usize::try_from(shape.bytes(dtype)?).map_err(|_| {
            Error::exhausted(format!(
                "the tensor is larger than this machine's memory, shape=`{shape}`"
            ))
        })?;
        Ok(Tensor {
            dtype,
            shape,
            bytes,
            version,
            checksum,
            metadata,
        })
    }
}

/// Where the tensor's bytes lie in a batch's body. The values are the last buffer and the last node counts them,
/// in a primitive column as in a fixed-size list.
fn values(header: &[u8], element: usize, body: usize) -> Result<Range<usize>> {
    let batch = ipc(header)?
        .header_as_record_batch()
        .ok_or_else(|| malformed("a message is no record batch"))?;
    if batch.compression().is_some() {
        return Err(Error::unimplemented(
            "the server sent a compressed batch, which nobody asked for",
        ));
    }
    let node = batch
        .nodes()
        .and_then(|nodes| nodes.iter().next_back().copied());
    let buffer = batch
        .buffers()
        .and_then(|buffers| buffers.iter().next_back().copied());
    let range = node.zip(buffer).and_then(|(node, buffer)| {
        let length = usize::try_from(node.length()).ok()?.checked_mul(element)?;
        let start = usize::try_from(buffer.offset()).ok()?;
        let end = start.checked_add(length)?;
        let held = usize::try_from(buffer.length()).ok()?;
        (length <= held && end <= body).then_some(start..end)
    });
    range.ok_or_else(|| malformed("a batch's values do not lie in its body"))
}

fn ipc(header: &[u8]) -> Result<IpcMessage<'_>> {
    root_as_message(header).map_err(|_| malformed("an IPC header does not verify"))
}

/// `[2, 3]`, as the server writes it.
fn parse_shape(text: &str) -> Result<Shape> {
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let dims = inner.map(str::trim).and_then(|inner| match inner {
        "" => Some(Vec::new()),
        list => list
            .split(',')
            .map(|dim| dim.trim().parse().ok())
            .collect::<Option<Vec<u64>>>(),
    });
    Shape::new(&dims.ok_or_else(|| malformed("`tensor.shape` is no array of numbers"))?)
}

fn malformed(what: &str) -> Error {
    Error::new(
        Code::Internal,
        format!("the server's stream is malformed: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(parse_shape("[]").unwrap(), Shape::scalar());
        assert_eq!(parse_shape("[2, 3]").unwrap().dims(), [2, 3]);
        assert_eq!(parse_shape("[2,0]").unwrap().dims(), [2, 0]);
        for text in ["", "2", "[2", "[-1]", "[1,]", "[a]"] {
            assert!(parse_shape(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_of_rubbish_is_an_error() {
        for length in 0..64 {
            assert!(Tensor::parse(&vec![length; usize::from(length)]).is_err());
            assert!(values(&vec![length; usize::from(length)], 4, 100).is_err());
        }
    }
}
