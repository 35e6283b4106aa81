//! Arrow extension types of tensors: the metadata of `arrow.fixed_shape_tensor`, and the names.
//!
//! Our own codec, because arrow-rs's does not work with PyArrow's, either way: it writes
//! `dim_names: null`, which makes PyArrow refuse the whole schema, misspells `permutation`, and
//! refuses what PyArrow writes.

use std::fmt::Write;

use serde::Deserialize;

use crate::error::{Error, Result, clip};
use crate::form::Dims;
use crate::limits::{MAX_QUOTED_BYTES, MAX_RANK};

/// Field metadata: the name of the extension type.
pub const NAME_KEY: &str = "ARROW:extension:name";
/// Field metadata: the extension type's own text.
pub const METADATA_KEY: &str = "ARROW:extension:metadata";

/// One tensor of the same shape in each row, stored as a fixed-size list.
pub const FIXED_SHAPE_TENSOR: &str = "arrow.fixed_shape_tensor";
/// A byte a value, where zero is false and all else true.
pub const BOOL8: &str = "arrow.bool8";

/// Tensors of one shape as Ray Data writes them: lists, whose shape is in the metadata. The second
/// has wide offsets.
const RAY_TENSORS: [&str; 2] = ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2"];
/// Tensors of different shapes as Ray Data writes them: a struct of values and shape.
pub const RAY_VARIABLE_TENSOR: &str = "ray.data.arrow_variable_shaped_tensor";

/// Whether an extension type is one of Ray's for tensors of one shape.
pub fn is_ray_tensor(name: &str) -> bool {
    RAY_TENSORS.contains(&name)
}

/// Reads the metadata of Ray's tensors of one shape: the shape as JSON.
///
/// # Errors
/// `invalid_argument`; for Python's pickle too, which some releases of Ray write there.
pub fn ray_shape(json: &str) -> Result<Dims> {
    let shape: Option<Vec<u64>> = serde_json::from_str(json).ok();
    let shape = shape.filter(|shape| shape.iter().all(|dim| i64::try_from(*dim).is_ok()));
    shape.map(Dims::from_vec).ok_or_else(|| {
        Error::invalid(format!(
            "a tensor type of Ray says its shape in a way that is not read; metadata=`{}` expected \
             a JSON array of lengths, as Ray writes it from 2.55 on",
            clip(json, MAX_QUOTED_BYTES).escape_debug()
        ))
    })
}

/// What the metadata of `arrow.fixed_shape_tensor` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedShapeTensor {
    /// The physical shape of one row: how its values lie, in C order.
    pub shape: Vec<u64>,
    /// Logical axis `i` is physical axis `permutation[i]`.
    pub permutation: Option<Vec<usize>>,
    /// Names of the physical axes.
    pub dim_names: Option<Vec<String>>,
}

/// The metadata that we write: exactly `{"shape":[…]}`, which PyArrow and arrow-rs both read.
pub fn encode(shape: &[u64]) -> String {
    let mut json = String::with_capacity(12 + 6 * shape.len());
    json.push_str("{\"shape\":[");
    for (axis, dim) in shape.iter().enumerate() {
        let comma = if axis > 0 { "," } else { "" };
        // Writing into a string cannot fail.
        let _ = write!(json, "{comma}{dim}");
    }
    json.push_str("]}");
    json
}

impl FixedShapeTensor {
    /// Reads what PyArrow, C++ and arrow-rs write.
    ///
    /// # Errors
    /// `invalid_argument`: not that JSON, a negative axis, too many axes, or a `permutation` or
    /// `dim_names` that does not fit the shape.
    pub fn parse(json: &str) -> Result<Self> {
        let members: Members = serde_json::from_str(json).map_err(|error| {
            refused(&format!(
                "{}; json=`{}`",
                clip(&error.to_string(), MAX_QUOTED_BYTES),
                clip(json, MAX_QUOTED_BYTES)
            ))
        })?;
        let rank = members.shape.len();
        // Complex numbers have one axis more in storage.
        if rank > MAX_RANK + 1 {
            return Err(refused(&format!(
                "too many axes; rank=`{rank}` expected at most {MAX_RANK}"
            )));
        }
        let shape = members.shape.iter().map(|dim| u64::try_from(*dim));
        let shape: Vec<u64> = shape.collect::<Result<_, _>>().map_err(|_| {
            refused(&format!(
                "a negative axis; shape=`{:?}` expected none below 0",
                members.shape
            ))
        })?;
        if members.permutation.is_some() && members.permutations.is_some() {
            return Err(refused(
                "both `permutation` and `permutations`; expected one of them",
            ));
        }
        let permutation = members.permutation.or(members.permutations);
        if let Some(permutation) = &permutation {
            check_permutation(permutation, rank)?;
        }
        if let Some(names) = &members.dim_names
            && names.len() != rank
        {
            return Err(refused(&format!(
                "dim_names that do not fit; names=`{}` expected `{rank}`, one an axis",
                names.len()
            )));
        }
        let in_order = |p: &Vec<usize>| p.iter().enumerate().all(|(i, axis)| i == *axis);
        Ok(Self {
            shape,
            permutation: permutation.filter(|permutation| !in_order(permutation)),
            dim_names: members.dim_names,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    shape: Vec<i64>,
    permutation: Option<Vec<usize>>,
    /// arrow-rs's spelling.
    permutations: Option<Vec<usize>>,
    dim_names: Option<Vec<String>>,
}

fn check_permutation(permutation: &[usize], rank: usize) -> Result<()> {
    let mut seen = [false; MAX_RANK + 1];
    let fits = permutation.len() == rank
        && permutation.iter().all(|axis| {
            *axis < rank
                && seen
                    .get_mut(*axis)
                    .is_some_and(|seen| !std::mem::replace(seen, true))
        });
    if fits {
        return Ok(());
    }
    let shown = &permutation[..permutation.len().min(MAX_RANK)];
    Err(refused(&format!(
        "a permutation that is none; permutation=`{shown:?}` expected each of 0 to rank-1 once; \
         rank=`{rank}`"
    )))
}

fn refused(what: &str) -> Error {
    Error::invalid(format!(
        "the metadata of {FIXED_SHAPE_TENSOR} has {}",
        what.replace('\n', " ")
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn written_exactly_so() {
        assert_eq!(encode(&[]), r#"{"shape":[]}"#);
        assert_eq!(encode(&[3]), r#"{"shape":[3]}"#);
        assert_eq!(encode(&[3, 0, 5]), r#"{"shape":[3,0,5]}"#);
    }

    #[test]
    fn what_pyarrow_and_arrow_rs_write_is_read() {
        let pyarrow = r#"{"shape":[2,3,4],"permutation":[2,0,1],"dim_names":["C","H","W"]}"#;
        let read = FixedShapeTensor::parse(pyarrow).unwrap();
        assert_eq!(read.shape, [2, 3, 4]);
        assert_eq!(read.permutation, Some(vec![2, 0, 1]));
        assert_eq!(read.dim_names.unwrap(), ["C", "H", "W"]);
        let arrow_rs = r#"{"shape":[2,3],"dim_names":null,"permutations":[1,0]}"#;
        let read = FixedShapeTensor::parse(arrow_rs).unwrap();
        assert_eq!(read.permutation, Some(vec![1, 0]));
        assert_eq!(read.dim_names, None);
    }

    #[test]
    fn a_permutation_in_order_is_none() {
        let read = FixedShapeTensor::parse(r#"{"shape":[2,3],"permutation":[0,1]}"#);
        assert_eq!(read.unwrap().permutation, None);
    }

    #[test]
    fn lies_are_refused_with_what_was_expected() {
        let many = format!(r#"{{"shape":[{}1]}}"#, "1,".repeat(64));
        for (json, says) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            ("{}", "missing field `shape`"),
            (r#"{"shape":[-1]}"#, "negative axis"),
            (r#"{"shape":[1.5]}"#, "invalid type"),
            (r#"{"shape":[9223372036854775808]}"#, "invalid value"),
            (r#"{"shape":[1],"strides":[1]}"#, "unknown field `strides`"),
            (r#"{"shape":[1],"shape":[2]}"#, "duplicate field"),
            (r#"{"shape":[1,1],"permutation":[0]}"#, "expected each of"),
            (r#"{"shape":[1,1],"permutation":[0,0]}"#, "expected each of"),
            (r#"{"shape":[1,1],"permutation":[0,2]}"#, "expected each of"),
            (r#"{"shape":[1,1],"permutation":[0,-1]}"#, "invalid value"),
            (
                r#"{"shape":[1],"dim_names":[]}"#,
                "dim_names that do not fit",
            ),
            (
                r#"{"shape":[1],"permutation":[0],"permutations":[0]}"#,
                "expected one of them",
            ),
            (many.as_str(), "too many axes; rank=`65`"),
        ] {
            let refused = FixedShapeTensor::parse(json).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused} / {says}");
            assert!(refused.starts_with("invalid_argument: "), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(shape in prop::collection::vec(0..=i64::MAX as u64, 0..=MAX_RANK)) {
            let read = FixedShapeTensor::parse(&encode(&shape)).unwrap();
            prop_assert_eq!(read, FixedShapeTensor { shape, permutation: None, dim_names: None });
        }

        #[test]
        fn any_text_is_an_answer(json in "\\PC*") {
            let _ = FixedShapeTensor::parse(&json);
        }
    }
}
