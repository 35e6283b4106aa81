//! Which columns of a table are the keys and the tensors, and their rows as a put takes them.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, make_array};
use arrow_buffer::NullBuffer;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema};
use arrow_select::filter::filter_record_batch;

use crate::Error;
use crate::format::fixed::{Shapes, fixed, has_lists, without};
use crate::format::{BadRow, Keys, Numbers, Options, Part, Rows};

/// The columns of what a get of the layout `opaque` returns.
const OPAQUE: [&str; 4] = ["key", "dtype", "shape", "data"];
/// Columns that a put knows by their names.
const KNOWN: [&str; 2] = ["ttl_ms", "metadata"];

/// The columns that are wanted of a table, and how far it has been read.
pub struct Columns {
    name: String,
    picked: Picked,
    shapes: Shapes,
    row: u64,
}

enum Picked {
    /// These, as they are.
    Opaque(Vec<Path>),
    /// Rows.
    Rows {
        key: KeysFrom,
        tensor: Path,
        more: Vec<Path>,
    },
    /// One tensor: its leading axis is the rows.
    One(Path),
}

enum KeysFrom {
    Column(Path),
    File(Keys),
}

/// A column, or one within structs.
type Path = Vec<String>;

impl Columns {
    /// Finds them. `name` is the file's, for messages.
    pub fn find(name: &str, schema: &Schema, options: &Options) -> Result<Columns, Error> {
        let wrong = |message: String| Error::file("cannot read", name, message);
        let top = |name: &str| vec![name.to_owned()];
        let has = |name: &&str| schema.column_with_name(name).is_some();
        let named = options.key_column.is_some() || options.tensor_column.is_some();
        let known = KNOWN.iter().filter(|name| has(name)).map(|name| top(name));
        let picked = if options.one {
            Picked::One(tensor_of(schema, options, true).map_err(wrong)?)
        } else if !named && options.keys.is_none() && OPAQUE.iter().all(has) {
            Picked::Opaque(OPAQUE.iter().map(|name| top(name)).chain(known).collect())
        } else {
            let key = match &options.keys {
                Some(keys) => KeysFrom::File(keys.clone()),
                None => KeysFrom::Column(key_of(schema, options).map_err(wrong)?),
            };
            let tensor = tensor_of(schema, options, false).map_err(wrong)?;
            let more = known.filter(|path| *path != tensor).collect();
            Picked::Rows { key, tensor, more }
        };
        let columns = Columns {
            name: name.to_owned(),
            picked,
            shapes: Shapes::default(),
            row: 0,
        };
        let roots = columns.roots();
        let rest: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| !roots.contains(name))
            .collect();
        if !rest.is_empty() && options.tell {
            eprintln!(
                "bowstring: columns that are left out: {}; file=`{name}`",
                rest.join(", ")
            );
        }
        Ok(columns)
    }

    /// The outermost columns that are needed.
    pub fn roots(&self) -> Vec<&str> {
        let (some, more): (Vec<&Path>, &[Path]) = match &self.picked {
            Picked::Opaque(all) => (Vec::new(), all),
            Picked::One(tensor) => (vec![tensor], &[]),
            Picked::Rows {
                key: KeysFrom::Column(key),
                tensor,
                more,
            } => (vec![key, tensor], more),
            Picked::Rows { tensor, more, .. } => (vec![tensor], more),
        };
        some.into_iter()
            .chain(more)
            .filter_map(|path| path.first().map(String::as_str))
            .collect()
    }

    /// Rows as they are put.
    pub fn part(&mut self, batch: &RecordBatch) -> Result<Part, Error> {
        let rows = self.rows(batch);
        rows.map(Part::Rows)
            .map_err(|error| Error::file("cannot read", &self.name, error))
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let first = self.row;
        self.row += batch.num_rows() as u64;
        let (batch, bad) = match &self.picked {
            Picked::Opaque(all) => {
                let columns = all
                    .iter()
                    .map(|path| column(batch, path))
                    .collect::<Result<Vec<_>, _>>()?;
                (
                    table(
                        batch,
                        columns.into_iter().map(text).collect::<Result<_, _>>()?,
                    )?,
                    Vec::new(),
                )
            }
            Picked::One(path) => {
                let (field, values) = column(batch, path)?;
                let values = if nested(values.data_type()) && !values.is_empty() {
                    if let Some((row, why)) = self.shapes.odd_rows(&values).into_iter().next() {
                        let said = format!("{why}; row=`{}`", first + row as u64);
                        return Err(ArrowError::InvalidArgumentError(said));
                    }
                    fixed(&values)?
                } else {
                    values
                };
                (
                    table(batch, vec![(renamed(&field, "tensor", &values), values)])?,
                    Vec::new(),
                )
            }
            Picked::Rows { key, tensor, more } => {
                let keys = match key {
                    KeysFrom::Column(path) => text(column(batch, path)?)?.1,
                    KeysFrom::File(keys) => {
                        let keys = keys.range(first, batch.num_rows());
                        if keys.len() < batch.num_rows() {
                            let said = format!(
                                "there are fewer keys than rows; rows=`{}` or more, keys=`{}`",
                                self.row,
                                first + keys.len() as u64
                            );
                            return Err(ArrowError::InvalidArgumentError(said));
                        }
                        Arc::new(StringArray::from_iter_values(keys))
                    }
                };
                let (field, values) = column(batch, tensor)?;
                let odd = if has_lists(values.data_type()) {
                    self.shapes.odd_rows(&values)
                } else {
                    Vec::new()
                };
                let bad: Vec<BadRow> = odd
                    .iter()
                    .map(|(row, message)| BadRow {
                        row: first + *row as u64,
                        key: key_at(&keys, *row),
                        message: message.clone(),
                    })
                    .collect();
                let key = Arc::new(Field::new("key", keys.data_type().clone(), true));
                let tensor = renamed(&field, "tensor", &values);
                let mut columns = vec![(key, keys), (tensor, values)];
                for path in more {
                    columns.push(column(batch, path)?);
                }
                let rows = table(batch, columns)?;
                let keep = (!odd.is_empty()).then(|| without(rows.num_rows(), &odd));
                let rows = match &keep {
                    Some(keep) => filter_record_batch(&rows, keep)?,
                    None => rows,
                };
                let rows = if rows.num_rows() > 0 && has_lists(rows.column(1).data_type()) {
                    let mut columns: Vec<_> = rows
                        .schema()
                        .fields()
                        .iter()
                        .cloned()
                        .zip(rows.columns().iter().cloned())
                        .collect();
                    let values = fixed(&columns[1].1)?;
                    columns[1] = (renamed(&columns[1].0, "tensor", &values), values);
                    table(batch, columns)?
                } else {
                    rows
                };
                let numbers = keep.map(|keep| {
                    keep.iter()
                        .enumerate()
                        .filter(|(_, keep)| *keep == Some(true))
                        .map(|(row, _)| first + row as u64)
                        .collect()
                });
                let numbers = numbers.map_or(Numbers::From(first), Numbers::Each);
                return Ok(Rows {
                    batch: rows,
                    numbers,
                    bad,
                });
            }
        };
        Ok(Rows {
            batch,
            numbers: Numbers::From(first),
            bad,
        })
    }
}

/// A key as text, where there is one.
pub fn key_at(keys: &ArrayRef, row: usize) -> Option<String> {
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

fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_tensor(of: &DataType) -> bool {
    match of {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_tensor(item.data_type())
                || item.data_type().is_numeric()
                || *item.data_type() == DataType::Boolean
        }
        _ => false,
    }
}

fn key_of(schema: &Schema, options: &Options) -> Result<Path, String> {
    if let Some(name) = &options.key_column {
        let (path, found) =
            path_of(schema.fields(), name).ok_or_else(|| missing("--key-column", name, schema))?;
        let fits =
            is_text(&found) || found.is_integer() || matches!(found, DataType::FixedSizeBinary(_));
        return if fits {
            Ok(path)
        } else {
            Err(format!(
                "the column cannot be keys; column=`{name}` type=`{found}` expected strings, integers or fixed-size binary"
            ))
        };
    }
    only(
        "key",
        "--key-column (or give them with --keys FILE)",
        "strings",
        schema,
        is_text,
    )
}

fn tensor_of(schema: &Schema, options: &Options, one: bool) -> Result<Path, String> {
    if let Some(name) = &options.tensor_column {
        let (path, _) = path_of(schema.fields(), name)
            .ok_or_else(|| missing("--tensor-column", name, schema))?;
        return Ok(path);
    }
    if let (true, [field]) = (one, &schema.fields()[..]) {
        return Ok(vec![field.name().clone()]);
    }
    only(
        "tensor",
        "--tensor-column",
        "lists of numbers",
        schema,
        is_tensor,
    )
}

/// The column of that name, or the only one of its kind.
fn only(
    name: &str,
    flag: &str,
    kind: &str,
    schema: &Schema,
    is: fn(&DataType) -> bool,
) -> Result<Path, String> {
    if schema.column_with_name(name).is_some() {
        return Ok(vec![name.to_owned()]);
    }
    let candidates: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| is(field.data_type()))
        .map(|field| field.name().as_str())
        .collect();
    match candidates[..] {
        [one] => Ok(vec![one.to_owned()]),
        [] => Err(format!(
            "no column is the {name}s: none has {kind}; say which with {flag}; columns=`{}`",
            names(schema)
        )),
        _ => Err(format!(
            "several columns could be the {name}s; say which with {flag}; candidates=`{}`",
            candidates.join(", ")
        )),
    }
}

fn path_of(fields: &Fields, name: &str) -> Option<(Path, DataType)> {
    if let Some((_, field)) = fields.find(name) {
        return Some((vec![name.to_owned()], field.data_type().clone()));
    }
    // A name may have dots in it, so each could be the one that ends it.
    name.match_indices('.').find_map(|(dot, _)| {
        let (_, field) = fields.find(&name[..dot])?;
        let DataType::Struct(inner) = field.data_type() else {
            return None;
        };
        let (mut path, found) = path_of(inner, &name[dot + 1..])?;
        path.insert(0, name[..dot].to_owned());
        Some((path, found))
    })
}

fn missing(flag: &str, name: &str, schema: &Schema) -> String {
    format!(
        "{flag} names no column; column=`{name}` columns=`{}`",
        names(schema)
    )
}

fn names(schema: &Schema) -> String {
    let all: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, of)| Field::new(*name, of.clone(), true))
            .collect();
        Schema::new(fields)
    }

    fn list(of: DataType) -> DataType {
        DataType::new_list(of, true)
    }

    #[test]
    fn the_only_ones_are_found_and_others_are_asked_for() {
        let find = |columns: &[(&str, DataType)], options: &Options| match Columns::find(
            "x",
            &schema(columns),
            options,
        ) {
            Ok(columns) => columns.roots().join(","),
            Err(error) => error.to_string(),
        };
        let plain = Options::default();
        let word = ("word", DataType::Utf8View);
        let vector = ("v", list(DataType::Float32));
        assert_eq!(
            find(
                &[word.clone(), ("n", DataType::Int64), vector.clone()],
                &plain
            ),
            "word,v"
        );
        let more = [word.clone(), ("title", DataType::Utf8), vector.clone()];
        let told = find(&more, &plain);
        assert!(told.contains("candidates=`word, title`"), "{told}");
        let by_name = Options {
            key_column: Some("title".to_owned()),
            ..Options::default()
        };
        assert_eq!(find(&more, &by_name), "title,v");
        let told = find(std::slice::from_ref(&word), &plain);
        assert!(
            told.contains("no column is the tensors") && told.contains("columns=`word`"),
            "{told}"
        );
        let inner = DataType::Struct(Fields::from(vec![Field::new(
            "e.1",
            list(DataType::Float64),
            true,
        )]));
        let within = Options {
            tensor_column: Some("s.e.1".to_owned()),
            ..Options::default()
        };
        assert_eq!(find(&[word, ("s", inner)], &within), "word,s");
        let opaque = [
            ("key", DataType::Utf8),
            ("dtype", DataType::Utf8),
            ("shape", list(DataType::Int64)),
            ("data", DataType::LargeBinary),
            ("ttl_ms", DataType::Int64),
        ];
        assert_eq!(find(&opaque, &plain), "key,dtype,shape,data,ttl_ms");
    }
}
