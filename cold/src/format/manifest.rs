//! Which tables are the index, where that lies in the store, and how much of the store they know.
//!
//! ```text
//! envelope of kind 6 around
//! epoch u64 | covered u64 | levels varint | each: tables varint | each:
//! number u64 | bytes varint | tail varint | rows varint | first key bytes | last key bytes
//! ```
//! The tables of the first level overlap, the newest first; those of each other level do not, and stand in the order of
//! their keys. Of two rows for one key, that of the level before counts.

use bowstring_wire::error::Result;
use bytes::Bytes;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use crate::entry::Number;

/// A table, as it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// In its object's name.
    pub number: u64,
    /// Of the object.
    pub bytes: u64,
    /// Where in it the blocks end and the tail begins.
    pub tail_at: u64,
    /// How many, those that say that a key is gone among them.
    pub rows: u64,
    /// The lowest key.
    pub first: Vec<u8>,
    /// The highest key.
    pub last: Vec<u8>,
}

/// An index, as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The start of a server that wrote it.
    pub epoch: u64,
    /// All segments and log records below this number are in it; some above may be.
    pub covered: u64,
    /// Its tables.
    pub levels: Vec<Vec<TableName>>,
}

/// The manifest of this number.
pub fn encode_manifest(number: u64, manifest: &Manifest) -> Bytes {
    let mut out = envelope::begin(Kind::Manifest, Number(number));
    out.extend_from_slice(&manifest.epoch.to_le_bytes());
    out.extend_from_slice(&manifest.covered.to_le_bytes());
    put_varint(&mut out, manifest.levels.len() as u64);
    for level in &manifest.levels {
        put_varint(&mut out, level.len() as u64);
        for table in level {
            out.extend_from_slice(&table.number.to_le_bytes());
            put_varint(&mut out, table.bytes);
            put_varint(&mut out, table.tail_at);
            put_varint(&mut out, table.rows);
            put_bytes(&mut out, &table.first);
            put_bytes(&mut out, &table.last);
        }
    }
    envelope::seal(out)
}

/// Reads what [`encode_manifest`] wrote, under the name of this number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_manifest(number: u64, bytes: &[u8]) -> Result<Manifest> {
    let body = envelope::open(Kind::Manifest, Number(number), bytes)?;
    read_body(body).ok_or_else(|| damaged(Kind::Manifest, "its tables cannot be"))
}

fn read_body(body: &[u8]) -> Option<Manifest> {
    let mut cursor = Cursor::new(body);
    let (epoch, covered) = (cursor.u64()?, cursor.u64()?);
    // No room is taken for a number that nothing stands behind.
    let mut levels = Vec::new();
    for _ in 0..cursor.varint()? {
        let mut level: Vec<TableName> = Vec::new();
        for _ in 0..cursor.varint()? {
            let table = TableName {
                number: cursor.u64()?,
                bytes: cursor.varint()?,
                tail_at: cursor.varint()?,
                rows: cursor.varint()?,
                first: cursor.bytes()?.to_vec(),
                last: cursor.bytes()?.to_vec(),
            };
            let behind = level.last().is_none_or(|last| last.last < table.first);
            let in_order = levels.is_empty() || behind;
            if !in_order || table.first > table.last || table.tail_at > table.bytes {
                return None;
            }
            level.push(table);
        }
        levels.push(level);
    }
    let manifest = Manifest {
        epoch,
        covered,
        levels,
    };
    cursor.left().is_empty().then_some(manifest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> impl Strategy<Value = TableName> {
        let keys = prop::collection::vec(any::<u8>(), 0..9);
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        (numbers, keys.clone(), keys).prop_map(|((number, a, b, rows), c, d)| TableName {
            number,
            bytes: a.max(b),
            tail_at: a.min(b),
            rows,
            first: c.clone().min(d.clone()),
            last: c.max(d),
        })
    }

    proptest! {
        #[test]
        fn it_comes_back(
            first in prop::collection::vec(table(), 0..5),
            others in prop::collection::vec(table(), 0..3),
            (number, epoch, covered) in any::<(u64, u64, u64)>(),
        ) {
            let mut levels = vec![first];
            levels.extend(others.into_iter().map(|one| vec![one]));
            let manifest = Manifest { epoch, covered, levels };
            let bytes = encode_manifest(number, &manifest);
            prop_assert_eq!(read_manifest(number, &bytes), Ok(manifest));
            prop_assert!(read_manifest(number ^ 1, &bytes).is_err());
        }

        #[test]
        fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = envelope::begin(Kind::Manifest, Number(3));
            out.extend_from_slice(&bytes);
            crate::feed::object(&envelope::seal(out));
        }
    }
}
