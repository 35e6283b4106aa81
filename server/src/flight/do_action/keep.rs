//! `expire`, `pin` and `unpin`: how long entries stay.

use bowstring_cache::Id;
use bowstring_wire::action::{ExpireRequest, PinRequest};
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::reply::{KeyFound, KeysReply, Reply};

use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::flight::select::id;
use crate::flight::service::Service;

/// Keys that are changed before others run.
const STEP: usize = 256;

/// What becomes of keys.
enum Change<'a> {
    Expire(Option<u64>),
    /// Notes those that were not pinned before.
    Pin(&'a mut Vec<Id>),
    Unpin,
}

/// Gives keys another time to live.
pub async fn expire(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = ExpireRequest::parse(body)?;
    let now_ms = service.clock.now_ms();
    let expires_at_ms = request.ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
    let change = Change::Expire(expires_at_ms);
    each(
        service,
        principal,
        (&request.namespace, request.keys),
        change,
    )
    .await
}

/// Pins keys: all that are there, or none where they may not all be pinned.
pub async fn pin(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = PinRequest::parse(body)?;
    let mut pinned = Vec::new();
    let change = Change::Pin(&mut pinned);
    let reply = each(
        service,
        principal,
        (&request.namespace, request.keys),
        change,
    )
    .await;
    if reply.is_err() {
        for id in &pinned {
            service.cache.unpin(id);
        }
    }
    reply
}

/// Lets keys be evicted again.
pub async fn unpin(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = PinRequest::parse(body)?;
    each(
        service,
        principal,
        (&request.namespace, request.keys),
        Change::Unpin,
    )
    .await
}

/// Changes one key after the other, and says which were there.
async fn each(
    service: &Service,
    principal: &Principal,
    (namespace, keys): (&Namespace, Vec<Key>),
    mut change: Change<'_>,
) -> Result<String> {
    authorize(principal, Operation::Put, Resource::Namespace(namespace))?;
    let mut replies = Vec::with_capacity(keys.len());
    for key in keys {
        let id = id(principal, namespace, &key);
        let found = match &mut change {
            Change::Expire(at) => service.cache.expire(&id, *at).await?,
            // What is below memory is not pinned.
            Change::Unpin => {
                service.cache.unpin(&id).is_some()
                    || service.cache.describe_below(&id).await?.is_some()
            }
            Change::Pin(pinned) => {
                let found = service.cache.pin(&id).await?;
                if found == Some(true) {
                    pinned.push(id);
                }
                found.is_some()
            }
        };
        replies.push(KeyFound { key, found });
        if replies.len() % STEP == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(KeysReply { keys: replies }.to_json())
}
