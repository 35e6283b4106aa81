//! Messages of unary and streaming replies, each behind gRPC's prefix.

use bowstring_wire::error::{Error, Result};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::out::Failure;
use crate::grpc::{Chunk, Responder};

/// Sends one message.
pub async fn send(respond: &mut Responder, message: &impl Message) -> Result<(), Failure> {
    let framed = frame(message)?;
    Ok(respond.data(Chunk::from(framed)).await?)
}

/// A message behind gRPC's prefix.
pub fn frame(message: &impl Message) -> Result<Bytes> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length)
        .map_err(|_| Error::internal(format!("a reply is too large for gRPC; bytes=`{length}`")))?;
    let mut framed = BytesMut::with_capacity(5 + length);
    framed.put_u8(0);
    framed.put_u32(prefix);
    message.encode_raw(&mut framed);
    Ok(framed.freeze())
}
