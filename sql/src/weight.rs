//! How large a plan may become. An optimiser puts the expressions of a subquery into those of the query around it: where
//! each names the one before several times, a short text becomes a plan that fills the memory, and nothing stops it.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use crate::DfResult;
use crate::limits::LEAVES_MAX;

/// Refuses a plan of which a column, or what is asked of one, would be too large an expression.
pub fn check(plan: &LogicalPlan) -> DfResult<()> {
    weights(plan)?;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Subquery(inner) = node {
            weights(&inner.subquery)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// For each column of a plan, how many columns of tables and constants it is made of.
fn weights(plan: &LogicalPlan) -> DfResult<Vec<u64>> {
    let mut inputs = Vec::new();
    for input in plan.inputs() {
        inputs.push(weights(input)?);
    }
    let first = inputs.first().cloned().unwrap_or_default();
    let of = |exprs: &[Expr], input: &LogicalPlan| {
        let exprs = exprs.iter();
        exprs
            .map(|expr| weight(expr, input.schema(), &first))
            .collect::<DfResult<Vec<u64>>>()
    };
    let columns = plan.schema().fields().len();
    let weights = match plan {
        LogicalPlan::Projection(it) => of(&it.expr, &it.input)?,
        LogicalPlan::Aggregate(it) => of(&it.group_expr, &it.input)?,
        LogicalPlan::Filter(it) => {
            of(std::slice::from_ref(&it.predicate), &it.input)?;
            first
        }
        LogicalPlan::Distinct(Distinct::On(it)) => of(&it.select_expr, &it.input)?,
        LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Window(_) => first,
        LogicalPlan::Join(_) => inputs.concat(),
        LogicalPlan::Union(_) => {
            let most = |at: usize| inputs.iter().filter_map(|of| of.get(at)).max().copied();
            (0..columns).map(|at| most(at).unwrap_or(1)).collect()
        }
        _ => Vec::new(),
    };
    // What the rest has, it makes itself.
    let mut weights = weights;
    weights.resize(columns, 1);
    Ok(weights)
}

fn weight(expr: &Expr, schema: &DFSchema, of: &[u64]) -> DfResult<u64> {
    let mut sum = 1_u64;
    expr.apply(|expr| {
        if let Expr::Column(column) = expr {
            let at = schema.maybe_index_of_column(column);
            let weight = at.and_then(|at| of.get(at)).copied().unwrap_or(1);
            sum = sum.saturating_add(weight);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if sum > LEAVES_MAX {
        return Err(DataFusionError::ResourcesExhausted(format!(
            "an expression becomes too large once those of subqueries are put into it; columns=`{sum}` \
             limit=`{LEAVES_MAX}`"
        )));
    }
    Ok(sum)
}
