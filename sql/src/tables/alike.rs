//! The schema `ns`: a table for each namespace whose entries are alike, named as the namespace is.
//!
//! Dtype and shape are those of the namespace's first entry, looked at when a query names the table: all entries are never
//! looked through. What turns out not to be like it ends the query that comes upon it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use async_trait::async_trait;
use bowstring_cache::Cache;
use bowstring_cache::snapshot::Part;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use tokio_util::task::AbortOnDropHandle;

use super::tensors::{Tensors, Uniform};
use crate::DfResult;
use crate::error::passed;
use crate::limits::NAMESPACES_LISTED;
use crate::normal::Normal;

/// Steps of a walk in which a first entry is looked for: those before it may all have expired.
const STEPS: usize = 8;

/// A tenant's namespaces as tables. Cheap to clone.
#[derive(Clone)]
pub struct Alike {
    cache: Cache,
    tenant: Tenant,
    normal: Normal,
}

impl Alike {
    /// Read by tasks on `normal`.
    pub fn new(cache: Cache, tenant: Tenant, normal: Normal) -> Self {
        Self {
            cache,
            tenant,
            normal,
        }
    }

    /// The first of the namespaces. Takes locks: not for a query's thread.
    pub fn names(&self) -> Vec<String> {
        let page = self.cache.namespaces(&self.tenant, None, NAMESPACES_LISTED);
        let names = page.iter().map(|stats| stats.namespace.as_str().to_owned());
        names.collect()
    }

    /// What a namespace's first entry is; `None` where there is none, or it is too large to be a row.
    async fn find(self, name: String) -> Result<Option<Tensors>> {
        let Ok(namespace) = Namespace::parse(&name) else {
            return Ok(None);
        };
        let Some(of) = first(&self.cache, &self.tenant, &namespace).await? else {
            return Ok(None);
        };
        let Self {
            cache,
            tenant,
            normal,
        } = self;
        Ok(Tensors::alike(cache, tenant, normal, of).ok())
    }
}

/// What a namespace's first entry is, in memory or below it; `None` where there is none.
///
/// # Errors
/// Whatever the tier below meets.
pub async fn first(
    cache: &Cache,
    tenant: &Tenant,
    namespace: &Namespace,
) -> Result<Option<Uniform>> {
    let snapshot = cache.snapshot(tenant, namespace, "").await?;
    let mut walk = snapshot.walk_behind(Part::default());
    for _ in 0..STEPS {
        let Some(items) = walk.step().await? else {
            break;
        };
        if let Some(first) = items.into_iter().next() {
            return Ok(Some(Uniform {
                namespace: namespace.clone(),
                dtype: first.dtype,
                shape: first.shape,
            }));
        }
    }
    Ok(None)
}

impl fmt::Debug for Alike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alike")
    }
}

#[async_trait]
impl SchemaProvider for Alike {
    fn table_names(&self) -> Vec<String> {
        let (tell, told) = sync_channel(1);
        let alike = self.clone();
        self.normal.handle.spawn(async move {
            // Nobody may be left to tell.
            let _ = tell.send(alike.names());
        });
        told.recv().unwrap_or_default()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let found = self.normal.handle.spawn(self.clone().find(name.to_owned()));
        let found = AbortOnDropHandle::new(found).await;
        let gone = |error| {
            passed(Error::internal(format!(
                "a namespace was not looked at; {error}"
            )))
        };
        let table = found.map_err(gone)?.map_err(passed)?;
        Ok(table.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    async fn table_type(&self, _: &str) -> DfResult<Option<TableType>> {
        Ok(Some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        Namespace::parse(name).is_ok()
    }
}
