//! Flight SQL, on the same port and by the same verbs: what a command or a ticket that is no JSON asks for.
//!
//! - `stream`: a query's answer on its way out; `change`: INSERT, DELETE and UPDATE
//! - `ingest`: tables of rows that a client puts
//! - `prepared`: statements that are kept for who prepared them; `values`: those of their parameters
//! - `catalog`: catalogs, schemas, tables, keys; `info`, `types`: what the server can, and its types
//! - `session`: what a client has set for its queries; `ticket`: what a statement's ticket says; `running`: what runs under one,
//!   and `cancel`: how its client ends it
//! - `allowed`: whether who asks may have what a statement reads
//! - `tables`: what the server brings to the tables of SQL itself

mod allowed;
mod cancel;
mod catalog;
mod change;
mod info;
mod ingest;
mod prepared;
mod running;
mod session;
mod stream;
mod tables;
mod ticket;
mod types;
mod values;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any, Command,
    DoPutPreparedStatementResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, PutResult, Result as ActionResult,
    SchemaAsIpc, SchemaResult, Ticket as FlightTicket,
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::Schema;
use bowstring_cache::Cache;
use bowstring_sql::Plan;
use bowstring_wire::error::{Error, Result, clip};
use bytes::Bytes;
use prost::Message;

use super::authorize::{Operation, Principal, Resource, authorize};
use super::do_put::{Caller, Messages};
use super::out::Failure;
use super::reply;
use super::service::{Call, Service};
use super::slow::About;
use crate::grpc::Responder;

use allowed::allowed;
use running::{Running, Ticketed};
use session::Sessions;
use ticket::{Numbers, Statement};

pub use bowstring_sql::Sql;
pub use prepared::Prepared;
pub use session::Cookie;
pub use tables::open;

/// What Flight SQL's own actions are called.
const CREATE_PREPARED: &str = "CreatePreparedStatement";
const CLOSE_PREPARED: &str = "ClosePreparedStatement";
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const CANCEL_QUERY: &str = "CancelQuery";
const RENEW_ENDPOINT: &str = "RenewFlightEndpoint";
const SET_OPTIONS: &str = "SetSessionOptions";
const GET_OPTIONS: &str = "GetSessionOptions";
const CLOSE_SESSION: &str = "CloseSession";
const NOT_BUILT: [&str; 5] = [
    "CreatePreparedSubstraitPlan",
    "BeginTransaction",
    "EndTransaction",
    "BeginSavepoint",
    "EndSavepoint",
];

/// What is known of those who ask: queries that are under way, and sessions.
pub struct Asking {
    running: Running,
    sessions: Sessions,
    numbers: Arc<Numbers>,
}

impl Asking {
    /// Nobody has asked yet. What sessions take is charged to the ledger of `cache`.
    pub fn new(cache: Cache) -> Self {
        let numbers = Arc::<Numbers>::default();
        Self {
            running: Running::default(),
            sessions: Sessions::new(cache, numbers.clone()),
            numbers,
        }
    }
}

/// What a command asks for.
enum Asked {
    /// To be planned, and run by DoGet.
    Query(Box<Plan>),
    /// As that; with values for its parameters, a row for each time.
    Change(Box<Plan>, Vec<RecordBatch>),
    /// Known at once.
    Batch(RecordBatch),
}

impl Asked {
    fn schema(&self) -> Result<Bytes> {
        match self {
            Self::Query(plan) | Self::Change(plan, _) => encapsulated(plan.schema()),
            Self::Batch(batch) => encapsulated(&batch.schema()),
        }
    }
}

/// Answers GetFlightInfo for a command of Flight SQL.
pub async fn flight_info(
    service: &Service,
    call: &Call<'_>,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo> {
    let command = command(&descriptor.cmd)?;
    let statement = match &command {
        Command::CommandStatementQuery(statement) => {
            let Asking {
                sessions, numbers, ..
            } = &service.asking;
            let scope = sessions.scope(&call.principal, &call.cookie)?;
            let text = statement.query.clone();
            Some(Statement::new(text, numbers.next(), &scope))
        }
        _ => None,
    };
    let asked = asked(service, call, command).await?;
    let schema = asked.schema()?;
    let ticket = match statement {
        Some(mut statement) => {
            statement.expect(&schema);
            TicketStatementQuery {
                statement_handle: statement.encode_to_vec().into(),
            }
            .as_any()
        }
        None => Any::decode(descriptor.cmd.clone()).unwrap_or_default(),
    };
    let records = match &asked {
        Asked::Query(_) | Asked::Change(..) => -1,
        Asked::Batch(batch) => i64::try_from(batch.num_rows()).unwrap_or(-1),
    };
    let ticket = FlightTicket {
        ticket: ticket.encode_to_vec().into(),
    };
    let endpoint = FlightEndpoint {
        ticket: Some(ticket),
        ..FlightEndpoint::default()
    };
    Ok(FlightInfo {
        schema,
        flight_descriptor: Some(descriptor),
        endpoint: vec![endpoint],
        total_records: records,
        total_bytes: -1,
        ordered: true,
        app_metadata: Bytes::new(),
    })
}

/// Answers GetSchema for a command of Flight SQL.
pub async fn schema(service: &Service, call: &Call<'_>, bytes: &[u8]) -> Result<SchemaResult> {
    let asked = asked(service, call, command(bytes)?).await?;
    let schema = asked.schema()?;
    Ok(SchemaResult { schema })
}

/// Answers DoGet for a ticket of Flight SQL.
pub async fn get(
    service: &Service,
    call: &Call<'_>,
    bytes: &[u8],
    respond: &mut Responder,
) -> Result<(), Failure> {
    let command = command(bytes)?;
    let run = service.asking.running.begin(&call.principal, bytes);
    run.whole(answer(service, call, (command, &run), respond))
        .await
}

async fn answer(
    service: &Service,
    call: &Call<'_>,
    (command, run): (Command, &Ticketed),
    respond: &mut Responder,
) -> Result<(), Failure> {
    match asked(service, call, command).await? {
        Asked::Query(plan) => stream::query(service, call, (&plan, run), respond).await,
        Asked::Change(plan, values) => {
            let changes = (&*plan, &values[..]);
            let changed = change::run(service, &call.principal, changes, respond).await?;
            let batch = change::batch(&plan, changed)?;
            stream::batch(service, call, batch, respond).await
        }
        Asked::Batch(batch) => stream::batch(service, call, batch, respond).await,
    }
}

/// Answers a DoPut with a command of Flight SQL, up to the end of its stream.
pub async fn put(
    service: &Service,
    caller: Caller<'_>,
    bytes: &[u8],
    messages: &mut Messages<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let principal = caller.principal;
    let scope = service.asking.sessions.scope(principal, caller.cookie)?;
    let result = match command(bytes)? {
        Command::CommandPreparedStatementQuery(statement) => {
            let handle = statement.prepared_statement_handle;
            service.prepared.bind(principal, &handle, messages).await?;
            let result = DoPutPreparedStatementResult {
                prepared_statement_handle: Some(handle),
            };
            PutResult {
                app_metadata: result.encode_to_vec().into(),
            }
        }
        Command::CommandStatementIngest(rows) => {
            ingest::put(service, caller, &rows, messages).await?
        }
        update => {
            let asked = (principal, &scope);
            change::put(service, asked, update, messages, respond).await?
        }
    };
    reply::send(respond, &result).await
}

/// Answers an action of Flight SQL; `None` where it is none.
pub async fn action(
    service: &Service,
    caller: (&Principal, &Cookie),
    name: &str,
    body: &[u8],
    respond: &mut Responder,
) -> Option<Result<(), Failure>> {
    let (principal, _) = caller;
    Some(match name {
        CREATE_PREPARED => prepare(service, caller, body, respond).await,
        CLOSE_PREPARED => close(service, principal, body).map_err(Failure::from),
        CANCEL_FLIGHT_INFO => cancel::flight_info(service, principal, body, respond).await,
        CANCEL_QUERY => cancel::query(service, principal, body, respond).await,
        RENEW_ENDPOINT => Err(Failure::Refused(cancel::renewal())),
        SET_OPTIONS => session::set(service, caller, body, respond).await,
        GET_OPTIONS => session::get(service, caller, respond).await,
        CLOSE_SESSION => session::close(service, caller, respond).await,
        name if NOT_BUILT.contains(&name) => Err(Failure::Refused(unknown(name))),
        _ => return None,
    })
}

async fn prepare(
    service: &Service,
    (principal, cookie): (&Principal, &Cookie),
    body: &[u8],
    respond: &mut Responder,
) -> Result<(), Failure> {
    let request: ActionCreatePreparedStatementRequest = unpacked(body)?;
    no_transaction(request.transaction_id.as_ref())?;
    let sql = sql(service)?;
    let scope = service.asking.sessions.scope(principal, cookie)?;
    let plan = sql.plan_in(&principal.tenant, &request.query, &scope);
    let plan = plan.await?;
    allowed(principal, &plan)?;
    let changes = plan.changes();
    let handle = service.prepared.keep(principal, request.query, changes)?;
    let result = arrow_flight::sql::ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle,
        // By this drivers tell an update from a query.
        dataset_schema: match changes {
            true => Bytes::new(),
            false => encapsulated(plan.schema())?,
        },
        parameter_schema: encapsulated(plan.parameters())?,
    };
    let body = result.as_any().encode_to_vec().into();
    reply::send(respond, &ActionResult { body }).await
}

fn close(service: &Service, principal: &Principal, body: &[u8]) -> Result<()> {
    let request: ActionClosePreparedStatementRequest = unpacked(body)?;
    service
        .prepared
        .close(principal, &request.prepared_statement_handle);
    Ok(())
}

async fn asked(service: &Service, call: &Call<'_>, command: Command) -> Result<Asked> {
    let principal = &call.principal;
    let (sql, tenant) = (sql(service)?, &principal.tenant);
    call.notes.about(|| About::new("", &about(&command)));
    let scope = || service.asking.sessions.scope(principal, &call.cookie);
    let planned = |plan: Plan| {
        allowed(principal, &plan)?;
        Ok::<_, Error>(match plan.changes() {
            true => Asked::Change(Box::new(plan), Vec::new()),
            false => Asked::Query(Box::new(plan)),
        })
    };
    Ok(match command {
        Command::CommandStatementQuery(statement) => {
            no_transaction(statement.transaction_id.as_ref())?;
            planned(sql.plan_in(tenant, &statement.query, &scope()?).await?)?
        }
        Command::TicketStatementQuery(ticket) => {
            let statement = Statement::read(&ticket.statement_handle)?;
            let scope = statement.scope()?;
            let asked = planned(sql.plan_in(tenant, &statement.text, &scope).await?)?;
            statement.check(&asked.schema()?)?;
            asked
        }
        Command::CommandPreparedStatementQuery(statement) => {
            let handle = &statement.prepared_statement_handle;
            let (text, values) = service.prepared.find(principal, handle)?;
            let plan = sql.plan_in(tenant, &text, &scope()?).await?;
            match values.first() {
                Some(_) if plan.changes() => {
                    allowed(principal, &plan)?;
                    Asked::Change(Box::new(plan), values)
                }
                Some(row) => planned(sql.bind(&plan, row).await?)?,
                None => planned(plan)?,
            }
        }
        Command::CommandGetSqlInfo(of) => Asked::Batch(info::batch(of, sql.limits())?),
        Command::CommandGetXdbcTypeInfo(of) => Asked::Batch(types::batch(of)?),
        other => {
            authorize(principal, Operation::Describe, Resource::Server)?;
            match catalog::batch(sql, tenant, other).await? {
                Ok(batch) => Asked::Batch(batch),
                Err(other) => return Err(unknown(other.type_url())),
            }
        }
    })
}

fn about(command: &Command) -> String {
    match command {
        Command::CommandStatementQuery(statement) => statement.query.clone(),
        Command::TicketStatementQuery(ticket) => {
            let statement = Statement::read(&ticket.statement_handle);
            statement.map(|of| of.text).unwrap_or_default()
        }
        other => {
            let name = other.type_url().rsplit('.').next();
            name.unwrap_or_default().to_owned()
        }
    }
}

fn sql(service: &Service) -> Result<&Sql> {
    let sql = service.sql.as_ref();
    sql.ok_or_else(|| Error::unimplemented("this server does not answer SQL"))
}

/// A command, or a ticket, as a protobuf `Any`.
fn command(bytes: &[u8]) -> Result<Command> {
    let any = Any::decode(bytes).map_err(|_| {
        Error::invalid(
            "expected a ticket's JSON, such as `{\"key\": \"…\"}`, or a command of Flight SQL as a protobuf `Any`",
        )
    })?;
    match Command::try_from(any) {
        Ok(Command::Unknown(any)) => Err(unknown(&any.type_url)),
        Ok(command) => Ok(command),
        Err(error) => Err(Error::invalid(format!(
            "the command is not the message that it says; {error}"
        ))),
    }
}

fn unpacked<M: ProstMessageExt>(bytes: &[u8]) -> Result<M> {
    let any = Any::decode(bytes).ok();
    let message = any.and_then(|any| any.unpack::<M>().ok().flatten());
    message.ok_or_else(|| {
        Error::invalid(format!(
            "the action's body is not what it should be; expected=`{}` as a protobuf `Any`",
            M::type_url()
        ))
    })
}

fn no_transaction(id: Option<&Bytes>) -> Result<()> {
    match id.is_none_or(Bytes::is_empty) {
        true => Ok(()),
        false => Err(Error::unimplemented("there are no transactions")),
    }
}

fn unknown(what: &str) -> Error {
    Error::unimplemented(format!("this is not built; got=`{}`", clip(what, 128)))
}

/// A schema as FlightInfo and GetSchema carry it.
fn encapsulated(schema: &Schema) -> Result<Bytes> {
    let options = IpcWriteOptions::default();
    let message: std::result::Result<IpcMessage, _> = SchemaAsIpc::new(schema, &options).try_into();
    let IpcMessage(bytes) = message.map_err(arrow_error)?;
    Ok(bytes)
}

fn arrow_error(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("an answer cannot be written; {error}"))
}

#[cfg(test)]
mod tests;
