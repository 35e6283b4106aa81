//! Functions of tensors.
//!
//! - here: which there are, what they take and give; each row's tensors are handed to
//! - `measure`: numbers of one tensor or two
//! - `parts`: elements and slices, and tensors as lists and bytes
//! - `histogram`: how many elements lie where
//! - `named`: `tensor('namespace', 'key')`, which is read before a query runs
//! - `order`: sorts by what functions give
//!
//! A name of SQL's aggregates would hide it: `min(bytes)` and `mean(bytes)` would no longer be of all rows. So what looks into
//! one tensor is `tensor_min`, `tensor_max` and `tensor_mean`; the rest have the names that the field has for them.

mod histogram;
mod measure;
pub mod named;
pub mod order;
mod parts;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array};
use arrow_schema::{DataType, Field, FieldRef};
use bowstring_wire::error::{Error, Result};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::DfResult;
use crate::error::passed;
use crate::limits::RESULT_BYTES_MAX;
use crate::tensor;
use crate::tensor::read::{Column, is_tensor};

/// All of them.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let functions = Which::ALL.map(|which| Arc::new(ScalarUDF::from(Function::new(which))));
    functions.into_iter().chain([named::unread()]).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    CosineSimilarity,
    L2Distance,
    Dot,
    Norm,
    Mean,
    Min,
    Max,
    ArgMin,
    ArgMax,
    Element,
    Slice,
    ToList,
    ToBinary,
    Histogram,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tensor,
    Int,
    /// One or more.
    Ints,
    Float,
}

impl Which {
    const ALL: [Self; 14] = [
        Self::CosineSimilarity,
        Self::L2Distance,
        Self::Dot,
        Self::Norm,
        Self::Mean,
        Self::Min,
        Self::Max,
        Self::ArgMin,
        Self::ArgMax,
        Self::Element,
        Self::Slice,
        Self::ToList,
        Self::ToBinary,
        Self::Histogram,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CosineSimilarity => "cosine_similarity",
            Self::L2Distance => "l2_distance",
            Self::Dot => "dot",
            Self::Norm => "norm",
            Self::Mean => "tensor_mean",
            Self::Min => "tensor_min",
            Self::Max => "tensor_max",
            Self::ArgMin => "argmin",
            Self::ArgMax => "argmax",
            Self::Element => "element",
            Self::Slice => "slice",
            Self::ToList => "to_list",
            Self::ToBinary => "to_binary",
            Self::Histogram => "histogram",
        }
    }

    fn takes(self) -> &'static [Kind] {
        use Kind::{Float, Int, Ints, Tensor};
        match self {
            Self::CosineSimilarity | Self::L2Distance | Self::Dot => &[Tensor, Tensor],
            Self::Element => &[Tensor, Ints],
            Self::Slice => &[Tensor, Int, Int],
            Self::Histogram => &[Tensor, Int, Float, Float],
            _ => &[Tensor],
        }
    }

    fn gives(self) -> Field {
        let list = |of| DataType::List(Arc::new(Field::new("item", of, true)));
        let of = match self {
            Self::Slice => return tensor::field(self.name()).with_nullable(true),
            Self::ArgMin | Self::ArgMax => DataType::Int64,
            Self::ToList => list(DataType::Float64),
            Self::Histogram => list(DataType::Int64),
            Self::ToBinary => DataType::BinaryView,
            _ => DataType::Float64,
        };
        Field::new(self.name(), of, true)
    }

    /// For people.
    fn shown(self) -> &'static str {
        match self {
            Self::CosineSimilarity | Self::L2Distance | Self::Dot => "(tensor, tensor)",
            Self::Element => "(tensor, index, …), with an index for each axis",
            Self::Slice => "(tensor, start, end)",
            Self::Histogram => "(tensor, buckets, low, high)",
            _ => "(tensor)",
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    which: Which,
    signature: Signature,
}

impl Function {
    fn new(which: Which) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { which, signature }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.which.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let takes = self.which.takes();
        let wrong = || {
            let given: Vec<String> = given.iter().map(DataType::to_string).collect();
            DataFusionError::Plan(format!(
                "a function has other arguments than it takes; function=`{name}` got=`({})` expected=`{name}{}`, where a \
                 tensor is a column `value`, tensor('namespace', 'key') or a list of numbers",
                given.join(", "),
                self.which.shown(),
                name = self.which.name(),
            ))
        };
        let many = takes.last() == Some(&Kind::Ints) && given.len() >= takes.len();
        if given.len() != takes.len() && !many {
            return Err(wrong());
        }
        let kinds = takes.iter().chain(std::iter::repeat(&Kind::Ints));
        let coerced = given.iter().zip(kinds).map(|(given, kind)| match kind {
            Kind::Tensor if is_tensor(given) => Ok(given.clone()),
            Kind::Int | Kind::Ints if given.is_integer() || given.is_null() => Ok(DataType::Int64),
            Kind::Float if given.is_numeric() || given.is_null() => Ok(DataType::Float64),
            _ => Err(wrong()),
        });
        coerced.collect()
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.which.gives().data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::new(self.which.gives()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let made = self.call(&args, rows)?;
        Ok(match constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
            false => ColumnarValue::Array(made),
        })
    }
}

impl Function {
    fn call(&self, args: &ScalarFunctionArgs, rows: usize) -> DfResult<ArrayRef> {
        let name = self.which.name();
        let mut tensors = Vec::new();
        let mut ints = Vec::new();
        let mut floats = Vec::new();
        let kinds = self
            .which
            .takes()
            .iter()
            .chain(std::iter::repeat(&Kind::Ints));
        for ((value, field), kind) in args.args.iter().zip(&args.arg_fields).zip(kinds) {
            match kind {
                Kind::Tensor => tensors.push(Column::new(value, field)?),
                Kind::Int | Kind::Ints => ints.push(numbers::<Int64Type>(value, rows)?),
                Kind::Float => floats.push(numbers::<Float64Type>(value, rows)?),
            }
        }
        let floats = |at| -> &Float64Array { &floats[at] };
        let ints: &[Int64Array] = &ints;
        let of = &tensors[0];
        let made = match self.which {
            Which::CosineSimilarity => measure::cosine_similarity(name, &tensors, rows),
            Which::L2Distance => measure::l2_distance(name, &tensors, rows),
            Which::Dot => measure::dot(name, &tensors, rows),
            Which::Norm => measure::norm(name, of, rows),
            Which::Mean => measure::mean(name, of, rows),
            Which::Min => measure::extreme(name, of, rows, |value, best| value < best),
            Which::Max => measure::extreme(name, of, rows, |value, best| value > best),
            Which::ArgMin => measure::index_of_extreme(name, of, rows, |value, best| value < best),
            Which::ArgMax => measure::index_of_extreme(name, of, rows, |value, best| value > best),
            Which::Element => parts::element(name, of, ints, rows),
            Which::Slice => return parts::slice(of, &ints[0], &ints[1], rows),
            Which::ToList => parts::to_list(name, of, rows),
            Which::ToBinary => return parts::to_binary(of, rows),
            Which::Histogram => {
                histogram::histogram(name, of, &ints[0], (floats(0), floats(1)), rows)
            }
        };
        made.map_err(passed)
    }
}

fn numbers<T: arrow_array::ArrowPrimitiveType>(
    value: &ColumnarValue,
    rows: usize,
) -> DfResult<arrow_array::PrimitiveArray<T>> {
    let array = value.to_array(rows)?;
    let numbers = array.as_primitive_opt::<T>().cloned();
    numbers.ok_or_else(|| {
        DataFusionError::Internal(format!(
            "an argument was not cast; type=`{}`",
            array.data_type()
        ))
    })
}

/// Refuses what would make more of a batch than a query can be asked to hold.
fn check_room(function: &str, bytes: usize) -> Result<()> {
    if bytes <= RESULT_BYTES_MAX {
        return Ok(());
    }
    Err(Error::exhausted(format!(
        "what a function makes of a batch is too large; make less of each tensor, with `slice`, or ask for fewer rows; \
         function=`{function}` limit_bytes=`{RESULT_BYTES_MAX}`"
    )))
}
