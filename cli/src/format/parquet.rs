//! Parquet: what is written; `bowstring-files` reads it.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::Error;
use crate::format::Writer;

/// Writes a file, compressed with zstd.
pub fn create(
    to: Box<dyn Write + Send>,
    name: String,
    schema: &SchemaRef,
) -> Result<Box<dyn Writer>, Error> {
    let level = ZstdLevel::default();
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level));
    let writer = ArrowWriter::try_new(to, SchemaRef::clone(schema), Some(properties.build()));
    let writer = writer.map_err(|error| Error::file("cannot write", &name, error))?;
    Ok(Box::new(Rows { writer, name }))
}

struct Rows {
    writer: ArrowWriter<Box<dyn Write + Send>>,
    name: String,
}

/// Bytes of a row group in memory before it is written.
const GROUP_BYTES: usize = 64 << 20;

impl Writer for Rows {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let written = self.writer.write(batch).and_then(|()| {
            if self.writer.in_progress_size() > GROUP_BYTES {
                self.writer.flush()
            } else {
                Ok(())
            }
        });
        written.map_err(|error| Error::file("cannot write", &self.name, error))
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<String>, Error> {
        let ended = self.writer.finish();
        ended.map_err(|error| Error::file("cannot write", &self.name, error))?;
        let flushed = self.writer.inner_mut().flush();
        flushed.map_err(|error| Error::file("cannot write", &self.name, error))?;
        Ok(Vec::new())
    }
}
