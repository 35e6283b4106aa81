//! A tree of rows in the store, for a server without a disk: tables that are written once, merged in the background, and
//! found by what is in memory of them, their filters and where their blocks are.
//!
//! Rows are in memory first, and nowhere else until a table is full: what they come from, sidecars and log records, is on
//! the store by then. A *manifest* says which tables are the tree, and below which number all segments and log records
//! are in them; who opens the tree again reads those above. Whatever no manifest names is left over from a write that
//! did not end, and goes.
//!
//! - `io`: the store, for threads that can wait
//! - `cache`: blocks that were read last
//! - `table`: one table, and tables in a row
//! - `version`: all of them at one moment
//! - `rows`: rows in memory, and rows of several sources in order
//! - `shared`: what is in memory of it all
//! - `worker`: the thread that writes tables, merges them, and takes away those that nobody needs
//!
//! Locks: `work` before `state`. Neither is held while the store is asked.

mod cache;
mod io;
mod rows;
mod shared;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod version;
mod worker;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::{Condvar, Mutex, RwLock};

use super::disk::Write;
use super::error::{IndexError, Result};
use crate::format::filter::hash_of;
use crate::format::{Manifest, TableName, read_manifest};
use crate::store::{Listed, ObjectName};
use cache::{Cache, Which};
use io::Io;
use rows::Memtable;
use shared::{Look, Shared, Sizes, State};
use table::Table;
use version::Version;

pub use io::InStore;
pub(super) use rows::Rows;

/// From so many full memtables on, writes wait for the store.
const SEALED_MAX: u64 = 2;
/// From so many tables in the first level on, they wait for a merge.
const FIRST_MAX: usize = 16;
/// Requests at one time for one call of ours.
const AT_ONCE: usize = 16;
/// How often a table is opened that cannot be reached.
const TRIES: usize = 5;
/// The largest manifest that is read: some hundred thousand tables.
const MANIFEST_BYTES_MAX: u64 = 128 << 20;
/// A start reads about so many numbers of segments and log records again, at most.
const BEHIND_MAX: u64 = 1024;

/// The tree. Dropped, it leaves what is in memory to who opens it again.
pub(super) struct Tree {
    shared: Arc<Shared>,
    /// Of the manifest that it was opened with.
    epoch: Option<u64>,
}

impl Tree {
    /// Opens what is there, or begins with nothing.
    pub(super) fn open(place: InStore, memory_bytes: u64) -> Result<Tree> {
        let io = Io::new(place);
        let listed = io.list()?;
        let manifests = listed.iter().map(|listed| listed.name);
        let mut manifests = manifests.filter(|name| matches!(name, ObjectName::Manifest(_)));
        let last = manifests.next_back();
        let asking = io.clone();
        let opened = last.map(|name| io.wait(async move { open(asking, name).await }));
        let opened = opened.transpose().map_err(|error| match error {
            IndexError::Corrupt(why) => IndexError::Unusable(why),
            other => other,
        })?;
        let epoch = opened.as_ref().map(|(manifest, _)| manifest.epoch);
        let version = opened.map(|(_, version)| version).unwrap_or_default();
        Ok(Tree::new(io, memory_bytes, version, epoch, listed))
    }

    /// Begins with nothing: what is there is not the index any more.
    pub(super) fn begin(place: InStore, memory_bytes: u64) -> Result<Tree> {
        let io = Io::new(place);
        disown(&io)?;
        let listed = io.list()?;
        let tree = Tree::new(io, memory_bytes, Version::default(), None, listed);
        tree.shared.may_clean();
        Ok(tree)
    }

    fn new(
        io: Io,
        memory_bytes: u64,
        version: Version,
        epoch: Option<u64>,
        listed: Vec<Listed>,
    ) -> Tree {
        if let Some(last) = listed.last() {
            io.above(last.name.number());
        }
        let named = version.tables().map(|table| table.name.number);
        let named: HashSet<u64> = named.collect();
        let is_left_over = |name: &ObjectName| match name {
            ObjectName::Table(number) => !named.contains(number),
            _ => true,
        };
        let left_over = listed.into_iter().map(|listed| listed.name);
        let sizes = Sizes::of(memory_bytes);
        let shared = Arc::new(Shared {
            io,
            sizes,
            cache: Arc::new(Cache::new(sizes.cache_bytes)),
            trash: Arc::default(),
            settled: AtomicU64::new(version.covered),
            state: RwLock::new(State {
                active: Memtable::default(),
                sealed: VecDeque::new(),
                sealed_count: 0,
                version: Arc::new(version),
            }),
            work: Mutex::default(),
            changed: Condvar::new(),
            working_bytes: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            left_over: Mutex::new(left_over.filter(is_left_over).collect()),
            may_clean: AtomicBool::new(false),
        });
        worker::start(Arc::clone(&shared));
        Tree { shared, epoch }
    }

    /// The start of a server that wrote what was opened; none where there was nothing.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// All segments and log records below this number were in what was opened.
    pub(super) fn covered(&self) -> u64 {
        self.shared.state.read().version.covered
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let shared = &self.shared;
        match shared.look(key, &[]) {
            Look::Found(value) => Ok(value),
            Look::Needs(..) => {
                let (asking, key) = (Arc::clone(shared), key.to_vec());
                let found = shared.io.wait(async move { asking.fetch(&key).await });
                shared.checked(found)
            }
        }
    }

    /// As [`Tree::get`], of several keys at one time.
    pub(super) fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        let shared = &self.shared;
        let mut found = vec![None; keys.len()];
        // By the block that they need first: it is in the cache for all but one of them.
        let mut far: BTreeMap<Which, Vec<(usize, Vec<u8>)>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            match shared.look(key, &[]) {
                Look::Found(value) => found[at] = value,
                Look::Needs(table, block) => {
                    let of_a_block = far.entry((table.name.number, block)).or_default();
                    of_a_block.push((at, key.to_vec()));
                }
            }
        }
        if far.is_empty() {
            return Ok(found);
        }
        let asking = Arc::clone(shared);
        let fetched = shared.io.wait(async move {
            let fetches = far.into_values().map(|of_a_block| {
                let asking = Arc::clone(&asking);
                async move {
                    let mut values = Vec::with_capacity(of_a_block.len());
                    for (at, key) in of_a_block {
                        let value = asking.fetch(&key).await?;
                        // Not with all of its block.
                        values.push((at, value.map(|value| Bytes::copy_from_slice(&value))));
                    }
                    Ok::<_, IndexError>(values)
                }
            });
            let fetches = stream::iter(fetches).buffered(AT_ONCE);
            fetches.try_collect::<Vec<_>>().await
        });
        for (at, value) in shared.checked(fetched)?.into_iter().flatten() {
            found[at] = value;
        }
        Ok(found)
    }

    /// Whether there may be a row, out of memory alone.
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        let state = self.shared.state.read();
        if let Some(row) = state.in_memory(key) {
            return row.is_some();
        }
        let hash = hash_of(key);
        let mut tables = state.version.candidates(key);
        tables.any(|table| table.block_of(key, hash).is_some())
    }

    pub(super) fn range(&self, from: Bound<Vec<u8>>, until: Vec<u8>) -> Rows {
        Rows::new(&self.shared, from, until)
    }

    /// Takes rows into memory, all or nothing.
    pub(super) fn write(&self, rows: impl Iterator<Item = Write>) -> Result<()> {
        self.wait_for_room(false)?;
        let sealed = {
            let mut state = self.shared.state.write();
            for (key, value) in rows {
                state.active.put(&key, value.as_deref());
            }
            let is_full = state.active.bytes() > self.shared.sizes.memtable_bytes;
            is_full.then(|| state.seal(self.shared.settled.load(Ordering::Acquire)))
        };
        if let Some(nth) = sealed {
            self.shared.sealed(nth);
        }
        Ok(())
    }

    /// Waits until a write would not make memory grow. What can wait does so earlier.
    pub(super) fn wait_for_room(&self, in_bulk: bool) -> Result<()> {
        let shared = &self.shared;
        let sealed_max = SEALED_MAX - u64::from(in_bulk);
        let mut work = shared.work.lock();
        loop {
            work.check()?;
            let sealed = work.sealed - work.flushed;
            let first = shared.state.read().version.first_level();
            if sealed < sealed_max && first < FIRST_MAX {
                return Ok(());
            }
            if work.failing.is_some() {
                work.lost = true;
                return work.check();
            }
            shared.changed.wait(&mut work);
        }
    }

    /// An error where writes are refused.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.work.lock().check()
    }

    /// Takes writes again, where the store does.
    pub(super) fn revive(&self) -> Result<()> {
        let mut work = self.shared.work.lock();
        if let Some(why) = &work.damaged {
            return Err(IndexError::Unusable(why.clone()));
        }
        if work.failing.is_none() {
            work.lost = false;
        }
        work.check()
    }

    /// Whether something was found not to be as it was written.
    pub(super) fn is_damaged(&self) -> bool {
        self.shared.work.lock().damaged.is_some()
    }

    /// All that was written so far is in tables, and from now on manifests say so.
    pub(super) fn vouch(&self) -> Result<()> {
        self.shared.work.lock().vouched = true;
        self.save()
    }

    /// All that was written so far is in tables.
    pub(super) fn save(&self) -> Result<()> {
        let shared = &self.shared;
        let failures = shared.work.lock().failures;
        let nth = {
            let mut state = shared.state.write();
            state.seal(shared.settled.load(Ordering::Acquire))
        };
        shared.sealed(nth);
        let mut work = shared.work.lock();
        while work.flushed < nth {
            work.check()?;
            if (work.failures > failures || work.late)
                && let Some(why) = &work.failing
            {
                return Err(IndexError::Store(why.clone()));
            }
            shared.changed.wait(&mut work);
        }
        Ok(())
    }

    /// All segments and log records below this number were written here.
    pub(super) fn settle(&self, before: u64) {
        let shared = &self.shared;
        shared.settled.fetch_max(before, Ordering::AcqRel);
        let covered = self.covered();
        let mut work = shared.work.lock();
        let is_due = before.saturating_sub(covered.max(work.asked)) > BEHIND_MAX;
        if !work.vouched || !is_due || work.sealed > work.flushed {
            return;
        }
        work.asked = before;
        let nth = shared.state.write().seal(before);
        work.sealed = work.sealed.max(nth);
        shared.changed.notify_all();
    }

    /// Has the next start find nothing.
    pub(super) fn disown(&self) -> Result<()> {
        self.shared.work.lock().vouched = false;
        disown(&self.shared.io)
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let shared = &self.shared;
        let state = shared.state.read();
        let sealed = state.sealed.iter().map(|sealed| sealed.rows.bytes());
        let memory = state.active.bytes() + sealed.sum::<usize>();
        let tables = state.version.tables();
        let tables: u64 = tables.map(|table| table.resident_bytes() + 8).sum();
        let working = shared.working_bytes.load(Ordering::Relaxed);
        memory as u64 + tables + shared.cache.resident_bytes() + working
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Not waited for: who drops it may be what the store needs to go on.
        self.shared.closing.store(true, Ordering::Release);
        let _work = self.shared.work.lock();
        self.shared.changed.notify_all();
    }
}

async fn open(io: Io, name: ObjectName) -> Result<(Manifest, Version)> {
    let bytes = io.read_all(name, MANIFEST_BYTES_MAX).await?;
    let manifest = read_manifest(name.number(), &bytes);
    let manifest = manifest.map_err(|error| IndexError::Corrupt(error.message.to_string()))?;
    let mut version = Version {
        covered: manifest.covered,
        ..Version::default()
    };
    for level in &manifest.levels {
        let opening = level.iter().cloned().map(|name| {
            let io = io.clone();
            async move { open_table(&io, &name).await }
        });
        let tables = stream::iter(opening).buffered(AT_ONCE);
        let tables: Vec<Table> = tables.try_collect().await?;
        let tables = tables.into_iter().map(Arc::new);
        version.levels.push(tables.collect());
    }
    Ok((manifest, version))
}

/// One of many: a request that fails is not a start that fails.
async fn open_table(io: &Io, name: &TableName) -> Result<Table> {
    let mut tries = 1;
    loop {
        match Table::open(io, name.clone()).await {
            Err(IndexError::Store(_)) if tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// Takes all manifests away.
fn disown(io: &Io) -> Result<()> {
    for listed in io.list()? {
        if let ObjectName::Manifest(_) = listed.name {
            io.delete(listed.name)?;
        }
    }
    Ok(())
}
