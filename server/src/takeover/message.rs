//! What the two say to each other. Numbers are little-endian, a text stands behind its length.

use std::io;

use bowstring_cache::handover::FORMAT;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A [`Hello`]. Every release reads it.
    Hello,
    /// An [`Offer`]. Every release reads it.
    Offer,
    /// Go on: the successor could start.
    Begin,
    /// Regions: a byte for each, 1 where its file is with the message.
    Regions,
    /// A socket from which the snapshot comes.
    Snapshot,
    /// All of it was checked and taken over.
    Mine,
    /// The predecessor ends.
    Yours,
    /// The regions that have come are all there will be; the predecessor stops when they are mapped.
    Ahead,
    /// They are.
    Mapped,
    /// It does not happen, for the reason that the body says; the predecessor goes on.
    No,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Hello,
        Kind::Offer,
        Kind::Begin,
        Kind::Regions,
        Kind::Snapshot,
        Kind::Mine,
        Kind::Yours,
        Kind::No,
        Kind::Ahead,
        Kind::Mapped,
    ];

    pub(super) fn code(self) -> u8 {
        match self {
            Kind::Hello => 1,
            Kind::Offer => 2,
            Kind::Begin => 3,
            Kind::Regions => 4,
            Kind::Snapshot => 5,
            Kind::Mine => 6,
            Kind::Yours => 7,
            Kind::No => 8,
            Kind::Ahead => 9,
            Kind::Mapped => 10,
        }
    }

    pub(super) fn of(code: u8) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    /// The format of memory that it knows.
    pub(super) format: u32,
    /// Its release, for the log.
    pub(super) release: String,
}

/// What is there to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// The format of memory; none is handed over to who knows another one.
    pub(super) format: u32,
    pub(super) release: String,
    /// What each socket with the message is, and its address as in the settings.
    pub(super) sockets: Vec<(Use, String)>,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Arrow Flight.
    Flight,
    /// `/healthz` and `/metrics`.
    Http,
}

impl Hello {
    pub(super) fn ours() -> Self {
        Self {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.format.to_le_bytes().to_vec();
        put_text(&mut out, &self.release);
        out
    }

    pub(super) fn decode(body: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(body);
        Ok(Self {
            format: reader.u32()?,
            release: reader.text()?,
        })
    }
}

impl Offer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.format.to_le_bytes().to_vec();
        put_text(&mut out, &self.release);
        for (used, address) in &self.sockets {
            out.push(match used {
                Use::Flight => 1,
                Use::Http => 2,
            });
            put_text(&mut out, address);
        }
        out
    }

    pub(super) fn decode(body: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(body);
        let (format, release) = (reader.u32()?, reader.text()?);
        let mut sockets = Vec::new();
        while !reader.0.is_empty() {
            let used = match reader.bytes()? {
                [1] => Use::Flight,
                [2] => Use::Http,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            sockets.push((used, reader.text()?));
        }
        Ok(Self {
            format,
            release,
            sockets,
        })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    let text = &text[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(text);
}

/// What has not been read yet. More may follow what a release knows.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (bytes, left) = self
            .0
            .split_first_chunk()
            .ok_or(io::ErrorKind::InvalidData)?;
        self.0 = left;
        Ok(*bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> io::Result<String> {
        let len = self.bytes().map(u16::from_le_bytes)?;
        let split = self.0.split_at_checked(usize::from(len));
        let (text, left) = split.ok_or(io::ErrorKind::InvalidData)?;
        self.0 = left;
        String::from_utf8(text.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_is_cut_off_is_not() {
        let hello = Hello::ours();
        assert_eq!(Hello::decode(&hello.encode()).unwrap(), hello);
        let offer = Offer {
            format: 3,
            release: "0.9".to_owned(),
            sockets: vec![
                (Use::Flight, "127.0.0.1:0".to_owned()),
                (Use::Http, "[::1]:1".to_owned()),
            ],
        };
        let bytes = offer.encode();
        assert_eq!(Offer::decode(&bytes).unwrap(), offer);
        for len in 0..bytes.len() {
            let cut = Offer::decode(&bytes[..len]);
            assert!(cut.is_err() || cut.unwrap().sockets.len() < 2, "{len}");
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.code()), Some(kind));
        }
    }

    /// Releases of any age read these two; here is how they began.
    #[test]
    fn the_first_two_messages_stay_as_they_are() {
        let hello = Hello {
            format: 1,
            release: "0.1.0".to_owned(),
        };
        assert_eq!(hello.encode(), *b"\x01\0\0\0\x05\x000.1.0");
        let offer = Offer {
            format: 1,
            release: String::new(),
            sockets: vec![(Use::Http, "a:1".to_owned())],
        };
        assert_eq!(offer.encode(), *b"\x01\0\0\0\0\0\x02\x03\0a:1");
        assert_eq!((Kind::Hello.code(), Kind::Offer.code()), (1, 2));
    }
}
