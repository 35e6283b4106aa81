//! The receiving half of a call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Code, Error, Result};
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;

use super::status;

/// How long the one message of a unary request may take to come.
const UNARY_TIME_MAX: Duration = Duration::from_secs(60);
/// What is read of a request after its refusal, at most, and for how long. What was on its way then
/// would otherwise come to a stream that is reset; h2 forgets those after fifty, answers what comes
/// for them with a reset more, and closes the connection after 1,024 of these.
const LEFTOVER_BYTES_MAX: usize = 256 * 1024;
const LEFTOVER_TIME_MAX: Duration = Duration::from_secs(1);

/// A request's body, frame by frame. A frame's flow-control credit goes back to the sender when
/// the next one is asked for, that is when this one is consumed. Dropped before its end, it throws
/// away what still comes within a moment, and then resets the stream.
pub struct RequestBody {
    /// None only while it is being dropped.
    stream: Option<RecvStream>,
    uncredited: usize,
    clock: Arc<dyn Clock>,
}

impl RequestBody {
    /// Wraps a stream.
    pub fn new(stream: RecvStream, clock: Arc<dyn Clock>) -> Self {
        Self {
            stream: Some(stream),
            uncredited: 0,
            clock,
        }
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        if self.uncredited > 0 {
            let consumed = std::mem::take(&mut self.uncredited);
            // Fails only on a stream that is gone, which the next poll says better.
            let _ = stream.flow_control().release_capacity(consumed);
        }
        Poll::Ready(match ready!(stream.poll_data(cx)) {
            Some(Ok(bytes)) => {
                self.uncredited = bytes.len();
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(status::broken(&error))),
            None => None,
        })
    }

    /// The one message of a unary request, without its prefix.
    ///
    /// A length above `limit_bytes` is refused before anything is read; room grows with the bytes
    /// that come, never with the length that is claimed, and `hold` is told how much it is.
    pub async fn unary(
        &mut self,
        limit_bytes: usize,
        hold: impl FnMut(usize) -> Result<()>,
    ) -> Result<Bytes> {
        let clock = self.clock.clone();
        let mut receiving = std::pin::pin!(self.receive(limit_bytes, hold));
        // A timer is made only for a client that keeps us waiting.
        let at_once = std::future::poll_fn(|cx| Poll::Ready(receiving.as_mut().poll(cx))).await;
        if let Poll::Ready(received) = at_once {
            return received;
        }
        tokio::select! {
            received = receiving => received,
            () = clock.sleep(UNARY_TIME_MAX) => Err(Error::new(
                Code::DeadlineExceeded,
                format!(
                    "the request did not come in time; limit_ms=`{}`",
                    UNARY_TIME_MAX.as_millis()
                ),
            )),
        }
    }

    async fn receive(
        &mut self,
        limit_bytes: usize,
        mut hold: impl FnMut(usize) -> Result<()>,
    ) -> Result<Bytes> {
        const PREFIX: usize = 5;
        let mut received = BytesMut::new();
        let mut wanted: Option<usize> = None;
        loop {
            if let (None, Some(prefix)) = (wanted, received.first_chunk::<PREFIX>()) {
                let [flag, length @ ..] = *prefix;
                if flag != 0 {
                    return Err(Error::unimplemented(
                        "compressed messages are not taken; send them with grpc-encoding=`identity`",
                    ));
                }
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length > limit_bytes {
                    return Err(Error::new(
                        Code::ResourceExhausted,
                        format!(
                            "a request of this verb is too large; bytes=`{length}` limit=`{limit_bytes}`"
                        ),
                    ));
                }
                wanted = Some(length);
            }
            if let Some(length) = wanted {
                let have = received.len() - PREFIX;
                if have > length {
                    return Err(Error::invalid(
                        "one request message was expected, more bytes follow it",
                    ));
                }
                if have == length {
                    received.advance(PREFIX);
                    return Ok(received.freeze());
                }
            }
            match self.frame().await {
                Some(frame) => {
                    let frame = frame?;
                    // A buffer that is full doubles.
                    if received.capacity() - received.len() < frame.len() {
                        hold(2 * received.len() + frame.len())?;
                    }
                    received.extend_from_slice(&frame);
                }
                None => {
                    return Err(Error::invalid(format!(
                        "the request ended before its message was whole; received_bytes=`{}`",
                        received.len()
                    )));
                }
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && !stream.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (clock, uncredited) = (self.clock.clone(), self.uncredited);
            runtime.spawn(async move {
                tokio::select! {
                    () = throw_away(stream, uncredited) => {}
                    () = clock.sleep(LEFTOVER_TIME_MAX) => {}
                }
            });
        }
    }
}

async fn throw_away(mut stream: RecvStream, mut uncredited: usize) {
    let mut left = LEFTOVER_BYTES_MAX;
    while left > 0 {
        let _ = stream.flow_control().release_capacity(uncredited);
        let Some(Ok(frame)) = stream.data().await else {
            return;
        };
        uncredited = frame.len();
        left = left.saturating_sub(uncredited);
    }
}

/// For services that speak tonic's language.
impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>>>> {
        let frame = ready!(self.get_mut().poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(http_body::Frame::data)))
    }
}
