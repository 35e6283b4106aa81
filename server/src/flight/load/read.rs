//! Files, read on a thread of their own and cut to the batches of a bulk put, while those before are stored.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
};
use arrow_schema::{ArrowError, SchemaRef};
use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_files::{ColumnMap, Format, Room, Source};
use bowstring_wire::body::Body;
use bowstring_wire::error::{Error, Result, visible};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::roots::Found;
use crate::flight::do_put::bulk::Batch;

/// About what a batch takes that is handed over.
const PIECE_BYTES: usize = 4 << 20;
/// Batches between the files and their rows' places.
const QUEUED: usize = 1;
/// The largest batch of an Arrow file, or page of Parquet, as a part of the memory.
const BATCH_MEMORY_SHARE: u64 = 4;
/// The same where memory is large.
const BATCH_BYTES_MAX: u64 = 1 << 30;

/// What comes of a file.
pub enum Piece {
    /// Its columns, or other ones from this row on.
    Columns {
        /// Which file.
        file: usize,
        /// The row that is next.
        row: u64,
        /// As Arrow writes them.
        schema: Bytes,
    },
    /// Rows, or values of a dictionary.
    Batch {
        /// As a put brings them.
        batch: Batch,
        /// How many.
        rows: u64,
    },
    /// It is read.
    End,
}

/// What is read.
pub struct Reading {
    /// In order.
    pub files: Arc<[Found]>,
    /// Which columns.
    pub map: ColumnMap,
    /// Before each key.
    pub prefix: String,
    /// Whose memory it takes.
    pub cache: Cache,
    /// For which load.
    pub load: u32,
}

/// Why no more is read.
enum Stopped {
    /// Nobody wants more.
    Unwanted,
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Failed(error)
    }
}

type Sender = mpsc::Sender<Result<Piece>>;

impl Reading {
    /// Reads until all is read, something is wrong, or nobody receives it any more.
    pub fn start(self) -> mpsc::Receiver<Result<Piece>> {
        let (to, receiver) = mpsc::channel(QUEUED);
        tokio::task::spawn_blocking(move || {
            if let Err(Stopped::Failed(error)) = self.read(&to) {
                let _ = to.blocking_send(Err(error));
            }
        });
        receiver
    }

    fn read(&self, to: &Sender) -> Result<(), Stopped> {
        let room = self.room();
        for (number, file) in self.files.iter().enumerate() {
            self.file(number, file, &room, to)?;
        }
        Ok(())
    }

    fn file(&self, number: usize, found: &Found, room: &Room, to: &Sender) -> Result<(), Stopped> {
        let (file, bytes) = found.open()?;
        let wrong = |error: String| {
            Error::invalid(format!(
                "cannot read a file, and so nothing was loaded: {}; file=`{}`",
                visible(&error),
                found.name()
            ))
        };
        let most = self.cache.config().memory / BATCH_MEMORY_SHARE;
        let source = Source::new(file, bytes)
            .with_batch_bytes_max(most.min(BATCH_BYTES_MAX))
            .with_room(Room::clone(room));
        let head = source.read(0, usize::try_from(bytes.min(8)).unwrap_or(0));
        let head = head.map_err(|error| wrong(error.to_string()))?;
        let format = Format::of_head(&head)
            .ok_or_else(|| wrong("its first bytes are neither Parquet's nor Arrow's".to_owned()))?;
        let table = bowstring_files::open(source, format, &self.map);
        let mut table = table.map_err(|error| wrong(error.to_string()))?;
        let mut encoder: Option<Encoder> = None;
        let mut row = 0;
        while let Some(rows) = table.next().map_err(|error| wrong(error.to_string()))? {
            if let Some(bad) = rows.bad.first() {
                return Err(Stopped::Failed(Error::invalid(format!(
                    "a row cannot be loaded, and so nothing was: {}; file=`{}` row=`{}` key=`{}` column=`{}`",
                    bad.message,
                    found.name(),
                    bad.row,
                    bad.key.as_deref().map(visible).unwrap_or_default(),
                    bad.column
                ))));
            }
            let count = rows.batch.num_rows();
            if count == 0 {
                continue;
            }
            let batch = bowstring_files::prefixed(&rows.batch, &self.prefix);
            let batch = batch.map_err(|error| wrong(error.to_string()))?;
            drop(rows);
            let known = encoder.take().filter(|it| it.schema == batch.schema());
            let encoder = match known {
                Some(known) => encoder.insert(known),
                None => {
                    let (begun, schema) = Encoder::new(batch.schema());
                    send(
                        to,
                        Piece::Columns {
                            file: number,
                            row,
                            schema,
                        },
                    )?;
                    encoder.insert(begun)
                }
            };
            for piece in pieces(&batch) {
                let (dictionaries, rows) = encoder
                    .batch(&piece)
                    .map_err(|error| wrong(error.to_string()))?;
                for dictionary in dictionaries {
                    self.send(to, dictionary, 0)?;
                }
                self.send(to, rows, piece.num_rows() as u64)?;
            }
            row += count as u64;
        }
        send(to, Piece::End)
    }

    fn send(&self, to: &Sender, data: EncodedData, rows: u64) -> Result<(), Stopped> {
        let bytes = data.arrow_data.len() as u64;
        let room = self.cache.charge_in(self.load, Account::Wire, bytes);
        let room = room.ok_or_else(|| no_room(bytes))?;
        let mut body = Body::new();
        body.push(data.arrow_data.into());
        let batch = Batch {
            header: data.ipc_message.into(),
            body,
            room: Some(Arc::new(room)),
        };
        send(to, Piece::Batch { batch, rows })
    }

    /// What decoders ask before they make room: charged once, as much as was ever wanted at one time.
    fn room(&self) -> Room {
        let held: Mutex<(u64, Vec<Charge>)> = Mutex::default();
        let (cache, load) = (self.cache.clone(), self.load);
        Arc::new(move |bytes| {
            let mut held = held.lock();
            let Some(more) = bytes.checked_sub(held.0).filter(|more| *more > 0) else {
                return true;
            };
            let Some(charge) = cache.charge_in(load, Account::Wire, more) else {
                return false;
            };
            held.0 += more;
            held.1.push(charge);
            true
        })
    }
}

fn send(to: &Sender, piece: Piece) -> Result<(), Stopped> {
    to.blocking_send(Ok(piece)).map_err(|_| Stopped::Unwanted)
}

fn no_room(bytes: u64) -> Error {
    Error::exhausted(format!(
        "a batch of a file finds no room in memory; bytes=`{bytes}`"
    ))
}

/// The rows of a batch, about [`PIECE_BYTES`] at a time.
fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let rows = batch.num_rows();
    let bytes = batch.get_array_memory_size().max(1);
    let step = (rows.saturating_mul(PIECE_BYTES) / bytes).clamp(1, rows.max(1));
    (0..rows)
        .step_by(step)
        .map(move |at| batch.slice(at, step.min(rows - at)))
}

/// Makes messages of batches that have the same columns.
struct Encoder {
    schema: SchemaRef,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    /// And the message of the columns.
    fn new(schema: SchemaRef) -> (Encoder, Bytes) {
        let mut encoder = Encoder {
            schema,
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        };
        let message = encoder.generator.schema_to_bytes_with_dictionary_tracker(
            &encoder.schema,
            &mut encoder.dictionaries,
            &encoder.options,
        );
        (encoder, message.ipc_message.into())
    }

    fn batch(
        &mut self,
        batch: &RecordBatch,
    ) -> Result<(Vec<EncodedData>, EncodedData), ArrowError> {
        self.generator.encode(
            batch,
            &mut self.dictionaries,
            &self.options,
            &mut self.context,
        )
    }
}
