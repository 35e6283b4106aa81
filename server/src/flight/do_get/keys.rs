//! Tensors by their keys, in the order asked.

use bowstring_cache::generation::Generation;
use bowstring_cache::lower::Found;
use bowstring_wire::closing::Closing;
use bowstring_wire::error::Result;
use bowstring_wire::name::Key;
use bowstring_wire::ticket::{Layout, Missing, Ticket};

use super::message_bytes_max;
use super::rows::{Pushed, Rows};
use crate::flight::authorize::Principal;
use crate::flight::lookup::Lookup;
use crate::flight::out::{Failure, Out};
use crate::flight::select::Together;
use crate::flight::service::{Call, Service};
use crate::flight::source::{self, ROUNDS};
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
        let found = match first.next() {
            Some(found) => found,
            None => lookup.get(at).await?,
        };
        if send_found(&mut rows, &mut lookup, at, found).await? {
            continue;
        }
        match ticket.missing {
            Missing::Null => rows.push_null(key).await?,
            Missing::Named => missing.push(key.clone()),
        }
    }
    let named = ticket.missing == Missing::Named;
    rows.finish(named.then_some((Closing::Missing, &missing)))
        .await
}

/// Sends what was found of a key; false where that is gone.
async fn send_found(
    rows: &mut Rows<'_>,
    lookup: &mut Lookup<'_>,
    at: usize,
    mut found: Option<Found>,
) -> Result<bool, Failure> {
    for _ in 0..ROUNDS {
        let Some(tensor) = found else { break };
        match rows.push(&lookup.keys[at], tensor).await? {
            Pushed::Sent => return Ok(true),
            Pushed::Changed => found = lookup.get(at).await?,
            Pushed::Missing => break,
        }
    }
    Ok(false)
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
async fn first(lookup: &mut Lookup<'_>, max_message_bytes: u64) -> Result<Vec<Option<Found>>> {
    let count = lookup.keys.len().min(FIRST_KEYS_MAX);
    let mut first = Vec::with_capacity(count);
    let mut bytes = 0;
    while first.len() < count && bytes < max_message_bytes {
        let found = lookup.get(first.len()).await?;
        bytes += found
            .as_ref()
            .map_or(0, |found| source::known(found).bytes());
        first.push(found);
    }
    Ok(first)
}
