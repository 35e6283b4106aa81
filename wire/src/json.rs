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

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use crate::dtype::DType;
use crate::error::{Error, Result, clip};
use crate::limits::{
    MAX_ERROR_BYTES, MAX_JSON_BYTES, MAX_JSON_INTEGER, MAX_QUOTED_BYTES, MAX_RANK,
};
use crate::name::{Key, Namespace, Tenant};
use crate::shape::Shape;
use crate::version::Version;

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
    ($vis:vis struct $name:ident as $what:literal { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Default)]
        $vis struct $name { $($vis $field: Option<$type>),* }

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

/// `missing` where a member has to be there.
pub(crate) fn required<T>(what: &str, name: &str, member: Option<T>) -> Result<T> {
    member.ok_or_else(|| {
        Error::invalid(format!(
            "{what} lacks a member; expected member=`{name}` to be given"
        ))
    })
}

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
            // The empty prefix is the one text that begins keys and is none.
            if !prefix.is_empty() {
                Key::check(prefix)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    object! {
        struct Thing as "thing" { key: Key, size: Uint, flag: bool, shape: Shape, sum: Hex128 }
    }

    fn refused(json: &str) -> String {
        match read::<Thing>(json.as_bytes()) {
            Ok(_) => panic!("accepted: {json}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn members_are_read_once_and_by_name() {
        let thing: Thing = read(br#" {"key": "a"}"#.trim_ascii()).unwrap();
        assert_eq!(thing.key, Some(Key::parse("a").unwrap()));
        // A name that is written with escapes is the same name.
        let thing: Thing = read(br#"{"k\u0065y":"\u00e4"}"#).unwrap();
        assert_eq!(thing.key, Some(Key::parse("ä").unwrap()));
        assert!(read_or_nothing::<Thing>(b"").unwrap().key.is_none());

        assert_eq!(
            refused(r#"{"foo":1}"#),
            "invalid_argument: thing has an unknown member; member=`foo` expected one of key, \
             size, flag, shape, sum"
        );
        assert_eq!(
            refused(r#"{"key":"a","flag":true,"key":"a"}"#),
            "invalid_argument: thing has a member twice; member=`key` expected it once"
        );
    }

    #[test]
    fn a_wrong_value_is_told_with_its_member() {
        for (json, says) in [
            (
                r#"{"key":5}"#,
                "thing member `key` is wrong: invalid type: integer `5`, expected a key",
            ),
            (
                r#"{"key":null}"#,
                "thing member `key` is wrong: invalid type: null",
            ),
            (
                r#"{"key":""}"#,
                "thing member `key` is wrong: key is empty; expected 1 to 1024",
            ),
            (r#"{"flag":1}"#, "expected a boolean"),
            (
                r#"{"size":-1}"#,
                "invalid type: integer `-1`, expected an integer from 0",
            ),
            (r#"{"size":1.0}"#, "expected an integer from 0"),
            (
                r#"{"size":"01"}"#,
                r#"invalid value: string "01", expected an integer"#,
            ),
            (
                r#"{"size":9007199254740993}"#,
                "or a larger one as a string of digits",
            ),
            (
                r#"{"shape":[1,-2]}"#,
                "thing member `shape` is wrong: invalid type: integer `-2`",
            ),
            (
                r#"{"sum":"12"}"#,
                "value=`12` expected 32 hexadecimal digits",
            ),
        ] {
            let told = refused(json);
            assert!(
                told.starts_with("invalid_argument: ") && told.contains(says),
                "{told}"
            );
        }
        let long = refused(&format!(r#"{{"shape":{:?}}}"#, [1; 33]));
        assert!(
            long.contains("too long; expected at most 32 values"),
            "{long}"
        );
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        assert_eq!(
            refused(r#"{"key":"a"} x"#),
            "invalid_argument: thing is not valid JSON: trailing characters; line=`1` column=`13`"
        );
        for bad in [
            "{",
            "{]",
            r#"{"key""#,
            r#"{"key":"a""#,
            r#"{"key":"a",}"#,
            r#"{"key":"\ud800"}"#,
        ] {
            let told = refused(bad);
            assert!(told.contains("is not valid JSON: "), "{bad}: {told}");
        }
        assert!(refused("[]").contains("expected its first byte to be {"));
        assert!(refused("").contains("is not a JSON object"));
        let told = read::<Thing>(b"{\"key\":\"\xff\"}")
            .err()
            .unwrap()
            .to_string();
        assert!(told.contains("not UTF-8; byte=`8`"), "{told}");
    }

    #[test]
    fn size_and_depth_are_limited() {
        let large = vec![b'{'; MAX_JSON_BYTES + 1];
        let told = read::<Thing>(&large).err().unwrap();
        assert_eq!(told.code, crate::error::Code::ResourceExhausted);
        for open in ["[", "{\"key\":"] {
            let deep = format!("{{\"key\":{}", open.repeat(100_000));
            assert!(refused(&deep).contains("expected a key"));
        }
        let quoted = format!(r#"{{"size":"{}"}}"#, "x".repeat(1 << 20));
        assert!(refused(&quoted).len() < MAX_ERROR_BYTES);
        let name = format!(r#"{{"{}":1}}"#, "x".repeat(1 << 20));
        assert!(refused(&name).len() < MAX_ERROR_BYTES);
    }

    proptest! {
        #[test]
        fn integers_round_trip(value in any::<u64>().prop_map(|v| v >> (v % 64))) {
            let json = to_string(&Uint(value));
            prop_assert_eq!(json.starts_with('"'), value > MAX_JSON_INTEGER);
            let thing: Thing = read(format!(r#"{{"size":{json}}}"#).as_bytes()).unwrap();
            prop_assert_eq!(thing.size, Some(Uint(value)));
        }

        #[test]
        fn shapes_and_checksums_round_trip(dims in prop::collection::vec(0..=u64::MAX >> 1, 0..=MAX_RANK), sum in any::<u128>()) {
            let shape = Shape::new(&dims).unwrap();
            let json = format!(r#"{{"shape":{},"sum":{}}}"#, to_string(&shape), to_string(&Hex128(sum)));
            let thing: Thing = read(json.as_bytes()).unwrap();
            prop_assert_eq!(thing.shape, Some(shape));
            prop_assert_eq!(thing.sum, Some(Hex128(sum)));
        }

        #[test]
        fn any_bytes_are_an_object_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<Thing>(&bytes);
            let _ = read::<Thing>(&[b"{\"key\":", &bytes[..]].concat());
        }
    }
}
