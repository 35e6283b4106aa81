//! Messages with descriptors over a Unix socket.
//!
//! ```text
//! "BOWT" | kind u8 | 0 u8 | descriptors u16 | bytes of the body u32 | body      numbers are little-endian
//! ```
//! The descriptors go with the message's first byte. This frame stays as it is in every format.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::message::Kind;

const MAGIC: [u8; 4] = *b"BOWT";
const HEAD_BYTES: usize = 12;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Descriptors of one message; the kernel takes 253.
pub(super) const FILES_MAX: usize = 128;

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    pub(super) files: Vec<OwnedFd>,
}

/// One end of a connection to a process of the same user.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// # Errors
    /// `PermissionDenied` where the other end is another user's.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?.uid();
        let own = rustix::process::geteuid().as_raw();
        if peer != own {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the other process is another user's; uid=`{peer}` expected=`{own}`"),
            ));
        }
        Ok(Self { stream })
    }

    /// `None` where nobody listens.
    pub(super) async fn connect(path: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path).await {
            Ok(stream) => Self::new(stream).map(Some),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn send(
        &self,
        kind: Kind,
        body: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        debug_assert!(files.len() <= FILES_MAX && body.len() <= BODY_BYTES_MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[kind.code(), 0]);
        bytes.extend_from_slice(&u16::try_from(files.len()).unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(body);
        let mut sent = 0;
        while sent < bytes.len() {
            let with = if sent == 0 { files } else { &[] };
            let step = || send_some(&self.stream, &bytes[sent..], with);
            sent += self.stream.async_io(Interest::WRITABLE, step).await?;
        }
        Ok(())
    }

    /// The next message.
    ///
    /// # Errors
    /// `UnexpectedEof` where the other end has closed, `InvalidData` for what is no message.
    pub(super) async fn receive(&self) -> io::Result<Message> {
        let mut files = Vec::new();
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head, &mut files).await?;
        let [m0, m1, m2, m3, kind, _, n0, n1, b0, b1, b2, b3] = head;
        let kind = Kind::of(kind).filter(|_| [m0, m1, m2, m3] == MAGIC);
        let kind = kind.ok_or_else(|| wrong("what came is no message of a takeover"))?;
        let len = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        if len > BODY_BYTES_MAX {
            return Err(wrong("a message that is too long"));
        }
        let mut body = vec![0; len];
        self.fill(&mut body, &mut files).await?;
        if files.len() != usize::from(u16::from_le_bytes([n0, n1])) {
            return Err(wrong("a message without its descriptors"));
        }
        Ok(Message { kind, body, files })
    }

    /// Completes when the other end has closed: not before its process has ended, where it keeps its end open.
    pub(super) async fn closed(&self) {
        let mut byte = [0];
        while self.fill(&mut byte, &mut Vec::new()).await.is_ok() {}
    }

    async fn fill(&self, mut to: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<()> {
        while !to.is_empty() {
            let step = || receive_some(&self.stream, to, files);
            match self.stream.async_io(Interest::READABLE, step).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => to = &mut to[n..],
            }
        }
        Ok(())
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(sendmsg(
        stream,
        &bytes,
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

fn receive_some(stream: &UnixStream, to: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut to = [IoSliceMut::new(to)];
    let received = recvmsg(stream, &mut to, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || files.len() > FILES_MAX {
        return Err(wrong("descriptors that could not be received"));
    }
    Ok(received.bytes)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use tokio::io::AsyncWriteExt as _;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), Channel::new(other).unwrap())
    }

    #[tokio::test]
    async fn messages_arrive_in_order_with_their_descriptors() {
        let (one, other) = pair();
        let files: Vec<File> = (0..FILES_MAX)
            .map(|_| tempfile::tempfile().unwrap())
            .collect();
        (&files[7]).write_all(b"seven").unwrap();
        let all: Vec<_> = files.iter().map(File::as_fd).collect();
        let body = vec![3; 300_000];
        let sending = async {
            one.send(Kind::Begin, b"", &[]).await.unwrap();
            one.send(Kind::Regions, &body, &all).await.unwrap();
            one.send(Kind::Mine, b"x", &all[..1]).await.unwrap();
        };
        let receiving = async {
            let first = other.receive().await.unwrap();
            assert!(first.kind == Kind::Begin && first.body.is_empty() && first.files.is_empty());
            let mut second = other.receive().await.unwrap();
            assert!(second.kind == Kind::Regions && second.body == body);
            assert_eq!(second.files.len(), FILES_MAX);
            let mut text = String::new();
            let mut file = File::from(second.files.swap_remove(7));
            std::io::Seek::rewind(&mut file).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "seven");
            assert_eq!(other.receive().await.unwrap().files.len(), 1);
        };
        tokio::join!(sending, receiving);
        drop(one);
        let error = other.receive().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        other.closed().await;
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"BOWT\xff\0\0\0\0\0\0\0",
            b"BOWT\x03\0\0\0\xff\xff\xff\xff",
            b"BOWT\x03\0\x01\0\0\0\0\0",
        ] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(bytes).await.unwrap();
            let error = Channel::new(other).unwrap().receive().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
    }
}
