//! An entry's own metadata: names and values, both text, as users attach them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::json;
use crate::limits::MAX_METADATA_BYTES;

/// Text by name, in the order of the names. `user.` is not part of a name here: it is what the
/// schema of a get puts before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Metadata without a name twice.
    ///
    /// # Errors
    /// `invalid_argument` for a name given twice, `resource_exhausted` past
    /// [`MAX_METADATA_BYTES`].
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Metadata> {
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            if map.contains_key(&name) {
                return Err(twice(&name));
            }
            map.insert(name, value);
        }
        let metadata = Metadata(map);
        metadata.check_size()?;
        Ok(metadata)
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How the engine keeps it: a JSON object, or no bytes where there is none.
    pub fn encode(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        json::to_string(self).into_bytes()
    }

    /// Reads what [`Metadata::encode`] wrote.
    ///
    /// # Errors
    /// `internal`: the bytes are ours.
    pub fn decode(bytes: &[u8]) -> Result<Metadata> {
        if bytes.is_empty() {
            return Ok(Metadata::default());
        }
        json::read_reply("an entry's metadata", bytes)
    }

    /// # Errors
    /// `resource_exhausted` where the encoded form passes [`MAX_METADATA_BYTES`].
    pub(crate) fn check_size(&self) -> Result<()> {
        let bytes = self.encode().len();
        if bytes > MAX_METADATA_BYTES {
            return Err(Error::exhausted(format!(
                "metadata is too large; bytes=`{bytes}` expected at most {MAX_METADATA_BYTES} as \
                 JSON"
            )));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("metadata, which is an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Metadata, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(name) = pairs.next_key::<String>()? {
                    if map.contains_key(&name) {
                        return Err(de::Error::custom(twice(&name).message));
                    }
                    map.insert(name, pairs.next_value()?);
                }
                Ok(Metadata(map))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

fn twice(name: &str) -> Error {
    Error::invalid(format!(
        "metadata has a name twice; name=`{}` expected it once",
        json::quoted(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_name_is_given_once() {
        let told = Metadata::new([pair("a", "1"), pair("a", "2")]).unwrap_err();
        assert_eq!(
            told.to_string(),
            "invalid_argument: metadata has a name twice; name=`a` expected it once"
        );
        assert!(Metadata::decode(br#"{"a":"1","a":"1"}"#).is_err());
    }

    #[test]
    fn size_counts_as_it_is_kept() {
        assert!(Metadata::new([pair("a", &"x".repeat(MAX_METADATA_BYTES - 8))]).is_ok());
        assert!(Metadata::new([pair("a", &"x".repeat(MAX_METADATA_BYTES - 7))]).is_err());
        // A control character takes six bytes of JSON.
        assert!(Metadata::new([pair("a", &"\u{1}".repeat(MAX_METADATA_BYTES / 5))]).is_err());
        assert!(Metadata::default().encode().is_empty());
    }

    proptest! {
        #[test]
        fn round_trip(pairs in prop::collection::btree_map(".{0,8}", ".{0,16}", 0..8)) {
            let metadata = Metadata::new(pairs).unwrap();
            prop_assert_eq!(Metadata::decode(&metadata.encode()), Ok(metadata));
        }
    }
}
