//! The strict JSON reader under tickets, commands and action bodies.
//!
//! UTF-8, at most [`MAX_JSON_BYTES`], one object. Unknown and duplicate members are refused by
//! name, `null` is never "not given", and every member has a type, so nothing nests deeper than
//! its type says. Integers above 2⁵³ travel as strings, because many readers round them.
//!
//! serde_json reads straight into the typed members: a small ticket costs its strings and no tree.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::error::{Error, Result, clip};
use crate::limits::{MAX_ERROR_BYTES, MAX_JSON_BYTES, MAX_QUOTED_BYTES};

pub(crate) use values::{Hex128, Keys, Nullable, Prefix, Uint, list, text, unknown_word};
pub use values::{uint, uint_opt};

mod values;

/// True where a ticket or command is this project's JSON: its first byte is `{`. Anything else is
/// tried as Flight SQL's protobuf `Any`.
pub fn is_ours(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'{')
}

/// A JSON object with a fixed set of members, none of them required by the reader. Made by
/// [`object!`].
pub(crate) trait Object: Default {
    /// How messages call it: `ticket`.
    const WHAT: &'static str;
    /// The members' names.
    const MEMBERS: &'static [&'static str];

    /// Takes the value of a member, whose name is one of [`Object::MEMBERS`]. `false` where it
    /// was given before.
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A)
    -> Result<bool, A::Error>;
}

/// A struct of optional members and its [`Object`]: the names in JSON are those of the fields.
macro_rules! object {
    ($(#[$doc:meta])* $vis:vis struct $name:ident as $what:literal { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        $vis struct $name { $(pub(crate) $field: Option<$type>),* }

        impl $crate::json::Object for $name {
            const WHAT: &'static str = $what;
            const MEMBERS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn member<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(if name == stringify!($field) {
                    if self.$field.is_some() {
                        return Ok(false);
                    }
                    self.$field = Some(map.next_value()?);
                    return Ok(true);
                })*
                let _ = (name, map);
                Ok(true)
            }
        }
    };
}
pub(crate) use object;

/// An object as the value of a member.
#[derive(Debug)]
pub(crate) struct Nested<T>(pub T);

impl<'de, T: Object> serde::Deserialize<'de> for Nested<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nested<T>, D::Error> {
        let at = Cell::new(None);
        let object = ObjectSeed(&at, PhantomData).deserialize(deserializer);
        object.map(Nested).map_err(|error| match at.get() {
            // The reader around names its own member only.
            Some(member) => de::Error::custom(format_args!("`{member}`: {error}")),
            None => error,
        })
    }
}

/// An enum that is one of a few words in JSON.
macro_rules! words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$word_doc])* $word),* }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [$name] = &[$($name::$word),*];

            /// The word in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$word => $text),* }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                $crate::json::text(deserializer, "a string", |word: &str| {
                    let found = $name::ALL.iter().find(|known| known.as_str() == word);
                    found.copied().ok_or_else(|| {
                        $crate::json::unknown_word(word, &[$($text),*])
                    })
                })
            }
        }
    };
}
pub(crate) use words;

/// Reads one object.
///
/// # Errors
/// `resource_exhausted` past the size limit; `invalid_argument`, with what was wrong and what was
/// expected, for everything else.
pub(crate) fn read<T: Object>(bytes: &[u8]) -> Result<T> {
    let what = T::WHAT;
    if bytes.len() > MAX_JSON_BYTES {
        return Err(Error::exhausted(format!(
            "{what} is too large; bytes=`{}` expected at most {MAX_JSON_BYTES}",
            bytes.len()
        )));
    }
    if !is_ours(bytes) {
        return Err(Error::invalid(format!(
            "{what} is not a JSON object; expected its first byte to be {{"
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::invalid(format!(
            "{what} is not UTF-8; byte=`{}` expected JSON in UTF-8",
            error.valid_up_to()
        ))
    })?;

    let at = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let object = ObjectSeed(&at, PhantomData).deserialize(&mut deserializer);
    object
        .and_then(|object| deserializer.end().map(|()| object))
        .map_err(|error| explain(what, at.get(), &error))
}

/// Reads one object, which may be left out altogether: no bytes are `{}`.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_or_nothing<T: Object>(bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() {
        return Ok(T::default());
    }
    read(bytes)
}

/// Reads a reply of the other end. Unknown members are skipped here: a server may be newer than
/// its client.
///
/// # Errors
/// `internal`: the other end broke the contract.
pub fn read_reply<T: de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let error = error.to_string();
        Error::internal(format!(
            "{what} is not what was expected: {}",
            clip(&error, MAX_ERROR_BYTES / 2)
        ))
    })
}

/// The JSON of a value of this crate: string keys only and no I/O, so that it cannot fail.
pub fn to_string<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        debug_assert!(false, "{error}");
        String::from("{}")
    })
}

/// The member, or an error that it has to be there.
pub(crate) fn required<T>(what: &str, name: &str, member: Option<T>) -> Result<T> {
    member.ok_or_else(|| {
        Error::invalid(format!(
            "{what} lacks a member; expected member=`{name}` to be given"
        ))
    })
}

/// A short, printable form of what a stranger sent.
pub(crate) fn quoted(text: &str) -> String {
    clip(text, MAX_QUOTED_BYTES).escape_debug().to_string()
}

/// Reads an [`Object`]; the cell names the member whose value is being read.
struct ObjectSeed<'a, T>(&'a Cell<Option<&'static str>>, PhantomData<T>);

impl<'de, T: Object> DeserializeSeed<'de> for ObjectSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Object> Visitor<'de> for ObjectSeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(name) = map.next_key_seed(MemberSeed(T::MEMBERS))? {
            self.0.set(Some(name));
            let first = object.member(name, &mut map)?;
            self.0.set(None);
            if !first {
                return Err(de::Error::custom(format_args!(
                    "has a member twice; member=`{name}` expected it once"
                )));
            }
        }
        Ok(object)
    }
}

/// Reads a member's name as one of those that are known.
struct MemberSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberSeed {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<&'static str, E> {
        let known = self.0.iter().find(|known| **known == name);
        known.copied().ok_or_else(|| {
            let expected = match self.0 {
                [] => String::from("none"),
                members => format!("one of {}", members.join(", ")),
            };
            E::custom(format_args!(
                "has an unknown member; member=`{}` expected {expected}",
                quoted(name)
            ))
        })
    }
}

/// The sentence for what serde_json says, without the position that it appends.
fn explain(what: &str, member: Option<&'static str>, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&position).unwrap_or(&text);
    let text = clip(text, MAX_ERROR_BYTES / 2);
    Error::invalid(match (error.classify(), member) {
        (serde_json::error::Category::Data, Some(member)) => {
            format!("{what} member `{member}` is wrong: {text}")
        }
        (serde_json::error::Category::Data, None) => format!("{what} {text}"),
        _ => format!(
            "{what} is not valid JSON: {text}; line=`{}` column=`{}`",
            error.line(),
            error.column()
        ),
    })
}

#[cfg(test)]
mod tests;
