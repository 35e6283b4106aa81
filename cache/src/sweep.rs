//! Deleting all keys of a namespace that begin with a prefix.

use bowstring_wire::name::{Namespace, Tenant};

use crate::cache::Cache;
use crate::event::Why;
use crate::id::Id;
use crate::scan::SCAN_STEP;

impl Cache {
    /// Deletes what begins with `prefix` and is there now, pinned or not, and says how much that
    /// was. Goes from key to key in steps, between which others run; what is put meanwhile has a
    /// later version and stays. A caller that gives up leaves what was not deleted yet.
    pub async fn delete_prefix(&self, tenant: &Tenant, namespace: &Namespace, prefix: &str) -> u64 {
        let engine = self.engine();
        let until = engine.hlc.next(engine.clock.now_ms());
        let mut deleted = 0;
        let mut after: Option<String> = None;
        loop {
            let step = self.scan(tenant, namespace, prefix, after.as_deref(), SCAN_STEP);
            let Some(last) = step.last().map(|item| item.key.as_str().to_owned()) else {
                return deleted;
            };
            for item in step {
                if item.version < until {
                    let id = Id {
                        tenant: tenant.clone(),
                        namespace: namespace.clone(),
                        key: item.key,
                    };
                    deleted += u64::from(self.delete_before(&id, until.hlc));
                }
            }
            after = Some(last);
            tokio::task::yield_now().await;
        }
    }

    fn delete_before(&self, id: &Id, hlc: u64) -> bool {
        // One that loses against another change of the key looks again.
        while let Some(entry) = self.peek(id).filter(|entry| entry.version().hlc < hlc) {
            if self.engine().unlink(entry.into_pinned(), Why::Deleted) {
                return true;
            }
        }
        false
    }
}
