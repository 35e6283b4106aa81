//! What changes entries: each decides under the locks of its names, and returns when it is on the disk.

use std::collections::HashMap;

use bowstring_cache::Id;
use bowstring_wire::version::Version;
use parking_lot::MutexGuard;
use twox_hash::XxHash3_64;

use super::commit::Change;
use super::disk::Write;
use super::error::Result;
use super::open::Open;
use super::rows;
use super::tally::Tell;
use crate::entry::{Number, Place, Stored};
use crate::format::{decode_value, encode_value};

/// Locks of names, by the highest bits of their hash. Those of a call are taken in their order.
pub(super) const STRIPES: usize = 256;

/// A name and what it is found by.
struct Name<'i> {
    id: &'i Id,
    key: Vec<u8>,
    hash: u64,
}

/// What a row says.
#[derive(Debug, Clone, Copy)]
struct Seen {
    version: Version,
    place: Place,
    bytes: u64,
    /// Under the floor of its namespace, or in a segment that has gone: gone, though its row is still there.
    sunk: bool,
}

/// What becomes of a row.
enum Decision<'i> {
    Keep,
    Put(&'i Stored),
    Take,
}

impl Open {
    pub(super) fn insert(&self, entries: &[Stored]) -> Result<Vec<bool>> {
        self.change(entries, stored_id, Vec::new(), |name, old, stored| {
            let number = stored.place.segment;
            let version = stored.description.version;
            let gone = number < self.floors.of(rows::prefix_of(&name.key))
                || self.graves.lock().is_gone(name.hash, number, version);
            let old = old.filter(|old| !old.sunk);
            if gone {
                (false, Decision::Keep)
            } else if old.is_some_and(|old| (old.version, old.place) == (version, stored.place)) {
                // Again, after a failure of which nobody knew how far it had come.
                (true, Decision::Keep)
            } else if old.is_some_and(|old| old.place.segment >= number) {
                (false, Decision::Keep)
            } else {
                (true, Decision::Put(stored))
            }
        })
    }

    pub(super) fn relocate(&self, moved: &[(Place, Stored)]) -> Result<Vec<bool>> {
        self.change(
            moved,
            |(_, new)| stored_id(new),
            Vec::new(),
            |_, old, (from, new)| {
                let version = new.description.version;
                let same = |old: Seen| !old.sunk && (old.version, old.place) == (version, *from);
                match old.is_some_and(same) {
                    true => (true, Decision::Put(new)),
                    false => (false, Decision::Keep),
                }
            },
        )
    }

    pub(super) fn remove(
        &self,
        ids: &[(Id, Option<Version>)],
        log: Number,
        noted: bool,
    ) -> Result<Vec<Option<Version>>> {
        let note = |(id, _): &(Id, _)| rows::pending_key(log, &rows::entry_key(id));
        let notes: Vec<Vec<u8>> = match noted {
            true => ids.iter().map(note).collect(),
            false => Vec::new(),
        };
        let rows = notes.iter().map(|note| (note.clone(), Some(Vec::new())));
        let removed = self.change(
            ids,
            |(id, _)| id,
            rows.collect(),
            |name, old, (_, below)| {
                self.graves.lock().bury(name.hash, log, *below);
                match old {
                    Some(old) if old.sunk => (None, Decision::Take),
                    Some(old) if below.is_none_or(|below| old.version < below) => {
                        (Some(old.version), Decision::Take)
                    }
                    _ => (None, Decision::Keep),
                }
            },
        )?;
        self.pending.lock().extend(notes);
        Ok(removed)
    }

    /// Takes away what lies in a segment below the number beside its name.
    pub(super) fn remove_below(&self, names: &[(&Id, Number)]) -> Result<Vec<()>> {
        self.change(
            names,
            |(id, _)| *id,
            Vec::new(),
            |name, old, (_, below)| {
                self.graves.lock().bury(name.hash, *below, None);
                match old {
                    Some(old) if old.sunk || old.place.segment < *below => ((), Decision::Take),
                    _ => ((), Decision::Keep),
                }
            },
        )
    }

    /// Takes away entries that are still where they are said to be.
    pub(super) fn take_placed(&self, entries: &[(Id, Place)]) -> Result<Vec<bool>> {
        self.change(
            entries,
            |(id, _)| id,
            Vec::new(),
            |_, old, (_, place)| match old {
                Some(old) if !old.sunk && old.place == *place => (true, Decision::Take),
                _ => (false, Decision::Keep),
            },
        )
    }

    /// Takes away the rows that are under their floor.
    pub(super) fn sweep(&self, ids: &[Id]) -> Result<()> {
        let swept = self.change(
            ids,
            |id| id,
            Vec::new(),
            |_, old, _| match old {
                Some(old) if old.sunk => ((), Decision::Take),
                _ => ((), Decision::Keep),
            },
        );
        swept.map(drop)
    }

    /// Decides on each item under the locks of all of their names, and writes what was decided at once.
    /// An item sees what was decided on those before it. `notes` are written with that.
    fn change<'i, I, T>(
        &self,
        items: &'i [I],
        id: impl Fn(&'i I) -> &'i Id,
        notes: Vec<Write>,
        decide: impl Fn(&Name<'i>, Option<Seen>, &'i I) -> (T, Decision<'i>),
    ) -> Result<Vec<T>> {
        self.disk.check()?;
        let names: Vec<Name<'_>> = items.iter().map(|item| Name::new(id(item))).collect();
        let _locks = self.lock(names.iter().map(|name| name.hash));
        let mut decided = Vec::with_capacity(items.len());
        let mut change = Change {
            rows: notes,
            ..Change::default()
        };
        let mut changed: HashMap<&[u8], Option<Seen>> = HashMap::new();
        let seen = self.seen(&names)?;
        for ((name, item), seen) in names.iter().zip(items).zip(seen) {
            let old = changed.get(&name.key[..]).copied().unwrap_or(seen);
            let (answer, decision) = decide(name, old, item);
            decided.push(answer);
            let new = match decision {
                Decision::Keep => continue,
                Decision::Put(stored) => Some(stored),
                Decision::Take => None,
            };
            if let Some(old) = old {
                change
                    .tells
                    .push((old.place.segment, Tell::Lost(old.bytes)));
            }
            if let Some(new) = new {
                let bytes = new.file_bytes();
                change.tells.push((new.place.segment, Tell::Gained(bytes)));
                change.hlc = change.hlc.max(new.description.version.hlc);
            }
            let value = new.map(|new| {
                let mut value = Vec::with_capacity(128);
                encode_value(new, &mut value);
                value
            });
            change.rows.push((name.key.clone(), value));
            changed.insert(&name.key, new.map(Seen::of));
        }
        self.commit(change)?;
        Ok(decided)
    }

    /// The rows of names. One that cannot be decoded counts as none: it is a miss for readers too.
    fn seen(&self, names: &[Name<'_>]) -> Result<Vec<Option<Seen>>> {
        let keys: Vec<&[u8]> = names.iter().map(|name| &name.key[..]).collect();
        let rows = self.disk.get_all(&keys)?;
        let seen = names.iter().zip(rows).map(|(name, row)| {
            let stored = decode_value(name.id.clone(), &row?)?;
            let segment = stored.place.segment;
            let is_under = segment < self.floors.of(rows::prefix_of(&name.key));
            Some(Seen {
                sunk: is_under || !self.is_there(segment),
                ..Seen::of(&stored)
            })
        });
        Ok(seen.collect())
    }

    /// Locks names against all who change them.
    pub(super) fn lock(&self, hashes: impl Iterator<Item = u64>) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes = hashes.map(|hash| hash >> 56).collect::<Vec<_>>();
        stripes.sort_unstable();
        stripes.dedup();
        let stripes = stripes
            .into_iter()
            .filter_map(|at| usize::try_from(at).ok());
        let stripes = stripes.filter_map(|at| self.stripes.get(at));
        stripes.map(|stripe| stripe.lock()).collect()
    }
}

fn stored_id(stored: &Stored) -> &Id {
    &stored.description.id
}

impl Name<'_> {
    fn new(id: &Id) -> Name<'_> {
        let key = rows::entry_key(id);
        let hash = XxHash3_64::oneshot(&key);
        Name { id, key, hash }
    }
}

impl Seen {
    fn of(stored: &Stored) -> Seen {
        Seen {
            version: stored.description.version,
            place: stored.place,
            bytes: stored.file_bytes(),
            sunk: false,
        }
    }
}
