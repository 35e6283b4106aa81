//! One connection to one server.

use std::time::Duration;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::shape::Shape;

use crate::address::Address;
use crate::get::{self, Tensor};
use crate::message::Message;
use crate::put::{self, Descriptor};
use crate::transport::Transport;

/// Settings of a connection.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long any single wait for the server may take, connecting included; without it, for ever.
    /// When it passes, the call fails with `deadline_exceeded` and the connection cannot be used any more.
    pub timeout: Option<Duration>,
}

/// One connection, for one call at a time.
pub struct Connection {
    transport: Transport,
    message: Message,
}

impl Connection {
    /// Connects with the default options.
    ///
    /// # Errors
    /// `unavailable` where nobody listens, or what listens does not speak HTTP/2.
    pub fn connect(address: &Address) -> Result<Connection> {
        Connection::connect_with(address, &Options::default())
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::connect`], and `deadline_exceeded`.
    pub fn connect_with(address: &Address, options: &Options) -> Result<Connection> {
        let transport = Transport::connect(address, options.timeout)?;
        Ok(Connection {
            transport,
            message: Message::default(),
        })
    }

    /// Whether the connection can take another call. After `unavailable` it usually cannot: connect anew.
    pub fn is_open(&self) -> bool {
        self.transport.is_open()
    }

    /// Gets one tensor into `buffer`, which is made as long as the tensor. A buffer that already has that length is filled
    /// in place and nothing is allocated or cleared.
    ///
    /// # Errors
    /// As [`Connection::get_with`]; what `buffer` holds after one is undefined.
    pub fn get_into(&mut self, ticket: &[u8], buffer: &mut Vec<u8>) -> Result<Tensor> {
        self.get_with(ticket, move |tensor| {
            buffer.resize(tensor.bytes, 0);
            Ok(buffer.as_mut_slice())
        })
    }

    /// Gets one tensor into the place that `place` chooses once dtype and shape are known; it must have exactly
    /// [`Tensor::bytes`] bytes. An error of `place` gives the get up and leaves the connection usable.
    ///
    /// # Errors
    /// What the server says, by its code; `invalid_argument` where the ticket is not one of a single tensor, or the
    /// place has another size; `unavailable` where the connection broke.
    pub fn get_with<'a>(
        &mut self,
        ticket: &[u8],
        place: impl FnOnce(&Tensor) -> Result<&'a mut [u8]>,
    ) -> Result<Tensor> {
        self.transport.begin(get::PATH)?;
        let result = get::request(&mut self.transport, ticket)
            .and_then(|()| get::receive(&mut self.transport, &mut self.message, place));
        match self.settle(result)? {
            Some((tensor, true)) => Ok(tensor),
            Some((tensor, false)) => Err(Error::new(
                Code::DataLoss,
                format!(
                    "the stream ended before the tensor did, shape=`{}`",
                    tensor.shape
                ),
            )),
            None => Err(Error::internal("the stream ended without a schema")),
        }
    }

    /// Puts one tensor, `bytes` in C order, straight from the slice. Returns the `app_metadata` of the server's PutResult, a JSON object.
    ///
    /// # Errors
    /// What the server says, by its code; `invalid_argument` where `bytes` does not fit dtype and shape.
    pub fn put(
        &mut self,
        descriptor: Descriptor<'_>,
        dtype: DType,
        shape: &Shape,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        put::check(dtype, shape, bytes)?;
        self.transport.begin(put::PATH)?;
        let result = put::send(&mut self.transport, descriptor, dtype, shape, bytes)
            .and_then(|()| put::receive(&mut self.transport));
        self.settle(result)?
            .ok_or_else(|| Error::internal("the stream ended without a result"))
    }

    /// Ends the call. What the server says about it comes before what we made of its stream.
    fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        match result {
            Ok(value) => self.transport.finish().map(|()| value),
            Err(error) if self.transport.has_ended() => self.transport.finish().and(Err(error)),
            Err(error) if self.transport.is_open() => self.transport.cancel().and(Err(error)),
            Err(error) => Err(error),
        }
    }
}
