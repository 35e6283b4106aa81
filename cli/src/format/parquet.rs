//! Parquet: columns, of which only those that are wanted are read.

use std::fs::File;
use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::Error;
use crate::format::columns::Columns;
use crate::format::{Input, Options, Part, Reader, Writer};

/// Bytes of the rows that are decoded at once, as the file counts them: with offsets and padding, a message.
const STEP_BYTES: i64 = 7 << 18;
/// Rows that are decoded at once, where they are small.
const STEP_ROWS: i64 = 16 << 10;

/// Reads a file.
pub fn open(input: Input, options: &Options) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let (file, _) = input.into_file()?;
    let failed = |error: parquet::errors::ParquetError| Error::file("cannot read", &name, error);
    let builder = ParquetRecordBatchReaderBuilder::<File>::try_new(file).map_err(failed)?;
    let columns = Columns::find(&name, builder.schema(), options)?;
    let rows = builder.metadata().file_metadata().num_rows();
    let groups = builder.metadata().row_groups();
    let roots = columns.roots();
    let wanted: Vec<usize> = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| roots.contains(&field.name().as_str()))
        .map(|(at, _)| at)
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let bytes: i64 = groups
        .iter()
        .flat_map(|group| group.columns().iter().enumerate())
        .filter(|(leaf, _)| mask.leaf_included(*leaf))
        .map(|(_, column)| column.uncompressed_size().max(0))
        .fold(0, i64::saturating_add);
    let row_bytes = (bytes / rows.max(1)).max(1);
    let step = (STEP_BYTES / row_bytes).clamp(1, STEP_ROWS);
    let builder = builder
        .with_projection(mask)
        .with_batch_size(usize::try_from(step).unwrap_or(1));
    let reader = builder.build().map_err(failed)?;
    Ok(Box::new(Table {
        reader,
        columns,
        rows: u64::try_from(rows).ok(),
        name,
    }))
}

struct Table {
    reader: ParquetRecordBatchReader,
    columns: Columns,
    rows: Option<u64>,
    name: String,
}

impl Reader for Table {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let batch = batch.map_err(|error| Error::file("cannot read", &self.name, error))?;
        self.columns.part(&batch).map(Some)
    }

    fn rows(&self) -> Option<u64> {
        self.rows
    }
}

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
