//! Tensors by a prefix of their keys, in key order.
//!
//! The snapshot is of names and versions, taken in steps that block no writer; it holds no tensor.
//! What was replaced, evicted or deleted before its turn is named at the end.

use bowstring_cache::generation::Generation;
use bowstring_wire::closing::Closing;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::name::Key;
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::{Layout, Ticket};
use bowstring_wire::version::Version;

use super::message_bytes_max;
use super::rows::Rows;
use crate::conn::WireBytes;
use crate::flight::authorize::Principal;
use crate::flight::out::{Failure, Out};
use crate::flight::select::{Together, id};
use crate::flight::service::{Call, Service};
use crate::grpc::Responder;

/// Sends the entries whose keys begin with `prefix`.
pub async fn send(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    prefix: &str,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let snapshot = Snapshot::take(service, &call.principal, ticket, prefix).await?;
    let together = snapshot.together(ticket)?;
    let max = message_bytes_max(ticket, call.client);
    let out = Out::new(service, respond, call.client, 512);
    let mut rows = Rows::begin(service, ticket, together, out, max).await?;
    let mut gone = Vec::new();
    for (key, version) in &snapshot.entries {
        let id = id(&call.principal, &ticket.namespace, key);
        // An export leaves no mark: it must not make everything look young.
        match service.cache.peek_in(&snapshot.generation, &id) {
            Some(entry) if entry.version() == *version => rows.push(key, Some(entry)).await?,
            _ => gone.push(key.clone()),
        }
    }
    rows.finish(Some((Closing::Gone, &gone))).await
}

/// Keys and versions under a prefix at one time.
pub struct Snapshot {
    /// In key order.
    pub entries: Vec<(Key, Version)>,
    /// Bytes of their tensors together.
    pub bytes: u64,
    /// What showed when it was begun, whatever is committed meanwhile.
    generation: Generation,
    agreed: Result<Together>,
    _room: Vec<WireBytes>,
}

/// What an entry of a snapshot takes beside its key's own bytes.
const ENTRY_BYTES: usize = 64;
/// Keys looked at in one step.
const STEP: usize = 1_000;

impl Snapshot {
    /// Takes a snapshot of what the ticket selects.
    pub async fn take(
        service: &Service,
        principal: &Principal,
        ticket: &Ticket,
        prefix: &str,
    ) -> Result<Self> {
        let mut snapshot = Self {
            entries: Vec::new(),
            bytes: 0,
            generation: service
                .cache
                .generation(&principal.tenant, &ticket.namespace),
            agreed: Ok(Together::Unknown),
            _room: Vec::new(),
        };
        let mut first: Option<(String, DType, Shape)> = None;
        let mut after: Option<Key> = None;
        loop {
            let after_key = after.as_ref().map(Key::as_str);
            let generation = &snapshot.generation;
            let step = service.cache.scan_in(generation, prefix, after_key, STEP);
            let last = step.len() < STEP;
            let Some(end) = step.last() else {
                return Ok(snapshot);
            };
            after = Some(end.key.clone());
            let room: usize = step
                .iter()
                .map(|item| item.key.as_str().len() + ENTRY_BYTES)
                .sum();
            let paid = service
                .budget
                .try_take(room as u64)
                .ok_or_else(|| too_many(&snapshot))?;
            snapshot._room.push(paid);
            for item in step {
                if ticket
                    .fixed
                    .as_ref()
                    .is_some_and(|(d, s)| *d != item.dtype || *s != item.shape)
                {
                    continue;
                }
                if snapshot.agreed.is_ok() {
                    let one = (item.key.as_str(), item.dtype, item.shape.clone());
                    let before = first.clone();
                    let before = before.as_ref().map(|(k, d, s)| (k.as_str(), *d, s.clone()));
                    snapshot.agreed = Together::agreed(before.into_iter().chain([one]));
                    first.get_or_insert((item.key.as_str().to_owned(), item.dtype, item.shape));
                }
                snapshot.bytes += item.bytes;
                snapshot.entries.push((item.key, item.version));
            }
            if last {
                return Ok(snapshot);
            }
            // Between two steps the writers and the other streams of this thread have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// How the entries become a stream.
    pub fn together(&self, ticket: &Ticket) -> Result<Together> {
        match Together::of(ticket, Layout::Opaque)? {
            Some(together) => Ok(together),
            None => self.agreed.clone(),
        }
    }
}

fn too_many(snapshot: &Snapshot) -> Error {
    Error::new(
        Code::ResourceExhausted,
        format!(
            "a snapshot of so many keys does not fit into the wire account; keys=`{}` so far, \
             expected a longer prefix",
            snapshot.entries.len()
        ),
    )
}
