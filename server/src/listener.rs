//! Where connections come from: TCP and Unix sockets behind one type.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What the kernel may keep of what we have sent and the peer has not read; it counts the double.
/// Left alone it would grow to 4 MiB for each reader that stalls. Against that, 256 MiB to PyArrow
/// over loopback took 1.07 and 1.55 times less time in two runs, for what is copied is still in the
/// processor's cache; 64 KiB took 1.5 times more.
const SEND_BUFFER_BYTES: usize = 208 * 1024;

/// Connections that wait to be accepted, as far as the kernel allows. The standard library asks for
/// 128; in a storm the next client's first packet is lost then, and comes again only a second later.
const BACKLOG: i32 = 4_096;

/// A bound socket. Dropping the last handle on a Unix listener removes its file.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket and the path it is bound to.
    Unix(UnixListener, Arc<SocketFile>),
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Address of a TCP peer.
    Tcp(SocketAddr),
    /// Process and user of a Unix peer, as the kernel tells them.
    Unix {
        /// User id.
        uid: u32,
        /// Process id, where the kernel knows it.
        pid: Option<i32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid, pid } => {
                write!(f, "uid={uid}")?;
                pid.map_or(Ok(()), |pid| write!(f, " pid={pid}"))
            }
        }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Listener {
    /// Binds `HOST:PORT` (port 0 picks a free one) or `unix:PATH`.
    ///
    /// A socket file that nobody listens on any more is replaced; one that is in use is an error.
    pub async fn bind(address: &str) -> io::Result<Self> {
        match address.strip_prefix("unix:") {
            Some(path) => Self::bind_unix(Path::new(path)).await,
            None => {
                let listener = TcpListener::bind(address).await?;
                rustix::net::listen(&listener, BACKLOG)?;
                Ok(Self::Tcp(listener))
            }
        }
    }

    async fn bind_unix(path: &Path) -> io::Result<Self> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another process listens on path=`{}`", path.display()),
            ));
        }
        // Only ever a socket: a mistyped path must not delete somebody's file.
        if let Ok(meta) = std::fs::symlink_metadata(path) {
            use std::os::unix::fs::FileTypeExt;
            if !meta.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!(
                        "not a socket, and not ours to remove; path=`{}`",
                        path.display()
                    ),
                ));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self::Unix(listener, SocketFile::new(path)))
    }

    /// Another handle on the same socket.
    pub fn again(&self) -> io::Result<Self> {
        let socket = self.socket().try_clone_to_owned()?;
        Ok(match self {
            Self::Tcp(_) => Self::Tcp(TcpListener::from_std(socket.into())?),
            Self::Unix(_, file) => {
                Self::Unix(UnixListener::from_std(socket.into())?, Arc::clone(file))
            }
        })
    }

    /// A socket that a predecessor has bound to `address`.
    ///
    /// # Errors
    /// Where it is none that takes connections there.
    pub fn inherited(socket: OwnedFd, address: &str) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if !sockopt::socket_acceptconn(&socket)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match address.strip_prefix("unix:") {
            Some(path) => {
                let listener = UnixListener::from_std(socket.into())?;
                let path = Path::new(path);
                if listener.local_addr()?.as_pathname() != Some(path) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(Self::Unix(listener, SocketFile::new(path)))
            }
            None => {
                let listener = TcpListener::from_std(socket.into())?;
                listener.local_addr()?;
                Ok(Self::Tcp(listener))
            }
        }
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }

    /// Leaves a socket's file where it is, for a successor who has the socket too.
    pub fn keep_file(&self) {
        if let Self::Unix(_, file) = self {
            file.kept.store(true, Ordering::Relaxed);
        }
    }

    /// The address to print for clients: `grpc://HOST:PORT` or `grpc+unix:PATH`.
    pub fn uri(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => format!("grpc://{}", listener.local_addr()?),
            Self::Unix(_, file) => format!("grpc+unix://{}", file.path.display()),
        })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // A response's trailers must not wait for the ACK of its body.
                stream.set_nodelay(true)?;
                sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
                Ok((Socket::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
                let cred = stream.peer_cred()?;
                let peer = Peer::Unix {
                    uid: cred.uid(),
                    pid: cred.pid(),
                };
                Ok((Socket::Unix(stream), peer))
            }
        }
    }
}

impl Socket {
    /// What the kernel may keep for it, as the kernel counts it.
    pub fn send_buffer_bytes(&self) -> io::Result<u64> {
        let bytes = match self {
            Self::Tcp(stream) => sockopt::socket_send_buffer_size(stream)?,
            Self::Unix(stream) => sockopt::socket_send_buffer_size(stream)?,
        };
        Ok(bytes as u64)
    }
}

/// Removes the socket's file when the listener goes.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    kept: AtomicBool,
}

impl SocketFile {
    fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            kept: AtomicBool::new(false),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces a stale file.
        if !self.kept.load(Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced_and_a_used_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = format!("unix:{}", path.display());
        let first = Listener::bind(&address).await.unwrap();
        let taken = Listener::bind(&address).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        // A killed process leaves its file behind.
        let Listener::Unix(listener, file) = first else {
            panic!("not a Unix socket")
        };
        drop(listener);
        std::mem::forget(file);
        assert!(path.exists());
        let second = Listener::bind(&address).await.unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&format!("unix:{}", path.display()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
