//! The column of a put that holds tensors: what its type says of dtype and shape.

use arrow_ipc::Field;
use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::{Error, Result, clip};
use crate::extension::{self, FixedShapeTensor};
use crate::field::{self, Logical};
use crate::form::Dims;
use crate::limits::{MAX_QUOTED_BYTES, MAX_RANK};
use crate::schema::DTYPE_KEY;
use crate::shape::Shape;

/// What has to be done to the values of a column to make them those of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    Plain,
    /// Bits become bytes of 0 and 1 (Arrow Boolean).
    UnpackBits,
    /// Whatever is not 0 becomes 1 (`arrow.bool8`).
    NormaliseBool8,
    /// Other bytes than 0 and 1 are refused (`uint8` with `tensor.dtype=bool`).
    CheckBool,
}

/// A tensor column, as its type describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorColumn {
    /// The column's name.
    pub name: String,
    /// The element type of what is stored in the end.
    pub dtype: DType,
    /// From the column's values to that.
    pub transform: Transform,
    /// Where rows are lists of cells: what lists.
    pub list: Option<Lists>,
    /// The physical axes of a cell as stored, so with the last axis of 2 of complex numbers.
    pub cell: Dims,
    /// Logical axis `i` of the cell is physical axis `permutation[i]`.
    pub permutation: Option<Vec<usize>>,
    /// Names of the cell's logical axes.
    pub dim_names: Option<Vec<String>>,
    /// Storage values in a cell.
    pub cell_values: u64,
    /// Values of each level of the column, from the cell (1) down to the values of a cell: one
    /// node each, behind that of the lists where there are lists.
    pub level_values: Dims,
}

/// Rows that are lists of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// Offsets of 8 bytes, not 4.
    pub wide: bool,
    /// Offsets and lengths, not offsets alone.
    pub views: bool,
    /// What says the shape of a list.
    pub shape: ListShape,
}

/// What says the shape of a list of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListShape {
    /// Its length.
    Length,
    /// The type, for all of them.
    Fixed(Dims),
    /// A column of lists of integers of so many bytes, beside that of the values in a struct:
    /// offsets of 8 bytes (`wide`) or 4.
    Beside {
        /// Offsets of 8 bytes.
        wide: bool,
        /// Of each integer.
        bytes: u64,
    },
}

impl TensorColumn {
    /// Reads a verified field. `schema_dtype` is the schema's own `tensor.dtype`, which counts
    /// where the field has none.
    ///
    /// # Errors
    /// `invalid_argument` for a type that is no tensor, or one that contradicts its metadata.
    pub fn parse(field: &Field<'_>, schema_dtype: Option<&str>) -> Result<Self> {
        let name = field.name().unwrap_or_default().to_owned();
        Self::read(field, schema_dtype, &name).map_err(|error| {
            let message = format!(
                "{}; column=`{}`",
                error.message,
                clip(&name, MAX_QUOTED_BYTES)
            );
            Error::new(error.code, message)
        })
    }

    fn read(field: &Field<'_>, schema_dtype: Option<&str>, name: &str) -> Result<Self> {
        let walked = walk(field, true)?;
        let tag = field::lookup(field.custom_metadata(), DTYPE_KEY).or(schema_dtype);
        let (dtype, transform) = walked.leaf.dtype(tag)?;
        // Of what is stored by us: bits have become bytes.
        let cell_values = checked_values(
            &walked.dims,
            (dtype.size() / dtype.storage_per_element()) as u64,
        )?;
        let column = Self {
            name: name.to_owned(),
            dtype,
            transform,
            list: walked.list,
            cell_values,
            cell: walked.dims,
            dim_names: walked.dim_names,
            permutation: walked.permutation,
            level_values: walked.level_values,
        };
        column.check_complex()?;
        let rank = column.cell.len() - (dtype.storage_per_element() - 1).min(column.cell.len());
        if rank > MAX_RANK {
            return Err(Error::invalid(format!(
                "a tensor has too many axes; rank=`{rank}` expected at most {MAX_RANK}"
            )));
        }
        Ok(column)
    }

    /// The axes of a cell as stored, in C order of what the tensor means.
    pub fn logical_cell(&self) -> Dims {
        match &self.permutation {
            None => self.cell.clone(),
            Some(order) => order
                .iter()
                .filter_map(|axis| self.cell.get(*axis).copied())
                .collect(),
        }
    }

    /// Bits of one value in the column.
    pub fn value_bits(&self) -> u64 {
        match self.transform {
            Transform::UnpackBits => 1,
            _ => 8 * self.stored_width(),
        }
    }

    /// Cells of each list, where the type says that.
    ///
    /// # Errors
    /// None for a column that was parsed.
    pub fn list_len(&self) -> Result<Option<u64>> {
        match &self.list {
            Some(Lists {
                shape: ListShape::Fixed(dims),
                ..
            }) => checked_values(dims, 1).map(Some),
            _ => Ok(None),
        }
    }

    /// Bytes of one value once it is stored.
    pub fn stored_width(&self) -> u64 {
        (self.dtype.size() / self.dtype.storage_per_element()) as u64
    }

    /// The tensor's shape out of what is stored: leading axes, and those of a cell.
    ///
    /// # Errors
    /// `invalid_argument` for too many axes, a size that is no number, or complex numbers without
    /// their last axis of 2.
    pub fn shape(&self, leading: &[u64]) -> Result<Shape> {
        let mut dims: Dims = SmallVec::from_slice(leading);
        dims.extend(self.logical_cell());
        if self.dtype.storage_per_element() > 1 && dims.pop() != Some(2) {
            return Err(Error::invalid(format!(
                "complex numbers need a last axis of 2 in storage; dtype=`{}` column=`{}` \
                 expected fixed-size lists of 2, or `tensor.shape` in the schema's metadata",
                self.dtype,
                clip(&self.name, MAX_QUOTED_BYTES)
            )));
        }
        let shape = Shape::new(&dims)?;
        shape.bytes(self.dtype)?;
        Ok(shape)
    }

    /// The last axis of complex numbers is 2, and stays the last.
    fn check_complex(&self) -> Result<()> {
        if self.dtype.storage_per_element() == 1 {
            return Ok(());
        }
        let last = self.cell.len().wrapping_sub(1);
        let moved = self
            .permutation
            .as_ref()
            .is_some_and(|order| order.last() != Some(&last));
        if moved || self.cell.last().is_some_and(|dim| *dim != 2) {
            return Err(Error::invalid(format!(
                "complex numbers need a last axis of 2 in storage; dtype=`{}` storage_cell=`{:?}`",
                self.dtype, self.cell
            )));
        }
        Ok(())
    }
}

/// A column's type from the rows down to the values.
struct Walked<'a> {
    leaf: Leaf<'a>,
    list: Option<Lists>,
    dims: Dims,
    permutation: Option<Vec<usize>>,
    dim_names: Option<Vec<String>>,
    level_values: Dims,
}

fn walk<'a>(field: &Field<'a>, top: bool) -> Result<Walked<'a>> {
    let metadata = field.custom_metadata();
    let extension = field::lookup(metadata, extension::NAME_KEY);
    let is_tensor = extension == Some(extension::FIXED_SHAPE_TENSOR);
    let logical = field::logical(field)?;
    let size = match logical {
        Logical::FixedList(size) => size,
        Logical::List { wide } | Logical::ListView { wide } if top && !is_tensor => {
            let walked = walk(&only_child(field)?, false)?;
            let json = field::lookup(metadata, extension::METADATA_KEY).unwrap_or_default();
            let shape = if extension.is_some_and(extension::is_ray_tensor) {
                ListShape::Fixed(walked.ray_shape(json)?)
            } else {
                ListShape::Length
            };
            return Ok(Walked {
                list: Some(Lists {
                    wide,
                    views: matches!(logical, Logical::ListView { .. }),
                    shape,
                }),
                ..walked
            });
        }
        Logical::Struct if top && extension == Some(extension::RAY_VARIABLE_TENSOR) => {
            return variable(field);
        }
        Logical::Bool | Logical::Int { .. } | Logical::Float { .. } if !is_tensor => {
            return Ok(Walked {
                leaf: Leaf {
                    logical,
                    is_bool8: field::lookup(metadata, extension::NAME_KEY)
                        == Some(extension::BOOL8),
                    tag: field::lookup(metadata, DTYPE_KEY),
                },
                list: None,
                dims: Dims::new(),
                permutation: None,
                dim_names: None,
                level_values: Dims::from_slice(&[1]),
            });
        }
        _ => {
            return Err(Error::invalid(format!(
                "a column's type is no tensor; type=`{}`{} expected numbers, Boolean, \
                 FixedSizeList or {} of them, one level of List, or a tensor type of Ray",
                field::type_name(field),
                if top { "" } else { " inside a list" },
                extension::FIXED_SHAPE_TENSOR,
            )));
        }
    };
    let mut walked = walk(&only_child(field)?, false)?;
    for values in &mut walked.level_values {
        *values = checked_values(&[*values, size], 1)?;
    }
    walked.level_values.insert(0, 1);
    if is_tensor {
        let json = field::lookup(metadata, extension::METADATA_KEY).unwrap_or_default();
        walked.set_cell(FixedShapeTensor::parse(json)?, size)?;
    } else {
        walked.dims.insert(0, size);
        if let Some(order) = &mut walked.permutation {
            order.iter_mut().for_each(|axis| *axis += 1);
            order.insert(0, 0);
        }
    }
    Ok(walked)
}

/// What Ray writes for tensors of different shapes: a struct of their values and shapes.
fn variable<'a>(field: &Field<'a>) -> Result<Walked<'a>> {
    let parts = field.children().filter(|parts| parts.len() == 2);
    let parts = parts.map(|parts| (parts.get(0), parts.get(1)));
    let parts =
        parts.filter(|(data, shape)| data.name() == Some("data") && shape.name() == Some("shape"));
    let refused = || {
        Error::invalid(format!(
            "a {} has another storage than Ray writes; expected a struct of `data`, lists of \
             numbers, and `shape`, lists of integers",
            extension::RAY_VARIABLE_TENSOR
        ))
    };
    let (data, shape) = parts.ok_or_else(refused)?;
    let Logical::List { wide } = field::logical(&data)? else {
        return Err(refused());
    };
    let walked = walk(&only_child(&data)?, false)?;
    let item = field::child(&shape).map(|item| field::logical(&item));
    let beside = match (field::logical(&shape)?, item.transpose()?) {
        (Logical::List { wide }, Some(Logical::Int { bits, .. })) => ListShape::Beside {
            wide,
            bytes: bits / 8,
        },
        _ => return Err(refused()),
    };
    if !walked.dims.is_empty() {
        return Err(refused());
    }
    Ok(Walked {
        list: Some(Lists {
            wide,
            views: false,
            shape: beside,
        }),
        ..walked
    })
}

impl Walked<'_> {
    /// The shape that Ray's metadata say, of lists of these values.
    fn ray_shape(&self, json: &str) -> Result<Dims> {
        let shape = extension::ray_shape(json)?;
        checked_values(&shape, 1)?;
        if self.dims.is_empty() {
            return Ok(shape);
        }
        Err(Error::invalid(
            "a tensor type of Ray has another storage than Ray writes; expected lists of numbers",
        ))
    }

    fn set_cell(&mut self, tensor: FixedShapeTensor, size: u64) -> Result<()> {
        let values = checked_values(&self.dims, 1)?.checked_mul(size);
        let shape: Dims = SmallVec::from_vec(tensor.shape);
        if values != Some(checked_values(&shape, 1)?) || self.permutation.is_some() {
            return Err(Error::invalid(format!(
                "a fixed_shape_tensor does not agree with its storage; shape=`{shape:?}` expected \
                 `{size}` values of {:?}",
                self.dims
            )));
        }
        // Names are those of physical axes; what is stored has the logical ones.
        self.dim_names = match (&tensor.permutation, tensor.dim_names) {
            (Some(order), Some(names)) => Some(
                order
                    .iter()
                    .filter_map(|axis| names.get(*axis).cloned())
                    .collect(),
            ),
            (_, names) => names,
        };
        self.dims = shape;
        self.permutation = tensor.permutation;
        Ok(())
    }
}

fn only_child<'a>(field: &Field<'a>) -> Result<Field<'a>> {
    // `logical` has counted the children of lists.
    field::child(field).ok_or_else(|| Error::invalid("a list has no values"))
}

/// The product of the axes, where `unit` times those that are not zero is a number.
fn checked_values(dims: &[u64], unit: u64) -> Result<u64> {
    let nonzero = dims
        .iter()
        .filter(|dim| **dim > 0)
        .try_fold(unit, |product, dim| product.checked_mul(*dim))
        .filter(|product| i64::try_from(*product).is_ok());
    match nonzero {
        Some(_) if dims.contains(&0) => Ok(0),
        Some(bytes) => Ok(bytes / unit),
        None => Err(Error::invalid(format!(
            "a shape is too large; shape=`{dims:?}` expected at most {} bytes",
            i64::MAX
        ))),
    }
}

/// The values at the bottom of a column.
struct Leaf<'a> {
    logical: Logical,
    is_bool8: bool,
    /// The value field's own `tensor.dtype`.
    tag: Option<&'a str>,
}

impl Leaf<'_> {
    fn dtype(&self, tag: Option<&str>) -> Result<(DType, Transform)> {
        let tag = tag.or(self.tag).map(DType::parse).transpose()?;
        let storage = native(self.logical);
        let bits = self.logical == Logical::Bool;
        let bool8 = self.is_bool8 && storage == Some(DType::Int8);
        match (tag, storage) {
            (None | Some(DType::Bool), _) if bits => Ok((DType::Bool, Transform::UnpackBits)),
            (None | Some(DType::Bool), _) if bool8 => Ok((DType::Bool, Transform::NormaliseBool8)),
            (None, Some(dtype)) => Ok((dtype, Transform::Plain)),
            (Some(dtype), Some(storage)) if dtype.storage() == storage.storage() && !bool8 => {
                let is_bool = dtype == DType::Bool;
                let transform = if is_bool {
                    Transform::CheckBool
                } else {
                    Transform::Plain
                };
                Ok((dtype, transform))
            }
            (tag, storage) => Err(Error::invalid(format!(
                "tensor.dtype does not agree with the column's values; tensor.dtype=`{}` \
                 values=`{}` expected `{}`",
                tag.map_or("", DType::name),
                storage.map_or("bool", DType::name),
                tag.map_or("number".to_owned(), |tag| tag
                    .storage()
                    .to_string()
                    .to_lowercase()),
            ))),
        }
    }
}

/// The dtype that values have by themselves.
fn native(logical: Logical) -> Option<DType> {
    Some(match logical {
        Logical::Int {
            bits: 8,
            signed: true,
        } => DType::Int8,
        Logical::Int {
            bits: 16,
            signed: true,
        } => DType::Int16,
        Logical::Int {
            bits: 32,
            signed: true,
        } => DType::Int32,
        Logical::Int {
            bits: 64,
            signed: true,
        } => DType::Int64,
        Logical::Int {
            bits: 8,
            signed: false,
        } => DType::UInt8,
        Logical::Int {
            bits: 16,
            signed: false,
        } => DType::UInt16,
        Logical::Int {
            bits: 32,
            signed: false,
        } => DType::UInt32,
        Logical::Int {
            bits: 64,
            signed: false,
        } => DType::UInt64,
        Logical::Float { bits: 16 } => DType::Float16,
        Logical::Float { bits: 32 } => DType::Float32,
        Logical::Float { bits: 64 } => DType::Float64,
        _ => return None,
    })
}
