//! Arrow's IPC, as file (Feather too) and as stream: message by message, none of which is believed.
//!
//! A file is a stream between two magic words, with a table of contents that is not needed here; so both are read alike, from a pipe too.

use std::io::{Read, Write};

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};

use crate::Error;
use crate::format::columns::Columns;
use crate::format::{Input, Options, Part, Reader, Writer, input};

/// What may be before the first message.
const HEAD_BYTES_MAX: usize = 128;
const MAGIC: &[u8] = b"ARROW1";
/// The header of a message.
const HEADER_BYTES_MAX: usize = 64 << 20;
/// One message, as it lies in the file.
const BODY_BYTES_MAX: u64 = 4 << 30;
/// All buffers of one message, decompressed.
const INFLATED_BYTES_MAX: u64 = 4 << 30;

/// Reads a file or a stream.
pub fn open(input: Input, file: bool, options: &Options) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let (from, left) = input.into_read();
    let mut messages = Messages {
        from,
        left,
        decoder: StreamDecoder::new(),
        ended: false,
        file,
    };
    let wrong = |error: String| Error::file("cannot read", &name, error);
    if file {
        messages.begin().map_err(wrong)?;
    }
    let first = messages.next().map_err(wrong)?;
    let schema = messages.decoder.schema();
    let schema = schema.ok_or_else(|| wrong("it ends before a schema".to_owned()))?;
    let columns = Columns::find(&name, &schema, options)?;
    Ok(Box::new(Ipc {
        messages,
        first,
        columns,
        name,
    }))
}

struct Ipc {
    messages: Messages,
    /// The first batch, which was read to see the schema.
    first: Option<RecordBatch>,
    columns: Columns,
    name: String,
}

impl Reader for Ipc {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        let batch = match self.first.take() {
            Some(batch) => Some(batch),
            None => {
                let next = self.messages.next();
                next.map_err(|error| Error::file("cannot read", &self.name, error))?
            }
        };
        batch.map(|batch| self.columns.part(&batch)).transpose()
    }

    fn rows(&self) -> Option<u64> {
        None
    }
}

struct Messages {
    from: Box<dyn Read + Send>,
    /// Bytes that there still are, where that is known.
    left: Option<u64>,
    decoder: StreamDecoder,
    ended: bool,
    /// Behind a file's stream there is its table of contents, and the magic word.
    file: bool,
}

impl Messages {
    /// The next batch; `None` at the end of the stream.
    fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        while !self.ended {
            let Some(message) = self.message()? else {
                self.ended = true;
                return self.end().map(|()| None);
            };
            let mut message = Buffer::from(message);
            let batch = self.decoder.decode(&mut message);
            if let Some(batch) = batch.map_err(|error| error.to_string())? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// One whole message; `None` where the stream ends in good order.
    fn message(&mut self) -> Result<Option<MutableBuffer>, String> {
        let mut length = [0; 4];
        let mut got = 0;
        while got < 4 {
            match self.from.read(&mut length[got..]) {
                // A stream may end without a mark.
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err("it ends within a message".to_owned()),
                Ok(n) => got += n,
                Err(error) => return Err(error.to_string()),
            }
        }
        self.spend(4)?;
        let mut message = MutableBuffer::new(1024);
        if length == [0xff; 4] {
            message.extend_from_slice(&length);
            let word = self.append(&mut message, 4)?;
            length.copy_from_slice(&message[word..]);
        } else {
            message.extend_from_slice(&length);
        }
        let header_bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if header_bytes == 0 {
            return Ok(None);
        }
        if header_bytes > HEADER_BYTES_MAX {
            return Err(format!(
                "a message's header is too long; bytes=`{header_bytes}` expected at most {HEADER_BYTES_MAX}"
            ));
        }
        let header = self.append(&mut message, header_bytes)?;
        let body_bytes = check(&message[header..])?;
        let body = self.append(&mut message, body_bytes)?;
        check_compressed(&message[header..body], &message[body..])?;
        Ok(Some(message))
    }

    /// The magic word, and the zeros behind it: as many as the writer's alignment wants.
    fn begin(&mut self) -> Result<(), String> {
        let mut words = MutableBuffer::new(HEAD_BYTES_MAX);
        self.append(&mut words, 8)?;
        while words.len() < HEAD_BYTES_MAX {
            let at = self.append(&mut words, 4)?;
            if words[at..] != [0; 4] {
                let first = std::io::Cursor::new(words[at..].to_vec());
                let from = std::mem::replace(&mut self.from, Box::new(std::io::empty()));
                self.from = Box::new(first.chain(from));
                self.left = self.left.map(|left| left + 4);
                return Ok(());
            }
        }
        Err("there is nothing behind its first word".to_owned())
    }

    fn end(&mut self) -> Result<(), String> {
        if !self.file {
            return Ok(());
        }
        let mut last = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self
                .from
                .read(&mut piece)
                .map_err(|error| error.to_string())?
            {
                0 if last.ends_with(MAGIC) => return Ok(()),
                0 => return Err("it ends within its footer".to_owned()),
                n => last.extend_from_slice(&piece[..n]),
            }
            last.drain(..last.len().saturating_sub(MAGIC.len()));
        }
    }

    /// Reads so many more; where they begin.
    fn append(&mut self, message: &mut MutableBuffer, bytes: usize) -> Result<usize, String> {
        self.spend(bytes as u64)?;
        let at = message.len();
        let read = input::append(&mut self.from, message, bytes);
        read.map_err(|_| "it ends within a message".to_owned())?;
        Ok(at)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), String> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes).ok_or("it ends within a message")?;
        }
        Ok(())
    }
}

/// How long the body is.
fn check(header: &[u8]) -> Result<usize, String> {
    let message = root_as_message(header)
        .map_err(|error| format!("a message's header is broken; source=`{error}`"))?;
    let bytes = u64::try_from(message.bodyLength())
        .ok()
        .filter(|bytes| *bytes <= BODY_BYTES_MAX);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        format!(
            "a message cannot be so long; bytes=`{}` expected at most {BODY_BYTES_MAX}",
            message.bodyLength()
        )
    })
}

/// A compressed buffer begins with the length that it will have, for which the decoder makes room.
fn check_compressed(header: &[u8], body: &[u8]) -> Result<(), String> {
    let message = root_as_message(header).map_err(|error| error.to_string())?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message
            .header_as_dictionary_batch()
            .and_then(|dictionary| dictionary.data()),
        _ => None,
    };
    let Some(batch) = batch else { return Ok(()) };
    let odd = || "a message's buffers lie outside of it".to_owned();
    let mut inflated: u64 = 0;
    for buffer in batch.buffers().iter().flatten() {
        let start = usize::try_from(buffer.offset()).map_err(|_| odd())?;
        let length = usize::try_from(buffer.length()).map_err(|_| odd())?;
        let bytes = start
            .checked_add(length)
            .and_then(|end| body.get(start..end))
            .ok_or_else(odd)?;
        if batch.compression().is_none() || bytes.is_empty() {
            continue;
        }
        let declared = i64::from_le_bytes(*bytes.first_chunk().ok_or_else(odd)?);
        // -1 says that it is not compressed after all.
        inflated = inflated.saturating_add(u64::try_from(declared).unwrap_or(0));
        if inflated > INFLATED_BYTES_MAX || declared < -1 {
            return Err(format!(
                "a message would be too large decompressed; bytes=`{declared}` expected at most {INFLATED_BYTES_MAX}"
            ));
        }
    }
    Ok(())
}

/// Writes a file.
pub fn create_file(
    to: Box<dyn Write + Send>,
    name: String,
    schema: &SchemaRef,
) -> Result<Box<dyn Writer>, Error> {
    let writer = FileWriter::try_new(to, schema);
    let writer = writer.map_err(|error| Error::file("cannot write", &name, error))?;
    Ok(Box::new(Batches {
        writer,
        name,
        write: FileWriter::write,
        finish: |writer| writer.finish().and_then(|()| Ok(writer.get_mut().flush()?)),
    }))
}

/// Writes a stream.
pub fn create_stream(
    to: Box<dyn Write + Send>,
    name: String,
    schema: &SchemaRef,
) -> Result<Box<dyn Writer>, Error> {
    let writer = StreamWriter::try_new(to, schema);
    let writer = writer.map_err(|error| Error::file("cannot write", &name, error))?;
    Ok(Box::new(Batches {
        writer,
        name,
        write: StreamWriter::write,
        finish: |writer| writer.finish().and_then(|()| Ok(writer.get_mut().flush()?)),
    }))
}

/// The two writers differ in nothing but their type.
struct Batches<W> {
    writer: W,
    name: String,
    write: fn(&mut W, &RecordBatch) -> Result<(), ArrowError>,
    finish: fn(&mut W) -> Result<(), ArrowError>,
}

impl<W: Send> Writer for Batches<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let written = (self.write)(&mut self.writer, batch);
        written.map_err(|error| Error::file("cannot write", &self.name, error))
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<String>, Error> {
        let ended = (self.finish)(&mut self.writer);
        ended.map_err(|error| Error::file("cannot write", &self.name, error))?;
        Ok(Vec::new())
    }
}
