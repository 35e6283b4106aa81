//! The handles of one namespace in key order.
//!
//! Plain and single-threaded: the engine keeps each [`Order`] under a lock of its own, and
//! scans copy handles out of it a step at a time.

use std::ops::Bound;
use std::sync::Arc;

use super::record::Handle;
use super::{Budget, Full};

/// Reads the keys that handles stand for.
pub trait Keys {
    /// Calls `with` with the key of an entry that is in the order. It is live, but may be
    /// moving: then this waits.
    fn with_key<R>(&self, handle: Handle, with: impl FnOnce(&[u8]) -> R) -> R;
}

/// Handles sorted by their entries' keys, as bytes.
pub struct Order {
    budget: Arc<dyn Budget>,
    items: Vec<Handle>,
}

impl Order {
    /// An empty order, which holds no memory yet.
    pub fn new(budget: Arc<dyn Budget>) -> Order {
        Order {
            budget,
            items: Vec::new(),
        }
    }

    /// Adds an entry, or puts it in the place of the one with the same key, which is then
    /// returned.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses: nothing has changed.
    pub fn insert(
        &mut self,
        key: &[u8],
        handle: Handle,
        keys: &impl Keys,
    ) -> Result<Option<Handle>, Full> {
        let _ = &self.budget;
        match self.search(key, keys) {
            Ok(at) => Ok(Some(std::mem::replace(&mut self.items[at], handle))),
            Err(at) => {
                self.items.insert(at, handle);
                Ok(None)
            }
        }
    }

    /// Takes an entry out; `false` where the handle is not there under this key.
    pub fn remove(&mut self, key: &[u8], handle: Handle, keys: &impl Keys) -> bool {
        match self.search(key, keys) {
            Ok(at) if self.items[at] == handle => {
                self.items.remove(at);
                true
            }
            _ => false,
        }
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entry with the smallest key.
    pub fn first(&self) -> Option<Handle> {
        self.items.first().copied()
    }

    /// The entry with the largest key.
    pub fn last(&self) -> Option<Handle> {
        self.items.last().copied()
    }

    /// The entries whose keys lie between the bounds, in order.
    pub fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        keys: &impl Keys,
    ) -> Range<'a> {
        let start = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.search(key, keys).unwrap_or_else(|at| at),
            Bound::Excluded(key) => self.search(key, keys).map_or_else(|at| at, |at| at + 1),
        };
        let end = match to {
            Bound::Unbounded => self.items.len(),
            Bound::Included(key) => self.search(key, keys).map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => self.search(key, keys).unwrap_or_else(|at| at),
        };
        Range {
            items: self.items[start..end.max(start)].iter(),
        }
    }

    /// The entries whose keys begin with `prefix`, behind the key `after` if one is given.
    pub fn prefix<'a>(
        &'a self,
        prefix: &[u8],
        after: Option<&[u8]>,
        keys: &impl Keys,
    ) -> Range<'a> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let end = prefix_end(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(from, to, keys)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        (self.items.capacity() * size_of::<Handle>()) as u64
    }

    fn search(&self, key: &[u8], keys: &impl Keys) -> Result<usize, usize> {
        self.items
            .binary_search_by(|&handle| keys.with_key(handle, |there| there.cmp(key)))
    }
}

/// A walk over entries in key order.
pub struct Range<'a> {
    items: std::slice::Iter<'a, Handle>,
}

impl Iterator for Range<'_> {
    type Item = Handle;

    fn next(&mut self) -> Option<Handle> {
        self.items.next().copied()
    }
}

/// The smallest byte string above all that begin with `prefix`; `None` where there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}
