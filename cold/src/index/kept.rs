//! Where the rows are: in a tree on the local disk, or in one in the store.

use std::ops::{Bound, Deref};

use bytes::Bytes;

use super::disk::{Disk, Write};
use super::error::{IndexError, Result, unreadable};
use super::tree::{self, Tree};
use super::{Home, IndexSettings, rows};

/// One of the two trees.
pub(super) enum Kept {
    OnDisk(Disk),
    InStore(Tree),
}

/// What stands in a row.
pub(super) enum Value {
    OnDisk(fjall::Slice),
    InStore(Bytes),
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Value::OnDisk(value) => value,
            Value::InStore(value) => value,
        }
    }
}

/// Rows of a range, in their order.
pub(super) enum Range {
    OnDisk(Box<fjall::Iter>),
    InStore(Box<tree::Rows>),
}

impl Iterator for Range {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Range::OnDisk(rows) => {
                let row = rows.next()?.into_inner().map_err(unreadable);
                Some(row.map(|(key, value)| (Value::OnDisk(key), Value::OnDisk(value))))
            }
            Range::InStore(rows) => {
                let row = rows.next()?;
                Some(row.map(|(key, value)| (Value::InStore(key), Value::InStore(value))))
            }
        }
    }
}

impl Kept {
    /// Opens or creates.
    pub(super) fn open(settings: &IndexSettings) -> Result<Kept> {
        let memory_bytes = settings.memory_bytes;
        match &settings.home {
            Home::Dir(dir) => {
                let disk = Disk::open(&dir.join("rows"), memory_bytes, settings.fsync);
                disk.map(Kept::OnDisk)
            }
            Home::Store(place) => Tree::open(place.clone(), memory_bytes).map(Kept::InStore),
        }
    }

    /// The tree in the store, where it is there.
    pub(super) fn in_store(&self) -> Option<&Tree> {
        match self {
            Kept::OnDisk(_) => None,
            Kept::InStore(tree) => Some(tree),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        match self {
            Kept::OnDisk(disk) => Ok(disk.get(key)?.map(Value::OnDisk)),
            Kept::InStore(tree) => Ok(tree.get(key)?.map(Value::InStore)),
        }
    }

    /// As [`Kept::get`] of each key.
    pub(super) fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        match self {
            Kept::OnDisk(_) => keys.iter().map(|key| self.get(key)).collect(),
            Kept::InStore(tree) => {
                let found = tree.get_all(keys)?.into_iter();
                Ok(found.map(|value| value.map(Value::InStore)).collect())
            }
        }
    }

    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        match self {
            Kept::OnDisk(disk) => disk.may_have(key),
            Kept::InStore(tree) => tree.may_have(key),
        }
    }

    /// The rows of a range of keys as they are now, in their order.
    pub(super) fn range(&self, from: Bound<Vec<u8>>, until: Vec<u8>) -> Range {
        match self {
            Kept::OnDisk(disk) => Range::OnDisk(Box::new(disk.range(from, until))),
            Kept::InStore(tree) => Range::InStore(Box::new(tree.range(from, until))),
        }
    }

    pub(super) fn starting_with(&self, prefix: &[u8]) -> Range {
        self.range(Bound::Included(prefix.to_vec()), rows::behind(prefix))
    }

    /// Writes all or nothing.
    pub(super) fn write(&self, rows: impl Iterator<Item = Write>) -> Result<()> {
        match self {
            Kept::OnDisk(disk) => disk.write(rows),
            Kept::InStore(tree) => tree.write(rows),
        }
    }

    pub(super) fn wait_for_room(&self, in_bulk: bool) -> Result<()> {
        match self {
            Kept::OnDisk(disk) => disk.wait_for_room(in_bulk),
            Kept::InStore(tree) => tree.wait_for_room(in_bulk),
        }
    }

    /// Everything written so far outlasts the machine.
    pub(super) fn sync(&self) -> Result<()> {
        match self {
            Kept::OnDisk(disk) => disk.sync(),
            Kept::InStore(tree) => tree.vouch(),
        }
    }

    /// Says that a write failed.
    pub(super) fn lose(&self, why: &dyn std::fmt::Display) -> IndexError {
        match self {
            Kept::OnDisk(disk) => disk.lose(why),
            Kept::InStore(_) => IndexError::Lost(why.to_string()),
        }
    }

    /// An error once a write has failed.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Kept::OnDisk(disk) => disk.check(),
            Kept::InStore(tree) => tree.check(),
        }
    }

    /// Bytes held in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        match self {
            Kept::OnDisk(disk) => disk.resident_bytes(),
            Kept::InStore(tree) => tree.resident_bytes(),
        }
    }
}
