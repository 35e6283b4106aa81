//! An INSERT as the query that it takes its rows from, and what each of that query's columns is of an entry.

use arrow_schema::Schema;
use bowstring_wire::error::{Error, Result, clip};
use bowstring_wire::name::Namespace;
use datafusion::sql::sqlparser::ast::{Insert as Ast, ObjectName, Statement, TableObject};

use super::rewrite::meant;
use crate::catalog::{ALIKE, CATALOG, SCHEMA};
use crate::tables::tensor_columns;

/// The one table whose rows can be changed.
pub const TABLE: &str = "tensors";

/// Where the rows of a query go, and what its columns are of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The namespace of all rows; without it, each says its own.
    pub namespace: Option<Namespace>,
    /// A part of an entry for each column.
    pub parts: Vec<Part>,
}

/// A part of an entry that is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its namespace.
    Namespace,
    /// Its key.
    Key,
    /// Its tensor.
    Value,
    /// From when on it is a miss.
    ExpiresAt,
    /// Its metadata.
    Metadata,
    /// Whether it is pinned.
    Pinned,
}

const PARTS: &str =
    "`namespace` (of `tensors`), `key`, `value`, `expires_at`, `metadata`, `pinned`";

impl Insert {
    /// Of columns of these names, in their order.
    ///
    /// # Errors
    /// `invalid_argument` where one is missing, twice, or none of an entry that is put; `unimplemented` where it is one that
    /// follows from the others.
    pub fn new<'a>(
        namespace: Option<Namespace>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Self> {
        let mut parts = Vec::new();
        for name in names {
            let part = Part::parse(name)?;
            if parts.contains(&part) {
                return Err(Error::invalid(format!(
                    "a column is named twice; column=`{name}`"
                )));
            }
            parts.push(part);
        }
        if namespace.is_some() && parts.contains(&Part::Namespace) {
            return Err(Error::invalid(
                "the table says the namespace, so no column does; expected `key`, `value`",
            ));
        }
        let wanted = [
            ("namespace", Part::Namespace, namespace.is_none()),
            ("key", Part::Key, true),
            ("value", Part::Value, true),
        ];
        for (name, part, is_wanted) in wanted {
            if is_wanted && !parts.contains(&part) {
                return Err(Error::invalid(format!(
                    "a column is missing; column=`{name}` expected some of {PARTS}"
                )));
            }
        }
        Ok(Self { namespace, parts })
    }

    /// Whether a query gives as many columns as are named.
    ///
    /// # Errors
    /// `invalid_argument` where it does not.
    pub fn check(&self, query: &Schema) -> Result<()> {
        let (got, expected) = (query.fields().len(), self.parts.len());
        match got == expected {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "the rows of an INSERT have another number of columns than it names; got=`{got}` expected=`{expected}`; \
                 where it names none they are `namespace` (of `tensors`), `key`, `value`"
            ))),
        }
    }
}

impl Part {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "namespace" => Self::Namespace,
            "key" => Self::Key,
            "value" => Self::Value,
            "expires_at" => Self::ExpiresAt,
            "metadata" => Self::Metadata,
            // As an UPDATE has it.
            "pins" | "pinned" => Self::Pinned,
            name if tensor_columns().column_with_name(name).is_some() => {
                return Err(Error::unimplemented(format!(
                    "this column follows from the tensor, or is kept by the cache; column=`{name}` expected {PARTS}"
                )));
            }
            name => {
                return Err(Error::invalid(format!(
                    "no such column of what is put; column=`{}` expected {PARTS}",
                    clip(name, 128)
                )));
            }
        })
    }
}

/// Where an INSERT puts what, and the query that it takes that from.
///
/// # Errors
/// As [`Insert::new`]; `unimplemented` for another table, or what it says beside that.
pub fn rewritten(of: &Ast) -> Result<(Insert, Statement)> {
    // All of it is named here: what a later parser reads beside it does not get lost.
    let Ast {
        insert_token: _,
        optimizer_hints: _,
        or,
        ignore,
        into: _,
        table,
        table_alias,
        columns,
        overwrite,
        source,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword: _,
        on,
        returning,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = of;
    let said = [
        ("OR", or.is_some()),
        ("IGNORE", *ignore),
        ("an alias", table_alias.is_some() || insert_alias.is_some()),
        ("OVERWRITE", *overwrite),
        ("SET", !assignments.is_empty()),
        (
            "PARTITION",
            partitioned.is_some() || !after_columns.is_empty(),
        ),
        ("ON", on.is_some()),
        ("RETURNING", returning.is_some()),
        ("OUTPUT", output.is_some()),
        ("REPLACE", *replace_into),
        ("a priority", priority.is_some()),
        (
            "SETTINGS or FORMAT",
            settings.is_some() || format_clause.is_some(),
        ),
        (
            "more than one table",
            multi_table_insert_type.is_some()
                || !multi_table_into_clauses.is_empty()
                || !multi_table_when_clauses.is_empty()
                || multi_table_else_clause.is_some(),
        ),
    ];
    if let Some((what, _)) = said.iter().find(|(_, said)| *said) {
        return Err(Error::unimplemented(format!(
            "an INSERT with {what} is not built; expected `INSERT INTO tensors (namespace, key, value) SELECT …`"
        )));
    }
    let Some(query) = source else {
        return Err(Error::invalid(
            "an INSERT has rows; expected VALUES or a SELECT behind its columns",
        ));
    };
    let TableObject::TableName(name) = table else {
        return Err(other_table(&table.to_string()));
    };
    let namespace = target(name)?;
    let names: Vec<String> = match (&columns[..], &namespace) {
        ([], Some(_)) => vec!["key".to_owned(), "value".to_owned()],
        ([], None) => ["namespace", "key", "value"].map(str::to_owned).to_vec(),
        (columns, _) => columns.iter().map(column).collect::<Result<_>>()?,
    };
    let insert = Insert::new(namespace, names.iter().map(String::as_str))?;
    Ok((insert, Statement::Query(query.clone())))
}

fn target(name: &ObjectName) -> Result<Option<Namespace>> {
    let parts: Vec<String> = names(name).unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        [TABLE] | [SCHEMA, TABLE] | [CATALOG, SCHEMA, TABLE] => Ok(None),
        [ALIKE, namespace] | [CATALOG, ALIKE, namespace] => Namespace::parse(namespace).map(Some),
        _ => Err(other_table(&name.to_string())),
    }
}

fn other_table(name: &str) -> Error {
    Error::unimplemented(format!(
        "tensors are put into `{TABLE}`, or `{ALIKE}.` and a namespace; got=`{}`",
        clip(name, 128)
    ))
}

fn column(name: &ObjectName) -> Result<String> {
    match names(name).as_deref() {
        Some([name]) => Ok(name.clone()),
        _ => Err(Error::invalid(format!(
            "an INSERT names its columns without their table; got=`{}`",
            clip(&name.to_string(), 128)
        ))),
    }
}

fn names(name: &ObjectName) -> Option<Vec<String>> {
    let parts = name.0.iter();
    parts.map(|part| Some(meant(part.as_ident()?))).collect()
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn of(text: &str) -> Result<(Insert, String)> {
        let mut statements = Parser::parse_sql(&GenericDialect {}, text).unwrap();
        let Some(Statement::Insert(insert)) = statements.pop() else {
            panic!("{text}");
        };
        rewritten(&insert).map(|(insert, query)| (insert, query.to_string()))
    }

    #[test]
    fn an_insert_is_its_query_and_what_its_columns_are() {
        let glove = Namespace::parse("Glove-50").unwrap();
        let cases = [
            (
                "INSERT INTO tensors SELECT a, b, c FROM t",
                None,
                vec![Part::Namespace, Part::Key, Part::Value],
                "SELECT a, b, c FROM t",
            ),
            (
                "INSERT INTO bowstring.cache.Tensors (Pinned, key, metadata, namespace, expires_at, value) VALUES (1, 2, 3, 4, 5, 6)",
                None,
                vec![
                    Part::Pinned,
                    Part::Key,
                    Part::Metadata,
                    Part::Namespace,
                    Part::ExpiresAt,
                    Part::Value,
                ],
                "VALUES (1, 2, 3, 4, 5, 6)",
            ),
            (
                "INSERT INTO ns.\"Glove-50\" (value, key) WITH t AS (SELECT 1) SELECT 2, 3 FROM t",
                Some(glove),
                vec![Part::Value, Part::Key],
                "WITH t AS (SELECT 1) SELECT 2, 3 FROM t",
            ),
        ];
        for (text, namespace, parts, query) in cases {
            let insert = Insert { namespace, parts };
            assert_eq!(of(text).unwrap(), (insert, query.to_owned()), "{text}");
        }
    }

    /// A statement and words of its refusal a line.
    const UNIMPLEMENTED: &str = "
        INSERT INTO stats VALUES (1, 2) -> got=`stats`
        INSERT INTO other.tensors VALUES (1, 2, 3) -> got=`other.tensors`
        INSERT INTO \"Tensors\" VALUES (1, 2, 3) -> got=`\"Tensors\"`
        INSERT INTO tensors (namespace, key, value, dtype) VALUES (1, 2, 3, 4) -> column=`dtype`
        INSERT INTO tensors VALUES (1, 2, 3) ON CONFLICT DO NOTHING -> ON
        INSERT INTO tensors VALUES (1, 2, 3) RETURNING key -> RETURNING
        REPLACE INTO tensors VALUES (1, 2, 3) -> REPLACE
        INSERT OVERWRITE TABLE tensors SELECT 1, 2, 3 -> OVERWRITE";
    const INVALID: &str = "
        INSERT INTO tensors (key, value) VALUES (1, 2) -> column=`namespace`
        INSERT INTO tensors (namespace, value) VALUES (1, 2) -> column=`key`
        INSERT INTO ns.a (key) VALUES (1) -> column=`value`
        INSERT INTO ns.a (key, value, key) VALUES (1, 2, 3) -> twice
        INSERT INTO ns.a (key, value, pins, pinned) VALUES (1, 2, 3, 4) -> twice
        INSERT INTO ns.a (namespace, key, value) VALUES (1, 2, 3) -> the table says the namespace
        INSERT INTO ns.a (key, value, nothing) VALUES (1, 2, 3) -> column=`nothing`
        INSERT INTO ns.\"a/b\" (key, value) VALUES (1, 2) -> namespace";

    #[test]
    fn what_cannot_be_put_so_is_refused_by_its_name() {
        for (lines, code, count) in [
            (UNIMPLEMENTED, Code::Unimplemented, 8),
            (INVALID, Code::InvalidArgument, 8),
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
