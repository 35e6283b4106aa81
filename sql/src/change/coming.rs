//! What an INSERT puts until it is seen: a load for each namespace, all of which is published at once, or forgotten.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem;

use arrow_array::RecordBatch;
use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::loads::LoadSpec;
use bowstring_cache::put::{Admit, Mode};
use bowstring_cache::rows::{self, RowsSpec};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};

use super::insert::Insert;
use super::rows::{Row, Rows};

/// Rows that are put together: as many as the cache stores before others run.
const STEP: usize = 256;
/// Bytes of tensors that are cast before they are put.
const CAST_BYTES: usize = 1 << 20;

/// Entries on their way. Dropped before they are committed, they leave nothing.
pub struct Coming {
    cache: Cache,
    tenant: Tenant,
    open: BTreeMap<Namespace, Open>,
}

struct Open {
    load_id: String,
    spec: RowsSpec,
}

impl Coming {
    /// None yet.
    pub(crate) fn new(cache: Cache, tenant: Tenant) -> Self {
        Self {
            cache,
            tenant,
            open: BTreeMap::new(),
        }
    }

    /// Begins the load of a namespace, and gives its id.
    ///
    /// # Errors
    /// As [`Cache::begin_load`].
    pub fn begin(&mut self, namespace: &Namespace, replace_all: bool) -> Result<String> {
        let (cache, tenant) = (&self.cache, &self.tenant);
        let settings = cache.settings(tenant, namespace);
        let spec = LoadSpec {
            replace_all,
            size_bytes: None,
        };
        let load_id = cache.begin_load(tenant, namespace, spec)?;
        let spec = RowsSpec {
            mode: settings.mode.unwrap_or(Mode::Keep),
            load: cache.load(tenant, namespace, &load_id)?,
            pin: false,
            admit: settings.admit.unwrap_or(Admit::Hot),
            below: false,
        };
        let open = Open {
            load_id: load_id.clone(),
            spec,
        };
        self.open.insert(namespace.clone(), open);
        Ok(load_id)
    }

    /// Puts the rows of a batch, whose columns say by their names what they are, into a namespace, or into `tensors`.
    /// `may` is asked before a load is begun.
    ///
    /// # Errors
    /// As [`crate::Sql::change`] of an INSERT. What was put before is not seen, unless it is committed all the same.
    pub async fn put_batch(
        &mut self,
        namespace: Option<&Namespace>,
        batch: &RecordBatch,
        may: &mut (impl FnMut(&Namespace) -> Result<()> + Send),
    ) -> Result<()> {
        let names = batch.schema_ref().fields().iter();
        let names = names.map(|field| field.name().as_str());
        let insert = Insert::new(namespace.cloned(), names)?;
        let rows = Rows::read(&insert, None, batch)?;
        self.put(namespace, &rows, may).await
    }

    /// Puts rows, into `namespace` those that do not say their own.
    pub(crate) async fn put(
        &mut self,
        namespace: Option<&Namespace>,
        rows: &Rows,
        may: &mut (impl FnMut(&Namespace) -> Result<()> + Send),
    ) -> Result<()> {
        let _made = self.charge(rows.made_bytes)?;
        let mut at = 0;
        while at < rows.len() {
            let (first, place) = (at, rows.place(at)?);
            let (own, pin) = place;
            let namespace = match (own, namespace) {
                (Some(own), _) => Namespace::parse(own).map_err(|error| rows.named(at, error))?,
                (None, Some(all)) => all.clone(),
                (None, None) => return Err(Error::internal("a row has no namespace")),
            };
            let (mut some, mut cast_bytes) = (Vec::new(), 0);
            while at < rows.len()
                && some.len() < STEP
                && cast_bytes < CAST_BYTES
                && rows.place(at)? == place
            {
                let row = rows.row(at)?;
                if let Cow::Owned(made) = &row.bytes {
                    cast_bytes += made.len();
                }
                some.push(row);
                at += 1;
            }
            let _cast = self.charge(cast_bytes as u64)?;
            let spec = self.spec(&namespace, may)?;
            let coming: Vec<rows::Row<'_>> = some.iter().map(coming).collect();
            let spec = RowsSpec { pin, ..spec };
            let put = self.cache.put_rows(&self.tenant, &namespace, spec, &coming);
            for (row, answer) in (first..).zip(put.await) {
                answer.map_err(|error| rows.named(row, error))?;
            }
        }
        Ok(())
    }

    /// Publishes all of it, a namespace at once, and gives how many entries that were; up to an error, where there is one.
    /// It goes on when nobody waits for it any more.
    pub async fn commit(mut self) -> (u64, Result<()>) {
        if self.open.is_empty() {
            return (0, Ok(()));
        }
        let committing = tokio::spawn(async move {
            let mut entries = 0;
            let done = self.commit_all(&mut entries).await;
            (entries, done)
        });
        committing.await.unwrap_or_else(|error| {
            let error = Error::internal(format!("a load was not committed; {error}"));
            (0, Err(error))
        })
    }

    async fn commit_all(&mut self, entries: &mut u64) -> Result<()> {
        while let Some((_, open)) = self.open.first_key_value() {
            let outcome = self.cache.commit_load(&self.tenant, &open.load_id).await?;
            *entries += outcome.entries;
            self.open.pop_first();
        }
        Ok(())
    }

    /// How rows go to a namespace, whose load is begun where there is none yet.
    fn spec(
        &mut self,
        namespace: &Namespace,
        may: &mut (impl FnMut(&Namespace) -> Result<()> + Send),
    ) -> Result<RowsSpec> {
        if !self.open.contains_key(namespace) {
            may(namespace)?;
            self.begin(namespace, false)?;
        }
        let open = self.open.get(namespace).map(|open| open.spec);
        open.ok_or_else(|| Error::internal("a load was begun and is not there"))
    }

    fn charge(&self, bytes: u64) -> Result<Option<Charge>> {
        if bytes == 0 {
            return Ok(None);
        }
        let charge = self.cache.charge(Account::Sql, bytes);
        charge.map(Some).ok_or_else(|| {
            Error::exhausted(format!(
                "no memory for the rows of an INSERT on their way; limit=`memory` wanted_bytes=`{bytes}`"
            ))
        })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        for open in mem::take(&mut self.open).into_values() {
            // What is not open any more has no need of it.
            let _ = self.cache.abort_load(&self.tenant, &open.load_id);
        }
    }
}

fn coming<'a>(row: &'a Row<'_>) -> rows::Row<'a> {
    rows::Row {
        key: row.key,
        dtype: row.dtype,
        shape: &row.shape,
        data: smallvec::smallvec![&*row.bytes],
        metadata: &row.metadata,
        expires_at_ms: row.expires_at_ms,
        checksum: None,
        source_version: None,
    }
}
