//! Files on a thread of their own: read, decoded and cut to messages, while what came before is sent.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use tokio::sync::mpsc;

use crate::Error;
use crate::format::{self, BadRow, Format, Input, Numbers, Options, Part, Rows, Tensor};
use crate::put_stream::{MESSAGE_BYTES, pieces};

/// Messages between the files and the connection.
const QUEUED: usize = 2;
/// A tensor of so many bytes is put by itself: its bytes then go where they will lie, and no batch has to hold them.
const ALONE_BYTES: usize = 8 << 20;

/// What is read.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Paths, in order; `-` is standard input.
    pub files: Vec<String>,
    /// What they are, where that is said.
    pub format: Option<Format>,
    /// What is looked for in them.
    pub options: Options,
    /// Before each key.
    pub prefix: String,
    /// Only these rows, by file.
    pub only: Option<Arc<HashMap<String, BTreeSet<u64>>>>,
}

/// How far the files are read: all before this row of this file.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Position {
    /// Which one of the files.
    pub file: usize,
    /// Which row of it.
    pub row: u64,
}

/// What is sent at once.
#[derive(Clone, Debug)]
pub struct Item {
    /// Rows, or one tensor.
    pub what: What,
    /// Which rows of the file they are.
    pub numbers: Numbers,
    /// Those among them that cannot be put.
    pub bad: Vec<BadRow>,
    /// Where the next one begins.
    pub end: Position,
}

/// What is put.
#[derive(Clone, Debug)]
pub enum What {
    /// A batch of a bulk put.
    Rows(RecordBatch),
    /// A put of its own.
    Tensor(Tensor),
}

impl Plan {
    /// Rows in all files, where all of them say. Looks into every file, so that one that cannot be read is found before any is sent.
    pub fn rows(&self) -> Result<Option<u64>, Error> {
        if let Some(only) = &self.only {
            return Ok(Some(only.values().map(|rows| rows.len() as u64).sum()));
        }
        let options = Options {
            tell: true,
            ..self.options.clone()
        };
        let mut rows = Some(0);
        for path in &self.files {
            if path == "-" {
                rows = None;
                continue;
            }
            let reader = self.open(path, &options)?;
            rows = rows.zip(reader.rows()).map(|(all, more)| all + more);
        }
        Ok(rows)
    }

    /// Starts reading at `from`.
    pub fn start(&self, from: Position) -> mpsc::Receiver<Result<Item, Error>> {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let plan = self.clone();
        thread::spawn(move || {
            let mut to = Queue { sender };
            // A decoder that panics on a broken file must end the load with an error, not the process.
            let read = catch_unwind(AssertUnwindSafe(|| plan.read(from, &mut to)));
            let read = read.unwrap_or_else(|_| {
                let said = "the file's decoder gave up; the file is broken";
                Err(Stopped::Failed(Error::file(
                    "cannot read",
                    &plan.files.join(", "),
                    said,
                )))
            });
            if let Err(Stopped::Failed(error)) = read {
                let _ = to.sender.blocking_send(Err(error));
            }
        });
        receiver
    }

    fn open(&self, path: &str, options: &Options) -> Result<Box<dyn format::Reader>, Error> {
        let input = Input::open(path)?;
        let format = input.format(self.format)?;
        format::open(input, format, options)
    }

    fn read(&self, from: Position, to: &mut Queue) -> Result<(), Stopped> {
        for (file, path) in self.files.iter().enumerate().skip(from.file) {
            let first = if file == from.file { from.row } else { 0 };
            let mut reader = self.open(path, &self.options)?;
            let mut small = Gathered::default();
            let mut row = 0;
            while let Some(part) = reader.next()? {
                match part {
                    Part::Rows(rows) => {
                        let rows = self.wanted(path, rows, first);
                        let rows = rows.map_err(|error| Error::file("cannot read", path, error))?;
                        to.rows(file, rows)?;
                    }
                    Part::Tensor(mut tensor) => {
                        let number = row;
                        row += 1;
                        if number < first || !self.is_wanted(path, number) {
                            continue;
                        }
                        tensor.key = tensor.key.map(|key| format!("{}{key}", self.prefix));
                        if tensor.data.len() < ALONE_BYTES {
                            if small.add(tensor, number) {
                                to.gathered(file, path, &mut small)?;
                            }
                            continue;
                        }
                        to.gathered(file, path, &mut small)?;
                        to.send(Item {
                            what: What::Tensor(tensor),
                            numbers: Numbers::From(number),
                            bad: Vec::new(),
                            end: Position { file, row },
                        })?;
                    }
                }
            }
            to.gathered(file, path, &mut small)?;
        }
        Ok(())
    }

    fn is_wanted(&self, path: &str, row: u64) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.get(path).is_some_and(|rows| rows.contains(&row)))
    }

    /// Those rows that were not put yet, with the prefix before their keys.
    fn wanted(&self, path: &str, mut rows: Rows, first: u64) -> Result<Rows, ArrowError> {
        rows.bad
            .retain(|bad| bad.row >= first && self.is_wanted(path, bad.row));
        let count = rows.batch.num_rows();
        let skipped = (0..count)
            .take_while(|at| rows.numbers.at(*at) < first)
            .count();
        if skipped > 0 {
            rows.batch = rows.batch.slice(skipped, count - skipped);
            rows.numbers = rows.numbers.skip(skipped);
        }
        if self.only.is_some() {
            let count = rows.batch.num_rows();
            let keep: Vec<bool> = (0..count)
                .map(|at| self.is_wanted(path, rows.numbers.at(at)))
                .collect();
            let numbers = (0..count)
                .filter(|at| keep[*at])
                .map(|at| rows.numbers.at(at))
                .collect();
            rows.batch = filter_record_batch(&rows.batch, &BooleanArray::from(keep))?;
            rows.numbers = Numbers::Each(numbers);
        }
        if !self.prefix.is_empty() && rows.batch.num_rows() > 0 {
            rows.batch = bowstring_files::prefixed(&rows.batch, &self.prefix)?;
        }
        Ok(rows)
    }
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

struct Queue {
    sender: mpsc::Sender<Result<Item, Error>>,
}

impl Queue {
    fn send(&mut self, item: Item) -> Result<(), Stopped> {
        self.sender
            .blocking_send(Ok(item))
            .map_err(|_| Stopped::Unwanted)
    }

    /// In messages; each takes the bad rows before its end with it.
    fn rows(&mut self, file: usize, rows: Rows) -> Result<(), Stopped> {
        let mut bad = rows.bad;
        let mut at = 0;
        let all = rows.batch.num_rows();
        if all == 0 && bad.is_empty() {
            return Ok(());
        }
        for batch in pieces(&rows.batch) {
            let numbers = rows.numbers.skip(at);
            at += batch.num_rows();
            let last = at.checked_sub(1).map(|last| rows.numbers.at(last) + 1);
            let behind = bad.iter().map(|bad| bad.row + 1).max();
            let row = if at == all { last.max(behind) } else { last }.unwrap_or(0);
            let (now, later) = bad.into_iter().partition(|bad| bad.row < row);
            bad = later;
            self.send(Item {
                what: What::Rows(batch),
                numbers,
                bad: now,
                end: Position { file, row },
            })?;
        }
        Ok(())
    }

    fn gathered(&mut self, file: usize, path: &str, small: &mut Gathered) -> Result<(), Stopped> {
        let Gathered {
            tensors, numbers, ..
        } = std::mem::take(small);
        let Some(last) = numbers.last() else {
            return Ok(());
        };
        let row = last + 1;
        let batch =
            format::opaque(&tensors).map_err(|error| Error::file("cannot read", path, error))?;
        self.send(Item {
            what: What::Rows(batch),
            numbers: Numbers::Each(numbers.into()),
            bad: Vec::new(),
            end: Position { file, row },
        })
    }
}

/// Small tensors that go in one message.
#[derive(Default)]
struct Gathered {
    tensors: Vec<Tensor>,
    numbers: Vec<u64>,
    bytes: usize,
}

impl Gathered {
    /// True where they are enough.
    fn add(&mut self, tensor: Tensor, number: u64) -> bool {
        self.bytes += tensor.data.len() + 64;
        self.tensors.push(tensor);
        self.numbers.push(number);
        self.bytes >= MESSAGE_BYTES
    }
}
