//! One HTTP/2 connection, from accept to close.
//!
//! - `io`: the socket, small writes gathered
//! - `budget`: the wire account
//! - `half_open`: connections that have not greeted us yet
//! - `handle`: what a call may ask of its connection
//!
//! We drive h2 ourselves, because only it lets a server choose each connection's receive window
//! while it lives (so that the window is memory that was paid for), reset one stalled stream, and
//! hand over a frame in pieces.

mod budget;
mod half_open;
mod handle;
mod io;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use h2::server::{Connection, SendResponse};
use http::Request;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

pub use budget::{GUARANTEED_BYTES, WireBudget, WireBytes};
pub use half_open::HalfOpen;
pub use handle::{CallOn, ConnHandle, Upload};

use crate::grpc::Chunk;
use crate::listener::Socket;
use io::{Flusher, GatherIo, gather};

/// Limits of every connection.
#[derive(Clone, Debug)]
pub struct ConnLimits {
    /// Time for the greeting.
    pub handshake_timeout: Duration,
    /// Concurrent streams.
    pub streams_max: u32,
    /// Silence after which we ask whether the peer is there.
    pub keepalive_interval: Duration,
    /// Time for the answer.
    pub keepalive_timeout: Duration,
}

impl Default for ConnLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            streams_max: 256,
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// A put may have this much in flight; a connection's window is a few of it (see `WINDOWS`).
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Connection windows to try while a put is under way, widest first: above a stream's, so that one
/// paused put starves nothing beside it.
const WINDOWS_BYTES: [u32; 3] = [8 << 20, 4 << 20, 1 << 20];
/// The largest DATA frame we take: fewer, larger reads.
const FRAME_BYTES: u32 = 256 * 1024;
/// What one response may have queued in h2.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Metadata of one request.
const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// How long a drained connection without calls has to close.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long a peer that has our last answers may be silent before we close without it. One that does not look
/// at its socket before its next call has no need of more.
const LAST_READS: Duration = Duration::from_millis(250);
/// Bookkeeping for small DATA frames (pipelined requests are one each).
const DATA_FRAME_BUDGET: usize = 1 << 20;

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// By the peer, or by us after a drain.
    Closed,
    /// It did not greet us in time.
    GreetingTimeout,
    /// It had not greeted us when others wanted its place.
    GaveWay,
    /// It did not answer a ping.
    Silent,
    /// We closed it under a stuck reader.
    Killed,
    /// The socket failed or the peer broke HTTP/2.
    Broken(h2::Error),
}

/// What a connection has from its server.
pub struct Host {
    /// Limits.
    pub limits: ConnLimits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What windows are paid from.
    pub budget: WireBudget,
    /// Cancelled when calls are to finish and connections to close.
    pub drain: CancellationToken,
}

/// Serves one connection, whose handle is new, until it ends. It gives way when `greeting` is cancelled before it has
/// greeted us, and cancels it when it has.
///
/// `on_call` gets each request; it must not block.
pub async fn serve(
    host: Host,
    socket: Socket,
    handle: Arc<ConnHandle>,
    greeting: CancellationToken,
    on_call: impl Fn(Request<h2::RecvStream>, SendResponse<Chunk>, &Arc<ConnHandle>),
) -> End {
    let Host {
        limits,
        clock,
        budget,
        drain,
    } = host;
    let (io, flusher) = gather(socket, handle.written());
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(limits.streams_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        // Who gives up on all its calls at once, before we have seen one of them, has done no wrong.
        .max_pending_accept_reset_streams(limits.streams_max as usize)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .handshake::<_, Chunk>(io);
    let greeted = tokio::select! {
        connection = flushing(handshake, &flusher) => connection.map_err(End::Broken),
        () = clock.sleep(limits.handshake_timeout) => Err(End::GreetingTimeout),
        () = greeting.cancelled() => Err(End::GaveWay),
        () = drain.cancelled() => Err(End::Closed),
    };
    greeting.cancel();
    match greeted {
        Err(end) => end,
        Ok(connection) => {
            let driver = Driver {
                connection,
                flusher: &flusher,
                handle,
                budget,
                window: None,
            };
            let end = driver.run(limits, clock.clone(), drain, on_call).await;
            if matches!(end, End::Closed) {
                // Where the peer is gone already, there is nobody to tell.
                let _ = flusher.close(&*clock, LAST_READS).await;
            }
            end
        }
    }
}

struct Driver<'a> {
    connection: Connection<GatherIo<Socket>, Chunk>,
    flusher: &'a Flusher<Socket>,
    handle: Arc<ConnHandle>,
    budget: WireBudget,
    /// Paid for the window beyond what every connection has.
    window: Option<WireBytes>,
}

impl Driver<'_> {
    async fn run(
        mut self,
        limits: ConnLimits,
        clock: Arc<dyn Clock>,
        drain: CancellationToken,
        on_call: impl Fn(Request<h2::RecvStream>, SendResponse<Chunk>, &Arc<ConnHandle>),
    ) -> End {
        let ping_pong = self.connection.ping_pong();
        let mut silent = pin!(keepalive(ping_pong, limits, clock.clone()));
        let mut draining = false;
        let handle = self.handle.clone();
        let mut killed = pin!(handle.killed());
        loop {
            tokio::select! {
                biased;
                () = &mut killed => return End::Killed,
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.connection.graceful_shutdown();
                }
                () = handle.window_changed() => self.set_window(),
                () = &mut silent => return End::Silent,
                call = flushing(self.connection.accept(), self.flusher) => match call {
                    Some(Ok((request, respond))) => on_call(request, respond, &self.handle),
                    Some(Err(error)) => return End::Broken(error),
                    None => return End::Closed,
                },
                // A peer that has nothing under way and does not say goodbye is not waited for.
                () = clock.sleep(GOODBYE), if draining => if !self.connection.has_streams() {
                    return End::Closed;
                },
            }
        }
    }

    fn set_window(&mut self) {
        let base = u32::try_from(GUARANTEED_BYTES).unwrap_or(u32::MAX) - 1;
        if !self.handle.is_uploading() {
            self.connection.set_target_window_size(base);
            self.window = None;
        } else if self.window.is_none()
            && let Some((bytes, paid)) = self.budget.try_take_window(&WINDOWS_BYTES)
        {
            self.window = Some(paid);
            self.connection.set_target_window_size(base + bytes);
        }
    }
}

/// Polls `future`, then sends what it left in the gathering socket.
async fn flushing<F: Future>(future: F, flusher: &Flusher<impl AsyncWrite + Unpin>) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let result = future.as_mut().poll(cx);
        // A write error comes back from h2's own next write; there is nothing to say of it here.
        match flusher.poll_flush(cx) {
            Poll::Ready(_) | Poll::Pending => result,
        }
    })
    .await
}

/// Resolves when the peer has not answered a ping in time.
async fn keepalive(ping_pong: Option<h2::PingPong>, limits: ConnLimits, clock: Arc<dyn Clock>) {
    let Some(mut ping_pong) = ping_pong else {
        return std::future::pending().await;
    };
    loop {
        clock.sleep(limits.keepalive_interval).await;
        tokio::select! {
            answer = ping_pong.ping(h2::Ping::opaque()) => if answer.is_err() { return },
            () = clock.sleep(limits.keepalive_timeout) => return,
        }
    }
}
