//! Descriptors of DoPut: `PATH [key]`, `PATH [namespace, key]`, or a command in JSON.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::json::{self, Hex128, Uint, object, words};
use crate::limits::{MAX_TTL_MS, check_load_id};
use crate::metadata::Metadata;
use crate::name::{Key, Namespace};
use crate::version::Version;

/// How to put: one tensor under `key`, or many out of a key and a tensor column.
///
/// Members of the wire contract that no server builds yet are read into their fields all the
/// same; whoever executes the put answers `unimplemented` where one is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutCommand {
    /// Where the keys go.
    pub namespace: Namespace,
    /// The one key; `None` for a bulk put.
    pub key: Option<Key>,
    /// What happens to a key that is there; `None` means `create` for one tensor, `keep` for many.
    pub mode: Option<Mode>,
    /// Only where the entry has this version.
    pub if_version: Option<Version>,
    /// Milliseconds until it expires: 1 to [`MAX_TTL_MS`].
    pub ttl_ms: Option<u64>,
    /// Not to be evicted.
    pub pin: bool,
    /// The entry's own metadata.
    pub metadata: Option<Metadata>,
    /// xxh3-128 of the C-order bytes; another one is `data_loss`.
    pub checksum: Option<u128>,
    /// The tensor's bytes, to be reserved at once.
    pub size_bytes: Option<u64>,
    /// Where the eviction policy lets it in.
    pub admit: Option<Admit>,
    /// What the put waits for before it answers.
    pub wait: Option<Wait>,
    /// The load it belongs to.
    pub load_id: Option<String>,
    /// One PutResult a batch as well.
    pub progress: bool,
    /// Bulk: the column that takes the place of `key`.
    pub key_column: Option<String>,
    /// Bulk: the column that takes the place of `tensor`.
    pub tensor_column: Option<String>,
    /// Bulk: what happens to columns that nobody asked for; `None` means `refuse`.
    pub extra_columns: Option<ExtraColumns>,
    /// Bulk: cast to this.
    pub dtype: Option<DType>,
    /// Bulk: lists of FixedSizeList are tensors of their own lengths.
    pub ragged: bool,
}

words! {
    /// What a put does to a key that is there.
    pub enum Mode {
        /// Write-once: the same again succeeds, anything else is `already_exists`.
        Create = "create",
        /// The first value stays.
        Keep = "keep",
        /// The new value replaces the old one, atomically.
        Replace = "replace",
    }
}

words! {
    /// Where the eviction policy lets an entry in.
    pub enum Admit {
        /// As if it had been asked for.
        Hot = "hot",
        /// Where nobody has asked for it yet.
        Probation = "probation",
    }
}

words! {
    /// What a put waits for before it answers.
    pub enum Wait {
        /// The entry is in memory.
        Memory = "memory",
        /// The entry is in the cold tier.
        Cold = "cold",
    }
}

words! {
    /// What a bulk put does with columns that nobody asked for.
    pub enum ExtraColumns {
        /// Refuse the put, by name.
        Refuse = "refuse",
        /// Leave them out.
        Ignore = "ignore",
        /// Add them to the entries' metadata.
        Metadata = "metadata",
    }
}

impl PutCommand {
    /// The command that a `PATH` stands for.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn from_path<S: AsRef<str>>(path: &[S]) -> Result<PutCommand> {
        let (namespace, key) = parse_path(path)?;
        Ok(PutCommand {
            namespace,
            key: Some(key),
            ..PutCommand::default()
        })
    }

    /// Reads the JSON of a `CMD`.
    ///
    /// # Errors
    /// `invalid_argument` with what was wrong and what was expected; `resource_exhausted` past a
    /// size limit.
    pub fn parse_cmd(bytes: &[u8]) -> Result<PutCommand> {
        let members: Members = json::read(bytes)?;
        members.command()
    }

    /// The command's JSON, its members in one order and the namespace always among them.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

/// The namespace and key of `PATH [key]` or `PATH [namespace, key]`.
///
/// # Errors
/// `invalid_argument`.
pub fn parse_path<S: AsRef<str>>(path: &[S]) -> Result<(Namespace, Key)> {
    match path {
        [key] => Ok((Namespace::default(), Key::parse(key.as_ref())?)),
        [namespace, key] => Ok((
            Namespace::parse(namespace.as_ref())?,
            Key::parse(key.as_ref())?,
        )),
        _ => Err(Error::invalid(format!(
            "descriptor path has too many parts or none; parts=`{}` expected [key] or \
             [namespace, key]",
            path.len()
        ))),
    }
}

impl Serialize for PutCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("namespace", &self.namespace)?;
        // Leaves out what was not given.
        macro_rules! given {
            ($($field:ident),*) => {$(
                if let Some(value) = &self.$field {
                    map.serialize_entry(stringify!($field), value)?;
                }
            )*};
        }
        given!(key, mode, if_version);
        if let Some(ttl_ms) = self.ttl_ms {
            map.serialize_entry("ttl_ms", &Uint(ttl_ms))?;
        }
        if self.pin {
            map.serialize_entry("pin", &true)?;
        }
        given!(metadata);
        if let Some(checksum) = self.checksum {
            map.serialize_entry("checksum", &Hex128(checksum))?;
        }
        if let Some(size_bytes) = self.size_bytes {
            map.serialize_entry("size_bytes", &Uint(size_bytes))?;
        }
        given!(admit, wait, load_id);
        if self.progress {
            map.serialize_entry("progress", &true)?;
        }
        given!(key_column, tensor_column, extra_columns, dtype);
        if self.ragged {
            map.serialize_entry("ragged", &true)?;
        }
        map.end()
    }
}

object! {
    struct Members as "put command" {
        namespace: Namespace,
        key: Key,
        mode: Mode,
        if_version: Version,
        ttl_ms: Uint,
        pin: bool,
        metadata: Metadata,
        checksum: Hex128,
        size_bytes: Uint,
        admit: Admit,
        wait: Wait,
        load_id: String,
        progress: bool,
        key_column: String,
        tensor_column: String,
        extra_columns: ExtraColumns,
        dtype: DType,
        ragged: bool,
    }
}

impl Members {
    fn command(self) -> Result<PutCommand> {
        let ttl_ms = self.ttl_ms.map(|ms| check_ttl_ms(ms.0)).transpose()?;
        if let Some(metadata) = &self.metadata {
            metadata.check_size()?;
        }
        if let Some(id) = &self.load_id {
            check_load_id("put command", id)?;
        }
        Ok(PutCommand {
            namespace: self.namespace.unwrap_or_default(),
            key: self.key,
            mode: self.mode,
            if_version: self.if_version,
            ttl_ms,
            pin: self.pin.unwrap_or_default(),
            metadata: self.metadata,
            checksum: self.checksum.map(|sum| sum.0),
            size_bytes: self.size_bytes.map(|bytes| bytes.0),
            admit: self.admit,
            wait: self.wait,
            load_id: self.load_id,
            progress: self.progress.unwrap_or_default(),
            key_column: self.key_column,
            tensor_column: self.tensor_column,
            extra_columns: self.extra_columns,
            dtype: self.dtype,
            ragged: self.ragged.unwrap_or_default(),
        })
    }
}

/// A time to live that an entry may have.
///
/// # Errors
/// `invalid_argument` for 0 and past [`MAX_TTL_MS`].
pub fn check_ttl_ms(ttl_ms: u64) -> Result<u64> {
    if (1..=MAX_TTL_MS).contains(&ttl_ms) {
        return Ok(ttl_ms);
    }
    Err(Error::invalid(format!(
        "not a time to live; ttl_ms=`{ttl_ms}` expected 1 to {MAX_TTL_MS} milliseconds"
    )))
}

#[cfg(test)]
mod tests;
