//! Element types, their fixed numbers and their Arrow storage.

use std::fmt;

use arrow_schema::DataType;

use crate::error::{Error, Result, clip};
use crate::limits::MAX_QUOTED_BYTES;

/// The type of a tensor's elements.
///
/// The numbers are persisted and on the wire: never change or reuse one. 0 stays free for "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DType {
    Int8 = 1,
    Int16 = 2,
    Int32 = 3,
    Int64 = 4,
    UInt8 = 5,
    UInt16 = 6,
    UInt32 = 7,
    UInt64 = 8,
    Float16 = 9,
    Float32 = 10,
    Float64 = 11,
    Bool = 12,
    BFloat16 = 13,
    Float8E4M3Fn = 14,
    Float8E5M2 = 15,
    Complex64 = 16,
    Complex128 = 17,
}

impl DType {
    /// Every dtype, in the order of their numbers.
    pub const ALL: [DType; 17] = [
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::UInt8,
        DType::UInt16,
        DType::UInt32,
        DType::UInt64,
        DType::Float16,
        DType::Float32,
        DType::Float64,
        DType::Bool,
        DType::BFloat16,
        DType::Float8E4M3Fn,
        DType::Float8E5M2,
        DType::Complex64,
        DType::Complex128,
    ];

    /// The name in tickets, metadata and messages.
    pub fn name(self) -> &'static str {
        match self {
            DType::Int8 => "int8",
            DType::Int16 => "int16",
            DType::Int32 => "int32",
            DType::Int64 => "int64",
            DType::UInt8 => "uint8",
            DType::UInt16 => "uint16",
            DType::UInt32 => "uint32",
            DType::UInt64 => "uint64",
            DType::Float16 => "float16",
            DType::Float32 => "float32",
            DType::Float64 => "float64",
            DType::Bool => "bool",
            DType::BFloat16 => "bfloat16",
            DType::Float8E4M3Fn => "float8_e4m3fn",
            DType::Float8E5M2 => "float8_e5m2",
            DType::Complex64 => "complex64",
            DType::Complex128 => "complex128",
        }
    }

    /// The dtype of a name.
    ///
    /// # Errors
    /// `invalid_argument` that lists the names.
    pub fn parse(name: &str) -> Result<DType> {
        match DType::ALL.into_iter().find(|dtype| dtype.name() == name) {
            Some(dtype) => Ok(dtype),
            None => Err(Error::invalid(format!(
                "unknown dtype; dtype=`{}` expected one of {}",
                clip(name, MAX_QUOTED_BYTES),
                DType::ALL.map(DType::name).join(", "),
            ))),
        }
    }

    /// Bytes of one logical element (16 for `complex128`).
    pub fn size(self) -> usize {
        match self {
            DType::Int8 | DType::UInt8 | DType::Bool | DType::Float8E4M3Fn | DType::Float8E5M2 => 1,
            DType::Int16 | DType::UInt16 | DType::Float16 | DType::BFloat16 => 2,
            DType::Int32 | DType::UInt32 | DType::Float32 => 4,
            DType::Int64 | DType::UInt64 | DType::Float64 | DType::Complex64 => 8,
            DType::Complex128 => 16,
        }
    }

    /// The Arrow primitive that stores one part of an element.
    pub fn storage(self) -> DataType {
        match self {
            DType::Int8 => DataType::Int8,
            DType::Int16 => DataType::Int16,
            DType::Int32 => DataType::Int32,
            DType::Int64 => DataType::Int64,
            DType::UInt8 | DType::Bool | DType::Float8E4M3Fn | DType::Float8E5M2 => DataType::UInt8,
            DType::UInt16 | DType::BFloat16 => DataType::UInt16,
            DType::UInt32 => DataType::UInt32,
            DType::UInt64 => DataType::UInt64,
            DType::Float16 => DataType::Float16,
            DType::Float32 | DType::Complex64 => DataType::Float32,
            DType::Float64 | DType::Complex128 => DataType::Float64,
        }
    }

    /// How many storage values make one element: 2 (real, imaginary) for complex, else 1.
    pub fn storage_per_element(self) -> usize {
        match self {
            DType::Complex64 | DType::Complex128 => 2,
            _ => 1,
        }
    }

    /// The fixed number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The dtype of a fixed number; `None` for one that this version does not know.
    pub fn from_code(code: u8) -> Option<DType> {
        DType::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// True where the Arrow storage alone says the dtype, so that no `tensor.dtype` is needed on
    /// the field.
    pub fn is_native(self) -> bool {
        !matches!(
            self,
            DType::Bool
                | DType::BFloat16
                | DType::Float8E4M3Fn
                | DType::Float8E5M2
                | DType::Complex64
                | DType::Complex128
        )
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_find_back() {
        for dtype in DType::ALL {
            assert_eq!(DType::parse(dtype.name()), Ok(dtype));
            assert_eq!(DType::from_code(dtype.code()), Some(dtype));
        }
        assert_eq!(DType::from_code(0), None);
        assert_eq!(DType::from_code(18), None);
        let refused = DType::parse("Float32").unwrap_err().to_string();
        assert!(
            refused.starts_with("invalid_argument: unknown dtype; dtype=`Float32` expected one of"),
            "{refused}"
        );
    }

    #[test]
    fn storage_fills_the_element_exactly() {
        for dtype in DType::ALL {
            let storage = dtype.storage();
            let width = storage.primitive_width().unwrap();
            assert_eq!(width * dtype.storage_per_element(), dtype.size(), "{dtype}");
            let native = storage.to_string().to_lowercase() == dtype.name();
            assert_eq!(native, dtype.is_native(), "{dtype}");
        }
    }

    #[test]
    fn the_numbers_are_for_ever() {
        let numbers: Vec<(u8, &str)> = DType::ALL.map(|d| (d.code(), d.name())).to_vec();
        assert_eq!(numbers[0], (1, "int8"));
        assert_eq!(numbers[9], (10, "float32"));
        assert_eq!(numbers[11], (12, "bool"));
        assert_eq!(numbers[16], (17, "complex128"));
    }
}
