//! Which types a column may have for what it means.

use super::Found;
use super::dictionaries::Wanted;
use crate::error::{Error, Result, clip};
use crate::field::{self, Logical};
use crate::ipc_check::{Place, Tree};
use crate::limits::MAX_QUOTED_BYTES;

/// A column of texts or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub place: Place,
    pub form: Form,
}

/// How texts or bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Behind offsets of 8 bytes (`wide`) or 4.
    Offsets { wide: bool },
    /// As views.
    Views,
    /// By indices of so many bytes, into the wanted dictionary of this number.
    Dictionary {
        number: usize,
        bytes: u64,
        signed: bool,
    },
}

/// A column of lists of integers: offsets of 8 bytes (`wide`) or 4, and integers of so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ints {
    pub place: Place,
    pub wide: bool,
    pub bytes: u64,
    pub signed: bool,
}

/// A column of names and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    pub place: Place,
    pub wide: bool,
    pub name: Text,
    pub value: Text,
}

/// How a key is made of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Text(Text),
    /// Decimal text of an integer of so many bytes.
    Int {
        place: Place,
        bytes: u64,
        signed: bool,
    },
    /// Lower-case hex of so many bytes.
    Hex {
        place: Place,
        bytes: u64,
    },
}

pub(super) fn key_kind((field, place): Found<'_>, wanted: &mut Vec<Wanted>) -> Result<KeyKind> {
    const EXPECTED: &str = "utf8, large_utf8, utf8_view, a dictionary of one of these, an integer \
                            or fixed-size binary";
    match field::logical(&field)? {
        Logical::Int { bits, signed } => Ok(KeyKind::Int {
            place,
            bytes: bits / 8,
            signed,
        }),
        // Of keys of no bytes a small message can have more than anyone can refuse one by one.
        Logical::FixedBytes(bytes) if bytes > 0 => Ok(KeyKind::Hex { place, bytes }),
        _ => text((field, place), EXPECTED, wanted).map(KeyKind::Text),
    }
}

pub(super) fn text(
    (field, place): Found<'_>,
    expected: &str,
    wanted: &mut Vec<Wanted>,
) -> Result<Text> {
    let form = match field::logical(&field)? {
        Logical::Text { wide } => Some(Form::Offsets { wide }),
        Logical::TextView => Some(Form::Views),
        Logical::Dictionary { bits, signed } => {
            dictionary(&field, wanted)?.map(|number| Form::Dictionary {
                number,
                bytes: bits / 8,
                signed,
            })
        }
        _ => None,
    };
    form.map(|form| Text { place, form })
        .ok_or_else(|| wrong(&field, expected))
}

/// The number of a dictionary of texts among those that are wanted; `None` for another one.
fn dictionary(field: &arrow_ipc::Field<'_>, wanted: &mut Vec<Wanted>) -> Result<Option<usize>> {
    let form = match field::decoded(field)? {
        Logical::Text { wide } => Form::Offsets { wide },
        Logical::TextView => Form::Views,
        _ => return Ok(None),
    };
    let Some(dictionary) = field.dictionary() else {
        return Err(Error::internal("a dictionary that is none"));
    };
    let id = dictionary.id();
    // Columns may share one.
    if let Some(number) = wanted.iter().position(|one| one.id == id) {
        let same = wanted
            .get(number)
            .is_some_and(|one| one.values.form == form);
        return if same {
            Ok(Some(number))
        } else {
            Err(wrong(field, "the same type in all columns of a dictionary"))
        };
    }
    let mut tree = Tree::default();
    let place = tree.push_decoded(*field)?;
    let values = Text { place, form };
    wanted.push(Wanted { id, tree, values });
    Ok(Some(wanted.len() - 1))
}

pub(super) fn bytes((field, place): Found<'_>) -> Result<Text> {
    let form = match field::logical(&field)? {
        Logical::Bytes { wide } => Form::Offsets { wide },
        Logical::BytesView => Form::Views,
        _ => return Err(wrong(&field, "binary, large_binary or binary_view")),
    };
    Ok(Text { place, form })
}

/// Lists of integers.
pub(super) fn shape((field, place): Found<'_>) -> Result<Ints> {
    let item = field::child(&field)
        .map(|child| field::logical(&child))
        .transpose()?;
    match (field::logical(&field)?, item) {
        (Logical::List { wide }, Some(Logical::Int { bits, signed })) => Ok(Ints {
            place,
            wide,
            bytes: bits / 8,
            signed,
        }),
        _ => Err(wrong(&field, "list<int64>")),
    }
}

pub(super) fn int64((field, place): Found<'_>) -> Result<Place> {
    match field::logical(&field)? {
        Logical::Int {
            bits: 64,
            signed: true,
        } => Ok(place),
        _ => Err(wrong(&field, "int64")),
    }
}

/// map<utf8, utf8>, or what becomes of one where there are no maps: a list of pairs. Both are a node
/// of their own, and so are the pairs, names and values.
pub(super) fn metadata((field, place): Found<'_>, wanted: &mut Vec<Wanted>) -> Result<Map> {
    const EXPECTED: &str = "map<utf8, utf8>";
    let wide = match field::logical(&field)? {
        Logical::Map => false,
        Logical::List { wide } => wide,
        _ => return Err(wrong(&field, EXPECTED)),
    };
    let pairs = field::child(&field);
    let is_struct = pairs.map(|pairs| field::logical(&pairs)).transpose()? == Some(Logical::Struct);
    let texts = pairs.and_then(|pairs| pairs.children());
    let Some(texts) = texts.filter(|texts| is_struct && texts.len() == 2) else {
        return Err(wrong(&field, EXPECTED));
    };
    let name = text((texts.get(0), place.and(2, 3)), EXPECTED, wanted)?;
    // A view has two buffers and those that it points into, which are counted apart.
    let buffers = match name.form {
        Form::Offsets { .. } => 3,
        Form::Views | Form::Dictionary { .. } => 2,
    };
    let value = place.and(3, 3 + buffers);
    Ok(Map {
        place,
        wide,
        name,
        value: text((texts.get(1), value), EXPECTED, wanted)?,
    })
}

pub(super) fn wrong(field: &arrow_ipc::Field<'_>, expected: &str) -> Error {
    Error::invalid(format!(
        "a column has the wrong type; column=`{}` type=`{}` expected {expected}",
        clip(field.name().unwrap_or_default(), MAX_QUOTED_BYTES),
        field::type_name(field)
    ))
}
