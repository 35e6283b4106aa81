//! A put of one tensor: each body is copied from its frames to where it will live.

use std::ops::Range;
use std::sync::Arc;

use bowstring_cache::put::{Admit, Mode, Put, PutSpec};
use bowstring_wire::cast::Cast;
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::Event;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::offsets::OffsetsCheck;
use bowstring_wire::put_result::PutReply;
use bowstring_wire::single::{SingleBatch, SingleSchema, Values};
use bytes::Bytes;

use super::messages::Messages;
use super::progress::Progress;
use super::values::ValuesWriter;
use super::{load_of, mode_of, refuse_given, waits_below};
use crate::conn::{ConnHandle, GUARANTEED_BYTES, Upload};
use crate::flight::authorize::Principal;
use crate::flight::select::id;
use crate::flight::service::Service;

/// Receives the bodies of one tensor and publishes it.
pub async fn receive(
    service: &Service,
    (principal, conn, progress): (&Principal, &Arc<ConnHandle>, Progress<'_>),
    command: PutCommand,
    schema: &SingleSchema,
    messages: &mut Messages<'_>,
) -> Result<PutReply> {
    let bulk_only = [
        ("key_column", command.key_column.is_some()),
        ("tensor_column", command.tensor_column.is_some()),
        ("extra_columns", command.extra_columns.is_some()),
        ("ragged", command.ragged),
    ];
    refuse_given(&bulk_only, "a put of several columns")?;
    let Some(key) = &command.key else {
        return Err(Error::invalid(
            "a put of one column is one tensor and needs a name; expected PATH [key], PATH \
             [namespace, key], or a member `key` in CMD",
        ));
    };
    let dtype = command.dtype.unwrap_or(schema.dtype());
    let cast = Cast::new(schema.dtype(), dtype)?;
    let spec = spec(service, principal, &command, (schema, dtype))?;
    let load = spec.load;
    let put = service
        .cache
        .put(id(principal, &command.namespace, key), spec)?;
    let (transform, permute) = (schema.column().transform, schema.permute()?);
    let values = ValuesWriter::new(transform, permute, cast, &service.cache, load)?;
    // Then its client may not be silent for long.
    messages.holds_room = values.holds_room();
    let mut receiver = Receiver {
        schema,
        put,
        values,
        rows: 0,
        list_len: schema.list_len()?,
        conn,
        upload: None,
        cast,
        progress,
    };
    receiver.batches(messages).await?;
    let shape = schema.final_shape(receiver.rows, receiver.list_len)?;
    check_size(command.size_bytes, receiver.put.written())?;
    let published = receiver.put.publish(shape).await?;
    Ok(PutReply {
        stored: u64::from(!published.existed),
        existed: u64::from(published.existed),
        bytes: if published.existed {
            0
        } else {
            published.bytes
        },
        version: Some(published.version),
        ..PutReply::default()
    })
}

/// A client that meets an error of its own may end the stream in good order all the same (PyArrow's
/// `with` does): what was announced tells half a tensor from a whole one.
fn check_size(announced: Option<u64>, came: u64) -> Result<()> {
    match announced {
        Some(announced) if announced != came => Err(Error::invalid(format!(
            "the tensor has another size than the command said; bytes=`{came}` \
             size_bytes=`{announced}`"
        ))),
        _ => Ok(()),
    }
}

fn spec(
    service: &Service,
    principal: &Principal,
    command: &PutCommand,
    (schema, dtype): (&SingleSchema, DType),
) -> Result<PutSpec> {
    let settings = service
        .cache
        .settings(&principal.tenant, &command.namespace);
    // What a get returned is put with its own shape, which tells the size as well.
    let declared = schema
        .declared()
        .map(|shape| shape.bytes(dtype))
        .transpose()?;
    let metadata = match &command.metadata {
        None => schema.metadata().encode(),
        // What the command says is newer than what came along with the tensor.
        Some(given) => {
            let kept = schema
                .metadata()
                .iter()
                .filter(|(name, _)| given.get(name).is_none());
            let both = kept.chain(given.iter());
            Metadata::new(both.map(|(name, value)| (name.to_owned(), value.to_owned())))?.encode()
        }
    };
    let expires_at_ms = command
        .ttl_ms
        .map(|ttl| service.clock.now_ms().saturating_add(ttl));
    Ok(PutSpec {
        mode: mode_of(command.mode.or(settings.mode), Mode::Create),
        if_version: command.if_version,
        metadata,
        expires_at_ms,
        load: load_of(service, principal, command)?,
        pin: command.pin,
        size_bytes: command.size_bytes.max(declared),
        checksum: command.checksum,
        admit: command.admit.or(settings.admit).unwrap_or(Admit::Hot),
        below: waits_below(command),
        ..PutSpec::new(dtype)
    })
}

struct Receiver<'a> {
    schema: &'a SingleSchema,
    put: Put,
    values: ValuesWriter,
    rows: u64,
    list_len: Option<u64>,
    conn: &'a Arc<ConnHandle>,
    upload: Option<Upload>,
    cast: Option<Cast>,
    progress: Progress<'a>,
}

impl Receiver<'_> {
    async fn batches(&mut self, messages: &mut Messages<'_>) -> Result<()> {
        let mut header: Option<Bytes> = None;
        while let Some(event) = messages.next().await? {
            match event {
                Event::Header(bytes) => header = Some(bytes),
                Event::BodyStart { len } => {
                    if let Some(header) = header.take() {
                        self.batch(&header, len, messages).await?;
                    }
                }
                Event::MessageEnd => {
                    // A batch of no rows may come without a body.
                    if let Some(header) = header.take() {
                        self.batch(&header, 0, messages).await?;
                    }
                }
                Event::BodyChunk(bytes) if bytes.is_empty() => {}
                Event::BodyChunk(_) => {
                    return Err(Error::invalid(
                        "a body came without the header of its batch",
                    ));
                }
                Event::Descriptor(_) | Event::AppMetadata(_) => {}
            }
        }
        Ok(())
    }

    /// Receives one batch whose body has `len` bytes.
    async fn batch(&mut self, header: &[u8], len: u64, messages: &mut Messages<'_>) -> Result<()> {
        let batch = self.schema.check_batch(header, len)?;
        self.rows = self.rows.checked_add(batch.rows).ok_or_else(|| {
            Error::invalid("the batches of a tensor have more rows together than a number can say")
        })?;
        if len > GUARANTEED_BYTES / 2 && self.upload.is_none() {
            self.upload = Some(self.conn.upload());
        }
        let mut offsets = batch.offsets.as_ref().map(|offsets| {
            (
                offsets.range.clone(),
                OffsetsCheck::new(batch.rows, offsets.wide, self.list_len),
            )
        });
        let mut values = match offsets {
            None => Some(self.begin(&batch, None, messages).await?),
            Some(_) => None,
        };
        let mut at = 0;
        while at < len {
            let chunk = match messages.next().await? {
                Some(Event::BodyChunk(chunk)) => chunk,
                Some(_) => return Err(Error::internal("a body was interrupted by another field")),
                None => return Err(Error::invalid("the put ended within a body")),
            };
            let came = at..at + chunk.len() as u64;
            if let Some((range, check)) = &mut offsets {
                check.push(within(&chunk, &came, range))?;
                if came.end >= range.end && values.is_none() {
                    values = Some(self.begin(&batch, Some(check), messages).await?);
                }
            }
            if let Some(values) = &values {
                self.values
                    .write(within(&chunk, &came, &values.range), &mut self.put)?;
            }
            at = came.end;
        }
        // A batch without a body has its values and offsets nowhere, but may have rows of none.
        if values.is_none()
            && let Some((_, check)) = &offsets
        {
            self.begin(&batch, Some(check), messages).await?;
        }
        // Nothing is stored before the end; so much has come.
        self.progress.tell(&PutReply {
            bytes: self.put.written(),
            ..PutReply::default()
        });
        Ok(())
    }

    /// Takes room for a batch's values, now that it is known where they lie.
    async fn begin(
        &mut self,
        batch: &SingleBatch,
        offsets: Option<&OffsetsCheck>,
        messages: &mut Messages<'_>,
    ) -> Result<Values> {
        let span = offsets.map(OffsetsCheck::finish).transpose()?;
        if let Some(len) = span.and_then(|span| span.len) {
            self.list_len = Some(len);
        }
        let values = batch.values(span)?;
        let bytes = match self.cast {
            None => Some(values.stored_bytes),
            Some(cast) => cast.cast_bytes(values.stored_bytes),
        };
        let room = self.put.reserve(bytes.unwrap_or(u64::MAX));
        messages.waiting_for_room(room).await?;
        messages.holds_room = true;
        self.values.begin(&values);
        Ok(values)
    }
}

/// The part of `chunk`, which came at `came` of a body, that lies in `range`.
fn within<'c>(chunk: &'c Bytes, came: &Range<u64>, range: &Range<u64>) -> &'c [u8] {
    let start = range.start.clamp(came.start, came.end) - came.start;
    let end = range.end.clamp(came.start, came.end) - came.start;
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(chunk.len());
    &chunk[at(start)..at(end).max(at(start))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_cut_to_the_range_it_overlaps() {
        let chunk = Bytes::from_static(b"0123456789");
        let came = 100..110;
        assert_eq!(within(&chunk, &came, &(0..100)), b"");
        assert_eq!(within(&chunk, &came, &(90..103)), b"012");
        assert_eq!(within(&chunk, &came, &(104..106)), b"45");
        assert_eq!(within(&chunk, &came, &(108..200)), b"89");
        assert_eq!(within(&chunk, &came, &(110..200)), b"");
        assert_eq!(within(&chunk, &came, &(0..200)), b"0123456789");
    }
}
