//! Tables: Parquet and Arrow, whose rows `bowstring-files` reads.

use bowstring_files::{BY_FLAG, ColumnMap, Source, Table};

use crate::Error;
use crate::format::{Format, Input, Options, Part, Reader};

/// Reads a table.
pub fn open(input: Input, format: Format, options: &Options) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let map = ColumnMap {
        key: options.key_column.clone(),
        tensor: options.tensor_column.clone(),
        metadata: None,
        keys: options.keys.clone(),
        one: options.one,
        only_keys: options.only_keys,
        asked: BY_FLAG,
    };
    let table = if format == Format::Parquet {
        let (file, bytes) = input.into_file()?;
        let source = Source::new(file, bytes).trusted();
        bowstring_files::open(source, bowstring_files::Format::Parquet, &map)
    } else {
        let (from, bytes) = input.into_read();
        bowstring_files::open_stream(from, bytes, format == Format::Arrow, &map)
    };
    let table = table.map_err(|error| Error::file("cannot read", &name, error))?;
    if options.tell && !table.left_out().is_empty() {
        eprintln!(
            "bowstring: columns that are left out: {}; file=`{name}`",
            table.left_out().join(", ")
        );
    }
    Ok(Box::new(Parts { table, name }))
}

struct Parts {
    table: Box<dyn Table>,
    name: String,
}

impl Reader for Parts {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        let rows = self.table.next();
        let rows = rows.map_err(|error| Error::file("cannot read", &self.name, error))?;
        Ok(rows.map(Part::Rows))
    }

    fn rows(&self) -> Option<u64> {
        self.table.rows()
    }
}
