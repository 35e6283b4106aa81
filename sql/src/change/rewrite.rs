//! A statement that changes something as one that asks. A DELETE or UPDATE is the query that finds what it changes: the
//! same FROM and WHERE, read by the same planner as any other, so that no condition is lost on the way. What such a query
//! could not say is refused by its name.

use std::ops::ControlFlow;

use bowstring_wire::error::{Error, Result, clip};
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, ObjectName, Query, SelectItem,
    SetExpr, Statement, TableFactor, TableWithJoins, Update, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::insert::{self, TABLE};
use super::{Change, Column};
use crate::catalog::{CATALOG, SCHEMA};
use crate::tables::tensor_columns;

/// What the query asks for first.
const FIRST: &str = "namespace, key, version";
pub(super) const FIRST_COLUMNS: usize = 3;

/// The columns that an UPDATE may name.
const SETTABLE: &str = "`pinned`, `expires_at` or `metadata`";

/// What a statement changes, and the query that finds it; `None` where it is no INSERT, DELETE or UPDATE.
///
/// # Errors
/// `invalid_argument` where it has no WHERE, or sets what is no column; `unimplemented` for what it says beside that.
pub fn rewritten(statement: &Statement) -> Result<Option<(Change, Statement)>> {
    let (verb, found) = match statement {
        Statement::Delete(of) => ("DELETE", delete(of)?),
        Statement::Update(of) => ("UPDATE", update(of)?),
        Statement::Insert(of) => {
            let (insert, query) = insert::rewritten(of)?;
            return Ok(Some((Change::Insert(insert), query)));
        }
        _ => return Ok(None),
    };
    if statement.visit(&mut Queries).is_break() {
        return Err(Error::unimplemented(format!(
            "a {verb} with a subquery is not built: what that reads may be what is changed meanwhile; ask for the keys \
             first, and say `key IN (…)`"
        )));
    }
    let Some(selection) = found.selection else {
        return Err(Error::invalid(format!(
            "a {verb} without WHERE would be of every tensor in every namespace; say `WHERE true` where that is meant"
        )));
    };
    let columns = found.values.iter().map(|(column, _)| *column);
    let change = match statement {
        Statement::Delete(_) => Change::Delete,
        _ => Change::Update(columns.collect()),
    };
    let query = query(found.table, selection, &found.values)?;
    Ok(Some((change, query)))
}

/// The parts of a statement that its query has too.
struct Parts<'a> {
    table: &'a TableWithJoins,
    selection: Option<&'a Expr>,
    values: Vec<(Column, &'a Expr)>,
}

fn delete(of: &Delete) -> Result<Parts<'_>> {
    // All of it is named here: what a later parser reads beside it does not get lost.
    let Delete {
        delete_token: _,
        optimizer_hints: _,
        tables,
        from,
        using,
        selection,
        returning,
        output,
        order_by,
        limit,
    } = of;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
    refuse(
        "DELETE",
        &[
            ("more than one table", !tables.is_empty() || from.len() != 1),
            ("USING", using.is_some()),
            ("RETURNING", returning.is_some()),
            ("OUTPUT", output.is_some()),
            ("ORDER BY", !order_by.is_empty()),
            ("LIMIT", limit.is_some()),
        ],
    )?;
    let table = from
        .first()
        .ok_or_else(|| Error::invalid("a DELETE names a table"))?;
    check_table("DELETE", table)?;
    Ok(Parts {
        table,
        selection: selection.as_ref(),
        values: Vec::new(),
    })
}

fn update(of: &Update) -> Result<Parts<'_>> {
    let Update {
        update_token: _,
        optimizer_hints: _,
        table,
        assignments,
        from,
        selection,
        returning,
        output,
        or,
        order_by,
        limit,
    } = of;
    refuse(
        "UPDATE",
        &[
            ("FROM", from.is_some()),
            ("RETURNING", returning.is_some()),
            ("OUTPUT", output.is_some()),
            ("OR", or.is_some()),
            ("ORDER BY", !order_by.is_empty()),
            ("LIMIT", limit.is_some()),
        ],
    )?;
    check_table("UPDATE", table)?;
    let mut values: Vec<(Column, &Expr)> = Vec::with_capacity(assignments.len());
    for Assignment { target, value } in assignments {
        let column = column(target)?;
        if values.iter().any(|(set, _)| *set == column) {
            return Err(Error::invalid(format!(
                "an UPDATE sets a column once; twice=`{target}`"
            )));
        }
        values.push((column, value));
    }
    Ok(Parts {
        table,
        selection: selection.as_ref(),
        values,
    })
}

fn refuse(verb: &str, said: &[(&str, bool)]) -> Result<()> {
    match said.iter().find(|(_, said)| *said) {
        None => Ok(()),
        Some((what, _)) => Err(Error::unimplemented(format!(
            "a {verb} with {what} is not built; expected `{}`",
            match verb {
                "DELETE" => "DELETE FROM tensors WHERE …",
                _ => "UPDATE tensors SET … WHERE …",
            }
        ))),
    }
}

fn check_table(verb: &str, table: &TableWithJoins) -> Result<()> {
    let TableWithJoins { relation, joins } = table;
    refuse(verb, &[("a join", !joins.is_empty())])?;
    let plain = match relation {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } => {
            let renames = alias
                .as_ref()
                .is_some_and(|alias| !alias.columns.is_empty() || alias.at.is_some());
            let more = [with_hints.len(), partitions.len(), index_hints.len()];
            (!renames && more == [0; 3]).then_some(name)
        }
        _ => None,
    };
    let Some(name) = plain else {
        return refuse(verb, &[("more than a table's name and alias", true)]);
    };
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| Some(meant(part.as_ident()?)))
        .collect();
    let parts = parts.unwrap_or_default();
    let whole = [CATALOG, SCHEMA, TABLE];
    let is_it = !parts.is_empty() && parts.len() <= whole.len();
    if is_it && whole.ends_with(&parts.iter().map(String::as_str).collect::<Vec<_>>()) {
        return Ok(());
    }
    Err(Error::unimplemented(format!(
        "only the rows of `{TABLE}` can be changed; got=`{}`",
        clip(&name.to_string(), 128)
    )))
}

fn column(target: &AssignmentTarget) -> Result<Column> {
    let name = match target {
        AssignmentTarget::ColumnName(ObjectName(parts)) => match &parts[..] {
            [part] => part.as_ident().map(meant),
            _ => None,
        },
        AssignmentTarget::Tuple(_) => None,
    };
    let name = name.ok_or_else(|| {
        Error::unimplemented(format!(
            "SET names one column, without its table; got=`{}`",
            clip(&target.to_string(), 128)
        ))
    })?;
    match &*name {
        // Of the column it is said how often, and it is set to whether.
        "pins" | "pinned" => Ok(Column::Pinned),
        "expires_at" => Ok(Column::ExpiresAt),
        "metadata" => Ok(Column::Metadata),
        name if tensor_columns().column_with_name(name).is_some() => {
            Err(Error::unimplemented(format!(
                "this column cannot be set; column=`{name}` expected {SETTABLE}; all else goes with the tensor: put it \
                 again"
            )))
        }
        name => Err(Error::invalid(format!(
            "no such column of `{TABLE}`; column=`{}` expected {SETTABLE}",
            clip(name, 128)
        ))),
    }
}

/// A name as the planner reads it.
pub(super) fn meant(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn query(
    table: &TableWithJoins,
    selection: &Expr,
    values: &[(Column, &Expr)],
) -> Result<Statement> {
    let mut text = format!("SELECT {FIRST}");
    for (number, (column, _)) in values.iter().enumerate() {
        let value = match column {
            Column::Pinned => "CAST(NULL AS BOOLEAN)",
            Column::ExpiresAt => "CAST(NULL AS TIMESTAMP(3))",
            // The planner has no name for the type: who reads it casts it.
            Column::Metadata => "NULL",
        };
        text += &format!(", {value} AS set_{number}");
    }
    text += " FROM t WHERE true";
    let broken = || Error::internal("a change cannot be made a query");
    let mut statements = Parser::parse_sql(&GenericDialect {}, &text).map_err(|_| broken())?;
    let mut statement = statements.pop().ok_or_else(broken)?;
    let Statement::Query(query) = &mut statement else {
        return Err(broken());
    };
    let SetExpr::Select(select) = &mut *query.body else {
        return Err(broken());
    };
    select.from = vec![table.clone()];
    select.selection = Some(selection.clone());
    let set = select.projection.iter_mut().skip(FIRST_COLUMNS);
    for (item, (_, value)) in set.zip(values) {
        let SelectItem::ExprWithAlias { expr, .. } = item else {
            return Err(broken());
        };
        let place = match expr {
            Expr::Cast { expr, .. } => expr.as_mut(),
            whole => whole,
        };
        *place = (*value).clone();
    }
    Ok(statement)
}

/// Ends at the first query.
struct Queries;

impl Visitor for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;

    use super::*;

    fn of(text: &str) -> Result<Option<(Change, String)>> {
        let mut statements = Parser::parse_sql(&GenericDialect {}, text).unwrap();
        let found = rewritten(&statements.pop().unwrap())?;
        Ok(found.map(|(change, query)| (change, query.to_string())))
    }

    #[test]
    fn a_change_becomes_a_query_with_the_same_condition() {
        let cases = [
            (
                "DELETE FROM tensors WHERE key = 'a' OR bytes > 3",
                Change::Delete,
                "SELECT namespace, key, version FROM tensors WHERE key = 'a' OR bytes > 3",
            ),
            (
                "delete from Bowstring.cache.TENSORS t where t.key like 'a%'",
                Change::Delete,
                "SELECT namespace, key, version FROM Bowstring.cache.TENSORS t WHERE t.key LIKE 'a%'",
            ),
            (
                "UPDATE tensors SET expires_at = now() + INTERVAL '1' HOUR, pinned = ? WHERE false",
                Change::Update(vec![Column::ExpiresAt, Column::Pinned]),
                "SELECT namespace, key, version, CAST(now() + INTERVAL '1' HOUR AS TIMESTAMP(3)) AS set_0, \
                 CAST(? AS BOOLEAN) AS set_1 FROM tensors WHERE false",
            ),
            (
                "UPDATE cache.tensors AS t SET \"pins\" = 1 WHERE true",
                Change::Update(vec![Column::Pinned]),
                "SELECT namespace, key, version, CAST(1 AS BOOLEAN) AS set_0 FROM cache.tensors AS t WHERE true",
            ),
            (
                "UPDATE tensors SET pinned = true, metadata = MAP {'a': key} WHERE bytes > 3",
                Change::Update(vec![Column::Pinned, Column::Metadata]),
                "SELECT namespace, key, version, CAST(true AS BOOLEAN) AS set_0, MAP {'a': key} AS set_1 \
                 FROM tensors WHERE bytes > 3",
            ),
        ];
        for (text, change, query) in cases {
            assert_eq!(
                of(text).unwrap(),
                Some((change, query.to_owned())),
                "{text}"
            );
        }
        assert_eq!(of("SELECT 1").unwrap(), None);
    }

    /// A statement and words of its refusal a line.
    const UNIMPLEMENTED: &str = "
        DELETE FROM tensors WHERE true LIMIT 1 -> LIMIT
        DELETE FROM tensors WHERE true ORDER BY key -> ORDER BY
        DELETE FROM tensors USING namespaces n WHERE true -> USING
        DELETE FROM tensors WHERE true RETURNING key -> RETURNING
        DELETE FROM tensors, namespaces WHERE true -> more than one table
        DELETE FROM tensors JOIN namespaces ON true WHERE true -> a join
        DELETE FROM tensors AS t(key, namespace) WHERE true -> more than a table's name
        DELETE FROM namespaces WHERE true -> only the rows of `tensors`
        DELETE FROM other.tensors WHERE true -> only the rows of `tensors`
        DELETE FROM \"Tensors\" WHERE true -> only the rows of `tensors`
        DELETE FROM tensors WHERE key IN (SELECT key FROM tensors) -> a subquery
        DELETE FROM tensors WHERE EXISTS (SELECT 1) -> a subquery
        DELETE FROM tensors WHERE bytes > (SELECT 1) -> a subquery
        UPDATE tensors SET pinned = (SELECT true) WHERE true -> a subquery
        UPDATE tensors SET pinned = true FROM namespaces WHERE true -> FROM
        UPDATE tensors SET pinned = true WHERE true RETURNING key -> RETURNING
        UPDATE tensors SET pinned = true WHERE true LIMIT 1 -> LIMIT
        UPDATE tensors SET (pinned, expires_at) = (true, NULL) WHERE true -> one column
        UPDATE tensors t SET t.pinned = true WHERE true -> one column
        UPDATE tensors SET key = 'a' WHERE true -> column=`key`
        UPDATE tensors SET metadata = (SELECT metadata FROM tensors) WHERE true -> a subquery
        UPDATE tensors SET value = 'a' WHERE true -> column=`value`";
    const INVALID: &str = "
        DELETE FROM tensors -> say `WHERE true`
        UPDATE tensors SET pinned = true -> say `WHERE true`
        UPDATE tensors SET pinned = true, pins = 1 WHERE true -> once
        UPDATE tensors SET nothing = 1 WHERE true -> column=`nothing`
        UPDATE tensors SET \"Pinned\" = true WHERE true -> column=`Pinned`";

    #[test]
    fn what_a_query_would_not_say_is_refused_by_its_name() {
        for (lines, code, count) in [
            (UNIMPLEMENTED, Code::Unimplemented, 22),
            (INVALID, Code::InvalidArgument, 5),
        ] {
            let cases = lines.lines().filter_map(|line| line.split_once(" -> "));
            assert_eq!(cases.clone().count(), count);
            for (text, words) in cases {
                let error = of(text).unwrap_err();
                assert_eq!(error.code, code, "{text}: {error}");
                assert!(error.message.contains(words), "{text}: {error}");
            }
        }
    }
}
