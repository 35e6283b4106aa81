//! Reads a statement: one, that asks, or that changes what a query can find, and that does not cost more to plan than a
//! query may.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bowstring_wire::error::{Error, Result, clip};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Statement as SqlStatement, Value, Visit, Visitor,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::change::{Change, rewritten};
use crate::error;
use crate::limits::{NESTING_MAX, RELATIONS_MAX, STATEMENT_BYTES_MAX};

/// A statement that was read.
#[derive(Debug)]
pub struct Parsed {
    /// What is asked; of a change, for the entries that it is of.
    pub query: Statement,
    /// What becomes of those.
    pub change: Option<Change>,
}

/// Reads the one statement of a text. Parameters written `?` are numbered in their order.
///
/// # Errors
/// `invalid_argument` for what is no SQL, `unimplemented` for what does more than ask, put, delete and update,
/// `resource_exhausted` past a limit.
pub fn parse(text: &str) -> Result<Parsed> {
    if text.len() > STATEMENT_BYTES_MAX {
        return Err(Error::exhausted(format!(
            "the statement is too long; bytes=`{}` limit=`{STATEMENT_BYTES_MAX}`",
            text.len()
        )));
    }
    check_nesting(text)?;
    let statements = DFParserBuilder::new(text)
        .with_dialect(&GenericDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = statements.map_err(|error| error::of(&error))?;
    let statement = statements.pop_front();
    let (Some(mut statement), true) = (statement, statements.is_empty()) else {
        return Err(Error::invalid("expected one SQL statement in the text"));
    };
    let change = match &mut statement {
        Statement::Statement(inner) => rewritten(inner)?.map(|(change, query)| {
            **inner = query;
            change
        }),
        // Of a change it shows how its rows would be found, and changes nothing.
        Statement::Explain(explain) => {
            if let Statement::Statement(inner) = &mut *explain.statement
                && let Some((_, query)) = rewritten(inner)?
            {
                if explain.options.analyze {
                    return Err(Error::unimplemented(
                        "EXPLAIN ANALYZE runs what it explains, which of an INSERT, DELETE or UPDATE is not built; ask EXPLAIN, or \
                         EXPLAIN ANALYZE of a SELECT that finds the same",
                    ));
                }
                **inner = query;
            }
            None
        }
        _ => None,
    };
    if !only_asks(&statement) {
        return Err(Error::unimplemented(format!(
            "SQL does not do that here; got=`{} …` expected SELECT, SHOW, DESCRIBE, INSERT, DELETE, UPDATE, or EXPLAIN of one",
            clip(text.split_whitespace().next().unwrap_or_default(), 32)
        )));
    }
    if let Some(inner) = inner(&mut statement) {
        check_relations(inner)?;
        number_parameters(inner);
    }
    Ok(Parsed {
        query: statement,
        change,
    })
}

/// Counts what may nest, before anything is built that has to be taken down again.
fn check_nesting(text: &str) -> Result<()> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize()
        .map_err(|error| Error::invalid(format!("the text is no SQL; {error}")))?;
    let nests = |token: &&Token| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Whitespace(_)
        | Token::Comma
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Placeholder(_)
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    };
    let nesting = tokens.iter().filter(nests).count();
    if nesting > NESTING_MAX {
        return Err(Error::exhausted(format!(
            "the statement has too many operators, brackets and keywords; have long lists of values in one `IN (…)`; \
             got=`{nesting}` limit=`{NESTING_MAX}`"
        )));
    }
    Ok(())
}

fn only_asks(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => sql_only_asks(statement),
        Statement::Explain(explain) => only_asks(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn sql_only_asks(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Explain { statement, .. } => sql_only_asks(statement),
        // One that has a DELETE for its body, or in its WITH clauses, does not.
        SqlStatement::Query(query) => query.visit(&mut Statements).is_continue(),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowVariable { .. } => true,
        _ => false,
    }
}

/// Ends at the first statement.
struct Statements;

impl Visitor for Statements {
    type Break = ();

    fn pre_visit_statement(&mut self, _: &SqlStatement) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn inner(statement: &mut Statement) -> Option<&mut SqlStatement> {
    match statement {
        Statement::Statement(statement) => Some(statement),
        Statement::Explain(explain) => inner(&mut explain.statement),
        _ => None,
    }
}

/// Refuses what becomes too large once each name of a `WITH` clause stands for its query: thirty of them, each of which
/// names the one before twice, would be a thousand million tables.
fn check_relations(statement: &SqlStatement) -> Result<()> {
    let mut relations = Relations::default();
    let _ = statement.visit(&mut relations);
    let all = relations.open.first().copied().unwrap_or_default();
    if all > RELATIONS_MAX {
        return Err(Error::exhausted(format!(
            "the statement reads too many tables, once its WITH clauses are put into each other; limit=`{RELATIONS_MAX}`"
        )));
    }
    Ok(())
}

/// Counts tables, inner queries first.
#[derive(Default)]
struct Relations {
    /// Of the queries that are open, from the outermost; the first is of the statement.
    open: Vec<u64>,
    /// The queries of `WITH` clauses, by where they are.
    named: HashMap<*const Query, String>,
    /// How many tables a name stands for.
    weights: HashMap<String, u64>,
}

impl Relations {
    fn add(&mut self, tables: u64) {
        if self.open.is_empty() {
            self.open.push(0);
        }
        if let Some(open) = self.open.last_mut() {
            *open = open.saturating_add(tables);
        }
    }
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.add(0);
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = cte.alias.name.value.to_lowercase();
            self.named.insert(&raw const *cte.query, name);
        }
        self.open.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = self.open.pop().unwrap_or_default();
        match self.named.remove(&(&raw const *query)) {
            Some(name) => {
                // Two of the same name: whichever is meant, it is no more than the larger.
                let weight = self.weights.entry(name).or_default();
                *weight = (*weight).max(tables);
                self.add(1);
            }
            None => self.add(tables),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation.to_string().to_lowercase();
        let weight = self.weights.get(name.trim_matches('"')).copied();
        self.add(weight.unwrap_or(1).max(1));
        ControlFlow::Continue(())
    }
}

fn number_parameters(statement: &mut SqlStatement) {
    let mut number = 0;
    let _ = visit_expressions_mut(statement, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
            && name == "?"
        {
            number += 1;
            *name = format!("${number}");
        }
        ControlFlow::<()>::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;

    use super::*;

    #[test]
    fn what_asks_is_read_and_what_does_more_is_refused() {
        let asks = [
            "SELECT 1",
            "select 1;",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN INSERT INTO tensors SELECT 'a', 'b', 1",
            "DESCRIBE tensors",
            "SHOW TABLES",
            "VALUES (1), (2)",
        ];
        for text in asks {
            assert!(parse(text).is_ok(), "{text}");
        }
        let does = [
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE SCHEMA s",
            "CREATE FUNCTION f() RETURNS INT RETURN 1",
            "COPY tensors TO '/tmp/x.csv'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "INSERT INTO stats SELECT 1",
            "MERGE INTO tensors t USING namespaces n ON true WHEN MATCHED THEN DELETE",
            "WITH a AS (SELECT 1) DELETE FROM tensors WHERE true",
            "TRUNCATE TABLE tensors",
            "DROP TABLE tensors",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "BEGIN",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "EXPLAIN ANALYZE DELETE FROM tensors WHERE true",
            "EXPLAIN ANALYZE UPDATE tensors SET pinned = true WHERE true",
            "EXPLAIN (ANALYZE) DELETE FROM tensors WHERE true",
            "EXPLAIN ANALYZE INSERT INTO tensors SELECT 1, 1, 1",
            "EXPLAIN EXPLAIN DELETE FROM tensors WHERE true",
        ];
        for text in does {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code, Code::Unimplemented, "{text}: {error}");
        }
        for text in ["", ";", "SELECT 1; SELECT 2", "SELEC 1", "SELECT 'a"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{text}: {error}");
        }
    }

    #[test]
    fn what_would_cost_too_much_to_plan_is_refused_unplanned() {
        let chain = format!("SELECT 1{}", "+1".repeat(100_000));
        let deep = format!("SELECT {}1{}", "(".repeat(3_000), ")".repeat(3_000));
        let long = format!("SELECT '{}'", "a".repeat(STATEMENT_BYTES_MAX));
        let mut bomb = "WITH a0 AS (SELECT * FROM tensors)".to_owned();
        for n in 1..40 {
            let before = n - 1;
            bomb += &format!(", a{n} AS (SELECT x.key FROM a{before} x, a{before} y)");
        }
        bomb += " SELECT * FROM a39";
        for text in [chain, deep, long, bomb] {
            let error = parse(&text).unwrap_err();
            assert_eq!(error.code, Code::ResourceExhausted, "{error}");
        }
        // Not so long that it is refused, and deeper than the parser goes.
        let deep = format!("SELECT {}1{}", "(".repeat(900), ")".repeat(900));
        assert_eq!(parse(&deep).unwrap_err().code, Code::InvalidArgument);
        let keys: Vec<String> = (0..10_000).map(|n| format!("'key-{n}'")).collect();
        let many = format!("SELECT 1 FROM tensors WHERE key IN ({})", keys.join(", "));
        assert!(parse(&many).is_ok());
    }

    #[test]
    fn question_marks_are_numbered() {
        let parsed = parse("SELECT ? WHERE ? = (SELECT ?)").unwrap();
        assert_eq!(parsed.query.to_string(), "SELECT $1 WHERE $2 = (SELECT $3)");
        let parsed = parse("UPDATE tensors SET expires_at = ?, pinned = ? WHERE key = ?").unwrap();
        assert_eq!(
            parsed.query.to_string(),
            "SELECT namespace, key, version, CAST($1 AS TIMESTAMP(3)) AS set_0, CAST($2 AS BOOLEAN) AS set_1 \
             FROM tensors WHERE key = $3"
        );
    }
}
