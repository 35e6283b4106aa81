//! What a Parquet file claims of itself, before the decoder believes it: its footer, and the header of each page, are walked through.
//!
//! parquet makes room for as many row groups, values of a dictionary, bytes of a page and of a statistic as are claimed. A claim that cannot be true ends the
//! reading here; so does one that is past what a batch may take.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::BATCH_BYTES;
use crate::source::Source;
use crate::thrift::{Event, Walk, Wrong};

/// Behind the footer: its length, and the magic word.
const TAIL_BYTES: u64 = 8;
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// A page's header is mostly tens of bytes; its statistics can be more.
const HEADER_BYTES: usize = 256;
const HEADER_BYTES_MAX: usize = 1 << 20;
/// Levels of columns within columns; the decoder's schema is built by recursion.
const SCHEMA_DEPTH_MAX: usize = 64;
/// Encodings by number whose decoders make room for what a page's values claim, which is compressed: `DELTA_LENGTH_BYTE_ARRAY`, `DELTA_BYTE_ARRAY`.
const BOUNDLESS: [i64; 2] = [6, 7];

/// A source as parquet reads it.
#[derive(Clone, Debug)]
pub struct Pages(pub Source);

impl Pages {
    /// Walks through the footer.
    pub fn check_footer(&self) -> Result<()> {
        let bytes = self.0.bytes();
        let short = || broken("it is too short for Parquet, or its end is missing");
        let tail = bytes.checked_sub(TAIL_BYTES).ok_or_else(short)?;
        let words = self.0.read(tail, 8)?;
        let ([a, b, c, d, ..], true) = (&words[..], words.ends_with(b"PAR1")) else {
            return Err(short());
        };
        let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        if length > FOOTER_BYTES_MAX.min(self.0.limits.batch_bytes_max) {
            return Err(broken(&format!(
                "its footer is too long; bytes=`{length}` expected at most {FOOTER_BYTES_MAX}"
            )));
        }
        let start = tail.checked_sub(length).ok_or_else(short)?;
        // What it says takes several times as much once it is read.
        let room = self.0.limits.claim(8 * length);
        room.map_err(|wrong| broken(&wrong))?;
        let footer = self.0.read(start, usize::try_from(length).unwrap_or(0))?;
        let mut levels = Levels::default();
        let walked = Walk::new(&footer).structure(0, 0, &mut |event| levels.see(event));
        walked.map_err(|wrong| broken(&format!("its footer is broken: {wrong}")))
    }

    /// The header that begins there, and whatever is behind it.
    fn header(&self, at: u64) -> io::Result<Bytes> {
        // The footer's own length, which is checked before all else.
        if at.saturating_add(TAIL_BYTES) >= self.0.bytes() {
            return self.0.read_some(at, HEADER_BYTES);
        }
        let mut room = HEADER_BYTES;
        loop {
            let bytes = self.0.read_some(at, room)?;
            match self.check_header(&bytes) {
                Ok(uncompressed) => {
                    let room = uncompressed.saturating_mul(2) + 2 * BATCH_BYTES;
                    let room = self.0.limits.claim(room);
                    room.map_err(io::Error::other)?;
                    return Ok(bytes);
                }
                Err(Wrong::Short) if bytes.len() == room && room < HEADER_BYTES_MAX => room *= 8,
                Err(wrong) => {
                    let said = format!("a page's header is broken: {wrong}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, said));
                }
            }
        }
    }

    /// What the page takes decompressed.
    fn check_header(&self, bytes: &[u8]) -> std::result::Result<u64, Wrong> {
        let (mut uncompressed, mut values, mut entries, mut encoding) = (0, 0, 0, 0);
        Walk::new(bytes).structure(0, 0, &mut |event| {
            match event {
                Event::Value(0, 2, value) => uncompressed = value,
                Event::Value(5 | 8, 1, value) => values = value,
                Event::Value(7, 1, value) => entries = value,
                Event::Value(5, 2, value) | Event::Value(8, 4, value) => encoding = value,
                Event::Value(..) | Event::End(_) => {}
            }
            Ok(())
        })?;
        let most = i64::try_from(self.0.limits.batch_bytes_max).unwrap_or(i64::MAX);
        if !(0..=most).contains(&uncompressed) || !(0..=most).contains(&values) {
            return Err(Wrong::Said("a page is too large"));
        }
        if !(0..=uncompressed.saturating_mul(8)).contains(&entries) {
            return Err(Wrong::Said("a dictionary has more values than bytes"));
        }
        if BOUNDLESS.contains(&encoding) && !self.0.trusted {
            return Err(Wrong::Said(
                "DELTA_BYTE_ARRAY and DELTA_LENGTH_BYTE_ARRAY are not read here; write the file with dictionaries or plain",
            ));
        }
        Ok(u64::try_from(uncompressed).unwrap_or(0))
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.bytes()
    }
}

impl ChunkReader for Pages {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Header> {
        Ok(Header {
            pages: self.clone(),
            at: start,
            bytes: None,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if length as u64 > self.0.limits.batch_bytes_max {
            return Err(broken("a page is too large"));
        }
        Ok(self.0.read(start, length)?)
    }
}

/// What parquet reads a page's header from. It is looked at when it is read: some are asked for and are not.
pub struct Header {
    pages: Pages,
    at: u64,
    bytes: Option<Cursor<Bytes>>,
}

impl Read for Header {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = match &mut self.bytes {
            Some(bytes) => bytes,
            None => {
                let header = self.pages.header(self.at)?;
                self.bytes.insert(Cursor::new(header))
            }
        };
        bytes.read(to)
    }
}

/// How deep the schema is.
#[derive(Default)]
struct Levels {
    /// Children that are to come, from the root down.
    open: Vec<i64>,
    children: i64,
}

impl Levels {
    fn see(&mut self, event: Event) -> std::result::Result<(), Wrong> {
        match event {
            Event::Value(2, 5, children) => self.children = children.max(0),
            Event::End(2) => {
                if let Some(open) = self.open.last_mut() {
                    *open -= 1;
                }
                self.open.push(std::mem::take(&mut self.children));
                while self.open.last() == Some(&0) {
                    self.open.pop();
                }
                if self.open.len() > SCHEMA_DEPTH_MAX {
                    return Err(Wrong::Said("its columns are nested too deep"));
                }
            }
            Event::Value(..) | Event::End(_) => {}
        }
        Ok(())
    }
}

fn broken(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> std::result::Result<u64, Wrong> {
        let pages = Pages(Source::new(Bytes::new(), 0).with_batch_bytes_max(1 << 20));
        pages.check_header(bytes)
    }

    #[test]
    fn a_page_header_that_claims_too_much_is_refused() {
        // type, uncompressed and compressed size, and a data page of 3 values, PLAIN.
        let plain = [
            0x15, 0x00, 0x15, 0x20, 0x15, 0x20, 0x2c, 0x15, 0x06, 0x15, 0x00, 0x00, 0x00,
        ];
        assert_eq!(header(&plain).unwrap(), 16);
        for length in 0..plain.len() {
            assert!(matches!(header(&plain[..length]), Err(Wrong::Short)));
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = plain;
            bytes[at] = byte;
            header(&bytes).unwrap_err().to_string()
        };
        // -1, and DELTA_BYTE_ARRAY.
        assert!(with(3, 1).contains("too large"));
        assert!(with(10, 14).contains("DELTA_BYTE_ARRAY"));
        let large = [0x15, 0x00, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x00];
        assert!(
            header(&large)
                .unwrap_err()
                .to_string()
                .contains("too large")
        );
        // A dictionary of 2^27 values in 16 bytes.
        let many = [
            0x15, 0x04, 0x15, 0x20, 0x15, 0x20, 0x4c, 0x15, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00,
            0x00,
        ];
        assert!(
            header(&many)
                .unwrap_err()
                .to_string()
                .contains("more values")
        );
        // A binary of 2^60 bytes.
        let long = [0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(matches!(header(&long), Err(Wrong::Short)));
    }

    #[test]
    fn a_footer_that_nests_without_an_end_is_refused() {
        // Field 2: a list of structs, each with one child.
        let mut footer = vec![0x29, 0xfc, 0xe8, 0x07];
        for _ in 0..1000 {
            footer.extend([0x55, 0x02, 0x00]);
        }
        footer.push(0);
        let mut levels = Levels::default();
        let walked = Walk::new(&footer).structure(0, 0, &mut |event| levels.see(event));
        assert!(walked.unwrap_err().to_string().contains("too deep"));
    }
}
