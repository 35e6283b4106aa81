//! A snapshot's keys that are below memory.

use std::ops::Range;

use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;

use super::{Passed, Step, Walk, Watched};
use crate::engine::Engine;
use crate::id::Id;
use crate::namespaces::Space;
use crate::scan::ScanItem;

impl Engine {
    /// Has memory know a namespace of which only the tier below has keys.
    pub(super) async fn know_from_below(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<()> {
        let is_known = || self.spaces.find(tenant, namespace).is_some();
        if !self.lower.is_there() || is_known() {
            return Ok(());
        }
        let first = self.lower.list(tenant, namespace, prefix, None, 1).await?;
        if !first.is_empty() {
            self.spaces.intern(tenant, namespace)?;
        }
        Ok(())
    }

    /// Whether anybody reads a snapshot in which a key may be.
    pub(crate) fn is_watched(&self, id: &Id) -> bool {
        let home = self.home_of(&id.tenant, &id.namespace);
        home.is_some_and(|home| home.watches.are_open())
    }

    /// A version of a key is not to be found below any more: those who read a snapshot are told.
    pub(crate) fn left_below(&self, id: &Id, version: Version) {
        if let Some(home) = self.home_of(&id.tenant, &id.namespace) {
            home.watches.note_below(id.key.as_str(), version);
        }
    }

    /// As [`Engine::left_below`], of all keys with a prefix, which are about to go.
    pub(crate) async fn note_all_below(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<()> {
        let Some(home) = self.home_of(tenant, namespace) else {
            return Ok(());
        };
        let mut after: Option<String> = None;
        while home.watches.are_open() {
            let step = self.lower.list(
                tenant,
                namespace,
                prefix,
                after.as_deref(),
                super::STEP_BELOW,
            );
            let step = step.await?;
            let Some(last) = step.last() else { break };
            after = Some(last.id.key.as_str().to_owned());
            for there in &step {
                home.watches
                    .note_below(there.id.key.as_str(), there.version);
            }
        }
        Ok(())
    }

    fn home_of(&self, tenant: &Tenant, namespace: &Namespace) -> Option<&Space> {
        let number = self.spaces.find(tenant, namespace)?;
        self.spaces.at(number)
    }
}

/// Entries of a step that is not at its end: each with its tensor in `tensors`, where that is there.
#[derive(Default)]
struct Held {
    entries: Vec<(ScanItem, Option<Range<usize>>)>,
    tensors: Vec<u8>,
}

impl Held {
    fn keep(&mut self, passed: Passed<'_>) {
        let Ok(item) = passed.item() else { return };
        let tensor = passed.tensor().map(|tensor| {
            let start = self.tensors.len();
            self.tensors.extend_from_slice(tensor);
            start..self.tensors.len()
        });
        self.entries.push((item, tensor));
    }
}

impl Walk<'_> {
    /// As [`Walk::look`], together with what is below.
    pub(super) async fn look_with_below(
        &self,
        watched: &Watched,
        keys: usize,
        keep: &mut (impl FnMut(Passed<'_>) -> usize + Send),
    ) -> Result<Step> {
        let mut held = Held::default();
        let mut step = self.look(&watched.watch, keys, &mut |passed| {
            held.keep(passed);
            0
        })?;
        self.join_below(watched, (&mut step, &mut held), keys)
            .await?;
        step.shown = held.entries.len();
        for (item, at) in &held.entries {
            let tensor = at.clone().and_then(|at| held.tensors.get(at));
            step.kept_bytes += keep(Passed::listed(item).with_tensor(tensor));
        }
        Ok(step)
    }

    /// Adds what is below to a step through memory, which was before: what has left memory since is below. The
    /// step ends where the shorter of the two does.
    async fn join_below(
        &self,
        watched: &Watched,
        (step, held): (&mut Step, &mut Held),
        limit: usize,
    ) -> Result<()> {
        let snapshot = self.snapshot;
        let engine = &snapshot.engine;
        let Some(home) = engine.spaces.at(watched.home) else {
            return Ok(());
        };
        let after = self.after.as_deref();
        let after = after.and_then(|after| str::from_utf8(after).ok());
        let (tenant, namespace) = (&home.tenant, &home.namespace);
        let listed = engine
            .lower
            .list(tenant, namespace, &snapshot.prefix, after, limit);
        let mut below = listed.await?;
        let is_all = below.len() < limit;
        let is_within = |key: &str| {
            let last = self.part.last.as_ref();
            last.is_none_or(|last| key <= last.as_str())
        };
        let reached = below.last().map(|last| last.id.key.as_str().to_owned());
        let reached = reached.filter(|reached| !is_all && is_within(reached));
        if let Some(reached) = reached.map(String::into_bytes)
            && step.last.as_ref().is_none_or(|last| reached < *last)
        {
            step.last = Some(reached);
        }
        let end = step.last.clone();
        let is_before_end = |key: &str| end.as_deref().is_none_or(|end| key.as_bytes() <= end);
        let entries = &mut held.entries;
        entries.retain(|(item, _)| is_before_end(item.key.as_str()));
        step.gone.retain(|key| is_before_end(key.as_str()));
        below.retain(|found| {
            let key = found.id.key.as_str();
            is_within(key) && is_before_end(key) && found.version.hlc <= watched.watch.until
        });
        // The tier below knows no other generation than the present one.
        let is_present = snapshot.generation.is_present();
        let in_memory = entries.len();
        for found in below {
            let key = found.id.key;
            let place = entries[..in_memory].binary_search_by(|(item, _)| item.key.cmp(&key));
            if place.is_ok() {
                continue;
            }
            if !is_present {
                step.gone.insert(key);
                continue;
            }
            step.gone.remove(&key);
            let item = ScanItem {
                key,
                version: found.version,
                dtype: found.dtype,
                shape: found.shape,
                bytes: found.len,
                expires_at_ms: found.expires_at_ms,
                below: true,
                attached: found.attached,
            };
            entries.push((item, None));
        }
        entries.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
        Ok(())
    }
}
