//! Values for people: short, one line each, and never the bytes of a tensor.

use console::Style;

use super::value::Value;
use crate::human::{count, shown};
use crate::table::Cell;

/// Values of a list, entries of a map that are shown.
pub const VALUES_MAX: usize = 8;
/// Bytes that are shown, and not counted.
const BYTES_MAX: usize = 16;

/// A cell of a table.
pub fn cell(value: &Value<'_>) -> Cell {
    match value {
        Value::Null => Cell::styled("NULL", Style::new().dim()),
        other => Cell::from(text(other)),
    }
}

/// In one line.
pub fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.clone(),
        Value::Text(text) => shown(text).into_owned(),
        Value::Told(told) => shown(told).into_owned(),
        Value::Bytes(bytes) if bytes.len() <= BYTES_MAX => format!("\\x{}", hex(bytes)),
        Value::Bytes(bytes) => format!("<{} bytes>", count(bytes.len() as u64)),
        Value::List(values, all) => {
            let values = values.iter().map(text).collect();
            format!("[{}]", joined(values, *all))
        }
        Value::Map(entries, all) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, value)| format!("{}: {}", text(key), text(value)));
            format!("{{{}}}", joined(entries.collect(), *all))
        }
        Value::Struct(fields) => tensor(fields).unwrap_or_else(|| {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| format!("{}: {}", shown(name), text(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }),
    }
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
    digits.collect()
}

/// `<50 x float32>`, where a struct is a tensor: dtype, shape and bytes.
fn tensor(fields: &[(&str, Value<'_>)]) -> Option<String> {
    let [
        ("dtype", Value::Text(dtype)),
        ("shape", Value::List(shape, rank)),
        ("data", Value::Bytes(_)),
    ] = fields
    else {
        return None;
    };
    let mut parts: Vec<String> = shape.iter().map(text).collect();
    if shape.len() < *rank {
        parts.push("…".to_owned());
    }
    parts.push(shown(dtype).into_owned());
    Some(format!("<{}>", parts.join(" x ")))
}

fn joined(mut parts: Vec<String>, all: usize) -> String {
    let left = all - parts.len();
    if left > 0 {
        parts.push(format!("… {} more", count(left as u64)));
    }
    parts.join(", ")
}
