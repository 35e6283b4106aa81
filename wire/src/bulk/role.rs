//! Which types a column may have for what it means.

use crate::error::{Error, Result, clip};
use crate::field::{self, Logical};
use crate::ipc_check::Place;
use crate::limits::MAX_QUOTED_BYTES;

type Found<'a> = (arrow_ipc::Field<'a>, Place);

/// A column of texts, bytes or lists: offsets of 8 bytes (`wide`) or 4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub place: Place,
    pub wide: bool,
}

/// How a key is made of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Text {
        wide: bool,
    },
    /// Decimal text of an integer of so many bytes.
    Int {
        bytes: u64,
        signed: bool,
    },
    /// Lower-case hex of so many bytes.
    Hex {
        bytes: u64,
    },
}

pub(super) fn key_kind(field: &arrow_ipc::Field<'_>) -> Result<KeyKind> {
    match field::logical(field)? {
        Logical::Text { wide } => Ok(KeyKind::Text { wide }),
        Logical::Int { bits, signed } => Ok(KeyKind::Int {
            bytes: bits / 8,
            signed,
        }),
        // Of keys of no bytes a small message can have more than anyone can refuse one by one.
        Logical::FixedBytes(bytes) if bytes > 0 => Ok(KeyKind::Hex { bytes }),
        _ => Err(wrong(
            field,
            "utf8, large_utf8, an integer or fixed-size binary",
        )),
    }
}

pub(super) fn text((field, place): Found<'_>, expected: &str) -> Result<Text> {
    match field::logical(&field)? {
        Logical::Text { wide } => Ok(Text { place, wide }),
        _ => Err(wrong(&field, expected)),
    }
}

pub(super) fn bytes((field, place): Found<'_>) -> Result<Text> {
    match field::logical(&field)? {
        Logical::Bytes { wide } => Ok(Text { place, wide }),
        _ => Err(wrong(&field, "binary or large_binary")),
    }
}

/// Lists of int64.
pub(super) fn shape((field, place): Found<'_>) -> Result<Text> {
    let int64 = Logical::Int {
        bits: 64,
        signed: true,
    };
    let item = field::child(&field)
        .map(|child| field::logical(&child))
        .transpose()?;
    match field::logical(&field)? {
        Logical::List { wide } if item == Some(int64) => Ok(Text { place, wide }),
        _ => Err(wrong(&field, "list<int64>")),
    }
}

pub(super) fn ttl_ms((field, place): Found<'_>) -> Result<Place> {
    match field::logical(&field)? {
        Logical::Int {
            bits: 64,
            signed: true,
        } => Ok(place),
        _ => Err(wrong(&field, "int64")),
    }
}

/// map<utf8, utf8>: the map, its pairs, names and values are a node each.
pub(super) fn metadata((field, place): Found<'_>) -> Result<Place> {
    let is_map = field::logical(&field)? == Logical::Map;
    let pairs = field::child(&field).and_then(|pairs| pairs.children());
    let texts = pairs
        .into_iter()
        .flatten()
        .map(|text| field::logical(&text));
    let texts: Vec<Logical> = texts.collect::<Result<_>>()?;
    let text = Logical::Text { wide: false };
    if is_map && texts == [text, text] {
        return Ok(place);
    }
    Err(wrong(&field, "map<utf8, utf8>"))
}

fn wrong(field: &arrow_ipc::Field<'_>, expected: &str) -> Error {
    if let Ok(Logical::View | Logical::Dictionary) = field::logical(field) {
        return Error::unimplemented(format!(
            "views and dictionaries are not built yet; column=`{}` type=`{}` expected {expected}",
            clip(field.name().unwrap_or_default(), MAX_QUOTED_BYTES),
            field::type_name(field)
        ));
    }
    Error::invalid(format!(
        "a column has the wrong type; column=`{}` type=`{}` expected {expected}",
        clip(field.name().unwrap_or_default(), MAX_QUOTED_BYTES),
        field::type_name(field)
    ))
}
