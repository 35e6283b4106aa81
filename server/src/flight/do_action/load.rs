//! `begin_load`, `commit_load`, `abort_load`, `rollback_load`.

use bowstring_cache::loads::LoadSpec;
use bowstring_wire::action::{BeginLoadRequest, LoadRequest};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::reply::{BeginLoadReply, LoadReply, Reply};

use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::flight::service::Service;

/// What is done with a load that there is.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Publish it.
    Commit,
    /// Forget it.
    Abort,
    /// Restore what was before.
    Rollback,
}

/// Opens a load.
pub fn begin(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = BeginLoadRequest::parse(body)?;
    let namespace = &request.namespace;
    authorize(principal, Operation::Put, Resource::Namespace(namespace))?;
    let spec = LoadSpec {
        replace_all: request.replace_all,
        size_bytes: request.size_bytes,
    };
    let load_id = service
        .cache
        .begin_load(&principal.tenant, namespace, spec)?;
    Ok(BeginLoadReply { load_id }.to_json())
}

/// Ends a load, one way or another.
pub async fn end(
    service: &Service,
    principal: &Principal,
    body: &[u8],
    end: End,
) -> Result<String> {
    let LoadRequest { load_id, namespace } = LoadRequest::parse(body)?;
    let (cache, tenant) = (&service.cache, &principal.tenant);
    let namespace = cache.namespace_of_load(tenant, namespace.as_ref(), &load_id)?;
    authorize(principal, Operation::Put, Resource::Namespace(&namespace))?;
    match end {
        End::Commit if service.loads.is_filling(tenant, &load_id) => {
            return Err(Error::precondition(format!(
                "the server is still reading the files of this load, and commits it itself; load_id=`{load_id}`"
            )));
        }
        End::Abort => service.loads.cancel(tenant, &load_id),
        End::Commit | End::Rollback => {}
    }
    let outcome = match end {
        End::Commit => cache.commit_load(tenant, &load_id).await?,
        End::Abort => cache.abort_load(tenant, &load_id)?,
        End::Rollback => cache.rollback_load(tenant, &load_id).await?,
    };
    Ok(LoadReply {
        load_id,
        entries: outcome.entries,
        bytes: outcome.bytes,
    }
    .to_json())
}
