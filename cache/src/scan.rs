//! The keys of a namespace, in order.

use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::cache::Cache;

/// Entries that one step of a scan looks at under the lock of the order.
pub const SCAN_STEP: usize = 1_000;

/// One entry as a scan saw it; nothing is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanItem {
    /// The key.
    pub key: Key,
    /// Which of its tensors.
    pub version: Version,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
    /// Bytes of the tensor.
    pub bytes: u64,
    /// Unix milliseconds from when on it is a miss.
    pub expires_at_ms: Option<u64>,
}

impl Cache {
    /// The first `limit` keys, in order, that begin with `prefix` and come after `after`. Fewer
    /// only at the end. Copies out in steps of [`SCAN_STEP`]: between two steps others write, and
    /// each step sees them.
    pub fn scan(
        &self,
        _tenant: &Tenant,
        _namespace: &Namespace,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
    ) -> Vec<ScanItem> {
        todo!()
    }
}
