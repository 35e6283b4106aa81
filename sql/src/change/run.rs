//! Runs what changes something, on the caller's thread.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};

use super::{Change, Coming, Insert, Rows};
use crate::engine::{May, Sql};
use crate::plan::Plan;
use crate::tables::alike::first;
use crate::tables::tensors::Uniform;

impl Sql {
    /// Makes a plan's change, on the caller's thread, and gives how many entries were changed: those that were still of
    /// the version that the condition was asked of, or that an INSERT has put. Where the statement has parameters, once
    /// for each row of `values`, one after the other. `may` is asked before anything of a namespace is touched, and before
    /// a tensor is read that a value of a parameter names.
    ///
    /// # Errors
    /// Those of a query, of `may` and of the engine. What was changed before stays so, and the message says how many; of
    /// an INSERT nothing stays, but for namespaces that were committed.
    pub async fn change(
        &self,
        plan: &Plan,
        values: &[RecordBatch],
        mut may: impl FnMut(May<'_>) -> Result<()> + Send,
    ) -> Result<u64> {
        let mut changed = 0;
        // What all rows of values put is seen at once.
        let mut coming = self.inserting(&plan.asked.tenant);
        let done = async {
            if plan.parameters.fields().is_empty() || values.is_empty() {
                let once = self.change_once(plan, &mut may, &mut coming, &mut changed);
                once.await?;
            } else {
                for batch in values {
                    for row in 0..batch.num_rows() {
                        let bound = self.bind(plan, &batch.slice(row, 1)).await?;
                        for reads in bound.reads() {
                            may(May::Read(reads))?;
                        }
                        let once = self.change_once(&bound, &mut may, &mut coming, &mut changed);
                        once.await?;
                    }
                }
            }
            let (put, done) = coming.commit().await;
            changed += put;
            done
        };
        let done = done.await;
        self.counters().changed(changed);
        match done {
            Ok(()) => Ok(changed),
            Err(error) if changed == 0 => Err(error),
            Err(error) => Err(Error::new(
                error.code,
                format!(
                    "{}; what was changed before that stays so; changed=`{changed}`",
                    error.message
                ),
            )),
        }
    }

    async fn change_once(
        &self,
        plan: &Plan,
        may: &mut (impl FnMut(May<'_>) -> Result<()> + Send),
        coming: &mut Coming,
        changed: &mut u64,
    ) -> Result<()> {
        let change = plan.asked.change.clone();
        let change = change.ok_or_else(|| {
            Error::invalid("the statement changes nothing; run it as a query, not as an update")
        })?;
        let mut may = |namespace: &Namespace| may(May::Change(namespace));
        if let Change::Insert(insert) = change {
            let alike = self.alike(&plan.asked.tenant, &insert).await?;
            let reads = insert.clone();
            let read = move |batch| Rows::read(&reads, alike.clone(), &batch);
            let mut given = self.start(plan, read).await?;
            while let Some(rows) = given.next().await? {
                let namespace = insert.namespace.as_ref();
                given
                    .until()
                    .clone()
                    .keep(coming.put(namespace, &rows, &mut may))
                    .await??;
            }
            return Ok(());
        }
        let (finds, tenant) = (change.clone(), plan.asked.tenant.clone());
        let found = self.start(plan, move |batch| finds.found(&tenant, &batch));
        let mut found = found.await?;
        let until = found.until().clone();
        while let Some(found) = found.next().await? {
            let within = (self.cache(), &until);
            change.apply(within, found, &mut may, changed).await?;
        }
        Ok(())
    }

    /// Entries to be put, which are seen at once when they are committed.
    pub fn inserting(&self, tenant: &Tenant) -> Coming {
        Coming::new(self.cache().clone(), tenant.clone())
    }

    /// Whether a namespace has entries, in memory or below it: then it is a table of `ns`, as who puts sees it.
    ///
    /// # Errors
    /// Whatever the tier below meets.
    pub async fn has_entries(&self, tenant: &Tenant, namespace: &Namespace) -> Result<bool> {
        let first = first(self.cache(), tenant, namespace).await?;
        Ok(first.is_some())
    }

    /// What the tensors of an INSERT are to be: as those of the one namespace that it is of.
    async fn alike(&self, tenant: &Tenant, insert: &Insert) -> Result<Option<Arc<Uniform>>> {
        match &insert.namespace {
            None => Ok(None),
            Some(namespace) => {
                let first = first(self.cache(), tenant, namespace).await?;
                Ok(first.map(Arc::new))
            }
        }
    }
}
