//! A put of many tensors: a batch is received as it came, and its rows are copied from the frames
//! to where they will live once it is whole, so that nobody sees half a batch. While that is done
//! the next one is received, where there is room for both: else either end would wait for the other.

use std::sync::Arc;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::put::{Admit, Mode};
use bowstring_cache::rows::{Row, RowsSpec};
use bowstring_wire::body::Body;
use bowstring_wire::bulk::{BulkBatch, BulkReader, BulkRow, BulkSchema};
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::Event;
use bowstring_wire::put_result::PutReply;
use bytes::Bytes;

use super::messages::Messages;
use super::{load_of, mode_of, refuse_given};
use crate::conn::{ConnHandle, GUARANTEED_BYTES, Upload};
use crate::flight::authorize::Principal;
use crate::flight::service::Service;
use crate::flight::turns::Newcomer;

/// Rows handed to the cache at once: enough to share its locks among, few enough that the other
/// streams of this thread have their turn.
const STEP: u64 = 512;

/// Receives batches of rows and stores them.
pub async fn receive(
    service: &Service,
    (principal, conn, newcomer): (&Principal, &Arc<ConnHandle>, Newcomer<'_>),
    command: PutCommand,
    schema: BulkSchema,
    messages: &mut Messages<'_>,
) -> Result<PutReply> {
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
    let mut receiver = Receiver {
        service,
        principal,
        newcomer: Some(newcomer),
        spec: RowsSpec {
            mode: mode_of(command.mode.or(settings.mode), Mode::Keep),
            load: load_of(service, principal, &command)?,
            pin: command.pin,
            admit: command.admit.or(settings.admit).unwrap_or(Admit::Hot),
        },
        metadata: command
            .metadata
            .as_ref()
            .map(|metadata| metadata.encode())
            .unwrap_or_default(),
        command,
        reader,
        row: 0,
        reply: PutReply::default(),
    };
    let mut incoming = Incoming {
        service,
        load: receiver.spec.load,
        conn,
        messages,
        header: None,
        upload: None,
    };
    let mut next = incoming.batch(None).await?;
    while let Some(received) = next {
        next = match received {
            Received::Whole(batch) => {
                let stored = receiver.store(&batch);
                let (stored, received) = tokio::join!(stored, incoming.batch(Some(&batch)));
                stored?;
                received?
            }
            // Nothing is being stored any more.
            Received::Begun(len) => Some(incoming.rest(len).await?),
        };
    }
    Ok(receiver.reply)
}

/// A batch as it came.
struct Batch {
    header: Bytes,
    body: Body,
    /// Until its rows are stored.
    _room: Option<Charge>,
}

/// What came next.
enum Received {
    Whole(Batch),
    /// A body of so many bytes has begun that finds no room beside the batch that is being stored.
    Begun(u64),
}

/// The batches of a put.
struct Incoming<'a, 'm> {
    service: &'a Service,
    /// That the rows belong to; 0 is none.
    load: u32,
    conn: &'a Arc<ConnHandle>,
    messages: &'a mut Messages<'m>,
    /// Of the message that has begun.
    header: Option<Bytes>,
    upload: Option<Upload>,
}

struct Receiver<'a> {
    service: &'a Service,
    principal: &'a Principal,
    newcomer: Option<Newcomer<'a>>,
    spec: RowsSpec,
    command: PutCommand,
    /// For rows that have none of their own.
    metadata: Vec<u8>,
    reader: BulkReader,
    /// Rows of earlier batches.
    row: u64,
    reply: PutReply,
}

/// The largest batch as a part of the memory: while its rows are stored they are there twice.
const BATCH_MEMORY_SHARE: u64 = 4;

impl Incoming<'_, '_> {
    /// The next batch, or its beginning where it finds no room beside the one that is being stored.
    async fn batch(&mut self, storing: Option<&Batch>) -> Result<Option<Received>> {
        while let Some(event) = self.messages.next().await? {
            match event {
                Event::Header(bytes) => self.header = Some(bytes),
                // A body without anything in it may lack its header.
                Event::BodyStart { len } if len > 0 || self.header.is_some() => {
                    if storing.is_some() && !self.has_room_for_two(len) {
                        return Ok(Some(Received::Begun(len)));
                    }
                    return self.rest(len).await.map(Some);
                }
                Event::MessageEnd => {
                    // A batch of no rows may come without a body.
                    if let Some(header) = self.header.take() {
                        return Ok(Some(Received::Whole(Batch {
                            header,
                            body: Body::new(),
                            _room: None,
                        })));
                    }
                }
                Event::BodyChunk(_) => return Err(Error::internal("a body without a beginning")),
                Event::BodyStart { .. } | Event::Descriptor(_) | Event::AppMetadata(_) => {}
            }
        }
        Ok(None)
    }

    /// The batch whose body has begun.
    async fn rest(&mut self, len: u64) -> Result<Received> {
        let room = self.room(len)?;
        if len > GUARANTEED_BYTES / 2 && self.upload.is_none() {
            self.upload = Some(self.conn.upload());
        }
        let body = self.messages.body(len).await?;
        let Some(header) = self.header.take() else {
            return Err(Error::invalid(
                "a body came without the header of its batch",
            ));
        };
        Ok(Received::Whole(Batch {
            header,
            body,
            _room: Some(room),
        }))
    }

    /// Room for a batch until its rows are stored; entries go for it where it must be.
    fn room(&self, len: u64) -> Result<Charge> {
        let limit = self.limit();
        let charge = if len > limit {
            None
        } else {
            self.service.cache.charge_in(self.load, Account::Wire, len)
        };
        charge.ok_or_else(|| {
            Error::exhausted(format!(
                "a record batch finds no room, send smaller ones; bytes=`{len}` limit=`{limit}`"
            ))
        })
    }

    /// Whether a second batch is held: only while there is more room than anybody wants.
    fn has_room_for_two(&self, len: u64) -> bool {
        len <= self.limit() / 2 && len <= self.service.cache.ledger().free()
    }

    fn limit(&self) -> u64 {
        self.service.cache.config().memory / BATCH_MEMORY_SHARE
    }
}

impl Receiver<'_> {
    async fn store(&mut self, batch: &Batch) -> Result<()> {
        // The batch borrows from the reader, which the rows' counting does not touch.
        let reader = self.reader.clone();
        let batch = reader.decode(&batch.header, &batch.body)?;
        let _turn = self.service.turns.take(&*self.service.clock).await;
        self.newcomer = None;
        let mut first = 0;
        while first < batch.rows() {
            let end = batch.rows().min(first + STEP);
            self.step(&batch, first..end).await;
            first = end;
        }
        self.row += batch.rows();
        Ok(())
    }

    async fn step(&mut self, batch: &BulkBatch<'_>, rows: std::ops::Range<u64>) {
        let now_ms = self.service.clock.now_ms();
        let mut read: Vec<(u64, BulkRow<'_>, Vec<u8>, Vec<u8>)> = Vec::new();
        for at in rows {
            match batch.row(at) {
                Ok(row) => {
                    let metadata = if row.metadata.is_empty() {
                        self.metadata.clone()
                    } else {
                        row.metadata.encode()
                    };
                    read.push((at, row, metadata, Vec::new()));
                }
                Err(error) => self.error(batch, at, &error),
            }
        }
        let mut at_rows = Vec::with_capacity(read.len());
        let mut rows = Vec::with_capacity(read.len());
        for (at, row, metadata, scratch) in &mut read {
            match batch.pieces(row, scratch) {
                Ok(pieces) => {
                    let ttl_ms = row.ttl_ms.or(self.command.ttl_ms);
                    at_rows.push(*at);
                    rows.push(Row {
                        key: &row.key,
                        dtype: row.dtype,
                        shape: &row.shape,
                        data: pieces.collect(),
                        metadata,
                        expires_at_ms: ttl_ms.map(|ttl| now_ms.saturating_add(ttl)),
                        checksum: row.checksum,
                    });
                }
                Err(error) => self.error(batch, *at, &error),
            }
        }
        let (tenant, namespace) = (&self.principal.tenant, &self.command.namespace);
        let outcomes = self
            .service
            .cache
            .put_rows(tenant, namespace, self.spec, &rows)
            .await;
        for (at, outcome) in at_rows.into_iter().zip(outcomes) {
            match outcome {
                Ok(published) if published.existed => self.reply.existed += 1,
                Ok(published) => {
                    self.reply.stored += 1;
                    self.reply.bytes += published.bytes;
                }
                Err(error) => self.error(batch, at, &error),
            }
        }
    }

    fn error(&mut self, batch: &BulkBatch<'_>, at: u64, error: &Error) {
        let key = batch.key(at).ok();
        self.reply.push_error(self.row + at, key.as_deref(), error);
    }
}
