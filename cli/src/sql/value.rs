//! The values of a column of an answer, whatever its type: `text`, `json` and `csv` say how they are written.

use std::ops::Range;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, BooleanArray, OffsetSizeTrait, make_array};
use arrow_buffer::{ArrowNativeType as _, NullBuffer};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType};

/// A value, of bytes that lie in its column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer or a floating-point number in the fewest digits that tell it from others of its type; `NaN`, `inf`.
    Number(String),
    /// A text.
    Text(&'a str),
    /// What is best told as a text: a time, a decimal number, a union.
    Told(String),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list's first values, and how many it has in all.
    List(Vec<Value<'a>>, usize),
    /// A struct.
    Struct(Vec<(&'a str, Value<'a>)>),
    /// A map's first entries, and how many it has in all.
    Map(Vec<(Value<'a>, Value<'a>)>, usize),
}

/// A column of a batch, or what is within one.
pub struct Reader<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

type At<'a, T> = Box<dyn Fn(usize) -> T + 'a>;

enum Kind<'a> {
    Bool(&'a BooleanArray),
    Number(ArrayFormatter<'a>),
    Told(ArrayFormatter<'a>),
    /// Points in time.
    Time(ArrayRef),
    Text(At<'a, &'a str>),
    Bytes(At<'a, &'a [u8]>),
    List(At<'a, Range<usize>>, Box<Reader<'a>>),
    Struct(Vec<(&'a str, Reader<'a>)>),
    Map(At<'a, Range<usize>>, Box<(Reader<'a>, Reader<'a>)>),
    Dictionary(Vec<usize>, Box<Reader<'a>>),
}

impl<'a> Reader<'a> {
    /// Reads this column.
    ///
    /// # Errors
    /// Where its type is none that can be shown.
    pub fn new(array: &'a dyn Array) -> Result<Reader<'a>, ArrowError> {
        let nulls = array.logical_nulls();
        let kind = kind(array)?;
        Ok(Reader { nulls, kind })
    }

    /// The value in this row, of whose lists at most so many values are wanted.
    pub fn value(&self, row: usize, values_max: usize) -> Value<'a> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Value::Null;
        }
        let first = |range: &Range<usize>| range.clone().take(values_max);
        match &self.kind {
            Kind::Bool(array) => Value::Bool(array.value(row)),
            Kind::Number(formatter) => Value::Number(formatter.value(row).to_string()),
            Kind::Told(formatter) => Value::Told(formatter.value(row).to_string()),
            Kind::Time(times) => {
                let formatter = ArrayFormatter::try_new(times, &FormatOptions::new());
                Value::Told(match formatter {
                    Ok(formatter) => formatter.value(row).to_string(),
                    Err(error) => error.to_string(),
                })
            }
            Kind::Text(at) => Value::Text(at(row)),
            Kind::Bytes(at) => Value::Bytes(at(row)),
            Kind::List(at, of) => {
                let range = at(row);
                let values = first(&range).map(|row| of.value(row, values_max));
                Value::List(values.collect(), range.len())
            }
            Kind::Struct(fields) => {
                let fields = fields.iter();
                let values = fields.map(|(name, field)| (*name, field.value(row, values_max)));
                Value::Struct(values.collect())
            }
            Kind::Map(at, of) => {
                let (keys, values) = &**of;
                let range = at(row);
                let entry = |row| (keys.value(row, values_max), values.value(row, values_max));
                Value::Map(first(&range).map(entry).collect(), range.len())
            }
            Kind::Dictionary(keys, of) => of.value(keys[row], values_max),
        }
    }
}

fn kind<'a>(array: &'a dyn Array) -> Result<Kind<'a>, ArrowError> {
    let formatter = || ArrayFormatter::try_new(array, &FormatOptions::new());
    let within = |values: &'a dyn Array| Reader::new(values).map(Box::new);
    Ok(match array.data_type() {
        DataType::Boolean => Kind::Bool(array.as_boolean()),
        other if other.is_integer() || other.is_floating() => Kind::Number(formatter()?),
        DataType::Utf8 => Kind::Text(Box::new(|row| array.as_string::<i32>().value(row))),
        DataType::LargeUtf8 => Kind::Text(Box::new(|row| array.as_string::<i64>().value(row))),
        DataType::Utf8View => Kind::Text(Box::new(|row| array.as_string_view().value(row))),
        DataType::Binary => Kind::Bytes(Box::new(|row| array.as_binary::<i32>().value(row))),
        DataType::LargeBinary => Kind::Bytes(Box::new(|row| array.as_binary::<i64>().value(row))),
        DataType::BinaryView => Kind::Bytes(Box::new(|row| array.as_binary_view().value(row))),
        DataType::FixedSizeBinary(_) => {
            Kind::Bytes(Box::new(|row| array.as_fixed_size_binary().value(row)))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            Kind::List(between(list.value_offsets()), within(list.values())?)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            Kind::List(between(list.value_offsets()), within(list.values())?)
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let at = from(list.value_offsets(), list.value_sizes());
            Kind::List(at, within(list.values())?)
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            let at = from(list.value_offsets(), list.value_sizes());
            Kind::List(at, within(list.values())?)
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let size = list.value_length().as_usize();
            let at = Box::new(move |row| row * size..(row + 1) * size);
            Kind::List(at, within(list.values())?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let fields = columns.map(|(column, field)| Ok((&**field.name(), Reader::new(column)?)));
            Kind::Struct(fields.collect::<Result<_, ArrowError>>()?)
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let of = (Reader::new(map.keys())?, Reader::new(map.values())?);
            Kind::Map(between(map.value_offsets()), Box::new(of))
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            // Without values all rows are null, and none is looked up.
            let keys = match values.is_empty() {
                true => Vec::new(),
                false => dictionary.normalized_keys(),
            };
            Kind::Dictionary(keys, within(values)?)
        }
        // Names of zones take a table of them; in UTC it is the same time.
        DataType::Timestamp(unit, Some(_)) => {
            let in_utc = DataType::Timestamp(*unit, Some("+00:00".into()));
            let times = array.to_data().into_builder().data_type(in_utc).build()?;
            Kind::Time(make_array(times))
        }
        _ => Kind::Told(formatter()?),
    })
}

fn between<'a, O: OffsetSizeTrait>(offsets: &'a [O]) -> At<'a, Range<usize>> {
    Box::new(|row| offsets[row].as_usize()..offsets[row + 1].as_usize())
}

fn from<'a, O: OffsetSizeTrait>(offsets: &'a [O], sizes: &'a [O]) -> At<'a, Range<usize>> {
    Box::new(|row| offsets[row].as_usize()..offsets[row].as_usize() + sizes[row].as_usize())
}
