//! One connected socket, TCP or Unix, read and written by blocking calls.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::ToSocketAddrs;
use std::time::Duration;

use bowstring_wire::error::{Code, Error, Result};
use rustix::net::RecvFlags;
use socket2::{Domain, SockAddr, Type};

use crate::address::Address;

/// What may be on its way to a server on the same host; the kernel counts the double. There is no distance to fill, and left alone
/// the buffer grows to 4 MiB, which no core's cache holds: on a plain socket, both ends on one core, a gigabyte of 16 MiB writes took
/// 0.20 instead of 0.49 CPU-seconds.
const LOOPBACK_SEND_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Socket {
    inner: socket2::Socket,
}

impl Socket {
    /// Connects; `timeout` also bounds every later read and write.
    pub(super) fn connect(address: &Address, timeout: Option<Duration>) -> Result<Socket> {
        let connected = match address {
            Address::Tcp(host) => connect_tcp(host, timeout),
            Address::Unix(path) => SockAddr::unix(path).and_then(|to| connect_to(&to, timeout)),
        };
        let failed = |error: io::Error| {
            Error::new(
                Code::Unavailable,
                format!("cannot connect: {error}, address=`{address}`"),
            )
        };
        let inner = connected.map_err(failed)?;
        inner.set_read_timeout(timeout).map_err(failed)?;
        inner.set_write_timeout(timeout).map_err(failed)?;
        Ok(Socket { inner })
    }

    /// Fills the slices in order with what is there, at least one byte, waiting for it.
    pub(super) fn read(&self, into: &mut [IoSliceMut<'_>]) -> Result<usize> {
        loop {
            match (&self.inner).read_vectored(into) {
                Ok(0) => {
                    return Err(Error::new(
                        Code::Unavailable,
                        "the server closed the connection",
                    ));
                }
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken("read", &error)),
            }
        }
    }

    /// What is there now, without waiting; 0 where nothing is.
    pub(super) fn read_ready(&self, into: &mut [u8]) -> Result<usize> {
        match rustix::net::recv(&self.inner, into, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Error::new(
                Code::Unavailable,
                "the server closed the connection",
            )),
            Ok((read, _)) => Ok(read),
            Err(error) if [rustix::io::Errno::AGAIN, rustix::io::Errno::INTR].contains(&error) => {
                Ok(0)
            }
            Err(error) => Err(broken("read", &error.into())),
        }
    }

    /// Writes all of the slices, in order, uncopied.
    pub(super) fn write_all(&self, mut from: &mut [IoSlice<'_>]) -> Result<()> {
        // Skips what is empty, or a write of nothing would look like a closed socket.
        IoSlice::advance_slices(&mut from, 0);
        while !from.is_empty() {
            match (&self.inner).write_vectored(from) {
                Ok(0) => {
                    return Err(Error::new(
                        Code::Unavailable,
                        "the server takes no more bytes",
                    ));
                }
                Ok(written) => IoSlice::advance_slices(&mut from, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken("write", &error)),
            }
        }
        Ok(())
    }
}

fn connect_tcp(host: &str, timeout: Option<Duration>) -> io::Result<socket2::Socket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match connect_to(&address.into(), timeout) {
            Ok(socket) => {
                // A request is one small write that must not wait for the last reply's acknowledgement.
                socket.set_tcp_nodelay(true)?;
                if address.ip().is_loopback() {
                    socket.set_send_buffer_size(LOOPBACK_SEND_BYTES)?;
                }
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(address: &SockAddr, timeout: Option<Duration>) -> io::Result<socket2::Socket> {
    let domain = if address.is_unix() {
        Domain::UNIX
    } else {
        address.domain()
    };
    let socket = socket2::Socket::new(domain, Type::STREAM, None)?;
    match timeout {
        Some(timeout) => socket.connect_timeout(address, timeout)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

fn broken(what: &str, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Code::DeadlineExceeded,
        _ => Code::Unavailable,
    };
    Error::new(code, format!("{what} failed: {error}"))
}
