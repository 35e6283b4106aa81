//! Keys that stand in a file of their own: a line each, or a column of a table.

use std::io::{BufRead, BufReader, Read as _};

use arrow_array::cast::AsArray as _;
use arrow_cast::cast;
use arrow_schema::DataType;
use bowstring_wire::limits::MAX_KEY_BYTES;

use crate::Error;
use crate::format::{self, Input, Keys, Options, Part};

/// Reads a file; `-` is standard input. `column` is the one of a table, where it is not the only one that can be.
pub fn read(path: &str, column: Option<&str>) -> Result<Keys, Error> {
    let input = Input::open(path)?;
    let name = input.name.clone();
    let failed = |error: String| Error::file("cannot read the keys", &name, error);
    let keys = match input.known() {
        None => lines(BufReader::new(input.into_read().0)).map_err(failed)?,
        Some(format) if format.has_columns() => {
            let options = Options {
                key_column: column.map(str::to_owned),
                only_keys: true,
                ..Options::default()
            };
            column_of(format::open(input, format, &options)?.as_mut(), failed)?
        }
        Some(format) => {
            return Err(failed(format!(
                "keys are read from text, a line each, and from Parquet and Arrow; format=`{format:?}`"
            )));
        }
    };
    Ok(keys.into())
}

fn lines(mut from: impl BufRead) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        // A file without lines is not a file of keys, and is not read whole to find that out.
        let mut one = from.by_ref().take(MAX_KEY_BYTES as u64 + 3);
        let read = one.read_line(&mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            return Ok(keys);
        }
        let key = line.trim_end_matches('\n');
        let key = key.strip_suffix('\r').unwrap_or(key);
        if key.len() > MAX_KEY_BYTES {
            return Err(format!(
                "line {} is too long for a key; expected at most {MAX_KEY_BYTES} bytes",
                keys.len() + 1
            ));
        }
        keys.push(key.to_owned());
    }
}

fn column_of(
    table: &mut dyn format::Reader,
    failed: impl Fn(String) -> Error,
) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    while let Some(part) = table.next()? {
        let Part::Rows(rows) = part else { continue };
        let column = cast(rows.batch.column(0), &DataType::Utf8);
        let column = column.map_err(|error| failed(error.to_string()))?;
        for key in column.as_string::<i32>() {
            let missing = || failed(format!("a key is null; row=`{}`", keys.len()));
            let key = key.ok_or_else(missing)?.to_owned();
            keys.push(key);
        }
    }
    Ok(keys)
}
