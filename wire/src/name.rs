//! Tenants, namespaces and keys, and the hash of the three that leaves the process.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result, clip};
use crate::limits::{MAX_KEY_BYTES, MAX_NAMESPACE_BYTES, MAX_QUOTED_BYTES};

/// Who owns the keys. It comes from the credentials, never from a request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Text);

/// A set of keys within a tenant: 1–128 of `[A-Za-z0-9._-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Text);

/// The name of one entry: UTF-8, 1–1,024 bytes, no NUL; compared as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Text);

impl Tenant {
    /// The one tenant that there is without credentials.
    pub const fn public() -> Tenant {
        Tenant(Text::Static("public"))
    }

    /// A tenant's name; the same alphabet as a namespace.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn parse(name: &str) -> Result<Tenant> {
        check_namespace("tenant", name)?;
        Ok(Tenant(Text::new(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Namespace {
    /// A namespace's name.
    ///
    /// # Errors
    /// `invalid_argument` for an empty one too: `default` is meant by leaving it out.
    pub fn parse(name: &str) -> Result<Namespace> {
        if name == DEFAULT_NAMESPACE {
            return Ok(Namespace::default());
        }
        check_namespace("namespace", name)?;
        Ok(Namespace(Text::new(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// `default`, which is meant when a request names none.
impl Default for Namespace {
    fn default() -> Namespace {
        Namespace(Text::Static(DEFAULT_NAMESPACE))
    }
}

impl Key {
    /// A key.
    ///
    /// # Errors
    /// `invalid_argument` that says which rule it breaks.
    pub fn parse(key: &str) -> Result<Key> {
        Key::check(key)?;
        Ok(Key(Text::new(key)))
    }

    /// What [`Key::parse`] checks, without making a key.
    ///
    /// # Errors
    /// `invalid_argument` that says which rule it breaks.
    pub fn check(key: &str) -> Result<()> {
        if key.is_empty() {
            return Err(Error::invalid(
                "key is empty; expected 1 to 1024 bytes of UTF-8",
            ));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(Error::invalid(format!(
                "key is too long; key=`{}` bytes=`{}` expected at most {MAX_KEY_BYTES}",
                clip(key, MAX_QUOTED_BYTES),
                key.len(),
            )));
        }
        if key.as_bytes().contains(&0) {
            return Err(Error::invalid(format!(
                "key has a NUL; key=`{}` expected UTF-8 without one",
                clip(key, MAX_QUOTED_BYTES).escape_default(),
            )));
        }
        Ok(())
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The first 16 bytes of BLAKE3 over tenant, namespace and key, each behind its length as u32
/// little-endian. For routing and cold objects, for ever: it finds, it never decides.
pub fn key_hash(tenant: &Tenant, namespace: &Namespace, key: &Key) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in [tenant.as_str(), namespace.as_str(), key.as_str()] {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "names are at most 1,024 bytes"
        )]
        hasher.update(&(part.len() as u32).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

const DEFAULT_NAMESPACE: &str = "default";

fn check_namespace(what: &str, name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= MAX_NAMESPACE_BYTES && name.bytes().all(legal) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} is not a legal name; {what}=`{}` bytes=`{}` expected 1 to {MAX_NAMESPACE_BYTES} \
         of A-Z a-z 0-9 . _ -",
        clip(name, MAX_QUOTED_BYTES).escape_debug(),
        name.len(),
    )))
}

/// Cheap to clone. The names that every request carries are static: a shared count that all
/// cores raise and lower is a cache line that all of them fight for.
#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Text {
    fn new(text: &str) -> Text {
        Text::Shared(Arc::from(text))
    }

    fn as_str(&self) -> &str {
        match self {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As `str` hashes, because of [`Borrow`].
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

macro_rules! text_traits {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

text_traits!(Tenant, Namespace, Key);

impl FromStr for Namespace {
    type Err = Error;

    fn from_str(name: &str) -> Result<Namespace> {
        Namespace::parse(name)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(key: &str) -> Result<Key> {
        Key::parse(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn namespaces() {
        assert_eq!(Namespace::parse("default"), Ok(Namespace::default()));
        for good in ["a", "A.b_c-9", &"x".repeat(128)] {
            assert_eq!(Namespace::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a/b", "a\0", &"x".repeat(129)] {
            let refused = Namespace::parse(bad).unwrap_err().to_string();
            assert!(
                refused.starts_with("invalid_argument: namespace is not a legal name; namespace=`"),
                "{refused}"
            );
        }
    }

    #[test]
    fn keys() {
        for good in ["a", "ä b/c\n", &"x".repeat(1024)] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        for (bad, says) in [
            ("", "key is empty"),
            ("a\0b", "key has a NUL; key=`a\\u{0}b`"),
            (&"x".repeat(1025), "bytes=`1025` expected at most 1024"),
        ] {
            let refused = Key::parse(bad).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn order_is_by_bytes_and_look_up_by_str_works() {
        let mut keys: Vec<Key> = ["b", "a", "ä", "Z", "a\u{1}"]
            .map(|key| Key::parse(key).unwrap())
            .to_vec();
        keys.sort();
        assert_eq!(format!("{keys:?}"), r#"["Z", "a", "a\u{1}", "b", "ä"]"#);
        let set: HashSet<Key> = keys.into_iter().collect();
        assert!(set.contains("a") && !set.contains("c"));
    }

    #[test]
    fn the_hash_separates_its_parts() {
        let key = Key::parse("c").unwrap();
        let other = Key::parse("bc").unwrap();
        let tenant = Tenant::public();
        assert_ne!(
            key_hash(&tenant, &Namespace::parse("ab").unwrap(), &key),
            key_hash(&tenant, &Namespace::parse("a").unwrap(), &other),
        );
    }
}
