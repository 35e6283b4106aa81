//! Reading FlightData off a response one field at a time, so that a body's bytes never pass through a buffer of ours.

use bowstring_wire::error::{Code, Error, Result};

use crate::transport::Transport;

/// A data header (an IPC flatbuffer) or application metadata, at most; they are kept whole.
const SMALL_BYTES_MAX: usize = 16 << 20;

/// Field numbers of `FlightData`, as tags with wire type 2.
const DATA_HEADER: u64 = 2 << 3 | 2;
const APP_METADATA: u64 = 3 << 3 | 2;
const DATA_BODY: u64 = 1000 << 3 | 2;

/// The message that is being read: what came before its body. Reused from message to message.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) data_header: Vec<u8>,
    pub(crate) app_metadata: Vec<u8>,
    /// Bytes of the message that were not read yet.
    left: usize,
    /// Bytes of the body that were not read yet.
    body_left: usize,
}

impl Message {
    /// Reads up to the next message's body, or its end where it has none; `false` at the end of the response.
    pub(crate) fn next(&mut self, from: &mut Transport) -> Result<bool> {
        self.data_header.clear();
        self.app_metadata.clear();
        let mut prefix = [0; 5];
        match from.read(&mut prefix)? {
            0 => return Ok(false),
            5 => {}
            _ => return Err(cut_short()),
        }
        let [compressed, length @ ..] = prefix;
        if compressed != 0 {
            return Err(Error::new(
                Code::Unimplemented,
                "the server sent a compressed message, which nobody asked for",
            ));
        }
        self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // That of a response which ended within a message is still there.
        self.body_left = 0;
        self.fields(from)?;
        Ok(true)
    }

    /// As [`Message::next`], for a message of which everything before its body was read, and nothing follows that.
    pub(crate) fn begin_body(&mut self, bytes: usize) {
        self.left = bytes;
        self.body_left = bytes;
    }

    /// The whole of the body, where it is here in one piece and nothing of it was read: to be looked at before it is skipped.
    pub(crate) fn body_here<'a>(&self, from: &'a Transport) -> Option<&'a [u8]> {
        from.here().get(..self.body_left)
    }

    /// Bytes of the body that are still to be read.
    pub(crate) fn body_left(&self) -> usize {
        self.body_left
    }

    /// Reads body bytes; exactly as many as `into` holds, at most `body_left`.
    pub(crate) fn read_body(&mut self, from: &mut Transport, into: &mut [u8]) -> Result<()> {
        read_exact(from, into)?;
        self.body_left -= into.len();
        self.left -= into.len();
        Ok(())
    }

    /// Passes over `bytes` of the body.
    pub(crate) fn skip_body(&mut self, from: &mut Transport, bytes: usize) -> Result<()> {
        self.skip(from, bytes)?;
        self.body_left -= bytes;
        Ok(())
    }

    /// Reads what follows the body.
    pub(crate) fn end(&mut self, from: &mut Transport) -> Result<()> {
        let body = self.body_left;
        self.skip_body(from, body)?;
        self.fields(from)?;
        if self.body_left > 0 {
            return Err(malformed("two bodies"));
        }
        Ok(())
    }

    /// Reads fields until a body begins or the message ends.
    fn fields(&mut self, from: &mut Transport) -> Result<()> {
        while self.left > 0 {
            let tag = self.varint(from)?;
            match tag {
                DATA_BODY => {
                    self.body_left = self.length(from)?;
                    return Ok(());
                }
                DATA_HEADER | APP_METADATA => {
                    let length = self.length(from)?;
                    if length > SMALL_BYTES_MAX {
                        return Err(malformed("a header is too long"));
                    }
                    let field = if tag == DATA_HEADER {
                        &mut self.data_header
                    } else {
                        &mut self.app_metadata
                    };
                    field.resize(length, 0);
                    read_exact(from, field)?;
                    self.left -= length;
                }
                // What other fields there may be is not for us: a descriptor, or one of a later Flight.
                _ => {
                    let length = match tag & 7 {
                        0 => self.varint(from).map(|_| 0)?,
                        1 => 8,
                        2 => self.length(from)?,
                        5 => 4,
                        _ => return Err(malformed("an unknown wire type")),
                    };
                    self.skip(from, length)?;
                }
            }
        }
        Ok(())
    }

    fn length(&mut self, from: &mut Transport) -> Result<usize> {
        let length = usize::try_from(self.varint(from)?).unwrap_or(usize::MAX);
        if length > self.left {
            return Err(malformed("a field is longer than its message"));
        }
        Ok(length)
    }

    fn varint(&mut self, from: &mut Transport) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.left = self
                .left
                .checked_sub(1)
                .ok_or_else(|| malformed("a field is cut off"))?;
            read_exact(from, &mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number has too many bytes"))
    }

    fn skip(&mut self, from: &mut Transport, bytes: usize) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| malformed("a field is longer than its message"))?;
        let mut left = bytes;
        while left > 0 {
            let here = from.peek()?.len().min(left);
            if here == 0 {
                return Err(cut_short());
            }
            from.consume(here);
            left -= here;
        }
        Ok(())
    }
}

fn read_exact(from: &mut Transport, into: &mut [u8]) -> Result<()> {
    if from.read(into)? == into.len() {
        Ok(())
    } else {
        Err(cut_short())
    }
}

/// The caller asks the transport how the call ended, and prefers that answer.
fn cut_short() -> Error {
    Error::new(Code::Unavailable, "the response ended within a message")
}

fn malformed(what: &str) -> Error {
    Error::new(
        Code::Internal,
        format!("the server's message is malformed: {what}"),
    )
}
