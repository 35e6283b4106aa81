//! DELETE and UPDATE: a query finds entries and their versions (`rewrite`), and each that is still of its version is
//! changed, by the same functions of the engine as the actions `delete`, `expire`, `pin` and `unpin`.
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

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, RecordBatch};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;

pub use coming::Coming;
pub use insert::Insert;
pub use rewrite::rewritten;
use rows::Rows;

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
}

/// An entry as it was found.
#[derive(Debug)]
pub struct Found {
    id: Id,
    version: Version,
    set: Vec<Set>,
}

/// What is set of an entry.
#[derive(Clone, Copy, Debug)]
enum Set {
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
        let row = |row: usize| {
            let id = Id {
                tenant: tenant.clone(),
                namespace: Namespace::parse(text(0, row)?)?,
                key: Key::parse(text(1, row)?)?,
            };
            let version = Version::parse(text(2, row)?)?;
            let set = columns.iter().enumerate().map(|(at, column)| {
                let values = batch.column(rewrite::FIRST_COLUMNS + at);
                column.set(values.as_ref(), row)
            });
            let set = set.collect::<Result<_>>()?;
            Ok(Found { id, version, set })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    /// Changes entries, in their order, and counts those that were still of their version. `may` is asked for each
    /// namespace before the first of its entries is touched.
    ///
    /// # Errors
    /// Those of `may` and of the engine: then entries before may have been changed, and `changed` says how many.
    pub async fn apply(
        &self,
        cache: &Cache,
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
                Self::Update(_) => {
                    for it in step {
                        *changed += u64::from(it.update(cache).await?);
                    }
                }
                Self::Insert(_) => return Err(Error::internal("what is put was to be changed")),
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl Column {
    fn set(self, values: &dyn Array, row: usize) -> Result<Set> {
        let other = || Error::internal("a column is set to a value of another type");
        match self {
            Self::Pinned => {
                let values = values.as_boolean_opt().ok_or_else(other)?;
                let value = values.is_valid(row).then(|| values.value(row));
                let value = value.ok_or_else(|| {
                    Error::invalid("an entry is pinned or it is not; got `pinned = NULL`")
                })?;
                Ok(Set::Pinned(value))
            }
            Self::ExpiresAt => {
                let values = values.as_primitive_opt::<TimestampMillisecondType>();
                let values = values.ok_or_else(other)?;
                let value = values.is_valid(row).then(|| values.value(row));
                // What is before all times has passed.
                let value = value.map(|ms| u64::try_from(ms).unwrap_or(0));
                Ok(Set::ExpiresAt(value))
            }
        }
    }
}

impl Found {
    /// Whether it was still of its version, each time that something was set.
    async fn update(self, cache: &Cache) -> Result<bool> {
        let Self {
            id,
            version,
            mut set,
        } = self;
        // An expiry that has passed comes last: there is nothing to be pinned behind it.
        set.sort_by_key(|set| matches!(set, Set::ExpiresAt(_)));
        for set in set {
            let is_it = match set {
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
                return Ok(false);
            }
        }
        Ok(true)
    }
}
