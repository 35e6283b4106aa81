//! Tensors of one dtype and shape, as an Arrow column of that shape: what a get of many returns as `tensor`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, make_array};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::extension::{FIXED_SHAPE_TENSOR, METADATA_KEY, NAME_KEY, encode};
use bowstring_wire::form::Form;
use bowstring_wire::name::Namespace;
use bowstring_wire::schema::DTYPE_KEY;
use bowstring_wire::shape::Shape;

use super::NAMESPACE;
use super::rows::Rows;
use super::value::Values;
use crate::DfResult;
use crate::error::passed;

/// What a namespace's tensors are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uniform {
    /// Where they are.
    pub namespace: Namespace,
    /// Their element type.
    pub dtype: DType,
    /// The shape of each.
    pub shape: Shape,
}

impl Uniform {
    /// The columns of `tensors` without those that are the same in all rows, and `value` as it is here.
    ///
    /// # Errors
    /// As [`Form::entries`].
    pub fn schema(&self, all: &Schema) -> Result<SchemaRef> {
        let value = Arc::new(self.field()?);
        let is_shown = |name: &str| ![NAMESPACE, "dtype", "shape"].contains(&name);
        let fields = all.fields().iter().filter(|field| is_shown(field.name()));
        let fields = fields.map(|field| match &**field.name() {
            "value" => value.clone(),
            _ => field.clone(),
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// Scalars are numbers, the rest lists of `arrow.fixed_shape_tensor`.
    fn field(&self) -> Result<Field> {
        let form = Form::entries(self.dtype, &self.shape, 0)?;
        let mut metadata = HashMap::new();
        if !self.dtype.is_native() {
            metadata.insert(DTYPE_KEY.to_owned(), self.dtype.name().to_owned());
        }
        let storage = self.dtype.storage();
        let of = match &form.cell {
            None => storage,
            Some(cell) => {
                metadata.insert(NAME_KEY.to_owned(), FIXED_SHAPE_TENSOR.to_owned());
                metadata.insert(METADATA_KEY.to_owned(), encode(cell));
                // A row is at most a GiB.
                let size = i32::try_from(form.row_values).unwrap_or(i32::MAX);
                DataType::FixedSizeList(Arc::new(Field::new("item", storage, false)), size)
            }
        };
        Ok(Field::new("value", of, false).with_metadata(metadata))
    }

    /// The column of these rows.
    ///
    /// # Errors
    /// `failed_precondition` for the first that is not like the others.
    pub fn column(&self, rows: &Rows, values: Values) -> DfResult<ArrayRef> {
        self.check(rows).map_err(passed)?;
        let field = self.field().map_err(passed)?;
        let all = values.joined();
        let width = self.dtype.size() / self.dtype.storage_per_element();
        let numbers = ArrayData::builder(self.dtype.storage())
            .len(all.len() / width)
            .add_buffer(all)
            // Where it lies unaligned, it is copied.
            .align_buffers(true)
            .build()?;
        let lists = match field.data_type() {
            of @ DataType::FixedSizeList(..) => ArrayData::builder(of.clone())
                .len(rows.len())
                .add_child_data(numbers)
                .build()?,
            _ => numbers,
        };
        Ok(make_array(lists))
    }

    fn check(&self, rows: &Rows) -> Result<()> {
        let mut row = 0;
        for (form, count) in &rows.forms {
            if form.dtype != self.dtype || form.shape != self.shape {
                return Err(Error::precondition(format!(
                    "a namespace is not a table, for its entries differ; ask `tensors` instead, or name the keys; \
                     namespace=`{}` key=`{}` dtype=`{}` shape=`{}` expected dtype=`{}` shape=`{}`",
                    self.namespace.as_str(),
                    rows.key(row).escape_debug(),
                    form.dtype,
                    form.shape,
                    self.dtype,
                    self.shape
                )));
            }
            row += count;
        }
        Ok(())
    }
}
