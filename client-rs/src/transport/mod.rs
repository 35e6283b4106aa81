//! A client's end of one HTTP/2 connection, one call at a time, made for one purpose: a response's bytes are read from the
//! socket straight into the caller's buffer, and a request's are written straight from it.
//!
//! The `h2` crate gathers every DATA frame in a buffer of its own and hands it on from there: one more copy and, at large
//! frames, a walk out of the processor's cache; `benches/README.md` has the difference. Calls block; a connection that nobody
//! calls answers nothing, so a server that pings idle connections may close it, and the next call says `unavailable`.
//!
//! - `frame`: the bytes of frames. `fields`: header blocks, and how a call ended. `socket`: blocking vectored I/O.
//! - here: a call, what it sends and reads. `receive`: what each incoming frame changes.

mod fields;
mod frame;
mod receive;
mod socket;

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use bowstring_wire::error::{Code, Error, Result};

use self::fields::{Fields, HEADER_LIST_MAX};
use self::frame::{
    FRAME_MAX, HEADER_BYTES, Header, WINDOW_MAX, WINDOW_START, flag, kind, reason, setting,
};
use self::socket::Socket;
use crate::address::Address;

/// What is read ahead: frame headers, small messages, control frames; a header block must fit.
const INBOX_BYTES: usize = HEADER_LIST_MAX + HEADER_BYTES;
/// How much is read ahead behind a large read that went to the caller's buffer: the next frame's header and small
/// messages, and not much of its payload, which would then be copied.
const SPILL_BYTES: usize = 4 << 10;
/// Reads from here on go straight to the caller's buffer.
const DIRECT_BYTES: usize = 16 << 10;
/// Requests up to here are gathered into one write.
const GATHER_BYTES: usize = 16 << 10;
/// The payload of one write, at most; the peer's messages are looked at in between.
const BATCH_BYTES: usize = 1 << 20;
/// Frames of one write, at most, where the peer takes small ones only.
const BATCH_FRAMES: usize = 64;
/// The largest DATA frame we write, whatever the peer takes: it may wait for the whole of it.
const SEND_FRAME_MAX: usize = 256 << 10;
/// Response bytes that are kept while the request is still being sent.
const EARLY_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Transport {
    socket: Socket,
    authority: String,
    inbox: Box<[u8]>,
    start: usize,
    end: usize,
    /// Frames for the next write.
    outbox: Vec<u8>,
    hpack: loona_hpack::Decoder<'static>,
    peer_frame_max: usize,
    peer_window_start: i64,
    /// Bytes that the peer lets us send on the connection.
    window: i64,
    /// Bytes received on the connection and not yet granted again.
    received: u32,
    /// Padding of the last DATA frame, still to be skipped.
    padding: usize,
    next_stream: u32,
    /// The PING that `cancel` waits for was answered.
    answered: bool,
    /// Why no more calls are possible.
    closing: Option<Error>,
    call: Call,
}

/// The one call of a connection.
#[derive(Default)]
struct Call {
    stream: u32,
    window: i64,
    received: u32,
    /// Payload of the current DATA frame that is still to be read.
    left: usize,
    /// The request was sent to its end.
    sent: bool,
    /// The peer has sent its last frame; `left` bytes of it may still be there.
    ended: bool,
    reset: Option<u32>,
    fields: Fields,
    /// Response bytes that came while the request was being sent, and how many of them were read.
    early: Vec<u8>,
    early_read: usize,
}

impl Transport {
    /// Connects and waits for the peer's settings. `timeout` bounds every single wait for the socket.
    pub(crate) fn connect(address: &Address, timeout: Option<Duration>) -> Result<Transport> {
        let mut transport = Transport {
            socket: Socket::connect(address, timeout)?,
            authority: match address {
                Address::Tcp(host) => host.clone(),
                Address::Unix(_) => "localhost".to_owned(),
            },
            inbox: vec![0; INBOX_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            outbox: frame::PREFACE.to_vec(),
            hpack: loona_hpack::Decoder::new(),
            peer_frame_max: 16 << 10,
            peer_window_start: i64::from(WINDOW_START),
            window: i64::from(WINDOW_START),
            received: 0,
            padding: 0,
            next_stream: 1,
            answered: false,
            closing: None,
            call: Call::default(),
        };
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, WINDOW_MAX),
            (
                setting::MAX_FRAME_SIZE,
                u32::try_from(FRAME_MAX).unwrap_or(WINDOW_START),
            ),
            (
                setting::MAX_HEADER_LIST_SIZE,
                u32::try_from(HEADER_LIST_MAX).unwrap_or(WINDOW_START),
            ),
        ];
        frame::put_settings(&mut transport.outbox, &settings);
        frame::put_window_update(&mut transport.outbox, 0, WINDOW_MAX - WINDOW_START);
        transport.need(HEADER_BYTES)?;
        if transport.inbox[3] != kind::SETTINGS {
            return Err(Error::new(
                Code::Unavailable,
                format!("no HTTP/2 server, address=`{address}`"),
            ));
        }
        transport.take_frame()?;
        Ok(transport)
    }

    /// Whether another call can be made.
    pub(crate) fn is_open(&self) -> bool {
        self.closing.is_none()
    }

    /// Whether the response has ended: `finish` will not wait long.
    pub(crate) fn has_ended(&self) -> bool {
        self.call.ended
    }

    /// Begins a call; nothing is written before `send` has enough or `read` has to wait.
    pub(crate) fn begin(&mut self, path: &str) -> Result<()> {
        self.discard_payload()?;
        self.call.early.clear();
        self.call.early_read = 0;
        // What came since the last call: a GOAWAY, or the end, is better seen before the request than after.
        self.listen()?;
        if let Some(error) = &self.closing {
            return Err(error.clone());
        }
        if self.next_stream > WINDOW_MAX {
            return Err(self.fail(Error::new(
                Code::Unavailable,
                "the connection has no more streams",
            )));
        }
        self.call = Call {
            stream: self.next_stream,
            window: self.peer_window_start,
            ..Call::default()
        };
        self.next_stream += 2;
        let block = fields::request(path, &self.authority);
        frame::put(
            &mut self.outbox,
            kind::HEADERS,
            flag::END_HEADERS,
            self.call.stream,
            &block,
        );
        Ok(())
    }

    /// Sends request bytes, uncopied where they are many, as far as the peer's windows allow, waiting where they do not.
    /// `last` ends the request. `false`: the peer has ended the call and wants no more.
    pub(crate) fn send(&mut self, parts: &[&[u8]], last: bool) -> Result<bool> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        if total == 0 && !last {
            return Ok(!self.call.ended);
        }
        loop {
            let left = total - sent;
            if total > GATHER_BYTES {
                self.listen()?;
            }
            while left > 0 && self.window.min(self.call.window) <= 0 && !self.call.ended {
                self.take_frame()?;
                self.stash()?;
            }
            if self.call.ended {
                return Ok(false);
            }
            let window = usize::try_from(self.window.min(self.call.window)).unwrap_or(0);
            let now = left
                .min(window)
                .min(BATCH_BYTES)
                .min(self.send_frame_max() * BATCH_FRAMES);
            self.write_batch(parts, sent, now, last && now == left)?;
            sent += now;
            if sent == total {
                return Ok(true);
            }
        }
    }

    /// Fills `into` with response bytes, straight from the socket where they are many. Fewer than asked for: the response ended.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            let rest = &mut into[filled..];
            let early = &self.call.early[self.call.early_read..];
            if !early.is_empty() {
                let n = rest.len().min(early.len());
                rest[..n].copy_from_slice(&early[..n]);
                self.call.early_read += n;
                filled += n;
                continue;
            }
            if self.call.left == 0 {
                if self.call.ended {
                    break;
                }
                self.take_frame()?;
                continue;
            }
            let want = rest.len().min(self.call.left);
            let n = if self.start < self.end || want < DIRECT_BYTES {
                self.need(1)?;
                let n = want.min(self.end - self.start);
                rest[..n].copy_from_slice(&self.inbox[self.start..self.start + n]);
                self.start += n;
                n
            } else {
                self.flush()?;
                let spill = IoSliceMut::new(&mut self.inbox[..SPILL_BYTES]);
                let read = self
                    .socket
                    .read(&mut [IoSliceMut::new(&mut rest[..want]), spill]);
                let read = read.map_err(|error| self.fail(error))?;
                self.start = 0;
                self.end = read.saturating_sub(want);
                read.min(want)
            };
            self.call.left -= n;
            filled += n;
        }
        Ok(filled)
    }

    /// Response bytes that are here in one piece, at least one, waiting for it; none at the end of the response.
    pub(crate) fn peek(&mut self) -> Result<&[u8]> {
        if self.call.early_read == self.call.early.len() {
            while self.call.left == 0 && !self.call.ended {
                self.take_frame()?;
            }
            if self.call.left > 0 {
                self.need(1)?;
            }
        }
        Ok(self.here())
    }

    /// What [`Transport::peek`] would give without waiting.
    pub(crate) fn here(&self) -> &[u8] {
        let early = &self.call.early[self.call.early_read..];
        if !early.is_empty() {
            return early;
        }
        let here = self.call.left.min(self.end - self.start);
        &self.inbox[self.start..self.start + here]
    }

    /// Passes over `bytes` of what is [here](Transport::here).
    pub(crate) fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.here().len());
        if self.call.early_read < self.call.early.len() {
            self.call.early_read += bytes;
        } else {
            self.start += bytes;
            self.call.left -= bytes;
        }
    }

    /// Reads to the end of the response and tells how the call ended. A call whose request was not ended is cut off.
    pub(crate) fn finish(&mut self) -> Result<()> {
        loop {
            self.discard_payload()?;
            if self.call.ended {
                break;
            }
            self.take_frame()?;
        }
        if !self.call.sent && self.call.reset.is_none() && self.call.stream != 0 {
            self.put_reset(reason::NO_ERROR);
        }
        self.flush()?;
        match self.call.reset {
            // A peer that has answered may ask us with NO_ERROR to send no more.
            Some(code) if code != reason::NO_ERROR || self.call.fields.is_empty() => {
                Err(reset_error(code))
            }
            _ => self.call.fields.outcome(),
        }
    }

    /// Gives the call up, in whatever state it is, and leaves the connection ready for the next one.
    pub(crate) fn cancel(&mut self) -> Result<()> {
        self.discard_payload()?;
        if self.call.ended {
            return self.finish().or(Ok(()));
        }
        self.put_reset(reason::CANCEL);
        // What the peer has already queued comes before its answer: a writer that waited while it sends would wait for ever.
        frame::put(&mut self.outbox, kind::PING, 0, 0, b"bowstrng");
        self.answered = false;
        self.call = Call {
            ended: true,
            ..Call::default()
        };
        while !self.answered {
            self.take_frame()?;
        }
        Ok(())
    }

    fn put_reset(&mut self, code: u32) {
        frame::put(
            &mut self.outbox,
            kind::RST_STREAM,
            0,
            self.call.stream,
            &code.to_be_bytes(),
        );
    }

    fn send_frame_max(&self) -> usize {
        self.peer_frame_max.min(SEND_FRAME_MAX)
    }

    /// Writes `now` bytes of `parts` from `skip` on as DATA frames; small ones wait in the outbox for company.
    fn write_batch(
        &mut self,
        parts: &[&[u8]],
        mut skip: usize,
        now: usize,
        end: bool,
    ) -> Result<()> {
        let taken = i64::try_from(now).unwrap_or(i64::MAX);
        self.window -= taken;
        self.call.window -= taken;
        self.call.sent = end;
        if now + self.outbox.len() <= GATHER_BYTES {
            self.gather(parts, skip, now, end);
            return if end { self.flush() } else { Ok(()) };
        }
        let mut headers = Vec::with_capacity(now / self.send_frame_max() + 1);
        let mut left = now;
        loop {
            let length = left.min(self.send_frame_max());
            left -= length;
            let flags = if end && left == 0 {
                flag::END_STREAM
            } else {
                0
            };
            headers.push(Header {
                length,
                kind: kind::DATA,
                flags,
                stream: self.call.stream,
            });
            if left == 0 {
                break;
            }
        }
        let encoded: Vec<_> = headers.iter().map(|header| header.encode()).collect();
        let outbox = std::mem::take(&mut self.outbox);
        let mut slices = vec![IoSlice::new(&outbox)];
        let mut parts = parts.iter();
        let mut part: &[u8] = &[];
        for (header, encoded) in headers.iter().zip(&encoded) {
            slices.push(IoSlice::new(encoded));
            let mut left = header.length;
            while left > 0 {
                if part.is_empty() {
                    part = parts.next().copied().unwrap_or_default();
                    let skipped = skip.min(part.len());
                    skip -= skipped;
                    part = &part[skipped..];
                    continue;
                }
                let (piece, rest) = part.split_at(left.min(part.len()));
                slices.push(IoSlice::new(piece));
                left -= piece.len();
                part = rest;
            }
        }
        let written = self.socket.write_all(&mut slices);
        self.outbox = outbox;
        self.outbox.clear();
        written.map_err(|error| self.fail(error))
    }

    /// Adds a small DATA frame to what is written next. Every peer takes frames of that size.
    fn gather(&mut self, parts: &[&[u8]], mut skip: usize, mut left: usize, end: bool) {
        let header = Header {
            length: left,
            kind: kind::DATA,
            flags: if end { flag::END_STREAM } else { 0 },
            stream: self.call.stream,
        };
        self.outbox.extend_from_slice(&header.encode());
        for part in parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let part = &part[skipped..];
            let piece = &part[..left.min(part.len())];
            self.outbox.extend_from_slice(piece);
            left -= piece.len();
        }
    }

    /// Writes what was waiting for company.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let written = self.socket.write_all(&mut [IoSlice::new(&self.outbox)]);
        self.outbox.clear();
        written.map_err(|error| self.fail(error))
    }

    /// Takes the frames that are there, without waiting for one.
    fn listen(&mut self) -> Result<()> {
        self.compact();
        if self.end < self.inbox.len() {
            let read = self.socket.read_ready(&mut self.inbox[self.end..]);
            self.end += read.map_err(|error| self.fail(error))?;
        }
        while self.end - self.start >= HEADER_BYTES {
            self.take_frame()?;
            self.stash()?;
        }
        Ok(())
    }

    /// Keeps response bytes that came before the request was all sent: window updates may lie behind them.
    fn stash(&mut self) -> Result<()> {
        let left = self.call.left;
        if self.call.early.len() + left > EARLY_BYTES_MAX {
            return Err(self.fail(Error::new(
                Code::Internal,
                "the server answers at length before it was asked",
            )));
        }
        let mut early = std::mem::take(&mut self.call.early);
        early.drain(..std::mem::take(&mut self.call.early_read));
        let kept = early.len();
        early.resize(kept + left, 0);
        let read = self.read(&mut early[kept..]);
        self.call.early = early;
        read.map(drop)
    }

    /// Makes `bytes` readable in the inbox, waiting for them.
    fn need(&mut self, bytes: usize) -> Result<()> {
        if self.end - self.start >= bytes {
            return Ok(());
        }
        self.flush()?;
        self.compact();
        while self.end < bytes {
            let read = self
                .socket
                .read(&mut [IoSliceMut::new(&mut self.inbox[self.end..])]);
            self.end += read.map_err(|error| self.fail(error))?;
        }
        Ok(())
    }

    fn compact(&mut self) {
        self.inbox.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    fn discard_payload(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.call.left);
        self.discard(left)
    }

    fn discard(&mut self, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            self.need(1)?;
            let n = bytes.min(self.end - self.start);
            self.start += n;
            bytes -= n;
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Error {
        self.closing.get_or_insert(error).clone()
    }
}

fn reset_error(code: u32) -> Error {
    // As the gRPC specification maps them.
    let kind = match code {
        reason::REFUSED_STREAM => Code::Unavailable,
        reason::CANCEL => Code::Cancelled,
        reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        _ => Code::Internal,
    };
    Error::new(
        kind,
        format!("the server reset the stream, http2_code=`{code}`"),
    )
}
