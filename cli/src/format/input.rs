//! A file, or standard input, and which format it is.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

use arrow_buffer::MutableBuffer;

use crate::Error;
use crate::format::Format;

/// What all magic numbers fit into.
const HEAD_BYTES: usize = 16;
/// A header of safetensors is no longer.
pub const SAFETENSORS_HEADER_MAX: u64 = 100_000_000;
/// Room that is made before anything is there.
const PIECE_BYTES: usize = 16 << 20;

/// Something to read from its beginning.
pub struct Input {
    /// For messages: its path, or `standard input`.
    pub name: String,
    head: Vec<u8>,
    from: From,
}

enum From {
    File { file: File, bytes: u64 },
    Stdin,
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &str) -> Result<Input, Error> {
        let mut input = if path == "-" {
            Input {
                name: "standard input".to_owned(),
                head: Vec::new(),
                from: From::Stdin,
            }
        } else {
            let file = File::open(path).map_err(|error| Error::file("cannot open", path, error))?;
            let about = file.metadata();
            let about = about.map_err(|error| Error::file("cannot open", path, error))?;
            if about.is_dir() {
                return Err(Error::file("cannot read", path, "it is a folder"));
            }
            Input {
                name: path.to_owned(),
                head: Vec::new(),
                from: if about.is_file() {
                    let bytes = about.len();
                    From::File { file, bytes }
                } else {
                    // A pipe or a device, which has no size.
                    spooled(path, file)?
                },
            }
        };
        let mut head = Vec::new();
        let read = match &mut input.from {
            From::File { file, .. } => {
                let read = file.take(HEAD_BYTES as u64).read_to_end(&mut head);
                read.and_then(|_| file.seek(SeekFrom::Start(0)))
            }
            From::Stdin => {
                let stdin = io::stdin().lock();
                let read = stdin.take(HEAD_BYTES as u64).read_to_end(&mut head);
                read.map(|bytes| bytes as u64)
            }
        };
        read.map_err(|error| input.failed(error))?;
        input.head = head;
        Ok(input)
    }

    /// The format given, or the one that the first bytes say.
    pub fn format(&self, given: Option<Format>) -> Result<Format, Error> {
        if let Some(format) = given.or_else(|| sniff(&self.head)) {
            return Ok(format);
        }
        if self.head.starts_with(b"FEA1") {
            return Err(self.wrong("this is Feather version 1; write it as version 2"));
        }
        if self.head.is_empty() {
            return Err(self.wrong("it is empty"));
        }
        Err(self.wrong(
            "its first bytes are of no format that is known here: npy, npz, safetensors, Arrow, Parquet; say --format where it is one",
        ))
    }

    /// The format that the first bytes say, where they are not text.
    pub fn known(&self) -> Option<Format> {
        let text = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
        sniff(&self.head).filter(|_| !self.head.iter().all(text))
    }

    /// As a file that can be read anywhere, and its bytes; standard input is written into one first.
    pub fn into_file(self) -> Result<(File, u64), Error> {
        match self.from {
            From::File { file, bytes } => Ok((file, bytes)),
            From::Stdin => {
                let all = Cursor::new(self.head).chain(io::stdin().lock());
                match spooled(&self.name, all)? {
                    From::File { file, bytes } => Ok((file, bytes)),
                    From::Stdin => Err(Error::file("cannot read", &self.name, "it is gone")),
                }
            }
        }
    }

    /// To be read once, and its bytes where it has a size.
    pub fn into_read(self) -> (Box<dyn Read + Send>, Option<u64>) {
        match self.from {
            From::File { file, bytes } => (Box::new(file), Some(bytes)),
            From::Stdin => (Box::new(Cursor::new(self.head).chain(io::stdin())), None),
        }
    }

    /// What is wrong with it.
    pub fn wrong(&self, message: &str) -> Error {
        Error::file("cannot read", &self.name, message)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::file("cannot read", &self.name, error)
    }
}

fn spooled(name: &str, mut from: impl Read) -> Result<From, Error> {
    let spool = || -> io::Result<From> {
        let mut file = tempfile::tempfile()?;
        let bytes = io::copy(&mut from, &mut file)?;
        file.flush()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(From::File { file, bytes })
    };
    let mut spool = spool;
    spool().map_err(|error| Error::file("cannot keep it in a temporary file", name, error))
}

fn sniff(head: &[u8]) -> Option<Format> {
    let json = |head: &[u8]| {
        let (length, rest) = head.split_first_chunk::<8>()?;
        let plausible = u64::from_le_bytes(*length) <= SAFETENSORS_HEADER_MAX;
        (plausible && rest.first() == Some(&b'{')).then_some(())
    };
    Some(match head {
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Format::Npy,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Npz,
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Format::Arrow,
        [0xff, 0xff, 0xff, 0xff, ..] => Format::ArrowStream,
        [b'P', b'A', b'R', b'1', ..] => Format::Parquet,
        _ if json(head).is_some() => Format::Safetensors,
        _ => return None,
    })
}

/// What a file is called without folder and extension.
pub fn stem(name: &str) -> &str {
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str());
    stem.unwrap_or(name)
}

/// Exactly so many bytes.
pub fn take(from: &mut dyn Read, bytes: usize) -> Result<MutableBuffer, String> {
    let mut data = MutableBuffer::new(bytes.min(PIECE_BYTES));
    let read = bowstring_files::append(from, &mut data, bytes);
    read.map_err(|error| {
        format!("it ends within its array; expected_bytes=`{bytes}` source=`{error}`")
    })?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_it() {
        for (head, format) in [
            (&b"\x93NUMPY\x01\0"[..], Some(Format::Npy)),
            (b"PK\x03\x04", Some(Format::Npz)),
            (b"PK\x05\x06", Some(Format::Npz)),
            (b"ARROW1\0\0", Some(Format::Arrow)),
            (b"\xff\xff\xff\xff\x10\0\0\0", Some(Format::ArrowStream)),
            (b"PAR1", Some(Format::Parquet)),
            (b"\x02\0\0\0\0\0\0\0{}", Some(Format::Safetensors)),
            (b"\x02\0\0\0\0\0\0\xff{}", None),
            (b"{\"a\":1}", None),
            (b"", None),
        ] {
            assert_eq!(sniff(head), format, "{head:?}");
        }
        assert_eq!(stem("/a/b.c.npy"), "b.c");
    }
}
