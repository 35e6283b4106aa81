//! What a table is read from, and bytes of it.

use std::fmt::{self, Debug};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::{ArrayRef, make_array};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType};
use bytes::Bytes;

/// Room that is made before anything is there.
const PIECE_BYTES: usize = 16 << 20;

/// One batch of an Arrow file and one page of a Parquet file, as they lie there and decompressed.
const BATCH_BYTES_MAX: u64 = 4 << 30;

/// Bytes that can be read anywhere, by many at the same time. It may wait: it is not called where others must run.
pub trait ReadAt: Debug + Send + Sync {
    /// Fills `to` with the bytes from `at` on.
    ///
    /// # Errors
    /// They cannot be read, or there are not so many.
    fn read_exact_at(&self, to: &mut [u8], at: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, to, at)
    }
}

impl ReadAt for Bytes {
    fn read_exact_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(to.len());
        let bytes = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(bytes);
        Ok(())
    }
}

/// Whether there is room for so many bytes at one time.
pub type Room = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// What may be in memory at one time to read a file.
#[derive(Clone)]
pub(crate) struct Limits {
    pub batch_bytes_max: u64,
    room: Option<Room>,
}

impl Limits {
    /// Asks for room.
    pub fn claim(&self, bytes: u64) -> Result<(), String> {
        match &self.room {
            Some(room) if !room(bytes) => Err(format!(
                "there is no room in memory to read it; bytes=`{bytes}`"
            )),
            _ => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            batch_bytes_max: BATCH_BYTES_MAX,
            room: None,
        }
    }
}

impl Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("batch_bytes_max", &self.batch_bytes_max)
            .finish_non_exhaustive()
    }
}

/// What is read, and how long it is. Clones read the same.
#[derive(Clone, Debug)]
pub struct Source {
    from: Arc<dyn ReadAt>,
    bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) trusted: bool,
}

impl Source {
    /// So many bytes. Nothing that they claim is believed.
    pub fn new(from: impl ReadAt + 'static, bytes: u64) -> Source {
        Source {
            from: Arc::new(from),
            bytes,
            limits: Limits::default(),
            trusted: false,
        }
    }

    /// The same, which was chosen by whoever runs this process: encodings of Parquet are read that could have it ask for more memory than there is.
    #[must_use]
    pub fn trusted(self) -> Source {
        Source {
            trusted: true,
            ..self
        }
    }

    /// The same, of which a batch (of Arrow) or a page (of Parquet) may take so many bytes, as it lies there and decompressed. 4 GiB where nobody says.
    #[must_use]
    pub fn with_batch_bytes_max(mut self, batch_bytes_max: u64) -> Source {
        self.limits.batch_bytes_max = batch_bytes_max;
        self
    }

    /// The same, for whose decoding `room` is asked: whether there may be so many bytes at one time, which is told before they are there.
    #[must_use]
    pub fn with_room(mut self, room: Room) -> Source {
        self.limits.room = Some(room);
        self
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many bytes from `at` on.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    pub fn read(&self, at: u64, bytes: usize) -> io::Result<Bytes> {
        let end = at.checked_add(bytes as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut all = vec![0; bytes];
        self.from.read_exact_at(&mut all, at)?;
        Ok(all.into())
    }

    /// At most so many bytes from `at` on.
    pub(crate) fn read_some(&self, at: u64, bytes: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        self.read(at, bytes.min(left))
    }

    /// To be read once, from `at` on.
    pub(crate) fn from(&self, at: u64) -> Reading {
        let source = self.clone();
        Reading { source, at }
    }
}

/// A source that is read from one end to the other.
pub(crate) struct Reading {
    source: Source,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.source.bytes.saturating_sub(self.at);
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(to.len());
        self.source.from.read_exact_at(&mut to[..bytes], self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

/// So many bytes more. What is not there is not made room for: a header may lie.
///
/// # Errors
/// They cannot be read, or there are not so many.
pub fn append(from: &mut dyn Read, data: &mut MutableBuffer, bytes: usize) -> io::Result<()> {
    let end = data.len() + bytes;
    while data.len() < end {
        let at = data.len();
        let piece = PIECE_BYTES.max(at).min(end - at);
        data.resize(at + piece, 0);
        from.read_exact(&mut data.as_slice_mut()[at..])?;
    }
    Ok(())
}

/// A primitive column of bytes; copied where they do not lie as Arrow wants them.
///
/// # Errors
/// They are no whole number of values.
pub fn values(storage: &DataType, bytes: Buffer, width: usize) -> Result<ArrayRef, ArrowError> {
    let builder = ArrayData::builder(storage.clone()).len(bytes.len() / width);
    let data = builder.add_buffer(bytes).align_buffers(true).build()?;
    Ok(make_array(data))
}
