//! The index out of what is on the store: anew, or what has come there since it was written.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::census::counted;
use super::{Cold, blocking, failed};
use crate::entry::{Number, Stored};
use crate::format::{Gone, read_gone, read_sidecar};
use crate::index::{ColdIndex, IndexError, IndexSettings, Rebuild};
use crate::store::{Folder, Listed, ObjectName, StoreError};

/// How long after the store has failed the index is built again.
const BUILD_AGAIN: Duration = Duration::from_secs(1);
/// Records that are read at one time.
pub(super) const READ_AHEAD: usize = 8;
/// The largest sidecar or log record that is read.
pub(super) const RECORD_BYTES_MAX: u64 = 1 << 30;

/// What an index has to be built from that could not be trusted, or what has come to the store since it was written
/// there.
pub struct Unread {
    pub(super) settings: IndexSettings,
    /// Sidecars and log records, in the order of their numbers.
    pub(super) records: Vec<ObjectName>,
    /// What there is of the index; it begins with nothing else.
    pub(super) begun: Mutex<Option<Rebuild>>,
    pub(super) epoch: u64,
}

impl Unread {
    /// Whether there is nothing to read: a store of which nobody has made use, or an index that knows all of it.
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// How many sidecars and log records are to be read.
    pub fn left(&self) -> usize {
        let begun = self.begun.lock();
        let from = begun.as_ref().map_or(Number(0), Rebuild::next);
        let left = self.records.iter().filter(|name| name.number() >= from.0);
        left.count()
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

    /// Builds an index in the store anew, in its place, that was found damaged. Nobody uses it meanwhile.
    pub(super) async fn renew(&self, index: Arc<ColdIndex>) -> Result<()> {
        self.may_write().await?;
        let inner = &self.inner;
        let mut segments = inner.store.list(Folder::Segments).await.map_err(failed)?;
        counted(&inner.store, &mut segments).await?;
        let logs = inner.store.list(Folder::Log).await.map_err(failed)?;
        let settings = index.settings().clone();
        let begun = index_step(move || Rebuild::renew(index)).await?;
        let unread = Unread {
            settings,
            records: records_of(&segments, &logs),
            begun: Mutex::new(Some(begun)),
            epoch: inner.fence.epoch(),
        };
        self.try_build(&unread).await
    }

    async fn try_build(&self, unread: &Unread) -> Result<()> {
        let inner = &self.inner;
        let started = inner.clock.monotonic();
        let mut segments = 0_u64;
        let mut namespaces: HashSet<(Tenant, Namespace)> = HashSet::new();
        let begun = unread.begun.lock().take();
        let mut rebuild = match begun {
            Some(begun) => begun,
            None => {
                let settings = unread.settings.clone();
                index_step(|| Rebuild::begin(settings)).await?
            }
        };
        let from = rebuild.next();
        let records = unread.records.iter().cloned();
        let records = records.filter(|name| name.number() >= from.0);
        let records = records.map(|name| {
            let cold = self.clone();
            async move { (name, cold.record(&name).await) }
        });
        let mut records = stream::iter(records).buffered(READ_AHEAD);
        while let Some((name, record)) = records.next().await {
            let bytes = match record {
                Ok(record) => record.unwrap_or_default(),
                Err(error) => {
                    // It goes on from there.
                    *unread.begun.lock() = Some(rebuild);
                    return Err(error);
                }
            };
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
                            if !rebuild.is_anew() {
                                // Which namespaces there are, only those say that are read from the first one on.
                                return Err(Error::unavailable(format!(
                                    "a log record cannot be read; record=`{}` error=`{error}`",
                                    number.0
                                )));
                            }
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
                | ObjectName::Census(_)
                | ObjectName::Hot(_)
                | ObjectName::Hidden(_)
                | ObjectName::Settings(_)
                | ObjectName::Table(_)
                | ObjectName::Manifest(_) => rebuild,
            };
        }
        let (cold, epoch, is_anew) = (self.clone(), unread.epoch, rebuild.is_anew());
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
        match is_anew {
            true => tracing::info!(
                segments,
                entries,
                took_ms,
                "cold tier: the index was built anew"
            ),
            false => tracing::info!(
                segments,
                entries,
                took_ms,
                "cold tier: the index was opened, and only the last segments were read again"
            ),
        }
        Ok(())
    }

    async fn record(&self, name: &ObjectName) -> Result<Option<Bytes>> {
        match self.inner.store.read_all(name, RECORD_BYTES_MAX).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// What says what there is, in order.
pub(super) fn records_of(segments: &[Listed], logs: &[Listed]) -> Vec<ObjectName> {
    let all = segments.iter().chain(logs).map(|listed| listed.name);
    let mut records: Vec<ObjectName> = all
        .filter(|name| matches!(name, ObjectName::Sidecar(_) | ObjectName::Log(_)))
        .collect();
    records.sort_unstable_by_key(|name| name.number());
    records
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
