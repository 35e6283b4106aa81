//! Values for programs: JSON that says all there is.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::text::{hex, text};
use super::value::Value;

/// Integers from here on are texts: not every reader of JSON has more than 53 bits for a number.
const INTEGER_END: u64 = 1 << 53;

/// A row, by the names of its columns.
pub struct Row<'a>(pub &'a [String], pub Vec<Value<'a>>);

/// Names of which none is twice: the second `key` is `key_2`.
pub fn distinct(names: &[String]) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut told = name.clone();
        let mut number = 2;
        while distinct.contains(&told) || (told != *name && names.contains(&told)) {
            told = format!("{name}_{number}");
            number += 1;
        }
        distinct.push(told);
    }
    distinct
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(&self.1))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Number(number) => self::number(number, serializer),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Told(told) => serializer.serialize_str(told),
            Value::Bytes(bytes) => serializer.serialize_str(&hex(bytes)),
            Value::List(values, _) => serializer.collect_seq(values),
            Value::Struct(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
            }
            Value::Map(entries, _) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    match key {
                        Value::Text(key) => map.serialize_entry(key, value)?,
                        other => map.serialize_entry(&text(other), value)?,
                    }
                }
                map.end()
            }
        }
    }
}

fn number<S: Serializer>(number: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(integer) = number.parse::<i64>() {
        return match integer.unsigned_abs() < INTEGER_END {
            true => serializer.serialize_i64(integer),
            false => serializer.serialize_str(number),
        };
    }
    // The digits of a number of 16 or 32 bits are those of the one of 64 bits that JSON has.
    match number.parse::<f64>() {
        Ok(float) if float.is_nan() => serializer.serialize_str("NaN"),
        Ok(float) if float == f64::INFINITY => serializer.serialize_str("Infinity"),
        Ok(float) if float == f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
        Ok(float) if number.contains(['.', 'e', 'E']) => serializer.serialize_f64(float),
        // An integer of more than 63 bits.
        _ => serializer.serialize_str(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let names = ["a", "a", "b", "a_2", "a"].map(str::to_owned);
        assert_eq!(distinct(&names), ["a", "a_3", "b", "a_2", "a_4"]);
    }
}
