//! Parquet: columns, of which only those that are wanted are read.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchReader as _};
use arrow_schema::{ArrowError, DataType, Fields, Schema};
use arrow_select::concat::concat_batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use crate::columns::Columns;
use crate::lists::{self, Lists};
use crate::pages::Pages;
use crate::{BATCH_BYTES, ColumnMap, Error, Lookup, Rows, Source, Table};

/// Bytes of the rows that are decoded at once, as the file counts them: with offsets and padding, a batch.
const STEP_BYTES: u64 = BATCH_BYTES / 8 * 7;
/// Rows that are decoded at once, where they are small.
const STEP_ROWS: u64 = 16 << 10;

/// Reads a file.
pub fn open(source: Source, map: &ColumnMap) -> Result<Box<dyn Table>, Error> {
    let file = File::open(source, map)?;
    let parquet = file.metadata.metadata();
    let tensors = file.columns.tensors();
    let tensors = tensors.and_then(|name| file.metadata.schema().column_with_name(name));
    let lists = tensors
        .and_then(|(root, field)| lists::open(&file.pages, parquet, root, field.data_type()));
    let columns = file.columns.at(0);
    let mut whole = Whole {
        rest: None,
        lists,
        row: 0,
        file,
        columns,
    };
    whole.rest = Some(whole.begin().map_err(Error::of)?);
    Ok(Box::new(whole))
}

/// Reads any rows of a file.
pub fn open_at(source: Source, map: &ColumnMap) -> Result<Box<dyn Lookup>, Error> {
    let file = File::open(source, map)?;
    let mut firsts = Vec::new();
    let mut rows: u64 = 0;
    for group in file.metadata.metadata().row_groups() {
        firsts.push(rows);
        let more = u64::try_from(group.num_rows()).ok();
        let all = more.and_then(|more| rows.checked_add(more));
        rows = all.ok_or_else(|| Error::of("its row groups have no number of rows"))?;
    }
    Ok(Box::new(Anywhere { file, firsts, rows }))
}

/// A file, and what is wanted of it.
struct File {
    pages: Arc<Pages>,
    metadata: ArrowReaderMetadata,
    columns: Columns,
    /// Rows at once.
    step: usize,
}

impl File {
    fn open(source: Source, map: &ColumnMap) -> Result<File, Error> {
        let bytes_max = source.limits.batch_bytes_max;
        let pages = Arc::new(Pages(source));
        pages.check_footer().map_err(Error::of)?;
        let metadata = ArrowReaderMetadata::load(&*pages, ArrowReaderOptions::default());
        let metadata = metadata.map_err(Error::of)?;
        let columns = Columns::find(metadata.schema(), map)?;
        let mut file = File {
            pages,
            metadata,
            columns,
            step: 1,
        };
        file.step = file.step(bytes_max)?;
        Ok(file)
    }

    /// How many rows are decoded at once: what their bytes say, and no more than there is room for where all of them are null.
    fn step(&self, bytes_max: u64) -> Result<usize, Error> {
        let mask = self.mask(None);
        let parquet = self.metadata.metadata();
        let groups = parquet.row_groups().iter();
        let leaves = groups.flat_map(|group| group.columns().iter().enumerate());
        let bytes = leaves
            .filter(|(leaf, _)| mask.leaf_included(*leaf))
            .map(|(_, column)| u64::try_from(column.uncompressed_size()).unwrap_or(0))
            .fold(0, u64::saturating_add);
        let rows = u64::try_from(parquet.file_metadata().num_rows()).unwrap_or(0);
        let row_bytes = (bytes / rows.max(1)).max(1);
        let roots = self.columns.roots();
        let fields = self.metadata.schema().fields().iter();
        let wanted = fields.filter(|field| roots.contains(&field.name().as_str()));
        let width = wanted
            .map(|field| width(field.data_type()))
            .fold(0, u64::saturating_add);
        let room = bytes_max / width.max(1);
        if room == 0 {
            return Err(Error(format!(
                "its rows are too large; bytes=`{width}` expected at most {bytes_max}"
            )));
        }
        let step = (STEP_BYTES / row_bytes).clamp(1, STEP_ROWS.min(room));
        Ok(usize::try_from(step).unwrap_or(1))
    }

    /// The columns that are wanted, without this one.
    fn mask(&self, without: Option<&str>) -> ProjectionMask {
        let roots = self.columns.roots();
        let fields = self.metadata.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| {
            let name = field.name().as_str();
            roots.contains(&name) && without != Some(name)
        });
        ProjectionMask::roots(self.metadata.parquet_schema(), wanted.map(|(at, _)| at))
    }

    fn reader(&self) -> ParquetRecordBatchReaderBuilder<Pages> {
        let (pages, metadata) = (Pages::clone(&self.pages), self.metadata.clone());
        ParquetRecordBatchReaderBuilder::new_with_metadata(pages, metadata)
            .with_batch_size(self.step)
    }
}

/// Bytes of a value of that type, whatever it is.
fn width(of: &DataType) -> u64 {
    let times = |n: &i32, one: u64| u64::try_from(*n).unwrap_or(0).saturating_mul(one);
    match of {
        DataType::FixedSizeList(item, n) => times(n, width(item.data_type()).max(1)),
        DataType::FixedSizeBinary(n) => times(n, 1),
        DataType::Struct(fields) => {
            let widths = fields.iter().map(|field| width(field.data_type()));
            widths.fold(0, u64::saturating_add)
        }
        of => of.primitive_width().unwrap_or(0) as u64,
    }
}

/// A file from its beginning.
struct Whole {
    file: File,
    columns: Columns,
    /// The tensors, where they can be read apart from all else.
    lists: Option<Box<dyn Lists>>,
    /// All else.
    rest: Option<ParquetRecordBatchReader>,
    /// Rows that were read.
    row: usize,
}

impl Whole {
    /// A reader of what follows the rows that were read.
    fn begin(&self) -> Result<ParquetRecordBatchReader, ParquetError> {
        let without = self.lists.as_ref().and_then(|_| self.columns.tensors());
        let mask = self.file.mask(without);
        let reader = self.file.reader().with_projection(mask);
        reader.with_offset(self.row).build()
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
        let field = self.file.metadata.schema().field_with_name(name)?.clone();
        let field = field.with_data_type(column.data_type().clone());
        let schema = rest.schema();
        let fields = schema.fields().iter().cloned().chain([Arc::new(field)]);
        let schema = Schema::new(fields.collect::<Fields>());
        let schema = schema.with_metadata(rest.schema().metadata().clone());
        let columns = rest.columns().iter().cloned().chain([column]);
        RecordBatch::try_new(Arc::new(schema), columns.collect())
    }
}

impl Table for Whole {
    fn next(&mut self) -> Result<Option<Rows>, Error> {
        let batch = self.batch().map_err(Error::of)?;
        batch.map(|batch| self.columns.rows(&batch)).transpose()
    }

    fn rows(&self) -> Option<u64> {
        let metadata = self.file.metadata.metadata().file_metadata();
        u64::try_from(metadata.num_rows()).ok()
    }

    fn left_out(&self) -> &[String] {
        self.file.columns.left_out()
    }
}

/// Any rows of a file.
struct Anywhere {
    file: File,
    /// The first row of each row group.
    firsts: Vec<u64>,
    rows: u64,
}

impl Lookup for Anywhere {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn read(&self, rows: Range<u64>) -> Result<Rows, Error> {
        let end = rows.end.min(self.rows);
        let start = rows.start.min(end);
        let count = usize::try_from(end - start).map_err(Error::of)?;
        let from = self.firsts.partition_point(|first| *first <= start);
        let from = from.saturating_sub(1);
        let to = self.firsts.partition_point(|first| *first < end);
        let before = start - self.firsts.get(from).copied().unwrap_or(0);
        let reader = self
            .file
            .reader()
            .with_projection(self.file.mask(None))
            .with_row_groups((from..to.max(from)).collect())
            .with_offset(usize::try_from(before).map_err(Error::of)?)
            .with_limit(count)
            .build()
            .map_err(Error::of)?;
        let schema = reader.schema();
        let batches: Result<Vec<_>, _> = reader.collect();
        let batch = batches.and_then(|batches| concat_batches(&schema, &batches));
        let batch = batch.map_err(Error::of)?;
        if batch.num_rows() != count {
            return Err(Error::of("its row groups have fewer rows than they say"));
        }
        self.file.columns.at(start).rows(&batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Float32Type, Int64Type};
    use arrow_array::{FixedSizeListArray, LargeListArray, ListArray, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

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
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()));
        let writer = writer.as_mut().unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
        let length = bytes.len() as u64;
        let mut reader = open(Source::new(bytes, length), &ColumnMap::default()).unwrap();
        let (mut rows, mut bad) = (Vec::new(), Vec::new());
        while let Some(part) = reader.next().unwrap() {
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
