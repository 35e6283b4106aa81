//! A bulk put: a key column and a tensor column, an entry each row; or what the `opaque` layout
//! of a get returns. And batches of keys alone, which the exchange `get` receives.

mod batch;
mod cells;
mod dictionaries;
mod extras;
mod keys;
mod keys_only;
mod role;
mod tensors;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::HashSet;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::body::Body;
use crate::cast::Cast;
use crate::column::{ListShape, TensorColumn};
use crate::descriptor::{ExtraColumns, PutCommand};
use crate::dtype::DType;
use crate::error::{Error, Result, clip};
use crate::field;
use crate::ipc_check::{self, Place, Tree};
use crate::limits::MAX_QUOTED_BYTES;
use crate::permute::Permute;
use crate::schema::DTYPE_KEY;
use crate::shape::Shape;
use crate::single::permute_of;

pub use batch::{BulkBatch, BulkRow};
use dictionaries::Wanted;
pub use dictionaries::{Dictionaries, Held};
use extras::Extra;
pub use keys_only::{KeysBatch, KeysReader};
use role::{Ints, KeyKind, Map, Text};

/// The schema of a bulk put, before its command says what the columns are called.
#[derive(Clone, Debug)]
pub struct BulkSchema {
    header: Bytes,
}

/// The columns of a bulk put by what they mean; reads its batches.
#[derive(Clone, Debug)]
pub struct BulkReader {
    tree: Tree,
    wanted: Vec<Wanted>,
    key: KeyKind,
    tensors: Tensors,
    ttl_ms: Option<Place>,
    source_version: Option<Place>,
    checksum: Option<Text>,
    metadata: Option<Map>,
    /// What becomes metadata as well.
    extras: Vec<Extra>,
    /// What all rows are cast to.
    dtype: Option<DType>,
}

#[derive(Clone, Debug)]
enum Tensors {
    /// One column, all rows of one dtype and shape.
    Column(Box<Column>),
    /// `dtype`, `shape` and `data`, as the `opaque` layout has them.
    Opaque {
        dtype: Text,
        shape: Ints,
        data: Text,
    },
}

#[derive(Clone, Debug)]
struct Column {
    tensor: TensorColumn,
    place: Place,
    permute: Option<Permute>,
    shape: RowShape,
}

/// What says the shape of a row.
#[derive(Clone, Debug)]
enum RowShape {
    /// The schema, for all rows.
    Fixed(Shape),
    /// The schema, of lists of so many cells.
    List(u64, Shape),
    /// The first valid list, once for the whole put: its length and shape.
    First(OnceLock<(u64, Shape)>),
    /// The length of its own list.
    Ragged,
    /// A column beside its values.
    Beside(Ints),
}

impl BulkSchema {
    pub(crate) fn new(header: &[u8]) -> Self {
        Self {
            header: Bytes::copy_from_slice(header),
        }
    }

    /// Finds the columns that `command` means.
    ///
    /// # Errors
    /// `invalid_argument` for a column that is missing, twice, of the wrong type, or that nobody
    /// asked for; `unimplemented` for what the wire contract names and is not built.
    pub fn with_command(&self, command: &PutCommand) -> Result<BulkReader> {
        let schema = ipc_check::schema(&self.header)?;
        let mut columns = Columns::new(&schema)?;
        let key_name = command.key_column.as_deref().unwrap_or("key");
        let tensor_name = command.tensor_column.as_deref().unwrap_or("tensor");
        let key = columns.required(key_name)?;
        let key = role::key_kind(key, &mut columns.wanted)?;
        let tensors = columns.tensors(tensor_name, command)?;
        let ttl_ms = columns.take("ttl_ms").map(role::int64).transpose()?;
        let checksum = columns.take("checksum");
        let checksum = checksum.map(|column| role::text(column, "utf8", &mut columns.wanted));
        let metadata = columns.take("metadata");
        let metadata = metadata.map(|column| role::metadata(column, &mut columns.wanted));
        let source_version = columns
            .take("source_version")
            .map(role::int64)
            .transpose()?;
        // A get can add it, and a new entry has a version of its own.
        let _ = columns.take("version");
        let extras = columns.extra(command.extra_columns.unwrap_or(ExtraColumns::Refuse))?;
        columns.tree.check()?;
        Ok(BulkReader {
            tree: columns.tree,
            wanted: columns.wanted,
            key,
            tensors,
            ttl_ms,
            source_version,
            checksum: checksum.transpose()?,
            metadata: metadata.transpose()?,
            extras,
            dtype: command.dtype,
        })
    }
}

impl BulkReader {
    /// Checks a batch and makes its rows readable, by the `dictionaries` that came before it. What
    /// is wrong with one row only is that row's error ([`BulkBatch::row`]).
    ///
    /// # Errors
    /// `invalid_argument` for a header that lies or offsets that do not ascend; `unimplemented`
    /// for compression.
    pub fn decode<'a>(
        &'a self,
        header: &[u8],
        body: &'a Body,
        dictionaries: &Dictionaries,
    ) -> Result<BulkBatch<'a>> {
        let batch = ipc_check::batch(header, body.len(), &self.tree)?;
        BulkBatch::new(self, body, &batch, dictionaries)
    }

    /// The dtype of all rows; `None` where each says its own.
    pub fn dtype(&self) -> Option<DType> {
        match &self.tensors {
            _ if self.dtype.is_some() => self.dtype,
            Tensors::Column(column) => Some(column.tensor.dtype),
            Tensors::Opaque { .. } => None,
        }
    }

    /// The shape of all rows; `None` where the rows say it.
    pub fn shape(&self) -> Option<&Shape> {
        match &self.tensors {
            Tensors::Column(column) => match &column.shape {
                RowShape::Fixed(shape) | RowShape::List(_, shape) => Some(shape),
                RowShape::First(_) | RowShape::Ragged | RowShape::Beside(_) => None,
            },
            Tensors::Opaque { .. } => None,
        }
    }
}

/// The columns of a schema that have not been given a meaning yet.
struct Columns<'a> {
    tree: Tree,
    left: Vec<(arrow_ipc::Field<'a>, Place)>,
    wanted: Vec<Wanted>,
    schema_dtype: Option<&'a str>,
}

type Found<'a> = (arrow_ipc::Field<'a>, Place);

impl<'a> Columns<'a> {
    fn new(schema: &arrow_ipc::Schema<'a>) -> Result<Self> {
        let mut tree = Tree::default();
        let mut left = Vec::new();
        for field in schema.fields().into_iter().flatten() {
            left.push((field, tree.push(field)?));
        }
        Ok(Self {
            tree,
            left,
            wanted: Vec::new(),
            schema_dtype: field::lookup(schema.custom_metadata(), DTYPE_KEY),
        })
    }

    fn take(&mut self, name: &str) -> Option<Found<'a>> {
        let index = self
            .left
            .iter()
            .position(|(field, _)| field.name() == Some(name))?;
        Some(self.left.swap_remove(index))
    }

    fn required(&mut self, name: &str) -> Result<Found<'a>> {
        self.take(name).ok_or_else(|| {
            Error::invalid(format!(
                "the schema lacks a column; expected column=`{}` beside {}",
                clip(name, MAX_QUOTED_BYTES),
                self.names()
            ))
        })
    }

    fn tensors(&mut self, name: &str, command: &PutCommand) -> Result<Tensors> {
        if let Some((field, place)) = self.take(name) {
            let tensor = TensorColumn::parse(&field, self.schema_dtype)?;
            // What cannot be done for any row is refused for all.
            command
                .dtype
                .map(|to| Cast::new(tensor.dtype, to))
                .transpose()?;
            return Ok(Tensors::Column(Box::new(Column {
                permute: permute_of(&tensor)?,
                shape: RowShape::new(&tensor, place, command.ragged)?,
                tensor,
                place,
            })));
        }
        // Somebody who named a column wants that one.
        let opaque = match command.tensor_column {
            Some(_) => None,
            None => self.take("data"),
        };
        let Some(data) = opaque else {
            self.required(name)?;
            return Err(Error::internal("a column that is there and is not"));
        };
        let dtype = self.required("dtype")?;
        let shape = self.required("shape")?;
        Ok(Tensors::Opaque {
            dtype: role::text(dtype, "utf8", &mut self.wanted)?,
            shape: role::shape(shape)?,
            data: role::bytes(data)?,
        })
    }

    /// What becomes metadata of the columns that are left.
    fn extra(&mut self, extra: ExtraColumns) -> Result<Vec<Extra>> {
        let names = self.names();
        let mut left = std::mem::take(&mut self.left);
        match extra {
            ExtraColumns::Ignore => Ok(Vec::new()),
            ExtraColumns::Refuse if left.is_empty() => Ok(Vec::new()),
            ExtraColumns::Refuse => Err(Error::invalid(format!(
                "the schema has columns that nobody asked for, or twice; columns={names} expected \
                 none (a put may say \"extra_columns\": \"ignore\", or \"metadata\")"
            ))),
            ExtraColumns::Metadata => {
                left.sort_unstable_by_key(|(_, place)| place.node);
                let mut seen = HashSet::new();
                let twice = left.iter().find(|(field, _)| !seen.insert(field.name()));
                if let Some((field, _)) = twice {
                    return Err(Error::invalid(format!(
                        "the schema has a column twice that is to be metadata; column=`{}`",
                        clip(field.name().unwrap_or_default(), MAX_QUOTED_BYTES)
                    )));
                }
                let extras = left
                    .into_iter()
                    .map(|one| Extra::new(one, &mut self.wanted));
                extras.collect()
            }
        }
    }

    fn names(&self) -> String {
        let mut names: Vec<_> = self
            .left
            .iter()
            .map(|(field, _)| field.name().unwrap_or_default())
            .collect();
        names.sort_unstable();
        format!("`{}`", clip(&names.join("`, `"), 2 * MAX_QUOTED_BYTES))
    }
}

impl RowShape {
    fn new(tensor: &TensorColumn, place: Place, ragged: bool) -> Result<Self> {
        let Some(list) = &tensor.list else {
            return match ragged {
                false => tensor.shape(&[]).map(RowShape::Fixed),
                true => Err(Error::invalid(format!(
                    "\"ragged\": true needs lists of tensors; column=`{}` expected List or \
                     LargeList",
                    clip(&tensor.name, MAX_QUOTED_BYTES)
                ))),
            };
        };
        Ok(match &list.shape {
            ListShape::Length if ragged => RowShape::Ragged,
            ListShape::Length => RowShape::First(OnceLock::new()),
            ListShape::Fixed(dims) => {
                let len = tensor.list_len()?.unwrap_or(0);
                RowShape::List(len, tensor.shape(dims)?)
            }
            // The struct, then the lists and their values: two buffers each.
            ListShape::Beside { wide, bytes } => RowShape::Beside(Ints {
                place: place.and(3, 5),
                wide: *wide,
                bytes: *bytes,
                signed: true,
            }),
        })
    }
}
