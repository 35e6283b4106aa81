//! The `get` exchange: batches of keys in, batches of tensors out, one for one.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_wire::body::Body;
use bowstring_wire::bulk::{Dictionaries, Held, KeysReader};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::exchange::ExchangeGet;
use bowstring_wire::flight_data::Event;
use bowstring_wire::limits::MAX_KEYS_BATCH_BYTES;
use bowstring_wire::name::Key;
use bowstring_wire::ticket::{Layout, Ticket};
use bytes::Bytes;

use crate::conn::GUARANTEED_BYTES;
use crate::flight::authorize::{Operation, Principal, authorize, resource_of};
use crate::flight::client::Client;
use crate::flight::do_get::{Rows, message_bytes_max};
use crate::flight::do_put::Messages;
use crate::flight::lookup::Lookup;
use crate::flight::out::{Failure, Out};
use crate::flight::select::Together;
use crate::flight::service::Service;
use crate::flight::slow::{About, Began, Line};
use crate::grpc::Responder;
use crate::metrics::ExchangeOp;

/// Answers batches until the client ends the stream or the server drains.
pub async fn run(
    service: &Service,
    principal: &Principal,
    client: Client,
    command: &ExchangeGet,
    mut messages: Messages<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let ticket = &command.ticket;
    authorize(principal, Operation::Get, resource_of(ticket))?;
    let reader = KeysReader::new(&schema(&mut messages).await?, command.key_column.as_deref())?;
    let Some(together) = Together::of(ticket, Layout::Opaque)? else {
        return Err(Failure::Refused(Error::internal(
            "nothing fixes the schema of an exchange",
        )));
    };
    let out = Out::new(service, respond, client, messages.counted(), 512);
    let max = message_bytes_max(ticket, client);
    let mut rows = Rows::begin(service, ticket, together, out, max).await?;
    // A client may wait for the schema before it sends a key.
    rows.send().await?;
    let mut known = Dictionaries::default();
    while let Some((keys, _room)) = next_keys(service, &reader, &mut known, &mut messages).await? {
        authorize(principal, Operation::Get, resource_of(ticket))?;
        let began = Began::now(service);
        let (asked, sent, waited) = (keys.len(), rows.out().sent_bytes(), rows.out().waited());
        let answered = answer(service, principal, ticket, keys, &mut rows).await;
        let (op, code) = (ExchangeOp::Keys, answered.as_ref().err().map(Failure::code));
        service.metrics.exchanged(op, code);
        let line = Line {
            tenant: Some(&principal.tenant),
            verb: op.name(),
            code,
            bytes: rows.out().sent_bytes() - sent,
            room: Duration::ZERO,
            sending: rows.out().waited().saturating_sub(waited),
        };
        began.log(service, &line, || {
            About::new(ticket.namespace.as_str(), &format!("{asked} keys"))
        });
        answered?;
    }
    Ok(())
}

/// Answers one batch.
async fn answer(
    service: &Service,
    principal: &Principal,
    ticket: &Ticket,
    keys: Vec<Key>,
    rows: &mut Rows<'_>,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    // One generation for a batch, whatever is committed meanwhile.
    let generation = service
        .cache
        .generation(&principal.tenant, &ticket.namespace);
    let of = (&ticket.namespace, &keys[..]);
    let mut lookup = Lookup::new(service, principal, of, &generation);
    for (at, key) in keys.iter().enumerate() {
        match lookup.get(at).await? {
            Some(found) => rows.push_whole(key, found)?,
            None => missing.push(key.clone()),
        }
    }
    rows.answer(&missing).await
}

/// The schema of the batches to come: the rest of the first message, or a second one.
async fn schema(messages: &mut Messages<'_>) -> Result<Bytes> {
    loop {
        match messages.next().await? {
            Some(Event::Header(schema)) => return Ok(schema),
            // Arrow's C++ client says its descriptor twice: alone, and with the schema.
            Some(Event::MessageEnd | Event::AppMetadata(_) | Event::Descriptor(_)) => {}
            _ => {
                return Err(Error::invalid(
                    "the exchange has no schema; expected one with a column `key` first",
                ));
            }
        }
    }
}

/// The keys of the next batch, and room for them; `None` at the end of the stream.
async fn next_keys(
    service: &Service,
    reader: &KeysReader,
    known: &mut Dictionaries,
    messages: &mut Messages<'_>,
) -> Result<Option<(Vec<Key>, Option<Arc<Charge>>)>> {
    let draining = service.draining();
    let mut header: Option<Bytes> = None;
    loop {
        let event = tokio::select! {
            biased;
            event = messages.next() => event?,
            () = draining.cancelled() => return Err(super::draining()),
        };
        match event {
            None => return Ok(None),
            Some(Event::Header(bytes)) => header = Some(bytes),
            Some(Event::BodyStart { len }) => {
                let room = Arc::new(room(service, len)?);
                let body = messages.body(len).await?;
                if let Some(header) = header.take() {
                    if dictionary(service, reader, known, (&header, &body, &room))? {
                        messages.keeps_room = known.bytes() > GUARANTEED_BYTES;
                        continue;
                    }
                    let keys = reader.decode(&header, &body, known)?.keys()?;
                    return Ok(Some((keys, Some(room))));
                }
                if !body.is_empty() {
                    return Err(Error::invalid(
                        "a body came without the header of its batch",
                    ));
                }
            }
            Some(Event::MessageEnd) => {
                // A batch of no rows may come without a body.
                if let Some(header) = header.take() {
                    let (body, room) = (Body::new(), Arc::new(room(service, 0)?));
                    if dictionary(service, reader, known, (&header, &body, &room))? {
                        continue;
                    }
                    let keys = reader.decode(&header, &body, known)?.keys()?;
                    return Ok(Some((keys, None)));
                }
            }
            Some(Event::BodyChunk(_)) => {
                return Err(Error::internal("a body without a beginning"));
            }
            Some(Event::Descriptor(_) | Event::AppMetadata(_)) => {}
        }
    }
}

/// Takes a message if it brings the values of a dictionary.
fn dictionary(
    service: &Service,
    reader: &KeysReader,
    known: &mut Dictionaries,
    (header, body, room): (&Bytes, &Body, &Arc<Charge>),
) -> Result<bool> {
    let held = |bytes| -> Result<Held> {
        let beside = self::room(service, bytes)?;
        Ok(Arc::new((room.clone(), beside)))
    };
    let taken = reader.dictionary(known, header, body, held)?;
    if known.bytes() > MAX_KEYS_BATCH_BYTES {
        return Err(no_room(known.bytes()));
    }
    Ok(taken)
}

/// Room for a batch as it comes, and for the keys in it.
fn room(service: &Service, len: u64) -> Result<Charge> {
    let room = if len > MAX_KEYS_BATCH_BYTES {
        None
    } else {
        service.cache.charge(Account::Wire, 2 * len)
    };
    room.ok_or_else(|| no_room(len))
}

fn no_room(len: u64) -> Error {
    Error::exhausted(format!(
        "a batch of keys finds no room, send smaller ones; bytes=`{len}` \
         limit=`{MAX_KEYS_BATCH_BYTES}`"
    ))
}
