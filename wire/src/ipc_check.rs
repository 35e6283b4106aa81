//! The structural check of a received IPC message, before anything reads it by its numbers.
//!
//! arrow-ipc's own readers panic on unknown types, offsets out of range and negative counts, and
//! allocate lengths that a compressed buffer only claims. So nothing of a stranger's reaches
//! them: the flatbuffer is verified within tight limits, and every count and place is compared
//! with the schema and the body that it speaks of.

use std::ops::Range;

use arrow_ipc::{Message, MessageHeader, MetadataVersion, root_as_message_with_opts};
use flatbuffers::{InvalidFlatbuffer, VerifierOptions};
use smallvec::SmallVec;

use crate::error::{Error, Result, clip};
use crate::field::{self, Logical};
use crate::limits::{MAX_HEADER_BYTES, MAX_QUOTED_BYTES, MAX_RANK};

/// Tables below each other: message, schema, a field an axis (complex numbers have one more), and
/// what the last of them has.
const SCHEMA_DEPTH_MAX: usize = MAX_RANK + 6;
const BATCH_DEPTH_MAX: usize = 6;
/// A schema of ten thousand columns or metadata pairs.
const TABLES_MAX: usize = 1 << 16;

/// The schema in a verified message.
///
/// # Errors
/// `invalid_argument` for anything but a little-endian schema in a whole message.
pub fn schema(header: &[u8]) -> Result<arrow_ipc::Schema<'_>> {
    let message = verified(header, SCHEMA_DEPTH_MAX)?;
    let Some(schema) = message.header_as_schema() else {
        return Err(Error::invalid(format!(
            "the first message is not a schema; header=`{}` expected `Schema`",
            kind(&message)
        )));
    };
    if schema.endianness() != arrow_ipc::Endianness::Little {
        return Err(Error::invalid(
            "the schema is not little-endian; expected little-endian buffers",
        ));
    }
    Ok(schema)
}

/// What a schema's batches must look like: its fields depth first.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    slots: Vec<Slot>,
    columns: Vec<String>,
    buffers: usize,
    /// Columns of views, each of which has as many more buffers as its batch says.
    views: usize,
    /// Whether a column is encoded by a dictionary.
    dictionaries: bool,
    /// Why batches cannot be checked.
    unread: Option<Error>,
}

/// Where a column begins in a batch's nodes and buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its first node.
    pub node: usize,
    /// Index of its first buffer.
    pub buffer: usize,
}

impl Place {
    /// So many nodes and buffers on.
    pub(crate) fn and(self, nodes: usize, buffers: usize) -> Self {
        Self {
            node: self.node + nodes,
            buffer: self.buffer + buffers,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    kind: Kind,
    children: usize,
}

/// How many buffers a field has, and how large they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    /// Values of so many bits.
    Values(u64),
    /// Offsets of 4 or 8 bytes, and bytes.
    Text(u64),
    /// Values of 16 bytes, and buffers that they point into.
    View,
    /// Offsets of 4 or 8 bytes.
    List(u64),
    /// Offsets and lengths of 4 or 8 bytes each.
    ListView(u64),
    FixedList(u64),
    Struct,
}

impl Tree {
    /// Adds a column of a verified schema.
    ///
    /// # Errors
    /// `invalid_argument` for a type that contradicts itself. A type that is not read here is no
    /// error yet ([`Tree::check`]): what the column is for says more about it.
    pub fn push(&mut self, field: arrow_ipc::Field<'_>) -> Result<Place> {
        let place = self.column(&field);
        let logical = field::logical(&field)?;
        self.push_field(field, logical)?;
        Ok(place)
    }

    /// Adds the values of a column's dictionary, as a column.
    ///
    /// # Errors
    /// As [`Tree::push`].
    pub fn push_decoded(&mut self, field: arrow_ipc::Field<'_>) -> Result<Place> {
        let place = self.column(&field);
        let logical = field::decoded(&field)?;
        self.push_field(field, logical)?;
        Ok(place)
    }

    /// Whether a column is encoded by a dictionary, so that dictionary batches come.
    pub fn has_dictionaries(&self) -> bool {
        self.dictionaries
    }

    fn column(&mut self, field: &arrow_ipc::Field<'_>) -> Place {
        self.columns
            .push(field.name().unwrap_or_default().to_owned());
        Place {
            node: self.slots.len(),
            buffer: self.buffers,
        }
    }

    /// To be asked before any batch is checked.
    ///
    /// # Errors
    /// `unimplemented` for types whose buffers cannot be told from the schema alone.
    pub fn check(&self) -> Result<()> {
        self.unread.clone().map_or(Ok(()), Err)
    }

    fn push_field(&mut self, field: arrow_ipc::Field<'_>, logical: Logical) -> Result<()> {
        let (kind, buffers) = match logical {
            Logical::Null => (Kind::Null, 0),
            Logical::Bool => (Kind::Values(1), 2),
            Logical::Int { bits, .. } | Logical::Float { bits } | Logical::Other { bits } => {
                (Kind::Values(bits), 2)
            }
            Logical::FixedBytes(width) => (Kind::Values(width * 8), 2),
            Logical::Text { wide } | Logical::Bytes { wide } => (Kind::Text(offset_width(wide)), 3),
            Logical::List { wide } => (Kind::List(offset_width(wide)), 2),
            Logical::Map => (Kind::List(4), 2),
            Logical::FixedList(size) => (Kind::FixedList(size), 1),
            Logical::ListView { wide } => (Kind::ListView(offset_width(wide)), 3),
            Logical::Struct => (Kind::Struct, 1),
            Logical::TextView | Logical::BytesView => {
                self.views += 1;
                (Kind::View, 2)
            }
            Logical::Dictionary { bits, .. } => {
                self.dictionaries = true;
                (Kind::Values(bits), 2)
            }
            Logical::Unknown => {
                let column = self.columns.last().map_or("", String::as_str);
                self.unread.get_or_insert_with(|| {
                    Error::unimplemented(format!(
                        "a column has a type that is not read here; column=`{}` type=`{}`",
                        clip(column, MAX_QUOTED_BYTES),
                        field::type_name(&field)
                    ))
                });
                (Kind::Null, 0)
            }
        };
        self.buffers += buffers;
        // What a dictionary is of has children, its indices have none.
        let children = match logical {
            Logical::Dictionary { .. } => None,
            _ => field.children(),
        };
        self.slots.push(Slot {
            kind,
            children: children.map_or(0, |children| children.len()),
        });
        for child in children.into_iter().flatten() {
            self.push_field(child, field::logical(&child)?)?;
        }
        Ok(())
    }
}

fn offset_width(wide: bool) -> u64 {
    if wide { 8 } else { 4 }
}

/// A checked record batch. Every buffer lies in the body, and is as large as its node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows, the same for all columns.
    pub rows: u64,
    /// Values and nulls of each field, depth first.
    pub nodes: SmallVec<[Node; 4]>,
    /// Each buffer's bytes of the body, but for those that views point into; empty where it is
    /// left out.
    pub buffers: SmallVec<[Range<u64>; 8]>,
    /// What the views of a node, in order, point into.
    pub viewed: Vec<(usize, Vec<Range<u64>>)>,
}

/// A message that brings the values of a dictionary.
#[derive(Debug)]
pub struct DictionaryMessage<'a> {
    /// Which dictionary, as the schema's fields name it.
    pub id: i64,
    /// Whether the values are behind those that came before, not in their place.
    pub is_delta: bool,
    record: arrow_ipc::RecordBatch<'a>,
    body_len: u64,
}

impl DictionaryMessage<'_> {
    /// Checks the values against the tree of the one column that they are.
    ///
    /// # Errors
    /// As [`batch`].
    pub fn check(&self, tree: &Tree) -> Result<Batch> {
        check(&self.record, self.body_len, tree)
    }
}

/// Reads a message as one that brings the values of a dictionary; `None` where it is another one.
///
/// # Errors
/// As [`batch`].
pub fn dictionary(header: &[u8], body_len: u64) -> Result<Option<DictionaryMessage<'_>>> {
    let message = verified(header, BATCH_DEPTH_MAX)?;
    let Some(dictionary) = message.header_as_dictionary_batch() else {
        return Ok(None);
    };
    let Some(record) = dictionary.data() else {
        return Err(Error::invalid(format!(
            "a dictionary has no values; id=`{}`",
            dictionary.id()
        )));
    };
    Ok(Some(DictionaryMessage {
        id: dictionary.id(),
        is_delta: dictionary.isDelta(),
        record,
        body_len: declared(&message, body_len)?,
    }))
}

pub use crate::ipc_write::Node;

/// Checks a record batch against the schema's tree and the length of the body that comes with it.
///
/// # Errors
/// `invalid_argument` with what was wrong and in which column; `unimplemented` for compressed
/// buffers and dictionaries.
pub fn batch(header: &[u8], body_len: u64, tree: &Tree) -> Result<Batch> {
    tree.check()?;
    let message = verified(header, BATCH_DEPTH_MAX)?;
    if message.header_type() == MessageHeader::DictionaryBatch {
        return Err(Error::invalid(
            "a dictionary came that no column of the schema has; expected a record batch",
        ));
    }
    let Some(batch) = message.header_as_record_batch() else {
        return Err(Error::invalid(format!(
            "a message is not a record batch; header=`{}` expected `RecordBatch`",
            kind(&message)
        )));
    };
    check(&batch, declared(&message, body_len)?, tree)
}

/// The bytes that a message's body has, which came with `body_len`.
fn declared(message: &Message<'_>, body_len: u64) -> Result<u64> {
    let declared = unsigned(message.bodyLength(), "bodyLength")?;
    if declared > body_len {
        return Err(Error::invalid(format!(
            "a body is shorter than its header says; bytes=`{body_len}` expected `{declared}`"
        )));
    }
    Ok(declared)
}

fn check(batch: &arrow_ipc::RecordBatch<'_>, body_len: u64, tree: &Tree) -> Result<Batch> {
    tree.check()?;
    if batch.compression().is_some() {
        return Err(Error::unimplemented(
            "compressed record batches are not read; send them uncompressed",
        ));
    }
    let variadic = batch.variadicBufferCounts();
    let counts: SmallVec<[usize; 2]> = variadic
        .into_iter()
        .flatten()
        .map(|count| unsigned(count, "variadicBufferCounts"))
        .map(|count| count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
        .collect::<Result<_>>()?;
    if counts.len() != tree.views {
        return Err(disagrees("columns of views", tree.views, counts.len()));
    }
    let nodes = batch.nodes().unwrap_or_default();
    if nodes.len() != tree.slots.len() {
        return Err(disagrees("nodes", tree.slots.len(), nodes.len()));
    }
    let buffers = batch.buffers().unwrap_or_default();
    let expected = counts
        .iter()
        .fold(tree.buffers, |all, count| all.saturating_add(*count));
    if buffers.len() != expected {
        return Err(disagrees("buffers", expected, buffers.len()));
    }
    let mut check = Check {
        tree,
        nodes,
        places: buffers,
        counts,
        next: 0,
        body_len,
        end: 0,
        column: "",
        batch: Batch {
            rows: unsigned(batch.length(), "length")?,
            nodes: SmallVec::new(),
            buffers: SmallVec::new(),
            viewed: Vec::new(),
        },
    };
    for column in &tree.columns {
        check.column = column;
        check.column()?;
    }
    Ok(check.batch)
}

struct Check<'a> {
    tree: &'a Tree,
    nodes: flatbuffers::Vector<'a, arrow_ipc::FieldNode>,
    places: flatbuffers::Vector<'a, arrow_ipc::Buffer>,
    /// Buffers that the views of each column point into.
    counts: SmallVec<[usize; 2]>,
    /// The index of the next buffer.
    next: usize,
    body_len: u64,
    /// Where the last buffer that is not empty ended.
    end: u64,
    column: &'a str,
    batch: Batch,
}

impl Check<'_> {
    fn column(&mut self) -> Result<()> {
        let rows = self.batch.rows;
        let len = self.node(rows)?;
        if len != rows {
            return Err(self.wrong(format_args!(
                "has another length than its batch; rows=`{len}` expected `{rows}`"
            )));
        }
        Ok(())
    }

    /// Checks the next field and those below it; gives its length, which is at least `least`.
    fn node(&mut self, least: u64) -> Result<u64> {
        let index = self.batch.nodes.len();
        // The counts were compared before.
        let Some(slot) = self.tree.slots.get(index).copied() else {
            return Err(disagrees("nodes", self.tree.slots.len(), index));
        };
        let node = self.nodes.get(index);
        let len = unsigned(node.length(), "length of a node")?;
        let nulls = unsigned(node.null_count(), "null_count")?;
        if len < least || nulls > len {
            return Err(self.wrong(format_args!(
                "has counts that do not fit; length=`{len}` nulls=`{nulls}` expected at least \
                 `{least}` values and no more nulls than values"
            )));
        }
        self.batch.nodes.push(Node { len, nulls });
        if slot.kind != Kind::Null {
            // A bitmap that is there although nothing is null is legal.
            let bitmap = if nulls > 0 { len.div_ceil(8) } else { 0 };
            self.buffer(Some(bitmap))?;
        }
        match slot.kind {
            Kind::Null | Kind::Struct => {}
            Kind::Values(bits) => {
                let bytes = len.checked_mul(bits).map(|bits| bits.div_ceil(8));
                self.buffer(bytes)?;
            }
            Kind::Text(width) => {
                self.offsets(len, width)?;
                self.buffer(Some(0))?;
            }
            Kind::View => {
                self.buffer(len.checked_mul(16))?;
                let count = self.counts.get(self.batch.viewed.len()).copied();
                let viewed = (0..count.unwrap_or(0)).map(|_| self.place(Some(0)));
                let viewed = viewed.collect::<Result<_>>()?;
                self.batch.viewed.push((index, viewed));
            }
            Kind::List(width) => self.offsets(len, width)?,
            Kind::ListView(width) => {
                self.buffer(len.checked_mul(width))?;
                self.buffer(len.checked_mul(width))?;
            }
            Kind::FixedList(size) => {
                let Some(least) = len.checked_mul(size) else {
                    return Err(self.wrong(format_args!(
                        "has more values than can be; length=`{len}` list_size=`{size}`"
                    )));
                };
                return self.node(least).map(|_| len);
            }
        }
        let least = if slot.kind == Kind::Struct { len } else { 0 };
        for _ in 0..slot.children {
            self.node(least)?;
        }
        Ok(len)
    }

    fn offsets(&mut self, len: u64, width: u64) -> Result<()> {
        // No rows may come without the one offset that they should have.
        let offsets = if len == 0 {
            Some(0)
        } else {
            len.checked_add(1)
        };
        self.buffer(offsets.and_then(|offsets| offsets.checked_mul(width)))
    }

    fn buffer(&mut self, least: Option<u64>) -> Result<()> {
        let range = self.place(least)?;
        self.batch.buffers.push(range);
        Ok(())
    }

    /// Takes the next buffer, which needs `least` bytes; `None` where that is no number.
    fn place(&mut self, least: Option<u64>) -> Result<Range<u64>> {
        let index = self.next;
        if index >= self.places.len() {
            return Err(disagrees("buffers", self.tree.buffers, index));
        }
        self.next += 1;
        let place = self.places.get(index);
        let at = unsigned(place.offset(), "offset of a buffer")?;
        let len = unsigned(place.length(), "length of a buffer")?;
        let inside = at.checked_add(len).filter(|end| *end <= self.body_len);
        let Some(end) = inside else {
            return Err(self.wrong(format_args!(
                "has a buffer outside the body; offset=`{at}` length=`{len}` expected at most `{}`",
                self.body_len
            )));
        };
        if len > 0 {
            if !at.is_multiple_of(8) || at < self.end {
                return Err(self.wrong(format_args!(
                    "has a buffer that overlaps another or is not aligned; offset=`{at}` expected \
                     a multiple of 8, at least `{}`",
                    self.end
                )));
            }
            self.end = end;
        }
        if least.is_none_or(|least| len < least) {
            return Err(self.wrong(format_args!(
                "has a buffer too short for its rows; bytes=`{len}` expected `{}`",
                least.map_or("more than can be".to_owned(), |least| least.to_string())
            )));
        }
        Ok(at..end)
    }

    fn wrong(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::invalid(format!(
            "a column {what}; column=`{}`",
            clip(self.column, MAX_QUOTED_BYTES)
        ))
    }
}

fn verified(header: &[u8], max_depth: usize) -> Result<Message<'_>> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(Error::exhausted(format!(
            "an IPC header is too large; bytes=`{}` expected at most {MAX_HEADER_BYTES}",
            header.len()
        )));
    }
    let options = VerifierOptions {
        max_depth,
        max_tables: TABLES_MAX,
        // Tables that share their parts make a small message large; ours and PyArrow's count
        // three times their bytes, for a vtable is counted each time it is used.
        max_apparent_size: 8 * header.len() + 1024,
        ignore_missing_null_terminator: true,
    };
    let message = root_as_message_with_opts(&options, header).map_err(|error| {
        if error == InvalidFlatbuffer::DepthLimitReached {
            return Error::invalid(format!(
                "an IPC header nests too deeply; expected at most {MAX_RANK} axes"
            ));
        }
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Error::invalid(format!(
            "data_header is not an Arrow IPC message: {} expected a flatbuffer `Message`",
            clip(first, MAX_QUOTED_BYTES).trim_end_matches('.')
        ))
    })?;
    match message.version() {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
        other => Err(Error::invalid(format!(
            "an IPC message has an unknown version; version=`{}` expected V4 or V5",
            other.variant_name().unwrap_or("unknown")
        ))),
    }
}

fn kind(message: &Message<'_>) -> &'static str {
    message.header_type().variant_name().unwrap_or("unknown")
}

fn unsigned(value: i64, what: &str) -> Result<u64> {
    u64::try_from(value).map_err(|_| {
        Error::invalid(format!(
            "a record batch has a negative count; {what}=`{value}` expected at least 0"
        ))
    })
}

fn disagrees(what: &str, expected: usize, found: usize) -> Error {
    Error::invalid(format!(
        "a record batch does not agree with its schema; {what}=`{found}` expected `{expected}`"
    ))
}

#[cfg(test)]
mod tests;
