//! Which tables are the tree, at one moment, and which of them are merged next.

use std::sync::Arc;

use super::shared::Sizes;
use super::table::Table;
use crate::format::Manifest;

/// So many tables of the first level, which overlap, are merged into the next.
const FIRST_MAX: usize = 4;
/// Each level may have so many times as much as the one before.
const GROWTH: u64 = 8;

/// The tables. Of the first level the newest first; of the others in the order of their keys, which do not overlap.
#[derive(Debug, Clone, Default)]
pub(super) struct Version {
    pub(super) levels: Vec<Vec<Arc<Table>>>,
    /// Segments and log records below this number are in it.
    pub(super) covered: u64,
}

/// Tables that become others, one level below.
#[derive(Debug)]
pub(super) struct Merge {
    /// Of which level the first are; the second are of the next one.
    pub(super) level: usize,
    pub(super) upper: Vec<Arc<Table>>,
    pub(super) lower: Vec<Arc<Table>>,
    /// Nothing lies below: a row that says that a key is gone has no use.
    pub(super) is_last: bool,
}

impl Version {
    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.levels.iter().flatten()
    }

    pub(super) fn first_level(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Tables of which each may have a key, the newest first.
    pub(super) fn candidates(&self, key: &[u8]) -> impl Iterator<Item = &Arc<Table>> {
        let mut levels = self.levels.iter();
        let first = levels.next().into_iter().flatten();
        let others = levels.filter_map(move |level| {
            let at = level.partition_point(|table| *table.name.last < *key);
            level.get(at)
        });
        first.chain(others)
    }

    /// With tables of rows that are newer than all.
    pub(super) fn flushed(&self, new: Vec<Arc<Table>>, covered: u64) -> Version {
        let mut version = self.clone();
        if version.levels.is_empty() {
            version.levels.push(Vec::new());
        }
        version.levels[0].splice(..0, new);
        version.covered = covered.max(version.covered);
        version
    }

    /// With what came of a merge.
    pub(super) fn merged(&self, merge: &Merge, new: Vec<Arc<Table>>) -> Version {
        let mut version = self.clone();
        while version.levels.len() < merge.level + 2 {
            version.levels.push(Vec::new());
        }
        let is_old = |table: &Arc<Table>| {
            let mut old = merge.upper.iter().chain(&merge.lower);
            old.any(|old| Arc::ptr_eq(old, table))
        };
        for level in &mut version.levels[merge.level..merge.level + 2] {
            level.retain(|table| !is_old(table));
        }
        let below = &mut version.levels[merge.level + 1];
        below.extend(new);
        below.sort_by(|a, b| a.name.first.cmp(&b.name.first));
        version
    }

    /// What is merged next. `after` has for each level the key up to which it has come.
    pub(super) fn next_merge(&self, sizes: &Sizes, after: &mut Vec<Vec<u8>>) -> Option<Merge> {
        if self.first_level() >= FIRST_MAX {
            return Some(self.merge(0, self.levels[0].clone()));
        }
        let mut most = sizes.first_bytes;
        for (at, level) in self.levels.iter().enumerate().skip(1) {
            let bytes: u64 = level.iter().map(|table| table.name.bytes).sum();
            if bytes > most {
                after.resize(self.levels.len(), Vec::new());
                let behind = level.iter().find(|table| table.name.first > after[at]);
                let next = behind.or(level.first())?;
                after[at].clone_from(&next.name.first);
                return Some(self.merge(at, vec![Arc::clone(next)]));
            }
            most = most.saturating_mul(GROWTH);
        }
        None
    }

    fn merge(&self, level: usize, upper: Vec<Arc<Table>>) -> Merge {
        let first = upper.iter().map(|table| &table.name.first).min();
        let last = upper.iter().map(|table| &table.name.last).max();
        let overlaps = |table: &&Arc<Table>| {
            first.is_some_and(|first| table.name.last >= *first)
                && last.is_some_and(|last| table.name.first <= *last)
        };
        let lower = self.levels.get(level + 1).into_iter().flatten();
        let lower = lower.filter(overlaps).cloned().collect();
        let mut below = self.levels.iter().skip(level + 2);
        Merge {
            level,
            lower,
            is_last: below.all(Vec::is_empty),
            upper,
        }
    }

    pub(super) fn manifest(&self, epoch: u64) -> Manifest {
        let name = |table: &Arc<Table>| table.name.clone();
        let levels = self.levels.iter();
        Manifest {
            epoch,
            covered: self.covered,
            levels: levels
                .map(|level| level.iter().map(name).collect())
                .collect(),
        }
    }
}
