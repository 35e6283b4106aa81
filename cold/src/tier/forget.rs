//! What is gone: out of the queue, out of the index, and out of memory where it came back from here. The
//! answer that follows is not undone by a kill: the index is written by then, or the store's log where the
//! index does not outlast the process. An index that does remembers, in the same write, what the store's log is
//! still to be told for who builds it anew.

use std::collections::HashMap;
use std::time::Duration;

use bowstring_cache::lower::{Gone, NewExpiry};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use tokio::sync::MutexGuard;

use super::degraded::NOTED_MAX;
use super::owed::Debt;
use super::queue::Which;
use super::{Cold, STRIPES, ask};
use crate::entry::Number;
use crate::format::{self, encode_gone};
use crate::index::ColdIndex;
use crate::store::{ObjectName, StoreError};

/// How long what is gone waits for others to be written to the store's log with.
const LOG_WAIT: Duration = Duration::from_secs(1);
/// Names in one record of the store's log.
pub(super) const RECORD_NAMES: usize = 1 << 16;
/// Names that are counted before others run.
const COUNT_STEP: usize = 1_000;
/// How often something may come in between.
const ROUNDS: usize = 16;

/// What is gone since before there was an index.
pub(super) enum GoneBefore {
    Name(Id),
    /// All names of a namespace that begin with a prefix.
    Prefix(Tenant, Namespace, String),
}

impl Cold {
    pub(super) async fn forget_names(
        &self,
        cache: &Cache,
        gone: Vec<Gone>,
    ) -> Result<Vec<Option<Version>>> {
        let _stripes = self.stripes_of(&gone).await;
        self.inner.fence.check()?;
        let is_meant = self.are_meant(cache, &gone).await?;
        let each = gone.into_iter().zip(&is_meant);
        let (meant, mut replaced): (Vec<_>, Vec<_>) = each.partition(|(_, is_meant)| **is_meant);
        // What is here in their place has taken that: others may have them yet, or be about to bring them up.
        replaced.retain(|(gone, _)| gone.now.is_some());
        let replaced: Vec<Gone> = replaced.into_iter().map(|(gone, _)| gone).collect();
        self.hide_names(cache, &replaced).await?;
        (replaced.iter()).for_each(|gone| self.inner.flights.forget(&gone.id));
        let went = self.forget_meant(cache, meant.into_iter().map(|(gone, _)| gone).collect());
        let mut went = went.await?.into_iter();
        let each = is_meant.iter().map(|is_meant| match is_meant {
            true => went.next().flatten(),
            false => None,
        });
        Ok(each.collect())
    }

    /// Under the locks of the stripes.
    async fn forget_meant(&self, cache: &Cache, gone: Vec<Gone>) -> Result<Vec<Option<Version>>> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let inner = &self.inner;
        let named = || gone.iter().map(|gone| format::Gone::Name(gone.id.clone()));
        let mut debt = self.owe(named());
        let mut went = self.hide_names(cache, &gone).await?;
        for _ in 0..ROUNDS {
            for (gone, went) in gone.iter().zip(&mut went) {
                *went = self.forget_queued(gone).or(*went);
            }
            let names = || gone.iter().map(|gone| GoneBefore::Name(gone.id.clone()));
            let below = if self.forget_later(names)? {
                // Anew: what was in the queue till now may be in a segment of a lower number.
                debt = inner.owed.owe(named(), inner.number());
                vec![None; gone.len()]
            } else {
                // After that: what was in the queue till now may be in a segment of a lower number.
                self.remove(&gone, inner.number()).await?
            };
            let mut came_back = false;
            for ((gone, below), went) in gone.iter().zip(below).zip(&mut went) {
                // Who comes from now on finds nothing, and joins nobody who has found it.
                inner.flights.forget(&gone.id);
                *went = below.or(*went);
                // What memory keeps of it is nowhere else now.
                if let Some(entry) = cache.peek(&gone.id) {
                    entry.set_below(false);
                }
                if let Some(version) = went.filter(|version| Some(*version) != gone.now) {
                    came_back |= cache.take_back(&gone.id, version);
                    // It may have been on its way down again before that.
                    came_back |= self.forget_queued(gone).is_some();
                }
            }
            if !came_back {
                let count = went.iter().flatten().count() as u64;
                inner.counters.forgotten.add(count);
                self.pay(debt).await?;
                return Ok(went);
            }
        }
        Err(Error::unavailable(
            "the key comes back from the cold tier all the time; try again",
        ))
    }

    pub(super) async fn forget_under(
        &self,
        cache: &Cache,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Result<u64> {
        let inner = &self.inner;
        let is_empty = self.working().is_some_and(ColdIndex::is_empty);
        let is_nowhere = inner.owed.is_empty() && inner.others.is_none();
        if inner.queue.is_empty() && is_empty && is_nowhere {
            return Ok(0);
        }
        inner.fence.check()?;
        let mut all = Vec::with_capacity(STRIPES);
        for stripe in &inner.stripes {
            all.push(stripe.lock().await);
        }
        let hidden = self.hide_under(cache, (tenant, namespace), prefix);
        let hidden = hidden.await?;
        let queued = inner.queue.forget_prefix(tenant, namespace, prefix);
        let mut went = hidden + queued.iter().filter(|id| cache.peek(id).is_none()).count() as u64;
        let all_of_it = || format::Gone::Namespace(tenant.clone(), namespace.clone());
        let of = || GoneBefore::Prefix(tenant.clone(), namespace.clone(), prefix.to_owned());
        if self.forget_later(|| std::iter::once(of()))? {
            self.inner.flights.forget_under((tenant, namespace), prefix);
            // Nobody knows the names now: who builds the index anew leaves out more than was asked for.
            let debt = inner.owed.owe(std::iter::once(all_of_it()), inner.number());
            self.pay(debt).await?;
            return Ok(went);
        }
        if !prefix.is_empty() {
            // They may be in a segment that is being written, of which the index does not know yet.
            self.remove_and_log(queued.clone()).await?;
        }
        let mut after: Option<String> = None;
        loop {
            let step = self
                .step(tenant, namespace, prefix, after.as_deref())
                .await?;
            let Some(last) = step.last() else { break };
            after = Some(last.key.as_str().to_owned());
            let is_only_here = |id: &&Id| cache.peek(id).is_none() && !queued.contains(id);
            went += step.iter().filter(is_only_here).count() as u64;
            if !prefix.is_empty() {
                self.remove_and_log(step).await?;
            }
        }
        if prefix.is_empty() {
            let debt = self.owe(std::iter::once(all_of_it()));
            let (number, noted) = (inner.number(), self.notes());
            let of = (tenant.clone(), namespace.clone());
            let cleared = ask(self, move |index| match noted {
                true => index.clear_noted(&of.0, &of.1, number),
                false => index.clear(&of.0, &of.1, number),
            });
            cleared.await?.ok_or_else(gone_meanwhile)?;
            self.pay(debt).await?;
        }
        self.inner.flights.forget_under((tenant, namespace), prefix);
        inner.counters.forgotten.add(went);
        Ok(went)
    }

    /// What waits of a key, but what memory has in its place.
    fn forget_queued(&self, gone: &Gone) -> Option<Version> {
        let is_it = |expires_at_ms| gone.expiry.is_none_or(|NewExpiry(at)| at == expires_at_ms);
        let stays = |there: Which| {
            gone.only.is_some_and(|only| there.version != only)
                || Some(there.version) == gone.now && is_it(there.expires_at_ms)
        };
        self.inner.queue.forget(&gone.id, stays)
    }

    async fn remove_and_log(&self, ids: Vec<Id>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let debt = self.owe(ids.iter().cloned().map(format::Gone::Name));
        let gone = ids.into_iter().map(|id| Gone::all_but(None, id));
        let gone: Vec<Gone> = gone.collect();
        self.remove(&gone, self.inner.number()).await?;
        self.pay(debt).await
    }

    async fn stripes_of(&self, gone: &[Gone]) -> Vec<MutexGuard<'_, ()>> {
        let inner = &self.inner;
        let mut numbers: Vec<usize> = gone.iter().map(|gone| inner.stripe_of(&gone.id)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut held = Vec::with_capacity(numbers.len());
        for number in numbers {
            held.push(inner.stripes[number].lock().await);
        }
        held
    }

    async fn remove(&self, gone: &[Gone], number: Number) -> Result<Vec<Option<Version>>> {
        // Nothing before it is there any more.
        let below = |only: Version| Version {
            hlc: only.hlc.saturating_add(1),
            start: 0,
        };
        let ids = gone
            .iter()
            .map(|gone| (gone.id.clone(), gone.only.map(below)));
        let ids: Vec<(Id, Option<Version>)> = ids.collect();
        let noted = self.notes();
        let removed = ask(self, move |index| match noted {
            true => index.remove_noted(&ids, number),
            false => index.remove_all(&ids, number),
        });
        removed.await?.ok_or_else(gone_meanwhile)
    }

    /// A few names of a namespace.
    async fn step(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<Id>> {
        let (tenant, namespace) = (tenant.clone(), namespace.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let step = ask(self, move |index| {
            let scan = index.scan(&tenant, &namespace, &prefix, after.as_deref())?;
            let ids = scan
                .take(COUNT_STEP)
                .map(|stored| Ok(stored?.description.id));
            ids.collect::<crate::index::Result<Vec<Id>>>()
        });
        Ok(step.await?.unwrap_or_default())
    }

    /// While there is no index, notes what is gone for when there is; else false.
    fn forget_later<I: Iterator<Item = GoneBefore>>(
        &self,
        gone: impl FnOnce() -> I,
    ) -> Result<bool> {
        if self.working().is_some() {
            return Ok(false);
        }
        let mut before = self.inner.gone_before.lock();
        // It is there, or there again, under this lock.
        if self.working().is_some() {
            return Ok(false);
        }
        if before.len() >= NOTED_MAX {
            return Err(Error::unavailable(format!(
                "the cold tier is without its index, and too many keys have gone since; try again; \
                 limit=`{NOTED_MAX}`"
            )));
        }
        before.extend(gone());
        Ok(true)
    }

    /// What was noted meanwhile is gone from an index that is about to be used.
    pub(super) fn forget_before(
        &self,
        index: &ColdIndex,
        before: &mut Vec<GoneBefore>,
    ) -> crate::index::Result<()> {
        let (number, noted) = (self.inner.number(), self.notes());
        let remove = |id: Id| match noted {
            true => index.remove_noted(&[(id, None)], number),
            false => index.remove_all(&[(id, None)], number),
        };
        for gone in before.iter() {
            match gone {
                GoneBefore::Name(id) => drop(remove(id.clone())?),
                GoneBefore::Prefix(tenant, namespace, prefix) if prefix.is_empty() => match noted {
                    true => index.clear_noted(tenant, namespace, number)?,
                    false => index.clear(tenant, namespace, number)?,
                },
                GoneBefore::Prefix(tenant, namespace, prefix) => {
                    for stored in index.scan(tenant, namespace, prefix, None)? {
                        remove(stored?.description.id)?;
                    }
                }
            }
        }
        // Not one by one: should the index fail again half-way, all of them are still to be told.
        before.clear();
        Ok(())
    }

    /// Whether the index outlasts the process, and so remembers what the store's log has to be told.
    fn notes(&self) -> bool {
        self.inner.settings.state_dir.is_some()
    }

    /// Remembers what the store's log has to be told of what is about to go, where the index does not.
    fn owe(&self, gone: impl Iterator<Item = format::Gone>) -> Debt {
        match self.notes() && self.working().is_some() {
            true => Debt::new(),
            false => self.inner.owed.owe(gone, self.inner.number()),
        }
    }

    /// Has the store's log say what is gone, where nothing else would tell of it after a restart: an index that
    /// cannot be written has been given up for that.
    async fn pay(&self, debt: Debt) -> Result<()> {
        let inner = &self.inner;
        if debt.is_empty() || self.notes() && inner.index.get().is_some() {
            return Ok(());
        }
        let below = inner.number();
        let gone = debt.iter().map(|(gone, _)| (gone.clone(), below));
        self.write_log(&gone.collect::<Vec<_>>()).await?;
        inner.owed.paid(&debt);
        Ok(())
    }

    async fn write_log(&self, gone: &[(format::Gone, Number)]) -> Result<()> {
        self.may_write().await?;
        let number = self.inner.number();
        let record = encode_gone(number, gone);
        let name = ObjectName::Log(number);
        let written = self.inner.store.create(&name, vec![record]).await;
        written.map_err(|error: StoreError| {
            Error::unavailable(format!(
                "the cold tier cannot write down what is gone; try again; error=`{error}`"
            ))
        })?;
        // That may have taken long.
        self.may_write().await
    }

    /// Writes what is gone to the store's log, for who builds the index anew. Runs until it is dropped.
    pub async fn keep_log(&self) {
        loop {
            self.inner.clock.sleep(LOG_WAIT).await;
            if self.inner.fence.is_lost() {
                return std::future::pending().await;
            }
            if let Err(error) = self.write_noted().await {
                tracing::warn!(error = %error.message, "cold tier: the log was not written");
            }
        }
    }

    /// Writes what is gone and was only noted so far.
    pub(super) async fn write_noted(&self) -> Result<()> {
        let inner = &self.inner;
        loop {
            let owed = inner.owed.some(RECORD_NAMES);
            let pending = self.working().map(|index| index.pending(RECORD_NAMES));
            let pending = pending.unwrap_or_default();
            if owed.is_empty() && pending.is_empty() {
                return Ok(());
            }
            let owed_gone = owed.iter().map(|(gone, owing)| (gone, owing.below));
            let pending_gone = pending.iter().map(|one| (&one.gone, one.below));
            // Not below the record's own number: what was put again since may be in a segment.
            let mut gone: HashMap<format::Gone, Number> = HashMap::new();
            for (what, below) in owed_gone.chain(pending_gone) {
                let highest = gone.entry(what.clone()).or_insert(below);
                *highest = below.max(*highest);
            }
            self.write_log(&gone.into_iter().collect::<Vec<_>>())
                .await?;
            inner.owed.paid(&owed);
            ask(self, move |index| index.logged(&pending)).await?;
        }
    }
}

pub(super) fn gone_meanwhile() -> Error {
    Error::unavailable("the cold tier's index was lost meanwhile; try again")
}
