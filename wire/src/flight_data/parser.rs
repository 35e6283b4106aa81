//! A received stream of messages, in any split.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{APP_METADATA, BODY, DESCRIPTOR, GRPC_PREFIX_BYTES, HEADER, LEN};
use crate::error::{Error, Result};
use crate::limits::{
    MAX_APP_METADATA_BYTES, MAX_BODY_BEFORE_HEADER_BYTES, MAX_DESCRIPTOR_BYTES, MAX_HEADER_BYTES,
};

/// What a message holds, in this order: descriptor, header, metadata, body, end, each at most
/// once. Metadata that a writer puts behind the body comes between the body and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The encoded `FlightDescriptor`.
    Descriptor(Bytes),
    /// `data_header`: an Arrow IPC message without its body, unchecked.
    Header(Bytes),
    /// `app_metadata`.
    AppMetadata(Bytes),
    /// A body of so many bytes begins. Nothing has been allocated for it.
    BodyStart {
        /// What the message says that the body has; as much follows, or an error.
        len: u64,
    },
    /// The next piece of the body, as it came.
    BodyChunk(Bytes),
    /// The message is whole.
    MessageEnd,
}

/// Parses a gRPC stream of `FlightData` fed in any split.
///
/// Holds the small fields of one message, within their limits, and no byte of a body (but for a
/// body that comes before its header, up to [`MAX_BODY_BEFORE_HEADER_BYTES`]).
#[derive(Debug, Default)]
pub struct Parser {
    input: VecDeque<Bytes>,
    output: VecDeque<Event>,
    state: State,
    /// Bytes of the current message that have not been read.
    left: u64,
    seen: Seen,
    pending: Pending,
    failed: Option<Error>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Prefix {
        got: usize,
        prefix: [u8; GRPC_PREFIX_BYTES],
    },
    Tag(Varint),
    Length {
        field: u64,
        varint: Varint,
    },
    SkipVarint(Varint),
    Skip(u64),
    Field {
        field: u64,
        left: u64,
    },
    Body {
        left: u64,
        early: bool,
    },
}

impl Default for State {
    fn default() -> Self {
        State::Prefix {
            got: 0,
            prefix: [0; GRPC_PREFIX_BYTES],
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Varint {
    value: u64,
    shift: u32,
}

/// Which fields this message has had: protobuf would let a later one win, but then bytes that
/// were judged are not the bytes that count.
#[derive(Debug, Default)]
struct Seen {
    descriptor: bool,
    header: bool,
    app_metadata: bool,
    body: bool,
}

#[derive(Debug, Default)]
struct Pending {
    descriptor: Option<Bytes>,
    header: Option<Bytes>,
    app_metadata: Option<Bytes>,
    early_body: Option<BytesMut>,
    /// The field that is being read, as far as it spans frames.
    partial: BytesMut,
}

impl Parser {
    /// A parser at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next frame.
    pub fn push(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.input.push_back(frame);
        }
    }

    /// The next event; `None` until more is pushed.
    ///
    /// # Errors
    /// `invalid_argument` for what is not a `FlightData` message, `unimplemented` for gRPC
    /// compression, `resource_exhausted` for a field over its limit. The same error again after
    /// that.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            if let Some(event) = self.output.pop_front() {
                return Ok(Some(event));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    self.input.clear();
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// To be asked at the end of the stream.
    ///
    /// # Errors
    /// `invalid_argument` where the stream ended inside a message.
    pub fn finish(&self) -> Result<()> {
        match self.state {
            State::Prefix { got: 0, .. } => Ok(()),
            _ => Err(Error::invalid(format!(
                "stream ended inside a message; missing_bytes=`{}`",
                self.left
            ))),
        }
    }

    /// The frames behind the last message, for who reads on in another way. To be asked after
    /// [`Event::MessageEnd`].
    pub fn take_rest(&mut self) -> Vec<Bytes> {
        self.input.drain(..).collect()
    }

    /// Bytes held for fields that are not whole, or that wait for their turn.
    pub fn held_bytes(&self) -> u64 {
        let early = self.pending.early_body.as_ref().map_or(0, BytesMut::len);
        let fields = [
            &self.pending.descriptor,
            &self.pending.header,
            &self.pending.app_metadata,
        ];
        let held: usize = self
            .input
            .iter()
            .chain(fields.into_iter().flatten())
            .map(Bytes::len)
            .sum();
        (held + early + self.pending.partial.len()) as u64
    }

    /// One state's work; false where the input does not suffice.
    fn step(&mut self) -> Result<bool> {
        match self.state {
            State::Prefix { got, prefix } => self.read_prefix(got, prefix),
            State::Tag(_) if self.left == 0 => {
                self.end_message()?;
                Ok(true)
            }
            State::Tag(varint) => self.read_varint(varint, State::Tag, Self::on_tag),
            State::Length { field, varint } => self.read_varint(
                varint,
                |varint| State::Length { field, varint },
                |parser, len| parser.on_length(field, len),
            ),
            State::SkipVarint(varint) => {
                self.read_varint(varint, State::SkipVarint, |parser, _| {
                    parser.state = State::Tag(Varint::default());
                    Ok(())
                })
            }
            State::Skip(left) => Ok(self.skip(left)),
            State::Field { field, left } => Ok(self.read_field(field, left)),
            State::Body { left, early } => Ok(self.read_body(left, early)),
        }
    }

    fn read_prefix(&mut self, mut got: usize, mut prefix: [u8; GRPC_PREFIX_BYTES]) -> Result<bool> {
        while got < GRPC_PREFIX_BYTES {
            let Some(byte) = self.byte() else {
                self.state = State::Prefix { got, prefix };
                return Ok(false);
            };
            prefix[got] = byte;
            got += 1;
        }
        let [flag, length @ ..] = prefix;
        match flag {
            0 => {}
            1 => {
                return Err(Error::unimplemented(
                    "gRPC message compression is not supported; send messages uncompressed",
                ));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "not a gRPC message; compressed_flag=`{flag}` expected 0"
                )));
            }
        }
        self.left = u64::from(u32::from_be_bytes(length));
        self.seen = Seen::default();
        self.state = State::Tag(Varint::default());
        Ok(true)
    }

    fn read_varint(
        &mut self,
        mut varint: Varint,
        keep: impl Fn(Varint) -> State,
        done: impl FnOnce(&mut Self, u64) -> Result<()>,
    ) -> Result<bool> {
        loop {
            if self.left == 0 {
                return Err(malformed("a field ends behind its message"));
            }
            let Some(byte) = self.byte() else {
                self.state = keep(varint);
                return Ok(false);
            };
            self.left -= 1;
            let bits = u64::from(byte & 0x7f);
            if varint.shift > 63 || (varint.shift == 63 && bits > 1) {
                return Err(malformed("a varint has more than 64 bits"));
            }
            varint.value |= bits << varint.shift;
            varint.shift += 7;
            if byte & 0x80 == 0 {
                return done(self, varint.value).map(|()| true);
            }
        }
    }

    fn on_tag(&mut self, tag: u64) -> Result<()> {
        let (field, wire_type) = (tag >> 3, tag & 7);
        let known = matches!(field, DESCRIPTOR | HEADER | APP_METADATA | BODY);
        self.state = match wire_type {
            LEN if field != 0 => State::Length {
                field,
                varint: Varint::default(),
            },
            _ if known || field == 0 => {
                return Err(malformed("a field has the wrong type or number"));
            }
            0 => State::SkipVarint(Varint::default()),
            1 if self.left >= 8 => State::Skip(8),
            5 if self.left >= 4 => State::Skip(4),
            1 | 5 => return Err(malformed("a field ends behind its message")),
            _ => return Err(malformed("a field has an unknown wire type")),
        };
        Ok(())
    }

    fn on_length(&mut self, field: u64, len: u64) -> Result<()> {
        if len > self.left {
            return Err(malformed("a field ends behind its message"));
        }
        let (seen, name, max) = match field {
            DESCRIPTOR => (
                &mut self.seen.descriptor,
                "flight_descriptor",
                MAX_DESCRIPTOR_BYTES,
            ),
            HEADER => (&mut self.seen.header, "data_header", MAX_HEADER_BYTES),
            APP_METADATA => (
                &mut self.seen.app_metadata,
                "app_metadata",
                MAX_APP_METADATA_BYTES,
            ),
            BODY => (&mut self.seen.body, "data_body", usize::MAX),
            _ => {
                self.state = State::Skip(len);
                return Ok(());
            }
        };
        if std::mem::replace(seen, true) {
            return Err(Error::invalid(format!(
                "message has a field twice; field=`{name}` expected at most one"
            )));
        }
        if len > max as u64 {
            return Err(Error::exhausted(format!(
                "message field is too large; field=`{name}` bytes=`{len}` expected at most {max}"
            )));
        }
        if field == BODY {
            return self.start_body(len);
        }
        self.state = State::Field { field, left: len };
        if len == 0 {
            self.finish_field(field, Bytes::new());
        }
        Ok(())
    }

    fn start_body(&mut self, len: u64) -> Result<()> {
        let early = !self.seen.header;
        if early && len > MAX_BODY_BEFORE_HEADER_BYTES as u64 {
            return Err(Error::unimplemented(format!(
                "a body before its header is held only when small; bytes=`{len}` expected at \
                 most {MAX_BODY_BEFORE_HEADER_BYTES}, or data_header before data_body"
            )));
        }
        if early {
            self.pending.early_body = Some(BytesMut::new());
        } else {
            self.flush_fields();
            self.output.push_back(Event::BodyStart { len });
        }
        self.state = match len {
            0 => State::Tag(Varint::default()),
            left => State::Body { left, early },
        };
        Ok(())
    }

    fn read_field(&mut self, field: u64, left: u64) -> bool {
        let Some(piece) = self.piece(left) else {
            return false;
        };
        let left = left - piece.len() as u64;
        if left == 0 && self.pending.partial.is_empty() {
            self.finish_field(field, piece);
            return true;
        }
        self.pending.partial.extend_from_slice(&piece);
        if left > 0 {
            self.state = State::Field { field, left };
        } else {
            let whole = self.pending.partial.split().freeze();
            self.pending.partial = BytesMut::new();
            self.finish_field(field, whole);
        }
        true
    }

    fn finish_field(&mut self, field: u64, bytes: Bytes) {
        let slot = match field {
            DESCRIPTOR => &mut self.pending.descriptor,
            HEADER => &mut self.pending.header,
            _ => &mut self.pending.app_metadata,
        };
        *slot = Some(bytes);
        self.state = State::Tag(Varint::default());
    }

    fn read_body(&mut self, left: u64, early: bool) -> bool {
        let Some(piece) = self.piece(left) else {
            return false;
        };
        let left = left - piece.len() as u64;
        match &mut self.pending.early_body {
            // Copied, because a frame may be much larger than the piece that would hold it.
            Some(held) if early => held.extend_from_slice(&piece),
            _ => self.output.push_back(Event::BodyChunk(piece)),
        }
        self.state = match left {
            0 => State::Tag(Varint::default()),
            left => State::Body { left, early },
        };
        true
    }

    fn skip(&mut self, left: u64) -> bool {
        if left == 0 {
            self.state = State::Tag(Varint::default());
            return true;
        }
        let Some(piece) = self.piece(left) else {
            return false;
        };
        self.state = State::Skip(left - piece.len() as u64);
        true
    }

    fn flush_fields(&mut self) {
        let pending = &mut self.pending;
        let fields = [
            pending.descriptor.take().map(Event::Descriptor),
            pending.header.take().map(Event::Header),
            pending.app_metadata.take().map(Event::AppMetadata),
        ];
        self.output.extend(fields.into_iter().flatten());
    }

    fn end_message(&mut self) -> Result<()> {
        if self.seen.body && !self.seen.header {
            return Err(Error::invalid(
                "message has a data_body and no data_header; expected both or neither",
            ));
        }
        self.flush_fields();
        if let Some(body) = self.pending.early_body.take() {
            self.output.push_back(Event::BodyStart {
                len: body.len() as u64,
            });
            if !body.is_empty() {
                self.output.push_back(Event::BodyChunk(body.freeze()));
            }
        }
        self.output.push_back(Event::MessageEnd);
        self.state = State::default();
        Ok(())
    }

    fn byte(&mut self) -> Option<u8> {
        let front = self.input.front_mut()?;
        let byte = *front.first()?;
        // `advance` on a `Bytes` is two additions.
        bytes::Buf::advance(front, 1);
        if front.is_empty() {
            self.input.pop_front();
        }
        Some(byte)
    }

    /// Up to `max` bytes of the message from the first frame.
    fn piece(&mut self, max: u64) -> Option<Bytes> {
        let front = self.input.front_mut()?;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let piece = if front.len() <= max {
            self.input.pop_front()?
        } else {
            front.split_to(max)
        };
        // Every length was compared with `left` before.
        self.left -= piece.len() as u64;
        Some(piece)
    }
}

fn malformed(what: &str) -> Error {
    Error::invalid(format!(
        "not a FlightData message: {what}; expected protobuf as Flight.proto defines it"
    ))
}
