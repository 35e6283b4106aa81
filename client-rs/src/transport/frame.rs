//! HTTP/2 frames (RFC 9113, section 4 and 6): the nine bytes before a payload, and the few payloads that we write.

/// Bytes before every payload.
pub(crate) const HEADER_BYTES: usize = 9;
/// What we advertise as the largest payload: the protocol's own limit, so that the peer writes few frames.
pub(crate) const FRAME_MAX: usize = (1 << 24) - 1;
/// The largest window of RFC 9113, section 6.9.1.
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;
/// A window before anybody said otherwise.
pub(crate) const WINDOW_START: u32 = 65_535;
/// What the first bytes of a client's connection must be.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    /// On SETTINGS and PING.
    pub(crate) const ACK: u8 = 0x1;
    /// On DATA and HEADERS.
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes of RFC 9113, section 7, that we look at or send.
pub(crate) mod reason {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The nine bytes before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of payload, padding included; 24 bits.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// 31 bits; 0 is the connection.
    pub(crate) stream: u32,
}

impl Header {
    pub(crate) fn parse(bytes: [u8; HEADER_BYTES]) -> Header {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Header {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The reserved bit is ignored, as the RFC asks.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        debug_assert!(self.length <= FRAME_MAX);
        let [.., a, b, c] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends one frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let header = Header {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

/// Appends a SETTINGS frame.
pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(out, kind::SETTINGS, 0, 0, &payload);
}

/// The pairs of a SETTINGS payload; a last incomplete one is left out (the caller checks the length).
pub(crate) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    payload.chunks_exact(6).map(|pair| {
        let id = u16::from_be_bytes([pair[0], pair[1]]);
        (id, u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
    })
}

/// Appends a WINDOW_UPDATE.
pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// Where the content lies in a padded (and, for HEADERS, prioritised) payload; `None` where the padding is longer than the frame.
pub(crate) fn content(header: Header, payload: &[u8]) -> Option<&[u8]> {
    let (padding, mut rest) = if header.has(flag::PADDED) {
        let (first, rest) = payload.split_first()?;
        (usize::from(*first), rest)
    } else {
        (0, payload)
    };
    if header.kind == kind::HEADERS && header.has(flag::PRIORITY) {
        rest = rest.get(5..)?;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        for length in [0, 1, 16_384, FRAME_MAX] {
            let header = Header {
                length,
                kind: kind::DATA,
                flags: 9,
                stream: 0x7fff_fffe,
            };
            assert_eq!(Header::parse(header.encode()), header);
        }
    }

    #[test]
    fn reserved_bit_is_ignored() {
        let bytes = [0, 0, 1, 0, 0, 0x80, 0, 0, 3];
        assert_eq!(Header::parse(bytes).stream, 3);
    }

    #[test]
    fn settings_round_trip() {
        let mut out = Vec::new();
        put_settings(
            &mut out,
            &[
                (setting::MAX_FRAME_SIZE, 16_777_215),
                (setting::ENABLE_PUSH, 0),
            ],
        );
        let read: Vec<_> = settings(&out[HEADER_BYTES..]).collect();
        assert_eq!(read, [(5, 16_777_215), (2, 0)]);
    }

    #[test]
    fn padding_and_priority_are_cut_off() {
        let header = Header {
            length: 0,
            kind: kind::HEADERS,
            flags: flag::PADDED | flag::PRIORITY,
            stream: 1,
        };
        assert_eq!(
            content(header, &[2, 0, 0, 0, 0, 9, 7, 7, 0, 0]),
            Some(&[7u8, 7][..])
        );
        assert_eq!(content(header, &[9, 0, 0, 0, 0, 9, 7, 7, 0, 0]), None);
        assert_eq!(content(header, &[]), None);
    }
}
