//! What is set of namespaces, kept on the store for the next start: a record of it is there before the answer. Of two
//! rows for one namespace the later version counts, so the order of the records says nothing. When there are many,
//! one is made of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_cache::Cache;
use bowstring_cache::ledger::Account;
use bowstring_cache::lower::SettingsOf;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::json;
use bowstring_wire::name::{Namespace, Tenant};
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::build::READ_AHEAD;
use super::counters::Counters;
use super::{Cold, failed};
use crate::entry::Number;
use crate::format::{SettingsRow, encode_settings, read_settings};
use crate::store::{Folder, Listed, ObjectName, Store, StoreError};

/// So many records become one.
const MERGE_MIN: usize = 64;
/// More than all namespaces that there may be take.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// How often a start looks again, where records go while it reads them: an earlier one merges them.
const LOOKS: usize = 8;
/// How often another start may have taken a number.
const TRIES: usize = 64;

pub(super) struct Kept {
    next: AtomicU64,
    /// What the start has found, until memory has it.
    found: Mutex<Vec<SettingsRow>>,
    /// Records that could be read, and those written since.
    records: Mutex<Vec<Listed>>,
}

/// What became of a record.
enum Read {
    Rows(Vec<SettingsRow>),
    Gone,
    Unreadable,
}

impl Kept {
    /// Reads what is there.
    ///
    /// # Errors
    /// `unavailable` for a store that does not answer. A record that cannot be read is logged and left out.
    pub(super) async fn open(store: &Store, counters: &Counters) -> Result<Self> {
        let mut look = 1;
        loop {
            let listed = store.list(Folder::Settings).await.map_err(failed)?;
            let last = listed.last().map_or(0, |listed| listed.name.number());
            let (mut found, mut records, mut gone) = (Vec::new(), Vec::new(), 0);
            let reads = listed
                .into_iter()
                .map(|one| async move { (one, read(store, &one.name, counters).await) });
            let mut reads = stream::iter(reads).buffered(READ_AHEAD);
            while let Some((one, read)) = reads.next().await {
                match read? {
                    Read::Rows(rows) => {
                        found.extend(rows);
                        records.push(one);
                    }
                    Read::Gone => gone += 1,
                    Read::Unreadable => {}
                }
            }
            if gone == 0 || look == LOOKS {
                return Ok(Self {
                    next: AtomicU64::new(last.saturating_add(1)),
                    found: Mutex::new(found),
                    records: Mutex::new(records),
                });
            }
            look += 1;
        }
    }
}

impl Cold {
    /// Sets what was set of namespaces before this start, where memory has nothing later. Called once, before it
    /// serves.
    pub fn give_settings(&self, cache: &Cache) {
        let found = std::mem::take(&mut *self.inner.kept.found.lock());
        let (mut left_out, mut last) = (0_u64, None);
        for row in found {
            let set = json::read_reply("settings", row.json.as_bytes()).and_then(|settings| {
                cache.restore_settings(SettingsOf {
                    tenant: row.tenant,
                    namespace: row.namespace,
                    settings,
                    version: row.version,
                })
            });
            if let Err(error) = set {
                left_out += 1;
                last = Some(error.message);
            }
        }
        if let Some(error) = last {
            tracing::warn!(left_out, %error, "cold tier: settings of some namespaces are not as they were");
        }
    }

    /// On the store before it returns.
    ///
    /// # Errors
    /// `failed_precondition` where a later start has taken over, `unavailable` where the store fails: it may have
    /// them all the same, for the next start.
    pub(super) async fn keep(&self, of: &SettingsOf) -> Result<()> {
        let row = SettingsRow {
            tenant: of.tenant.clone(),
            namespace: of.namespace.clone(),
            version: of.version,
            json: of.settings.to_json(),
        };
        self.keep_row(row).await.map_err(|error| match error.code {
            Code::Unavailable => Error::unavailable(format!(
                "the settings cannot be kept in the cold store, and stay what they were; try again; \
                 error=`{}`",
                error.message
            )),
            _ => error,
        })
    }

    async fn keep_row(&self, row: SettingsRow) -> Result<()> {
        self.may_write().await?;
        let written = self.write_kept(&[row]).await?;
        // A later start may have read what was there before this came.
        let is_ours = self.is_ours().await;
        if is_ours.is_err() && self.inner.fence.is_lost() {
            let _ = self.inner.store.delete(&written.name).await;
        }
        is_ours?;
        self.inner.kept.records.lock().push(written);
        Ok(())
    }

    async fn write_kept(&self, rows: &[SettingsRow]) -> Result<Listed> {
        for _ in 0..TRIES {
            let number = self.inner.kept.next.fetch_add(1, Ordering::Relaxed);
            let record = encode_settings(Number(number), rows);
            let (name, bytes) = (ObjectName::Settings(number), record.len() as u64);
            match self.inner.store.create(&name, vec![record]).await {
                Ok(()) => return Ok(Listed { name, bytes }),
                Err(StoreError::Exists) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(StoreError::Exists))
    }

    /// Makes one of many records.
    pub(super) async fn merge_kept(&self, cache: &Cache) -> Result<()> {
        let inner = &self.inner;
        let records = inner.kept.records.lock().clone();
        if records.len() < MERGE_MIN {
            return Ok(());
        }
        let bytes: u64 = records.iter().map(|record| record.bytes).sum();
        // The rows, and the record that they become.
        let Some(_charge) = cache.charge(Account::Cold, 4 * bytes) else {
            return Ok(());
        };
        let mut latest: HashMap<(Tenant, Namespace), SettingsRow> = HashMap::new();
        let mut merged = Vec::with_capacity(records.len());
        for record in &records {
            match read(&inner.store, &record.name, &inner.counters).await? {
                Read::Rows(rows) => {
                    for row in rows {
                        let of = (row.tenant.clone(), row.namespace.clone());
                        let there = latest.entry(of).or_insert_with(|| row.clone());
                        if there.version < row.version {
                            *there = row;
                        }
                    }
                    merged.push(record.name);
                }
                // What cannot be read stays for who looks into it.
                Read::Gone | Read::Unreadable => {}
            }
        }
        let rows: Vec<SettingsRow> = latest.into_values().collect();
        self.may_write().await?;
        let written = self.write_kept(&rows).await?;
        {
            let mut left = inner.kept.records.lock();
            left.retain(|record| !records.contains(record));
            left.push(written);
        }
        for name in merged {
            inner.store.delete(&name).await.map_err(failed)?;
        }
        Ok(())
    }
}

async fn read(store: &Store, name: &ObjectName, counters: &Counters) -> Result<Read> {
    let error = match store.read_all(name, RECORD_BYTES_MAX).await {
        Ok(record) => match read_settings(Number(name.number()), &record) {
            Ok(rows) => return Ok(Read::Rows(rows)),
            Err(error) => error,
        },
        Err(StoreError::NotFound) => return Ok(Read::Gone),
        Err(error @ (StoreError::Short { .. } | StoreError::TooLong { .. })) => Error::from(error),
        Err(error) => return Err(failed(error)),
    };
    if error.code == Code::DataLoss {
        counters.damaged.add(1);
    }
    tracing::warn!(object = %name, error = %error.message,
        "cold tier: nobody knows what a record says is set of namespaces: what no other record says of them is as without settings; set it again, and delete the object");
    Ok(Read::Unreadable)
}
