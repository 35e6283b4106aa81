//! One tensor, or a range of its rows.

use bowstring_wire::error::Result;
use bowstring_wire::flight_data::encode_head;
use bowstring_wire::get_layout::Chunks;
use bowstring_wire::get_rows::{OpaqueRow, opaque_batch};
use bowstring_wire::ticket::{Layout, Ticket};

use super::message_bytes_max;
use crate::flight::gather::GATHER_BELOW_BYTES;
use crate::flight::out::{Failure, Out};
use crate::flight::select::find;
use crate::flight::service::{Call, Service};
use crate::grpc::Responder;

/// Schema, headers and padding of a small answer.
const SMALL_OVERHEAD_BYTES: u64 = 1536;

/// Sends the entry that `ticket` names.
pub async fn send(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let (one, ready) = find(service, &call.principal, ticket).await?;
    let schema = one.schema().message()?;

    let bytes = one.range.end - one.range.start;
    let small = if bytes < GATHER_BELOW_BYTES {
        bytes + schema.len() as u64 + SMALL_OVERHEAD_BYTES
    } else {
        0
    };
    let mut out = Out::new(service, respond, call.client, call.counted, small);
    out.bytes(encode_head(&schema, &[], 0)?).await?;
    let mut source = out.source(ready, one.range.clone())?;
    if one.layout == Layout::Opaque {
        let row = OpaqueRow {
            key: one.key.as_str(),
            tensor: Some((one.dtype, &one.shape)),
        };
        let batch = opaque_batch(&[row], false, &[])?;
        out.bytes(batch.head(&[])?).await?;
        out.body_begins().await?;
        out.bytes(batch.prelude).await?;
        out.tensor(&mut source, bytes).await?;
        out.bytes(batch.tail).await?;
        return out.flush().await;
    }
    let max = message_bytes_max(ticket, call.client);
    for chunk in Chunks::new(one.dtype, &one.shape, one.layout, max)? {
        out.bytes(chunk.head(&[])?).await?;
        out.body_begins().await?;
        out.tensor(&mut source, chunk.body.end - chunk.body.start)
            .await?;
        out.zeros(chunk.padding).await?;
    }
    out.flush().await
}
