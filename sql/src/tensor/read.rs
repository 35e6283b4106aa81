//! Tensors as functions are given them: in a column of tensors of any dtype and shape, or in lists of numbers.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BinaryViewArray, ListArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ByteView;
use arrow_schema::{DataType, Field};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::extension::{FIXED_SHAPE_TENSOR, FixedShapeTensor, METADATA_KEY, NAME_KEY};
use bowstring_wire::schema::DTYPE_KEY;
use bowstring_wire::shape::Shape;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

use super::elements::Elements;
use crate::DfResult;
use crate::error::passed;

/// A tensor of a row.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Shape,
    /// In C order.
    pub bytes: &'a [u8],
    /// The buffer, of [`Column::buffers`], and where in it the bytes lie; `None` where no view can say so.
    pub at: Option<(u32, u32)>,
}

impl<'a> Tensor<'a> {
    /// Its elements, where they are numbers that `function` takes.
    ///
    /// # Errors
    /// `invalid_argument` that names the dtype.
    pub fn elements(&self, function: &str) -> Result<Elements<'a>> {
        super::elements::check(function, self.dtype)?;
        Ok(Elements {
            dtype: self.dtype,
            bytes: self.bytes,
        })
    }
}

/// Tensors of one dtype and shape, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Alike<'a> {
    /// Their element type.
    pub dtype: DType,
    /// The shape of each.
    pub shape: &'a Shape,
    bytes: &'a [u8],
    row_bytes: usize,
}

impl<'a> Alike<'a> {
    /// The elements of a row.
    pub fn elements(&self, row: usize) -> Elements<'a> {
        let bytes = self.bytes.get(row * self.row_bytes..);
        Elements {
            dtype: self.dtype,
            bytes: bytes
                .and_then(|bytes| bytes.get(..self.row_bytes))
                .unwrap_or_default(),
        }
    }
}

/// Whether a column may hold tensors.
pub fn is_tensor(of: &DataType) -> bool {
    match of {
        DataType::Null => true,
        DataType::Struct(_) => of.equals_datatype(&DataType::Struct(super::fields())),
        DataType::FixedSizeList(item, _) => is_list_of_numbers(item.data_type()),
        DataType::List(item) | DataType::LargeList(item) => is_number(item.data_type()),
        _ => false,
    }
}

fn is_list_of_numbers(of: &DataType) -> bool {
    match of {
        DataType::FixedSizeList(item, _) => is_list_of_numbers(item.data_type()),
        of => is_number(of),
    }
}

fn is_number(of: &DataType) -> bool {
    of.is_numeric() || of.is_null()
}

/// The tensors of an argument, a row each; a constant has the same one in all rows.
pub struct Column {
    kind: Kind,
    nulls: Option<NullBuffer>,
    constant: bool,
}

enum Kind {
    Null,
    Any {
        dtypes: StringArray,
        shapes: ListArray,
        axes: ScalarBuffer<i64>,
        data: BinaryViewArray,
    },
    Lists(Lists),
}

struct Lists {
    dtype: DType,
    /// Of each row; without it, each is a vector.
    shape: Option<Shape>,
    ends: Ends,
    /// Storage values that make an element.
    values: Buffer,
    width: usize,
    /// Of the values.
    nulls: Option<NullBuffer>,
}

enum Ends {
    Every(usize),
    At(OffsetBuffer<i32>),
    AtLarge(OffsetBuffer<i64>),
}

impl Column {
    /// Reads an argument.
    ///
    /// # Errors
    /// `invalid_argument` where it holds no tensors, or numbers that are no dtype's.
    pub fn new(argument: &ColumnarValue, field: &Field) -> DfResult<Self> {
        match argument {
            ColumnarValue::Array(array) => Self::of(array, field, false),
            ColumnarValue::Scalar(scalar) => {
                let scalar = numbers(scalar)?;
                Self::of(&scalar.to_array_of_size(1)?, field, true)
            }
        }
    }

    /// Reads what is to be stored: what a function takes, and scalars.
    ///
    /// # Errors
    /// As [`Column::new`].
    pub fn stored(array: &ArrayRef, field: &Field) -> Result<Self> {
        let of = array.data_type();
        if !is_tensor(of) && !of.is_numeric() {
            return Err(no_tensor(of));
        }
        Self::of(array, field, false).map_err(|error| crate::error::of(&error))
    }

    fn of(array: &ArrayRef, field: &Field, constant: bool) -> DfResult<Self> {
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Struct(_) => {
                let parts = array.as_struct();
                let shapes = parts.column(1).as_list::<i32>().clone();
                Kind::Any {
                    dtypes: parts.column(0).as_string::<i32>().clone(),
                    axes: shapes.values().as_primitive::<Int64Type>().values().clone(),
                    shapes,
                    data: parts.column(2).as_binary_view().clone(),
                }
            }
            _ => Kind::Lists(Lists::new(array, field).map_err(passed)?),
        };
        Ok(Self {
            kind,
            nulls: array.nulls().cloned(),
            constant,
        })
    }

    /// Whether all rows have the same tensor.
    pub fn is_constant(&self) -> bool {
        self.constant
    }

    /// What the tensors' bytes lie in.
    pub fn buffers(&self) -> Vec<Buffer> {
        match &self.kind {
            Kind::Null => Vec::new(),
            Kind::Any { data, .. } => data.data_buffers().to_vec(),
            Kind::Lists(lists) => vec![lists.values.clone()],
        }
    }

    /// The tensors of so many rows, where there are some, all have the same shape, and none is null.
    pub fn alike(&self, rows: usize) -> Option<Alike<'_>> {
        let Kind::Lists(lists) = &self.kind else {
            return None;
        };
        let Ends::Every(size) = lists.ends else {
            return None;
        };
        if rows == 0 || self.constant || self.nulls.is_some() || lists.nulls.is_some() {
            return None;
        }
        let shape = lists.shape.as_ref()?;
        let row_bytes = size * lists.width;
        let fits = shape.bytes(lists.dtype).ok()? == row_bytes as u64;
        fits.then_some(Alike {
            dtype: lists.dtype,
            shape,
            bytes: &lists.values,
            row_bytes,
        })
    }

    /// A row's tensor; `None` where it is null, or has a null in it.
    ///
    /// # Errors
    /// `invalid_argument` for a struct whose parts do not fit each other.
    pub fn row(&self, row: usize) -> Result<Option<Tensor<'_>>> {
        let row = if self.constant { 0 } else { row };
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        match &self.kind {
            Kind::Null => Ok(None),
            Kind::Lists(lists) => lists.row(row),
            Kind::Any {
                dtypes,
                shapes,
                axes,
                data,
            } => {
                let ends = shapes.value_offsets();
                let axes = axes
                    .get(offset(ends, row)..offset(ends, row + 1))
                    .unwrap_or_default();
                let dims = axes
                    .iter()
                    .map(|dim| u64::try_from(*dim).unwrap_or(u64::MAX));
                let shape = Shape::new(&dims.collect::<smallvec::SmallVec<[u64; 6]>>())?;
                let view = ByteView::from(data.views().get(row).copied().unwrap_or_default());
                let is_inline = view.length <= arrow_data::MAX_INLINE_VIEW_LEN;
                let tensor = Tensor {
                    dtype: DType::parse(dtypes.value(row))?,
                    shape,
                    bytes: data.value(row),
                    at: (!is_inline).then_some((view.buffer_index, view.offset)),
                };
                fits(tensor).map(Some)
            }
        }
    }
}

fn offset(ends: &[i32], row: usize) -> usize {
    let end = ends.get(row).copied().unwrap_or_default();
    usize::try_from(end).unwrap_or_default()
}

/// A struct may be made by hand.
fn fits(tensor: Tensor<'_>) -> Result<Tensor<'_>> {
    let bytes = tensor.shape.bytes(tensor.dtype)?;
    if bytes == tensor.bytes.len() as u64 {
        return Ok(tensor);
    }
    Err(Error::invalid(format!(
        "a tensor's bytes are not as many as its dtype and shape take; dtype=`{}` shape=`{}` bytes=`{}` expected=`{bytes}`",
        tensor.dtype,
        tensor.shape,
        tensor.bytes.len()
    )))
}

impl Lists {
    fn new(array: &ArrayRef, field: &Field) -> Result<Self> {
        let is_scalar = array.data_type().is_numeric();
        let (ends, values) = match array.data_type() {
            _ if is_scalar => (Ends::Every(1), array.clone()),
            DataType::FixedSizeList(_, size) => {
                let lists = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or_default();
                (Ends::Every(size), lists.values().clone())
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                (
                    Ends::AtLarge(lists.offsets().clone()),
                    lists.values().clone(),
                )
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                (Ends::At(lists.offsets().clone()), lists.values().clone())
            }
            other => return Err(no_tensor(other)),
        };
        let mut nested = Vec::new();
        let (mut every, mut values) = (1, values);
        while let DataType::FixedSizeList(_, size) = *values.data_type() {
            if values.null_count() > 0 {
                return Err(Error::invalid(
                    "a list has a list in it that is null; expected numbers",
                ));
            }
            nested.push(u64::try_from(size).unwrap_or_default());
            every *= usize::try_from(size).unwrap_or_default();
            values = values.as_fixed_size_list().values().clone();
        }
        let dtype = dtype_of(values.data_type(), field)?;
        let (ends, shape) = match ends {
            Ends::Every(size) => {
                let mut dims = match is_scalar {
                    true => Vec::new(),
                    false => vec![size as u64],
                };
                dims.extend(nested);
                (
                    Ends::Every(size * every),
                    Some(shape_of(dims, dtype, field)?),
                )
            }
            ends => (ends, None),
        };
        let data = values.to_data();
        let width = dtype.size() / dtype.storage_per_element();
        let all = data.buffers().first().cloned().unwrap_or_default();
        Ok(Self {
            dtype,
            shape,
            ends,
            values: all.slice_with_length(data.offset() * width, data.len() * width),
            width,
            nulls: values
                .nulls()
                .filter(|nulls| nulls.null_count() > 0)
                .cloned(),
        })
    }

    fn row(&self, row: usize) -> Result<Option<Tensor<'_>>> {
        let large = |end: i64| usize::try_from(end).unwrap_or_default();
        let (from, to) = match &self.ends {
            Ends::Every(size) => (row * size, (row + 1) * size),
            Ends::At(ends) => (offset(ends, row), offset(ends, row + 1)),
            Ends::AtLarge(ends) => (large(ends[row]), large(ends[row + 1])),
        };
        let has_null = |nulls: &NullBuffer| (from..to).any(|at| nulls.is_null(at));
        if self.nulls.as_ref().is_some_and(has_null) {
            return Ok(None);
        }
        let shape = match &self.shape {
            Some(shape) => shape.clone(),
            None => Shape::new(&[(to - from) as u64])?,
        };
        fits(Tensor {
            dtype: self.dtype,
            shape,
            bytes: self
                .values
                .get(from * self.width..to * self.width)
                .unwrap_or_default(),
            at: u32::try_from(from * self.width)
                .ok()
                .map(|offset| (0, offset)),
        })
        .map(Some)
    }
}

fn dtype_of(storage: &DataType, field: &Field) -> Result<DType> {
    if let Some(name) = field.metadata().get(DTYPE_KEY) {
        let dtype = DType::parse(name)?;
        if dtype.storage() == *storage {
            return Ok(dtype);
        }
    }
    let mut natives = DType::ALL.into_iter().filter(|dtype| dtype.is_native());
    natives
        .find(|dtype| dtype.storage() == *storage)
        .ok_or_else(|| no_tensor(storage))
}

/// The shape of each row: as the extension type says it, or as the lists are nested; of complex numbers without their parts.
fn shape_of(mut dims: Vec<u64>, dtype: DType, field: &Field) -> Result<Shape> {
    let metadata = field.metadata();
    if metadata
        .get(NAME_KEY)
        .is_some_and(|name| name == FIXED_SHAPE_TENSOR)
        && let Some(json) = metadata.get(METADATA_KEY)
    {
        let tensor = FixedShapeTensor::parse(json)?;
        if let Some(permutation) = &tensor.permutation
            && !permutation.is_sorted()
        {
            return Err(Error::unimplemented(
                "tensors whose axes are permuted are not read here; put them by DoPut, or in C order",
            ));
        }
        dims = tensor.shape;
    }
    if dtype.storage_per_element() > 1 {
        dims.pop();
    }
    Shape::new(&dims)
}

fn no_tensor(of: &DataType) -> Error {
    Error::invalid(format!(
        "expected tensors, or lists of numbers of one of the dtypes; got=`{of}`"
    ))
}

/// A list that stands in the statement has whatever type its numbers look like: it is as good as one of doubles.
fn numbers(scalar: &ScalarValue) -> DfResult<ScalarValue> {
    let item = match scalar {
        ScalarValue::List(list) => list.value_type(),
        ScalarValue::LargeList(list) => list.value_type(),
        _ => return Ok(scalar.clone()),
    };
    match item {
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Int8 => {
            Ok(scalar.clone())
        }
        _ => scalar.cast_to(&DataType::new_list(DataType::Float64, true)),
    }
}
