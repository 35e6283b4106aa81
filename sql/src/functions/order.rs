//! `ORDER BY` a function of tensors: what it gives is computed below the sort, which then holds a number of each row, and not
//! the tensor that it was made of.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr, col};

use super::Which;
use crate::DfResult;

/// No column of ours is named so.
const PREFIX: &str = "__order_by_";

/// The same plan, with sorts by columns in place of sorts by functions of tensors.
pub fn by_columns(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Sort(sort) => below(sort),
        node => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

fn below(sort: Sort) -> DfResult<Transformed<LogicalPlan>> {
    let mut all = false;
    for by in &sort.expr {
        all |= by.expr.exists(|expr| Ok(is_ours(expr)))?;
    }
    if !all {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let columns: Vec<Expr> = sort
        .input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let mut with = columns.clone();
    let mut by_columns: Vec<SortExpr> = Vec::new();
    for (at, by) in sort.expr.into_iter().enumerate() {
        let name = format!("{PREFIX}{at}");
        with.push(by.expr.alias(&name));
        by_columns.push(SortExpr::new(col(name), by.asc, by.nulls_first));
    }
    let plan = LogicalPlanBuilder::from(sort.input)
        .project(with)?
        .sort_with_limit(by_columns, sort.fetch)?
        .project(columns)?
        .build()?;
    Ok(Transformed::yes(plan))
}

fn is_ours(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(ScalarFunction { func, .. })
        if Which::ALL.iter().any(|which| which.name() == func.name()))
}
