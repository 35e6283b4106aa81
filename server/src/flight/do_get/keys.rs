//! Tensors by their keys, in the order asked.

use bowstring_cache::generation::Generation;
use bowstring_wire::closing::Closing;
use bowstring_wire::error::Result;
use bowstring_wire::name::Key;
use bowstring_wire::ticket::{Layout, Missing, Ticket};

use super::message_bytes_max;
use super::rows::Rows;
use crate::flight::authorize::Principal;
use crate::flight::out::{Failure, Out};
use crate::flight::select::{Together, id};
use crate::flight::service::{Call, Service};
use crate::grpc::Responder;

/// Sends the entries of `keys` that are there, and names the others at the end.
pub async fn send(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    keys: &[Key],
    respond: &mut Responder,
) -> Result<(), Failure> {
    // One generation for all of them, whatever is committed meanwhile.
    let tenant = &call.principal.tenant;
    let generation = service.cache.generation(tenant, &ticket.namespace);
    let together = together(service, &call.principal, ticket, keys, &generation)?;
    let max = message_bytes_max(ticket, call.client);
    let out = Out::new(service, respond, call.client, 512);
    let mut rows = Rows::begin(service, ticket, together, out, max).await?;
    let mut missing = Vec::new();
    for key in keys {
        let id = id(&call.principal, &ticket.namespace, key);
        match service.cache.get_or_load_in(&generation, &id).await? {
            Some(entry) => rows.push(key, Some(entry)).await?,
            None if ticket.missing == Missing::Null => rows.push(key, None).await?,
            None => missing.push(key.clone()),
        }
    }
    let named = ticket.missing == Missing::Named;
    rows.finish(named.then_some((Closing::Missing, &missing)))
        .await
}

/// How these keys become a stream: what the ticket says, or else what the entries say.
pub fn together(
    service: &Service,
    principal: &Principal,
    ticket: &Ticket,
    keys: &[Key],
    generation: &Generation,
) -> Result<Together> {
    if let Some(together) = Together::of(ticket, Layout::Rows)? {
        return Ok(together);
    }
    // Looked at, not pinned: thousands of large tensors would be more than a reader may hold. An
    // entry that is replaced by another shape after this ends the stream with what differs.
    Together::agreed(keys.iter().filter_map(|key| {
        let id = id(principal, &ticket.namespace, key);
        let entry = service.cache.peek_in(generation, &id)?;
        Some((key.as_str(), entry.dtype(), entry.shape()))
    }))
}
