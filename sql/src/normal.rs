//! The server's own threads.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Runs what takes locks, which a query's own threads may not. Cheap to clone.
#[derive(Clone)]
pub struct Normal {
    /// Spawns on them.
    pub handle: Handle,
    /// Walks that go on at one time. They leave half of the threads to those who ask for nothing but a key.
    pub walks: Arc<Semaphore>,
}

impl Normal {
    /// Those of the runtime that this is called on.
    pub fn here() -> Self {
        let handle = Handle::current();
        let walks = (handle.metrics().num_workers() / 2).max(1);
        Self {
            handle,
            walks: Arc::new(Semaphore::new(walks)),
        }
    }
}
