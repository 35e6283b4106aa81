//! `namespaces`: a namespace a row, a page of them at a time.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bowstring_cache::Cache;
use bowstring_cache::stats::NamespaceStats;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::project_schema;
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use tokio::runtime::Handle;

use super::int;
use crate::DfResult;
use crate::scan::{Give, Scan, Source};

/// Namespaces read in one step.
const STEP: usize = 1_000;

/// The table of a tenant's namespaces.
#[derive(Clone)]
pub struct Namespaces {
    cache: Cache,
    tenant: Tenant,
    normal: Handle,
    schema: SchemaRef,
}

impl Namespaces {
    /// Read by a task on `normal`.
    pub fn new(cache: Cache, tenant: Tenant, normal: Handle) -> Self {
        let int = |name| Field::new(name, DataType::Int64, false);
        let set = |name| Field::new(name, DataType::Int64, true);
        let word = |name| Field::new(name, DataType::Utf8, true);
        let schema = Schema::new(vec![
            Field::new("namespace", DataType::Utf8, false),
            int("entries"),
            int("bytes"),
            set("entries_max"),
            set("bytes_max"),
            int("hits"),
            int("misses"),
            Field::new("hit_ratio", DataType::Float64, true),
            int("evicted"),
            int("expired"),
            set("default_ttl_ms"),
            word("mode"),
            word("admit"),
            word("write_policy"),
            word("compression"),
            set("attached_rows"),
        ]);
        Self {
            cache,
            tenant,
            normal,
            schema: Arc::new(schema),
        }
    }

    fn batch(&self, rows: &[NamespaceStats]) -> DfResult<RecordBatch> {
        let names = rows.iter().map(|row| row.namespace.as_str());
        let int = |of: fn(&NamespaceStats) -> u64| -> ArrayRef {
            let numbers = rows.iter().map(|row| int(of(row)));
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let set = |of: fn(&NamespaceStats) -> Option<u64>| -> ArrayRef {
            let numbers = rows.iter().map(|row| of(row).map(super::int));
            Arc::new(Int64Array::from_iter(numbers))
        };
        let word = |of: fn(&NamespaceStats) -> Option<&'static str>| -> ArrayRef {
            Arc::new(StringArray::from_iter(rows.iter().map(of)))
        };
        // Of none asked for there is no ratio.
        let ratio = |row: &NamespaceStats| {
            let asked = row.hits + row.misses;
            (asked > 0).then(|| row.hits as f64 / asked as f64)
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(names)),
            int(|row| row.entries),
            int(|row| row.bytes),
            set(|row| row.settings.entries_max),
            set(|row| row.settings.bytes_max),
            int(|row| row.hits),
            int(|row| row.misses),
            Arc::new(Float64Array::from_iter(rows.iter().map(ratio))),
            int(|row| row.evicted),
            int(|row| row.expired),
            set(|row| row.settings.default_ttl_ms),
            word(|row| row.settings.mode.map(|word| word.as_str())),
            word(|row| row.settings.admit.map(|word| word.as_str())),
            word(|row| row.settings.write_policy.map(|word| word.as_str())),
            word(|row| row.settings.compression.map(|word| word.as_str())),
            set(|row| row.attached_rows),
        ];
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namespaces")
    }
}

#[async_trait]
impl TableProvider for Namespaces {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
        let schema = project_schema(&self.schema, projection)?;
        let reading = Reading {
            table: self.clone(),
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
    table: Namespaces,
    projection: Option<Vec<usize>>,
}

#[async_trait]
impl Source for Reading {
    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scan: table=namespaces")
    }

    async fn read(&self, give: &mut Give) -> Result<()> {
        let mut after: Option<Namespace> = None;
        while give.wanted().await {
            let (cache, tenant) = (&self.table.cache, &self.table.tenant);
            let rows = cache.namespaces(tenant, after.as_ref(), STEP);
            let Some(last) = rows.last() else { break };
            after = Some(last.namespace.clone());
            let (table, projection) = (self.table.clone(), self.projection.clone());
            let build = move || {
                let batch = table.batch(&rows)?;
                Ok(match projection {
                    Some(columns) => batch.project(&columns)?,
                    None => batch,
                })
            };
            if !give.give(Box::new(build)).await {
                break;
            }
        }
        Ok(())
    }
}
