//! Requests as protobuf: the one message of a unary call, the descriptor of a stream.

use arrow_flight::FlightDescriptor;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::limits::MAX_JSON_BYTES;
use bytes::Bytes;
use prost::Message;

use super::service::Call;

/// What protobuf may add around a JSON body of the largest size.
const OVERHEAD_BYTES: usize = 1024;

impl Call<'_> {
    /// The request's one message. There is room for it as long as the call lasts.
    pub async fn message<M: Message + Default>(&mut self) -> Result<M> {
        let Self { body, room, .. } = self;
        let hold = |bytes: usize| room.hold(bytes as u64);
        let bytes = body.unary(MAX_JSON_BYTES + OVERHEAD_BYTES, hold).await?;
        M::decode(bytes).map_err(|error| {
            Error::invalid(format!(
                "the request is not the message that Flight.proto names; {error}"
            ))
        })
    }
}

/// The descriptor of a stream's first message.
pub fn descriptor(bytes: Bytes) -> Result<FlightDescriptor> {
    FlightDescriptor::decode(bytes)
        .map_err(|error| Error::invalid(format!("the descriptor is no protobuf message; {error}")))
}
