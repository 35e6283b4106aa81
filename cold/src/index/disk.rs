//! The tree of rows on the local disk: what knows fjall, but for the shape of its answers.
//!
//! What its source says, and what is made of it here:
//! - A failed write or background job poisons the database for good; reads go on. A writer that waits
//!   for a flush would then wait for ever, so waiting is done here ([`Disk::wait_for_room`]) and ends.
//! - It asks its workers to seal a full memtable with a message a write; a thousand of them while the one
//!   worker compacts would block that worker on its own queue. So memtables are sealed here, by the writer.
//! - With more than one worker, the first spins while the others compact. One is enough: flushes wait for a
//!   compaction step (seconds at most), and three sealed memtables bridge that.
//! - Settings of the tree are kept from its creation on; sizes of caches are taken anew at each start.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use fjall::config::{
    BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PartitioningPolicy, PinningPolicy,
};
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, SeqNo,
};
use twox_hash::XxHash3_64;

use super::error::{IndexError, Result, unreadable};

/// Of a filter, for each entry: one name in some thousand that is not there costs a read.
const FILTER_BITS: f32 = 14.0;
/// Of a table on disk: small enough that a compaction step is short, large enough that 10^8 entries are
/// some hundreds of files.
const TABLE_BYTES: u64 = 8 << 20;
/// From so many sealed memtables on, writes wait for the flush.
const SEALED_MAX: usize = 3;
/// From so many runs in the first level on, writes wait for the compaction.
const RUNS_MAX: usize = 16;
/// Between two looks at whether there is room again.
const WAIT: Duration = Duration::from_millis(1);

pub(super) struct Disk {
    database: Database,
    rows: Keyspace,
    memtable_bytes: u64,
    durability: PersistMode,
    lost: OnceLock<String>,
}

/// A row to write, or to remove.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

impl Disk {
    /// Opens or creates. `memory_bytes` is shared out among memtables and the cache of blocks.
    pub(super) fn open(dir: &Path, memory_bytes: u64, fsync: bool) -> Result<Disk> {
        // A damaged directory makes it panic in places, and nothing of it is left behind then.
        let opened = std::panic::catch_unwind(|| -> fjall::Result<_> {
            let database = Database::builder(dir)
                .cache_size(memory_bytes / 8)
                .max_cached_files(Some(256))
                .max_journaling_size(64 << 20)
                .worker_threads(1)
                .open()?;
            let rows = database.keyspace("rows", options)?;
            Ok((database, rows))
        });
        match opened {
            Ok(Ok((database, rows))) => Ok(Disk {
                database,
                rows,
                memtable_bytes: memory_bytes / 16,
                durability: if fsync {
                    PersistMode::SyncData
                } else {
                    PersistMode::Buffer
                },
                lost: OnceLock::new(),
            }),
            Ok(Err(fjall::Error::Locked)) => Err(IndexError::Locked(dir.to_owned())),
            Ok(Err(error)) => Err(IndexError::Unusable(format!(
                "dir=`{}` error=`{error}`",
                dir.display()
            ))),
            Err(_) => Err(IndexError::Unusable(format!(
                "dir=`{}` error=`damaged`",
                dir.display()
            ))),
        }
    }

    /// The value of a row.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<fjall::Slice>> {
        self.rows.get(key).map_err(unreadable)
    }

    /// Whether there may be a row, out of memory alone (but for the moments in which a memtable is being
    /// flushed). Sometimes yes where there is none, never the other way round.
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        let tree = &self.rows.tree;
        if let Some(row) = tree.active_memtable().get(key, SeqNo::MAX) {
            return !row.is_tombstone();
        }
        if tree.sealed_memtable_count() > 0 {
            // They are not to be had one by one.
            return self.rows.contains_key(key).unwrap_or(true);
        }
        let hash = XxHash3_64::oneshot(key);
        let version = tree.current_version();
        let mut tables = version
            .iter_levels()
            .flat_map(|level| level.iter())
            .filter_map(|run| run.get_for_key(key));
        tables.any(|table| match &table.pinned_filter_block {
            Some(filter) => filter.maybe_contains_hash(hash).unwrap_or(true),
            None => true,
        })
    }

    /// The rows of a range of keys as they are now, in their order.
    pub(super) fn range(&self, from: std::ops::Bound<Vec<u8>>, until: Vec<u8>) -> fjall::Iter {
        let range = (from, std::ops::Bound::Excluded(until));
        self.database.snapshot().range(&self.rows, range)
    }

    /// Writes all or nothing, as durable as was asked for at the start. After an error nothing more is
    /// written.
    pub(super) fn write(&self, rows: impl Iterator<Item = Write>) -> Result<()> {
        self.wait_for_room(false)?;
        // Should it panic, what it holds is unknown: that is a loss like any other.
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut batch = self.database.batch().durability(Some(self.durability));
            for (key, value) in rows {
                match value {
                    Some(value) => batch.insert(&self.rows, key, value),
                    None => batch.remove(&self.rows, key),
                }
            }
            batch.commit()?;
            if self.rows.tree.active_memtable().size() > self.memtable_bytes {
                self.rows.rotate_memtable()?;
            }
            fjall::Result::Ok(())
        }));
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lose(&error)),
            Err(_) => Err(self.lose(&"a write panicked")),
        }
    }

    /// Waits until a write would not make memory grow, or fails once a background job has. What can wait
    /// does so earlier: removes, for which requests wait, go before entries that come in bulk.
    pub(super) fn wait_for_room(&self, in_bulk: bool) -> Result<()> {
        let tree = &self.rows.tree;
        let sealed_max = SEALED_MAX - usize::from(in_bulk);
        loop {
            self.check()?;
            if tree.sealed_memtable_count() < sealed_max && tree.l0_run_count() < RUNS_MAX {
                return Ok(());
            }
            // The one call that tells of a failed background job; with nothing buffered it does nothing.
            if let Err(error) = self.database.persist(PersistMode::Buffer) {
                return Err(self.lose(&error));
            }
            std::thread::sleep(WAIT);
        }
    }

    /// Everything written so far survives a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.database.persist(PersistMode::SyncAll);
        synced.map_err(|error| self.lose(&error))
    }

    /// Says that a write failed.
    pub(super) fn lose(&self, why: &dyn std::fmt::Display) -> IndexError {
        let why = self.lost.get_or_init(|| format!("error=`{why}`"));
        IndexError::Lost(why.clone())
    }

    /// An error once a write has failed.
    pub(super) fn check(&self) -> Result<()> {
        match self.lost.get() {
            Some(why) => Err(IndexError::Lost(why.clone())),
            None => Ok(()),
        }
    }

    /// Bytes held in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        let tree = &self.rows.tree;
        let pinned = tree.pinned_filter_size() + tree.pinned_block_index_size();
        let tables = tree.table_count() * TABLE_RESIDENT_BYTES;
        let pinned = u64::try_from(pinned + tables).unwrap_or(u64::MAX);
        // Both count what they hold, not what that takes up: nodes, and blocks of odd sizes.
        let held = tree.version_memtable_size_sum() + self.database.cache_size();
        pinned + held + held / 2 + WORK_BYTES
    }
}

/// What a table has in memory besides its filter and the top of its index.
const TABLE_RESIDENT_BYTES: usize = 2 << 10;
/// What the worker needs while it merges tables: buffers of those it reads and writes, the hashes for a
/// filter.
const WORK_BYTES: u64 = 3 << 20;

/// All filters in memory and whole; of the indexes of tables only the top.
fn options() -> KeyspaceCreateOptions {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(FILTER_BITS));
    KeyspaceCreateOptions::default()
        .max_memtable_size(u64::MAX)
        .filter_policy(FilterPolicy::all(filter))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .compaction_strategy(std::sync::Arc::new(
            fjall::compaction::Leveled::default().with_table_target_size(TABLE_BYTES),
        ))
}
