//! Many tensors as record batches: what stands before and behind their bytes.
//!
//! A batch's body is `prelude`, then the tensors' bytes one behind the other, then `tail`.

use std::borrow::Borrow;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::flight_data::encode_head;
use crate::form::Form;
use crate::ipc_write::{ABSENT, Node, Place, record_batch};
use crate::metadata::Metadata;
use crate::shape::Shape;
use crate::version::Version;

/// One record batch of a get of many tensors, without their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsBatch {
    /// The IPC message, `data_header`.
    pub header: Bytes,
    /// The body up to the first tensor's first byte, a multiple of 64.
    pub prelude: Bytes,
    /// The tensors' bytes, all together, that stand behind the prelude.
    pub data_len: u64,
    /// The body from the last tensor's end on.
    pub tail: Bytes,
}

impl RowsBatch {
    /// Bytes of the body.
    pub fn body_len(&self) -> u64 {
        (self.prelude.len() + self.tail.len()) as u64 + self.data_len
    }

    /// Everything of the message before the body.
    ///
    /// # Errors
    /// `invalid_argument` where the message would pass the 4 GiB that gRPC can say.
    pub fn head(&self, app_metadata: &[u8]) -> Result<Bytes> {
        encode_head(&self.header, app_metadata, self.body_len())
    }
}

/// A column beside key and tensor, mostly one that a ticket asked for, a value a row, in the order of the
/// schema. `None` is null.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WithColumn<'a> {
    Version(&'a [Option<Version>]),
    Checksum(&'a [Option<u128>]),
    Metadata(&'a [Option<&'a Metadata>]),
    TtlMs(&'a [Option<i64>]),
    SourceVersion(&'a [Option<i64>]),
    /// Unix milliseconds. No ticket asks for it; a file outlives a time to live.
    ExpiresAtMs(&'a [Option<i64>]),
    /// A text of the caller's. No ticket asks for it.
    Text(&'a [Option<&'a str>]),
}

/// One row of the `opaque` layout.
#[derive(Clone, Copy, Debug)]
pub struct OpaqueRow<'a> {
    /// The entry's key.
    pub key: &'a str,
    /// The entry's dtype and shape; `None` for a row without a tensor.
    pub tensor: Option<(DType, &'a Shape)>,
}

/// A batch of `StreamSchema::Rows`: one row a key. `valid`, one a key, tells which of them have a
/// tensor; the others are null, and the body has zeros in their place.
///
/// No keys make the batch of no rows that carries closing metadata.
///
/// # Errors
/// As [`Form::rows`]; `invalid_argument` for keys of 2 GiB together, `internal` for columns of
/// another length than `keys`.
pub fn rows_batch<K: Borrow<str>>(
    dtype: DType,
    shape: &Shape,
    keys: &[K],
    valid: Option<&[bool]>,
    with: &[WithColumn<'_>],
) -> Result<RowsBatch> {
    let rows = keys.len() as u64;
    let form = Form::entries(dtype, shape, rows)?;
    let Some(data_len) = form.row_bytes.checked_mul(rows) else {
        return Err(too_large());
    };
    check_rows(valid.map(<[bool]>::len), keys.len())?;
    let mut body = BodyWriter::default();
    body.utf8(keys.iter().map(|key| Some(key.borrow())), false)?;
    body.validity(valid.unwrap_or(&[]).iter().copied(), rows);
    if form.cell.is_some() {
        body.nodes.push(Node::of(rows * form.row_values));
        body.places.push(ABSENT);
    }
    body.finish(rows, data_len, with)
}

/// A batch of `StreamSchema::Opaque`: one entry a row. `nullable` as in the schema.
///
/// # Errors
/// `invalid_argument` for a shape whose size is no number, or texts of 2 GiB together; `internal`
/// for columns of another length than `rows`.
pub fn opaque_batch(
    rows: &[OpaqueRow<'_>],
    nullable: bool,
    with: &[WithColumn<'_>],
) -> Result<RowsBatch> {
    let bytes = |row: &OpaqueRow<'_>| {
        let tensor = row.tensor.map(|(dtype, shape)| shape.bytes(dtype));
        tensor.unwrap_or(Ok(0))
    };
    let lens: Result<SmallVec<[u64; 64]>> = rows.iter().map(bytes).collect();
    encoded_batch(rows, &lens?, nullable, with)
}

/// As [`opaque_batch`], of rows whose data are not the tensors' own bytes but so many each.
///
/// # Errors
/// As [`opaque_batch`].
pub fn encoded_batch(
    rows: &[OpaqueRow<'_>],
    lens: &[u64],
    nullable: bool,
    with: &[WithColumn<'_>],
) -> Result<RowsBatch> {
    check_rows(Some(lens.len()), rows.len())?;
    let count = rows.len() as u64;
    let mut body = BodyWriter::default();
    body.utf8(rows.iter().map(|row| Some(row.key)), false)?;
    let dtype = |row: &OpaqueRow<'_>| row.tensor.map(|(dtype, _)| dtype.name());
    body.utf8(rows.iter().map(dtype), nullable)?;

    let valid = |row: &OpaqueRow<'_>| row.tensor.is_some();
    body.validity(rows.iter().filter(|_| nullable).map(valid), count);
    let mut axes: SmallVec<[u64; 64]> = SmallVec::new();
    let mut ends: SmallVec<[i32; 64]> = SmallVec::from_slice(&[0]);
    for row in rows {
        axes.extend(
            row.tensor
                .iter()
                .flat_map(|(_, shape)| shape.dims().iter().copied()),
        );
        ends.push(i32::try_from(axes.len()).map_err(|_| too_large())?);
    }
    body.buffer(ends.iter().map(|end| end.to_le_bytes()));
    body.nodes.push(Node::of(axes.len() as u64));
    body.places.push(ABSENT);
    body.buffer(axes.iter().map(|dim| dim.to_le_bytes()));

    body.validity(rows.iter().filter(|_| nullable).map(valid), count);
    let mut data_len = 0u64;
    let mut ends: SmallVec<[u64; 64]> = SmallVec::from_slice(&[0]);
    for len in lens {
        data_len = data_len
            .checked_add(*len)
            .filter(|len| i64::try_from(*len).is_ok())
            .ok_or_else(too_large)?;
        ends.push(data_len);
    }
    body.buffer(ends.iter().map(|end| end.to_le_bytes()));
    body.finish(count, data_len, with)
}

/// A batch of `StreamSchema::Unknown`: keys of which none has a tensor.
///
/// # Errors
/// `invalid_argument` for keys of 2 GiB together.
pub fn unknown_batch<K: Borrow<str>>(keys: &[K]) -> Result<RowsBatch> {
    let rows = keys.len() as u64;
    let mut body = BodyWriter::default();
    body.utf8(keys.iter().map(|key| Some(key.borrow())), false)?;
    // A column of type null has a node and no buffers.
    body.nodes.push(Node {
        len: rows,
        nulls: rows,
    });
    body.pad(64);
    let prelude = body.bytes.freeze();
    Ok(RowsBatch {
        header: record_batch(rows, &body.nodes, &body.places, prelude.len() as u64),
        prelude,
        data_len: 0,
        tail: Bytes::new(),
    })
}

/// How many rows one message takes, counted as they are added.
#[derive(Clone, Copy, Debug)]
pub struct RowsBudget {
    left: u64,
    rows: u64,
}

impl RowsBudget {
    /// For bodies of at most `max_message_bytes` where rows allow.
    pub fn new(max_message_bytes: u64) -> Self {
        // The buffers' padding, and offsets of one row more than there are.
        Self {
            left: max_message_bytes.min(1 << 31).saturating_sub(1024),
            rows: 0,
        }
    }

    /// Whether one more row fits: the first always does. `data_bytes` are the tensor's,
    /// `shape` is given where the row says it itself (opaque), `metadata_bytes` is the encoded
    /// length where that column is asked for.
    pub fn take(
        &mut self,
        key: &str,
        data_bytes: u64,
        shape: Option<&Shape>,
        metadata_bytes: usize,
    ) -> bool {
        // Offsets, bits, the longest dtype, version, checksum, time to live and source version.
        const FIXED: u64 = 4 + 1 + 29 + 4 + 32 + 4 + 8 + 4 + 8 + 13 + 4 + 4 + 9;
        let axes = shape.map_or(0, Shape::rank) * 8;
        let small = (key.len() + axes + 2 * metadata_bytes) as u64;
        let cost = data_bytes.saturating_add(FIXED + small);
        if cost > self.left && self.rows > 0 {
            return false;
        }
        self.left = self.left.saturating_sub(cost);
        self.rows += 1;
        true
    }

    /// Rows taken.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// Buffers one behind the other, each on an 8-byte boundary, with their places in the body.
#[derive(Default)]
struct BodyWriter {
    bytes: BytesMut,
    /// Where `bytes` begins in the body.
    base: u64,
    nodes: SmallVec<[Node; 12]>,
    places: SmallVec<[Place; 24]>,
}

impl BodyWriter {
    fn finish(mut self, rows: u64, data_len: u64, with: &[WithColumn<'_>]) -> Result<RowsBatch> {
        self.pad(64);
        let prelude = self.bytes.split().freeze();
        let data_at = prelude.len() as u64;
        self.places.push((data_at, data_len));
        self.base = data_at.checked_add(data_len).ok_or_else(too_large)?;
        self.pad(8);
        for column in with {
            self.with(column, rows)?;
        }
        let tail = self.bytes.freeze();
        let body_len = self.base + tail.len() as u64;
        Ok(RowsBatch {
            header: record_batch(rows, &self.nodes, &self.places, body_len),
            prelude,
            data_len,
            tail,
        })
    }

    fn with(&mut self, column: &WithColumn<'_>, rows: u64) -> Result<()> {
        let expected = usize::try_from(rows).unwrap_or(usize::MAX);
        match column {
            WithColumn::Version(values) => {
                check_rows(Some(values.len()), expected)?;
                let text: Vec<_> = values.iter().map(|v| v.map(|v| v.to_string())).collect();
                self.utf8(text.iter().map(Option::as_deref), true)
            }
            WithColumn::Checksum(values) => {
                check_rows(Some(values.len()), expected)?;
                let text: Vec<_> = values
                    .iter()
                    .map(|v| v.map(|v| format!("{v:032x}")))
                    .collect();
                self.utf8(text.iter().map(Option::as_deref), true)
            }
            WithColumn::Metadata(values) => {
                check_rows(Some(values.len()), expected)?;
                self.metadata(values)
            }
            WithColumn::Text(values) => {
                check_rows(Some(values.len()), expected)?;
                self.utf8(values.iter().copied(), true)
            }
            WithColumn::TtlMs(values)
            | WithColumn::SourceVersion(values)
            | WithColumn::ExpiresAtMs(values) => {
                check_rows(Some(values.len()), expected)?;
                self.validity(values.iter().map(Option::is_some), rows);
                self.buffer(values.iter().map(|v| v.unwrap_or(0).to_le_bytes()));
                Ok(())
            }
        }
    }

    fn metadata(&mut self, values: &[Option<&Metadata>]) -> Result<()> {
        self.validity(values.iter().map(Option::is_some), values.len() as u64);
        let mut ends: Vec<i32> = vec![0];
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for value in values {
            pairs.extend(value.iter().flat_map(|metadata| metadata.iter()));
            ends.push(i32::try_from(pairs.len()).map_err(|_| too_large())?);
        }
        self.buffer(ends.iter().map(|end| end.to_le_bytes()));
        self.nodes.push(Node::of(pairs.len() as u64));
        self.places.push(ABSENT);
        self.utf8(pairs.iter().map(|(name, _)| Some(*name)), false)?;
        self.utf8(pairs.iter().map(|(_, value)| Some(*value)), false)
    }

    /// A column of texts: its node, validity, offsets and bytes.
    fn utf8<'t>(
        &mut self,
        values: impl ExactSizeIterator<Item = Option<&'t str>> + Clone,
        nullable: bool,
    ) -> Result<()> {
        let rows = values.len() as u64;
        let valid = values.clone().map(|value| value.is_some());
        self.validity(valid.filter(|_| nullable), rows);
        let at = self.at();
        let start = self.bytes.len();
        self.bytes.put_i32_le(0);
        let mut end = 0i32;
        for value in values.clone() {
            let len = i32::try_from(value.map_or(0, str::len)).map_err(|_| too_large())?;
            end = end.checked_add(len).ok_or_else(too_large)?;
            self.bytes.put_i32_le(end);
        }
        self.place(at, start);
        let at = self.at();
        let start = self.bytes.len();
        for value in values.flatten() {
            self.bytes.put_slice(value.as_bytes());
        }
        self.place(at, start);
        Ok(())
    }

    /// A node of `rows` values with its bitmap, which is left out where nothing is null. `valid`
    /// may be shorter than `rows`: the rest is valid.
    fn validity(&mut self, valid: impl Iterator<Item = bool>, rows: u64) {
        let at = self.at();
        let start = self.bytes.len();
        let (mut nulls, mut byte, mut count) = (0, 0u8, 0u32);
        for valid in valid {
            nulls += u64::from(!valid);
            byte |= u8::from(valid) << (count % 8);
            count += 1;
            if count.is_multiple_of(8) {
                self.bytes.put_u8(std::mem::take(&mut byte));
            }
        }
        if !count.is_multiple_of(8) {
            self.bytes.put_u8(byte);
        }
        self.nodes.push(Node { len: rows, nulls });
        if nulls == 0 {
            self.bytes.truncate(start);
            self.places.push(ABSENT);
        } else {
            self.place(at, start);
        }
    }

    fn buffer<const N: usize>(&mut self, values: impl Iterator<Item = [u8; N]>) {
        let at = self.at();
        let start = self.bytes.len();
        for value in values {
            self.bytes.put_slice(&value);
        }
        self.place(at, start);
    }

    /// Ends the buffer that began at `start` of `bytes` and `at` in the body.
    fn place(&mut self, at: u64, start: usize) {
        self.places.push((at, (self.bytes.len() - start) as u64));
        self.pad(8);
    }

    fn at(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn pad(&mut self, to: u64) {
        let zeros = self.at().next_multiple_of(to) - self.at();
        self.bytes.put_bytes(0, usize::try_from(zeros).unwrap_or(0));
    }
}

fn check_rows(len: Option<usize>, expected: usize) -> Result<()> {
    match len {
        Some(len) if len != expected => Err(Error::internal(format!(
            "a column has another length than the keys; rows=`{len}` expected `{expected}`"
        ))),
        _ => Ok(()),
    }
}

fn too_large() -> Error {
    Error::invalid(
        "a batch is too large for its offsets; expected less than 2 GiB of text and 8 EiB of data",
    )
}

#[cfg(test)]
mod tests;
