//! The members of a ticket's JSON, and what they say together.

use serde::de::{Deserialize, Deserializer, Error as _};

use super::{Layout, Missing, Part, Select, Ticket, With};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::json::{self, Keys, Prefix, Uint, object, required, words};
use crate::limits::{MAX_PARTITIONS, MAX_TICKET_KEYS};
use crate::name::{Key, Namespace};
use crate::shape::Shape;
use crate::version::Version;

/// Reads a ticket's JSON.
///
/// # Errors
/// As [`Ticket::parse`].
pub(super) fn parse(bytes: &[u8]) -> Result<Ticket> {
    let members: Members = json::read(bytes)?;
    members.ticket()
}

object! {
    struct Members as "ticket" {
        namespace: Namespace,
        key: Key,
        keys: Keys<MAX_TICKET_KEYS>,
        prefix: Prefix,
        rows: Rows,
        unless_version: Version,
        version: Version,
        dtype: DType,
        shape: Shape,
        layout: Layout,
        with: Columns,
        missing: MissingWord,
        max_message_bytes: Uint,
        partitions: Uint,
        snapshot: Version,
        partition: Uint,
    }
}

impl Members {
    fn ticket(self) -> Result<Ticket> {
        let alone = |member: &str, given: bool, with: &str| match given {
            true => Err(Error::invalid(format!(
                "ticket has a member that does not go with the others; member=`{member}` \
                 expected it with {with}"
            ))),
            false => Ok(()),
        };
        let select = match (self.key, self.keys, self.prefix) {
            (Some(key), None, None) => Select::Key {
                key,
                rows: self.rows.map(|rows| (rows.0, rows.1)),
                unless_version: self.unless_version,
                version: self.version,
            },
            (None, Some(keys), None) => Select::Keys { keys: keys.0 },
            (None, None, Some(prefix)) => Select::Prefix {
                prefix: prefix.0,
                part: part(self.snapshot, self.partition)?,
            },
            (key, keys, prefix) => {
                return Err(Error::invalid(format!(
                    "ticket selects by several members or by none; expected exactly one of key, \
                     keys, prefix; given=`{}`",
                    given([
                        ("key", key.is_some()),
                        ("keys", keys.is_some()),
                        ("prefix", prefix.is_some())
                    ])
                )));
            }
        };
        let of_key = matches!(select, Select::Key { .. });
        alone("rows", !of_key && self.rows.is_some(), "key")?;
        alone(
            "unless_version",
            !of_key && self.unless_version.is_some(),
            "key",
        )?;
        alone("version", !of_key && self.version.is_some(), "key")?;
        alone("with", of_key && self.with.is_some(), "keys or prefix")?;
        let of_keys = matches!(select, Select::Keys { .. });
        alone("missing", !of_keys && self.missing.is_some(), "keys")?;
        let of_prefix = matches!(select, Select::Prefix { .. });
        alone(
            "partitions",
            !of_prefix && self.partitions.is_some(),
            "prefix",
        )?;
        alone("snapshot", !of_prefix && self.snapshot.is_some(), "prefix")?;
        alone(
            "partition",
            !of_prefix && self.partition.is_some(),
            "prefix",
        )?;
        let of_part = matches!(select, Select::Prefix { part: Some(_), .. });
        alone(
            "partitions",
            of_part && self.partitions.is_some(),
            "prefix alone",
        )?;
        if self.layout == Some(Layout::Flat) && !of_key {
            return Err(Error::invalid(
                "ticket asks for layout flat of many entries; layout=`flat` expected it with key",
            ));
        }
        let fixed = match (self.dtype, self.shape) {
            (None, None) => None,
            (dtype, shape) => {
                let dtype = required("ticket with shape", "dtype", dtype)?;
                let shape = required("ticket with dtype", "shape", shape)?;
                shape.bytes(dtype)?;
                Some((dtype, shape))
            }
        };
        if self.max_message_bytes == Some(Uint(0)) {
            return Err(Error::invalid(
                "ticket allows no bytes in a message; max_message_bytes=`0` expected at least 1",
            ));
        }
        let partitions = self.partitions.map(|n| partitions(n.0)).transpose()?;
        Ok(Ticket {
            namespace: self.namespace.unwrap_or_default(),
            select,
            layout: self.layout,
            max_message_bytes: self.max_message_bytes.map(|bytes| bytes.0),
            fixed,
            with: self.with.map(|with| with.0).unwrap_or_default(),
            missing: match self.missing {
                Some(MissingWord::Null) => Missing::Null,
                None => Missing::Named,
            },
            partitions,
        })
    }
}

words! {
    /// The one word that `missing` knows.
    enum MissingWord {
        /// See [`Missing::Null`].
        Null = "null",
    }
}

/// `[start, end)`.
#[derive(Clone, Copy)]
struct Rows(u64, u64);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows, D::Error> {
        let ends: Vec<Uint> = json::list(deserializer, "[start, end], two integers", 2)?;
        match ends[..] {
            [Uint(start), Uint(end)] if start <= end => Ok(Rows(start, end)),
            [Uint(start), Uint(end)] => Err(D::Error::custom(format_args!(
                "the range ends before it starts; rows=`[{start}, {end}]` expected 0 <= start <= \
                 end <= the leading axis"
            ))),
            _ => Err(D::Error::custom(
                "the range lacks an end; expected [start, end], two integers",
            )),
        }
    }
}

/// Columns, each at most once.
struct Columns(Vec<With>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Columns, D::Error> {
        let columns: Vec<With> = json::list(deserializer, "a list of columns", With::ALL.len())?;
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].contains(column) {
                return Err(D::Error::custom(format_args!(
                    "a column is named twice; column=`{}` expected it once",
                    column.as_str()
                )));
            }
        }
        Ok(Columns(columns))
    }
}

fn partitions(n: u64) -> Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|n| (1..=MAX_PARTITIONS).contains(n))
        .ok_or_else(|| {
            Error::invalid(format!(
                "ticket asks for too many partitions or none; partitions=`{n}` expected 1 to \
                 {MAX_PARTITIONS}"
            ))
        })
}

fn part(snapshot: Option<Version>, partition: Option<Uint>) -> Result<Option<Part>> {
    if snapshot.is_none() && partition.is_none() {
        return Ok(None);
    }
    let snapshot = required("ticket with partition", "snapshot", snapshot)?;
    let Uint(n) = required("ticket with snapshot", "partition", partition)?;
    let partition = u32::try_from(n).ok().filter(|n| *n < MAX_PARTITIONS);
    let partition = partition.ok_or_else(|| {
        Error::invalid(format!(
            "ticket names a partition that no snapshot has; partition=`{n}` expected less than \
             {MAX_PARTITIONS}"
        ))
    })?;
    Ok(Some(Part {
        snapshot,
        partition,
    }))
}

fn given<const N: usize>(members: [(&str, bool); N]) -> String {
    let names: Vec<&str> = members
        .iter()
        .filter_map(|(name, given)| given.then_some(*name))
        .collect();
    if names.is_empty() {
        return String::from("none");
    }
    names.join(", ")
}
