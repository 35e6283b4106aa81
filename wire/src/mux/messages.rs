//! Messages of the mux exchange in a stream, in any split.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::flight_data::GRPC_PREFIX_BYTES;
use crate::limits::{MAX_MUX_HEADER_BYTES, MAX_MUX_PUT_BYTES};

/// What a stream of messages consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MuxEvent {
    /// A message begins; pieces of its body follow, `body` bytes together.
    Message {
        /// Of the request or reply, not yet looked at.
        header: Bytes,
        /// Bytes of the tensor behind it. Nothing has been allocated for them.
        body: u64,
    },
    /// The next piece of the body.
    Body(Bytes),
}

/// Finds requests in a stream. Holds the frames that it was given and no more than the beginning
/// of one message besides.
#[derive(Debug, Default)]
pub struct MuxMessages {
    input: VecDeque<Bytes>,
    /// The beginning of a message, where it spans frames.
    carried: Vec<u8>,
    /// Bytes of the current body that have not been given out.
    body_left: u64,
}

/// Everything of a message before its body.
#[derive(Debug, PartialEq, Eq)]
pub struct MuxHead {
    /// Where the header of the request or reply lies.
    pub header: std::ops::Range<usize>,
    /// Bytes of the tensor behind it.
    pub body: u64,
    /// Bytes up to the tensor.
    pub len: usize,
}

/// `app_metadata`, field 3, and `data_body`, field 1000, both length-delimited.
const HEADER_TAG: u8 = 3 << 3 | 2;
const BODY_TAG: [u8; 2] = [0xc2, 0x3e];
/// gRPC's prefix, two tags, two lengths, a header.
const HEAD_BYTES_MAX: usize = GRPC_PREFIX_BYTES + 1 + 3 + MAX_MUX_HEADER_BYTES + 2 + 5;
const MESSAGE_BYTES_MAX: u64 = MAX_MUX_PUT_BYTES + HEAD_BYTES_MAX as u64;

impl MuxMessages {
    /// Messages of what another reader left over.
    pub fn new(rest: impl IntoIterator<Item = Bytes>) -> Self {
        let mut messages = Self::default();
        rest.into_iter().for_each(|frame| messages.push(frame));
        messages
    }

    /// Adds the next frame.
    pub fn push(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.input.push_back(frame);
        }
    }

    /// What comes next; `None` until more is pushed.
    ///
    /// # Errors
    /// `invalid_argument` for what is no message of the mux exchange, `unimplemented` for gRPC
    /// compression, `resource_exhausted` for one that is too large. The stream cannot be read on.
    pub fn next_event(&mut self) -> Result<Option<MuxEvent>> {
        if self.body_left > 0 {
            return Ok(self.piece().map(MuxEvent::Body));
        }
        loop {
            let Some(front) = self.input.front_mut() else {
                return Ok(None);
            };
            if self.carried.is_empty()
                && let Some(head) = MuxHead::parse(front)?
            {
                let header = front.slice(head.header);
                front.advance(head.len);
                return Ok(Some(self.begin(header, head.body)));
            }
            // Spans frames: as much of this one as a head may still have.
            let before = self.carried.len();
            let more = front.len().min(HEAD_BYTES_MAX.saturating_sub(before));
            self.carried.extend_from_slice(&front[..more]);
            match MuxHead::parse(&self.carried)? {
                Some(head) => {
                    front.advance(head.len - before);
                    let header = Bytes::copy_from_slice(&self.carried[head.header]);
                    self.carried.clear();
                    return Ok(Some(self.begin(header, head.body)));
                }
                None if more == 0 => return Err(malformed("its head has no end")),
                None => front.advance(more),
            }
            if front.is_empty() {
                self.input.pop_front();
            }
        }
    }

    /// Whether a message has begun and is not whole.
    pub fn is_within(&self) -> bool {
        self.body_left > 0 || !self.carried.is_empty()
    }

    /// To be asked at the end of the stream.
    ///
    /// # Errors
    /// `invalid_argument` where the stream ended inside a message.
    pub fn finish(&self) -> Result<()> {
        if self.is_within() {
            return Err(Error::invalid("the exchange ended inside a message"));
        }
        Ok(())
    }

    fn begin(&mut self, header: Bytes, body: u64) -> MuxEvent {
        self.body_left = body;
        if self.input.front().is_some_and(Bytes::is_empty) {
            self.input.pop_front();
        }
        MuxEvent::Message { header, body }
    }

    fn piece(&mut self) -> Option<Bytes> {
        let front = self.input.front_mut()?;
        let max = usize::try_from(self.body_left).unwrap_or(usize::MAX);
        let piece = if front.len() <= max {
            self.input.pop_front()?
        } else {
            front.split_to(max)
        };
        self.body_left -= piece.len() as u64;
        Some(piece)
    }
}

impl MuxHead {
    /// Reads a head at the front of `bytes`; `None` where they end before it does.
    ///
    /// # Errors
    /// As [`MuxMessages::next_event`].
    pub fn parse(bytes: &[u8]) -> Result<Option<MuxHead>> {
        let Some([flag, length @ ..]) = bytes.first_chunk::<GRPC_PREFIX_BYTES>() else {
            return Ok(None);
        };
        if *flag != 0 {
            return Err(Error::unimplemented(
                "gRPC message compression is not supported; send messages uncompressed",
            ));
        }
        let message = u32::from_be_bytes(*length);
        if u64::from(message) > MESSAGE_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "a message of the mux exchange is too large, use DoPut; bytes=`{message}` expected \
                 a tensor of at most {MAX_MUX_PUT_BYTES}"
            )));
        }
        let end = GRPC_PREFIX_BYTES + message as usize;
        let mut at = GRPC_PREFIX_BYTES;
        match bytes.get(at) {
            Some(&HEADER_TAG) => at += 1,
            None if at < end => return Ok(None),
            _ => return Err(malformed("its first field is not app_metadata")),
        }
        let Some(header_len) = varint(bytes, &mut at)? else {
            return Ok(None);
        };
        let header_len = usize::try_from(header_len).unwrap_or(usize::MAX);
        if header_len > MAX_MUX_HEADER_BYTES || at + header_len > end {
            return Err(malformed("its app_metadata is too long"));
        }
        let header = at..at + header_len;
        at = header.end;
        if at == end {
            let head = MuxHead {
                header,
                body: 0,
                len: end,
            };
            return Ok((bytes.len() >= end).then_some(head));
        }
        let Some(tag) = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()) else {
            return if end - at < 2 {
                Err(malformed("it ends within a field"))
            } else {
                Ok(None)
            };
        };
        if *tag != BODY_TAG {
            return Err(malformed("its second field is not data_body"));
        }
        at += 2;
        let Some(body) = varint(bytes, &mut at)? else {
            return Ok(None);
        };
        if at > end || body != (end - at) as u64 {
            return Err(malformed("its data_body does not end it"));
        }
        Ok(Some(MuxHead {
            header,
            body,
            len: at,
        }))
    }
}

/// What stands around a header: before it (`front`), and between it and the body (`back`, empty
/// where there is no body).
#[derive(Debug)]
pub struct MuxPrefix {
    /// gRPC's prefix and the header's tag and length.
    pub front: SmallVec<[u8; 16]>,
    /// The body's tag and length.
    pub back: SmallVec<[u8; 16]>,
}

impl MuxPrefix {
    /// For a header of `header` bytes and a body of `body`.
    ///
    /// # Errors
    /// `invalid_argument` past the 4 GiB that gRPC can say.
    pub fn new(header: usize, body: u64) -> Result<MuxPrefix> {
        let mut field: SmallVec<[u8; 16]> = SmallVec::new();
        field.push(HEADER_TAG);
        put_varint(&mut field, header as u64);
        let mut back = SmallVec::new();
        if body > 0 {
            back.extend_from_slice(&BODY_TAG);
            put_varint(&mut back, body);
        }
        let message = field.len() as u64 + header as u64 + back.len() as u64 + body;
        let message = u32::try_from(message).map_err(|_| {
            Error::invalid(format!(
                "a message is too large for gRPC; bytes=`{message}` expected at most {}",
                u32::MAX
            ))
        })?;
        let mut front = SmallVec::new();
        front.push(0);
        front.extend_from_slice(&message.to_be_bytes());
        front.extend_from_slice(&field);
        Ok(MuxPrefix { front, back })
    }
}

/// A varint at `at`, which moves behind it; `None` where the bytes end first.
fn varint(bytes: &[u8], at: &mut usize) -> Result<Option<u64>> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let Some(byte) = bytes.get(*at) else {
            return Ok(None);
        };
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(Some(value));
        }
    }
    Err(malformed("a length has more than five bytes"))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low seven bits are meant"
)]
fn put_varint(out: &mut SmallVec<[u8; 16]>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn malformed(what: &str) -> Error {
    Error::invalid(format!(
        "not a message of the mux exchange: {what}; expected app_metadata, then data_body or \
         nothing"
    ))
}
