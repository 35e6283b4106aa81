//! DoExchange: the command in the first message says which exchange it is; another than ours is
//! left to others, unjudged.
//!
//! - `keys`: batches of keys in, batches of tensors out, for stock clients
//! - `mux`: many small requests over one stream, for our own clients

mod keys;
mod mux;

use arrow_flight::flight_descriptor::DescriptorType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::exchange::{ExchangeCommand, not_ours};
use bowstring_wire::flight_data::Event;

use super::do_put::Messages;
use super::out::Failure;
use super::request;
use super::service::{Call, Service};
use crate::grpc::Responder;

/// Answers one DoExchange.
pub async fn run(
    service: &Service,
    call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let Call {
        principal,
        client,
        body,
        room,
        counted,
        notes,
        ..
    } = call;
    let mut messages = Messages::new(service, body, room, (counted, notes));
    match opening(&mut messages).await? {
        ExchangeCommand::Mux { namespace } => {
            mux::run(service, &principal, client, namespace, messages, respond).await
        }
        ExchangeCommand::Get(command) => {
            keys::run(service, &principal, client, &command, messages, respond).await
        }
    }
}

/// What ends an exchange that would have no end of its own.
fn draining() -> Error {
    Error::unavailable(
        "the server is shutting down; connect anew, what has no reply may be asked again",
    )
}

/// Headers with which others mark their exchanges, whatever their descriptors look like: those of
/// DuckDB's Airport extension.
const OTHERS: [&str; 1] = ["airport-operation"];

/// Whether an exchange can be ours, as far as its headers tell.
///
/// # Errors
/// `unimplemented`.
pub fn check_headers(headers: &http::HeaderMap) -> Result<()> {
    match OTHERS.iter().find(|name| headers.contains_key(**name)) {
        None => Ok(()),
        Some(_) => Err(not_ours()),
    }
}

/// The command that the first message carries.
async fn opening(messages: &mut Messages<'_>) -> Result<ExchangeCommand> {
    let Some(Event::Descriptor(bytes)) = messages.next().await? else {
        return Err(not_ours());
    };
    let descriptor = request::descriptor(bytes).map_err(|_| not_ours())?;
    match descriptor.r#type() {
        DescriptorType::Cmd => ExchangeCommand::parse(&descriptor.cmd),
        DescriptorType::Path | DescriptorType::Unknown => Err(not_ours()),
    }
}
