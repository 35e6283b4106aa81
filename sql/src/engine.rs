//! Plans and runs queries. `listing`: the tables that there are.

pub mod listing;

use std::sync::Arc;

use arrow_array::RecordBatch;
use bowstring_cache::Cache;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::answer::{Answer, Step, Until};
use crate::catalog::Tables;
use crate::counters::Counters;
use crate::error;
use crate::functions::{named, order};
use crate::limits::Limits;
use crate::normal::Normal;
use crate::plan::{Asked, Plan};
use crate::pool::QueryPool;
use crate::reads::{self, Reads};
use crate::scope::Scope;
use crate::session::base;
use crate::spill::Spills;
use crate::tables::live::Live;
use crate::threads::Threads;
use crate::{DfResult, statement, tables};

/// Queries over a cache. Cheap to clone.
#[derive(Clone)]
pub struct Sql(Arc<Inner>);

/// What a change asks before it does it.
#[derive(Clone, Copy, Debug)]
pub enum May<'a> {
    /// To read what values of parameters have named.
    Read(&'a Reads),
    /// To change entries of a namespace.
    Change(&'a Namespace),
}

struct Inner {
    cache: Cache,
    brought: Vec<Live>,
    limits: Limits,
    /// The server's own threads, and those of `walks`.
    normal: Normal,
    _walks: Threads,
    threads: Threads,
    base: SessionState,
    spills: Option<Spills>,
    turns: Arc<Semaphore>,
    counters: Counters,
}

impl Sql {
    /// Queries over `cache`, whose tables are read by tasks on the runtime that this is called on. `brought` are tables
    /// that others know.
    ///
    /// # Errors
    /// Where the operating system gives no threads, `invalid_argument` where the directory to go on in is none.
    pub fn new(cache: Cache, brought: Vec<Live>, limits: Limits) -> Result<Self> {
        let spills = limits.spill_dir.as_deref();
        let spills = spills.map(|dir| Spills::open(dir, limits.spill_bytes));
        let spills = spills.transpose()?;
        let walks = Threads::walks()?;
        let turns = Arc::new(Semaphore::new(limits.queries));
        Ok(Self(Arc::new(Inner {
            counters: Counters::new(turns.clone(), limits.queries, spills.clone()),
            spills,
            normal: Normal {
                handle: Handle::current(),
                walks: walks.handle().clone(),
            },
            _walks: walks,
            threads: Threads::queries(limits.threads)?,
            base: base(&limits),
            turns,
            cache,
            brought,
            limits,
        })))
    }

    /// What queries may use.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Reads a statement, as the settings are.
    ///
    /// # Errors
    /// As [`Sql::plan_in`].
    pub async fn plan(&self, tenant: &Tenant, text: &str) -> Result<Plan> {
        self.plan_in(tenant, text, &Scope::default()).await
    }

    /// Reads a statement of a session that has set this.
    ///
    /// # Errors
    /// `invalid_argument` where it is none or names what is not there, `unimplemented` where it would do what SQL does not
    /// do here, `resource_exhausted` past a limit.
    pub async fn plan_in(&self, tenant: &Tenant, text: &str, scope: &Scope) -> Result<Plan> {
        let (sql, tenant, text) = (self.clone(), tenant.clone(), text.to_owned());
        let scope = scope.clone();
        self.apart(async move {
            let parsed = statement::parse(&text)?;
            let state = sql.state(&tenant, &scope, None);
            let planned = async {
                let named = state.resolve_table_references(&parsed.query)?;
                let logical = state.statement_to_plan(parsed.query).await?;
                let asked = Asked {
                    tables: reads::tables(named, scope.schema()),
                    tenant,
                    scope,
                    change: parsed.change,
                };
                Plan::new(&state, Arc::new(asked), logical)
            };
            planned.await.map_err(|error| error::of(&error))
        })
        .await
    }

    /// Gives a plan's parameters values: the columns of one row, in their order.
    ///
    /// # Errors
    /// `invalid_argument` for another number of them, or a value that is not of its parameter's type.
    pub async fn bind(&self, plan: &Plan, values: &RecordBatch) -> Result<Plan> {
        let wanted = plan.parameters.fields();
        if (values.num_columns(), values.num_rows()) != (wanted.len(), 1) {
            return Err(Error::invalid(format!(
                "expected one row with a value for each parameter; parameters=`{}` got columns=`{}` rows=`{}`",
                wanted.len(),
                values.num_columns(),
                values.num_rows()
            )));
        }
        let (sql, plan, values) = (self.clone(), plan.clone(), values.clone());
        self.apart(async move {
            let bound = || -> DfResult<Plan> {
                // To what it is compared with; the plan casts all others, to whatever suits the value.
                let compared = plan.logical.get_parameter_types()?;
                let fields = plan.parameters.fields().iter();
                let values = fields.zip(values.columns()).map(|(field, column)| {
                    let value = ScalarValue::try_from_array(column, 0)?;
                    match compared.get(field.name()) {
                        Some(Some(wanted)) => value.cast_to(wanted),
                        _ => Ok(value),
                    }
                });
                let values: Vec<ScalarValue> = values.collect::<DfResult<_>>()?;
                let logical = LogicalPlan::clone(&plan.logical)
                    .with_param_values(ParamValues::from(values))?;
                let state = sql.state(&plan.asked.tenant, &plan.asked.scope, None);
                Plan::new(&state, plan.asked.clone(), logical)
            };
            bound().map_err(|error| error::of(&error))
        })
        .await
    }

    /// Answers a query, of which `encode` makes each part on the query's thread.
    ///
    /// # Errors
    /// `invalid_argument` where parameters have no values, `deadline_exceeded` where its turn did not come in time.
    pub async fn run<T: Send + 'static>(
        &self,
        plan: &Plan,
        encode: impl FnMut(RecordBatch) -> Result<T> + Send + 'static,
    ) -> Result<Answer<T>> {
        match plan.asked.change {
            None => self.start(plan, encode).await,
            Some(_) => Err(Error::internal("a change was run as a query")),
        }
    }

    /// What queries do and have done.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What is queried.
    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// Begins a query, whose batches are what `encode` makes of them.
    pub(crate) async fn start<T: Send + 'static>(
        &self,
        plan: &Plan,
        mut encode: impl FnMut(RecordBatch) -> Result<T> + Send + 'static,
    ) -> Result<Answer<T>> {
        if let Some(missing) = plan.parameters.fields().first() {
            return Err(Error::invalid(format!(
                "the statement has parameters without values; first=`{}` parameters=`{}`",
                missing.name(),
                plan.parameters.fields().len()
            )));
        }
        let timeout = plan.asked.scope.timeout(&self.0.limits);
        let until = Until::new(self.0.cache.clock().clone(), timeout);
        let turn = until.keep(self.turn()).await??;
        let running = self.0.counters.begins();
        let (give, steps) = mpsc::channel::<Step<T>>(1);
        let (sql, plan) = (self.clone(), plan.clone());
        let query = self.spawn(async move {
            let _turn = turn;
            let end = sql.answer(plan, &mut encode, &give).await;
            // Where nobody is left, it ended because of that.
            if !give.is_closed() {
                running.ends(end.is_ok());
            }
            // Nobody may be left to be told.
            let _ = give.send(end.map(|()| None)).await;
        });
        Ok(Answer::new(steps, until, query))
    }

    /// Runs planning on the query threads, in its time.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let until = Until::new(self.0.cache.clock().clone(), self.0.limits.timeout);
        let turn = until.keep(self.turn()).await??;
        let planning = self.spawn(async move {
            let _turn = turn;
            work.await
        });
        match until.keep(planning).await? {
            Ok(planned) => planned,
            Err(error) => Err(Error::internal(format!(
                "the planning of a query failed; {error}"
            ))),
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let _waiting = self.0.counters.waits();
        let turns = self.0.turns.clone();
        let turn = turns.acquire_owned().await;
        turn.map_err(|_| Error::unavailable("the server takes no more queries"))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.0.threads.handle().spawn(work))
    }

    async fn answer<T>(
        &self,
        plan: Plan,
        encode: &mut (impl FnMut(RecordBatch) -> Result<T> + Send),
        give: &mpsc::Sender<Step<T>>,
    ) -> Result<()> {
        let inner = &*self.0;
        let failed = |error| error::of(&error);
        let pool = QueryPool::new(
            inner.cache.clone(),
            inner.normal.handle.clone(),
            inner.limits.query_bytes,
            inner.spills.is_some(),
        );
        let disk = DiskManagerBuilder::default();
        let disk = match &inner.spills {
            Some(spills) => disk.with_temp_file_factory(Arc::new(spills.clone())),
            None => disk.with_mode(DiskManagerMode::Disabled),
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(failed)?;
        let named = named::read(
            &inner.cache,
            &plan.asked.tenant,
            &inner.normal.handle,
            inner.limits.query_bytes,
            LogicalPlan::clone(&plan.logical),
        );
        let logical = order::by_columns(named.await?).map_err(failed)?;
        let state = self.state(&plan.asked.tenant, &plan.asked.scope, Some(runtime));
        let physical = state.create_physical_plan(&logical).await;
        let mut batches =
            execute_stream(physical.map_err(failed)?, state.task_ctx()).map_err(failed)?;
        let rows_max = plan.asked.scope.rows_max(&inner.limits);
        let mut left = rows_max;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            let rows = batch.num_rows() as u64;
            if rows > left {
                return Err(Error::exhausted(format!(
                    "the answer has too many rows; say LIMIT; limit=`sql_rows_max` value=`{rows_max}`"
                )));
            }
            left -= rows;
            inner.counters.found(rows);
            let batch = RecordBatch::try_new_with_options(
                plan.rows.clone(),
                batch.columns().to_vec(),
                &arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
            );
            let batch = batch.map_err(|error| {
                Error::internal(format!(
                    "an answer is not of the schema that was said; {error}"
                ))
            })?;
            if give.send(Ok(Some(encode(batch)?))).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn state(
        &self,
        tenant: &Tenant,
        scope: &Scope,
        runtime: Option<Arc<RuntimeEnv>>,
    ) -> SessionState {
        let inner = &*self.0;
        let tables: Tables = tables::of(&inner.cache, tenant, &inner.normal, &inner.brought);
        let builder = SessionStateBuilder::new_from_existing(inner.base.clone())
            .with_catalog_list(Arc::new(tables));
        let mut state = match runtime {
            Some(runtime) => builder.with_runtime_env(runtime).build(),
            None => builder.build(),
        };
        let catalog = &mut state.config_mut().options_mut().catalog;
        catalog.default_schema = scope.schema().to_owned();
        // What `now()` says.
        state.mark_start_execution();
        state
    }
}
