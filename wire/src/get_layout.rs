//! One tensor's bytes as record batches: any chunking is a header over a slice of the same bytes.

use std::ops::Range;

use bytes::Bytes;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::flight_data::encode_head;
use crate::form::{Form, storage_width};
use crate::ipc_write::{ABSENT, Node, padded, record_batch};
use crate::shape::Shape;
use crate::ticket::Layout;

/// One record batch of a get of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The IPC message, `data_header`.
    pub header: Bytes,
    /// Which of the tensor's bytes are the body.
    pub body: Range<u64>,
    /// Zero bytes behind them, at most 7.
    pub padding: u64,
    /// Rows of the batch.
    pub rows: u64,
}

impl Chunk {
    /// Bytes of the body, padding included.
    pub fn body_len(&self) -> u64 {
        self.body.end - self.body.start + self.padding
    }

    /// Everything of the message before the body.
    ///
    /// # Errors
    /// `invalid_argument` where the message would pass the 4 GiB that gRPC can say.
    pub fn head(&self, app_metadata: &[u8]) -> Result<Bytes> {
        encode_head(&self.header, app_metadata, self.body_len())
    }
}

/// The batches of one tensor, in order; at least one, which may have no rows.
#[derive(Clone, Debug)]
pub struct Chunks {
    form: Form,
    /// Rows of every batch but the last.
    rows_each: u64,
    /// The next row.
    row: u64,
    /// The header of all batches of `rows_each` rows.
    full: Option<Bytes>,
    done: bool,
}

impl Chunks {
    /// Batches whose bodies are at most `max_message_bytes` where rows allow; a larger row is
    /// sent whole.
    ///
    /// # Errors
    /// As [`Form::rows`] and [`Form::flat`]. `internal` for [`Layout::Opaque`], which has rows of
    /// another kind.
    pub fn new(
        dtype: DType,
        shape: &Shape,
        layout: Layout,
        max_message_bytes: u64,
    ) -> Result<Self> {
        // What a body may have once it is padded.
        let max = max_message_bytes & !7;
        let (form, rows_each) = match layout {
            Layout::Rows => {
                let form = Form::rows(dtype, shape)?;
                let rows_each = max.checked_div(form.row_bytes).unwrap_or(form.rows);
                (form, rows_each)
            }
            Layout::Flat => {
                // 64-byte boundaries, so that every piece of an aligned tensor is aligned.
                let max = if max >= 64 { max & !63 } else { max };
                (Form::flat(dtype, shape)?, max / storage_width(dtype))
            }
            Layout::Opaque => {
                return Err(Error::internal("the opaque layout is not one of chunks"));
            }
        };
        // A message's length has 32 bits, whatever the ticket asked for.
        let most = MESSAGE_BODY_BYTES_MAX / form.row_bytes.max(1);
        let whole_rows_beyond = if form.row_bytes == 0 {
            u64::MAX
        } else {
            most.max(1)
        };
        Ok(Self {
            rows_each: rows_each.max(1).min(whole_rows_beyond),
            form,
            row: 0,
            full: None,
            done: false,
        })
    }

    /// Rows of the whole stream.
    pub fn rows(&self) -> u64 {
        self.form.rows
    }

    fn header(&mut self, rows: u64) -> Bytes {
        if rows == self.rows_each
            && let Some(full) = &self.full
        {
            return full.clone();
        }
        let header = self.build_header(rows);
        if rows == self.rows_each {
            self.full = Some(header.clone());
        }
        header
    }

    fn build_header(&self, rows: u64) -> Bytes {
        let bytes = rows * self.form.row_bytes;
        let body_len = padded(bytes);
        match self.form.cell {
            None => {
                let nodes = [Node::of(rows)];
                record_batch(rows, &nodes, &[ABSENT, (0, bytes)], body_len)
            }
            Some(_) => {
                let nodes = [Node::of(rows), Node::of(rows * self.form.row_values)];
                record_batch(rows, &nodes, &[ABSENT, ABSENT, (0, bytes)], body_len)
            }
        }
    }
}

/// Far below the 4 GiB of a gRPC message.
const MESSAGE_BODY_BYTES_MAX: u64 = 1 << 31;

impl Iterator for Chunks {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        if self.done {
            return None;
        }
        let rows = self.rows_each.min(self.form.rows - self.row);
        let header = self.header(rows);
        let start = self.row * self.form.row_bytes;
        let end = start + rows * self.form.row_bytes;
        self.row += rows;
        self.done = self.row == self.form.rows;
        Some(Chunk {
            header,
            body: start..end,
            padding: padded(end - start) - (end - start),
            rows,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
