//! INSERT, DELETE and UPDATE, whichever way they come: as an update by DoPut, or read like a query by DoGet, which some clients do
//! with whatever text they are given.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use arrow_flight::PutResult;
use arrow_flight::sql::{Command, DoPutUpdateResult};
use bowstring_sql::{May, Plan, Scope};
use bowstring_wire::error::{Error, Result};
use prost::Message;

use super::allowed::{allowed, may_read, on_tables, operation};
use super::{arrow_error, no_transaction, sql, unknown, values};
use crate::flight::authorize::{Principal, Resource, authorize};
use crate::flight::do_put::Messages;
use crate::flight::out::Failure;
use crate::flight::service::Service;
use crate::grpc::Responder;

/// Runs the update that a put's command is; `messages` may have values for its parameters.
pub async fn put(
    service: &Service,
    (principal, scope): (&Principal, &Scope),
    command: Command,
    messages: &mut Messages<'_>,
    respond: &mut Responder,
) -> Result<PutResult, Failure> {
    let (text, kept) = match command {
        Command::CommandStatementUpdate(update) => {
            no_transaction(update.transaction_id.as_ref())?;
            (update.query.into(), Vec::new())
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let handle = &update.prepared_statement_handle;
            service.prepared.find(principal, handle)?
        }
        other => return Err(Failure::Refused(unknown(other.type_url()))),
    };
    let plan = sql(service)?.plan_in(&principal.tenant, &text, scope);
    let plan = plan.await?;
    if !plan.changes() {
        return Err(Failure::Refused(Error::invalid(
            "the statement changes nothing; run it as a query, not as an update",
        )));
    }
    allowed(principal, &plan)?;
    // Where none are asked for, a client may wait for the answer before it ends its stream.
    let values = match plan.parameters().fields().is_empty() {
        true => Vec::new(),
        false => values::read(messages).await?,
    };
    let values = if values.is_empty() { kept } else { values };
    let changed = run(service, principal, (&plan, &values), respond).await?;
    Ok(counted(changed))
}

/// What a put answers that was of so many entries.
pub fn counted(entries: u64) -> PutResult {
    let record_count = i64::try_from(entries).unwrap_or(i64::MAX);
    PutResult {
        app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into(),
    }
}

/// Makes a change, as long as its client is there, and gives how many entries were changed.
pub async fn run(
    service: &Service,
    principal: &Principal,
    (plan, values): (&Plan, &[RecordBatch]),
    respond: &mut Responder,
) -> Result<u64, Failure> {
    let operation = operation(plan);
    let may = |of: May<'_>| match of {
        May::Change(namespace) => authorize(principal, operation, Resource::Namespace(namespace)),
        May::Read(reads) => may_read(principal, on_tables(plan), reads),
    };
    let change = sql(service)?.change(plan, values, may);
    tokio::select! {
        biased;
        changed = change => Ok(changed?),
        () = respond.gone() => Err(Failure::Gone),
    }
}

/// What a change that is read like a query answers.
pub fn batch(plan: &Plan, changed: u64) -> Result<RecordBatch> {
    let count = Int64Array::from_iter_values([i64::try_from(changed).unwrap_or(i64::MAX)]);
    RecordBatch::try_new(plan.schema().clone(), vec![Arc::new(count)]).map_err(arrow_error)
}
