//! Opening and closing the directory.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::commit::{Change, Committer};
use super::disk::Disk;
use super::error::{IndexError, Result, unreadable};
use super::gone::{Floors, Graves};
use super::state::{Head, State};
use super::tally::Tally;
use super::tidy::{Tidy, load_floors};
use super::{ColdIndex, IndexSettings, rows, write};
use crate::entry::Number;

/// What a note has in memory, about.
const NOTE_BYTES: u64 = 128;

/// All that belongs to one opening of the directory.
pub(super) struct Open {
    pub(super) disk: Disk,
    pub(super) committer: Committer,
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
        let unusable = |error: &dyn Display| {
            IndexError::Unusable(format!("dir=`{}` error=`{error}`", settings.dir.display()))
        };
        std::fs::create_dir_all(&settings.dir).map_err(|error| unusable(&error))?;
        // First what locks the directory.
        let disk = Disk::open(
            &settings.dir.join("rows"),
            settings.memory_bytes,
            settings.fsync,
        )?;
        let (head, acknowledged) = Head::open(&settings.dir).map_err(|error| unusable(&error))?;
        let known = disk.get(rows::HEAD)?;
        let [groups, hlc] = known
            .and_then(|row| rows::read_numbers(&row))
            .unwrap_or([0, 0]);
        let tally = load_tally(&disk).map_err(|error| unusable(&error))?;
        let pending = load_pending(&disk).map_err(|error| unusable(&error))?;
        let open = Open {
            disk,
            committer: Committer::new(tally, head, groups, hlc),
            floors: Floors::default(),
            graves,
            pending: Mutex::new(pending),
            stripes: (0..write::STRIPES).map(|_| Mutex::default()).collect(),
            tidy: Tidy::default(),
            scans: Arc::new(()),
            whole: acknowledged.is_some_and(|acknowledged| acknowledged <= groups),
        };
        load_floors(&open).map_err(|error| unusable(&error))?;
        Ok(open)
    }

    pub(super) fn commit(&self, change: Change) -> Result<()> {
        self.committer.commit(change, &self.disk)
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.disk.resident_bytes()
            + self.committer.resident_bytes()
            + self.floors.resident_bytes()
            + self.graves.lock().resident_bytes()
            + self.pending.lock().len() as u64 * NOTE_BYTES
    }
}

fn load_tally(disk: &Disk) -> Result<Tally> {
    let mut tally = Tally::default();
    for row in disk.starting_with(rows::SEGMENTS) {
        let (key, value) = row.into_inner().map_err(unreadable)?;
        let number: Option<Number> = rows::segment_number(&key);
        let row = number.zip(rows::read_numbers(&value));
        let (number, numbers) = row.ok_or_else(|| rows::damaged(&key))?;
        tally.load(number, numbers);
    }
    Ok(tally)
}

fn load_pending(disk: &Disk) -> Result<BTreeSet<Vec<u8>>> {
    let rows = disk.starting_with(rows::PENDING);
    rows.map(|row| Ok(row.key().map_err(unreadable)?.to_vec()))
        .collect()
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
    /// Leaves all of it on the disk, so that it is trusted after a power cut too.
    fn drop(&mut self) {
        let open = self.open.get_mut();
        if let (Some(open), Some(state)) = (open, self.state.get_mut())
            && open.disk.sync().is_ok()
        {
            // Without it, it is trusted in this boot of the machine only.
            let _ = state.write(&self.settings.dir, true);
        }
    }
}
