//! The files of one namespace: read once for their keys, then by row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowstring_cache::Cache;
use bowstring_cache::Id;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::lower::Description;
use bowstring_files::ColumnMap;
use bowstring_wire::action::FileColumns;
use bowstring_wire::error::{Error, Result, visible};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;
use twox_hash::XxHash3_128;

use super::Size;
use super::file::{AttachedFile, Value};
use super::keys::{Gathering, Keys, Place};
use super::purse::Purse;
use crate::flight::load::roots::Found;

/// About what is kept of a file: its footer, which is about a part in so many of it, and the rest.
const FILE_SHARE: u64 = 1_024;
const FILE_BYTES: u64 = 16 << 10;

/// The rows of files under their keys.
pub struct Set {
    files: Vec<AttachedFile>,
    keys: Keys,
    bytes: u64,
    version: Version,
    closed: AtomicBool,
    charges: Vec<Charge>,
}

/// Files that were read, and are no namespace's yet.
pub struct Unnamed {
    files: Vec<AttachedFile>,
    keys: Keys,
    bytes: u64,
    charges: Vec<Charge>,
}

/// A row that was read.
pub struct Read {
    /// What it is, with the checksum of its bytes.
    pub description: Description,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads the keys of files, on a thread of its own, which ends soon after nobody waits for it any more.
///
/// # Errors
/// Those of [`AttachedFile::open`]; `invalid_argument` where a key stands twice, or there is no row.
pub async fn read(purse: Purse, found: Vec<Found>, columns: FileColumns) -> Result<Unnamed> {
    let map = ColumnMap {
        key: columns.key,
        tensor: columns.tensor,
        metadata: columns.metadata,
        ..ColumnMap::default()
    };
    let waits = Arc::new(());
    let waited_for = Arc::downgrade(&waits);
    let goes_on = move || match waited_for.strong_count() {
        0 => Err(Error::unavailable("nobody waits for it any more")),
        _ => Ok(()),
    };
    let read = tokio::task::spawn_blocking(move || read_all(&purse, found, &map, &goes_on)).await;
    drop(waits);
    read.map_err(|_| Error::internal("the reading of files has stopped"))?
}

fn read_all(
    purse: &Purse,
    found: Vec<Found>,
    map: &ColumnMap,
    goes_on: &dyn Fn() -> Result<()>,
) -> Result<Unnamed> {
    let mut gathering = Gathering::new(purse);
    let (mut files, mut charges) = (Vec::new(), Vec::new());
    for one in found {
        goes_on()?;
        let (_, bytes) = one.open()?;
        let number = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let room = FILE_BYTES + bytes / FILE_SHARE;
        let charge = purse.charge(Account::Index, room);
        charges.push(charge.ok_or_else(|| {
            Error::exhausted(format!(
                "memory has no room for what is kept of the files; bytes=`{room}` limit=`memory`"
            ))
        })?);
        files.extend(AttachedFile::open(
            purse,
            one,
            number,
            map,
            &mut gathering,
            goes_on,
        )?);
    }
    let name = |place: Place| {
        let file = files.get(place.file as usize);
        let file = file.map(AttachedFile::name).unwrap_or_default();
        format!("file=`{file}` row=`{}`", place.row)
    };
    let (keys, charge) = match gathering.finish()? {
        Ok(keys) => keys,
        Err(twice) => {
            let [first, second] = twice.places.map(name);
            return Err(Error::invalid(format!(
                "a key stands twice, and so nothing was attached; key=`{}` {first} and {second}",
                visible(&twice.key)
            )));
        }
    };
    if keys.count() == 0 {
        return Err(Error::invalid(
            "the files have no rows; expected one at least",
        ));
    }
    charges.push(charge);
    let bytes = files
        .iter()
        .map(|file| file.rows() * file.row_bytes())
        .sum();
    Ok(Unnamed {
        files,
        keys,
        bytes,
        charges,
    })
}

impl Unnamed {
    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.keys.count() as u64
    }

    /// Has the cache pay for what is kept of them, which was read before there was one.
    ///
    /// # Errors
    /// `resource_exhausted` where memory has no room for it.
    pub fn charge_to(&mut self, cache: &Cache) -> Result<()> {
        let bytes = self.charges.iter().map(Charge::bytes).sum();
        let charge = cache.charge(Account::Index, bytes).ok_or_else(|| {
            Error::exhausted(format!(
                "memory has no room for the keys of the files; bytes=`{bytes}` limit=`memory`"
            ))
        })?;
        self.charges = vec![charge];
        Ok(())
    }

    /// The rows, each of this version.
    pub fn of(self, version: Version) -> Set {
        let Self {
            files,
            keys,
            bytes,
            charges,
        } = self;
        Set {
            files,
            keys,
            bytes,
            version,
            closed: AtomicBool::new(false),
            charges,
        }
    }
}

impl Set {
    /// How much there is.
    pub fn size(&self) -> Size {
        Size {
            files: self.files.len() as u64,
            rows: self.keys.count() as u64,
            bytes: self.bytes,
            index_bytes: self.charges.iter().map(Charge::bytes).sum(),
        }
    }

    /// Nothing of it comes into memory any more. Called in its namespace's turn.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether it still is what the namespace shows.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Whether a row has this key.
    pub fn has(&self, key: &str) -> bool {
        self.keys.find(key).is_some()
    }

    /// What is known of a row without reading it.
    pub fn describe(&self, id: &Id) -> Option<Description> {
        let place = self.keys.find(id.key.as_str())?;
        self.described(id.clone(), place)
    }

    /// The same of the first `limit` keys that begin with `prefix` and come after `after`.
    pub fn list(
        &self,
        (tenant, namespace): (&Tenant, &Namespace),
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Description> {
        let under = self.keys.under(prefix, after).take(limit);
        let described = under.filter_map(|(key, place)| {
            let id = Id {
                tenant: tenant.clone(),
                namespace: namespace.clone(),
                key: Key::parse(key).ok()?,
            };
            self.described(id, place)
        });
        described.collect()
    }

    fn described(&self, id: Id, place: Place) -> Option<Description> {
        let file = self.files.get(place.file as usize)?;
        let (dtype, shape) = file.description();
        Some(Description {
            id,
            version: self.version,
            dtype,
            shape: shape.clone(),
            len: file.row_bytes(),
            checksum: 0,
            expires_at_ms: None,
            source_version: None,
            metadata: Vec::new(),
            attached: true,
        })
    }

    /// Reads rows, one for each key, `None` where no row has it. It waits for the files.
    ///
    /// # Errors
    /// Those of [`AttachedFile::read`].
    pub fn read(&self, ids: &[Id]) -> Result<Vec<Option<Read>>> {
        let mut wanted: Vec<(Place, usize)> = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            wanted.extend(self.keys.find(id.key.as_str()).map(|place| (place, at)));
        }
        wanted.sort_unstable();
        let mut read: Vec<Option<Read>> = ids.iter().map(|_| None).collect();
        for of_file in wanted.chunk_by(|one, other| one.0.file == other.0.file) {
            // A key may be asked for twice.
            for each in distinct(of_file) {
                let rows: Vec<u64> = each.iter().map(|(place, _)| place.row.into()).collect();
                let Some(file) = self.files.get(each[0].0.file as usize) else {
                    continue;
                };
                let is = |at: usize, key: &str| ids[each[at].1].key.as_str() == key;
                for ((place, at), value) in each.iter().zip(file.read(&rows, &is)?) {
                    read[*at] = self.with(ids[*at].clone(), *place, value);
                }
            }
        }
        Ok(read)
    }

    fn with(&self, id: Id, place: Place, value: Value) -> Option<Read> {
        let described = self.described(id, place)?;
        Some(Read {
            description: Description {
                checksum: XxHash3_128::oneshot(&value.bytes),
                metadata: value.metadata,
                ..described
            },
            bytes: value.bytes,
        })
    }
}

/// As few parts as there have to be for no place to be in one of them twice.
fn distinct(sorted: &[(Place, usize)]) -> Vec<Vec<(Place, usize)>> {
    let mut parts: Vec<Vec<(Place, usize)>> = Vec::new();
    for same in sorted.chunk_by(|one, other| one.0 == other.0) {
        for (part, one) in same.iter().enumerate() {
            if parts.len() == part {
                parts.push(Vec::new());
            }
            parts[part].push(*one);
        }
    }
    parts
}
