//! Small tables, each made in one piece when a query reads it.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use bowstring_wire::error::{Error, Result};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use tokio::runtime::Handle;

use crate::DfResult;
use crate::scan::{Give, Scan, Source};

type Rows = dyn Fn() -> Result<RecordBatch> + Send + Sync;

/// A small table. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    name: &'static str,
    schema: SchemaRef,
    rows: Arc<Rows>,
}

impl Live {
    /// A table whose rows are what `rows` says whenever it is read.
    pub fn new(
        name: &'static str,
        schema: SchemaRef,
        rows: impl Fn() -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Self {
        let rows = Arc::new(rows);
        Self { name, schema, rows }
    }

    /// Its name in the schema `cache`.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.name).finish()
    }
}

/// A [`Live`] as DataFusion sees it.
#[derive(Debug)]
pub struct LiveTable {
    live: Live,
    normal: Handle,
}

impl LiveTable {
    /// Read by a task on `normal`.
    pub fn new(live: Live, normal: Handle) -> Self {
        Self { live, normal }
    }
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        self.live.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.live.schema.project(columns)?),
            None => self.live.schema.clone(),
        };
        let reading = Reading {
            live: self.live.clone(),
            projection: projection.cloned(),
        };
        Ok(Arc::new(Scan::new(
            Arc::new(reading),
            schema,
            self.normal.clone(),
        )))
    }
}

#[derive(Debug)]
struct Reading {
    live: Live,
    projection: Option<Vec<usize>>,
}

#[async_trait]
impl Source for Reading {
    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan: table={}", self.live.name)
    }

    async fn read(&self, give: &mut Give) -> Result<()> {
        if !give.wanted().await {
            return Ok(());
        }
        let batch = (self.live.rows)()?;
        let batch = match &self.projection {
            Some(columns) => batch.project(columns).map_err(|error| {
                Error::internal(format!("a table has not the columns that it says; {error}"))
            })?,
            None => batch,
        };
        give.give(Box::new(|| Ok(batch))).await;
        Ok(())
    }
}
