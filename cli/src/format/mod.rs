//! Files of tensors: a format a file, behind one reader ([`Reader`]) and one writer ([`Writer`]).
//!
//! - `input`: a file or standard input, and which format it is. `tensor`: one tensor, and some as an Arrow batch
//! - `npy` (with `npy_header`; `npy_stack`: many as one array), `npz`, `safetensors`: tensors one by one. `table`: rows, which `bowstring-files` reads;
//!   `arrow`, `parquet`: how they are written
//! - `keys`: keys from a file of their own, for what has none

mod arrow;
mod input;
mod keys;
mod npy;
mod npy_header;
mod npy_stack;
mod npz;
mod parquet;
mod safetensors;
mod table;
mod tensor;

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bowstring_wire::dtype::DType;

use crate::Error;
pub use bowstring_files::{BadRow, Keys, Numbers, Rows};
pub use input::Input;
pub use keys::read as read_keys;
pub use tensor::{Tensor, opaque};

/// How tensors lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// NumPy, one array
    Npy,
    /// NumPy, a zip file of arrays
    Npz,
    /// Tensors by name
    Safetensors,
    /// Arrow's IPC file, which is Feather too
    #[value(alias = "feather")]
    Arrow,
    /// Arrow's IPC stream
    ArrowStream,
    /// Parquet
    Parquet,
}

/// What a file gives.
#[derive(Debug)]
pub enum Part {
    /// Rows as a bulk put takes them, and those that cannot be put.
    Rows(Rows),
    /// One tensor.
    Tensor(Tensor),
}

/// What is to be found in a file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The column of keys, where it is not the only one that can be.
    pub key_column: Option<String>,
    /// The column of tensors, where it is not the only one that can be.
    pub tensor_column: Option<String>,
    /// Keys of the rows, instead of a column.
    pub keys: Option<Keys>,
    /// What NumPy's void types are.
    pub dtype: Option<DType>,
    /// One tensor is wanted, under a key that is known: no column of keys is.
    pub one: bool,
    /// Keys are wanted, and nothing else.
    pub only_keys: bool,
    /// Say which columns are left out.
    pub tell: bool,
}

/// Reads a file from its beginning.
pub trait Reader: Send {
    /// What comes next; `None` at the end.
    fn next(&mut self) -> Result<Option<Part>, Error>;

    /// How many rows or tensors there are in all, where the file says.
    fn rows(&self) -> Option<u64>;
}

/// Writes a file from its beginning.
pub trait Writer: Send {
    /// Writes what a get sent: rows or opaque rows, one tensor's rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error>;

    /// Ends the file, and says what it could not carry.
    fn finish(self: Box<Self>) -> Result<Vec<String>, Error>;
}

impl Format {
    /// The format that a file's name says.
    pub fn of_name(name: &str) -> Option<Format> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "npy" => Format::Npy,
            "npz" => Format::Npz,
            "safetensors" => Format::Safetensors,
            "arrow" | "feather" | "ipc" => Format::Arrow,
            "arrows" => Format::ArrowStream,
            "parquet" | "pq" => Format::Parquet,
            _ => return None,
        })
    }

    /// Whether the file has tensors as columns of Arrow, as they come from a server.
    pub fn has_columns(self) -> bool {
        matches!(self, Format::Arrow | Format::ArrowStream | Format::Parquet)
    }
}

/// Reads `input`.
pub fn open(input: Input, format: Format, options: &Options) -> Result<Box<dyn Reader>, Error> {
    if options.keys.is_some() && matches!(format, Format::Npz | Format::Safetensors) {
        return Err(input.wrong("--keys is for rows; these tensors have names of their own"));
    }
    match format {
        Format::Npy => npy::open(input, options),
        Format::Npz => npz::open(input, options),
        Format::Safetensors => safetensors::open(input),
        Format::Arrow | Format::ArrowStream | Format::Parquet => {
            table::open(input, format, options)
        }
    }
}

/// Writes to `to` what comes with `schema`; `name` is for messages.
pub fn create(
    to: Box<dyn Write + Send>,
    name: &str,
    format: Format,
    schema: &SchemaRef,
) -> Result<Box<dyn Writer>, Error> {
    let name = name.to_owned();
    Ok(match format {
        Format::Npy => npy::create(to, name),
        Format::Npz => npz::create(to, name),
        Format::Safetensors => safetensors::create(to, name)?,
        Format::Arrow => arrow::create_file(to, name, schema)?,
        Format::ArrowStream => arrow::create_stream(to, name, schema)?,
        Format::Parquet => parquet::create(to, name, schema)?,
    })
}

/// Writes tensors of one dtype and shape to `to` as the rows of one array, and their keys to `keys`, a line each.
pub fn stack(
    to: Box<dyn Write + Send>,
    name: &str,
    keys: Box<dyn Write + Send>,
) -> Result<Box<dyn Writer>, Error> {
    npy_stack::create(to, name.to_owned(), keys)
}
