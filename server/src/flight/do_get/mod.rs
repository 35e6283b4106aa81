//! DoGet: the ticket says what, one of three files sends it.
//!
//! - `one`: a tensor, or rows of it
//! - `keys`: tensors by their keys, in the order asked
//! - `prefix`: tensors by a prefix of their keys, in key order
//! - `rows`: the batches of the latter two

mod keys;
mod one;
mod prefix;
mod rows;

pub use keys::together;
pub use prefix::{measure, measure_all};
pub use rows::Rows;

use arrow_flight::Ticket as FlightTicket;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::json;
use bowstring_wire::limits::{DEFAULT_MESSAGE_BYTES, LARGE_MESSAGE_BYTES};
use bowstring_wire::ticket::{Select, Ticket};

use super::authorize::{Operation, authorize, resource_of};
use super::client::Client;
use super::out::Failure;
use super::service::{Call, Service};
use super::slow::About;
use super::sql;
use crate::grpc::Responder;

/// Answers one DoGet.
pub async fn run(
    service: &Service,
    mut call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let message: FlightTicket = call.message().await?;
    if is_sql(&message.ticket) {
        return Box::pin(sql::get(service, &call, &message.ticket, respond)).await;
    }
    let ticket = parse(&message.ticket)?;
    authorize(&call.principal, Operation::Get, resource_of(&ticket))?;
    call.notes.about(|| about(&ticket));
    if ticket.partitions.is_some() {
        return Err(Failure::Refused(Error::invalid(
            "partitions are made by GetFlightInfo, whose endpoints carry a ticket each",
        )));
    }
    match &ticket.select {
        Select::Key { .. } => one::send(service, &call, &ticket, respond).await,
        Select::Keys { keys } => Box::pin(keys::send(service, &call, &ticket, keys, respond)).await,
        Select::Prefix { prefix, part } => {
            let selected = (prefix.as_str(), *part);
            Box::pin(prefix::send(service, &call, &ticket, selected, respond)).await
        }
    }
}

fn about(ticket: &Ticket) -> About {
    let namespace = ticket.namespace.as_str();
    match &ticket.select {
        Select::Key { key, .. } => About::new(namespace, key.as_str()),
        Select::Keys { keys } => About::new(namespace, &format!("{} keys", keys.len())),
        Select::Prefix { prefix, .. } => About::new(namespace, &format!("{prefix}…")),
    }
}

/// Reads a ticket or a command that may be one.
pub fn parse(bytes: &[u8]) -> Result<Ticket> {
    if json::is_ours(bytes) {
        Ticket::parse(bytes)
    } else {
        Err(Error::invalid(
            "the ticket is empty; expected JSON such as `{\"key\": \"…\"}`",
        ))
    }
}

/// Whether a ticket or a command is one of Flight SQL's.
pub fn is_sql(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !json::is_ours(bytes)
}

/// The most that a message's body has where rows allow.
pub fn message_bytes_max(ticket: &Ticket, client: Client) -> u64 {
    let default = if client.takes_large_messages() {
        LARGE_MESSAGE_BYTES
    } else {
        DEFAULT_MESSAGE_BYTES
    };
    ticket.max_message_bytes.unwrap_or(default)
}
