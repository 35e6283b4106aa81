//! `tensors`: what is in the cache, an entry a row, in order of namespace and key. And the tables of the schema `ns`, which show
//! the entries of one namespace so.
//!
//! - `columns`: what a row shows, and which columns take more than the key order says
//! - `rows`: rows as they were found
//! - `walk`: looks keys up, or walks through a range of them
//! - `value`: the bytes of tensors, for a query that names them
//! - `uniform`: tensors of one dtype and shape, as an Arrow column of that shape

mod columns;
mod rows;
mod uniform;
pub mod value;
mod walk;

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use bowstring_cache::Cache;
use bowstring_wire::error::Result;
use bowstring_wire::name::Tenant;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use self::columns::Columns;
pub use self::columns::{map_builder, metadata_type};
pub use self::uniform::Uniform;
use self::walk::Walking;
use crate::DfResult;
use crate::filter::{texts_of, texts_of_all};
use crate::normal::Normal;
use crate::scan::Scan;
use crate::texts::Texts;

/// The columns that a condition on which is looked up, not read through.
const NAMESPACE: &str = "namespace";
const KEY: &str = "key";

/// The table's columns.
pub fn columns() -> SchemaRef {
    columns::schema()
}

/// The table of a tenant's tensors, or of those of one of its namespaces.
pub struct Tensors {
    cache: Cache,
    tenant: Tenant,
    normal: Normal,
    schema: SchemaRef,
    uniform: Option<Uniform>,
}

impl Tensors {
    /// Read by tasks on `normal`.
    pub fn new(cache: Cache, tenant: Tenant, normal: Normal) -> Self {
        let schema = columns::schema();
        Self {
            cache,
            tenant,
            normal,
            schema,
            uniform: None,
        }
    }

    /// Those of one namespace, which are alike.
    ///
    /// # Errors
    /// `failed_precondition` where they are too large to be rows.
    pub fn alike(cache: Cache, tenant: Tenant, normal: Normal, of: Uniform) -> Result<Self> {
        let schema = of.schema(&columns::schema())?;
        Ok(Self {
            schema,
            uniform: Some(of),
            ..Self::new(cache, tenant, normal)
        })
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tensors")
    }
}

#[async_trait]
impl TableProvider for Tensors {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let is_known = |filter: &&Expr| {
            let mut known = [NAMESPACE, KEY].into_iter();
            known.any(|column| texts_of(filter, column).is_some())
        };
        let filters = filters.iter().map(|filter| match is_known(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        });
        Ok(filters.collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let columns = Columns::new(&self.schema, projection, self.uniform.clone())?;
        let schema = columns.schema();
        let walking = Walking {
            cache: self.cache.clone(),
            tenant: self.tenant.clone(),
            namespaces: match &self.uniform {
                Some(uniform) => Texts::named([uniform.namespace.as_str().to_owned()]),
                None => texts_of_all(filters, NAMESPACE),
            },
            keys: texts_of_all(filters, KEY),
            columns: Arc::new(columns),
            limit,
        };
        Ok(Arc::new(Scan::new(
            Arc::new(walking),
            schema,
            self.normal.walks.clone(),
        )))
    }
}
