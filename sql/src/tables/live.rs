//! Small tables, each made in one piece when a query reads it: [`Columns`] say what they show of what there is.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Tenant;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::project_schema;
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::tensors::{map_builder, metadata_type};
use super::{int, time, times};
use crate::DfResult;
use crate::scan::{Give, Scan, Source};

type Rows = dyn Fn(&Tenant) -> Result<RecordBatch> + Send + Sync;
type Made = std::result::Result<ArrayRef, ArrowError>;
type Make<T> = Box<dyn Fn(&[T]) -> Made + Send + Sync>;

/// A small table. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    name: &'static str,
    schema: SchemaRef,
    rows: Arc<Rows>,
}

impl Live {
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

/// What a table shows of each `T`, a column after the other.
pub struct Columns<T> {
    fields: Vec<Field>,
    make: Vec<Make<T>>,
}

impl<T> Default for Columns<T> {
    /// None yet.
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            make: Vec::new(),
        }
    }
}

impl<T: 'static> Columns<T> {
    /// A text.
    #[must_use]
    pub fn text(self, name: &str, of: fn(&T) -> &str) -> Self {
        self.column(Field::new(name, DataType::Utf8, false), move |rows| {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        })
    }

    /// A text, where there is one.
    #[must_use]
    pub fn text_if_any(self, name: &str, of: fn(&T) -> Option<&str>) -> Self {
        self.column(Field::new(name, DataType::Utf8, true), move |rows| {
            Arc::new(StringArray::from_iter(rows.iter().map(of)))
        })
    }

    /// A count.
    #[must_use]
    pub fn count(self, name: &str, of: fn(&T) -> u64) -> Self {
        self.column(Field::new(name, DataType::Int64, false), move |rows| {
            let counts = rows.iter().map(|row| int(of(row)));
            Arc::new(Int64Array::from_iter_values(counts))
        })
    }

    /// A count, where there is one.
    #[must_use]
    pub fn count_if_any(self, name: &str, of: fn(&T) -> Option<u64>) -> Self {
        self.column(Field::new(name, DataType::Int64, true), move |rows| {
            let counts = rows.iter().map(|row| of(row).map(int));
            Arc::new(Int64Array::from_iter(counts))
        })
    }

    /// A number, of either sign.
    #[must_use]
    pub fn number(self, name: &str, of: fn(&T) -> i64) -> Self {
        self.column(Field::new(name, DataType::Int64, false), move |rows| {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
        })
    }

    /// A number with a fraction.
    #[must_use]
    pub fn float(self, name: &str, of: fn(&T) -> f64) -> Self {
        self.column(Field::new(name, DataType::Float64, false), move |rows| {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
        })
    }

    /// Texts, each by its name.
    #[must_use]
    pub fn texts_by_name(self, name: &str, of: fn(&T) -> &[(String, String)]) -> Self {
        let field = Field::new(name, metadata_type(), false);
        self.column_if_made(field, move |rows| {
            let mut maps = map_builder();
            for row in rows {
                for (name, text) in of(row) {
                    maps.keys().append_value(name);
                    maps.values().append_value(text);
                }
                maps.append(true)?;
            }
            let maps: ArrayRef = Arc::new(maps.finish());
            Ok(maps)
        })
    }

    /// A part of a whole, where there is a whole.
    #[must_use]
    pub fn share(self, name: &str, of: fn(&T) -> Option<f64>) -> Self {
        self.column(Field::new(name, DataType::Float64, true), move |rows| {
            Arc::new(Float64Array::from_iter(rows.iter().map(of)))
        })
    }

    /// Whether something is so.
    #[must_use]
    pub fn truth(self, name: &str, of: fn(&T) -> bool) -> Self {
        self.column(Field::new(name, DataType::Boolean, false), move |rows| {
            let truths: Vec<bool> = rows.iter().map(of).collect();
            Arc::new(BooleanArray::from(truths))
        })
    }

    /// A moment, in Unix milliseconds.
    #[must_use]
    pub fn time(self, name: &str, of: fn(&T) -> u64) -> Self {
        self.column(time(name).with_nullable(false), move |rows| {
            times(rows.iter().map(|row| Some(of(row))))
        })
    }

    fn column(self, field: Field, make: impl Fn(&[T]) -> ArrayRef + Send + Sync + 'static) -> Self {
        self.column_if_made(field, move |rows| Ok(make(rows)))
    }

    fn column_if_made(
        mut self,
        field: Field,
        make: impl Fn(&[T]) -> Made + Send + Sync + 'static,
    ) -> Self {
        self.fields.push(field);
        self.make.push(Box::new(make));
        self
    }

    /// The table of what `rows` says whenever a tenant's query reads it. It may wait for a lock.
    pub fn table(
        self,
        name: &'static str,
        rows: impl Fn(&Tenant) -> Result<Vec<T>> + Send + Sync + 'static,
    ) -> Live {
        let Self { fields, make } = self;
        let schema = Arc::new(Schema::new(fields));
        let of = schema.clone();
        let rows = move |tenant: &Tenant| {
            let rows = rows(tenant)?;
            let columns: std::result::Result<Vec<ArrayRef>, ArrowError> =
                make.iter().map(|make| make(&rows)).collect();
            RecordBatch::try_new(of.clone(), columns.map_err(misfit)?).map_err(misfit)
        };
        Live {
            name,
            schema,
            rows: Arc::new(rows),
        }
    }
}

fn misfit(error: impl fmt::Display) -> Error {
    Error::internal(format!("a table has not the columns that it says; {error}"))
}

/// A [`Live`] as DataFusion sees it.
#[derive(Debug)]
pub struct LiveTable {
    live: Live,
    tenant: Tenant,
    normal: Handle,
}

impl LiveTable {
    /// Read for `tenant`, by a task on `normal`.
    pub fn new(live: Live, tenant: Tenant, normal: Handle) -> Self {
        Self {
            live,
            tenant,
            normal,
        }
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
        let schema = project_schema(&self.live.schema, projection)?;
        let reading = Reading {
            live: self.live.clone(),
            tenant: self.tenant.clone(),
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
    tenant: Tenant,
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
        let (live, tenant) = (self.live.clone(), self.tenant.clone());
        let read = spawn_blocking(move || (live.rows)(&tenant)).await;
        let batch = read.map_err(|_| Error::unavailable("the server is going"))??;
        let batch = match &self.projection {
            Some(columns) => batch.project(columns).map_err(misfit)?,
            None => batch,
        };
        give.give(Box::new(|| Ok(batch))).await;
        Ok(())
    }
}
