//! The snapshot's bytes on their way: in frames with a checksum each, so that what has come can be believed before all has.
//!
//! ```text
//! bytes u32 | xxh3-64 of the payload, seeded with the frame's number, u64 | payload      numbers are little-endian
//! ```
//! The seed shows a frame that is missing or comes out of turn. One without a payload is the last.

use std::io::{self, Read, Write};

use twox_hash::XxHash3_64;

const HEAD_BYTES: usize = 12;
/// Few enough for a reader not to wait long, enough for the system calls not to count.
const PAYLOAD_BYTES: usize = 128 << 10;
/// No more is allocated because a frame says so.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Writes frames.
pub(super) struct FrameWriter<W> {
    out: W,
    number: u64,
    /// Room for a head, and what is behind it so far.
    frame: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(out: W) -> Self {
        let mut frame = Vec::with_capacity(HEAD_BYTES + PAYLOAD_BYTES);
        frame.resize(HEAD_BYTES, 0);
        Self {
            out,
            number: 0,
            frame,
        }
    }

    /// Writes what is left, and the last frame.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.send()?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn send(&mut self) -> io::Result<()> {
        let (head, payload) = self.frame.split_at_mut(HEAD_BYTES);
        let bytes = u32::try_from(payload.len()).map_err(io::Error::other)?;
        head[..4].copy_from_slice(&bytes.to_le_bytes());
        let checksum = XxHash3_64::oneshot_with_seed(self.number, payload);
        head[4..].copy_from_slice(&checksum.to_le_bytes());
        self.out.write_all(&self.frame)?;
        self.number += 1;
        self.frame.truncate(HEAD_BYTES);
        Ok(())
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = HEAD_BYTES + PAYLOAD_BYTES - self.frame.len();
        let bytes = &bytes[..bytes.len().min(room)];
        self.frame.extend_from_slice(bytes);
        if bytes.len() == room {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.len() > HEAD_BYTES {
            self.send()?;
        }
        self.out.flush()
    }
}

/// Reads them, and gives no byte of one that is not as it was written.
pub(super) struct FrameReader<R> {
    from: R,
    number: u64,
    payload: Vec<u8>,
    /// How much of that has been read.
    read: usize,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            number: 0,
            payload: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES];
        self.from.read_exact(&mut head)?;
        let [b0, b1, b2, b3, checksum @ ..] = head;
        let bytes = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(damaged());
        }
        self.payload.resize(bytes, 0);
        self.from.read_exact(&mut self.payload)?;
        let found = XxHash3_64::oneshot_with_seed(self.number, &self.payload);
        if found != u64::from_le_bytes(checksum) {
            return Err(damaged());
        }
        (self.number, self.read, self.ended) = (self.number + 1, 0, bytes == 0);
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.read == self.payload.len() && !self.ended {
            self.receive()?;
        }
        let bytes = to.len().min(self.payload.len() - self.read);
        to[..bytes].copy_from_slice(&self.payload[self.read..self.read + bytes]);
        self.read += bytes;
        Ok(bytes)
    }
}

fn damaged() -> io::Error {
    let what = "the snapshot of the cache is damaged";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = FrameWriter::new(Vec::new());
        for part in parts {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        FrameReader::new(bytes).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn what_is_cut_off_damaged_or_out_of_turn_is_an_error() {
        let frames = |parts: &[&[u8]]| {
            let mut writer = FrameWriter::new(Vec::new());
            for part in parts {
                writer.write_all(part).unwrap();
                writer.flush().unwrap();
            }
            writer.finish().unwrap()
        };
        let all = frames(&[b"one", b"two"]);
        assert_eq!(read(&all).unwrap(), b"onetwo");
        for len in 0..all.len() {
            assert!(read(&all[..len]).is_err(), "{len}");
        }
        for at in 0..all.len() {
            let mut other = all.clone();
            other[at] ^= 1;
            assert!(read(&other).is_err(), "{at}");
        }
        let one = HEAD_BYTES + 3;
        let exchanged = [&all[one..2 * one], &all[..one], &all[2 * one..]].concat();
        let missing = [&all[..one], &all[2 * one..]].concat();
        assert!(read(&exchanged).is_err() && read(&missing).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 32 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_written_is_read(lengths in prop::collection::vec(0..2 * PAYLOAD_BYTES, 0..4)) {
            let parts: Vec<Vec<u8>> = lengths.iter().zip(1_u8..).map(|(len, n)| vec![n; *len]).collect();
            prop_assert_eq!(read(&framed(&parts)).unwrap(), parts.concat());
        }
    }
}
