//! Whether who asks may have what a statement reads: of each table, namespace and tensor, wherever it stands in it.

use bowstring_sql::{Plan, Reads};
use bowstring_wire::error::Result;

use crate::flight::authorize::{Operation, Principal, Resource, authorize};

/// What a statement does to the table that it names first.
pub fn operation(plan: &Plan) -> Operation {
    match (plan.changes(), plan.deletes()) {
        (false, _) => Operation::Get,
        (true, true) => Operation::Delete,
        // As the actions that set the same.
        (true, false) => Operation::Put,
    }
}

/// What a statement does to the tables that it reads: an INSERT only takes rows from them, and where those go is asked for
/// each namespace.
pub fn on_tables(plan: &Plan) -> Operation {
    match plan.inserts() {
        true => Operation::Get,
        false => operation(plan),
    }
}

/// Asks for all that a plan reads, before it is run, and before its columns are told.
///
/// # Errors
/// `permission_denied`.
pub fn allowed(principal: &Principal, plan: &Plan) -> Result<()> {
    let operation = on_tables(plan);
    plan.reads()
        .iter()
        .try_for_each(|reads| may_read(principal, operation, reads))
}

/// Asks for one of them. What a change is of is a table; what else it reads it only reads.
///
/// # Errors
/// `permission_denied`.
pub fn may_read(principal: &Principal, operation: Operation, reads: &Reads) -> Result<()> {
    match reads {
        Reads::Table { schema, name } => {
            authorize(principal, operation, Resource::Table(schema, name))
        }
        Reads::Namespace(namespace) => {
            authorize(principal, Operation::Get, Resource::Namespace(namespace))
        }
        Reads::Tensor(namespace, key) => {
            authorize(principal, Operation::Get, Resource::Key(namespace, key))
        }
    }
}
