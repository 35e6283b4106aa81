//! Tensors in columns.
//!
//! - here: the type of a column of tensors of any dtype and shape, and how one is made
//! - `elements`: a tensor's elements as numbers, a block of them at a time
//! - `read`: reads tensors from what an argument of a function may be

pub mod elements;
pub mod read;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryViewBuilder, Int64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BinaryViewArray, StructArray};
use arrow_buffer::{Buffer, NullBufferBuilder};
use arrow_schema::{DataType, Field, Fields};
use bowstring_wire::dtype::DType;
use bowstring_wire::extension::{METADATA_KEY, NAME_KEY};
use bowstring_wire::shape::Shape;

use crate::DfResult;
use crate::tables::int;

/// What tells a tensor's struct from any other.
const EXTENSION: &str = "bowstring.tensor";

/// A column of tensors of any dtype and shape: a struct of `dtype`, `shape`, and `data` in C order.
pub fn field(name: &str) -> Field {
    let metadata = HashMap::from([
        (NAME_KEY.to_owned(), EXTENSION.to_owned()),
        (METADATA_KEY.to_owned(), String::new()),
    ]);
    Field::new(name, DataType::Struct(fields()), false).with_metadata(metadata)
}

/// What a tensor's struct has.
pub fn fields() -> Fields {
    Fields::from(vec![
        Field::new("dtype", DataType::Utf8, false),
        Field::new("shape", shape_type(), false),
        Field::new("data", DataType::BinaryView, false),
    ])
}

/// A shape in a column.
pub fn shape_type() -> DataType {
    DataType::List(shape_item())
}

fn shape_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Int64, false))
}

/// A column of shapes.
pub fn shapes<'a>(of: impl Iterator<Item = &'a Shape>) -> ArrayRef {
    let mut shapes = ListBuilder::new(Int64Builder::new()).with_field(shape_item());
    for shape in of {
        append_shape(&mut shapes, shape);
    }
    Arc::new(shapes.finish())
}

fn append_shape(shapes: &mut ListBuilder<Int64Builder>, shape: &Shape) {
    for dim in shape.dims() {
        shapes.values().append_value(int(*dim));
    }
    shapes.append(true);
}

/// A column of tensors, from their parts.
///
/// # Errors
/// Where the parts are not of one length.
pub fn of_parts(
    dtypes: ArrayRef,
    shapes: ArrayRef,
    data: BinaryViewArray,
) -> DfResult<StructArray> {
    let columns = vec![dtypes, shapes, Arc::new(data) as ArrayRef];
    Ok(StructArray::try_new(fields(), columns, None)?)
}

/// Makes a column of tensors whose bytes lie in buffers that are there already.
pub struct Builder {
    dtypes: StringBuilder,
    shapes: ListBuilder<Int64Builder>,
    data: BinaryViewBuilder,
    nulls: NullBufferBuilder,
}

impl Builder {
    /// `buffers` are named by their place among them.
    pub fn new(buffers: Vec<Buffer>, rows: usize) -> Self {
        let mut data = BinaryViewBuilder::with_capacity(rows);
        for buffer in buffers {
            data.append_block(buffer);
        }
        Self {
            dtypes: StringBuilder::new(),
            shapes: ListBuilder::new(Int64Builder::new()).with_field(shape_item()),
            data,
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Adds a tensor, whose bytes lie at `at`: the buffer, and where in it. Without that they are copied.
    ///
    /// # Errors
    /// Where a buffer has no such place, or the bytes are too many for a column.
    pub fn append(
        &mut self,
        dtype: DType,
        shape: &Shape,
        bytes: &[u8],
        at: Option<(u32, u32)>,
    ) -> DfResult<()> {
        match (at, u32::try_from(bytes.len())) {
            (Some((buffer, offset)), Ok(len)) => self.data.try_append_view(buffer, offset, len)?,
            _ => self.data.try_append_value(bytes)?,
        }
        self.dtypes.append_value(dtype.name());
        append_shape(&mut self.shapes, shape);
        self.nulls.append_non_null();
        Ok(())
    }

    /// Adds a null.
    pub fn append_null(&mut self) {
        // What stands behind a null is not null itself: the type has no room for that.
        self.dtypes.append_value("");
        self.shapes.append(true);
        self.data.append_value([]);
        self.nulls.append_null();
    }

    /// As a column.
    pub fn finish(mut self) -> DfResult<StructArray> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.dtypes.finish()),
            Arc::new(self.shapes.finish()),
            Arc::new(self.data.finish()),
        ];
        Ok(StructArray::try_new(
            fields(),
            columns,
            self.nulls.finish(),
        )?)
    }
}
