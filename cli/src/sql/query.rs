//! One statement: planned by the server, and its answer printed while it comes.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt as _};
use arrow_schema::{ArrowError, DataType, Schema};
use bowstring_wire::error::Error as WireError;
use prost::Message as _;

use super::print::{Expanded, Layout, Printer, ROWS_MAX};
use super::split::verb;
use crate::Error;
use crate::client::{Client, refused};
use crate::get_stream::Get;
use crate::out;
use crate::table::width;

/// Asks for a statement's answer.
pub async fn start(client: &mut Client, statement: &str) -> Result<Get, Error> {
    let command = CommandStatementQuery {
        query: statement.to_owned(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = client.flight.get_flight_info(descriptor).await;
    let mut endpoints = info.map_err(refused)?.into_inner().endpoint;
    let ticket = endpoints.pop().and_then(|endpoint| endpoint.ticket);
    let (Some(ticket), true) = (ticket, endpoints.is_empty()) else {
        return Err(WireError::internal("expected one place to get the answer from").into());
    };
    Get::start(client, ticket.ticket).await
}

/// Runs a statement and prints its answer; the number of its rows, or `None` where what it changed was counted.
pub async fn run(
    client: &mut Client,
    statement: &str,
    layout: Layout,
    expanded: Expanded,
) -> Result<Option<u64>, Error> {
    let mut answer = start(client, statement).await?;
    let verb = verb(statement);
    let counts = layout == Layout::Table && changes(&verb) && is_count(&answer.schema);
    let mut printer = Printer::new(&answer.schema, layout, expanded, width());
    let mut text = String::new();
    while let Some(batch) = answer.next().await? {
        if counts {
            for row in 0..batch.num_rows() {
                out::print(&format!("{verb} {}\n", count(&batch, row)))?;
            }
            continue;
        }
        for from in (0..batch.num_rows()).step_by(ROWS_MAX) {
            let rows = ROWS_MAX.min(batch.num_rows() - from);
            let part = batch.slice(from, rows);
            printer.push(&mut text, &part).map_err(not_shown)?;
            out::print(&text)?;
            text.clear();
            // Whoever interrupts it is heard between two parts.
            tokio::task::yield_now().await;
        }
    }
    if counts {
        return Ok(None);
    }
    printer.end(&mut text);
    out::print(&text)?;
    Ok(Some(printer.rows))
}

fn not_shown(error: ArrowError) -> Error {
    WireError::internal(format!(
        "the answer has a type that cannot be shown: cast it; source=`{error}`"
    ))
    .into()
}

fn changes(verb: &str) -> bool {
    matches!(verb, "DELETE" | "UPDATE" | "INSERT")
}

fn is_count(schema: &Schema) -> bool {
    let [field] = &schema.fields()[..] else {
        return false;
    };
    field.name() == "count" && matches!(field.data_type(), DataType::Int64 | DataType::UInt64)
}

/// How many entries a statement changed.
fn count(batch: &RecordBatch, row: usize) -> String {
    let column = batch.column(0);
    match column.as_primitive_opt::<Int64Type>() {
        Some(counts) => counts.value(row).to_string(),
        None => column.as_primitive::<UInt64Type>().value(row).to_string(),
    }
}
