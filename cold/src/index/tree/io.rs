//! The store, as threads may ask it that can wait. Not from a thread that runs tasks: all of those could end up waiting
//! for one another.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::index::error::{IndexError, Result};
use crate::store::{Folder, Listed, ObjectName, Store, StoreError};

/// Numbers that each start has for itself, as those of segments.
const EPOCH_NUMBERS: u64 = 1 << 40;

/// Where an index lies that is in the store.
#[derive(Debug, Clone)]
pub struct InStore {
    /// Of the tier.
    pub store: Store,
    /// Runs what is asked of the store.
    pub runtime: Handle,
    /// The start of the server. One at a time writes; what a later one finds is not taken away.
    pub epoch: u64,
}

#[derive(Clone)]
pub(super) struct Io {
    place: InStore,
    next: Arc<AtomicU64>,
}

impl Io {
    pub(super) fn new(place: InStore) -> Io {
        let first = place.epoch.saturating_mul(EPOCH_NUMBERS);
        Io {
            place,
            next: Arc::new(AtomicU64::new(first)),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.place.epoch
    }

    pub(super) fn store(&self) -> &Store {
        &self.place.store
    }

    /// A number for an object, above all before.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers go on above this one.
    pub(super) fn above(&self, number: u64) {
        let next = number.saturating_add(1);
        self.next.fetch_max(next, Ordering::Relaxed);
    }

    /// What `work` gives. Blocks the thread.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, waits) = sync_channel(1);
        self.place.runtime.spawn(async move {
            // Nobody waits any more where the process ends.
            let _ = done.send(work.await);
        });
        let shut = |_| IndexError::Store("it is shutting down".to_owned());
        waits.recv().map_err(shut)?
    }

    pub(super) fn list(&self) -> Result<Vec<Listed>> {
        let store = self.store().clone();
        self.wait(async move {
            store
                .list(Folder::Index)
                .await
                .map_err(|error| told(&error))
        })
    }

    pub(super) fn create(&self, name: ObjectName, pieces: Vec<Bytes>) -> Result<()> {
        let store = self.store().clone();
        self.wait(async move {
            let created = store.create(&name, pieces).await;
            created.map_err(|error| told(&error))
        })
    }

    pub(super) fn delete(&self, name: ObjectName) -> Result<()> {
        let store = self.store().clone();
        self.wait(async move { store.delete(&name).await.map_err(|error| told(&error)) })
    }

    pub(super) async fn read(&self, name: ObjectName, range: Range<u64>) -> Result<Bytes> {
        let read = self.store().read(&name, range).await;
        read.map_err(|error| told(&error))
    }

    pub(super) async fn read_all(&self, name: ObjectName, max: u64) -> Result<Bytes> {
        let read = self.store().read_all(&name, max).await;
        read.map_err(|error| told(&error))
    }

    /// Whether no later start of a server has begun under the prefix by now.
    pub(super) fn is_latest(&self) -> Result<bool> {
        let store = self.store().clone();
        let next = ObjectName::Epoch(self.epoch().saturating_add(1));
        self.wait(async move {
            match store.size(&next).await {
                Ok(_) => Ok(false),
                Err(StoreError::NotFound) => Ok(true),
                Err(error) => Err(told(&error)),
            }
        })
    }
}

/// What is not there, or not whole, is damage to an index that is said to be there.
fn told(error: &StoreError) -> IndexError {
    match error {
        StoreError::NotFound | StoreError::Short { .. } | StoreError::TooLong { .. } => {
            IndexError::Corrupt(error.to_string())
        }
        _ => IndexError::Store(error.to_string()),
    }
}
