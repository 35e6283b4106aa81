//! What is under another's prefix: its sidecars and log records, read in the order of their numbers, and looked for
//! every few seconds. Nothing is written there.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{Other, index_failed};
use crate::entry::Number;
use crate::format::{Gone, Sidecar, read_gone, read_sidecar};
use crate::index::{ColdIndex, IndexError};
use crate::store::{Folder, ObjectName, StoreError};
use crate::tier::build::{RECORD_BYTES_MAX, damage, note};
use crate::tier::census::counted;
use crate::tier::{Cold, blocking, failed};

/// Between two looks, and how many times longer than a look has taken.
const EVERY: Duration = Duration::from_secs(2);
const COST: u32 = 20;
/// Records that are read at one time.
const READ_AHEAD: usize = 8;
/// Rows of namespaces that were cleared that a look takes away.
const ROWS_A_LOOK: usize = 16_384;

/// What was read of a prefix.
#[derive(Default)]
struct Known {
    sidecars: BTreeSet<Number>,
    logs: BTreeSet<Number>,
    namespaces: HashSet<(Tenant, Namespace)>,
}

impl Cold {
    /// Follows what others write. Runs until it is dropped.
    pub async fn follow(&self, cache: Cache) {
        let Some(others) = &self.inner.others else {
            return std::future::pending().await;
        };
        while let Err(error) = self.read_hidden().await {
            tracing::warn!(error = %error.message,
                "cold tier: what is hidden of others' prefixes was not read, nothing of theirs is found; it is tried again");
            self.inner.clock.sleep(EVERY).await;
        }
        let each = others
            .all
            .iter()
            .map(|other| self.follow_one(other, &cache));
        let each = futures::future::join_all(each);
        futures::join!(each, self.merge_hidden());
    }

    async fn follow_one(&self, other: &Other, cache: &Cache) {
        let clock = &self.inner.clock;
        let mut known = Known::default();
        let mut fails = false;
        loop {
            let mut pause = EVERY;
            match self.look(other, &mut known).await {
                Ok(took) => {
                    cache.observe(other.index.max_hlc());
                    if !other.ready.swap(true, Ordering::AcqRel) {
                        tracing::info!(
                            prefix = other.store.identity(),
                            segments = known.sidecars.len(),
                            entries = other.index.len(),
                            "cold tier: another's prefix is read"
                        );
                    }
                    fails = false;
                    pause = EVERY.max(took * COST);
                }
                Err(error) if error.code == Code::Unavailable => {
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(error = %error.message, prefix = other.store.identity(),
                            "cold tier: another's prefix was not read, it is tried again");
                    }
                }
                Err(error) => {
                    other.ready.store(false, Ordering::Release);
                    tracing::error!(error = %error.message, prefix = other.store.identity(),
                        "cold tier: another's prefix is not used until the next start");
                    return;
                }
            }
            clock.sleep(pause).await;
        }
    }

    /// Reads what is new; gives how long the listing took.
    async fn look(&self, other: &Other, known: &mut Known) -> Result<Duration> {
        let clock = &self.inner.clock;
        let started = clock.monotonic();
        // The log after the segments: what is gone of those that were seen is in it.
        let mut segments = other.store.list(Folder::Segments).await.map_err(failed)?;
        counted(&other.store, &mut segments).await?;
        let logs = other.store.list(Folder::Log).await.map_err(failed)?;
        let took = clock.monotonic() - started;
        let mut sidecars = BTreeSet::new();
        let mut new: Vec<ObjectName> = Vec::new();
        for listed in segments.into_iter().chain(logs) {
            match listed.name {
                ObjectName::Sidecar(number) => {
                    sidecars.insert(number);
                    if !known.sidecars.contains(&number) {
                        new.push(listed.name);
                    }
                }
                ObjectName::Log(number) if !known.logs.contains(&number) => new.push(listed.name),
                _ => {}
            }
        }
        new.sort_unstable_by_key(|name| name.number());
        let records = new.into_iter().map(|name| {
            let store = other.store.clone();
            async move { (name, store.read_all(&name, RECORD_BYTES_MAX).await) }
        });
        let mut records = stream::iter(records).buffered(READ_AHEAD);
        while let Some((name, record)) = records.next().await {
            match record {
                Ok(record) => self.take_in(other, known, name, &record).await?,
                // It went meanwhile.
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        other
            .live
            .write()
            .retain(|number| sidecars.contains(number));
        known.sidecars.retain(|number| sidecars.contains(number));
        self.index_step(other, |index| {
            let mut left = ROWS_A_LOOK;
            while left > 0 && index.tidy(512)? {
                left = left.saturating_sub(512);
            }
            Ok(())
        })
        .await?;
        Ok(took)
    }

    async fn take_in(
        &self,
        other: &Other,
        known: &mut Known,
        name: ObjectName,
        record: &Bytes,
    ) -> Result<()> {
        match name {
            ObjectName::Sidecar(number) => {
                match read_sidecar(number, record) {
                    Ok(sidecar) => self.take_segment(other, known, sidecar).await?,
                    Err(error) => tell_damage(other, number, error)?,
                }
                known.sidecars.insert(number);
            }
            ObjectName::Log(number) => {
                let gone = match read_gone(number, record) {
                    Ok(gone) => gone,
                    Err(error) => {
                        tell_damage(other, number, error)?;
                        // Nobody knows what it says is gone: all that is older is left out.
                        let all = known.namespaces.iter().cloned();
                        all.map(|(tenant, namespace)| (Gone::Namespace(tenant, namespace), number))
                            .collect()
                    }
                };
                self.index_step(other, move |index| index.remove_logged(&gone))
                    .await?;
                known.logs.insert(number);
            }
            _ => {}
        }
        Ok(())
    }

    async fn take_segment(&self, other: &Other, known: &mut Known, sidecar: Sidecar) -> Result<()> {
        note(&mut known.namespaces, &sidecar.entries);
        // Before its rows take the place of others.
        other.live.write().insert(sidecar.number);
        let took = self.index_step(other, move |index| {
            index.add_segment(sidecar.number, sidecar.file_bytes)?;
            index.insert_all(&sidecar.entries).map(drop)
        });
        took.await
    }

    async fn index_step(
        &self,
        other: &Other,
        step: impl FnOnce(&ColdIndex) -> std::result::Result<(), IndexError> + Send + 'static,
    ) -> Result<()> {
        let (cold, prefix) = (self.clone(), other.prefix);
        let done = blocking(move || {
            let others = cold.inner.others.as_ref();
            let other = others.and_then(|others| others.other(prefix));
            other.map_or(Ok(()), |other| step(&other.index))
        });
        done.await?.map_err(|error| index_failed(&error))
    }
}

/// A record that cannot be read is left out; an error where a newer release wrote it.
fn tell_damage(other: &Other, number: Number, error: Error) -> Result<()> {
    let error = damage(error)?;
    tracing::warn!(
        record = number.0,
        error,
        prefix = other.store.identity(),
        "cold tier: a record under another's prefix cannot be read, what it says is left out"
    );
    Ok(())
}
