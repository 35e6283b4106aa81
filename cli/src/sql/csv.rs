//! Values as CSV, as RFC 4180 has it: nothing at all is null, and `""` is an empty text.

use super::text::hex;
use super::value::Value;

/// Adds the line of the columns' names.
pub fn names(text: &mut String, names: &[String]) {
    line(text, names.iter().map(|name| quoted(name)));
}

/// Adds a row.
pub fn row(text: &mut String, row: &[Value<'_>]) {
    line(text, row.iter().map(field));
}

fn line(text: &mut String, fields: impl Iterator<Item = String>) {
    let fields: Vec<String> = fields.collect();
    text.push_str(&fields.join(","));
    text.push('\n');
}

/// What is of several values is JSON.
fn field(value: &Value<'_>) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.clone(),
        Value::Text(text) => quoted(text),
        Value::Told(told) => quoted(told),
        // None are an empty text as well.
        Value::Bytes(bytes) => quoted(&hex(bytes)),
        Value::List(..) | Value::Struct(_) | Value::Map(..) => {
            // There is nothing in it that cannot be JSON.
            quoted(&serde_json::to_string(value).unwrap_or_default())
        }
    }
}

fn quoted(text: &str) -> String {
    match text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
