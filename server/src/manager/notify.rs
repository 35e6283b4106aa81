//! Datagrams to the service manager: lines of `NAME=VALUE`, and perhaps a descriptor.

use std::ffi::OsStr;
use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// How long a manager that does not read is waited for.
const SAY_WAIT: Duration = Duration::from_secs(2);
/// How long it may take to have read everything.
const READ_WAIT: Duration = Duration::from_secs(5);

/// A connected socket. All calls may block for [`SAY_WAIT`].
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
}

impl Notify {
    /// `address` is a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// Where nobody is there.
    pub(super) fn to(address: &OsStr) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        match address.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(address)?,
        }
        socket.set_write_timeout(Some(SAY_WAIT))?;
        Ok(Self { socket })
    }

    pub(super) fn say(&self, state: &str) -> io::Result<()> {
        self.send(state, &[])
    }

    /// With a descriptor, of which it has one of its own then.
    pub(super) fn give(&self, state: &str, file: BorrowedFd<'_>) -> io::Result<()> {
        self.send(state, &[file])
    }

    /// Waits until it has read all that was said.
    ///
    /// # Errors
    /// Where it does not.
    pub(super) fn was_read(&self) -> io::Result<()> {
        let (mut ours, its) = UnixStream::pair()?;
        self.give("BARRIER=1", its.as_fd())?;
        drop(its);
        // It closes what it has of it when it comes to it.
        ours.set_read_timeout(Some(READ_WAIT))?;
        ours.read(&mut [0]).map(drop)
    }

    fn send(&self, state: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let lines = [IoSlice::new(state.as_bytes())];
        loop {
            match sendmsg(&self.socket, &lines, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
