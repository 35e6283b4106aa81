//! The messages of Arrow's IPC, none of which is believed.

use std::io::Read;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::SchemaRef;

use crate::source::{Limits, append};

/// What may be before the first message.
const HEAD_BYTES_MAX: usize = 128;
const MAGIC: &[u8] = b"ARROW1";
/// The header of a message.
pub const HEADER_BYTES_MAX: usize = 64 << 20;

/// The messages of a stream, or of a file: a stream between two magic words, with a table of contents that is not needed here.
pub struct Messages {
    from: Box<dyn Read + Send>,
    /// Bytes that there still are, where that is known.
    left: Option<u64>,
    decoder: StreamDecoder,
    ended: bool,
    /// Behind a file's stream there is its table of contents, and the magic word.
    file: bool,
    /// Of one message, as it lies there and decompressed.
    limits: Limits,
}

impl Messages {
    /// Those of a stream or a file of so many bytes, where that is known.
    pub fn begin(
        from: Box<dyn Read + Send>,
        left: Option<u64>,
        file: bool,
        limits: Limits,
    ) -> Result<Messages, String> {
        let mut messages = Messages {
            from,
            left,
            decoder: StreamDecoder::new(),
            ended: false,
            file,
            limits,
        };
        if file {
            messages.head()?;
        }
        Ok(messages)
    }

    /// What the columns are, once the first message was read.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }

    /// The next batch; `None` at the end of the stream.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, String> {
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
        let body_bytes = body_bytes(&message[header..], self.limits.batch_bytes_max)?;
        self.limits.claim(body_bytes as u64)?;
        let body = self.append(&mut message, body_bytes)?;
        check_compressed(&message[header..body], &message[body..], &self.limits)?;
        Ok(Some(message))
    }

    /// The magic word, and the zeros behind it: as many as the writer's alignment wants.
    fn head(&mut self) -> Result<(), String> {
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
        let read = append(&mut self.from, message, bytes);
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
pub fn body_bytes(header: &[u8], bytes_max: u64) -> Result<usize, String> {
    let message = root_as_message(header)
        .map_err(|error| format!("a message's header is broken; source=`{error}`"))?;
    let bytes = u64::try_from(message.bodyLength())
        .ok()
        .filter(|bytes| *bytes <= bytes_max);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        format!(
            "a batch is too large, write the file in smaller ones; bytes=`{}` expected at most {bytes_max}",
            message.bodyLength()
        )
    })
}

/// A compressed buffer begins with the length that it will have, for which the decoder makes room.
pub fn check_compressed(header: &[u8], body: &[u8], limits: &Limits) -> Result<(), String> {
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
    let bytes_max = limits.batch_bytes_max;
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
        if inflated > bytes_max || declared < -1 {
            return Err(format!(
                "a batch would be too large decompressed, write the file in smaller ones; bytes=`{inflated}` expected at most {bytes_max}"
            ));
        }
    }
    limits.claim(inflated.saturating_add(body.len() as u64))
}
