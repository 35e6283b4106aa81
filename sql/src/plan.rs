//! A statement that was read.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::ops::Deref;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bowstring_wire::name::Tenant;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use tokio::runtime::Handle;

use crate::change::Change;
use crate::error::passed;
use crate::reads::{self, Reads};
use crate::scope::Scope;
use crate::{DfResult, weight};

/// A statement that was read, for one tenant. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) logical: Arc<Logical>,
    /// Of the batches that the query gives.
    pub(crate) rows: SchemaRef,
    pub(crate) asked: Arc<Asked>,
    reads: Arc<[Reads]>,
    schema: SchemaRef,
    pub(crate) parameters: SchemaRef,
}

/// How a statement was asked: what of it stays when parameters get values.
#[derive(Debug)]
pub(crate) struct Asked {
    pub tenant: Tenant,
    pub scope: Scope,
    /// What becomes of the entries that it finds.
    pub change: Option<Change>,
    /// By their names.
    pub tables: Vec<Reads>,
}

/// Nests as deeply as a statement may: only a query's thread has the stack to take it down.
#[derive(Debug)]
pub(crate) struct Logical {
    plan: LogicalPlan,
    threads: Handle,
}

impl Deref for Logical {
    type Target = LogicalPlan;

    fn deref(&self) -> &LogicalPlan {
        &self.plan
    }
}

impl Drop for Logical {
    fn drop(&mut self) {
        let plan = mem::take(&mut self.plan);
        drop(self.threads.spawn(async move { drop(plan) }));
    }
}

impl Plan {
    /// The columns of the answer. All may be null, whatever an optimiser knows better: what is said before a query is run
    /// is so what it sends.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether it changes something, or puts something, and answers how many entries that was: see [`crate::Sql::change`].
    pub fn changes(&self) -> bool {
        self.asked.change.is_some()
    }

    /// Whether entries go by it.
    pub fn deletes(&self) -> bool {
        self.asked.change == Some(Change::Delete)
    }

    /// Whether entries are put by it.
    pub fn inserts(&self) -> bool {
        matches!(self.asked.change, Some(Change::Insert(_)))
    }

    /// What it reads, each once: tables by name, and what `tensor()` names once parameters have values. It is for who runs
    /// it to ask whether that is allowed.
    pub fn reads(&self) -> &[Reads] {
        &self.reads
    }

    /// A column for each parameter, in order, named by its number; of type null where any will do.
    pub fn parameters(&self) -> &SchemaRef {
        &self.parameters
    }

    /// What a statement's plan says of itself; on a query's thread.
    pub(crate) fn new(
        state: &SessionState,
        asked: Arc<Asked>,
        logical: LogicalPlan,
    ) -> DfResult<Self> {
        let only_asks = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        only_asks.verify_plan(&logical)?;
        weight::check(&logical)?;
        let parameters = parameters(state, &logical)?;
        // What types columns have is known for sure once they were coerced, which takes the parameters.
        let rows = match parameters.fields().is_empty() {
            true => all_nullable(state.optimize(&logical)?.schema().as_arrow()),
            false => all_nullable(logical.schema().as_arrow()),
        };
        if let Some(Change::Insert(insert)) = &asked.change {
            insert.check(&rows).map_err(passed)?;
        }
        let mut reads = asked.tables.clone();
        if parameters.fields().is_empty() {
            reads.extend(reads::tensors(&logical).map_err(passed)?);
        }
        let schema = match &asked.change {
            Some(_) => Arc::new(Schema::new(vec![Field::new(
                "count",
                DataType::Int64,
                true,
            )])),
            None => rows.clone(),
        };
        let logical = Logical {
            plan: logical,
            threads: Handle::current(),
        };
        Ok(Self {
            logical: Arc::new(logical),
            rows,
            reads: reads.into(),
            asked,
            schema,
            parameters,
        })
    }
}

fn all_nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// `$1`, `$2` and so on, in order; those between that a statement leaves out take any value.
fn parameters(state: &SessionState, plan: &LogicalPlan) -> DfResult<SchemaRef> {
    let compared = plan.get_parameter_types()?;
    let mut cast = match compared.values().any(Option::is_none) {
        true => cast(state, plan),
        false => HashMap::new(),
    };
    let mut numbered = BTreeMap::new();
    for (name, of) in compared {
        let of = of.or_else(|| cast.remove(&name));
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        let Some(number) = number.filter(|number| (1..=1_000).contains(number)) else {
            return Err(DataFusionError::Plan(format!(
                "parameters are `?`, or `$1` to `$1000`; got `{name}`"
            )));
        };
        numbered.insert(number, of.unwrap_or(DataType::Null));
    }
    let last = numbered.keys().next_back().copied().unwrap_or(0);
    let fields = (1..=last).map(|number| {
        let of = numbered.get(&number).cloned().unwrap_or(DataType::Null);
        Field::new(format!("${number}"), of, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The types of parameters that nothing is compared with, as far as they are cast to one: those of `LIMIT`, of functions, and of
/// what a column is set to. Drivers bind no value to a parameter of type null.
fn cast(state: &SessionState, plan: &LogicalPlan) -> HashMap<String, DataType> {
    let mut types = HashMap::new();
    // What cannot be coerced without values may be so with them.
    let Ok(coerced) = TypeCoercion::new().analyze(plan.clone(), state.config_options()) else {
        return types;
    };
    let _ = coerced.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(parameter) = cast.expr.as_ref()
                {
                    // What functions take a null as is a view, which not every driver has.
                    let of = match cast.field.data_type() {
                        DataType::Utf8View => DataType::Utf8,
                        DataType::BinaryView => DataType::Binary,
                        of => of.clone(),
                    };
                    types.entry(parameter.id.clone()).or_insert(of);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    types
}
