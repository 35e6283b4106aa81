//! Objects, whole or not at all, in time or not at all. Everything that the cold tier keeps elsewhere than
//! in its index goes through here.
//!
//! - [`name`]: what objects are called, which is numbers and never a client's text
//! - [`open`]: stores by their URLs
//! - `read`, `write`, `upload`, `list`: one request each, or a few
//! - `buffers`: what is read into, in pieces
//! - `files`: ranges of several files in one go
//! - `attempt`: permits, time-outs and retries, which are ours: `object_store`'s own go on for minutes
//! - [`error`], [`counters`]: what came of it
//! - [`local`]: a directory, with what `object_store`'s leaves out: fsync
//! - [`faults`]: a store that fails as it is told, for tests
//!
//! A call that is dropped leaves nothing half done that can be seen: an object is there with all its bytes
//! or it is not. It may be there although the call has failed: the answer was lost.

mod attempt;
mod buffers;
pub mod counters;
pub mod error;
pub mod faults;
mod files;
mod list;
pub mod local;
pub mod name;
pub mod open;
mod read;
mod upload;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use tokio::sync::Semaphore;

pub use counters::StoreCounters;
pub use error::StoreError;
pub use files::Asked;
pub use list::Listed;
pub use name::{Folder, ObjectName};
pub use upload::Upload;

use buffers::Buffers;
use counters::Counts;
use local::Local;

/// How a store is used.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Requests at one time. Writes leave a quarter of them to reads.
    pub concurrency: usize,
    /// Buffers of a MiB that files are read into.
    pub buffers: usize,
    /// How long a read may take with all its tries, and any other request at one try; as long again for
    /// every 4 MiB beyond the first.
    pub timeout: Duration,
    /// How often a request is tried again.
    pub retries: usize,
    /// No try begins later than this after the first.
    pub retry_budget: Duration,
    /// A local directory: what is acknowledged is on the disk itself.
    pub fsync: bool,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            concurrency: 32,
            buffers: 8,
            timeout: Duration::from_secs(2),
            retries: 8,
            retry_budget: Duration::from_secs(20),
            fsync: false,
        }
    }
}

/// A place for objects under one prefix. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// One store, as what it is.
struct Backend {
    inner: Arc<dyn ObjectStore>,
    /// Where parts of an object can be tried again each for itself.
    parts: Option<Arc<dyn MultipartStore>>,
    /// Where it is a directory.
    local: Option<Arc<Local>>,
    /// Whether a listing may go on after a name.
    resumes: bool,
}

struct Shared {
    backend: Backend,
    prefix: Path,
    identity: String,
    settings: StoreSettings,
    /// Nothing is written or deleted here.
    read_only: bool,
    clock: Arc<dyn Clock>,
    counts: Counts,
    requests: Semaphore,
    writes: Semaphore,
    buffers: Arc<Buffers>,
}

impl Store {
    /// A store of which the caller has the implementation: for tests, and for decorators.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        prefix: Path,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Store {
        let identity = format!("{inner}/{prefix}");
        Store::of(
            Backend {
                inner,
                parts: None,
                local: None,
                resumes: true,
            },
            prefix,
            identity,
            settings,
            clock,
        )
    }

    /// As [`Store::new`], of a store whose uploads are of parts that can be tried again: `parts` is the same
    /// store.
    pub fn with_parts(
        inner: Arc<dyn ObjectStore>,
        parts: Arc<dyn MultipartStore>,
        prefix: Path,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Store {
        let identity = format!("{inner}/{prefix}");
        let backend = Backend {
            inner,
            parts: Some(parts),
            local: None,
            resumes: true,
        };
        Store::of(backend, prefix, identity, settings, clock)
    }

    fn of(
        backend: Backend,
        prefix: Path,
        identity: String,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Store {
        let requests = settings.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Store {
            shared: Arc::new(Shared {
                backend,
                prefix,
                identity,
                clock,
                counts: Counts::default(),
                requests: Semaphore::new(requests),
                writes: Semaphore::new((requests - requests / 4).max(1)),
                read_only: false,
                buffers: Buffers::new(settings.buffers),
                settings,
            }),
        }
    }

    /// The same store, of which only the caller has a handle, never to be written to.
    #[must_use]
    pub fn to_read(mut self) -> Store {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.read_only = true;
        }
        self
    }

    /// Deletes what interrupted writes have left in a directory; other stores have rules of their own for
    /// that. Not while anybody writes here. Gives how many there were.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub async fn clear_leftovers(&self) -> Result<u64, StoreError> {
        match self.shared.backend.local.clone() {
            None => Ok(0),
            Some(local) => {
                let cleared = tokio::task::spawn_blocking(move || local.clear_leftovers());
                let cleared = cleared.await;
                Ok(cleared.map_err(|error| StoreError::Failed(error.to_string()))??)
            }
        }
    }

    /// Where this is, without credentials: the same text means the same objects.
    pub fn identity(&self) -> &str {
        &self.shared.identity
    }

    /// What was asked of the store since it was opened.
    pub fn counters(&self) -> StoreCounters {
        self.shared.counts.read()
    }

    /// Memory for what is read.
    pub fn buffer_bytes(&self) -> u64 {
        self.shared.buffers.bytes()
    }

    fn path(&self, name: &ObjectName) -> Path {
        name.to_path(&self.shared.prefix)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.shared.identity).finish()
    }
}
