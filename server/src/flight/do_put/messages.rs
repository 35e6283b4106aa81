//! The messages of a put as they arrive.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bowstring_wire::body::Body;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::flight_data::{Event, Parser};
use bytes::Bytes;

use crate::flight::room::CallBytes;
use crate::flight::service::Service;
use crate::flight::slow::{Began, Notes};
use crate::grpc::RequestBody;
use crate::metrics::{Begun, CutOff};

/// While somebody waits for room, a put that holds some may be silent no longer than this.
const IDLE_WHILE_OTHERS_WAIT: Duration = Duration::from_secs(5);

/// Reads a stream of `FlightData`.
pub struct Messages<'a> {
    service: &'a Service,
    body: RequestBody,
    parser: Parser,
    /// Room for what the parser holds.
    room: CallBytes,
    counted: &'a Begun,
    notes: &'a Notes,
    /// Whether this put holds room: then its client may not be silent for long.
    pub holds_room: bool,
    /// Whether it does so between two bodies as well.
    pub keeps_room: bool,
}

impl<'a> Messages<'a> {
    /// The messages of `body`.
    pub fn new(
        service: &'a Service,
        body: RequestBody,
        room: CallBytes,
        (counted, notes): (&'a Begun, &'a Notes),
    ) -> Self {
        Self {
            service,
            body,
            parser: Parser::new(),
            room,
            counted,
            notes,
            holds_room: false,
            keeps_room: false,
        }
    }

    /// Where the call's bytes are counted.
    pub fn counted(&self) -> &'a Begun {
        self.counted
    }

    /// Waits for room, and notes how long that took.
    pub async fn waiting_for_room<T>(&self, room: impl Future<Output = T>) -> T {
        let began = Began::now(self.service);
        let room = room.await;
        self.notes.waited_for_room(began.elapsed(self.service));
        room
    }

    /// What comes next; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.parser.next_event()? {
                return Ok(Some(event));
            }
            // What is held doubles as it grows.
            self.room.hold(2 * self.parser.held_bytes())?;
            match self.frame().await? {
                Some(frame) => self.parser.push(frame),
                None => {
                    self.parser.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next frame as it came, for who reads something else than `FlightData` with Arrow in it;
    /// `None` at the end of the stream.
    pub async fn frame(&mut self) -> Result<Option<Bytes>> {
        let frame = self.wait_for_frame().await?;
        if let Some(frame) = &frame {
            self.counted.received(frame.len() as u64);
        }
        Ok(frame)
    }

    /// As [`Messages::frame`], without waiting; the caller is woken when there is one.
    pub async fn frame_now(&mut self) -> Result<Poll<Option<Bytes>>> {
        let mut frame = pin!(self.body.frame());
        let now = poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx))).await;
        let Poll::Ready(frame) = now else {
            return Ok(Poll::Pending);
        };
        let frame = frame.transpose()?;
        if let Some(frame) = &frame {
            self.counted.received(frame.len() as u64);
        }
        Ok(Poll::Ready(frame))
    }

    /// A body of `len` bytes that has begun, for which there is room: its client may not be silent
    /// for long. Between two of them it holds nothing, as a rule, and may take its time.
    pub async fn body(&mut self, len: u64) -> Result<Body> {
        let mut body = Body::new();
        self.holds_room = true;
        while body.len() < len {
            match self.next().await? {
                Some(Event::BodyChunk(chunk)) => body.push(chunk),
                Some(_) => return Err(Error::internal("a body was interrupted by another field")),
                None => return Err(Error::invalid("the stream ended within a body")),
            }
        }
        self.holds_room = self.keeps_room;
        Ok(body)
    }

    /// Reads the rest of a message of which nothing more is expected; the frames behind it.
    pub async fn end_message(&mut self) -> Result<Vec<Bytes>> {
        match self.next().await? {
            Some(Event::MessageEnd) => Ok(self.parser.take_rest()),
            _ => Err(Error::invalid(
                "the first message of this exchange has more than a descriptor",
            )),
        }
    }

    async fn wait_for_frame(&mut self) -> Result<Option<Bytes>> {
        let mut frame = pin!(self.body.frame());
        if !self.holds_room {
            return frame.await.transpose();
        }
        // A timer is made only for a client that keeps us waiting.
        if let Poll::Ready(frame) = poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx))).await {
            return frame.transpose();
        }
        let (clock, limit) = (&self.service.clock, self.service.settings.put_idle);
        let began = clock.monotonic();
        loop {
            tokio::select! {
                biased;
                frame = &mut frame => return frame.transpose(),
                () = clock.sleep(limit.min(IDLE_WHILE_OTHERS_WAIT)) => {}
            }
            let silent = clock.monotonic().saturating_sub(began);
            if silent >= limit || self.service.cache.stats().puts_waiting > 0 {
                self.service.metrics.cut_off(CutOff::PutIdle);
                return Err(Error::new(
                    Code::DeadlineExceeded,
                    format!(
                        "the put holds memory and its client has sent nothing for a while; \
                         silent_ms=`{}` limit_ms=`{}`",
                        silent.as_millis(),
                        limit.as_millis()
                    ),
                ));
            }
        }
    }
}
