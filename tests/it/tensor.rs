//! Tensors as bytes, and as the Arrow columns that a user of arrow-rs would make of them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bowstring_wire::dtype::DType;
use serde_json::json;

/// One tensor, in C order.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    pub dtype: DType,
    /// Logical: without the axis of 2 of complex numbers.
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Bytes are not for reading.
impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, sum) = (self.bytes.len(), self.checksum());
        write!(f, "{}{:?} of {count} bytes, {sum}", self.dtype, self.shape)
    }
}

impl Tensor {
    /// Any bits (so NaNs and denormals where there are any), the same for the same arguments.
    pub fn sample(dtype: DType, shape: &[usize]) -> Self {
        Self::seeded(dtype, shape, 1)
    }

    /// As [`Tensor::sample`], other bits for another seed.
    pub fn seeded(dtype: DType, shape: &[usize], seed: u64) -> Self {
        let count = shape.iter().product::<usize>() * dtype.size();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let mask = if dtype == DType::Bool { 1 } else { 0xff };
        Self {
            dtype,
            shape: shape.to_vec(),
            bytes: (0..count).map(|_| next() & mask).collect(),
        }
    }

    /// As `tensor.checksum` has it.
    pub fn checksum(&self) -> String {
        format!("{:032x}", twox_hash::XxHash3_128::oneshot(&self.bytes))
    }

    /// The shape of what is stored.
    pub fn storage_shape(&self) -> Vec<usize> {
        let complex = self.dtype.storage_per_element() == 2;
        let axis = complex.then_some(2);
        self.shape.iter().copied().chain(axis).collect()
    }

    /// Rows `range` of the leading axis.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Self {
        let row = self.bytes.len() / self.shape[0].max(1);
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        Self {
            dtype: self.dtype,
            shape,
            bytes: self.bytes[range.start * row..range.end * row].to_vec(),
        }
    }

    /// Each row of the leading axis as a tensor of its own.
    pub fn cells(&self) -> Vec<Self> {
        let cells = (0..self.shape[0]).map(|row| {
            let mut cell = self.rows(row..row + 1);
            cell.shape.remove(0);
            cell
        });
        cells.collect()
    }

    /// The column to put it in, as `arrow.fixed_shape_tensor` from rank 2 on.
    pub fn column(&self, name: &str) -> (Field, ArrayRef) {
        let shape = self.storage_shape();
        let mut metadata = HashMap::new();
        if !self.dtype.is_native() {
            let name = self.dtype.name().to_owned();
            metadata.insert("tensor.dtype".to_owned(), name);
        }
        let array = if shape.len() < 2 {
            let rows = shape.first().copied().unwrap_or(1);
            leaf(&self.dtype.storage(), rows, self.bytes.clone())
        } else {
            let tensor = json!({"shape": shape[1..]}).to_string();
            let extension = [
                ("ARROW:extension:name", "arrow.fixed_shape_tensor"),
                ("ARROW:extension:metadata", &tensor),
            ];
            metadata.extend(extension.map(|(name, text)| (name.to_owned(), text.to_owned())));
            let cell = shape[1..].iter().product();
            list(
                shape[0],
                cell,
                &leaf(&self.dtype.storage(), shape[0] * cell, self.bytes.clone()),
            )
        };
        let field = Field::new(name, array.data_type().clone(), false);
        (field.with_metadata(metadata), array)
    }

    /// A batch of that one column. A scalar's shape must be said.
    pub fn batch(&self) -> RecordBatch {
        let (field, array) = self.column("x");
        let mut metadata = HashMap::new();
        if self.storage_shape().is_empty() {
            metadata.insert("tensor.shape".to_owned(), "[]".to_owned());
        }
        let schema = Schema::new(vec![field]).with_metadata(metadata);
        batch_of(Arc::new(schema), vec![array])
    }

    /// What a get of one key returned.
    ///
    /// # Panics
    /// Where the schema does not say what it should.
    pub fn of(schema: &Schema, batches: &[RecordBatch]) -> Self {
        let said = |name: &str| {
            let text = schema.metadata().get(name);
            text.unwrap_or_else(|| panic!("no {name} in {schema:?}"))
        };
        assert_eq!(schema.fields().len(), 1, "{schema:?}");
        Self {
            dtype: DType::parse(said("tensor.dtype")).unwrap(),
            shape: serde_json::from_str(said("tensor.shape")).unwrap(),
            bytes: values(batches, "tensor"),
        }
    }
}

/// The values of a column over all batches, whatever lists they lie in.
pub fn values(batches: &[RecordBatch], column: &str) -> Vec<u8> {
    let of_batch = |batch: &RecordBatch| value_bytes(batch.column_by_name(column).unwrap());
    batches.iter().flat_map(of_batch).collect()
}

/// The elements of one array, whatever lists they lie in.
pub fn value_bytes(array: &dyn Array) -> Vec<u8> {
    let mut data = array.to_data();
    while let DataType::FixedSizeList(_, cell) = data.data_type() {
        let cell = usize::try_from(*cell).unwrap();
        let (start, len) = (data.offset() * cell, data.len() * cell);
        data = data.child_data()[0].slice(start, len);
    }
    let width = data.data_type().primitive_width();
    let width = width.unwrap_or_else(|| panic!("not of elements: {}", data.data_type()));
    let start = data.offset() * width;
    data.buffers()[0][start..start + data.len() * width].to_vec()
}

/// A primitive array over bytes.
pub fn leaf(of: &DataType, count: usize, bytes: Vec<u8>) -> ArrayRef {
    // In memory that is aligned for any element: a Vec of bytes need not be.
    let mut aligned = arrow_buffer::MutableBuffer::new(bytes.len());
    aligned.extend_from_slice(&bytes);
    let data = ArrayData::builder(of.clone()).len(count);
    make_array(data.add_buffer(Buffer::from(aligned)).build().unwrap())
}

/// Lists of `cell` values each.
pub fn list(rows: usize, cell: usize, values: &ArrayRef) -> ArrayRef {
    let item = Field::new("item", values.data_type().clone(), false);
    let cell = i32::try_from(cell).unwrap();
    let data = ArrayData::builder(DataType::FixedSizeList(Arc::new(item), cell)).len(rows);
    make_array(data.add_child_data(values.to_data()).build().unwrap())
}

/// A batch, of no rows too.
pub fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    let rows = columns.first().map_or(0, |column| column.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).unwrap()
}

/// A batch of these columns.
pub fn table(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    batch_of(Arc::new(Schema::new(fields)), arrays)
}

/// A column of any type, nullable where it has nulls.
pub fn plain(name: &str, array: impl Array + 'static) -> (Field, ArrayRef) {
    let nullable = array.null_count() > 0;
    let field = Field::new(name, array.data_type().clone(), nullable);
    (field, Arc::new(array))
}

/// A key column, and a tensor a row.
pub fn bulk(keys: &[&str], tensors: &Tensor) -> RecordBatch {
    let keys = arrow_array::StringArray::from(keys.to_vec());
    table(vec![plain("key", keys), tensors.column("tensor")])
}
