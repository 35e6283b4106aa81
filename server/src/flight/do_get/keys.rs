//! Tensors by their keys, in the order asked.

use bowstring_cache::generation::Generation;
use bowstring_cache::read::Entry;
use bowstring_wire::closing::Closing;
use bowstring_wire::error::Result;
use bowstring_wire::name::Key;
use bowstring_wire::ticket::{Layout, Missing, Ticket};

use super::message_bytes_max;
use super::rows::Rows;
use crate::flight::authorize::Principal;
use crate::flight::lookup::Lookup;
use crate::flight::out::{Failure, Out};
use crate::flight::select::Together;
use crate::flight::service::{Call, Service};
use crate::grpc::Responder;

/// From here on a client has something to do with the schema while we look for the keys.
const EARLY_SCHEMA: usize = 64;
/// Entries of the first message that are pinned before its schema is sent, at most.
const FIRST_KEYS_MAX: usize = 4096;

/// Sends the entries of `keys` that are there, and names the others at the end.
pub async fn send(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    keys: &[Key],
    respond: &mut Responder,
) -> Result<(), Failure> {
    // One generation for all of them, whatever is committed meanwhile.
    let generation = service
        .cache
        .generation(&call.principal.tenant, &ticket.namespace);
    let of = (&ticket.namespace, keys);
    let mut lookup = Lookup::new(service, &call.principal, of, &generation);
    let max = message_bytes_max(ticket, call.client);
    let (together, first) = match Together::of(ticket, Layout::Rows)? {
        Some(together) => (together, Vec::new()),
        None => {
            let first = first(&mut lookup, max).await?;
            (lookup.agreed(&first).await?, first)
        }
    };
    let out = Out::new(service, respond, call.client, call.counted, 512);
    let mut rows = Rows::begin(service, ticket, together, out, max).await?;
    if keys.len() >= EARLY_SCHEMA {
        rows.send().await?;
        tokio::task::yield_now().await;
    }
    let mut missing = Vec::new();
    let mut first = first.into_iter();
    for (at, key) in keys.iter().enumerate() {
        let entry = match first.next() {
            Some(entry) => entry,
            None => lookup.get(at).await?,
        };
        match entry {
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
pub async fn together(
    service: &Service,
    principal: &Principal,
    ticket: &Ticket,
    keys: &[Key],
    generation: &Generation,
) -> Result<Together> {
    match Together::of(ticket, Layout::Rows)? {
        Some(together) => Ok(together),
        None => {
            let of = (&ticket.namespace, keys);
            let lookup = Lookup::new(service, principal, of, generation);
            lookup.agreed(&[]).await
        }
    }
}

/// The entries of the first keys, as many as the first message will have pinned anyway: so a few thousand small ones are
/// looked up once, and not a second time to be sent.
async fn first(lookup: &mut Lookup<'_>, max_message_bytes: u64) -> Result<Vec<Option<Entry>>> {
    let count = lookup.keys.len().min(FIRST_KEYS_MAX);
    let mut entries = Vec::with_capacity(count);
    let mut bytes = 0;
    while entries.len() < count && bytes < max_message_bytes {
        let entry = lookup.get(entries.len()).await?;
        bytes += entry.as_ref().map_or(0, Entry::len);
        entries.push(entry);
    }
    Ok(entries)
}
