//! Rows of a table as a put takes them.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, make_array};
use arrow_buffer::NullBuffer;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use arrow_select::filter::filter_record_batch;

use crate::Error;
use crate::fixed::{Shapes, fixed, has_lists, without};
use crate::picked::{ColumnMap, KeysFrom, Path, Picked, is_text, pick};
use crate::rows::{BadRow, Numbers, Rows};

/// The columns that are wanted of a table, and how far it has been read.
#[derive(Debug)]
pub struct Columns {
    picked: Picked,
    left_out: Vec<String>,
    shapes: Shapes,
    row: u64,
}

impl Columns {
    /// Finds them.
    pub fn find(schema: &Schema, map: &ColumnMap) -> Result<Columns, Error> {
        let picked = pick(schema, map).map_err(Error)?;
        let roots = picked.roots();
        let names = schema.fields().iter().map(|field| field.name());
        let left_out = names.filter(|name| !roots.contains(&name.as_str()));
        Ok(Columns {
            left_out: left_out.cloned().collect(),
            picked,
            shapes: Shapes::default(),
            row: 0,
        })
    }

    /// The same columns, of a batch that begins at this row, as if it were the first.
    pub fn at(&self, row: u64) -> Columns {
        Columns {
            picked: self.picked.clone(),
            left_out: Vec::new(),
            shapes: Shapes::default(),
            row,
        }
    }

    /// The outermost columns that are not needed.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The outermost columns that are needed.
    pub fn roots(&self) -> Vec<&str> {
        self.picked.roots()
    }

    /// The column of the tensors, where they are rows and stand in no struct.
    pub fn tensors(&self) -> Option<&str> {
        match &self.picked {
            Picked::Rows { tensor, .. } if tensor.len() == 1 => tensor.first().map(String::as_str),
            _ => None,
        }
    }

    /// Rows as they are put.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<Rows, Error> {
        let first = self.row;
        self.row += batch.num_rows() as u64;
        let rows = match &self.picked {
            Picked::Opaque(all) => as_they_are(batch, all).map(|batch| all_of(batch, first)),
            Picked::One(path) => {
                one(batch, path, first, &mut self.shapes).map(|batch| all_of(batch, first))
            }
            Picked::Keys(path) => keys_alone(batch, path).map(|batch| all_of(batch, first)),
            Picked::Rows { key, tensor, more } => keys_of(batch, key, first)
                .and_then(|keys| rows(batch, keys, tensor, more, first, &mut self.shapes)),
        };
        rows.map_err(Error::of)
    }
}

fn all_of(batch: RecordBatch, first: u64) -> Rows {
    Rows {
        batch,
        numbers: Numbers::From(first),
        bad: Vec::new(),
    }
}

fn as_they_are(batch: &RecordBatch, all: &[Path]) -> Result<RecordBatch, ArrowError> {
    let columns = all.iter().map(|path| column(batch, path).and_then(text));
    table(batch, columns.collect::<Result<_, _>>()?)
}

fn keys_alone(batch: &RecordBatch, path: &Path) -> Result<RecordBatch, ArrowError> {
    let (field, keys) = text(column(batch, path)?)?;
    table(batch, vec![(renamed(&field, "key", &keys), keys)])
}

/// One tensor, whose rows cannot be left out one by one.
fn one(
    batch: &RecordBatch,
    path: &Path,
    first: u64,
    shapes: &mut Shapes,
) -> Result<RecordBatch, ArrowError> {
    let (field, mut values) = column(batch, path)?;
    if nested(values.data_type()) && !values.is_empty() {
        if let Some((row, why)) = shapes.odd_rows(&values).into_iter().next() {
            let said = format!("{why}; row=`{}`", first + row as u64);
            return Err(ArrowError::InvalidArgumentError(said));
        }
        values = fixed(&values)?;
    }
    table(batch, vec![(renamed(&field, "tensor", &values), values)])
}

fn keys_of(batch: &RecordBatch, from: &KeysFrom, first: u64) -> Result<ArrayRef, ArrowError> {
    let keys = match from {
        KeysFrom::Column(path) => return Ok(text(column(batch, path)?)?.1),
        KeysFrom::File(keys) => keys,
    };
    let (rows, end) = (batch.num_rows(), first + batch.num_rows() as u64);
    let keys = keys.range(first, rows);
    if keys.len() < rows {
        let said = format!(
            "there are fewer keys than rows; rows=`{end}` or more, keys=`{}`",
            first + keys.len() as u64
        );
        return Err(ArrowError::InvalidArgumentError(said));
    }
    Ok(Arc::new(StringArray::from_iter_values(keys)))
}

/// Rows, but for those whose tensor is not like the first one's.
fn rows(
    batch: &RecordBatch,
    keys: ArrayRef,
    tensor: &Path,
    more: &[(&str, Path)],
    first: u64,
    shapes: &mut Shapes,
) -> Result<Rows, ArrowError> {
    let (field, values) = column(batch, tensor)?;
    let lists = has_lists(values.data_type());
    let odd = if lists {
        shapes.odd_rows(&values)
    } else {
        Vec::new()
    };
    let bad = odd.iter().map(|(row, message)| BadRow {
        row: first + *row as u64,
        key: key_at(&keys, *row),
        column: tensor.join("."),
        message: message.clone(),
    });
    let bad: Vec<BadRow> = bad.collect();
    let key = Arc::new(Field::new("key", keys.data_type().clone(), true));
    let tensor = renamed(&field, "tensor", &values);
    let mut columns = vec![(key, keys), (tensor, values)];
    for (name, path) in more {
        let (field, values) = column(batch, path)?;
        columns.push((renamed(&field, name, &values), values));
    }
    let mut rows = table(batch, columns)?;
    let mut numbers = Numbers::From(first);
    if !odd.is_empty() {
        let keep = without(rows.num_rows(), &odd);
        rows = filter_record_batch(&rows, &keep)?;
        let kept = keep
            .iter()
            .enumerate()
            .filter(|(_, keep)| *keep == Some(true));
        numbers = Numbers::Each(kept.map(|(row, _)| first + row as u64).collect());
    }
    if lists && rows.num_rows() > 0 {
        let values = fixed(rows.column(1))?;
        let fields = rows.schema();
        let fields = fields.fields().iter().cloned();
        let mut columns: Vec<_> = fields.zip(rows.columns().iter().cloned()).collect();
        columns[1] = (renamed(&columns[1].0, "tensor", &values), values);
        rows = table(batch, columns)?;
    }
    Ok(Rows {
        batch: rows,
        numbers,
        bad,
    })
}

/// The rows with this before each key, which is the first column.
///
/// # Errors
/// The keys are nothing that can be text.
pub fn prefixed(batch: &RecordBatch, prefix: &str) -> Result<RecordBatch, ArrowError> {
    if prefix.is_empty() {
        return Ok(batch.clone());
    }
    let keys = cast(batch.column(0), &DataType::Utf8)?;
    let keys = keys.as_string::<i32>().iter();
    let keys: StringArray = keys
        .map(|key| key.map(|key| format!("{prefix}{key}")))
        .collect();
    let schema = batch.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields[0] = Arc::new(Field::new("key", DataType::Utf8, true));
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns[0] = Arc::new(keys);
    let schema = Schema::new(fields).with_metadata(schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns)
}

/// A key as text, where there is one.
fn key_at(keys: &ArrayRef, row: usize) -> Option<String> {
    if keys.is_null(row) {
        return None;
    }
    let one = cast(&keys.slice(row, 1), &DataType::Utf8).ok()?;
    Some(one.as_string_opt::<i32>()?.value(0).to_owned())
}

/// A put takes no string but these two.
fn text((field, values): (FieldRef, ArrayRef)) -> Result<(FieldRef, ArrayRef), ArrowError> {
    if !is_text(field.data_type())
        || matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8)
    {
        return Ok((field, values));
    }
    let values = cast(&values, &DataType::Utf8)?;
    Ok((renamed(&field, field.name(), &values), values))
}

fn nested(of: &DataType) -> bool {
    match of {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_lists(item.data_type())
        }
        _ => false,
    }
}

fn renamed(field: &FieldRef, name: &str, values: &ArrayRef) -> FieldRef {
    let new = Field::new(
        name,
        values.data_type().clone(),
        field.is_nullable() || values.null_count() > 0,
    );
    Arc::new(new.with_metadata(field.metadata().clone()))
}

/// The columns with what the file's schema says of tensors.
fn table(of: &RecordBatch, columns: Vec<(FieldRef, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let schema = of.schema();
    let ours = |name: &str| name.starts_with("tensor.") || name.starts_with("user.");
    let metadata = schema
        .metadata()
        .iter()
        .filter(|(name, _)| ours(name))
        .map(|(name, value)| (name.clone(), value.clone()));
    let (fields, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Schema::new(fields).with_metadata(metadata.collect());
    RecordBatch::try_new(Arc::new(schema), values)
}

fn column(batch: &RecordBatch, path: &[String]) -> Result<(FieldRef, ArrayRef), ArrowError> {
    let gone =
        || ArrowError::SchemaError(format!("a column went away; column=`{}`", path.join(".")));
    let (first, within) = path.split_first().ok_or_else(gone)?;
    let schema = batch.schema();
    let (at, _) = schema.column_with_name(first).ok_or_else(gone)?;
    let mut field = Arc::clone(&schema.fields()[at]);
    let mut values = Arc::clone(batch.column(at));
    for name in within {
        let parent = values.as_struct_opt().ok_or_else(gone)?;
        let (at, child) = parent.fields().find(name).ok_or_else(gone)?;
        let inner = parent.column(at);
        let nulls = NullBuffer::union(parent.nulls(), inner.nulls());
        let data = inner.to_data().into_builder().nulls(nulls).build()?;
        (field, values) = (Arc::clone(child), make_array(data));
    }
    Ok((field, values))
}
