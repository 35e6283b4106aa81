//! A put of many tensors: a batch is received as it came, and its rows are copied from the frames
//! to where they will live once it is whole, so that nobody sees half a batch. While that is done
//! the next ones are received, where there is room for them: else either end would wait for the other.
//!
//! - `incoming`: batches as they arrive
//! - `storing`: their rows, on as many threads as there are for it

mod incoming;
mod storing;

use std::sync::Arc;

use bowstring_cache::put::{Admit, Mode};
use bowstring_cache::rows::RowsSpec;
use bowstring_wire::bulk::BulkSchema;
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::Result;
use bowstring_wire::put_result::PutReply;

use super::messages::Messages;
use super::progress::{Done, Progress};
use super::{load_of, mode_of, refuse_given, waits_below};
use crate::conn::{ConnHandle, GUARANTEED_BYTES};
use crate::flight::authorize::Principal;
use crate::flight::service::Service;
use crate::flight::turns::Newcomer;
pub use incoming::{Batch, Incoming, Received};
pub use storing::{Store, Storing};

/// What stores the rows of a put with this command and these columns.
pub fn store_of(
    service: &Service,
    principal: &Principal,
    command: PutCommand,
    schema: &BulkSchema,
) -> Result<Store> {
    let single_only = [
        ("key", command.key.is_some()),
        ("if_version", command.if_version.is_some()),
        ("checksum", command.checksum.is_some()),
        ("size_bytes", command.size_bytes.is_some()),
    ];
    refuse_given(&single_only, "a put of one column")?;
    let reader = schema.with_command(&command)?;
    let settings = service
        .cache
        .settings(&principal.tenant, &command.namespace);
    let load = load_of(service, principal, &command)?;
    Ok(Store {
        service: service.clone(),
        tenant: principal.tenant.clone(),
        spec: RowsSpec {
            mode: mode_of(command.mode.or(settings.mode), Mode::Keep),
            load,
            pin: command.pin,
            admit: command.admit.or(settings.admit).unwrap_or(Admit::Hot),
            below: waits_below(&command),
        },
        metadata: command
            .metadata
            .as_ref()
            .map(|metadata| metadata.encode())
            .unwrap_or_default(),
        ttl_ms: command.ttl_ms,
        namespace: command.namespace,
        reader,
    })
}

/// Receives batches of rows and stores them.
pub async fn receive(
    service: &Service,
    (principal, conn, newcomer, mut progress): (
        &Principal,
        &Arc<ConnHandle>,
        Newcomer,
        Progress<'_>,
    ),
    command: PutCommand,
    schema: BulkSchema,
    messages: &mut Messages<'_>,
) -> Result<PutReply> {
    let store = store_of(service, principal, command, &schema)?;
    let load = store.spec.load;
    let (done, mut told) = Done::new();
    let done = progress.is_asked().then_some(done);
    let mut storing = Storing::new(store, newcomer, done);
    let mut incoming = Incoming::new(service, load, conn, messages);
    let work = async {
        let received = batches(&mut incoming, &mut storing).await;
        // What came whole before the stream broke is stored all the same.
        let reply = storing.finish().await?;
        received.map(|()| reply)
    };
    if !progress.is_asked() {
        return work.await;
    }
    progress.beside(&mut told, work).await
}

async fn batches(incoming: &mut Incoming<'_, '_>, storing: &mut Storing) -> Result<()> {
    let mut next = incoming.batch(false).await?;
    while let Some(received) = next {
        next = match received {
            Received::Whole(batch) => {
                storing.push(batch).await?;
                incoming.keep_room(storing.dictionary_bytes() > GUARANTEED_BYTES);
                incoming.batch(storing.is_busy()).await?
            }
            Received::Begun(len) => {
                storing.idle().await;
                Some(incoming.rest(len).await?)
            }
        };
    }
    Ok(())
}
