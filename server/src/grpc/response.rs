//! The sending half of a call: response headers, DATA within the peer's windows, trailers.

use std::future::poll_fn;
use std::time::Duration;

use bowstring_wire::error::Error;
use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Response};

use super::chunk::{Chunk, Mark, Untaken};
use super::status;

/// The peer reset the stream or the connection is gone; nobody is left to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Sends one response. Headers go out with the first data; a response that fails before that is
/// trailers only.
#[derive(Debug)]
pub struct Responder {
    send: SendResponse<Chunk>,
    stream: Option<SendStream<Chunk>>,
    sent_bytes: u64,
    counted_bytes: u64,
    waited: Duration,
    /// On every chunk.
    mark: Mark,
    cookie: Option<HeaderValue>,
}

impl Responder {
    /// A response to one request.
    pub fn new(send: SendResponse<Chunk>) -> Self {
        Self {
            send,
            stream: None,
            sent_bytes: 0,
            counted_bytes: 0,
            waited: Duration::ZERO,
            mark: Mark::default(),
            cookie: None,
        }
    }

    /// Has the head, which must not have gone out, set a cookie.
    #[cfg(feature = "sql")]
    pub fn cookie(&mut self, cookie: &HeaderValue) {
        self.cookie = Some(cookie.clone());
    }

    /// Body bytes handed to the connection so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Whether the head has gone out, with at least a part of a message behind it.
    pub fn has_begun(&self) -> bool {
        self.stream.is_some()
    }

    /// Those of them that this has not told of before.
    pub fn take_uncounted_bytes(&mut self) -> u64 {
        let uncounted = self.sent_bytes - self.counted_bytes;
        self.counted_bytes = self.sent_bytes;
        uncounted
    }

    /// Adds time that this response waited for its peer, which whoever has a clock measured.
    pub fn add_waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// All of that time.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// What was handed over and the peer has not taken.
    pub fn untaken(&self) -> Untaken {
        self.mark.untaken()
    }

    /// Sends data, as far as the peer's window and our send buffer allow, waiting for them.
    ///
    /// Whoever drops this future before it is ready must end with [`Responder::reset`].
    pub async fn data(&mut self, chunk: Chunk) -> Result<(), Gone> {
        let mut chunk = chunk.marked(&self.mark);
        let stream = self.start()?;
        let mut sent = 0;
        while chunk.has_remaining() {
            stream.reserve_capacity(chunk.remaining());
            let mut capacity = stream.capacity();
            while capacity == 0 {
                match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(n)) => capacity = n,
                    Some(Err(_)) | None => return Err(Gone),
                }
            }
            let piece = chunk.split_to(capacity.min(chunk.remaining()));
            sent += piece.remaining() as u64;
            stream.send_data(piece, false).map_err(|_| Gone)?;
        }
        self.sent_bytes += sent;
        Ok(())
    }

    /// Sends data, where the peer's window and our send buffer have room for all of it now; false
    /// where they have not.
    pub fn data_now(&mut self, data: &Bytes) -> Result<bool, Gone> {
        let chunk = Chunk::from(data.clone()).marked(&self.mark);
        let stream = self.start()?;
        // Asked for until it is there.
        stream.reserve_capacity(data.len());
        if stream.capacity() < data.len() {
            return Ok(false);
        }
        stream.send_data(chunk, false).map_err(|_| Gone)?;
        self.sent_bytes += data.len() as u64;
        Ok(true)
    }

    /// Ends a call that went well.
    pub fn finish(&mut self) -> Result<(), Gone> {
        self.start()?.send_trailers(status::ok()).map_err(|_| Gone)
    }

    /// Ends a call that went well with one last piece of data.
    pub async fn finish_with(mut self, message: Bytes) -> Result<(), Gone> {
        self.data(Chunk::from(message)).await?;
        self.finish()
    }

    /// Ends a call that failed.
    pub fn fail(mut self, error: &Error) -> Result<(), Gone> {
        let trailers = status::failed(error);
        match &mut self.stream {
            Some(stream) => stream.send_trailers(trailers).map_err(|_| Gone),
            None => {
                let mut response = head();
                response.headers_mut().extend(trailers);
                self.send
                    .send_response(response, true)
                    .map(drop)
                    .map_err(|_| Gone)
            }
        }
    }

    /// Gives up: what is queued is dropped, the peer sees CANCEL.
    pub fn reset(mut self) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(Reason::CANCEL),
            None => self.send.send_reset(Reason::CANCEL),
        }
    }

    /// Resolves when the peer has given up on this call.
    pub async fn gone(&mut self) {
        let _ = match &mut self.stream {
            Some(stream) => poll_fn(|cx| stream.poll_reset(cx)).await,
            None => poll_fn(|cx| self.send.poll_reset(cx)).await,
        };
    }

    /// A response whose head and trailers somebody else makes (see `mount`).
    pub fn start_with(
        mut self,
        mut response: Response<()>,
        end: bool,
    ) -> Result<Option<Self>, Gone> {
        response.headers_mut().insert("bowstring-wire", WIRE);
        let stream = self.send.send_response(response, end).map_err(|_| Gone)?;
        self.stream = Some(stream);
        Ok((!end).then_some(self))
    }

    /// Ends with trailers that somebody else made.
    pub fn finish_with_trailers(mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.start()?.send_trailers(trailers).map_err(|_| Gone)
    }

    fn start(&mut self) -> Result<&mut SendStream<Chunk>, Gone> {
        if self.stream.is_none() {
            let mut head = head();
            if let Some(cookie) = self.cookie.take() {
                head.headers_mut().insert("set-cookie", cookie);
            }
            let stream = self.send.send_response(head, false).map_err(|_| Gone)?;
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or(Gone)
    }
}

const WIRE: HeaderValue = HeaderValue::from_static("1");

fn head() -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("bowstring-wire", WIRE);
    response
}
