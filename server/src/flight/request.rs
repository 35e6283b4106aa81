//! Unary requests: the protobuf message in the body.

use bowstring_wire::error::{Error, Result};
use bowstring_wire::limits::MAX_JSON_BYTES;
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
