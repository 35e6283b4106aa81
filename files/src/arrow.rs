//! Arrow's IPC, as file (Feather too) and as stream, which are read alike: from a pipe too.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use crate::columns::Columns;
use crate::messages::{HEADER_BYTES_MAX, Messages, body_bytes, check_compressed};
use crate::source::Limits;
use crate::{ColumnMap, Error, Guarded, Lookup, Rows, Source, Table};

/// Batches of a file that can be found by their rows.
const BATCHES_MAX: usize = 1 << 20;

/// Reads a file or a stream.
pub fn open(source: Source, file: bool, map: &ColumnMap) -> Result<Box<dyn Table>, Error> {
    let (from, bytes) = (Box::new(source.from(0)), source.bytes());
    begin(from, Some(bytes), file, map, source.limits)
}

/// Reads a file (or a stream, where it is none) that can be read only once; `bytes`: how long it is, where that is known.
///
/// # Errors
/// It is broken, or has not the columns that are wanted.
pub fn open_stream(
    from: Box<dyn Read + Send>,
    bytes: Option<u64>,
    file: bool,
    map: &ColumnMap,
) -> Result<Box<dyn Table>, Error> {
    Guarded::open(|| begin(from, bytes, file, map, Limits::default()))
}

fn begin(
    from: Box<dyn Read + Send>,
    bytes: Option<u64>,
    file: bool,
    map: &ColumnMap,
    limits: Limits,
) -> Result<Box<dyn Table>, Error> {
    let mut messages = Messages::begin(from, bytes, file, limits).map_err(Error)?;
    let first = messages.next().map_err(Error)?;
    let schema = messages.schema();
    let schema = schema.ok_or_else(|| Error::of("it ends before a schema"))?;
    let columns = Columns::find(&schema, map)?;
    Ok(Box::new(Ipc {
        messages,
        first,
        columns,
    }))
}

struct Ipc {
    messages: Messages,
    /// The first batch, which was read to see the schema.
    first: Option<RecordBatch>,
    columns: Columns,
}

impl Table for Ipc {
    fn next(&mut self) -> Result<Option<Rows>, Error> {
        let batch = match self.first.take() {
            Some(batch) => Some(batch),
            None => self.messages.next().map_err(Error)?,
        };
        batch.map(|batch| self.columns.rows(&batch)).transpose()
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn left_out(&self) -> &[String] {
        self.columns.left_out()
    }
}

/// Finds where the batches lie, by the headers of all messages.
pub fn open_at(source: Source, file: bool, map: &ColumnMap) -> Result<Box<dyn Lookup>, Error> {
    let mut places = Places {
        source,
        schema: Place::default(),
        dictionaries: Vec::new(),
        batches: Vec::new(),
        rows: 0,
    };
    places.find(file).map_err(Error)?;
    let schema = places.schema()?;
    let columns = Columns::find(&schema, map)?;
    Ok(Box::new(Batches {
        places,
        schema,
        columns,
    }))
}

struct Batches {
    places: Places,
    schema: SchemaRef,
    columns: Columns,
}

/// Where a message lies.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    at: u64,
    /// To the end of its header, from where its length stands.
    header_bytes: usize,
    body_bytes: usize,
}

struct Places {
    source: Source,
    schema: Place,
    /// In order, with the number of batches before each.
    dictionaries: Vec<(usize, Place)>,
    /// With the number of its first row.
    batches: Vec<(u64, Place)>,
    rows: u64,
}

impl Places {
    fn find(&mut self, file: bool) -> Result<(), String> {
        let ends = |_| "it ends within a message".to_owned();
        let mut at = 0;
        if file {
            at = 8;
            // As many zeros as the writer's alignment wants.
            while self.source.read(at, 4).map_err(ends)?[..] == [0; 4] && at < 128 {
                at += 4;
            }
        }
        loop {
            let words = self.source.read_some(at, 8).map_err(ends)?;
            let (prefix, length) = match words[..] {
                [0xff, 0xff, 0xff, 0xff, a, b, c, d] => (8, [a, b, c, d]),
                [a, b, c, d, ..] => (4, [a, b, c, d]),
                // A stream may end without a mark.
                [] => return Ok(()),
                _ => return Err("it ends within a message".to_owned()),
            };
            let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            if length == 0 {
                return Ok(());
            }
            if length > HEADER_BYTES_MAX {
                return Err(format!("a message's header is too long; bytes=`{length}`"));
            }
            let header = self.source.read(at + prefix as u64, length).map_err(ends)?;
            let body = body_bytes(&header, self.source.limits.batch_bytes_max)?;
            let place = Place {
                at,
                header_bytes: prefix + length,
                body_bytes: body,
            };
            self.add(&header, place)?;
            at = at
                .checked_add((prefix + length + body) as u64)
                .filter(|end| *end <= self.source.bytes())
                .ok_or("it ends within a message")?;
        }
    }

    fn add(&mut self, header: &[u8], place: Place) -> Result<(), String> {
        let message = root_as_message(header).map_err(|error| error.to_string())?;
        match message.header_type() {
            MessageHeader::Schema => self.schema = place,
            MessageHeader::DictionaryBatch => {
                self.dictionaries.push((self.batches.len(), place));
            }
            _ => {
                let batch = message.header_as_record_batch();
                let rows = batch.and_then(|batch| u64::try_from(batch.length()).ok());
                let rows = rows.ok_or("a message is neither rows nor values of a dictionary")?;
                self.batches.push((self.rows, place));
                self.rows = self
                    .rows
                    .checked_add(rows)
                    .ok_or("there are too many rows")?;
            }
        }
        match self.batches.len() + self.dictionaries.len() {
            ..=BATCHES_MAX => Ok(()),
            _ => Err(format!(
                "it has too many batches to be found by their rows; expected at most {BATCHES_MAX}"
            )),
        }
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        let odd = || Error::of("it ends before a schema");
        let message = self.message(self.schema)?;
        let prefix = prefix_bytes(&message);
        let message = root_as_message(message.get(prefix..).unwrap_or_default());
        let message = message.map_err(|_| odd())?;
        let schema = message.header_as_schema().ok_or_else(odd)?;
        Ok(Arc::new(fb_to_schema(schema)))
    }

    fn message(&self, place: Place) -> Result<bytes::Bytes, Error> {
        let all = place.header_bytes + place.body_bytes;
        self.source.limits.claim(all as u64).map_err(Error)?;
        let all = self.source.read(place.at, all).map_err(Error::of)?;
        let prefix = prefix_bytes(&all);
        let (header, body) = all.split_at(place.header_bytes.min(all.len()));
        let header = header.get(prefix..).unwrap_or_default();
        check_compressed(header, body, &self.source.limits).map_err(Error)?;
        Ok(all)
    }
}

/// What stands before a message's header: its length, and a mark before that.
fn prefix_bytes(message: &[u8]) -> usize {
    if message.starts_with(&[0xff; 4]) {
        8
    } else {
        4
    }
}

impl Batches {
    /// The rows of one batch.
    fn batch(&self, number: usize) -> Result<RecordBatch, Error> {
        let (_, place) = self.places.batches[number];
        let before = |(batches, _): &&(usize, Place)| *batches <= number;
        let dictionaries = self.places.dictionaries.iter().take_while(before);
        let dictionaries = dictionaries.map(|(_, place)| *place);
        let mut decoder = StreamDecoder::new();
        for place in [self.places.schema]
            .into_iter()
            .chain(dictionaries)
            .chain([place])
        {
            let mut message = Buffer::from(self.places.message(place)?);
            if let Some(batch) = decoder.decode(&mut message).map_err(Error::of)? {
                return Ok(batch);
            }
        }
        Err(Error::of("a batch ends before its rows"))
    }
}

impl Lookup for Batches {
    fn rows(&self) -> u64 {
        self.places.rows
    }

    fn read(&self, rows: Range<u64>) -> Result<Rows, Error> {
        let end = rows.end.min(self.places.rows);
        let start = rows.start.min(end);
        let batches = &self.places.batches;
        let from = batches.partition_point(|(first, _)| *first <= start);
        let from = from.saturating_sub(1);
        let mut pieces = Vec::new();
        for (number, (first, _)) in batches.iter().enumerate().skip(from) {
            if *first >= end {
                break;
            }
            let next = batches
                .get(number + 1)
                .map_or(self.places.rows, |next| next.0);
            if next <= start.max(*first) {
                continue;
            }
            let batch = self.batch(number)?;
            let within = |row: u64| {
                let at = usize::try_from(row.saturating_sub(*first)).unwrap_or(usize::MAX);
                at.min(batch.num_rows())
            };
            let (from, to) = (within(start), within(end));
            pieces.push(batch.slice(from, to - from));
        }
        let batch = concat_batches(&self.schema, &pieces).map_err(Error::of)?;
        self.columns.at(start).rows(&batch)
    }

    /// A batch is decoded once, and each row taken out of it.
    fn read_each(&self, rows: &[u64], give: &mut dyn FnMut(Rows)) -> Result<(), Error> {
        let batches = &self.places.batches;
        let mut decoded: Option<(usize, RecordBatch)> = None;
        for &row in rows.iter().filter(|row| **row < self.places.rows) {
            let after = batches.partition_point(|(first, _)| *first <= row);
            let Some(number) = after.checked_sub(1) else {
                continue;
            };
            let batch = match decoded.take().filter(|(of, _)| *of == number) {
                Some((_, batch)) => batch,
                None => self.batch(number)?,
            };
            let at = usize::try_from(row - batches[number].0).unwrap_or(usize::MAX);
            if at < batch.num_rows() {
                give(self.columns.at(row).rows(&batch.slice(at, 1))?);
            }
            decoded = Some((number, batch));
        }
        Ok(())
    }
}
