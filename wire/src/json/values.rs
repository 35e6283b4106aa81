//! How single values look in JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::quoted;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::{MAX_JSON_INTEGER, MAX_KEY_BYTES, MAX_RANK};
use crate::name::{Key, Namespace, Tenant};
use crate::shape::Shape;
use crate::version::Version;

/// An integer of JSON, for `#[serde(with = "uint")]`: a number up to 2⁵³, a string of digits above
/// it. Strings are read whatever their value.
pub mod uint {
    use super::*;

    /// A number, or a string above 2⁵³.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *value <= MAX_JSON_INTEGER {
            serializer.serialize_u64(*value)
        } else {
            serializer.collect_str(value)
        }
    }

    /// Either of the two.
    ///
    /// # Errors
    /// Anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct UintVisitor;

        impl Visitor<'_> for UintVisitor {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer from 0 to 2^53, or a larger one as a string of digits")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
                if value > MAX_JSON_INTEGER {
                    return Err(E::invalid_value(de::Unexpected::Unsigned(value), &self));
                }
                Ok(value)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let canonical = digits && (text == "0" || !text.starts_with('0'));
                canonical
                    .then(|| text.parse().ok())
                    .flatten()
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(UintVisitor)
    }
}

/// [`uint`] as a type, where serde needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uint(#[serde(with = "uint")] pub u64);

/// A value, or `null` where that means something: the member was given either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Nullable<T>(pub Option<T>);

/// [`uint`] for an optional member, which needs `default` and `skip_serializing_if` beside it.
pub mod uint_opt {
    use super::*;

    /// As [`uint::serialize`].
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Uint).serialize(serializer)
    }

    /// As [`uint::deserialize`].
    ///
    /// # Errors
    /// Anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Option<u64>, D::Error> {
        uint::deserialize(de).map(Some)
    }
}

/// A checksum, 32 hexadecimal digits in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex128(pub u128);

impl Serialize for Hex128 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex128 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex128, D::Error> {
        text(deserializer, "32 hexadecimal digits", |digits| {
            let hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let value = hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten();
            value.map(Hex128).ok_or_else(|| {
                Error::invalid(format!(
                    "not a checksum; value=`{}` expected 32 hexadecimal digits",
                    quoted(digits)
                ))
            })
        })
    }
}

/// A list of keys of at most `MAX`; the first key too many ends the reading.
pub(crate) struct Keys<const MAX: usize>(pub Vec<Key>);

impl<'de, const MAX: usize> Deserialize<'de> for Keys<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        list(deserializer, "a list of keys", MAX).map(Keys)
    }
}

/// The prefix of keys.
pub(crate) struct Prefix(pub String);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Prefix, D::Error> {
        text(deserializer, "a prefix, which is a string", |prefix| {
            if prefix.len() > MAX_KEY_BYTES || prefix.as_bytes().contains(&0) {
                return Err(Error::invalid(format!(
                    "no key begins with the prefix; prefix=`{}` bytes=`{}` expected at most \
                     {MAX_KEY_BYTES} bytes of UTF-8 without a NUL",
                    quoted(prefix),
                    prefix.len(),
                )));
            }
            Ok(Prefix(prefix.to_owned()))
        })
    }
}

/// Reads a list of at most `max` values; `expected` completes "expected …".
pub(crate) fn list<'de, T, D>(
    deserializer: D,
    expected: &'static str,
    max: usize,
) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct ListVisitor<T>(&'static str, usize, PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = seq.next_element()? {
                if values.len() == self.1 {
                    return Err(de::Error::custom(format_args!(
                        "the list is too long; expected at most {} values",
                        self.1
                    )));
                }
                values.push(value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_seq(ListVisitor(expected, max, PhantomData))
}

/// Reads a string through `parse`; `expected` completes "expected …" where it is no string.
pub(crate) fn text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T>,
) -> Result<T, D::Error> {
    struct TextVisitor<F>(&'static str, F);

    impl<T, F: FnOnce(&str) -> Result<T>> Visitor<'_> for TextVisitor<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(|error| E::custom(error.message))
        }
    }

    deserializer.deserialize_str(TextVisitor(expected, parse))
}

/// What [`words!`] says of another word.
pub(crate) fn unknown_word(word: &str, expected: &[&str]) -> Error {
    Error::invalid(format!(
        "unknown value; value=`{}` expected one of {}",
        quoted(word),
        expected.join(", ")
    ))
}

macro_rules! deserialize_text {
    ($($name:ty, $expected:literal;)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                text(deserializer, $expected, <$name>::parse)
            }
        }
    )*};
}

deserialize_text! {
    Tenant, "a tenant, which is a string";
    Namespace, "a namespace, which is a string";
    Key, "a key, which is a string";
    DType, "the name of a dtype, which is a string";
    Version, "a version, which is a string of decimal digits";
}

impl Serialize for DType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.rank()))?;
        for dim in self.dims() {
            seq.serialize_element(&Uint(*dim))?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        let dims: Vec<Uint> = list(
            deserializer,
            "a shape, which is a list of integers",
            MAX_RANK,
        )?;
        let dims: Vec<u64> = dims.into_iter().map(|dim| dim.0).collect();
        Shape::new(&dims).map_err(|error| de::Error::custom(error.message))
    }
}
