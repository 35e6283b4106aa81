//! One tensor; and some as a batch in the `opaque` form, which takes any dtypes and shapes.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, LargeBinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, Field, Schema};
use bowstring_files::values;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::form::{storage_dims, storage_width};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::schema::{DTYPE_KEY, SHAPE_KEY, USER_PREFIX};
use bowstring_wire::shape::Shape;

/// A tensor and what is known of it.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the file, where it has one.
    pub key: Option<String>,
    /// The element type.
    pub dtype: DType,
    /// The logical shape.
    pub shape: Shape,
    /// The elements in C order, little-endian.
    pub data: Buffer,
    /// The entry's own metadata.
    pub metadata: Metadata,
}

impl Tensor {
    /// As one primitive column of all storage values, in batches of at most `bytes`, with all else in the schema's metadata: a put of one tensor.
    pub fn flat(&self, bytes: usize) -> Result<(Schema, Vec<RecordBatch>), ArrowError> {
        let storage = self.dtype.storage();
        let width = usize::try_from(storage_width(self.dtype)).unwrap_or(1);
        let mut metadata = std::collections::HashMap::new();
        metadata.insert(SHAPE_KEY.to_owned(), self.shape.to_string());
        for (name, value) in self.metadata.iter() {
            metadata.insert(format!("{USER_PREFIX}{name}"), value.to_owned());
        }
        let field = Field::new("tensor", storage.clone(), false);
        let field =
            field.with_metadata([(DTYPE_KEY.to_owned(), self.dtype.name().to_owned())].into());
        let schema = Schema::new(vec![field]).with_metadata(metadata);
        let shared = Arc::new(schema.clone());
        let step = (bytes / width).max(1) * width;
        let mut batches = Vec::new();
        let mut at = 0;
        while at < self.data.len() {
            let piece = step.min(self.data.len() - at);
            let column = values(&storage, self.data.slice_with_length(at, piece), width)?;
            batches.push(RecordBatch::try_new(Arc::clone(&shared), vec![column])?);
            at += piece;
        }
        Ok((schema, batches))
    }
}

/// A column of cells of these axes over `bytes`; a primitive column where there are none.
pub fn cells(dtype: DType, cell: &[u64], bytes: Buffer) -> Result<(Field, ArrayRef), ArrowError> {
    let width = usize::try_from(storage_width(dtype)).unwrap_or(1);
    let mut column = values(&dtype.storage(), bytes, width)?;
    let shape =
        Shape::new(cell).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
    for dim in storage_dims(dtype, &shape).iter().rev() {
        let dim = i32::try_from(*dim)
            .map_err(|_| ArrowError::InvalidArgumentError("an axis is too long".to_owned()))?;
        let item = Arc::new(Field::new("item", column.data_type().clone(), false));
        column = Arc::new(arrow_array::FixedSizeListArray::try_new(
            item, dim, column, None,
        )?);
    }
    let field = Field::new("tensor", column.data_type().clone(), false);
    let names = [(DTYPE_KEY.to_owned(), dtype.name().to_owned())].into();
    Ok((field.with_metadata(names), column))
}

/// Tensors as rows: `key`, `dtype`, `shape`, `data`, `metadata`.
pub fn opaque(tensors: &[Tensor]) -> Result<RecordBatch, ArrowError> {
    let mut keys = StringBuilder::new();
    let mut dtypes = StringBuilder::new();
    let mut shapes = ListBuilder::new(Int64Builder::new());
    let data = match tensors {
        // Its bytes are the column, as they are.
        [one] => LargeBinaryArray::try_new(
            OffsetBuffer::from_lengths([one.data.len()]),
            one.data.clone(),
            None,
        )?,
        _ => LargeBinaryArray::from_iter_values(tensors.iter().map(|tensor| &tensor.data)),
    };
    let mut metadata = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for tensor in tensors {
        keys.append_option(tensor.key.as_deref());
        dtypes.append_value(tensor.dtype.name());
        for dim in tensor.shape.dims() {
            // No shape has an axis over that.
            shapes
                .values()
                .append_value(i64::try_from(*dim).unwrap_or(i64::MAX));
        }
        shapes.append(true);
        for (name, value) in tensor.metadata.iter() {
            metadata.keys().append_value(name);
            metadata.values().append_value(value);
        }
        metadata.append(true)?;
    }
    RecordBatch::try_from_iter([
        ("key", Arc::new(keys.finish()) as ArrayRef),
        ("dtype", Arc::new(dtypes.finish())),
        ("shape", Arc::new(shapes.finish())),
        ("data", Arc::new(data)),
        ("metadata", Arc::new(metadata.finish())),
    ])
}

/// The tensors of what a get of the layout `opaque` sent; their bytes are those of the batch.
pub fn tensors(batch: &RecordBatch) -> Result<Vec<Tensor>, WireError> {
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        column.ok_or_else(|| WireError::internal(format!("rows without a column; column=`{name}`")))
    };
    let odd = || WireError::internal("rows whose columns are not those of the layout `opaque`");
    let keys = column("key")?.as_string_opt::<i32>().ok_or_else(odd)?;
    let dtypes = column("dtype")?.as_string_opt::<i32>().ok_or_else(odd)?;
    let shapes = column("shape")?.as_list_opt::<i32>().ok_or_else(odd)?;
    let data = column("data")?.as_binary_opt::<i64>().ok_or_else(odd)?;
    let metadata = batch.column_by_name("metadata");
    let metadata = metadata.and_then(|column| column.as_map_opt());
    (0..batch.num_rows())
        .map(|row| {
            let shape = shapes.value(row);
            let shape = shape.as_primitive_opt::<Int64Type>().ok_or_else(odd)?;
            let dims: Result<Vec<u64>, _> = shape
                .values()
                .iter()
                .map(|dim| u64::try_from(*dim))
                .collect();
            let offsets = data.value_offsets();
            let start = usize::try_from(offsets[row]).map_err(|_| odd())?;
            let end = usize::try_from(offsets[row + 1]).map_err(|_| odd())?;
            let pairs = metadata
                .filter(|column| !column.is_null(row))
                .map(|column| column.value(row));
            let pairs = pairs.iter().flat_map(|pairs| {
                let names = pairs.column(0).as_string_opt::<i32>();
                let values = pairs.column(1).as_string_opt::<i32>();
                let both = names
                    .into_iter()
                    .flatten()
                    .zip(values.into_iter().flatten());
                both.filter_map(|(name, value)| Some((name?.to_owned(), value?.to_owned())))
            });
            Ok(Tensor {
                key: Some(keys.value(row).to_owned()),
                dtype: DType::parse(dtypes.value(row))?,
                shape: Shape::new(&dims.map_err(|_| odd())?)?,
                data: data.values().slice_with_length(start, end - start),
                metadata: Metadata::new(pairs)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(key: &str, dtype: DType, dims: &[u64], bytes: &[u8]) -> Tensor {
        Tensor {
            key: Some(key.to_owned()),
            dtype,
            shape: Shape::new(dims).unwrap(),
            data: Buffer::from(bytes),
            metadata: Metadata::new([("from".to_owned(), key.to_owned())]).unwrap(),
        }
    }

    #[test]
    fn opaque_rows_and_back() {
        let all = [
            tensor("a", DType::Complex64, &[1], &[1, 2, 3, 4, 5, 6, 7, 8]),
            tensor("b", DType::BFloat16, &[], &[9, 10]),
            tensor("c", DType::Int8, &[3, 0], &[]),
        ];
        let back = tensors(&opaque(&all).unwrap()).unwrap();
        for (tensor, back) in all.iter().zip(&back) {
            assert_eq!(
                (&tensor.key, tensor.dtype, &tensor.shape),
                (&back.key, back.dtype, &back.shape)
            );
            assert_eq!(
                (&tensor.data, &tensor.metadata),
                (&back.data, &back.metadata)
            );
        }
    }

    #[test]
    fn one_tensor_in_pieces() {
        let (schema, batches) = tensor("a", DType::Complex64, &[1], &[0; 8])
            .flat(6)
            .unwrap();
        assert_eq!(schema.metadata()[SHAPE_KEY], "[1]");
        assert_eq!(schema.metadata()["user.from"], "a");
        assert_eq!(
            batches
                .iter()
                .map(RecordBatch::num_rows)
                .collect::<Vec<_>>(),
            [1, 1]
        );
        let (_, none) = tensor("c", DType::Int8, &[3, 0], &[]).flat(6).unwrap();
        assert!(none.is_empty());
    }
}
