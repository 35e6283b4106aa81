//! One DoPut: batches out, one answer back. A batch's bytes go to the connection from where they lie.

use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, PutResult, SchemaAsIpc};
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_schema::{ArrowError, Schema};
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::flight_data::encode_head_into;
use bowstring_wire::put_result::PutReply;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;

use crate::Error;
use crate::client::{Client, refused};

/// Bytes of a message's body, where rows allow.
pub const MESSAGE_BYTES: usize = 2 << 20;
/// Pieces of a message that are shorter go together in one frame.
const FRAME_BYTES: usize = 16 << 10;

/// Puts what `batches` gives, which all have this schema.
pub async fn put(
    client: &mut Client,
    command: &PutCommand,
    schema: &Schema,
    batches: impl Stream<Item = RecordBatch> + Send + 'static,
) -> Result<PutReply, Error> {
    let first = begin(command, schema).map_err(|error| WireError::internal(error.to_string()))?;
    let encoder = StreamEncoder::try_new(schema);
    let mut encoder = encoder.map_err(|error| WireError::invalid(error.to_string()))?;
    // Its first message says the schema again.
    let begun = encoder.encode(&RecordBatch::new_empty(schema.clone().into()));
    begun.map_err(|error| WireError::invalid(error.to_string()))?;
    let frames = batches.flat_map(move |batch| {
        let frames = message(&mut encoder, &batch);
        let frames = frames.map_err(|error| Status::invalid_argument(error.to_string()));
        futures::stream::iter(match frames {
            Ok(frames) => frames.into_iter().map(Ok).collect(),
            Err(status) => vec![Err(status)],
        })
    });
    let frames = futures::stream::iter([Ok(first)]).chain(frames);
    let body = Body::new(StreamBody::new(frames.map(|bytes| bytes.map(Frame::data))));
    let channel = WithBody {
        channel: client.channel.clone(),
        body: Some(body),
    };
    let mut flight = FlightServiceClient::new(channel);
    let answer = flight.do_put(futures::stream::empty()).await;
    let mut answers = answer.map_err(refused)?.into_inner();
    let mut last: Option<PutResult> = None;
    while let Some(result) = answers.message().await.map_err(refused)? {
        last = Some(result);
    }
    let last =
        last.ok_or_else(|| WireError::internal("the server answered nothing; verb=`DoPut`"))?;
    Ok(PutReply::parse(&last.app_metadata)?)
}

/// A channel whose next request has this body instead of its own: tonic's would copy each message into one buffer.
struct WithBody {
    channel: Channel,
    body: Option<Body>,
}

impl Service<http::Request<Body>> for WithBody {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let body = self.body.take();
        let request = request.map(|own| body.unwrap_or(own));
        Service::call(&mut self.channel, request)
    }
}

/// The schema, and what is to be done.
fn begin(command: &PutCommand, schema: &Schema) -> Result<Bytes, WireError> {
    let options = IpcWriteOptions::default();
    let schema = arrow_flight::FlightData::from(SchemaAsIpc::new(schema, &options));
    let descriptor = FlightDescriptor::new_cmd(command.to_json()).encode_to_vec();
    let mut head = BytesMut::new();
    encode_head_into(&mut head, &descriptor, &schema.data_header, &[], 0)?;
    Ok(head.freeze())
}

/// A batch as a message, in the frames that it goes in; the long ones are the batch's own buffers.
fn message(encoder: &mut StreamEncoder, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
    let mut pieces = encoder.encode(batch)?.into_iter();
    // The marker of a stream's message and its length: Flight has others.
    let marker = pieces.next().unwrap_or_default();
    let length = marker.get(4..8).and_then(|length| length.try_into().ok());
    let length = length.map_or(0, u32::from_le_bytes);
    let mut header = Vec::new();
    while header.len() < usize::try_from(length).unwrap_or(usize::MAX) {
        let piece = pieces.next();
        let piece = piece.ok_or_else(|| ArrowError::IpcError("a message is cut off".to_owned()))?;
        header.extend_from_slice(&piece);
    }
    let body: Vec<Buffer> = pieces.collect();
    let bytes = body.iter().map(|piece| piece.len() as u64).sum();
    let mut small = BytesMut::new();
    encode_head_into(&mut small, &[], &header, &[], bytes)
        .map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
    let mut frames = Vec::new();
    for piece in body {
        if piece.len() < FRAME_BYTES {
            small.extend_from_slice(&piece);
            continue;
        }
        end_small(&mut small, &mut frames);
        frames.push(Bytes::from_owner(Owned(piece)));
    }
    end_small(&mut small, &mut frames);
    Ok(frames)
}

/// Puts what is small in a frame, together with the end of the long one before it: servers close connections on which come many frames of next to nothing.
fn end_small(small: &mut BytesMut, frames: &mut Vec<Bytes>) {
    if small.is_empty() {
        return;
    }
    if let Some(last) = frames.last_mut()
        && small.len() < FRAME_BYTES
    {
        let end = last.split_off(last.len().saturating_sub(FRAME_BYTES / 2));
        let mut joined = BytesMut::from(end);
        joined.extend_from_slice(small);
        *small = joined;
    }
    frames.push(small.split().freeze());
}

/// A buffer as [`Bytes`] wants its owners.
struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A batch in pieces of at most [`MESSAGE_BYTES`], or of one row; they share its buffers.
pub fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let bytes = slice_bytes(batch);
    if bytes <= MESSAGE_BYTES || rows < 2 {
        return vec![batch.clone()];
    }
    // All about as long: a short last one costs as much as a long one.
    let step = rows.div_ceil(bytes.div_ceil(MESSAGE_BYTES)).max(1);
    let starts = (0..rows).step_by(step);
    starts
        .map(|start| batch.slice(start, step.min(rows - start)))
        .collect()
}

/// Bytes of its rows, roughly.
pub fn slice_bytes(batch: &RecordBatch) -> usize {
    let column = |column: &arrow_array::ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size()
            .unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(column).sum()
}
