//! Parquet: columns, of which only those that are wanted are read.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::Error;
use crate::format::columns::Columns;
use crate::format::parquet_lists::{self, Lists};
use crate::format::{Input, Options, Part, Reader, Writer};

/// Bytes of the rows that are decoded at once, as the file counts them: with offsets and padding, a message.
const STEP_BYTES: i64 = 7 << 18;
/// Rows that are decoded at once, where they are small.
const STEP_ROWS: i64 = 16 << 10;

/// Reads a file.
pub fn open(input: Input, options: &Options) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let (file, _) = input.into_file()?;
    let file = Arc::new(file);
    let failed = |error: ParquetError| Error::file("cannot read", &name, error);
    let metadata = ArrowReaderMetadata::load(&*file, ArrowReaderOptions::default());
    let metadata = metadata.map_err(failed)?;
    let columns = Columns::find(&name, metadata.schema(), options)?;
    let rows = metadata.metadata().file_metadata().num_rows();
    let tensors = columns.tensors();
    let tensors = tensors.and_then(|name| metadata.schema().column_with_name(name));
    let lists = tensors.and_then(|(root, field)| {
        parquet_lists::open(&file, metadata.metadata(), root, field.data_type())
    });
    let mut table = Table {
        rest: None,
        lists,
        step: 1,
        row: 0,
        rows: u64::try_from(rows).ok(),
        file,
        metadata,
        columns,
        name: name.clone(),
    };
    let mask = table.mask(true);
    let groups = table.metadata.metadata().row_groups();
    let bytes: i64 = groups
        .iter()
        .flat_map(|group| group.columns().iter().enumerate())
        .filter(|(leaf, _)| mask.leaf_included(*leaf))
        .map(|(_, column)| column.uncompressed_size().max(0))
        .fold(0, i64::saturating_add);
    let row_bytes = (bytes / rows.max(1)).max(1);
    let step = (STEP_BYTES / row_bytes).clamp(1, STEP_ROWS);
    table.step = usize::try_from(step).unwrap_or(1);
    table.rest = Some(table.begin().map_err(failed)?);
    Ok(Box::new(table))
}

struct Table {
    file: Arc<File>,
    metadata: ArrowReaderMetadata,
    columns: Columns,
    /// The tensors, where they can be read apart from all else.
    lists: Option<Box<dyn Lists>>,
    /// All else.
    rest: Option<ParquetRecordBatchReader>,
    /// Rows at once.
    step: usize,
    /// Rows that were read.
    row: usize,
    rows: Option<u64>,
    name: String,
}

impl Table {
    /// The columns that are wanted, with or without those of the tensors.
    fn mask(&self, tensors: bool) -> ProjectionMask {
        let without = (!tensors).then(|| self.columns.tensors()).flatten();
        let roots = self.columns.roots();
        let fields = self.metadata.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| {
            let name = field.name().as_str();
            roots.contains(&name) && without != Some(name)
        });
        ProjectionMask::roots(self.metadata.parquet_schema(), wanted.map(|(at, _)| at))
    }

    /// A reader of what follows the rows that were read.
    fn begin(&self) -> Result<ParquetRecordBatchReader, ParquetError> {
        let file = self.file.try_clone()?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(self.mask(self.lists.is_none()))
            .with_batch_size(self.step)
            .with_offset(self.row)
            .build()
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        loop {
            let Some(rest) = self.rest.as_mut().and_then(Iterator::next).transpose()? else {
                return Ok(None);
            };
            let batch = match &mut self.lists {
                None => rest,
                Some(lists) => match lists.next(rest.num_rows())? {
                    Some(column) => self.with_tensors(&rest, column)?,
                    None => {
                        self.lists = None;
                        self.rest = Some(self.begin()?);
                        continue;
                    }
                },
            };
            self.row += batch.num_rows();
            return Ok(Some(batch));
        }
    }

    fn with_tensors(
        &self,
        rest: &RecordBatch,
        column: ArrayRef,
    ) -> Result<RecordBatch, ArrowError> {
        let name = self.columns.tensors().unwrap_or_default();
        let field = self.metadata.schema().field_with_name(name)?.clone();
        let field = field.with_data_type(column.data_type().clone());
        let schema = rest.schema();
        let fields = schema.fields().iter().cloned().chain([Arc::new(field)]);
        let schema = Schema::new(fields.collect::<Fields>());
        let schema = schema.with_metadata(rest.schema().metadata().clone());
        let columns = rest.columns().iter().cloned().chain([column]);
        RecordBatch::try_new(Arc::new(schema), columns.collect())
    }
}

impl Reader for Table {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        let batch = self.batch();
        let batch = batch.map_err(|error| Error::file("cannot read", &self.name, error))?;
        batch.map(|batch| self.columns.part(&batch)).transpose()
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Float32Type, Int64Type};
    use arrow_array::{FixedSizeListArray, LargeListArray, ListArray, StringArray};
    use parquet::file::properties::EnabledStatistics;

    /// What a file of these tensors gives: the rows that can be put, how many batches they are, and the numbers of those that cannot.
    fn read(tensors: ArrayRef, statistics: EnabledStatistics) -> (Vec<(u64, ArrayRef)>, Vec<u64>) {
        let keys: StringArray = (0..tensors.len())
            .map(|row| Some(format!("k{row}")))
            .collect();
        let keys: ArrayRef = Arc::new(keys);
        let batch = RecordBatch::try_from_iter([("n", Arc::clone(&keys)), ("t", tensors)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(700))
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(50)
            .set_statistics_enabled(statistics);
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()));
        let writer = writer.as_mut().unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let mut reader = open(
            Input::open(path.to_str().unwrap()).unwrap(),
            &Options::default(),
        )
        .unwrap();
        let (mut rows, mut bad) = (Vec::new(), Vec::new());
        while let Some(Part::Rows(part)) = reader.next().unwrap() {
            bad.extend(part.bad.iter().map(|bad| bad.row));
            let keys = part.batch.column(0).as_string::<i32>();
            for row in 0..part.batch.num_rows() {
                let number = part.numbers.at(row);
                assert_eq!(keys.value(row), format!("k{number}"));
                rows.push((number, part.batch.column(1).as_fixed_size_list().value(row)));
            }
        }
        (rows, bad)
    }

    #[test]
    fn lists_without_nulls_are_read_apart_from_the_keys() {
        let lists = |row: i64| Some((0..7).map(|n| Some(row * 7 + n)).collect::<Vec<_>>());
        let long = (0..2000).map(lists);
        let all = LargeListArray::from_iter_primitive::<Int64Type, _, _>(long.clone());
        let fixed = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(long, 7);
        for column in [Arc::new(all) as ArrayRef, Arc::new(fixed)] {
            for statistics in [EnabledStatistics::Chunk, EnabledStatistics::None] {
                let (rows, bad) = read(Arc::clone(&column), statistics);
                assert_eq!((rows.len(), bad.len()), (2000, 0));
                for (number, row) in rows {
                    let first = i64::try_from(number).unwrap() * 7;
                    let expected: Vec<i64> = (first..first + 7).collect();
                    assert_eq!(row.as_primitive::<Int64Type>().values()[..], expected);
                }
            }
        }
    }

    #[test]
    fn rows_that_are_not_like_the_others_are_told_wherever_they_are() {
        for (odd, of) in [
            (1500, None),
            (1500, Some(vec![])),
            (1500, Some(vec![Some(1.0)])),
            (0, None),
        ] {
            let row = |row: u16| match usize::from(row) {
                at if at == odd => of.clone(),
                _ => Some(vec![Some(f32::from(row)); 3]),
            };
            let lists = ListArray::from_iter_primitive::<Float32Type, _, _>((0..2000).map(row));
            for statistics in [EnabledStatistics::Chunk, EnabledStatistics::None] {
                let (rows, bad) = read(Arc::new(lists.clone()), statistics);
                assert_eq!((rows.len(), &bad[..]), (1999, &[odd as u64][..]), "{of:?}");
                for (number, row) in rows {
                    let value = f32::from(u16::try_from(number).unwrap());
                    assert_eq!(row.as_primitive::<Float32Type>().values()[..], [value; 3]);
                }
            }
        }
    }
}
