//! Opening and closing the directory, or the tree in the store.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use bowstring_cache::Id;
use parking_lot::Mutex;

use super::commit::{Change, Committer};
use super::error::{IndexError, Result};
use super::gone::{Floors, Graves};
use super::kept::{Kept, Value};
use super::state::{Head, State};
use super::tally::Tally;
use super::tidy::{Tidy, load_floors};
use super::tree::Tree;
use super::{ColdIndex, Home, IndexSettings, rows, write};
use crate::entry::{Number, Stored};
use crate::format::decode_value;

/// What a note has in memory, about.
const NOTE_BYTES: u64 = 128;

/// All that belongs to one opening of the index.
pub(super) struct Open {
    pub(super) disk: Kept,
    pub(super) committer: Arc<Committer>,
    pub(super) floors: Floors,
    /// Outlives the opening: what is late is late for the next one too.
    pub(super) graves: Arc<Mutex<Graves>>,
    /// The rows that note what the store's log does not say yet.
    pub(super) pending: Mutex<BTreeSet<Vec<u8>>>,
    pub(super) stripes: Vec<Mutex<()>>,
    pub(super) tidy: Tidy,
    /// A count more for each scan that is going on.
    pub(super) scans: Arc<()>,
    /// Whether all is there that was acknowledged.
    pub(super) whole: bool,
}

impl Open {
    pub(super) fn new(settings: &IndexSettings, graves: Arc<Mutex<Graves>>) -> Result<Open> {
        match &settings.home {
            Home::Dir(dir) => {
                let failed = |error: &dyn Display| unusable(settings, error);
                std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
                // First what locks the directory.
                let disk = Kept::open(settings)?;
                let (head, acknowledged) = Head::open(dir).map_err(|error| failed(&error))?;
                let is_whole = |groups| acknowledged.is_some_and(|it| it <= groups);
                Open::of(settings, disk, Some(head), graves, is_whole)
            }
            Home::Store(_) => {
                let disk = Kept::open(settings)?;
                let epoch = disk.in_store().and_then(Tree::epoch);
                Open::of(settings, disk, None, graves, |_| epoch.is_some())
            }
        }
    }

    /// In the store, with nothing in it.
    pub(super) fn begin(settings: &IndexSettings, graves: Arc<Mutex<Graves>>) -> Result<Open> {
        match &settings.home {
            Home::Dir(dir) => {
                wipe(dir)?;
                Open::new(settings, graves)
            }
            Home::Store(place) => {
                let tree = Tree::begin(place.clone(), settings.memory_bytes)?;
                Open::of(settings, Kept::InStore(tree), None, graves, |_| false)
            }
        }
    }

    fn of(
        settings: &IndexSettings,
        disk: Kept,
        head: Option<Head>,
        graves: Arc<Mutex<Graves>>,
        is_whole: impl FnOnce(u64) -> bool,
    ) -> Result<Open> {
        let failed = |error: IndexError| match error {
            // What does not answer now may be as it should be.
            IndexError::Store(_) => error,
            _ => unusable(settings, &error),
        };
        let known = disk.get(rows::HEAD).map_err(failed)?;
        let [groups, hlc] = known
            .and_then(|row| rows::read_numbers(&row))
            .unwrap_or([0, 0]);
        let tally = load_tally(&disk).map_err(failed)?;
        let pending = load_pending(&disk).map_err(failed)?;
        let open = Open {
            disk,
            committer: Arc::new(Committer::new(tally, head, groups, hlc)),
            floors: Floors::default(),
            graves,
            pending: Mutex::new(pending),
            stripes: (0..write::STRIPES).map(|_| Mutex::default()).collect(),
            tidy: Tidy::default(),
            scans: Arc::new(()),
            whole: is_whole(groups),
        };
        load_floors(&open).map_err(failed)?;
        Ok(open)
    }

    pub(super) fn commit(&self, change: Change) -> Result<()> {
        self.committer.commit(change, &self.disk)
    }

    /// Whether a row counts that points into a segment: not all rows of one that has gone were taken away, where
    /// the index was opened as it was before that.
    pub(super) fn is_there(&self, segment: Number) -> bool {
        self.disk.in_store().is_none() || self.committer.has_segment(segment)
    }

    /// What there is of a name.
    pub(super) fn found(&self, id: &Id) -> Result<Option<Stored>> {
        let key = rows::entry_key(id);
        // The floor first: behind the row, it may have been forgotten with all that was under it.
        let floor = self.floors.of(rows::prefix_of(&key));
        self.shown(id, self.disk.get(&key)?, floor)
    }

    /// What there is of names.
    pub(super) fn found_all(&self, ids: &[Id]) -> Result<Vec<Option<Stored>>> {
        let keys: Vec<Vec<u8>> = ids.iter().map(rows::entry_key).collect();
        let floors = keys.iter().map(|key| self.floors.of(rows::prefix_of(key)));
        let floors: Vec<Number> = floors.collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let found = ids.iter().zip(self.disk.get_all(&keys)?).zip(floors);
        let found = found.map(|((id, value), floor)| self.shown(id, value, floor));
        found.collect()
    }

    fn shown(&self, id: &Id, value: Option<Value>, floor: Number) -> Result<Option<Stored>> {
        let Some(value) = value else {
            return Ok(None);
        };
        let stored = decode_value(id.clone(), &value);
        let stored = stored.ok_or_else(|| rows::damaged(&rows::entry_key(id)))?;
        let segment = stored.place.segment;
        Ok(Some(stored).filter(|_| segment >= floor && self.is_there(segment)))
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.disk.resident_bytes()
            + self.committer.resident_bytes()
            + self.floors.resident_bytes()
            + self.graves.lock().resident_bytes()
            + self.pending.lock().len() as u64 * NOTE_BYTES
    }
}

fn unusable(settings: &IndexSettings, error: &dyn Display) -> IndexError {
    IndexError::Unusable(format!("{} error=`{error}`", settings.home))
}

fn load_tally(disk: &Kept) -> Result<Tally> {
    let mut tally = Tally::default();
    for row in disk.starting_with(rows::SEGMENTS) {
        let (key, value) = row?;
        let number: Option<Number> = rows::segment_number(&key);
        let row = number.zip(rows::read_numbers(&value));
        let (number, numbers) = row.ok_or_else(|| rows::damaged(&key))?;
        tally.load(number, numbers);
    }
    Ok(tally)
}

fn load_pending(disk: &Kept) -> Result<BTreeSet<Vec<u8>>> {
    let rows = disk.starting_with(rows::PENDING);
    rows.map(|row| Ok(row?.0.to_vec())).collect()
}

/// Empties a directory that cannot be used, or not trusted, so that an index can be built anew there.
///
/// # Errors
/// `Unusable` when that cannot be done.
pub fn wipe(dir: &Path) -> Result<()> {
    let failed = |error: &dyn Display| {
        IndexError::Unusable(format!(
            "directory cannot be emptied; dir=`{}` error=`{error}`",
            dir.display()
        ))
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    // First what vouches for the rest.
    State::remove(dir).map_err(|error| failed(&error))?;
    match std::fs::remove_dir_all(dir.join("rows")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
        _ => Ok(()),
    }
}

impl Drop for ColdIndex {
    /// Leaves all of it on the disk, so that it is trusted after a power cut too. In the store, [`ColdIndex::save`]
    /// does that, while there is somebody who waits for it.
    fn drop(&mut self) {
        let open = self.open.get_mut();
        if let (Some(open), Some(state)) = (open, self.state.get_mut())
            && let Home::Dir(dir) = &self.settings.home
            && open.disk.sync().is_ok()
        {
            // Without it, it is trusted in this boot of the machine only.
            let _ = state.write(dir, true);
        }
    }
}
