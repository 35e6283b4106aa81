//! The keys of a namespace, in order.

use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::generation::Generation;
use crate::index::{Handle, Record};
use crate::namespaces::Shown;
use crate::snapshot::Passed;

/// Entries that one step of a scan looks at under the lock of the order: about 0.2 ms in which
/// nobody adds a key to this namespace or takes one away. Reads and replaced values go on.
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
    /// Whether the tier below has it, and memory has not.
    pub below: bool,
    /// Whether that is a file.
    pub attached: bool,
}

impl Cache {
    /// The first `limit` keys, in order, that begin with `prefix` and come after `after`. Fewer
    /// only at the end. Copies out in steps of [`SCAN_STEP`]: between two steps others write, and
    /// each step sees what they wrote.
    pub fn scan(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<ScanItem> {
        let engine = self.engine();
        let number = engine.spaces.find(tenant, namespace);
        let Some(home) = number.and_then(|number| engine.spaces.at(number)) else {
            return Vec::new();
        };
        engine.scan(|| engine.spaces.shown(home), prefix, after, limit)
    }

    /// As [`Cache::scan`], of what a generation shows: a load that is committed meanwhile changes
    /// nothing.
    pub fn scan_in(
        &self,
        generation: &Generation,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<ScanItem> {
        let engine = self.engine();
        let Some(view) = generation.view() else {
            return Vec::new();
        };
        let Some(base) = engine.spaces.at(view.base()) else {
            return Vec::new();
        };
        engine.scan(|| engine.spaces.shown_by(view, base), prefix, after, limit)
    }
}

impl Engine {
    fn scan<'a>(
        &'a self,
        shown: impl Fn() -> Shown<'a>,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<ScanItem> {
        let mut items = Vec::new();
        let mut after = after.map(|key| key.as_bytes().to_vec());
        while items.len() < limit {
            let left = limit - items.len();
            match self.scan_step(&shown(), prefix, after.as_deref(), left, &mut items) {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        items
    }

    /// One step; gives the last key looked at where there may be more.
    fn scan_step(
        &self,
        shown: &Shown<'_>,
        prefix: &str,
        after: Option<&[u8]>,
        limit: usize,
        items: &mut Vec<ScanItem>,
    ) -> Option<Vec<u8>> {
        let now_ms = self.clock.now_ms();
        let wanted = limit.min(SCAN_STEP);
        let before = items.len();
        let mut last = None;
        for handle in shown.keys(self, prefix.as_bytes(), after).take(SCAN_STEP) {
            last = Some(handle);
            let shown = self.shown(handle, now_ms);
            items.extend(shown.and_then(|record| Passed::of(self, record).item().ok()));
            if items.len() - before == wanted {
                break;
            }
        }
        last.map(|handle| self.key(self.record(handle)).to_vec())
    }

    /// An entry whose order is locked, so that it neither goes nor moves. `None` where it has expired, or is only about to
    /// be published.
    pub(crate) fn shown(&self, handle: Handle, now_ms: u64) -> Option<&Record> {
        let record = self.record(handle);
        let is_expired = || record.expires_at_ms().is_some_and(|at| at <= now_ms);
        (record.is_live() && !is_expired()).then_some(record)
    }
}
