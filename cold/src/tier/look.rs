//! What is known of keys here: in the queue, in the index, and with others.

use std::collections::BTreeMap;

use bowstring_cache::lower::{Description, Gone};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};

use super::{Cold, ask, is_under};
use crate::entry::Stored;

impl Cold {
    pub(super) async fn described(&self, id: &Id) -> Result<Option<Description>> {
        if let Some(entry) = self.inner.queue.get(id) {
            let current = !self.inner.is_expired(entry.expires_at_ms());
            return current.then(|| Description::of(&entry)).transpose();
        }
        let stored = self.look_up(id).await?;
        Ok(stored.map(|stored| stored.description))
    }

    pub(super) async fn describe_many(&self, ids: &[Id]) -> Result<Vec<Option<Description>>> {
        let mut found = Vec::with_capacity(ids.len());
        let mut asked = Vec::new();
        for id in ids {
            let queued = self.inner.queue.get(id);
            if queued.is_none() {
                asked.push(id.clone());
            }
            found.push(queued);
        }
        let mut stored = self.look_up_all(asked).await?.into_iter();
        let described = found.into_iter().map(|queued| match queued {
            Some(entry) if self.inner.is_expired(entry.expires_at_ms()) => Ok(None),
            Some(entry) => Description::of(&entry).map(Some),
            None => Ok(stored.next().flatten().map(|stored| stored.description)),
        });
        described.collect()
    }

    /// Of each, whether nothing is there but what is meant. Who has put another version sees to what that takes the
    /// place of: he may be waiting for this stripe.
    pub(super) async fn are_meant(&self, cache: &Cache, gone: &[Gone]) -> Result<Vec<bool>> {
        let mut meant = vec![true; gone.len()];
        let limited = gone.iter().enumerate();
        let limited = limited.filter_map(|(at, gone)| Some((at, &gone.id, gone.only?)));
        let limited: Vec<_> = limited.collect();
        if limited.is_empty() {
            return Ok(meant);
        }
        let ids: Vec<Id> = limited.iter().map(|(_, id, _)| (*id).clone()).collect();
        let below = self.describe_many(&ids).await?;
        for ((at, id, only), below) in limited.into_iter().zip(below) {
            meant[at] = below.is_none_or(|below| below.version == only)
                && cache.peek(id).is_none_or(|entry| entry.version() == only);
        }
        Ok(meant)
    }

    pub(super) async fn look_up(&self, id: &Id) -> Result<Option<Stored>> {
        let mut found = None;
        if self.working().is_some_and(|index| index.may_have(id)) {
            let name = id.clone();
            found = ask(self, move |index| index.get(&name)).await?.flatten();
        }
        let is_current = |stored: &Stored| !self.inner.is_expired(stored.description.expires_at_ms);
        let mut found = [found.filter(is_current)];
        self.look_elsewhere([id.clone()], &mut found).await?;
        let [found] = found;
        Ok(found)
    }

    /// Whether the index has a key as it should be.
    pub(super) async fn has(&self, id: &Id, is_it: impl FnOnce(&Stored) -> bool) -> bool {
        let found = match self.working() {
            Some(index) if index.is_in_store() => {
                let name = id.clone();
                ask(self, move |index| index.get(&name)).await.ok()
            }
            Some(index) => index.get(id).ok().map(Some),
            None => None,
        };
        match found {
            Some(Some(Some(now))) => is_it(&now),
            Some(Some(None)) => {
                let found = self.inner.find_elsewhere(id);
                found.is_some_and(|now| is_it(&now))
            }
            Some(None) | None => false,
        }
    }

    /// What the index has of each key.
    pub(super) async fn look_up_all(&self, ids: Vec<Id>) -> Result<Vec<Option<Stored>>> {
        let mut found = self.look_up_own(ids.clone()).await?;
        self.look_elsewhere(ids, &mut found).await?;
        Ok(found)
    }

    async fn look_up_own(&self, ids: Vec<Id>) -> Result<Vec<Option<Stored>>> {
        let count = ids.len();
        let index = self.working();
        if !index.is_some_and(|index| ids.iter().any(|id| index.may_have(id))) {
            return Ok(vec![None; count]);
        }
        let found = ask(self, move |index| {
            let may = ids.iter().enumerate();
            let may = may.filter(|(_, id)| index.may_have(id));
            let (places, ids): (Vec<usize>, Vec<Id>) = may.map(|(at, id)| (at, id.clone())).unzip();
            let mut found = vec![None; count];
            for (at, one) in places.into_iter().zip(index.get_all(&ids)?) {
                found[at] = one;
            }
            Ok(found)
        });
        let mut found = found.await?.unwrap_or_else(|| vec![None; count]);
        for one in &mut found {
            *one = one
                .take()
                .filter(|it| !self.inner.is_expired(it.description.expires_at_ms));
        }
        Ok(found)
    }

    pub(super) async fn list_some(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Description>> {
        // Before the index: what leaves the queue is there.
        let mut listed = BTreeMap::new();
        for waiting in self.inner.queue.all() {
            let (id, expires_at_ms) = (&waiting.id, waiting.entry.expires_at_ms());
            let key = id.key.as_str();
            if is_under(id, (tenant, namespace), prefix)
                && after.is_none_or(|after| key > after)
                && !self.inner.is_expired(expires_at_ms)
            {
                listed.insert(key.to_owned(), Description::of(&waiting.entry)?);
            }
        }
        let mut elsewhere = Vec::new();
        if self.working().is_some() {
            let listed = self.list_elsewhere((tenant, namespace), prefix, after, limit);
            elsewhere = listed.await?;
        }
        let (tenant, namespace) = (tenant.clone(), namespace.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let now_ms = self.inner.clock.now_ms();
        let below = ask(self, move |index| {
            let mut below = Vec::new();
            for stored in index.scan(&tenant, &namespace, &prefix, after.as_deref())? {
                let found = stored?.description;
                if found.expires_at_ms.is_none_or(|at| at > now_ms) {
                    below.push(found);
                }
                if below.len() == limit {
                    break;
                }
            }
            Ok(below)
        });
        for found in below.await?.unwrap_or_default() {
            let key = found.id.key.as_str().to_owned();
            listed.entry(key).or_insert(found);
        }
        for found in elsewhere {
            let key = found.description.id.key.as_str().to_owned();
            listed.entry(key).or_insert(found.description);
        }
        Ok(listed.into_values().take(limit).collect())
    }
}
