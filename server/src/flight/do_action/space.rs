//! `namespaces`, `namespace_set` and `clear`.

use bowstring_wire::action::{ClearRequest, NamespaceSetRequest, NamespacesRequest};
use bowstring_wire::error::Result;
use bowstring_wire::reply::{
    AttachedDescribed, DeleteReply, NamespaceDescribed, NamespaceSetReply, NamespacesReply, Reply,
};

use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::flight::room::CallBytes;
use crate::flight::service::Service;

/// What is said of one namespace at most: its name twice the longest, settings and counters.
const DESCRIBED_BYTES: u64 = 768;

/// Lists namespaces.
pub fn list(
    service: &Service,
    principal: &Principal,
    body: &[u8],
    room: &mut CallBytes,
) -> Result<String> {
    let request = NamespacesRequest::parse(body)?;
    authorize(principal, Operation::Stats, Resource::Server)?;
    let tenant = &principal.tenant;
    let after = request.after.as_ref();
    let there = request.limit.min(service.cache.stats().namespaces as usize);
    room.hold(2 * DESCRIBED_BYTES * there as u64)?;
    // One more than is asked for tells whether there are more.
    let mut found = service.cache.namespaces(tenant, after, request.limit + 1);
    let more = found.len() > request.limit;
    found.truncate(request.limit);
    let described = found.into_iter().map(|stats| {
        let size = service.attached.size_of(tenant, &stats.namespace);
        NamespaceDescribed {
            namespace: stats.namespace,
            entries: stats.entries,
            bytes: stats.bytes,
            hits: stats.hits,
            misses: stats.misses,
            evicted: stats.evicted,
            expired: stats.expired,
            settings: stats.settings,
            settings_version: stats.settings_version,
            attached: size.map(|size| AttachedDescribed {
                files: size.files,
                rows: size.rows,
                bytes: size.bytes,
            }),
        }
    });
    let namespaces = described.collect();
    Ok(NamespacesReply { namespaces, more }.to_json())
}

/// Changes settings of a namespace.
pub async fn set(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = NamespaceSetRequest::parse(body)?;
    let namespace = request.namespace;
    authorize(
        principal,
        Operation::Configure,
        Resource::Namespace(&namespace),
    )?;
    let (tenant, change) = (&principal.tenant, &request.settings);
    let set = service
        .cache
        .set_settings(tenant, &namespace, change, request.if_version);
    let (settings, version) = set.await?;
    let reply = NamespaceSetReply {
        namespace,
        settings,
        version,
    };
    Ok(reply.to_json())
}

/// Deletes all keys of a namespace.
pub async fn clear(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let ClearRequest { namespace } = ClearRequest::parse(body)?;
    authorize(
        principal,
        Operation::Delete,
        Resource::Namespace(&namespace),
    )?;
    let (tenant, keys) = (&principal.tenant, None);
    let deleted = service.cache.delete_prefix(tenant, &namespace, "").await?;
    Ok(DeleteReply { keys, deleted }.to_json())
}
