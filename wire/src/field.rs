//! What a received field is, as far as tensors need it. Only for verified flatbuffers.

use arrow_ipc::{DateUnit, DictionaryEncoding, Field, KeyValue, Precision, Type};
use flatbuffers::{ForwardsUOffset, Vector};

use crate::error::{Error, Result, clip};
use crate::limits::MAX_QUOTED_BYTES;

/// The types that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// No values at all.
    Null,
    /// Bits.
    Bool,
    /// Integers of 8 to 64 bits.
    Int {
        /// Of each value.
        bits: u64,
        /// Two's complement.
        signed: bool,
    },
    /// Floating point of 16 to 64 bits.
    Float {
        /// Of each value.
        bits: u64,
    },
    /// UTF-8, behind offsets of 32 or 64 bits.
    Text {
        /// 64 bits.
        wide: bool,
    },
    /// Bytes, behind offsets of 32 or 64 bits.
    Bytes {
        /// 64 bits.
        wide: bool,
    },
    /// So many bytes a value.
    FixedBytes(u64),
    /// Lists, behind offsets of 32 or 64 bits.
    List {
        /// 64 bits.
        wide: bool,
    },
    /// Lists of so many values each.
    FixedList(u64),
    /// Columns side by side.
    Struct,
    /// Lists of pairs.
    Map,
    /// Dates, times, decimals and such: no tensors, but with the buffers of a primitive.
    Other {
        /// Of each value.
        bits: u64,
    },
    /// Lists as offsets and lengths, of 32 or 64 bits each.
    ListView {
        /// 64 bits.
        wide: bool,
    },
    /// Encoded by a dictionary: indices of 8 to 64 bits.
    Dictionary {
        /// Of each index.
        bits: u64,
        /// Two's complement.
        signed: bool,
    },
    /// UTF-8 as views.
    TextView,
    /// Bytes as views.
    BytesView,
    /// Unions, run-end encoding, and what a later Arrow adds.
    Unknown,
}

/// What a field is.
///
/// # Errors
/// `invalid_argument` for a type that contradicts itself: an integer of 7 bits, a list of two
/// columns, a negative size.
pub fn logical(field: &Field<'_>) -> Result<Logical> {
    let found = match field.dictionary() {
        None => return decoded(field),
        Some(dictionary) => index(&dictionary),
    };
    found.ok_or_else(|| contradicts(field))
}

/// What a field is once its dictionary is looked up.
///
/// # Errors
/// As [`logical`].
pub fn decoded(field: &Field<'_>) -> Result<Logical> {
    read(field).ok_or_else(|| contradicts(field))
}

fn contradicts(field: &Field<'_>) -> Error {
    Error::invalid(format!(
        "a column has a type that contradicts itself; column=`{}` type=`{}`",
        clip(field.name().unwrap_or_default(), MAX_QUOTED_BYTES),
        type_name(field)
    ))
}

/// The name of a field's type in Arrow's own words.
pub fn type_name(field: &Field<'_>) -> &'static str {
    match field.dictionary() {
        Some(_) => "Dictionary",
        None => field.type_type().variant_name().unwrap_or("unknown"),
    }
}

/// The one child of a list.
pub fn child<'a>(field: &Field<'a>) -> Option<Field<'a>> {
    let children = field.children()?;
    (children.len() == 1).then(|| children.get(0))
}

/// The value of a name in custom metadata; the last one, where it is there twice.
pub fn lookup<'a>(pairs: Option<Pairs<'a>>, name: &str) -> Option<&'a str> {
    let pair = pairs?.iter().rev().find(|pair| pair.key() == Some(name))?;
    pair.value()
}

/// Custom metadata of a schema or field.
pub type Pairs<'a> = Vector<'a, ForwardsUOffset<KeyValue<'a>>>;

fn index(dictionary: &DictionaryEncoding<'_>) -> Option<Logical> {
    // Without a type they are int32, as the format has it.
    let int = dictionary.indexType();
    Some(Logical::Dictionary {
        bits: width(int.map_or(32, |int| int.bitWidth()), &[8, 16, 32, 64])?,
        signed: int.is_none_or(|int| int.is_signed()),
    })
}

fn read(field: &Field<'_>) -> Option<Logical> {
    let children = field.children().map_or(0, |children| children.len());
    let found = match field.type_type() {
        Type::Null => Logical::Null,
        Type::Bool => Logical::Bool,
        Type::Int => {
            let int = field.type_as_int()?;
            Logical::Int {
                bits: width(int.bitWidth(), &[8, 16, 32, 64])?,
                signed: int.is_signed(),
            }
        }
        Type::FloatingPoint => Logical::Float {
            bits: match field.type_as_floating_point()?.precision() {
                Precision::HALF => 16,
                Precision::SINGLE => 32,
                Precision::DOUBLE => 64,
                _ => return None,
            },
        },
        Type::Utf8 => Logical::Text { wide: false },
        Type::LargeUtf8 => Logical::Text { wide: true },
        Type::Binary => Logical::Bytes { wide: false },
        Type::LargeBinary => Logical::Bytes { wide: true },
        Type::FixedSizeBinary => {
            Logical::FixedBytes(u64::try_from(field.type_as_fixed_size_binary()?.byteWidth()).ok()?)
        }
        Type::Utf8View => Logical::TextView,
        Type::BinaryView => Logical::BytesView,
        Type::ListView => Logical::ListView { wide: false },
        Type::LargeListView => Logical::ListView { wide: true },
        Type::List => Logical::List { wide: false },
        Type::LargeList => Logical::List { wide: true },
        Type::FixedSizeList => {
            Logical::FixedList(u64::try_from(field.type_as_fixed_size_list()?.listSize()).ok()?)
        }
        Type::Struct_ => Logical::Struct,
        Type::Map => Logical::Map,
        Type::Decimal => Logical::Other {
            bits: width(field.type_as_decimal()?.bitWidth(), &[32, 64, 128, 256])?,
        },
        Type::Date => Logical::Other {
            bits: match field.type_as_date()?.unit() {
                DateUnit::DAY => 32,
                DateUnit::MILLISECOND => 64,
                _ => return None,
            },
        },
        Type::Time => Logical::Other {
            bits: width(field.type_as_time()?.bitWidth(), &[32, 64])?,
        },
        Type::Timestamp | Type::Duration => Logical::Other { bits: 64 },
        _ => Logical::Unknown,
    };
    let expected = match found {
        Logical::List { .. } | Logical::ListView { .. } | Logical::FixedList(_) | Logical::Map => {
            children == 1
        }
        Logical::Struct | Logical::Unknown => true,
        _ => children == 0,
    };
    expected.then_some(found)
}

fn width(bits: i32, legal: &[u64]) -> Option<u64> {
    u64::try_from(bits).ok().filter(|bits| legal.contains(bits))
}
