//! Tickets of DoGet, which are also legal commands of GetFlightInfo.
//!
//! Reading checks everything that can be checked without the entries: exactly one of `key`, `keys`
//! and `prefix`, and no member beside a selection that it says nothing about.

mod members;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::json::{self, Uint, words};
use crate::name::{Key, Namespace};
use crate::shape::Shape;
use crate::version::Version;

/// What a get asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Where the keys are.
    pub namespace: Namespace,
    /// Which entries.
    pub select: Select,
    /// How the entries are laid out; `None` leaves it to the selection.
    pub layout: Option<Layout>,
    /// No message's body is larger where rows allow; never 0.
    pub max_message_bytes: Option<u64>,
    /// The dtype and shape that the caller counts on: they fix the schema, and with a prefix they
    /// select. With one key they are a condition, see [`Ticket::check_fixed`].
    pub fixed: Option<(DType, Shape)>,
    /// Columns beside key and tensor, each at most once, in the order asked. Not with one key.
    pub with: Vec<With>,
    /// What is said of keys that are not there; other than the default with `keys` only.
    pub missing: Missing,
    /// Endpoints over one snapshot of a prefix. For GetFlightInfo only: DoGet refuses it.
    pub partitions: Option<u32>,
}

/// Which entries a ticket means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// One entry.
    Key {
        /// Its key.
        key: Key,
        /// `[start, end)` of the leading axis, start ≤ end.
        rows: Option<(u64, u64)>,
        /// Answer `not_modified` where the entry still has this version.
        unless_version: Option<Version>,
        /// Answer `failed_precondition` where the entry has another version.
        version: Option<Version>,
    },
    /// Some entries, in this order; a key may stand there twice.
    Keys {
        /// At most [`crate::limits::MAX_TICKET_KEYS`].
        keys: Vec<Key>,
    },
    /// All entries whose key begins with this, in key order.
    Prefix {
        /// `""` is all.
        prefix: String,
        /// Of those a snapshot had that GetFlightInfo took: this part.
        part: Option<Part>,
    },
}

/// A partition of a snapshot, as minted tickets name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The snapshot.
    pub snapshot: Version,
    /// Its part, from 0.
    pub partition: u32,
}

words! {
    /// How the entries become columns.
    pub enum Layout {
        /// The leading axis as rows, or an entry a row.
        Rows = "rows",
        /// `key`, `dtype`, `shape`, `data`: for entries of any shapes together.
        Opaque = "opaque",
        /// One primitive column of all elements, splittable anywhere.
        Flat = "flat",
    }
}

words! {
    /// A column that a get of many adds.
    pub enum With {
        /// The entry's version, text.
        Version = "version",
        /// The entry's checksum, text.
        Checksum = "checksum",
        /// The entry's own metadata, a map.
        Metadata = "metadata",
        /// Milliseconds until the entry expires.
        TtlMs = "ttl_ms",
        /// The version that the entry's source gave it.
        SourceVersion = "source_version",
    }
}

/// What a get of keys says of those that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Found keys only; the closing batch names the others.
    #[default]
    Named,
    /// A row for each key, null where missing; no closing batch.
    Null,
}

impl Ticket {
    /// A ticket for one entry with nothing else said.
    pub fn key(namespace: Namespace, key: Key) -> Ticket {
        Ticket::of(
            namespace,
            Select::Key {
                key,
                rows: None,
                unless_version: None,
                version: None,
            },
        )
    }

    /// A ticket for some entries with nothing else said.
    pub fn keys(namespace: Namespace, keys: Vec<Key>) -> Ticket {
        Ticket::of(namespace, Select::Keys { keys })
    }

    /// A ticket for a prefix with nothing else said.
    pub fn prefix(namespace: Namespace, prefix: impl Into<String>) -> Ticket {
        let prefix = prefix.into();
        Ticket::of(namespace, Select::Prefix { prefix, part: None })
    }

    /// Reads a ticket's JSON.
    ///
    /// # Errors
    /// `invalid_argument` with what was wrong and what was expected; `resource_exhausted` past the
    /// size limit.
    pub fn parse(bytes: &[u8]) -> Result<Ticket> {
        members::parse(bytes)
    }

    /// The ticket's JSON, its members in one order and the namespace always among them.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }

    /// For an entry that was asked for by its key: is it of the dtype and shape that the ticket
    /// counts on?
    ///
    /// # Errors
    /// `failed_precondition` that says what differs.
    pub fn check_fixed(&self, dtype: DType, shape: &Shape) -> Result<()> {
        match &self.fixed {
            Some((expected, _)) if *expected != dtype => Err(Error::precondition(format!(
                "the entry has another dtype; dtype=`{dtype}` expected `{expected}`"
            ))),
            Some((_, expected)) if expected != shape => Err(Error::precondition(format!(
                "the entry has another shape; shape=`{shape}` expected `{expected}`"
            ))),
            _ => Ok(()),
        }
    }

    fn of(namespace: Namespace, select: Select) -> Ticket {
        Ticket {
            namespace,
            select,
            layout: None,
            max_message_bytes: None,
            fixed: None,
            with: Vec::new(),
            missing: Missing::Named,
            partitions: None,
        }
    }
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("namespace", &self.namespace)?;
        match &self.select {
            Select::Key {
                key,
                rows,
                unless_version,
                version,
            } => {
                map.serialize_entry("key", key)?;
                if let Some((start, end)) = rows {
                    map.serialize_entry("rows", &[Uint(*start), Uint(*end)])?;
                }
                if let Some(version) = unless_version {
                    map.serialize_entry("unless_version", version)?;
                }
                if let Some(version) = version {
                    map.serialize_entry("version", version)?;
                }
            }
            Select::Keys { keys } => map.serialize_entry("keys", keys)?,
            Select::Prefix { prefix, part } => {
                map.serialize_entry("prefix", prefix)?;
                if let Some(part) = part {
                    map.serialize_entry("snapshot", &part.snapshot)?;
                    map.serialize_entry("partition", &part.partition)?;
                }
            }
        }
        if let Some((dtype, shape)) = &self.fixed {
            map.serialize_entry("dtype", dtype)?;
            map.serialize_entry("shape", shape)?;
        }
        if let Some(layout) = self.layout {
            map.serialize_entry("layout", &layout)?;
        }
        if !self.with.is_empty() {
            map.serialize_entry("with", &self.with)?;
        }
        if self.missing == Missing::Null {
            map.serialize_entry("missing", "null")?;
        }
        if let Some(bytes) = self.max_message_bytes {
            map.serialize_entry("max_message_bytes", &Uint(bytes))?;
        }
        if let Some(partitions) = self.partitions {
            map.serialize_entry("partitions", &partitions)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
