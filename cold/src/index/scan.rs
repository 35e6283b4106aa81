//! The entries of a namespace in the order of their keys, as they were at one moment.

use std::ops::Bound;
use std::sync::Arc;

use bowstring_wire::name::{Namespace, Tenant};

use super::commit::Committer;
use super::error::Result;
use super::kept::{Range, Value};
use super::open::Open;
use super::rows;
use crate::entry::{Number, Stored};
use crate::format::decode_value;

/// What [`ColdIndex::scan`](super::ColdIndex::scan) gives. Holds some blocks in memory, however many entries
/// there are, and blocks nobody; on the disk it keeps what it shows, so let it not live for hours.
pub struct Scan {
    rows: Range,
    floor: Number,
    /// Knows which segments there are, where rows may point elsewhere.
    segments: Option<Arc<Committer>>,
    _open: Arc<()>,
}

impl Scan {
    pub(super) fn new(
        open: &Open,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
    ) -> Scan {
        let names = rows::namespace_prefix(tenant, namespace);
        let key = |key: &str| [&names, key.as_bytes()].concat();
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(key(after)),
            _ => Bound::Included(key(prefix)),
        };
        // The floor first: one that is raised in between is of no matter yet.
        let floor = open.floors.of(&names);
        Scan {
            rows: open.disk.range(first, rows::behind(&key(prefix))),
            floor,
            segments: open.disk.in_store().map(|_| open.committer.clone()),
            _open: open.scans.clone(),
        }
    }

    fn read(&self, (key, value): (Value, Value)) -> Result<Option<Stored>> {
        let stored = rows::entry_id(&key).and_then(|id| decode_value(id, &value));
        let stored = stored.ok_or_else(|| rows::damaged(&key))?;
        let segment = stored.place.segment;
        let segments = self.segments.as_ref();
        let is_there = segments.is_none_or(|it| it.has_segment(segment));
        Ok((segment >= self.floor && is_there).then_some(stored))
    }
}

impl Iterator for Scan {
    type Item = Result<Stored>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = self.rows.next()?;
            if let Some(stored) = row.and_then(|row| self.read(row)).transpose() {
                return Some(stored);
            }
        }
    }
}
