//! The threads that may take locks, which a query's own may not.

use tokio::runtime::Handle;

/// Runs tasks there. Cheap to clone.
#[derive(Clone)]
pub struct Normal {
    /// The server's own, for what is done at once.
    pub handle: Handle,
    /// For walks.
    pub walks: Handle,
}
