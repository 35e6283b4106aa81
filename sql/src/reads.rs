//! What a statement reads, for whoever decides whether that is allowed.
//!
//! Of tables it is the very list that the planner is given: what is not on it, no statement finds. Tensors that are named are
//! those of the plan, once parameters have values.

use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace};
use datafusion::common::TableReference;
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::{ALIKE, CATALOG};
use crate::error;
use crate::functions::named;

/// One thing that a statement reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reads {
    /// A table that is no namespace's, by schema and name.
    Table {
        /// `cache`, `information_schema`, or one that there is not.
        schema: String,
        /// Its name.
        name: String,
    },
    /// The entries of one namespace: a table of the schema `ns`.
    Namespace(Namespace),
    /// One tensor: `tensor('namespace', 'key')`.
    Tensor(Namespace, Key),
}

/// The tables of a statement that names these; `schema` is meant where one names none.
pub fn tables(named: Vec<TableReference>, schema: &str) -> Vec<Reads> {
    let mut reads: Vec<Reads> = named.into_iter().map(|table| one(table, schema)).collect();
    reads.sort();
    reads.dedup();
    reads
}

fn one(table: TableReference, schema: &str) -> Reads {
    let table = table.resolve(CATALOG, schema);
    let namespace = (&*table.schema == ALIKE).then(|| Namespace::parse(&table.table));
    match namespace {
        Some(Ok(namespace)) => Reads::Namespace(namespace),
        // What is no namespace's name is no table there.
        _ => Reads::Table {
            schema: table.schema.to_string(),
            name: table.table.to_string(),
        },
    }
}

/// The tensors that a plan without parameters names.
///
/// # Errors
/// `invalid_argument` for what is no name.
pub fn tensors(plan: &LogicalPlan) -> Result<Vec<Reads>> {
    let names = named::names(plan).map_err(|error| error::of(&error))?;
    let names = names.into_iter().map(|(namespace, key)| {
        Ok(Reads::Tensor(
            Namespace::parse(&namespace)?,
            Key::parse(&key)?,
        ))
    });
    names.collect()
}
