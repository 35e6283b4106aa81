//! One file of an attached namespace.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_schema::ArrowError;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_files::{ColumnMap, Format, Lookup, ReadAt, Room, Rows, Source, Table};
use bowstring_wire::body::Body;
use bowstring_wire::bulk::{Dictionaries, KeysReader};
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result, visible};
use bowstring_wire::limits::MAX_TICKET_KEYS;
use bowstring_wire::put_schema::PutSchema;
use bowstring_wire::shape::Shape;
use bytes::Bytes;
use parking_lot::Mutex;

use super::keys::{Gathering, Place};
use super::purse::Purse;
use crate::flight::load::roots::Found;

/// The largest batch of an Arrow file, or page of Parquet: each is in memory whole for a row of it.
const BATCH_BYTES_MAX: u64 = 256 << 20;
/// The same, as a part of the memory.
const BATCH_MEMORY_SHARE: u64 = 8;

/// A file whose rows are read by number.
pub struct AttachedFile {
    found: Found,
    stamp: Stamp,
    rows: Mutex<Box<dyn Lookup>>,
    room: Held,
    dtype: DType,
    shape: Shape,
    row_bytes: u64,
}

/// A row's tensor.
#[derive(Debug)]
pub struct Value {
    /// Its bytes in C order.
    pub bytes: Vec<u8>,
    /// As entries keep it.
    pub metadata: Vec<u8>,
}

/// Whether a file is still the same one, as far as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// When its bytes or anything else of it were last changed: nobody sets that back.
    changed: (i64, i64),
}

/// Opened again for each read: a namespace may have more files than a process may have open.
#[derive(Debug)]
struct Anew(Found);

/// What a decoder may use while it reads.
#[derive(Clone)]
struct Held(Arc<Mutex<(u64, Vec<Charge>)>>);

impl ReadAt for Anew {
    fn read_exact_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        let (file, _) = self.0.open().map_err(io::Error::other)?;
        file.read_exact_at(to, at)
    }
}

impl Held {
    fn room(&self, purse: &Purse) -> Room {
        let (held, purse) = (Arc::clone(&self.0), purse.clone());
        Arc::new(move |bytes| {
            let mut held = held.lock();
            let Some(more) = bytes.checked_sub(held.0).filter(|more| *more > 0) else {
                return true;
            };
            let Some(charge) = purse.charge(Account::Cold, more) else {
                return false;
            };
            held.0 += more;
            held.1.push(charge);
            true
        })
    }

    fn release(&self) {
        *self.0.lock() = (0, Vec::new());
    }
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }

    fn now(found: &Found) -> Result<Self> {
        let (file, _) = found.open()?;
        let about = file.metadata();
        let about = about.map_err(|error| wrong(found, &error.to_string()))?;
        Ok(Self::of(&about))
    }
}

impl AttachedFile {
    /// Opens a file and gathers its keys; `None` where it has no rows.
    ///
    /// # Errors
    /// `invalid_argument` where it cannot be read as rows of one dtype and shape, or a key is none; those of [`Gathering::push`].
    pub fn open(
        purse: &Purse,
        found: Found,
        number: u32,
        map: &ColumnMap,
        keys: &mut Gathering,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<Option<Self>> {
        let stamp = Stamp::now(&found)?;
        let room = Held(Arc::default());
        let most = (purse.memory() / BATCH_MEMORY_SHARE).min(BATCH_BYTES_MAX);
        let source = Source::new(Anew(found.clone()), stamp.bytes)
            .with_batch_bytes_max(most)
            .with_room(room.room(purse));
        let failed = |error: bowstring_files::Error| wrong(&found, &error.to_string());
        let head = source.read(0, usize::try_from(stamp.bytes.min(8)).unwrap_or(0));
        let head = head.map_err(|error| wrong(&found, &error.to_string()))?;
        let format = Format::of_head(&head)
            .ok_or_else(|| wrong(&found, "its first bytes are neither Parquet's nor Arrow's"))?;
        let lookup = bowstring_files::open_at(source.clone(), format, map).map_err(failed)?;
        if lookup.rows() == 0 {
            return Ok(None);
        }
        if u32::try_from(lookup.rows()).is_err() {
            return Err(wrong(&found, "it has more than 4,294,967,295 rows"));
        }
        let first = lookup.read(0..1).map_err(failed)?;
        if first.batch.schema().column_with_name("dtype").is_some() {
            return Err(wrong(
                &found,
                "each row has a dtype and shape of its own, expected a column of tensors of one (such files can be loaded with `load`)",
            ));
        }
        if let Some(bad) = first.bad.first() {
            return Err(wrong(&found, &bad.message));
        }
        let mut described = None;
        each(&first, &mut |_, dtype, shape, _| {
            described = Some((dtype, shape.clone()));
            Ok(())
        })
        .map_err(|error| wrong(&found, &error.message))?;
        let (dtype, shape) = described.ok_or_else(|| wrong(&found, "it has no first row"))?;
        let row_bytes = shape.bytes(dtype)?;
        drop(first);
        let only = ColumnMap {
            only_keys: true,
            ..map.clone()
        };
        let mut table = bowstring_files::open(source, format, &only).map_err(failed)?;
        let rows = gather(&found, &mut *table, number, keys, goes_on)?;
        room.release();
        if rows != lookup.rows() || Stamp::now(&found)? != stamp {
            return Err(changed(&found));
        }
        Ok(Some(Self {
            found,
            stamp,
            rows: Mutex::new(lookup),
            room,
            dtype,
            shape,
            row_bytes,
        }))
    }

    /// Element type and shape of every row.
    pub fn description(&self) -> (DType, &Shape) {
        (self.dtype, &self.shape)
    }

    /// Bytes of a row's tensor.
    pub fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// How it is called, for messages.
    pub fn name(&self) -> String {
        self.found.name()
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows.lock().rows()
    }

    /// Some of its rows, in ascending order, each once. `is` says whether a key that was read is the one that belongs to the row.
    ///
    /// # Errors
    /// `failed_precondition` where the file is not the one any more that was attached, or a row is not like the others.
    pub fn read(&self, rows: &[u64], is: &dyn Fn(usize, &str) -> bool) -> Result<Vec<Value>> {
        self.check()?;
        // One at a time: what its decoder may use is charged once.
        let lookup = self.rows.lock();
        let read = self.values(&**lookup, rows, is);
        self.room.release();
        drop(lookup);
        // First: what was read of another file may be anything.
        self.check()?;
        read
    }

    fn values(
        &self,
        lookup: &dyn Lookup,
        rows: &[u64],
        is: &dyn Fn(usize, &str) -> bool,
    ) -> Result<Vec<Value>> {
        let mut values: Vec<Option<Value>> = rows.iter().map(|_| None).collect();
        let mut take = |read: Rows| -> Result<()> {
            each(&read, &mut |row, dtype, shape, value| {
                let Ok(at) = rows.binary_search(&row) else {
                    return Ok(());
                };
                let (key, value) = value()?;
                if (dtype, shape) != (self.dtype, &self.shape) {
                    return Err(Error::precondition(format!(
                        "the row has another dtype or shape than the file's first one: {}{shape}, expected {}{}",
                        dtype.name(),
                        self.dtype.name(),
                        self.shape
                    )));
                }
                if !is(at, &key) {
                    return Err(Error::precondition("the row has another key than it had"));
                }
                values[at] = Some(value);
                Ok(())
            })
        };
        let failed = |error: Error, row: Option<u64>| self.unreadable(&error.message, row);
        let mut refused = None;
        let told = lookup.read_each(rows, &mut |read| {
            if refused.is_none() {
                refused = take(read).err();
            }
        });
        told.map_err(|error| self.unreadable(&error.to_string(), None))?;
        if let Some(error) = refused {
            return Err(failed(error, None));
        }
        for (at, &row) in rows.iter().enumerate() {
            if values[at].is_some() {
                continue;
            }
            // It may be unlike the row that was read before it.
            let alone = lookup.read(row..row + 1);
            let alone = alone.map_err(|error| self.unreadable(&error.to_string(), Some(row)))?;
            let mut value = None;
            each(&alone, &mut |_, dtype, shape, read| {
                let (key, one) = read()?;
                if (dtype, shape) == (self.dtype, &self.shape) && is(at, &key) {
                    value = Some(one);
                }
                Ok(())
            })
            .map_err(|error| failed(error, Some(row)))?;
            values[at] = value;
            if values[at].is_none() {
                return Err(self.unreadable("the row is not like the file's first one", Some(row)));
            }
        }
        Ok(values.into_iter().flatten().collect())
    }

    /// Whether it is the file that was attached.
    fn check(&self) -> Result<()> {
        match Stamp::now(&self.found) {
            Ok(now) if now == self.stamp => Ok(()),
            Ok(_) => Err(changed(&self.found)),
            Err(error) => Err(self.unreadable(&error.message, None)),
        }
    }

    fn unreadable(&self, why: &str, row: Option<u64>) -> Error {
        let row = row.map_or(String::new(), |row| format!(" row=`{row}`"));
        Error::precondition(format!(
            "a file of the attached namespace cannot be read: {}; file=`{}`{row}",
            visible(why),
            self.found.name()
        ))
    }
}

/// Reads the keys of a table; gives how many rows there were.
fn gather(
    found: &Found,
    table: &mut dyn Table,
    number: u32,
    keys: &mut Gathering,
    goes_on: &dyn Fn() -> Result<()>,
) -> Result<u64> {
    let mut count = 0;
    while let Some(rows) = table
        .next()
        .map_err(|error| wrong(found, &error.to_string()))?
    {
        goes_on()?;
        let mut from = 0;
        while from < rows.batch.num_rows() {
            let some = MAX_TICKET_KEYS.min(rows.batch.num_rows() - from);
            let (schema, header, body) = message(&rows.batch.slice(from, some))?;
            let reader = KeysReader::new(&schema, None)?;
            let batch = reader.decode(&header, &body, &Dictionaries::default())?;
            for at in 0..some {
                let row = rows.numbers.at(from + at);
                let key = batch.key(at as u64).map_err(|error| {
                    Error::invalid(format!(
                        "a row's key is none, and so nothing was attached: {}; file=`{}` row=`{row}`",
                        error.message,
                        found.name()
                    ))
                })?;
                let row = u32::try_from(row).map_err(|_| changed(found))?;
                keys.push(&key, Place { file: number, row })?;
            }
            from += some;
        }
        count += rows.batch.num_rows() as u64;
    }
    Ok(count)
}

/// A row's key and value, made when it is asked for.
type Make<'a> = &'a dyn Fn() -> Result<(String, Value)>;

/// Every row: its number, its dtype and shape, and the rest.
fn each(rows: &Rows, of: &mut dyn FnMut(u64, DType, &Shape, Make<'_>) -> Result<()>) -> Result<()> {
    if rows.batch.num_rows() == 0 {
        return Ok(());
    }
    let (schema, header, body) = message(&rows.batch)?;
    let PutSchema::Bulk(schema) = PutSchema::parse(&schema)? else {
        return Err(Error::internal("rows of a file have one column"));
    };
    let reader = schema.with_command(&PutCommand::default())?;
    let batch = reader.decode(&header, &body, &Dictionaries::default())?;
    for at in 0..rows.batch.num_rows() {
        let row = batch.row(at as u64)?;
        let make = || {
            let mut scratch = Vec::new();
            let pieces = batch.pieces(&row, &mut scratch)?;
            let value = Value {
                bytes: pieces.collect::<Vec<_>>().concat(),
                metadata: row.metadata.encode(),
            };
            Ok((row.key.clone().into_owned(), value))
        };
        of(rows.numbers.at(at), row.dtype, &row.shape, &make)?;
    }
    Ok(())
}

/// Schema, header and body, as a put brings them.
fn message(batch: &RecordBatch) -> Result<(Bytes, Bytes, Body)> {
    let failed = |error: ArrowError| Error::invalid(visible(&error.to_string()).into_owned());
    let options = IpcWriteOptions::default();
    let mut dictionaries = DictionaryTracker::new(false);
    let generator = IpcDataGenerator::default();
    let schema = generator.schema_to_bytes_with_dictionary_tracker(
        &batch.schema(),
        &mut dictionaries,
        &options,
    );
    let mut context = IpcWriteContext::default();
    let encoded = generator.encode(batch, &mut dictionaries, &options, &mut context);
    let (dictionaries, data) = encoded.map_err(failed)?;
    if !dictionaries.is_empty() {
        return Err(Error::invalid(
            "a column is encoded by a dictionary, which cannot be attached; expected plain ones",
        ));
    }
    let mut body = Body::new();
    body.push(data.arrow_data.into());
    Ok((schema.ipc_message.into(), data.ipc_message.into(), body))
}

fn wrong(found: &Found, why: &str) -> Error {
    Error::invalid(format!(
        "cannot read a file, and so nothing was attached: {}; file=`{}`",
        visible(why),
        found.name()
    ))
}

fn changed(found: &Found) -> Error {
    Error::precondition(format!(
        "a file has changed since it was attached, `detach` the namespace and attach it again; file=`{}`",
        found.name()
    ))
}
