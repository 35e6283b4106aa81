//! What stands before and behind the bytes of the tensors, so that the whole is an Arrow IPC file of one
//! record batch.
//!
//! ```text
//! ARROW1 | schema | header of the batch | columns before the tensors'   a multiple of 64 bytes
//! the tensors' bytes, one behind the other
//! the other columns | end of stream | footer | its length | ARROW1
//! ```

use arrow_ipc::convert::{IpcSchemaEncoder, fb_to_schema, metadata_to_fb};
use arrow_ipc::{Block, FooterBuilder, MessageHeader, MetadataVersion, root_as_message};
use arrow_schema::{DataType, Field, Schema};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::get_rows::{OpaqueRow, RowsBatch, WithColumn, encoded_batch, rows_batch};
use bowstring_wire::ipc_write;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::schema::{NAMESPACE_KEY, StreamSchema};
use bowstring_wire::settings::Compression;
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::With;
use bytes::{BufMut, Bytes, BytesMut};
use flatbuffers::FlatBufferBuilder;

use super::FORMAT_VERSION;
use super::pack::total;
use crate::entry::{Description, Number};

/// How tensors lie in a segment's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Tensors of one namespace, dtype and shape: a row each of a column of `arrow.fixed_shape_tensor`.
    Rows {
        /// Their element type.
        dtype: DType,
        /// The shape of each.
        shape: Shape,
    },
    /// Any tensors: a row each of blobs, dtypes and shapes; compressed ones among them.
    Opaque,
}

/// A tensor, and how it lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lying<'a> {
    pub(super) description: &'a Description,
    /// The frames of one that is compressed.
    pub(super) frames: &'a [u32],
}

/// A file but for the tensors' bytes.
#[derive(Debug)]
pub(super) struct Frame {
    /// Up to the first byte of the first tensor.
    pub(super) head: Bytes,
    /// Bytes of all tensors.
    pub(super) data_len: u64,
    /// From the end of the last tensor on.
    pub(super) tail: Bytes,
}

impl Frame {
    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.data_len
    }
}

/// File and footer metadata: [`FORMAT_VERSION`].
const FORMAT_KEY: &str = "bowstring.format";
/// File and footer metadata: the segment's number.
const SEGMENT_KEY: &str = "bowstring.segment";
/// Schema metadata where all rows are of one namespace.
const TENANT_KEY: &str = "bowstring.tenant";

const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];
const WITH: [With; 4] = [
    With::Version,
    With::Checksum,
    With::Metadata,
    With::SourceVersion,
];

/// The file of these tensors, which are at least one.
///
/// # Errors
/// `internal` for tensors that are not of this layout or of none; of one that is too large for a row, and
/// of too many bytes, as [`rows_batch`] and [`encoded_batch`] say.
pub(super) fn frame(number: Number, layout: &Layout, tensors: &[Lying<'_>]) -> Result<Frame> {
    check(layout, tensors)?;
    let batch = batch(layout, tensors)?;
    let schema = schema(layout, tensors)?;
    let mut fbb = FlatBufferBuilder::with_capacity(2048);
    let table = IpcSchemaEncoder::new().schema_to_fb_offset(&mut fbb, &schema);
    let message = ipc_write::finish(fbb, MessageHeader::Schema, table.as_union_value(), 0);

    let mut head =
        BytesMut::with_capacity(message.len() + batch.header.len() + batch.prelude.len() + 256);
    head.put_slice(MAGIC);
    head.put_bytes(0, 2);
    put_message(&mut head, &message);
    let batch_at = head.len();
    put_message(&mut head, &batch.header);
    let batch_header_len = head.len() - batch_at;
    head.put_slice(&batch.prelude);
    let block = Block::new(
        number_of(batch_at)?,
        number_of(batch_header_len)?,
        number_of(batch.body_len())?,
    );

    let footer = footer(number, &schema, block);
    let mut tail = BytesMut::with_capacity(batch.tail.len() + footer.len() + 32);
    tail.put_slice(&batch.tail);
    tail.put_slice(&CONTINUATION);
    tail.put_u32_le(0);
    tail.put_slice(&footer);
    tail.put_i32_le(number_of(footer.len())?);
    tail.put_slice(MAGIC);
    Ok(Frame {
        head: head.freeze(),
        data_len: batch.data_len,
        tail: tail.freeze(),
    })
}

fn check(layout: &Layout, tensors: &[Lying<'_>]) -> Result<()> {
    let Some(Lying {
        description: first, ..
    }) = tensors.first()
    else {
        return Err(Error::internal("a segment without a tensor"));
    };
    for tensor in tensors {
        let one = tensor.description;
        if one.shape.bytes(one.dtype) != Ok(one.len) {
            return Err(Error::internal(format!(
                "a tensor has other bytes than its shape says; shape=`{}` dtype=`{}` bytes=`{}`",
                one.shape, one.dtype, one.len
            )));
        }
        let alike = match layout {
            Layout::Opaque => true,
            Layout::Rows { dtype, shape } => {
                (one.dtype, &one.shape) == (*dtype, shape)
                    && tensor.frames.is_empty()
                    && one.id.namespace == first.id.namespace
                    && one.id.tenant == first.id.tenant
            }
        };
        if !alike {
            return Err(Error::internal(format!(
                "tensors of one segment differ; dtype=`{}` shape=`{}` namespace=`{}` expected \
                 those of the first",
                one.dtype, one.shape, one.id.namespace
            )));
        }
    }
    Ok(())
}

fn batch(layout: &Layout, tensors: &[Lying<'_>]) -> Result<RowsBatch> {
    let all = || tensors.iter().map(|tensor| tensor.description);
    let versions: Vec<_> = all().map(|one| Some(one.version)).collect();
    let checksums: Vec<_> = all().map(|one| Some(one.checksum)).collect();
    let metadata: Vec<_> = all()
        .map(|one| Metadata::decode(&one.metadata))
        .collect::<Result<_>>()?;
    let metadata: Vec<_> = metadata.iter().map(Some).collect();
    let sources: Vec<_> = all().map(|one| one.source_version).collect();
    let expiries: Vec<_> = all()
        .map(|one| one.expires_at_ms.and_then(|at| i64::try_from(at).ok()))
        .collect();
    let mut with = vec![
        WithColumn::Version(&versions),
        WithColumn::Checksum(&checksums),
        WithColumn::Metadata(&metadata),
        WithColumn::SourceVersion(&sources),
        WithColumn::ExpiresAtMs(&expiries),
    ];
    match layout {
        Layout::Rows { dtype, shape } => {
            let keys: Vec<_> = all().map(|one| one.id.key.as_str()).collect();
            rows_batch(*dtype, shape, &keys, None, &with)
        }
        Layout::Opaque => {
            let rows: Vec<_> = all()
                .map(|one| OpaqueRow {
                    key: one.id.key.as_str(),
                    tensor: Some((one.dtype, &one.shape)),
                })
                .collect();
            let tenants: Vec<_> = all().map(|one| Some(one.id.tenant.as_str())).collect();
            let namespaces: Vec<_> = all().map(|one| Some(one.id.namespace.as_str())).collect();
            with.push(WithColumn::Text(&tenants));
            with.push(WithColumn::Text(&namespaces));
            let encodings: Vec<_> = tensors.iter().map(|one| Some(encoding(one))).collect();
            if has_encodings(tensors) {
                with.push(WithColumn::Text(&encodings));
            }
            let len = |tensor: &Lying<'_>| match tensor.frames {
                [] => tensor.description.len,
                frames => total(frames),
            };
            let lens: Vec<_> = tensors.iter().map(len).collect();
            encoded_batch(&rows, &lens, false, &with)
        }
    }
}

/// Whether the file says of each tensor how it lies: where one is compressed.
fn has_encodings(tensors: &[Lying<'_>]) -> bool {
    tensors.iter().any(|one| !one.frames.is_empty())
}

fn encoding(tensor: &Lying<'_>) -> &'static str {
    let by = match tensor.frames {
        [] => Compression::None,
        _ => Compression::Zstd,
    };
    by.as_str()
}

/// The schema of a get of the same tensors, and what a file says beyond it.
fn schema(layout: &Layout, tensors: &[Lying<'_>]) -> Result<Schema> {
    let message = match layout {
        Layout::Rows { dtype, shape } => StreamSchema::Rows {
            dtype: *dtype,
            shape,
            nullable: false,
            with: &WITH,
        },
        Layout::Opaque => StreamSchema::Opaque {
            nullable: false,
            with: &WITH,
        },
    }
    .message()?;
    let message = root_as_message(&message).ok();
    let got = message.and_then(|message| message.header_as_schema());
    let got = got.map(fb_to_schema);
    let got = got.ok_or_else(|| Error::internal("a schema of ours cannot be read"))?;

    let mut fields: Vec<_> = got.fields().iter().cloned().collect();
    fields.push(Field::new("expires_at_ms", DataType::Int64, true).into());
    let mut metadata = got.metadata;
    metadata.insert(FORMAT_KEY.to_owned(), FORMAT_VERSION.to_string());
    match (layout, tensors.first()) {
        (
            Layout::Rows { .. },
            Some(Lying {
                description: first, ..
            }),
        ) => {
            metadata.insert(TENANT_KEY.to_owned(), first.id.tenant.to_string());
            metadata.insert(NAMESPACE_KEY.to_owned(), first.id.namespace.to_string());
        }
        _ => {
            let text = |name| Field::new(name, DataType::Utf8, false).into();
            fields.extend([text("tenant"), text("namespace")]);
            fields.extend(has_encodings(tensors).then(|| text("encoding")));
        }
    }
    Ok(Schema::new_with_metadata(fields, metadata))
}

/// A message behind the continuation marker and its length, so that what follows is 64-byte aligned.
fn put_message(out: &mut BytesMut, message: &[u8]) {
    let end = (out.len() + 8 + message.len()).next_multiple_of(64);
    let padded = end - out.len() - 8;
    out.put_slice(&CONTINUATION);
    // Some kilobytes; the header of a batch has places, no rows.
    out.put_u32_le(u32::try_from(padded).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.put_bytes(0, padded - message.len());
}

fn footer(number: Number, schema: &Schema, block: Block) -> Bytes {
    let mut fbb = FlatBufferBuilder::with_capacity(2048);
    let schema = IpcSchemaEncoder::new().schema_to_fb_offset(&mut fbb, schema);
    let metadata = [
        (FORMAT_KEY.to_owned(), FORMAT_VERSION.to_string()),
        (SEGMENT_KEY.to_owned(), number.0.to_string()),
    ];
    let metadata = metadata_to_fb(&mut fbb, &metadata.into());
    let blocks = fbb.create_vector(&[block]);
    let dictionaries = fbb.create_vector::<Block>(&[]);
    let mut footer = FooterBuilder::new(&mut fbb);
    footer.add_version(MetadataVersion::V5);
    footer.add_schema(schema);
    footer.add_dictionaries(dictionaries);
    footer.add_recordBatches(blocks);
    footer.add_custom_metadata(metadata);
    let footer = footer.finish();
    fbb.finish(footer, None);
    let (buffer, start) = fbb.collapse();
    Bytes::from(buffer).slice(start..)
}

fn number_of<T: TryFrom<U>, U>(value: U) -> Result<T> {
    T::try_from(value).map_err(|_| Error::invalid("a segment is too large for an Arrow file"))
}
