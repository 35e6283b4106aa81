//! An index that could not be trusted is built anew, from the sidecars and the log.

use std::collections::HashSet;
use std::time::Duration;

use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{Cold, blocking, failed};
use crate::entry::Stored;
use crate::format::{Gone, read_gone, read_sidecar};
use crate::index::{ColdIndex, IndexError, IndexSettings, Rebuild};
use crate::store::{ObjectName, StoreError};

/// How long after the store has failed the index is built again.
const BUILD_AGAIN: Duration = Duration::from_secs(1);
/// Records that are read at one time.
pub(super) const READ_AHEAD: usize = 8;
/// The largest sidecar or log record that is read.
pub(super) const RECORD_BYTES_MAX: u64 = 1 << 30;

/// What an index that could not be trusted has to be built from.
pub struct Unread {
    pub(super) settings: IndexSettings,
    /// Sidecars and log records, in the order of their numbers.
    pub(super) records: Vec<ObjectName>,
    pub(super) epoch: u64,
}

impl Unread {
    /// Whether there is nothing to read: a store of which nobody has made use.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Cold {
    /// Builds the index from the sidecars and the log, where it could not be trusted. Until it is there, reads
    /// miss and nothing is written; what is forgotten meanwhile is not there afterwards.
    ///
    /// # Errors
    /// `failed_precondition` for records of a newer release. Then there is no index, as before. Where the store
    /// or the disk fails, it is tried again.
    pub async fn build(&self, unread: Unread) -> Result<()> {
        loop {
            match self.try_build(&unread).await {
                Err(error) if error.code == Code::Unavailable => {
                    tracing::warn!(error = %error.message,
                        "cold tier: the index was not built, it is tried again");
                    self.inner.clock.sleep(BUILD_AGAIN).await;
                }
                built => return built,
            }
        }
    }

    async fn try_build(&self, unread: &Unread) -> Result<()> {
        let inner = &self.inner;
        let started = inner.clock.monotonic();
        let mut segments = 0_u64;
        let mut namespaces: HashSet<(Tenant, Namespace)> = HashSet::new();
        let settings = unread.settings.clone();
        let mut rebuild = index_step(|| Rebuild::begin(settings)).await?;
        let records = unread.records.iter().cloned().map(|name| {
            let cold = self.clone();
            async move { (name, cold.record(&name).await) }
        });
        let mut records = stream::iter(records).buffered(READ_AHEAD);
        while let Some((name, record)) = records.next().await {
            let bytes = record?.unwrap_or_default();
            rebuild = match name {
                ObjectName::Sidecar(number) => match read_sidecar(number, &bytes) {
                    Ok(sidecar) => {
                        segments += 1;
                        note(&mut namespaces, &sidecar.entries);
                        index_step(move || {
                            rebuild.segment(number, sidecar.file_bytes, &sidecar.entries)?;
                            Ok(rebuild)
                        })
                        .await?
                    }
                    Err(error) => {
                        let error = damage(error)?;
                        inner.counters.damaged.add(1);
                        tracing::warn!(
                            segment = number.0,
                            error,
                            "cold tier: a sidecar cannot be read, its segment is left out"
                        );
                        rebuild
                    }
                },
                ObjectName::Log(number) => {
                    let gone = match read_gone(number, &bytes) {
                        Ok(gone) => gone,
                        Err(error) => {
                            let error = damage(error)?;
                            inner.counters.damaged.add(1);
                            tracing::warn!(
                                record = number.0,
                                error,
                                "cold tier: nobody knows what a log record says is gone: all that is older is left out"
                            );
                            let all = namespaces.drain();
                            all.map(|(tenant, namespace)| {
                                (Gone::Namespace(tenant, namespace), number)
                            })
                            .collect()
                        }
                    };
                    index_step(move || {
                        rebuild.gone(number, &gone)?;
                        Ok(rebuild)
                    })
                    .await?
                }
                ObjectName::Segment(_)
                | ObjectName::Epoch(_)
                | ObjectName::Hot(_)
                | ObjectName::Hidden(_)
                | ObjectName::Settings(_) => rebuild,
            };
        }
        let (cold, epoch) = (self.clone(), unread.epoch);
        let entries = index_step(move || {
            let inner = &cold.inner;
            let index = rebuild.finish(inner.store.identity(), epoch)?;
            let mut before = inner.gone_before.lock();
            cold.forget_before(&index, &mut before)?;
            let entries = index.len();
            let _ = inner.index.set(index);
            Ok(entries)
        })
        .await?;
        let took_ms = (inner.clock.monotonic() - started).as_millis();
        tracing::info!(
            segments,
            entries,
            took_ms,
            "cold tier: the index was built anew"
        );
        Ok(())
    }

    /// Whether there is an index: until then, what is below is not found.
    pub fn is_ready(&self) -> bool {
        self.inner.index.get().is_some()
    }

    /// The highest clock of a version that is here: what memory makes from now on is later.
    pub fn max_hlc(&self) -> u64 {
        self.inner.index.get().map_or(0, ColdIndex::max_hlc)
    }

    async fn record(&self, name: &ObjectName) -> Result<Option<Bytes>> {
        match self.inner.store.read_all(name, RECORD_BYTES_MAX).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Which namespaces these are of.
pub(super) fn note(namespaces: &mut HashSet<(Tenant, Namespace)>, entries: &[Stored]) {
    let mut last = None;
    for id in entries.iter().map(|one| &one.description.id) {
        let of = (&id.tenant, &id.namespace);
        if last != Some(of) {
            namespaces.insert((id.tenant.clone(), id.namespace.clone()));
            last = Some(of);
        }
    }
}

/// What is wrong with a record; an error where a newer release wrote it.
pub(super) fn damage(error: Error) -> Result<String> {
    match error.code {
        Code::DataLoss => Ok(error.message.to_string()),
        _ => Err(error),
    }
}

pub(super) async fn index_step<T: Send + 'static>(
    step: impl FnOnce() -> std::result::Result<T, IndexError> + Send + 'static,
) -> Result<T> {
    let done = blocking(step).await?;
    done.map_err(|error| Error::unavailable(format!("cold tier's index: {error}")))
}
