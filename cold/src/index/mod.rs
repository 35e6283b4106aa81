//! Names to places: which tensors lie in the cold tier, where, and what is gone for good.
//!
//! A log-structured tree on the local disk, or in the store where there is none, of which the filters are in memory:
//! some bits an entry, and a name that is not there costs no I/O. It can be built anew from the sidecars and the log on
//! the store.
//!
//! - `rows`: what stands in the tree
//! - `kept`: where the tree is
//! - `disk`: the one on the local disk, what it must not be asked, and what its failures mean
//! - `tree`: the one in the store
//! - `commit`: writing in groups; segments' tallies and the head come with each
//! - `write`: insert, move, remove: each decides under the locks of its names
//! - `gone`: floors of namespaces and graves of names: what may not come in any more
//! - `tidy`: clearing a namespace, and the rows of those that were cleared
//! - `scan`: a namespace in order
//! - `tally`: what of each segment is alive
//! - `open`: opening, closing and emptying the directory, or what is in the store
//! - `rebuild`: out of what the store has
//! - `state`: whether the directory can be trusted
//! - `settings`: where it lies, and what it may have
//! - `error`: what the tier above does about a failure
//!
//! Locks are taken in this order: `open` (shared; alone by `reopen`), `tidy`, stripes by their number,
//! then one of the leaves (floors, graves, the queue of changes, and under that what is known of those written).
//! All calls but [`ColdIndex::may_have`] and the counters may read or write the disk.

mod commit;
#[cfg(test)]
mod crash;
mod disk;
mod error;
mod gone;
mod kept;
#[cfg(test)]
mod model;
mod open;
#[cfg(test)]
mod racing;
mod rebuild;
mod rows;
mod scan;
mod settings;
mod state;
mod tally;
#[cfg(test)]
mod testing;
mod tidy;
mod tree;
mod write;

use std::sync::Arc;

use bowstring_cache::Id;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use parking_lot::{Mutex, RwLock};

use commit::Change;
use gone::Graves;
use open::Open;
use tally::Tell;
use tree::Tree;

pub use error::{IndexError, Result};
pub use open::wipe;
pub use rebuild::Rebuild;
pub use scan::Scan;
pub use settings::{Home, IndexSettings};
pub use state::State;
pub use tally::Segment;
pub use tree::InStore;

use crate::entry::{Number, Place, Stored};
use crate::format::Gone;

/// Items of one call that are decided on and written at once: others wait for as long.
const CHUNK: usize = 512;

/// Something that is gone, of which the store's log does not say so yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    row: Vec<u8>,
    /// What.
    pub gone: Gone,
    /// From all segments below this number.
    pub below: Number,
}

/// The index. One process at a time has a directory; all threads of it share this.
pub struct ColdIndex {
    settings: IndexSettings,
    /// None while it is being opened again, or when that failed.
    open: RwLock<Option<Open>>,
    graves: Arc<Mutex<Graves>>,
    state: Mutex<Option<State>>,
}

impl ColdIndex {
    /// Opens or creates. Whether what is there can be trusted, [`ColdIndex::state`] says.
    ///
    /// # Errors
    /// `Locked`; `Unusable` for what has to be [begun anew](Rebuild::begin); `Store`.
    pub fn open(settings: IndexSettings) -> Result<ColdIndex> {
        let graves = Arc::new(Mutex::new(Graves::new()));
        let open = Open::new(&settings, graves.clone())?;
        let known = match (&settings.home, open.disk.in_store()) {
            (Home::Dir(dir), _) => State::read(dir),
            (Home::Store(place), Some(tree)) => {
                let epoch = tree.epoch();
                epoch.map(|epoch| State::new(place.store.identity(), epoch))
            }
            (Home::Store(_), None) => None,
        };
        let state = known.filter(|_| open.whole);
        let index = ColdIndex::of(settings, open, graves);
        match state {
            Some(state) => index.write_state(state)?,
            None => index.mark_lost()?,
        }
        Ok(index)
    }

    /// An empty one in the place of whatever is there, which vouches for nothing yet.
    ///
    /// # Errors
    /// As [`ColdIndex::open`].
    pub(crate) fn begin(settings: IndexSettings) -> Result<ColdIndex> {
        let graves = Arc::new(Mutex::new(Graves::new()));
        let open = Open::begin(&settings, graves.clone())?;
        Ok(ColdIndex::of(settings, open, graves))
    }

    fn of(settings: IndexSettings, open: Open, graves: Arc<Mutex<Graves>>) -> ColdIndex {
        ColdIndex {
            settings,
            open: RwLock::new(Some(open)),
            graves,
            state: Mutex::new(None),
        }
    }

    /// Begins with nothing, in the store.
    fn renew(&self) -> Result<()> {
        let begun = Open::begin(&self.settings, self.graves.clone())?;
        *self.state.lock() = None;
        *self.open.write() = Some(begun);
        Ok(())
    }

    /// Whether it lies in the store and is not what was written there: it is to be [renewed](Rebuild::renew).
    pub fn is_damaged(&self) -> bool {
        let damaged = |open: &Open| open.disk.in_store().is_some_and(Tree::is_damaged);
        self.is_in_store() && (self.state().is_none() || self.peek(damaged).unwrap_or(true))
    }

    pub(crate) fn settings(&self) -> &IndexSettings {
        &self.settings
    }

    /// Whether it lies in the store: then whatever asks it may ask the store.
    pub fn is_in_store(&self) -> bool {
        matches!(self.settings.home, Home::Store(_))
    }

    /// All segments and log records below this number are in what was opened. Those above have to be taken in again
    /// ([`Rebuild::onto`]), where the index lies in the store; else there are none.
    pub fn covered(&self) -> Number {
        let covered = |open: &Open| open.disk.in_store().map(Tree::covered);
        let covered = self.peek(covered).flatten();
        covered.map_or(Number(u64::MAX), Number)
    }

    /// Leaves all of it in the store, so that the next start has nothing to read again.
    ///
    /// # Errors
    /// `Lost`, `Store`.
    pub fn save(&self) -> Result<()> {
        self.with(|open| open.disk.in_store().map_or(Ok(()), Tree::save))
    }

    /// What the index says of itself; none where it cannot be trusted: because it is new, was given up,
    /// belongs to another format, or lacks something that was acknowledged. Then wipe it and build it anew.
    pub fn state(&self) -> Option<State> {
        self.state.lock().clone()
    }

    /// Says that from now on the index is whole: that of this store, in this epoch.
    ///
    /// # Errors
    /// `Lost` when that cannot be written down.
    pub fn set_state(&self, store: &str, epoch: u64) -> Result<()> {
        // What it vouches for first.
        self.with(|open| {
            open.committer.vouch(&open.disk)?;
            open.disk.sync()
        })?;
        self.write_state(State::new(store, epoch))
    }

    /// Says that the index may not be trusted any more, from the next opening on: something is gone of
    /// which it could not be told. Works on a full disk.
    ///
    /// # Errors
    /// `Lost` when even that fails.
    pub fn mark_lost(&self) -> Result<()> {
        let before = self.state.lock().take();
        match &self.settings.home {
            Home::Dir(dir) => State::remove(dir).map_err(|error| self.not_written(&error)),
            Home::Store(_) if before.is_none() => Ok(()),
            Home::Store(_) => self.with(|open| open.disk.in_store().map_or(Ok(()), Tree::disown)),
        }
    }

    /// Whether it works.
    ///
    /// # Errors
    /// `Lost` where it has to be opened again.
    pub fn check(&self) -> Result<()> {
        self.with(|_| Ok(()))
    }

    /// Whether there may be an entry; out of memory, about a microsecond, and at once from an empty index.
    /// Sometimes yes where there is none; never no where there is one, unless the index is lost.
    pub fn may_have(&self, id: &Id) -> bool {
        let Some(open) = self.open.try_read() else {
            return false;
        };
        open.as_ref().is_some_and(|open| {
            open.committer.entries() > 0
                && open.disk.check().is_ok()
                && open.disk.may_have(&rows::entry_key(id))
        })
    }

    /// The entry of a name.
    ///
    /// # Errors
    /// `Lost`, `Corrupt`, `Store`.
    pub fn get(&self, id: &Id) -> Result<Option<Stored>> {
        self.with(|open| open.found(id))
    }

    /// The entries of several names; where they have to be asked for in the store, at one time.
    ///
    /// # Errors
    /// As [`ColdIndex::get`].
    pub fn get_all(&self, ids: &[Id]) -> Result<Vec<Option<Stored>>> {
        self.in_chunks(ids, Open::found_all)
    }

    /// Enters what lies in a new segment: each where nothing of a later segment is there, whatever its version,
    /// and nothing has removed it meanwhile. Gives which of them are there now. Written a few hundred at a
    /// time, each of these at once.
    ///
    /// # Errors
    /// `Lost`, `Corrupt`; what was entered by then is not known, and entering it again is harmless.
    pub fn insert_all(&self, entries: &[Stored]) -> Result<Vec<bool>> {
        self.in_chunks(entries, |open, entries| {
            open.disk.wait_for_room(true)?;
            open.insert(entries)
        })
    }

    /// Enters the new places of entries that were copied: each only where the index still has the old one.
    /// Gives which of them were.
    ///
    /// # Errors
    /// As [`ColdIndex::insert_all`].
    pub fn move_all(&self, moved: &[(Place, Stored)]) -> Result<Vec<bool>> {
        self.in_chunks(moved, |open, moved| {
            open.disk.wait_for_room(true)?;
            open.relocate(moved)
        })
    }

    /// Removes names, each only if its version is below the one that is given; nor does what is like that
    /// come in later out of a segment below `log`. Gives the versions that went.
    ///
    /// Once it returns, the removal outlives a kill (with `fsync`, a power cut). Calls at a time are
    /// written together.
    ///
    /// # Errors
    /// As [`ColdIndex::insert_all`].
    pub fn remove_all(
        &self,
        ids: &[(Id, Option<Version>)],
        log: Number,
    ) -> Result<Vec<Option<Version>>> {
        self.in_chunks(ids, |open, ids| open.remove(ids, log, false))
    }

    /// As [`ColdIndex::remove_all`] of all versions, and remembers with the same write that the store's log has
    /// to be told ([`ColdIndex::pending`]).
    ///
    /// # Errors
    /// As [`ColdIndex::insert_all`].
    pub fn remove_noted(
        &self,
        ids: &[(Id, Option<Version>)],
        log: Number,
    ) -> Result<Vec<Option<Version>>> {
        self.in_chunks(ids, |open, ids| open.remove(ids, log, true))
    }

    /// What a log record names is gone from segments below the number beside it: what is in the index of those, and
    /// what comes in of them later.
    ///
    /// # Errors
    /// As [`ColdIndex::insert_all`].
    pub fn remove_logged(&self, gone: &[(Gone, Number)]) -> Result<()> {
        let mut names = Vec::new();
        for (gone, below) in gone {
            match gone {
                Gone::Name(id) => names.push((id, *below)),
                Gone::Namespace(tenant, namespace) => self.clear(tenant, namespace, *below)?,
            }
        }
        let removed = self.in_chunks(&names, |open, names| open.remove_below(names));
        removed.map(drop)
    }

    /// Removes entries that are still where they are said to be: their segment is given up. Gives which of them
    /// were.
    ///
    /// # Errors
    /// As [`ColdIndex::insert_all`].
    pub fn remove_placed(&self, entries: &[(Id, Place)]) -> Result<Vec<bool>> {
        self.in_chunks(entries, |open, entries| open.take_placed(entries))
    }

    /// Everything of a namespace in segments below `log` is gone, at once; its rows go in
    /// [`ColdIndex::tidy`], and until then count in [`ColdIndex::segments`] and [`ColdIndex::len`].
    ///
    /// # Errors
    /// `Lost`.
    pub fn clear(&self, tenant: &Tenant, namespace: &Namespace, log: Number) -> Result<()> {
        self.with(|open| open.clear(rows::namespace_prefix(tenant, namespace), log, false))
    }

    /// As [`ColdIndex::clear`], and remembers that as [`ColdIndex::remove_noted`] does.
    ///
    /// # Errors
    /// `Lost`.
    pub fn clear_noted(&self, tenant: &Tenant, namespace: &Namespace, log: Number) -> Result<()> {
        self.with(|open| open.clear(rows::namespace_prefix(tenant, namespace), log, true))
    }

    /// What is gone and not yet said in the store's log, at most `limit` of it, what went first before the rest.
    pub fn pending(&self, limit: usize) -> Vec<Pending> {
        let read = |row: &Vec<u8>| {
            let (below, gone) = rows::pending(row)?;
            let row = row.clone();
            Some(Pending { row, gone, below })
        };
        self.peek(|open| {
            let pending = open.pending.lock();
            pending.iter().filter_map(read).take(limit).collect()
        })
        .unwrap_or_default()
    }

    /// The store's log says these.
    ///
    /// # Errors
    /// `Lost`: they are pending still.
    pub fn logged(&self, pending: &[Pending]) -> Result<()> {
        self.with(|open| {
            let rows = pending.iter().map(|pending| (pending.row.clone(), None));
            open.commit(Change {
                rows: rows.collect(),
                ..Change::default()
            })?;
            let mut left = open.pending.lock();
            pending.iter().for_each(|pending| {
                left.remove(&pending.row);
            });
            Ok(())
        })
    }

    /// No segment below `before` will come in any more ([`ColdIndex::insert_all`]): what was kept to refuse
    /// names out of it can go. Never called, it costs some MiB, and in the end late segments are refused.
    pub fn settle(&self, before: Number) {
        self.graves.lock().settle(before);
        self.peek(|open| {
            if let Some(tree) = open.disk.in_store() {
                tree.settle(before.0);
            }
        });
    }

    /// The entries of a namespace in the order of their keys, as they are now: those whose key begins with
    /// `prefix` and is above `after`.
    ///
    /// # Errors
    /// `Lost`.
    pub fn scan(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Scan> {
        self.with(|open| Ok(Scan::new(open, tenant, namespace, prefix, after)))
    }

    /// All segments, the oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        self.peek(|open| open.committer.segments())
            .unwrap_or_default()
    }

    /// Says how large the file of a segment is.
    ///
    /// # Errors
    /// `Lost`.
    pub fn add_segment(&self, number: Number, total_bytes: u64) -> Result<()> {
        self.tell(number, Tell::Total(total_bytes))
    }

    /// Says that a segment's file is gone. Entries that point there are not looked for.
    ///
    /// # Errors
    /// `Lost`.
    pub fn drop_segment(&self, number: Number) -> Result<()> {
        self.tell(number, Tell::Dropped)
    }

    /// The highest clock of a version that was ever entered.
    pub fn max_hlc(&self) -> u64 {
        self.peek(|open| open.committer.max_hlc())
            .unwrap_or_default()
    }

    /// The highest number of a segment, or of what is gone, that the index knows: all that come are above.
    pub fn highest(&self) -> Number {
        let highest = self.peek(|open| {
            let segments = open.committer.segments();
            let segment = segments.last().map_or(Number(0), |segment| segment.number);
            let pending = open
                .pending
                .lock()
                .last()
                .and_then(|row| rows::pending(row));
            let pending = pending.map_or(Number(0), |(number, _)| number);
            segment.max(open.floors.highest()).max(pending)
        });
        highest.unwrap_or(Number(0))
    }

    /// How many entries there are, those of cleared namespaces that were not swept yet among them.
    pub fn len(&self) -> u64 {
        self.peek(|open| open.committer.entries())
            .unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held in memory, what is written and merged just now among them. Walks over the tables: for a
    /// timer, not for each request.
    pub fn resident_bytes(&self) -> u64 {
        self.peek(Open::resident_bytes).unwrap_or_default()
    }

    /// A little of the work that is left over; says whether there is more. Looks at up to `rows` rows.
    ///
    /// # Errors
    /// `Lost`, `Corrupt`.
    pub fn tidy(&self, rows: usize) -> Result<bool> {
        self.with(|open| open.tidy(rows.clamp(1, CHUNK)))
    }

    /// Opens the directory again after a failed write, once there is room. What was acknowledged is there;
    /// of what failed, all or nothing, and the caller has to say again what is gone.
    ///
    /// # Errors
    /// `Lost` as long as it does not work, or a scan is going on; `Unusable` for what has to be rebuilt.
    pub fn reopen(&self) -> Result<()> {
        if self.is_in_store() {
            let revived = |open: &Open| open.disk.in_store().map_or(Ok(()), Tree::revive);
            return self.peek(revived).unwrap_or(Ok(()));
        }
        let mut open = self.open.write();
        if let Some(open) = &*open
            && Arc::strong_count(&open.scans) > 1
        {
            return Err(IndexError::Lost("a scan is going on".into()));
        }
        // First the old one: it has the directory's lock.
        *open = None;
        let new = Open::new(&self.settings, self.graves.clone())?;
        if !new.whole {
            self.mark_lost()?;
        }
        *open = Some(new);
        Ok(())
    }

    fn write_state(&self, state: State) -> Result<()> {
        if let Home::Dir(dir) = &self.settings.home {
            let written = state.write(dir, self.settings.fsync);
            written.map_err(|error| self.not_written(&error))?;
        }
        *self.state.lock() = Some(state);
        Ok(())
    }

    fn not_written(&self, error: &std::io::Error) -> IndexError {
        IndexError::Lost(format!("{} error=`{error}`", self.settings.home))
    }

    fn tell(&self, number: Number, tell: Tell) -> Result<()> {
        let change = Change {
            tells: vec![(number, tell)],
            ..Change::default()
        };
        self.with(|open| open.commit(change))
    }

    fn in_chunks<I, T>(
        &self,
        items: &[I],
        change: impl Fn(&Open, &[I]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(items.len());
        for items in items.chunks(CHUNK) {
            all.extend(self.with(|open| change(open, items))?);
        }
        Ok(all)
    }

    fn with<T>(&self, work: impl FnOnce(&Open) -> Result<T>) -> Result<T> {
        let open = self.open.read();
        let open = open
            .as_ref()
            .ok_or_else(|| IndexError::Lost("not open".into()))?;
        open.disk.check()?;
        work(open)
    }

    fn peek<T>(&self, look: impl FnOnce(&Open) -> T) -> Option<T> {
        self.open.read().as_ref().map(look)
    }
}
