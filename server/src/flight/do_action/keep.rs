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

/// Gives keys another time to live.
pub async fn expire(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = ExpireRequest::parse(body)?;
    let now_ms = service.clock.now_ms();
    let expires_at_ms = request.ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
    let change = |id: &Id| Ok(service.cache.expire(id, expires_at_ms));
    each(principal, &request.namespace, request.keys, change).await
}

/// Pins keys: all that are there, or none where they may not all be pinned.
pub async fn pin(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = PinRequest::parse(body)?;
    let mut pinned = Vec::new();
    let change = |id: &Id| {
        let found = service.cache.pin(id)?;
        if found == Some(true) {
            pinned.push(id.clone());
        }
        Ok(found.is_some())
    };
    let reply = each(principal, &request.namespace, request.keys, change).await;
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
    let change = |id: &Id| Ok(service.cache.unpin(id).is_some());
    each(principal, &request.namespace, request.keys, change).await
}

/// Changes one key after the other; `change` says whether it was there.
async fn each(
    principal: &Principal,
    namespace: &Namespace,
    keys: Vec<Key>,
    mut change: impl FnMut(&Id) -> Result<bool>,
) -> Result<String> {
    authorize(principal, Operation::Put, Resource::Namespace(namespace))?;
    let mut replies = Vec::with_capacity(keys.len());
    for key in keys {
        let found = change(&id(principal, namespace, &key))?;
        replies.push(KeyFound { key, found });
        if replies.len() % STEP == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(KeysReply { keys: replies }.to_json())
}
