//! A socket that gathers small writes.
//!
//! h2 flushes after every DATA frame, so the headers and body of a small answer and its trailers
//! would be two system calls, and sixteen pipelined answers thirty-two. Here `poll_flush` does
//! nothing; the connection's task calls [`Flusher::poll_flush`] once, after h2 has said all that it
//! has to say. Large frames still go out as they come, in one `writev` with whatever was gathered.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowstring_cache::clock::Clock;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Writes up to this size are gathered; the size of one gathered write.
const GATHER_BYTES: usize = 16 * 1024;
/// The kernel takes at most this many pieces (`IOV_MAX`); h2 hands over at most 64.
const SLICES_MAX: usize = 66;

/// The half that h2 owns.
#[derive(Debug)]
pub struct GatherIo<S>(Arc<Mutex<Inner<S>>>);

/// The half that the connection's task keeps.
#[derive(Debug)]
pub struct Flusher<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    // Never contended: h2 and the flusher are polled by one task.
    socket: S,
    gathered: Vec<u8>,
    written: usize,
    progress: Arc<AtomicU64>,
}

/// Splits a socket into the part for h2 and the part that flushes. `progress` counts the bytes that
/// the socket took.
pub fn gather<S>(socket: S, progress: Arc<AtomicU64>) -> (GatherIo<S>, Flusher<S>) {
    let inner = Inner {
        socket,
        gathered: Vec::new(),
        written: 0,
        progress,
    };
    let inner = Arc::new(Mutex::new(inner));
    (GatherIo(inner.clone()), Flusher(inner))
}

impl<S: AsyncWrite + Unpin> Flusher<S> {
    /// Writes what was gathered.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_drain(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Flusher<S> {
    /// Says that nothing more comes, and reads until the peer says so too, has been silent for
    /// `silence` or has taken twenty times as long; to be called when h2 is done with its half.
    ///
    /// A socket that is closed at once answers what still comes, a window update, say, with a reset,
    /// and a reset takes with it what the peer has not read yet.
    pub async fn close(self, clock: &dyn Clock, silence: Duration) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await?;
        let mut io = GatherIo(self.0);
        io.shutdown().await?;
        let mut rest = [0; 1024];
        let mut end = pin!(clock.sleep(20 * silence));
        loop {
            tokio::select! {
                read = io.read(&mut rest) => if read? == 0 { return Ok(()) },
                () = clock.sleep(silence) => return Ok(()),
                () = &mut end => return Ok(()),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => {
                    self.progress.fetch_add(n as u64, Relaxed);
                    self.written += n;
                }
            }
        }
        self.gathered.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|b| b.len()).sum();
        if total <= GATHER_BYTES {
            if self.gathered.len() + total > GATHER_BYTES {
                ready!(self.poll_drain(cx))?;
            }
            for buf in bufs {
                self.gathered.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(total));
        }
        loop {
            let pending = self.gathered.len() - self.written;
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            slices[0] = IoSlice::new(&self.gathered[self.written..]);
            let count = bufs.len().min(SLICES_MAX - 1);
            slices[1..=count].copy_from_slice(&bufs[..count]);
            let first = usize::from(pending == 0);
            let n =
                ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[first..=count]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.progress.fetch_add(n as u64, Relaxed);
            self.written += n.min(pending);
            if n >= pending {
                self.gathered.clear();
                self.written = 0;
            }
            if n > pending {
                return Poll::Ready(Ok(n - pending));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatherIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatherIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task flushes; see the module's comment.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowstring_cache::clock::ManualClock;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_the_peer_says_after_the_last_answer_does_not_cost_it_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap());
        let (mut far, near) = (far.await.unwrap(), listener.accept().await.unwrap().0);
        // As much as the kernel takes, so that a part of it is still on our side.
        near.writable().await.unwrap();
        let mut sent = 0;
        while let Ok(n) = near.try_write(&[7; 1 << 16]) {
            sent += n;
        }
        let (io, flusher) = gather(near, Arc::default());
        drop(io);
        let clock = ManualClock::new(0);
        let closed =
            tokio::spawn(async move { flusher.close(&clock, Duration::from_secs(1)).await });
        let mut got = vec![0; 1 << 16];
        far.read_exact(&mut got).await.unwrap();
        // Each of these would be answered with a reset by a closed socket.
        for _ in 0..16 {
            far.write_all(b"more").await.unwrap();
            tokio::task::yield_now().await;
        }
        far.read_to_end(&mut got).await.unwrap();
        assert!(got.len() == sent && got.iter().all(|&byte| byte == 7));
        assert!(!closed.is_finished());
        drop(far);
        closed.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn small_writes_wait_for_the_flusher_and_large_ones_carry_them() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut io, flusher) = gather(near, Arc::default());
        io.write_all(b"head").await.unwrap();
        io.flush().await.unwrap();
        let mut one = [0u8; 1];
        let nothing = futures::FutureExt::now_or_never(far.read(&mut one));
        assert!(nothing.is_none(), "h2's flush must not reach the socket");

        poll_fn(|cx| flusher.poll_flush(cx)).await.unwrap();
        let mut head = [0u8; 4];
        far.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"head");

        io.write_all(b"next").await.unwrap();
        let large = vec![7u8; 3 * GATHER_BYTES];
        io.write_all(&large).await.unwrap();
        let mut got = vec![0u8; 4 + large.len()];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got[..4], b"next");
        assert_eq!(&got[4..], &large[..]);
    }

    #[tokio::test]
    async fn order_holds_through_a_narrow_socket() {
        let (near, mut far) = tokio::io::duplex(97);
        let (mut io, flusher) = gather(near, Arc::default());
        let sent: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            let mut at = 0;
            for step in (1..).map(|i| (i * 3181) % 40_000 + 1) {
                let end = (at + step).min(copy.len());
                io.write_all(&copy[at..end]).await.unwrap();
                at = end;
                if at == copy.len() {
                    break;
                }
            }
            poll_fn(|cx| flusher.poll_flush(cx)).await.unwrap();
        });
        let mut got = vec![0u8; sent.len()];
        far.read_exact(&mut got).await.unwrap();
        writer.await.unwrap();
        assert_eq!(got, sent);
    }
}
