//! DELETE and UPDATE: a query finds entries and their versions (`rewrite`), and each that is still of its version is
//! changed, by the same functions of the engine as the actions `delete`, `expire`, `pin` and `unpin`; other metadata is a
//! put of the same bytes, which the engine copies.
//!
//! INSERT: a query gives rows (`insert` says of which columns, `rows` reads them), which are put into loads (`coming`).
//! `run` does all of it.
//!
//! The query's threads find, as for any query; who asked changes, on his own: what takes the engine's locks runs on no
//! idle thread. Entries are changed or put as they are found, and no list of them is kept.

mod coming;
mod insert;
mod rewrite;
mod rows;
mod run;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, MapArray, RecordBatch};
use bowstring_cache::metadata::Changed;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;

pub use coming::Coming;
pub use insert::Insert;
pub use rewrite::rewritten;
use rows::Rows;

use crate::answer::Until;

/// Entries that are deleted together, and that are changed before others run.
const STEP: usize = 256;

/// What becomes of the entries that are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// They go.
    Delete,
    /// These columns are set, in this order.
    Update(Vec<Column>),
    /// The rows are put.
    Insert(Insert),
}

/// A column that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Whether it is pinned.
    Pinned,
    /// From when on it is a miss.
    ExpiresAt,
    /// Its own metadata.
    Metadata,
}

/// An entry as it was found.
#[derive(Debug)]
pub struct Found {
    id: Id,
    version: Version,
    set: Vec<Set>,
}

/// What is set of an entry.
#[derive(Clone, Debug)]
enum Set {
    /// That of a row.
    Metadata(Arc<MapArray>, usize),
    Pinned(bool),
    ExpiresAt(Option<u64>),
}

impl Change {
    /// The entries of a batch of the query that finds them.
    pub fn found(&self, tenant: &Tenant, batch: &RecordBatch) -> Result<Vec<Found>> {
        let columns = match self {
            Self::Delete => &[][..],
            Self::Update(columns) => columns,
            Self::Insert(_) => return Err(Error::internal("what is put was to be found")),
        };
        if batch.num_columns() != rewrite::FIRST_COLUMNS + columns.len() {
            return Err(Error::internal(
                "a change found other columns than it asked for",
            ));
        }
        let text = |column: usize, row: usize| {
            let column = batch.column(column).as_string_opt::<i32>();
            let column = column.filter(|column| column.is_valid(row));
            let text = column.map(|column| column.value(row));
            text.ok_or_else(|| Error::internal("an entry that is to be changed has no name"))
        };
        let sets = columns
            .iter()
            .zip(batch.columns().iter().skip(rewrite::FIRST_COLUMNS));
        let sets: Vec<Vec<Set>> = sets
            .map(|(column, values)| column.sets(values))
            .collect::<Result<_>>()?;
        let row = |row: usize| {
            let id = Id {
                tenant: tenant.clone(),
                namespace: Namespace::parse(text(0, row)?)?,
                key: Key::parse(text(1, row)?)?,
            };
            let version = Version::parse(text(2, row)?)?;
            let set = sets
                .iter()
                .filter_map(|set| set.get(row).cloned())
                .collect();
            Ok(Found { id, version, set })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    /// Changes entries, in their order, and counts those that were still of their version. `may` is asked for each
    /// namespace before the first of its entries is touched. Time is looked at in between: what has begun is done, and counted.
    ///
    /// # Errors
    /// Those of `may` and of the engine: then entries before may have been changed, and `changed` says how many.
    pub async fn apply(
        &self,
        (cache, until): (&Cache, &Until),
        found: Vec<Found>,
        mut may: impl FnMut(&Namespace) -> Result<()> + Send,
        changed: &mut u64,
    ) -> Result<()> {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let step: Vec<Found> = found.by_ref().take(STEP).collect();
            let mut last: Option<&Namespace> = None;
            for Found { id, .. } in &step {
                if last != Some(&id.namespace) {
                    may(&id.namespace)?;
                    last = Some(&id.namespace);
                }
            }
            match self {
                Self::Delete => {
                    let wanted = step.into_iter().map(|it| (it.id, it.version));
                    let deleted = cache.delete_versions(wanted.collect()).await?;
                    *changed += deleted.iter().filter(|deleted| **deleted).count() as u64;
                }
                Self::Update(_) => update(step, (cache, until), changed).await?,
                Self::Insert(_) => return Err(Error::internal("what is put was to be changed")),
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Updates entries up to the first error. What the tier below is told of them, it is told together.
async fn update(
    step: Vec<Found>,
    (cache, until): (&Cache, &Until),
    changed: &mut u64,
) -> Result<()> {
    let mut updated = Vec::with_capacity(step.len());
    let mut done = Ok(());
    for it in step {
        let one = match until.check() {
            Ok(()) => it.update(cache).await,
            Err(over) => Err(over),
        };
        match one {
            Ok(one) => updated.extend(one),
            Err(error) => {
                done = Err(error);
                break;
            }
        }
    }
    for one in updated {
        match one.settled().await {
            Ok(_) => *changed += 1,
            Err(error) => done = done.and(Err(error)),
        }
    }
    done
}

impl Column {
    /// What it is set to, row by row.
    fn sets(self, values: &ArrayRef) -> Result<Vec<Set>> {
        let other = || Error::internal("a column is set to a value of another type");
        match self {
            Self::Pinned => {
                let values = values.as_boolean_opt().ok_or_else(other)?;
                let set = values.iter().map(|value| {
                    value.map(Set::Pinned).ok_or_else(|| {
                        Error::invalid("an entry is pinned or it is not; got `pinned = NULL`")
                    })
                });
                set.collect()
            }
            Self::ExpiresAt => {
                let values = values.as_primitive_opt::<TimestampMillisecondType>();
                let values = values.ok_or_else(other)?.iter();
                // What is before all times has passed.
                let set = values.map(|value| value.map(|ms| u64::try_from(ms).unwrap_or(0)));
                Ok(set.map(Set::ExpiresAt).collect())
            }
            Self::Metadata => {
                let maps = Arc::new(rows::maps(values)?);
                let set = (0..maps.len()).map(|row| Set::Metadata(Arc::clone(&maps), row));
                Ok(set.collect())
            }
        }
    }
}

impl Set {
    /// First what may be refused for want of room. An expiry that has passed comes last: there is nothing to be pinned behind
    /// it.
    fn turn(&self) -> u8 {
        match self {
            Self::Metadata(..) => 0,
            Self::Pinned(_) => 1,
            Self::ExpiresAt(_) => 2,
        }
    }
}

impl Found {
    /// `None` where it was not of its version any more, at one time that something was set.
    async fn update(self, cache: &Cache) -> Result<Option<Changed>> {
        let Self {
            id,
            version,
            mut set,
        } = self;
        set.sort_by_key(Set::turn);
        let mut changed = Changed::already(version);
        for set in set {
            let version = changed.version;
            let is_it = match set {
                Set::Metadata(maps, row) => {
                    let metadata = metadata_of(&maps, row, &id)?;
                    match cache.set_metadata(&id, version, &metadata).await? {
                        None => false,
                        Some(now) => {
                            changed = now;
                            true
                        }
                    }
                }
                Set::ExpiresAt(at) => cache.expire_version(&id, version, at).await?,
                Set::Pinned(true) => cache.pin_version(&id, version).await?.is_some(),
                // What is below memory is not pinned.
                Set::Pinned(false) => {
                    cache.unpin_version(&id, version).is_some()
                        || cache
                            .describe_below(&id)
                            .await?
                            .is_some_and(|below| below.version == version)
                }
            };
            if !is_it {
                return Ok(None);
            }
        }
        Ok(Some(changed))
    }
}

/// What no entry can have is refused as what it is, whatever a put of it would say.
fn metadata_of(maps: &MapArray, row: usize, id: &Id) -> Result<Vec<u8>> {
    rows::metadata_of(maps, row).map_err(|error| {
        Error::invalid(format!(
            "{}; namespace=`{}` key=`{}`",
            error.message, id.namespace, id.key
        ))
    })
}
