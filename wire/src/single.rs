//! A put of one tensor: batches of one column, joined on the leading axis.

use std::ops::Range;

use arrow_ipc::Schema;

use crate::column::{ListShape, Lists, TensorColumn};
use crate::dtype::DType;
use crate::error::{Error, Result, clip};
use crate::field;
use crate::form::storage_dims;
use crate::ipc_check::{self, Tree};
use crate::json;
use crate::limits::MAX_QUOTED_BYTES;
use crate::metadata::Metadata;
use crate::offsets::ListSpan;
use crate::permute::Permute;
use crate::schema::{DTYPE_KEY, SHAPE_KEY, USER_PREFIX};
use crate::shape::Shape;

/// The metadata name under which the names of a tensor's axes are kept.
pub const DIM_NAMES: &str = "dim_names";

/// The schema of one tensor.
#[derive(Clone, Debug)]
pub struct SingleSchema {
    column: TensorColumn,
    declared: Option<Shape>,
    metadata: Metadata,
    tree: Tree,
}

impl SingleSchema {
    pub(crate) fn new(schema: Schema<'_>) -> Result<Self> {
        let Some(field) = schema.fields().and_then(|fields| fields.iter().next()) else {
            return Err(Error::invalid("the schema has no columns"));
        };
        let pairs = schema.custom_metadata();
        let column = TensorColumn::parse(&field, field::lookup(pairs, DTYPE_KEY))?;
        if let Some(list) = &column.list
            && (list.views || matches!(list.shape, ListShape::Beside { .. }))
        {
            return Err(Error::invalid(format!(
                "one tensor cannot be a column of lists of this kind; column=`{}` type=`{}` \
                 expected List or LargeList, or a column `key` beside it",
                clip(&column.name, MAX_QUOTED_BYTES),
                field::type_name(&field)
            )));
        }
        let declared = field::lookup(pairs, SHAPE_KEY)
            .map(parse_shape)
            .transpose()?;
        if let Some(shape) = &declared {
            shape.bytes(column.dtype)?;
        }
        let mut tree = Tree::default();
        tree.push(field)?;
        Ok(Self {
            metadata: metadata(pairs, &column)?,
            column,
            declared,
            tree,
        })
    }

    /// The tensor's element type.
    pub fn dtype(&self) -> DType {
        self.column.dtype
    }

    /// The column: transform, cell, permutation, lists.
    pub fn column(&self) -> &TensorColumn {
        &self.column
    }

    /// `tensor.shape`, where the schema gives it.
    pub fn declared(&self) -> Option<&Shape> {
        self.declared.as_ref()
    }

    /// What the entry keeps: the schema's `user.` metadata, and [`DIM_NAMES`].
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Cells of each list, where the schema says that.
    ///
    /// # Errors
    /// None for a schema that was parsed.
    pub fn list_len(&self) -> Result<Option<u64>> {
        self.column.list_len()
    }

    /// How cells become C order; `None` where they are.
    ///
    /// # Errors
    /// `invalid_argument` for a cell that is larger than memory can be.
    pub fn permute(&self) -> Result<Option<Permute>> {
        permute_of(&self.column)
    }

    /// Checks a batch's header against the body that comes with it.
    ///
    /// # Errors
    /// `invalid_argument` for a header that lies, or for nulls; `unimplemented` for compression.
    pub fn check_batch(&self, header: &[u8], body_len: u64) -> Result<SingleBatch> {
        let batch = ipc_check::batch(header, body_len, &self.tree)?;
        if let Some(node) = batch.nodes.iter().find(|node| node.nulls > 0) {
            return Err(Error::invalid(format!(
                "a tensor has nulls; column=`{}` nulls=`{}` expected none",
                clip(&self.column.name, MAX_QUOTED_BYTES),
                node.nulls
            )));
        }
        let (Some(values), Some(leaf)) = (batch.buffers.last(), batch.nodes.last()) else {
            return Err(Error::internal("a tensor column without values"));
        };
        let offsets = match &self.column.list {
            // The rows' validity, then their offsets.
            Some(Lists { wide, .. }) => batch.buffers.get(1).map(|range| Offsets {
                range: range.clone(),
                wide: *wide,
            }),
            None => None,
        };
        Ok(SingleBatch {
            rows: batch.rows,
            offsets,
            buffer: values.clone(),
            available: leaf.len,
            cell_values: self.column.cell_values,
            value_bits: self.column.value_bits(),
            stored_width: self.column.stored_width(),
        })
    }

    /// The tensor's shape once all rows came. `list_len` is what the offsets told, where the
    /// column is of lists; without any row it is 0.
    ///
    /// # Errors
    /// `invalid_argument` where `tensor.shape` has another number of elements than came, or where
    /// the rows make no legal shape.
    pub fn final_shape(&self, total_rows: u64, list_len: Option<u64>) -> Result<Shape> {
        let mut leading = vec![total_rows];
        match &self.column.list {
            None => {}
            Some(Lists {
                shape: ListShape::Fixed(dims),
                ..
            }) => leading.extend(dims),
            Some(_) => leading.push(list_len.unwrap_or(0)),
        }
        let Some(declared) = &self.declared else {
            return self.column.shape(&leading);
        };
        let came = leading
            .iter()
            .try_fold(self.column.cell_values, |product, dim| {
                product.checked_mul(*dim)
            });
        let expected: u64 = storage_dims(self.column.dtype, declared).iter().product();
        if came != Some(expected) {
            let each = self.column.dtype.storage_per_element() as u64;
            return Err(Error::invalid(format!(
                "tensor.shape has another number of elements than the data; tensor.shape=`{declared}` \
                 elements=`{}` expected `{}`",
                declared.elements()?,
                came.map_or("too many".to_owned(), |came| (came / each).to_string())
            )));
        }
        Ok(declared.clone())
    }
}

/// A checked batch of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleBatch {
    /// Rows of the batch.
    pub rows: u64,
    /// Where the lists' offsets lie, always before the values. Feed them to
    /// [`OffsetsCheck`](crate::offsets::OffsetsCheck).
    pub offsets: Option<Offsets>,
    /// The buffer of the values.
    buffer: Range<u64>,
    /// Values that the buffer has at least.
    available: u64,
    cell_values: u64,
    value_bits: u64,
    stored_width: u64,
}

/// Offsets of a batch of lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Bytes of the body.
    pub range: Range<u64>,
    /// 8 bytes each, not 4.
    pub wide: bool,
}

/// Which bytes of a body are the tensor's, and what they become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// Bytes of the body.
    pub range: Range<u64>,
    /// For bits: the first one that counts in the first byte.
    pub first_bit: u32,
    /// Storage values.
    pub count: u64,
    /// Bytes of all of them once they are stored.
    pub stored_bytes: u64,
}

impl SingleBatch {
    /// The batch's values. `list` is what the offsets told; `None` where the column has no lists.
    ///
    /// # Errors
    /// `invalid_argument` for lists that reach behind the values.
    pub fn values(&self, list: Option<ListSpan>) -> Result<Values> {
        let span = match list {
            None => Some((0, self.rows)),
            Some(ListSpan { first, len }) => len
                .unwrap_or(0)
                .checked_mul(self.rows)
                .map(|cells| (first, cells)),
        };
        span.and_then(|(first, cells)| {
            let first = first.checked_mul(self.cell_values)?;
            let count = cells.checked_mul(self.cell_values)?;
            let end = first
                .checked_add(count)
                .filter(|end| *end <= self.available)?;
            // Without a value there is no place either.
            let (first, end) = if count == 0 { (0, 0) } else { (first, end) };
            let bits = first.checked_mul(self.value_bits)?;
            let end = end.checked_mul(self.value_bits)?.div_ceil(8);
            Some(Values {
                range: self.buffer.start + bits / 8..self.buffer.start + end,
                first_bit: u32::try_from(bits % 8).ok()?,
                count,
                stored_bytes: count.checked_mul(self.stored_width)?,
            })
        })
        .ok_or_else(|| {
            Error::invalid(format!(
                "lists reach behind their values; rows=`{}` expected at most `{}` values",
                self.rows, self.available
            ))
        })
    }
}

pub(crate) fn permute_of(column: &TensorColumn) -> Result<Option<Permute>> {
    let Some(order) = &column.permutation else {
        return Ok(None);
    };
    let width = usize::try_from(column.stored_width()).unwrap_or(usize::MAX);
    match Permute::new(&column.cell, order, width) {
        Some(permute) => Ok(Some(permute)),
        None => Err(Error::invalid(format!(
            "a cell cannot be put in order; shape=`{:?}` permutation=`{order:?}`",
            column.cell
        ))),
    }
}

fn parse_shape(json: &str) -> Result<Shape> {
    let dims: Vec<u64> = serde_json::from_str(json).map_err(|error| {
        Error::invalid(format!(
            "tensor.shape is no shape: {}; tensor.shape=`{}` expected a JSON array of lengths",
            clip(&error.to_string(), MAX_QUOTED_BYTES),
            clip(json, MAX_QUOTED_BYTES)
        ))
    })?;
    Shape::new(&dims)
}

fn metadata(pairs: Option<field::Pairs<'_>>, column: &TensorColumn) -> Result<Metadata> {
    let names = column.dim_names.as_ref().map(json::to_string);
    let user = pairs.into_iter().flatten().filter_map(|pair| {
        let name = pair.key()?.strip_prefix(USER_PREFIX)?;
        // What the type says of this array is newer than what was kept of another.
        (names.is_none() || name != DIM_NAMES)
            .then(|| (name.to_owned(), pair.value().unwrap_or_default().to_owned()))
    });
    let user: Vec<_> = user.collect();
    let names = names.map(|names| (DIM_NAMES.to_owned(), names));
    Metadata::new(user.into_iter().chain(names))
}

#[cfg(test)]
mod tests;
