//! A Parquet column of lists of numbers, for as long as none of it is null: its values as they lie in the pages.
//!
//! parquet's own reader makes room for what is null, value by value, and then finds that nothing is: half of what a file of embeddings costs to read.

use std::sync::Arc;

use arrow_array::{ArrayRef, LargeListArray};
use arrow_buffer::{ArrowNativeType, Buffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_column_reader};
use parquet::data_type::{self, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use crate::pages::Pages;
use crate::source::values;

/// Levels that are decoded at once, so that they stay in the core's cache.
const STEP_LEVELS: usize = 16 << 10;

/// Room that is made for rows before they are there: one long row says nothing of the next.
const ROOM_BYTES_MAX: usize = 8 << 20;

/// Such a column, read from its beginning.
pub trait Lists: Send {
    /// So many rows more; `None` where one of them is null, or has a null in it, or is empty.
    fn next(&mut self, rows: usize) -> Result<Option<ArrayRef>>;
}

/// The column, where it is one.
pub fn open(
    file: &Arc<Pages>,
    metadata: &Arc<ParquetMetaData>,
    root: usize,
    of: &DataType,
) -> Option<Box<dyn Lists>> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = of
    else {
        return None;
    };
    let columns = metadata.file_metadata().schema_descr();
    let leaves = 0..columns.num_columns();
    let mut leaves = leaves.filter(|leaf| columns.get_column_root_idx(*leaf) == root);
    let (leaf, None) = (leaves.next()?, leaves.next()) else {
        return None;
    };
    let column = columns.column(leaf);
    let nulls = metadata.row_groups().iter().any(|group| {
        let statistics = group.column(leaf).statistics();
        let nulls = statistics.and_then(|statistics| statistics.null_count_opt());
        nulls.is_some_and(|nulls| nulls > 0)
    });
    if nulls || column.max_rep_level() != 1 {
        return None;
    }
    let item = item.data_type();
    Some(match (column.physical_type(), item) {
        (Type::FLOAT, DataType::Float32) => Typed::<FloatType>::open(file, metadata, leaf, item),
        (Type::DOUBLE, DataType::Float64) => Typed::<DoubleType>::open(file, metadata, leaf, item),
        (Type::INT32, DataType::Int32) => Typed::<Int32Type>::open(file, metadata, leaf, item),
        (Type::INT64, DataType::Int64) => Typed::<Int64Type>::open(file, metadata, leaf, item),
        _ => return None,
    })
}

struct Typed<T: data_type::DataType> {
    file: Arc<Pages>,
    metadata: Arc<ParquetMetaData>,
    leaf: usize,
    item: DataType,
    /// The row group that is read next.
    next: usize,
    group: Option<ColumnReaderImpl<T>>,
    /// Levels of what was read last.
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// Values of the last row.
    row_values: usize,
}

impl<T: data_type::DataType> Typed<T>
where
    T::T: ArrowNativeType,
{
    fn open(
        file: &Arc<Pages>,
        metadata: &Arc<ParquetMetaData>,
        leaf: usize,
        item: &DataType,
    ) -> Box<dyn Lists> {
        Box::new(Typed::<T> {
            file: Arc::clone(file),
            metadata: Arc::clone(metadata),
            leaf,
            item: item.clone(),
            next: 0,
            group: None,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            row_values: 1,
        })
    }

    /// Goes on to the next row group.
    fn begin(&mut self) -> Result<ColumnReaderImpl<T>> {
        let group = self.metadata.row_groups().get(self.next);
        let group = group.ok_or_else(|| broken("its columns have different numbers of rows"))?;
        self.next += 1;
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let column = group.column(self.leaf);
        let pages = SerializedPageReader::new(Arc::clone(&self.file), column, rows, None)?;
        let reader = get_column_reader(column.column_descr_ptr(), Box::new(pages));
        let reader = T::get_column_reader(reader);
        reader.ok_or_else(|| broken("a column has two types"))
    }
}

impl<T: data_type::DataType> Lists for Typed<T>
where
    T::T: ArrowNativeType,
{
    fn next(&mut self, rows: usize) -> Result<Option<ArrayRef>> {
        let full = self.metadata.file_metadata().schema_descr();
        let full = full.column(self.leaf).max_def_level();
        let width = size_of::<T::T>();
        let room = rows.saturating_mul(self.row_values);
        let mut all: Vec<T::T> = Vec::with_capacity(room.min(ROOM_BYTES_MAX / width));
        let mut offsets: Vec<i64> = Vec::with_capacity(rows + 1);
        while offsets.len() < rows {
            self.definitions.clear();
            self.repetitions.clear();
            let step = (STEP_LEVELS / self.row_values).max(1);
            if self.group.is_none() {
                self.group = Some(self.begin()?);
            }
            let Some(group) = &mut self.group else {
                continue;
            };
            let (records, _, levels) = group.read_records(
                step.min(rows - offsets.len()),
                Some(&mut self.definitions),
                Some(&mut self.repetitions),
                &mut all,
            )?;
            if records == 0 {
                self.group = None;
                continue;
            }
            // Counted, not looked for: that takes many at once.
            if self.definitions.iter().filter(|at| **at != full).count() > 0 {
                return Ok(None);
            }
            let begun = self.repetitions.iter().filter(|at| **at == 0).count();
            if begun != records || self.repetitions.first() != Some(&0) {
                return Err(broken("a row begins nowhere"));
            }
            let before = all.len() - levels;
            let starts = |at: &usize| self.repetitions[*at] == 0;
            self.row_values = levels / records;
            let alike = (0..levels).step_by(self.row_values);
            if alike.len() == records && alike.clone().all(|at| starts(&at)) {
                offsets.extend(alike.map(|at| (before + at) as i64));
            } else {
                offsets.extend((0..levels).filter(starts).map(|at| (before + at) as i64));
            }
        }
        offsets.push(all.len() as i64);
        let all = values(&self.item, Buffer::from_vec(all), width)?;
        let item = Arc::new(Field::new("item", self.item.clone(), false));
        let lists = LargeListArray::try_new(item, OffsetBuffer::new(offsets.into()), all, None)?;
        Ok(Some(Arc::new(lists)))
    }
}

fn broken(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}
