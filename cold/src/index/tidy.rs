//! Takes away, a little at a time, the rows of namespaces that were cleared, and then their floors.

use std::ops::Bound;

use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use super::commit::Change;
use super::error::Result;
use super::gone::Floor;
use super::open::Open;
use super::rows;
use crate::entry::Number;

/// The namespace that is being swept.
struct Sweep {
    prefix: Vec<u8>,
    /// As it was when the sweep began.
    floor: Floor,
    /// What could come in under the floor had come in when the sweep began: it is the last.
    last: bool,
    /// Rows up to this one are done.
    at: Option<Vec<u8>>,
}

/// How far the work has come. One at a time does it.
#[derive(Default)]
pub(super) struct Tidy(Mutex<Option<Sweep>>);

impl Open {
    /// Looks at up to `rows` rows; says whether there is more to do.
    pub(super) fn tidy(&self, rows_max: usize) -> Result<bool> {
        let mut sweep = self.tidy.0.lock();
        if sweep.is_none() {
            *sweep = self.next_sweep();
        }
        let Some(now) = sweep.as_mut() else {
            return Ok(false);
        };
        let rows = self.dead_rows(now, rows_max)?;
        let ids: Vec<_> = rows.iter().filter_map(|row| rows::entry_id(row)).collect();
        self.sweep(&ids)?;
        if rows.len() < rows_max
            && let Some(done) = sweep.take()
        {
            self.end(&done)?;
        }
        Ok(true)
    }

    fn next_sweep(&self) -> Option<Sweep> {
        let settled = self.graves.lock().settled();
        let (prefix, floor) = self.floors.to_sweep(settled)?;
        Some(Sweep {
            last: floor.number <= settled,
            prefix,
            floor,
            at: None,
        })
    }

    /// The next rows, those above the floor among them: what is dead is found out under the lock.
    fn dead_rows(&self, sweep: &mut Sweep, rows_max: usize) -> Result<Vec<Vec<u8>>> {
        let from = match &sweep.at {
            Some(at) => Bound::Excluded(at.clone()),
            None => Bound::Included(sweep.prefix.clone()),
        };
        let range = self.disk.range(from, rows::behind(&sweep.prefix));
        let mut found = Vec::new();
        for row in range.take(rows_max) {
            found.push(row?.0.to_vec());
        }
        if let Some(last) = found.last() {
            sweep.at = Some(last.clone());
        }
        Ok(found)
    }

    fn end(&self, sweep: &Sweep) -> Result<()> {
        if !sweep.last {
            self.floors.swept(&sweep.prefix, sweep.floor);
            return Ok(());
        }
        let key = rows::floor_key(&sweep.prefix);
        // Not while somebody raises it.
        let _lock = self.lock(std::iter::once(XxHash3_64::oneshot(&key)));
        if self.floors.of(&sweep.prefix) == sweep.floor.number {
            let change = Change {
                rows: vec![(key, None)],
                ..Change::default()
            };
            self.commit(change)?;
            self.floors.forget(&sweep.prefix, sweep.floor.number);
        }
        Ok(())
    }

    /// Everything of a namespace in segments below `log` is gone.
    pub(super) fn clear(&self, prefix: Vec<u8>, log: Number, noted: bool) -> Result<()> {
        let key = rows::floor_key(&prefix);
        let _lock = self.lock(std::iter::once(XxHash3_64::oneshot(&key)));
        if self.floors.of(&prefix) >= log {
            return self.disk.check();
        }
        let note = noted.then(|| rows::pending_key(log, &key));
        let mut rows = vec![(key, Some(rows::numbers([log.0])))];
        rows.extend(note.clone().map(|note| (note, Some(Vec::new()))));
        self.commit(Change {
            rows,
            ..Change::default()
        })?;
        self.floors.raise(prefix, log);
        self.pending.lock().extend(note);
        Ok(())
    }
}

/// The floors on the disk.
pub(super) fn load_floors(open: &Open) -> Result<()> {
    for row in open.disk.starting_with(rows::FLOORS) {
        let (key, value) = row?;
        let [number] = rows::read_numbers(&value).ok_or_else(|| rows::damaged(&key))?;
        open.floors.raise(rows::floor_prefix(&key), Number(number));
    }
    Ok(())
}
