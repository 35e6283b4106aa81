//! `attach` and `detach`: namespaces that are the rows of files.

use bowstring_wire::action::{AttachRequest, DetachRequest};
use bowstring_wire::error::Result;
use bowstring_wire::reply::{AttachReply, DetachReply, Reply};

use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::flight::service::Service;

/// Makes a namespace the rows of files.
pub async fn attach(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let AttachRequest {
        namespace,
        files,
        columns,
    } = AttachRequest::parse(body)?;
    authorize(principal, Operation::Put, Resource::Namespace(&namespace))?;
    let found = service.loads.found(files).await?;
    let (cache, of) = (&service.cache, (&principal.tenant, &namespace));
    let size = service.attached.attach(cache, of, found, columns).await?;
    let reply = AttachReply {
        files: size.files,
        rows: size.rows,
        bytes: size.bytes,
        index_bytes: size.index_bytes,
        namespace,
    };
    Ok(reply.to_json())
}

/// Ends that.
pub async fn detach(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let DetachRequest { namespace } = DetachRequest::parse(body)?;
    authorize(
        principal,
        Operation::Delete,
        Resource::Namespace(&namespace),
    )?;
    let (cache, tenant) = (&service.cache, &principal.tenant);
    let rows = service.attached.detach(cache, tenant, &namespace).await?;
    Ok(DetachReply { namespace, rows }.to_json())
}
