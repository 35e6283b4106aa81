//! Taking in one HTTP/2 frame: what it changes in the connection and in the call.

use bowstring_wire::error::{Code, Error, Result};

use super::Transport;
use super::fields::HEADER_LIST_MAX;
use super::frame::{
    self, FRAME_MAX, HEADER_BYTES, Header, WINDOW_MAX, flag, kind, reason, setting,
};

impl Transport {
    /// Takes one frame, waiting for it. The payload of the call's own DATA is left to be read; nothing else is.
    pub(super) fn take_frame(&mut self) -> Result<()> {
        let padding = std::mem::take(&mut self.padding);
        self.discard(padding)?;
        let header = self.take_header()?;
        if header.length > FRAME_MAX {
            return Err(self.broken("a frame is larger than allowed", header));
        }
        match header.kind {
            kind::DATA => self.take_data(header),
            kind::HEADERS => self.take_headers(header),
            kind::SETTINGS | kind::PING | kind::GOAWAY | kind::WINDOW_UPDATE | kind::RST_STREAM => {
                if header.length > HEADER_LIST_MAX {
                    return Err(self.broken("a control frame is too large", header));
                }
                self.need(header.length)?;
                let payload = self.inbox[self.start..self.start + header.length].to_vec();
                self.start += header.length;
                self.take_control(header, &payload)
            }
            kind::PUSH_PROMISE | kind::CONTINUATION => {
                Err(self.broken("a frame came out of place", header))
            }
            // PRIORITY, and what later documents define, is to be ignored.
            _ => self.discard(header.length),
        }
    }

    fn take_header(&mut self) -> Result<Header> {
        self.need(HEADER_BYTES)?;
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&self.inbox[self.start..self.start + HEADER_BYTES]);
        self.start += HEADER_BYTES;
        Ok(Header::parse(bytes))
    }

    fn take_data(&mut self, header: Header) -> Result<()> {
        let mut length = header.length;
        let bytes = u32::try_from(length).unwrap_or(0);
        self.received += bytes;
        if self.received > WINDOW_MAX / 2 {
            frame::put_window_update(&mut self.outbox, 0, self.received);
            self.received = 0;
        }
        if header.has(flag::PADDED) && length > 0 {
            self.need(1)?;
            self.padding = usize::from(self.inbox[self.start]);
            self.start += 1;
            length -= 1;
            if self.padding > length {
                return Err(self.broken("more padding than payload", header));
            }
            length -= self.padding;
        }
        if header.stream != self.call.stream || self.call.ended {
            // What was on its way when a call was given up.
            return self.discard(length);
        }
        self.call.received += bytes;
        if self.call.received > WINDOW_MAX / 2 && !header.has(flag::END_STREAM) {
            frame::put_window_update(&mut self.outbox, header.stream, self.call.received);
            self.call.received = 0;
        }
        self.call.ended = header.has(flag::END_STREAM);
        match self.call.fields.status {
            200 => self.call.left = length,
            0 => return Err(self.broken("a payload came before the headers", header)),
            // Some proxy's page; the status says enough.
            _ => self.discard(length)?,
        }
        Ok(())
    }

    fn take_headers(&mut self, first: Header) -> Result<()> {
        let mut block = Vec::new();
        let mut header = first;
        loop {
            if block.len() + header.length > HEADER_LIST_MAX {
                return Err(self.broken("a header block is too large", header));
            }
            self.need(header.length)?;
            let payload = &self.inbox[self.start..self.start + header.length];
            let Some(fragment) = frame::content(header, payload) else {
                return Err(self.broken("more padding than payload", header));
            };
            block.extend_from_slice(fragment);
            self.start += header.length;
            if header.has(flag::END_HEADERS) {
                break;
            }
            header = self.take_header()?;
            // An empty continuation would let the peer keep us here without passing any limit.
            if header.kind != kind::CONTINUATION
                || header.stream != first.stream
                || header.length == 0
            {
                return Err(self.broken("expected a continuation of the headers", header));
            }
        }
        // Every block is decoded, ours or not: the table of names is the connection's.
        let ours = first.stream == self.call.stream && !self.call.ended;
        let fields = &mut self.call.fields;
        let decoded = self.hpack.decode_with_cb(&block, |name, value| {
            if ours {
                fields.take(&name, &value);
            }
        });
        if decoded.is_err() {
            return Err(self.broken("headers do not decode", first));
        }
        if ours {
            self.call.ended = first.has(flag::END_STREAM);
            if (100..200).contains(&self.call.fields.status) {
                self.call.fields.status = 0;
            }
        }
        Ok(())
    }

    fn take_control(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        let number = |at: usize| {
            let bytes = payload
                .get(at..at + 4)
                .and_then(|four| four.try_into().ok());
            bytes.map(|four: [u8; 4]| u32::from_be_bytes(four) & WINDOW_MAX)
        };
        match (header.kind, number(0)) {
            (kind::SETTINGS, _) if header.has(flag::ACK) => Ok(()),
            (kind::SETTINGS, _) if payload.len().is_multiple_of(6) => {
                self.take_settings(header, payload)
            }
            (kind::PING, Some(_)) if payload.len() == 8 => {
                if header.has(flag::ACK) {
                    self.answered = true;
                } else {
                    frame::put(&mut self.outbox, kind::PING, flag::ACK, 0, payload);
                }
                Ok(())
            }
            (kind::WINDOW_UPDATE, Some(bytes)) if bytes > 0 => {
                let window = match header.stream {
                    0 => &mut self.window,
                    stream if stream == self.call.stream => &mut self.call.window,
                    _ => return Ok(()),
                };
                *window += i64::from(bytes);
                if *window > i64::from(WINDOW_MAX) {
                    return Err(self.broken("a window grew too large", header));
                }
                Ok(())
            }
            (kind::RST_STREAM, Some(_))
                if header.stream == self.call.stream && !self.call.ended =>
            {
                self.call.ended = true;
                self.call.reset = payload.try_into().ok().map(u32::from_be_bytes);
                Ok(())
            }
            // After the end of the response it only asks for no more of the request.
            (kind::RST_STREAM, Some(_)) => Ok(()),
            (kind::GOAWAY, Some(last)) => {
                let code = number(4).unwrap_or(0);
                let message = format!("the server is closing the connection, http2_code=`{code}`");
                self.fail(Error::new(Code::Unavailable, message));
                if last < self.call.stream && !self.call.ended {
                    self.call.ended = true;
                    self.call.reset = Some(reason::REFUSED_STREAM);
                }
                Ok(())
            }
            _ => Err(self.broken("a frame is malformed", header)),
        }
    }

    fn take_settings(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        for (id, value) in frame::settings(payload) {
            match (id, usize::try_from(value).unwrap_or(usize::MAX)) {
                (setting::INITIAL_WINDOW_SIZE, _) if value <= WINDOW_MAX => {
                    // It moves the windows of open streams too, below zero if need be.
                    self.call.window += i64::from(value) - self.peer_window_start;
                    self.peer_window_start = i64::from(value);
                }
                (setting::MAX_FRAME_SIZE, size) if (16 << 10..=FRAME_MAX).contains(&size) => {
                    self.peer_frame_max = size;
                }
                (setting::INITIAL_WINDOW_SIZE | setting::MAX_FRAME_SIZE, _) => {
                    return Err(self.broken("a setting is out of range", header));
                }
                // The table of names is not used by what we send, and our header lists are small.
                _ => {}
            }
        }
        frame::put(&mut self.outbox, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn broken(&mut self, what: &str, header: Header) -> Error {
        let Header {
            length,
            kind,
            flags,
            stream,
        } = header;
        self.fail(Error::new(
            Code::Unavailable,
            format!("HTTP/2 broken by the server: {what}, kind=`{kind}`, flags=`{flags}`, stream=`{stream}`, length=`{length}`"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::play;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put(&mut out, kind, flags, stream, payload);
        out
    }

    fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        loona_hpack::Encoder::new().encode(fields)
    }

    fn opened() -> Vec<u8> {
        frame(
            kind::HEADERS,
            flag::END_HEADERS,
            1,
            &headers(&[(":status", "200")]),
        )
    }

    fn ended() -> Vec<u8> {
        let fields = headers(&[("grpc-status", "0")]);
        frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            1,
            &fields,
        )
    }

    /// One call against a peer that answers with `frames`: the response's bytes, how it ended, what the peer saw.
    fn call(frames: &[Vec<u8>]) -> (Vec<u8>, Result<()>, Vec<u8>) {
        let (address, peer) = play(vec![frame(kind::SETTINGS, 0, 0, &[]), frames.concat()]);
        let mut transport = Transport::connect(&address, None).unwrap();
        transport.begin("/a/b").unwrap();
        let mut bytes = vec![0; 1 << 20];
        let read = transport
            .send(&[b"hello"], true)
            .and_then(|_| transport.read(&mut bytes));
        bytes.truncate(*read.as_ref().unwrap_or(&0));
        let outcome = read.and_then(|_| transport.finish());
        drop(transport);
        (bytes, outcome, peer.join().unwrap())
    }

    fn contains(seen: &[u8], wanted: &[u8]) -> bool {
        seen.windows(wanted.len()).any(|window| window == wanted)
    }

    #[test]
    fn control_frames_between_the_data() {
        let mut padded = vec![3];
        padded.extend_from_slice(b"two\0\0\0");
        let (bytes, outcome, seen) = call(&[
            frame(kind::PING, 0, 0, b"12345678"),
            opened(),
            frame(kind::DATA, 0, 1, b"one"),
            frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 1, 0, 0]),
            frame(0xfa, 0xff, 1, b"a kind of tomorrow"),
            frame(kind::DATA, flag::PADDED, 1, &padded),
            frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
            frame(kind::DATA, 0, 1, &[]),
            frame(kind::DATA, 0, 99, b"of a call long gone"),
            frame(kind::DATA, 0, 1, &[7; 100_000]),
            ended(),
        ]);
        assert_eq!(outcome, Ok(()));
        assert!(bytes.starts_with(b"onetwo\x07") && bytes.len() == 100_006);
        assert!(contains(
            &seen,
            &frame(kind::PING, flag::ACK, 0, b"12345678")
        ));
        assert!(contains(&seen, &frame(kind::SETTINGS, flag::ACK, 0, &[])));
    }

    #[test]
    fn headers_in_pieces() {
        let block = headers(&[(":status", "200"), ("x-long", &"y".repeat(3000))]);
        let (first, rest) = block.split_at(1000);
        let (second, third) = rest.split_at(1000);
        let mut padded = vec![4, 0, 0, 0, 0, 16];
        padded.extend_from_slice(first);
        padded.extend_from_slice(&[0; 4]);
        let (bytes, outcome, _) = call(&[
            frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, &padded),
            frame(kind::CONTINUATION, 0, 1, second),
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, third),
            frame(kind::DATA, 0, 1, b"x"),
            ended(),
        ]);
        assert_eq!((bytes, outcome), (b"x".to_vec(), Ok(())));
    }

    #[test]
    fn an_informational_response_is_passed_over() {
        let early = frame(
            kind::HEADERS,
            flag::END_HEADERS,
            1,
            &headers(&[(":status", "103")]),
        );
        let (bytes, outcome, _) = call(&[early, opened(), frame(kind::DATA, 0, 1, b"x"), ended()]);
        assert_eq!((bytes, outcome), (b"x".to_vec(), Ok(())));
    }

    #[test]
    fn another_status_is_no_payload() {
        let page = frame(
            kind::HEADERS,
            flag::END_HEADERS,
            1,
            &headers(&[(":status", "502")]),
        );
        let (bytes, outcome, _) = call(&[page, frame(kind::DATA, flag::END_STREAM, 1, b"<html>")]);
        assert_eq!(bytes, b"");
        assert_eq!(outcome.unwrap_err().code, Code::Unavailable);
    }

    #[test]
    fn resets_and_goaways() {
        for (reason, code) in [
            (7, Code::Unavailable),
            (8, Code::Cancelled),
            (11, Code::ResourceExhausted),
            (2, Code::Internal),
        ] {
            let (bytes, outcome, _) = call(&[
                opened(),
                frame(kind::DATA, 0, 1, b"x"),
                frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, reason]),
            ]);
            assert_eq!((bytes, outcome.unwrap_err().code), (b"x".to_vec(), code));
        }
        // A call that the GOAWAY does not cover was not begun; one that it covers goes on.
        let goaway = |last: u8| frame(kind::GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, 0]);
        let (_, outcome, _) = call(&[goaway(0)]);
        assert_eq!(outcome.unwrap_err().code, Code::Unavailable);
        let (bytes, outcome, _) =
            call(&[goaway(1), opened(), frame(kind::DATA, 0, 1, b"x"), ended()]);
        assert_eq!((bytes, outcome), (b"x".to_vec(), Ok(())));
    }

    #[test]
    fn after_a_goaway_no_call_is_begun() {
        let goaway = frame(kind::GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let answer = [opened(), ended(), goaway].concat();
        let (address, _peer) = play(vec![frame(kind::SETTINGS, 0, 0, &[]), answer]);
        let mut transport = Transport::connect(&address, None).unwrap();
        transport.begin("/a/b").unwrap();
        transport.send(&[b"hello"], true).unwrap();
        assert_eq!(transport.finish(), Ok(()));
        assert_eq!(transport.begin("/a/b").unwrap_err().code, Code::Unavailable);
        assert!(!transport.is_open());
    }

    #[test]
    fn what_breaks_the_protocol_breaks_the_connection() {
        let empty = |kind, flags| frame(kind, flags, 1, &[]);
        for frames in [
            vec![frame(kind::DATA, 0, 1, b"before the headers")],
            vec![opened(), frame(kind::DATA, flag::PADDED, 1, &[9, 1, 2])],
            vec![empty(kind::PUSH_PROMISE, flag::END_HEADERS)],
            vec![empty(kind::CONTINUATION, flag::END_HEADERS)],
            vec![empty(kind::HEADERS, 0), empty(kind::CONTINUATION, 0)],
            vec![
                empty(kind::HEADERS, 0),
                frame(kind::PING, 0, 0, b"12345678"),
            ],
            vec![frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff; 30])],
            vec![frame(kind::HEADERS, 0, 1, &[0; HEADER_LIST_MAX + 1])],
            vec![frame(kind::PING, 0, 0, b"1234567")],
            vec![frame(kind::SETTINGS, 0, 0, &[0; 7])],
            vec![frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])],
            vec![frame(kind::SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0])],
            vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])],
            vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]); 2],
            vec![frame(kind::GOAWAY, 0, 0, &[0; HEADER_LIST_MAX + 1])],
        ] {
            let (_, outcome, _) = call(&frames);
            assert_eq!(
                outcome.as_ref().unwrap_err().code,
                Code::Unavailable,
                "{frames:?}"
            );
        }
    }

    #[test]
    fn a_server_of_another_protocol() {
        let (address, _peer) = play(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]);
        assert_eq!(
            Transport::connect(&address, None).err().unwrap().code,
            Code::Unavailable
        );
    }

    #[test]
    fn a_silent_server_runs_into_the_timeout() {
        let (address, _peer) = play(vec![Vec::new()]);
        let timeout = Some(std::time::Duration::from_millis(20));
        assert_eq!(
            Transport::connect(&address, timeout).err().unwrap().code,
            Code::DeadlineExceeded
        );
    }
}
