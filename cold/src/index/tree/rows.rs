//! Rows of several sources in the order of their keys. Of two for one key, that of the newer source counts.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::shared::Shared;
use super::table::Run;
use crate::format::table::Row;
use crate::index::error::Result;

/// Blocks that a scan reads at a time.
const SCAN_BLOCKS: usize = 4;
/// What a row has in memory besides its key and value: nodes that are two thirds full, and two allocations.
const ROW_BYTES: usize = 160;

/// Rows that were written last, in memory.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    pub(super) rows: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
}

impl Memtable {
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let value = value.map(Bytes::copy_from_slice);
        let len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        self.bytes += len(&value);
        match self.rows.insert(Bytes::copy_from_slice(key), value) {
            Some(before) => self.bytes -= len(&before),
            None => self.bytes += key.len() + ROW_BYTES,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn range(&self, from: &Bound<Vec<u8>>, until: &[u8]) -> Source {
        let from = match from {
            Bound::Included(key) => Bound::Included(&key[..]),
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            Bound::Unbounded => Bound::Unbounded,
        };
        let is_below = |row: &(&Bytes, &Option<Bytes>)| *row.0 < *until;
        let rows = self.rows.range::<[u8], _>((from, Bound::Unbounded));
        let rows = rows.take_while(is_below);
        let rows: Vec<Row> = rows
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Source::Memory(rows.into_iter())
    }
}

pub(super) enum Source {
    Memory(std::vec::IntoIter<Row>),
    Tables(Box<Run>),
}

impl Source {
    fn next(&mut self) -> Result<Option<Row>> {
        match self {
            Source::Memory(rows) => Ok(rows.next()),
            Source::Tables(run) => run.next(),
        }
    }
}

/// The rows of several sources, the newest first.
pub(super) struct Merged {
    /// Each with its next row.
    sources: Vec<(Option<Row>, Source)>,
}

impl Merged {
    pub(super) fn new(sources: Vec<Source>) -> Result<Merged> {
        let with_next = |mut source: Source| Ok((source.next()?, source));
        let sources: Result<Vec<_>> = sources.into_iter().map(with_next).collect();
        Ok(Merged { sources: sources? })
    }

    /// The next row, or that its key is gone.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let mut newest: Option<(usize, &Bytes)> = None;
        for (at, (next, _)) in self.sources.iter().enumerate() {
            if let Some((key, _)) = next
                && newest.is_none_or(|(_, lowest)| key < lowest)
            {
                newest = Some((at, key));
            }
        }
        let Some((at, _)) = newest else {
            return Ok(None);
        };
        let Some(row) = self.step(at)? else {
            return Ok(None);
        };
        for older in at + 1..self.sources.len() {
            let next = self.sources[older].0.as_ref();
            if next.is_some_and(|(key, _)| *key == row.0) {
                self.step(older)?;
            }
        }
        Ok(Some(row))
    }

    fn step(&mut self, at: usize) -> Result<Option<Row>> {
        let (next, source) = &mut self.sources[at];
        let following = source.next()?;
        Ok(std::mem::replace(next, following))
    }
}

/// The rows of a range of keys, as they were when it was asked for.
pub(in crate::index) struct Rows {
    shared: std::sync::Arc<Shared>,
    from: Bound<Vec<u8>>,
    until: Vec<u8>,
    state: Progress,
}

enum Progress {
    /// No table was read yet.
    Asked(Vec<Source>),
    Reading(Merged),
    Ended,
}

impl Rows {
    pub(super) fn new(
        shared: &std::sync::Arc<Shared>,
        from: Bound<Vec<u8>>,
        until: Vec<u8>,
    ) -> Rows {
        let (mut sources, version) = {
            let state = shared.state.read();
            let sealed = state.sealed.iter().rev().map(|sealed| &sealed.rows);
            let memory = std::iter::once(&state.active).chain(sealed);
            let sources: Vec<Source> = memory.map(|rows| rows.range(&from, &until)).collect();
            (sources, state.version.clone())
        };
        let start = match &from {
            Bound::Included(key) | Bound::Excluded(key) => &key[..],
            Bound::Unbounded => &[],
        };
        let mut run = |tables: Vec<_>| {
            if !tables.is_empty() {
                let cache = Some(shared.cache.clone());
                let run = Run::new(shared.io.clone(), cache, SCAN_BLOCKS, tables, start);
                sources.push(Source::Tables(Box::new(run)));
            }
        };
        let is_in = |table: &&std::sync::Arc<super::table::Table>| {
            table.name.first < until && table.name.last[..] >= *start
        };
        for (at, level) in version.levels.iter().enumerate() {
            let tables = level.iter().filter(is_in).cloned();
            match at {
                0 => tables.for_each(|table| run(vec![table])),
                _ => run(tables.collect()),
            }
        }
        Rows {
            shared: shared.clone(),
            state: Progress::Asked(sources),
            from,
            until,
        }
    }

    fn read(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        loop {
            let merged = match &mut self.state {
                Progress::Ended => return Ok(None),
                Progress::Reading(merged) => merged,
                Progress::Asked(sources) => {
                    let merged = Merged::new(std::mem::take(sources))?;
                    self.state = Progress::Reading(merged);
                    continue;
                }
            };
            let Some((key, value)) = merged.next()? else {
                return Ok(None);
            };
            if key >= self.until {
                return Ok(None);
            }
            let is_before = match &self.from {
                Bound::Included(from) => key < *from,
                Bound::Excluded(from) => key <= *from,
                Bound::Unbounded => false,
            };
            if let Some(value) = value.filter(|_| !is_before) {
                return Ok(Some((key, value)));
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if !matches!(read, Ok(Some(_))) {
            self.state = Progress::Ended;
        }
        self.shared.checked(read).transpose()
    }
}
