//! Many small requests over one stream: the `mux` exchange.
//!
//! A get is one message each way, without Arrow and without JSON: for tensors of a few KiB it costs a third of a DoGet. Callers on
//! several threads take turns; [`Mux::get_many`] keeps requests under way while it reads replies. For tensors of many MiB use a
//! [`Connection`](crate::Connection).

mod many;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::limits::MAX_MUX_PUT_BYTES;
pub use bowstring_wire::mux::MuxTensor;
use bowstring_wire::mux::{MuxOp, MuxPut, MuxReply, MuxRequest};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::address::Address;
use crate::connection::Options;
use crate::put::check;
use stream::Stream;

/// One exchange on a connection of its own.
pub struct Mux {
    stream: Mutex<Stream>,
}

/// What a get may ask beside a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetOptions {
    /// `[start, end)` of the leading axis.
    pub rows: Option<(u64, u64)>,
    /// Answer `not_modified` where the entry still has this version.
    pub unless_version: Option<Version>,
}

/// What a put may say beside its tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutOptions {
    /// What happens to a key that is there; `None` is `create`.
    pub mode: Option<Mode>,
    /// Only where the entry has this version.
    pub if_version: Option<Version>,
    /// xxh3-128 of the bytes; another one is `data_loss`.
    pub checksum: Option<u128>,
    /// Milliseconds until it expires.
    pub ttl_ms: Option<u64>,
}

impl Mux {
    /// Connects, for keys of `namespace`.
    ///
    /// # Errors
    /// `unavailable` where nobody listens, or what listens does not speak HTTP/2; `invalid_argument` for a namespace that is none.
    pub fn connect(address: &Address, namespace: &str) -> Result<Mux> {
        Mux::connect_with(address, namespace, &Options::default())
    }

    /// Connects. The exchange itself begins with the first request, whose error says whether the server knows it.
    ///
    /// # Errors
    /// As [`Mux::connect`], and `deadline_exceeded`.
    pub fn connect_with(address: &Address, namespace: &str, options: &Options) -> Result<Mux> {
        let stream = Mutex::new(Stream::open(address, namespace, options)?);
        Ok(Mux { stream })
    }

    /// Whether more requests can be made. After an error of the stream itself they cannot: connect anew.
    pub fn is_open(&self) -> bool {
        self.lock().is_open()
    }

    /// Gets one tensor.
    ///
    /// # Errors
    /// What the server says, by its code; `unavailable` where the connection broke.
    pub fn get(&self, key: &str) -> Result<(MuxTensor, Vec<u8>)> {
        let mut buffer = Vec::new();
        let tensor = self.get_into(key, GetOptions::default(), &mut buffer)?;
        Ok((tensor, buffer))
    }

    /// Gets one tensor into `buffer`, which is made as long as the tensor. One that already has that length is filled in place.
    ///
    /// # Errors
    /// As [`Mux::get`]; what `buffer` holds after one is undefined.
    pub fn get_into(
        &self,
        key: &str,
        options: GetOptions,
        buffer: &mut Vec<u8>,
    ) -> Result<MuxTensor> {
        let mut stream = self.lock();
        stream.check_idle()?;
        let id = stream.ask(key, get_op(options), &[])?;
        let tensor = match stream.reply(id)? {
            (MuxReply::Tensor { tensor, more }, _) => {
                buffer.resize(stream::length(&tensor)?, 0);
                stream.fill(id, buffer, more)?;
                tensor
            }
            (other, _) => return Err(stream.unexpected(&other)),
        };
        Ok(tensor)
    }

    /// What a get would say of a key, without its bytes; `None` where it is not there.
    ///
    /// # Errors
    /// As [`Mux::get`].
    pub fn exists(&self, key: &str) -> Result<Option<MuxTensor>> {
        let mut stream = self.lock();
        stream.check_idle()?;
        let id = stream.ask(key, MuxOp::Exists, &[])?;
        match stream.reply(id) {
            Ok((MuxReply::Tensor { tensor, .. }, 0)) => Ok(Some(tensor)),
            Ok((other, _)) => Err(stream.unexpected(&other)),
            Err(error) if error.code == Code::NotFound && stream.is_open() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts one tensor of at most 1 MiB, `bytes` in C order. Says which version the key has, and whether it was there and stayed.
    ///
    /// # Errors
    /// What the server says, by its code; `invalid_argument` where `bytes` does not fit dtype and shape, `resource_exhausted`
    /// where it is too large for an exchange.
    pub fn put(
        &self,
        key: &str,
        dtype: DType,
        shape: &Shape,
        bytes: &[u8],
        options: PutOptions,
    ) -> Result<(Version, bool)> {
        check(dtype, shape, bytes)?;
        if bytes.len() as u64 > MAX_MUX_PUT_BYTES {
            return Err(Error::exhausted(format!(
                "the tensor is too large for an exchange, use a connection's put, bytes=`{}`, max=`{MAX_MUX_PUT_BYTES}`",
                bytes.len()
            )));
        }
        let op = MuxOp::Put(MuxPut {
            dtype,
            shape: shape.clone(),
            mode: options.mode.unwrap_or(Mode::Create),
            if_version: options.if_version,
            checksum: options.checksum,
            ttl_ms: options.ttl_ms,
        });
        let mut stream = self.lock();
        stream.check_idle()?;
        let id = stream.ask(key, op, bytes)?;
        match stream.reply(id)? {
            (MuxReply::Stored { version, existed }, 0) => Ok((version, existed)),
            (other, _) => Err(stream.unexpected(&other)),
        }
    }

    /// Gets many tensors, with requests under way while replies are read. `each` is told, in any order, the number of a key, and
    /// its tensor or what the server said of it.
    ///
    /// # Errors
    /// Where the stream itself failed: then not every key was told of.
    pub fn get_many<K: AsRef<str>>(
        &self,
        keys: &[K],
        each: impl FnMut(usize, Result<(&MuxTensor, &[u8])>),
    ) -> Result<()> {
        many::get(&mut self.lock(), keys, each)
    }

    /// Sends the requests of a [`Mux::get_many`] that is called with the same keys next, as far as they may be under way before a
    /// reply is read. So one thread can have several exchanges at work, each with a begin of its own before the first get.
    ///
    /// # Errors
    /// Where the stream failed; `invalid_argument`, here and from every other request, while what was begun has not been got.
    pub fn begin_many<K: AsRef<str>>(&self, keys: &[K]) -> Result<()> {
        many::begin(&mut self.lock(), keys)
    }

    /// Ends the exchange in good order. Dropping it closes the connection, which the server counts as cancelled.
    ///
    /// # Errors
    /// Where the stream had failed.
    pub fn close(self) -> Result<()> {
        self.lock().end()
    }

    /// A caller that panicked left the stream as it was: the next one's reply will not match, which closes it.
    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn get_op(options: GetOptions) -> MuxOp {
    MuxOp::Get {
        rows: options.rows,
        unless_version: options.unless_version,
    }
}

fn request<'a>(id: u32, key: &'a str, op: MuxOp) -> MuxRequest<'a> {
    MuxRequest {
        id,
        namespace: None,
        key,
        op,
    }
}
