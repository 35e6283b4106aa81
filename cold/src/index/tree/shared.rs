//! What the tree has in memory, and what its callers and its worker tell each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use super::cache::{Cache, Which};
use super::io::Io;
use super::rows::Memtable;
use super::table::{Table, Trash};
use super::version::Version;
use crate::format::filter::hash_of;
use crate::format::table::Rows as BlockRows;
use crate::index::error::{IndexError, Result};
use crate::store::ObjectName;

/// How much of anything, out of the memory that the tree may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) memtable_bytes: usize,
    pub(super) table_bytes: usize,
    pub(super) block_bytes: usize,
    pub(super) cache_bytes: usize,
    /// Of the first level without overlaps.
    pub(super) first_bytes: u64,
    /// Blocks of tables that are merged.
    pub(super) read_bytes: usize,
    /// What the worker has in memory while it works: those, and a table that is being built.
    pub(super) work_bytes: u64,
}

impl Sizes {
    pub(super) fn of(memory_bytes: u64) -> Sizes {
        let part = |of: u64| usize::try_from(memory_bytes / of).unwrap_or(usize::MAX);
        Sizes {
            memtable_bytes: part(8),
            table_bytes: part(4),
            block_bytes: part(512).clamp(128, 32 << 10),
            cache_bytes: part(8),
            first_bytes: memory_bytes.saturating_mul(2),
            read_bytes: part(8),
            work_bytes: memory_bytes / 8 * 3,
        }
    }
}

/// A full memtable.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) rows: Memtable,
    /// All segments and log records below this number are in it, or were before it.
    pub(super) covered: u64,
    pub(super) nth: u64,
}

pub(super) struct State {
    pub(super) active: Memtable,
    /// The oldest first.
    pub(super) sealed: VecDeque<Arc<Sealed>>,
    pub(super) sealed_count: u64,
    pub(super) version: Arc<Version>,
}

#[derive(Default)]
pub(super) struct Work {
    /// How many memtables were sealed, and how many of those are in tables.
    pub(super) sealed: u64,
    pub(super) flushed: u64,
    /// Manifests are written.
    pub(super) vouched: bool,
    /// Up to which number of segments and log records a manifest was asked for.
    pub(super) asked: u64,
    /// Why the store did not take what was written last.
    pub(super) failing: Option<String>,
    pub(super) failures: u64,
    /// A write was refused for that.
    pub(super) lost: bool,
    /// What was found not to be as it was written.
    pub(super) damaged: Option<String>,
    /// No manifest is left of a damaged tree.
    pub(super) disowned: bool,
    /// A later start of a server has taken over: nothing more is written.
    pub(super) late: bool,
}

pub(super) struct Shared {
    pub(super) io: Io,
    pub(super) sizes: Sizes,
    pub(super) cache: Arc<Cache>,
    pub(super) trash: Arc<Trash>,
    pub(super) state: RwLock<State>,
    pub(super) work: Mutex<Work>,
    pub(super) changed: Condvar,
    pub(super) settled: AtomicU64,
    /// What the worker has in memory now.
    pub(super) working_bytes: AtomicU64,
    pub(super) closing: AtomicBool,
    /// Objects of others before, and whether a manifest of ours stands in the place of theirs.
    pub(super) left_over: Mutex<Vec<ObjectName>>,
    pub(super) may_clean: AtomicBool,
}

/// What stands for a key.
pub(super) enum Look {
    Found(Option<Bytes>),
    /// A block has to be read first.
    Needs(Arc<Table>, usize),
}

impl State {
    /// What memory has of a key: nothing, that it is gone, or its value.
    pub(super) fn in_memory(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        let sealed = self.sealed.iter().rev().map(|sealed| &sealed.rows);
        let mut memory = std::iter::once(&self.active).chain(sealed);
        memory.find_map(|memtable| memtable.rows.get(key))
    }

    /// Gives the number of what was sealed.
    pub(super) fn seal(&mut self, covered: u64) -> u64 {
        self.sealed_count += 1;
        self.sealed.push_back(Arc::new(Sealed {
            rows: std::mem::take(&mut self.active),
            covered,
            nth: self.sealed_count,
        }));
        self.sealed_count
    }
}

impl Work {
    pub(super) fn check(&self) -> Result<()> {
        match (&self.damaged, &self.failing) {
            (Some(why), _) => Err(IndexError::Lost(why.clone())),
            (None, Some(why)) if self.lost => Err(IndexError::Lost(why.clone())),
            (None, None) if self.lost => {
                Err(IndexError::Lost("it is about to be tried again".into()))
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    pub(super) fn sealed(&self, nth: u64) {
        let mut work = self.work.lock();
        work.sealed = work.sealed.max(nth);
        self.changed.notify_all();
    }

    /// What is to be found of a key with these blocks and those of the cache.
    pub(super) fn look(&self, key: &[u8], have: &[(Which, Bytes)]) -> Look {
        let version = {
            let state = self.state.read();
            if let Some(row) = state.in_memory(key) {
                return Look::Found(row.clone());
            }
            Arc::clone(&state.version)
        };
        let hash = hash_of(key);
        for table in version.candidates(key) {
            let Some(at) = table.block_of(key, hash) else {
                continue;
            };
            let which = (table.name.number, at);
            let there = have.iter().find(|(there, _)| *there == which);
            let there = there.map(|(_, block)| block.clone());
            let Some(block) = there.or_else(|| self.cache.get(which)) else {
                return Look::Needs(Arc::clone(table), at);
            };
            if let Some(value) = BlockRows::find(&block, key) {
                return Look::Found(value);
            }
        }
        Look::Found(None)
    }

    pub(super) async fn fetch(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let mut have = Vec::new();
        loop {
            match self.look(key, &have) {
                Look::Found(value) => return Ok(value),
                Look::Needs(table, at) => {
                    let mut read = table.read(&self.io, at, 1).await?;
                    let block = read.pop().unwrap_or_default();
                    let which = (table.name.number, at);
                    self.cache.put(which, block.clone());
                    have.push((which, block));
                }
            }
        }
    }

    /// Takes note of damage: from then on nothing is found here, and the next start finds no index.
    pub(super) fn checked<T>(&self, found: Result<T>) -> Result<T> {
        match found {
            Err(IndexError::Corrupt(why)) => {
                let mut work = self.work.lock();
                if work.damaged.is_none() {
                    tracing::error!(why, "cold tier: the index in the store is damaged");
                    work.damaged = Some(why.clone());
                }
                work.vouched = false;
                self.changed.notify_all();
                Err(IndexError::Lost(why))
            }
            found => found,
        }
    }

    /// Whatever is left over of what was before may go.
    pub(super) fn may_clean(&self) {
        if !self.may_clean.swap(true, Ordering::AcqRel) {
            let left_over = std::mem::take(&mut *self.left_over.lock());
            self.trash.lock().extend(left_over);
            let _work = self.work.lock();
            self.changed.notify_all();
        }
    }
}
