//! Batches of keys and nothing else: what the exchange `get` receives.

use std::borrow::Cow;

use super::dictionaries::{self, Dictionaries, Held, Wanted};
use super::keys::Keys;
use super::role::{self, KeyKind};
use super::{Columns, ExtraColumns};
use crate::body::Body;
use crate::error::{Error, Result};
use crate::ipc_check;
use crate::limits::MAX_TICKET_KEYS;
use crate::name::Key;

/// A schema with a key column.
#[derive(Clone, Debug)]
pub struct KeysReader {
    tree: ipc_check::Tree,
    wanted: Vec<Wanted>,
    key: KeyKind,
}

/// The keys of one checked batch.
#[derive(Debug)]
pub struct KeysBatch {
    rows: u64,
    keys: Keys,
}

impl KeysReader {
    /// Finds the key column, of the kinds that a bulk put takes: `name`, or else `key`.
    ///
    /// # Errors
    /// `invalid_argument` for what is no schema, lacks the column, or has others.
    pub fn new(schema: &[u8], name: Option<&str>) -> Result<Self> {
        let schema = ipc_check::schema(schema)?;
        let mut columns = Columns::new(&schema)?;
        let key = columns.required(name.unwrap_or("key"))?;
        let key = role::key_kind(key, &mut columns.wanted)?;
        columns.extra(ExtraColumns::Refuse)?;
        columns.tree.check()?;
        Ok(Self {
            tree: columns.tree,
            wanted: columns.wanted,
            key,
        })
    }

    /// As [`BulkReader::dictionary`](super::BulkReader::dictionary).
    ///
    /// # Errors
    /// As there.
    pub fn dictionary(
        &self,
        to: &mut Dictionaries,
        header: &[u8],
        body: &Body,
        held: impl FnOnce(u64) -> Result<Held>,
    ) -> Result<bool> {
        dictionaries::take(&self.tree, &self.wanted, to, header, body, held)
    }

    /// Checks a batch, whose keys may be in the `dictionaries` that came before it.
    ///
    /// # Errors
    /// `invalid_argument` for a header that lies or offsets that do not ascend,
    /// `resource_exhausted` for more than [`MAX_TICKET_KEYS`] rows, `unimplemented` for compression.
    pub fn decode(
        &self,
        header: &[u8],
        body: &Body,
        dictionaries: &Dictionaries,
    ) -> Result<KeysBatch> {
        let batch = ipc_check::batch(header, body.len(), &self.tree)?;
        if batch.rows > MAX_TICKET_KEYS as u64 {
            return Err(Error::exhausted(format!(
                "a batch has too many keys; rows=`{}` expected at most {MAX_TICKET_KEYS}",
                batch.rows
            )));
        }
        Ok(KeysBatch {
            rows: batch.rows,
            keys: Keys::new(body, &batch, self.key, dictionaries)?,
        })
    }
}

impl KeysBatch {
    /// A row's key.
    ///
    /// # Errors
    /// `invalid_argument` where it is null or no legal key.
    pub fn key(&self, row: u64) -> Result<Cow<'_, str>> {
        let key = self.keys.get(row)?;
        Key::check(&key)?;
        Ok(key)
    }

    /// The keys, in order.
    ///
    /// # Errors
    /// `invalid_argument` for the first that is null or no legal key.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let key = |row| -> Result<Key> {
            let key: Cow<'_, str> = self.keys.get(row)?;
            Key::parse(&key)
        };
        (0..self.rows).map(key).collect()
    }
}
