//! Bytes as a stranger may send them: each function takes any, as far as they go here, and panics only
//! where we are wrong. What is read and written again must be read as the same.
//!
//! `fuzz/` calls these with inputs that coverage leads to; the test below with damaged golden vectors,
//! so that they stay what they are.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::action::{
    self, BeginLoadRequest, ClearRequest, DeleteRequest, DescribeRequest, ExistsRequest,
    ExpireRequest, ListFilter, LoadFilesRequest, LoadRequest, NamespaceSetRequest,
    NamespacesRequest, PinRequest,
};
use crate::body::Body;
use crate::bulk::{BulkReader, Dictionaries, KeysReader};
use crate::descriptor::PutCommand;
use crate::error::{Error, Result};
use crate::exchange::ExchangeCommand;
use crate::flight_data::{Event, Parser};
use crate::mux::{MuxEvent, MuxMessages, MuxReply, MuxRequest};
use crate::offsets::OffsetsCheck;
use crate::put_schema::PutSchema;
use crate::single::SingleSchema;
use crate::ticket::Ticket;

/// What a get asks for.
pub fn ticket(bytes: &[u8]) {
    again(bytes, Ticket::parse, Ticket::to_json);
}

/// What a put says of itself: JSON, and a path of what stands between zeros.
pub fn descriptor(bytes: &[u8]) {
    again(bytes, PutCommand::parse_cmd, PutCommand::to_json);
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let path: Vec<&str> = text.split('\0').collect();
    if let Ok(command) = PutCommand::from_path(&path) {
        let json = command.to_json();
        assert_eq!(PutCommand::parse_cmd(json.as_bytes()), Ok(command));
    }
}

/// The body of any action, the criteria of a listing, the command of an exchange.
pub fn action(bytes: &[u8]) {
    again(bytes, ExistsRequest::parse, ExistsRequest::to_json);
    again(bytes, DescribeRequest::parse, DescribeRequest::to_json);
    again(bytes, DeleteRequest::parse, DeleteRequest::to_json);
    again(bytes, ExpireRequest::parse, ExpireRequest::to_json);
    again(bytes, PinRequest::parse, PinRequest::to_json);
    again(bytes, BeginLoadRequest::parse, BeginLoadRequest::to_json);
    again(bytes, LoadRequest::parse, LoadRequest::to_json);
    again(bytes, LoadFilesRequest::parse, LoadFilesRequest::to_json);
    again(bytes, ClearRequest::parse, ClearRequest::to_json);
    again(bytes, ListFilter::parse, ListFilter::to_json);
    let _ = NamespacesRequest::parse(bytes);
    let _ = NamespaceSetRequest::parse(bytes);
    let _ = ExchangeCommand::parse(bytes);
    again(
        bytes,
        action::AttachRequest::parse,
        action::AttachRequest::to_json,
    );
    again(
        bytes,
        action::DetachRequest::parse,
        action::DetachRequest::to_json,
    );
    let _ = action::FlushRequest::parse(bytes);
    again(
        bytes,
        action::MoveRequest::parse,
        action::MoveRequest::to_json,
    );
    let _ = action::parse_nothing(bytes);
}

/// The stream of a put: the first byte says in how large frames the others come.
pub fn put(bytes: &[u8]) {
    for command in COMMANDS {
        let _ = receive(bytes, command);
    }
}

/// What changes most of how rows are read.
const COMMANDS: [&[u8]; 2] = [
    br#"{"extra_columns": "ignore"}"#,
    br#"{"extra_columns": "metadata", "dtype": "float16"}"#,
];

/// Messages of the mux exchange, from either end; the first byte as in [`put`].
pub fn mux(bytes: &[u8]) {
    let _ = exchange(bytes);
}

fn again<T: PartialEq + Debug>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<T>,
    write: impl Fn(&T) -> String,
) {
    if let Ok(parsed) = parse(bytes) {
        assert_eq!(parse(write(&parsed).as_bytes()), Ok(parsed));
    }
}

fn frames(bytes: &[u8]) -> impl Iterator<Item = Bytes> + '_ {
    let (size, rest) = bytes.split_first().unwrap_or((&1, &[]));
    // Small ones, and whole messages.
    let size = match usize::from(*size) {
        255 => 16 << 10,
        size => size.max(1),
    };
    rest.chunks(size).map(Bytes::copy_from_slice)
}

/// As a server receives a put, without an engine behind it.
fn receive(bytes: &[u8], command: &[u8]) -> Result<()> {
    let mut parser = Parser::new();
    let (mut reader, mut header, mut body) = (None, None, Body::new());
    for frame in frames(bytes) {
        parser.push(frame);
        while let Some(event) = parser.next_event()? {
            match event {
                Event::Header(bytes) if reader.is_none() => {
                    let _ = keys(&bytes, None);
                    reader = Some(Reader::new(&bytes, command)?);
                }
                Event::Header(bytes) => header = Some(bytes),
                Event::BodyChunk(chunk) => body.push(chunk),
                Event::MessageEnd => {
                    let body = std::mem::take(&mut body);
                    if let (Some(reader), Some(header)) = (&mut reader, header.take()) {
                        reader.batch(&header, &body)?;
                    }
                }
                Event::Descriptor(_) | Event::AppMetadata(_) | Event::BodyStart { .. } => {}
            }
        }
    }
    parser.finish()?;
    match reader {
        Some(Reader::Single(mut single)) => single.end(),
        _ => Ok(()),
    }
}

/// The keys of a batch of the exchange `get`, where the schema is one of keys.
fn keys(schema: &[u8], batch: Option<(&[u8], &Body)>) -> Result<()> {
    let reader = KeysReader::new(schema, None)?;
    if let Some((header, body)) = batch {
        let mut dictionaries = Dictionaries::default();
        if !reader.dictionary(&mut dictionaries, header, body, |_| Ok(Arc::new(())))? {
            let _ = reader.decode(header, body, &dictionaries)?.keys();
        }
    }
    Ok(())
}

enum Reader {
    Single(Box<Single>),
    Bulk(Box<BulkReader>, Dictionaries, Bytes),
}

struct Single {
    schema: SingleSchema,
    rows: u64,
    list_len: Option<u64>,
}

impl Reader {
    fn new(schema: &Bytes, command: &[u8]) -> Result<Self> {
        Ok(match PutSchema::parse(schema)? {
            PutSchema::Single(schema) => {
                let _ = schema.permute();
                Reader::Single(Box::new(Single {
                    list_len: schema.list_len()?,
                    schema: *schema,
                    rows: 0,
                }))
            }
            PutSchema::Bulk(bulk) => {
                let command = PutCommand::parse_cmd(command)?;
                let reader = Box::new(bulk.with_command(&command)?);
                Reader::Bulk(reader, Dictionaries::default(), schema.clone())
            }
        })
    }

    fn batch(&mut self, header: &[u8], body: &Body) -> Result<()> {
        match self {
            Reader::Single(single) => single.batch(header, body),
            Reader::Bulk(reader, dictionaries, schema) => {
                let _ = keys(schema, Some((header, body)));
                if reader.dictionary(dictionaries, header, body, |_| Ok(Arc::new(())))? {
                    return Ok(());
                }
                rows(reader, header, body, dictionaries)
            }
        }
    }
}

fn rows(
    reader: &BulkReader,
    header: &[u8],
    body: &Body,
    dictionaries: &Dictionaries,
) -> Result<()> {
    let batch = reader.decode(header, body, dictionaries)?;
    // There may be more of them than bytes: a column of nulls, or of cells without an element.
    for row in 0..batch.rows().min(1_000) {
        let mut scratch = Vec::new();
        if let Ok(row) = batch.row(row) {
            let bytes = row.shape.bytes(row.dtype)?;
            if let Ok(pieces) = batch.pieces(&row, &mut scratch) {
                let came: usize = pieces.map(<[u8]>::len).sum();
                assert_eq!(came as u64, bytes, "a row of {}", row.shape);
            }
        }
    }
    Ok(())
}

impl Single {
    fn batch(&mut self, header: &[u8], body: &Body) -> Result<()> {
        let batch = self.schema.check_batch(header, body.len())?;
        self.rows = self.rows.checked_add(batch.rows).ok_or_else(too_many)?;
        let span = match &batch.offsets {
            None => None,
            Some(offsets) => {
                let mut check = OffsetsCheck::new(batch.rows, offsets.wide, self.list_len);
                within(body, &offsets.range);
                for piece in body.slices(offsets.range.clone()) {
                    check.push(piece)?;
                }
                let span = check.finish()?;
                self.list_len = span.len.or(self.list_len);
                Some(span)
            }
        };
        let values = batch.values(span)?;
        within(body, &values.range);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let shape = self.schema.final_shape(self.rows, self.list_len)?;
        shape.bytes(self.schema.dtype()).map(drop)
    }
}

#[track_caller]
fn within(body: &Body, range: &Range<u64>) {
    assert!(
        range.start <= range.end && range.end <= body.len(),
        "{range:?} of {}",
        body.len()
    );
}

fn too_many() -> Error {
    Error::invalid("more rows than a number can say")
}

fn exchange(bytes: &[u8]) -> Result<()> {
    let mut messages = MuxMessages::new([]);
    for frame in frames(bytes) {
        messages.push(frame);
        while let Some(event) = messages.next_event()? {
            if let MuxEvent::Message { header, .. } = event {
                headers(&header);
            }
        }
    }
    messages.finish()
}

fn headers(header: &[u8]) {
    if let Ok(request) = MuxRequest::decode(header) {
        let mut written = Vec::new();
        let encoded = request.encode(&mut written);
        assert_eq!(encoded, Ok(()), "{request:?}");
        assert_eq!(MuxRequest::decode(&written), Ok(request));
    }
    if let Ok((id, reply)) = MuxReply::decode(header) {
        let mut written = Vec::new();
        reply.encode(id, &mut written);
        assert_eq!(MuxReply::decode(&written), Ok((id, reply)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::Value;

    use crate::flight_data::encode_head;

    fn vectors() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto-notes/vectors")
    }

    fn texts(file: &str) -> Vec<Vec<u8>> {
        let all: Value =
            serde_json::from_slice(&std::fs::read(vectors().join(file)).unwrap()).unwrap();
        let lists = all
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_array);
        let texts = lists.flatten().filter_map(|one| one["json"].as_str());
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(|text| text.as_bytes().to_vec()).collect()
    }

    /// The golden streams of puts, as messages in frames of many bytes.
    fn streams() -> Vec<Vec<u8>> {
        let folders =
            ["put", "bulk"].map(|folder| std::fs::read_dir(vectors().join(folder)).unwrap());
        let files = folders
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().path());
        files
            .map(|file| put_stream(&std::fs::read(file).unwrap()).unwrap())
            .collect()
    }

    /// An Arrow stream as the messages of a put.
    fn put_stream(arrow: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![u8::MAX];
        let mut rest = arrow;
        loop {
            let (marker, after) = rest.split_first_chunk::<8>()?;
            let length = usize::try_from(u32::from_le_bytes(*marker.last_chunk()?)).ok()?;
            if length == 0 {
                return Some(out);
            }
            let (header, after) = after.split_at_checked(length)?;
            let message = arrow_ipc::root_as_message(header).ok()?;
            let body = usize::try_from(message.bodyLength()).ok()?;
            let (body, after) = after.split_at_checked(body)?;
            out.extend_from_slice(&encode_head(header, &[], body.len() as u64).ok()?);
            out.extend_from_slice(body);
            rest = after;
        }
    }

    /// Bytes of one of `seeds`, some of them changed, or cut off.
    fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
        (
            prop::sample::select(seeds),
            changes,
            any::<Index>(),
            any::<bool>(),
        )
            .prop_map(|(mut bytes, changes, end, cut)| {
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                if cut {
                    bytes.truncate(end.index(bytes.len()));
                }
                bytes
            })
    }

    proptest! {
        #[test]
        fn texts_are_taken_however_they_are_damaged(
            one in damaged(texts("tickets.json")),
            other in damaged(texts("descriptors.json")),
        ) {
            for bytes in [one, other] {
                ticket(&bytes);
                descriptor(&bytes);
                action(&bytes);
            }
        }

        #[test]
        fn streams_are_taken_however_they_are_damaged(bytes in damaged(streams())) {
            put(&bytes);
            mux(&bytes);
        }
    }

    #[test]
    fn golden_streams_are_read_to_their_end() {
        let read = streams()
            .iter()
            .filter(|stream| receive(stream, COMMANDS[0]).is_ok())
            .count();
        assert!(read > 40, "{read}");
    }
}
