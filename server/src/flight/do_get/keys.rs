//! Tensors by their keys, in the order asked.

use bowstring_cache::ahead::AHEAD_MAX;
use bowstring_cache::generation::Generation;
use bowstring_cache::read::Entry;
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
    let asked = Asked {
        service,
        principal: &call.principal,
        ticket,
        keys,
        // One generation for all of them, whatever is committed meanwhile.
        generation: &service
            .cache
            .generation(&call.principal.tenant, &ticket.namespace),
    };
    let max = message_bytes_max(ticket, call.client);
    let (together, first) = match Together::of(ticket, Layout::Rows)? {
        Some(together) => (together, Vec::new()),
        None => {
            let first = asked.first(max).await?;
            (asked.agreed(&first)?, first)
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
            None => asked.get(at).await?,
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
    let asked = Asked {
        service,
        principal,
        ticket,
        keys,
        generation,
    };
    asked.agreed(&[])
}

/// Keys, and where to look for them.
struct Asked<'a> {
    service: &'a Service,
    principal: &'a Principal,
    ticket: &'a Ticket,
    keys: &'a [Key],
    generation: &'a Generation,
}

impl Asked<'_> {
    /// The entries of the first keys, as many as the first message will have pinned anyway: so a few thousand small ones
    /// are looked up once, and not a second time to be sent.
    async fn first(&self, max_message_bytes: u64) -> Result<Vec<Option<Entry>>> {
        let count = self.keys.len().min(FIRST_KEYS_MAX);
        let mut entries = Vec::with_capacity(count);
        let mut bytes = 0;
        while entries.len() < count && bytes < max_message_bytes {
            let entry = self.get(entries.len()).await?;
            bytes += entry.as_ref().map_or(0, Entry::len);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// What the entries agree on, of which the `first` were found already. The others are looked at, not pinned:
    /// thousands of large tensors would be more than a reader may hold. An entry that is replaced by another shape after
    /// this ends the stream with what differs.
    fn agreed(&self, first: &[Option<Entry>]) -> Result<Together> {
        let keys = self.keys.iter().enumerate();
        Together::agreed(keys.filter_map(|(at, key)| {
            let (dtype, shape) = match first.get(at) {
                Some(entry) => entry.as_ref()?.description(),
                None => {
                    self.look_ahead(at);
                    let id = id(self.principal, &self.ticket.namespace, key);
                    let cache = &self.service.cache;
                    cache.peek_in(self.generation, &id)?.description()
                }
            };
            Some((key.as_str(), dtype, shape))
        }))
    }

    async fn get(&self, at: usize) -> Result<Option<Entry>> {
        self.look_ahead(at);
        let id = id(self.principal, &self.ticket.namespace, &self.keys[at]);
        let cache = &self.service.cache;
        cache.get_or_load_in(self.generation, &id).await
    }

    /// At the first of a few keys: has what the look-ups of all of them read fetched.
    fn look_ahead(&self, at: usize) {
        if at.is_multiple_of(AHEAD_MAX) && self.keys.len() > 1 {
            let few = self.keys[at..].iter().take(AHEAD_MAX);
            let few = few.map(|key| (&self.ticket.namespace, key.as_str()));
            self.service.cache.look_ahead(&self.principal.tenant, few);
        }
    }
}
