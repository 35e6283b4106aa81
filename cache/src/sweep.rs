//! Deleting for good: also what does not show and a rollback of a load would bring back; and all keys
//! of a namespace that begin with a prefix.

use std::sync::Arc;

use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};

use crate::cache::Cache;
use crate::engine::Engine;
use crate::event::Why;
use crate::id::{Id, Name};
use crate::index::Mark;
use crate::look::Seen;
use crate::namespaces::Space;
use crate::scan::SCAN_STEP;
use crate::view::Role;

impl Cache {
    /// Deletes what begins with `prefix` and is there now, pinned or not, and says how much that
    /// was. Goes from key to key in steps, between which others run; what is put meanwhile has a
    /// later version and stays. No rollback brings any of it back, nor what did not show. A caller
    /// that gives up leaves what was not deleted yet.
    ///
    /// # Errors
    /// Whatever the lower tier meets: what was there in memory is deleted then.
    pub async fn delete_prefix(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<u64> {
        let engine = self.engine();
        engine.check_writable(tenant, namespace)?;
        let home = engine.spaces.find(tenant, namespace);
        // Nothing comes back from below behind our back.
        let _turn = match home.and_then(|home| engine.spaces.at(home)) {
            Some(home) => Some(home.turn.lock().await),
            None => None,
        };
        // What only the tier below has is counted before memory's goes there or is gone.
        let below = engine
            .forget_prefix_below(tenant, namespace, prefix)
            .await?;
        let here = self.delete_prefix_here(tenant, namespace, prefix).await;
        let since = engine
            .forget_prefix_below(tenant, namespace, prefix)
            .await?;
        Ok(below + here + since)
    }

    pub(crate) async fn delete_prefix_here(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> u64 {
        let engine = self.engine();
        let until = engine.hlc.next(engine.clock.now_ms()).hlc;
        let home = engine.spaces.find(tenant, namespace);
        let Some(home) = home.and_then(|home| engine.spaces.at(home)) else {
            return 0;
        };
        let mut deleted = 0;
        loop {
            let epoch = home.view().epoch();
            self.delete_kept(home, prefix, until).await;
            deleted += self.delete_shown(home, prefix, until).await;
            // Where a load was committed or rolled back meanwhile, what showed may be kept now.
            if home.view().epoch() == epoch {
                return deleted;
            }
        }
    }

    async fn delete_shown(&self, home: &Space, prefix: &str, until: u64) -> u64 {
        let (tenant, namespace) = (&home.tenant, &home.namespace);
        let mut deleted = 0;
        let mut after: Option<String> = None;
        loop {
            let step = self.scan(tenant, namespace, prefix, after.as_deref(), SCAN_STEP);
            let Some(last) = step.last().map(|item| item.key.as_str().to_owned()) else {
                return deleted;
            };
            for item in step {
                if item.version.hlc < until {
                    let id = Id {
                        tenant: tenant.clone(),
                        namespace: namespace.clone(),
                        key: item.key,
                    };
                    deleted += u64::from(self.delete_before(&id, until));
                }
            }
            after = Some(last);
            tokio::task::yield_now().await;
        }
    }

    async fn delete_kept(&self, home: &Space, prefix: &str, until: u64) {
        let engine = self.engine();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let step = engine.kept_keys(home, prefix, after.as_deref());
            for key in &step {
                engine.forget_kept(home, key, until);
            }
            let Some(last) = step.into_iter().last() else {
                return;
            };
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

impl Engine {
    /// A key was deleted that does not show: nor does it after a rollback. What has this version or
    /// a later one stays.
    pub(crate) fn forget_kept(self: &Arc<Self>, home: &Space, key: &[u8], until: u64) {
        let hash = self.hash_in(home, key);
        match home.view().role() {
            Role::Kept => {}
            // What has expired is not seen, and yet is over something: looked up, both go.
            Role::Over => {
                let name = Name {
                    tenant: &home.tenant,
                    namespace: &home.namespace,
                    key: str::from_utf8(key).unwrap_or_default(),
                };
                drop(self.find_current(hash, name, Mark::Peek, Seen::Now));
                return;
            }
            Role::Alone | Role::Back => return,
        }
        let mut shard = self.index.table.lock(hash);
        let base = self.spaces.base(home);
        let kept = self.standing(&shard, base.view, key).beside;
        let kept = kept.filter(|_| base.view.role() == Role::Kept);
        let old = kept.filter(|kept| self.record(*kept).version().0 < until);
        let gone = old.and_then(|old| self.remove_beside(&mut shard, &base, old));
        drop(base);
        if let Some(gone) = gone {
            self.let_go_of(&gone, None);
            self.went(&gone, Why::Deleted);
            drop(shard);
            self.after_unlink(gone);
        }
    }

    /// Some keys of the generation beside the base.
    fn kept_keys(&self, home: &Space, prefix: &str, after: Option<&[u8]>) -> Vec<Vec<u8>> {
        let Some(beside) = self.spaces.beside(home.view()) else {
            return Vec::new();
        };
        let order = beside.order.read();
        let keys = order.prefix(prefix.as_bytes(), after, self).take(SCAN_STEP);
        keys.map(|handle| self.key(self.record(handle)).to_vec())
            .collect()
    }
}
