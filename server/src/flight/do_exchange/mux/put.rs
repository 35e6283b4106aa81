//! A tensor that comes with its request: from the frames to where it will live.

use std::time::Duration;

use bowstring_cache::Id;
use bowstring_cache::put::{Published, Put, PutSpec};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::limits::MAX_MUX_PUT_BYTES;
use bowstring_wire::mux::MuxPut;
use bowstring_wire::shape::Shape;
use bowstring_wire::transform::check_bool;

use crate::flight::service::Service;
use crate::flight::slow::Began;

/// A put whose bytes are coming. Dropping it gives its room back.
pub struct Receiving {
    number: u32,
    put: Put,
    shape: Shape,
    is_bool: bool,
    left: u64,
    /// How long it waited for room; nothing where nobody wants to know.
    room: Duration,
}

impl Receiving {
    /// Refuses what can be refused, and takes room for `body` bytes.
    pub async fn begin(
        service: &Service,
        number: u32,
        id: Id,
        put: MuxPut,
        body: u64,
    ) -> Result<Receiving> {
        let expected = put.shape.bytes(put.dtype)?;
        if expected != body {
            return Err(Error::invalid(format!(
                "the tensor has other bytes than its shape; shape=`{}` dtype=`{}` bytes=`{body}` \
                 expected {expected}",
                put.shape, put.dtype
            )));
        }
        if body > MAX_MUX_PUT_BYTES {
            return Err(Error::exhausted(format!(
                "the tensor is too large for the mux exchange, use DoPut; bytes=`{body}` expected \
                 at most {MAX_MUX_PUT_BYTES}"
            )));
        }
        let spec = PutSpec {
            mode: put.mode,
            if_version: put.if_version,
            expires_at_ms: put
                .ttl_ms
                .map(|ttl| service.clock.now_ms().saturating_add(ttl)),
            size_bytes: Some(body),
            checksum: put.checksum,
            ..PutSpec::new(put.dtype)
        };
        let is_bool = put.dtype == DType::Bool;
        let shape = put.shape;
        let mut put = service.cache.put(id, spec)?;
        let began = Began::now(service);
        put.reserve(body).await?;
        Ok(Receiving {
            room: began.elapsed(service),
            number,
            put,
            shape,
            is_bool,
            left: body,
        })
    }

    /// How long it waited for room.
    pub fn room(&self) -> Duration {
        self.room
    }

    /// The request's number.
    pub fn id(&self) -> u32 {
        self.number
    }

    /// Takes the next bytes; true when they were the last.
    pub fn write(&mut self, piece: &[u8]) -> Result<bool> {
        if self.is_bool {
            check_bool(piece)?;
        }
        self.put.write(piece)?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(self.left == 0)
    }

    /// Makes the tensor readable.
    pub async fn publish(self) -> Result<Published> {
        self.put.publish(self.shape).await
    }
}
