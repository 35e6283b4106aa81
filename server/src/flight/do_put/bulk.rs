//! A put of many tensors: a batch is received as it came, and its rows are copied from the frames
//! to where they will live once it is whole, so that nobody sees half a batch.

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

/// Rows handed to the cache at once: enough to share its locks among, few enough that the other
/// streams of this thread have their turn.
const STEP: u64 = 512;

/// Receives batches of rows and stores them.
pub async fn receive(
    service: &Service,
    principal: &Principal,
    conn: &Arc<ConnHandle>,
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
        conn,
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
        upload: None,
        row: 0,
        reply: PutReply::default(),
    };
    receiver.batches(messages).await?;
    Ok(receiver.reply)
}

struct Receiver<'a> {
    service: &'a Service,
    principal: &'a Principal,
    conn: &'a Arc<ConnHandle>,
    spec: RowsSpec,
    command: PutCommand,
    /// For rows that have none of their own.
    metadata: Vec<u8>,
    reader: BulkReader,
    upload: Option<Upload>,
    /// Rows of earlier batches.
    row: u64,
    reply: PutReply,
}

/// The largest batch as a part of the memory: while its rows are stored they are there twice.
const BATCH_MEMORY_SHARE: u64 = 4;

impl Receiver<'_> {
    async fn batches(&mut self, messages: &mut Messages<'_>) -> Result<()> {
        let mut header: Option<Bytes> = None;
        while let Some(event) = messages.next().await? {
            match event {
                Event::Header(bytes) => header = Some(bytes),
                Event::BodyStart { len } => {
                    let room = self.room(len)?;
                    let body = self.body(len, messages).await?;
                    if let Some(header) = header.take() {
                        self.store(&header, &body).await?;
                    } else if !body.is_empty() {
                        return Err(Error::invalid(
                            "a body came without the header of its batch",
                        ));
                    }
                    drop((body, room));
                }
                Event::MessageEnd => {
                    // A batch of no rows may come without a body.
                    if let Some(header) = header.take() {
                        self.store(&header, &Body::new()).await?;
                    }
                }
                Event::BodyChunk(_) => return Err(Error::internal("a body without a beginning")),
                Event::Descriptor(_) | Event::AppMetadata(_) => {}
            }
        }
        Ok(())
    }

    /// Room for a batch until its rows are stored; entries go for it where it must be.
    fn room(&self, len: u64) -> Result<Charge> {
        let cache = &self.service.cache;
        let limit = cache.config().memory / BATCH_MEMORY_SHARE;
        let charge = if len > limit {
            None
        } else {
            cache.charge(Account::Wire, len)
        };
        charge.ok_or_else(|| {
            Error::exhausted(format!(
                "a record batch finds no room, send smaller ones; bytes=`{len}` limit=`{limit}`"
            ))
        })
    }

    async fn body(&mut self, len: u64, messages: &mut Messages<'_>) -> Result<Body> {
        if len > GUARANTEED_BYTES / 2 && self.upload.is_none() {
            self.upload = Some(self.conn.upload());
        }
        messages.body(len).await
    }

    async fn store(&mut self, header: &[u8], body: &Body) -> Result<()> {
        // The batch borrows from the reader, which the rows' counting does not touch.
        let reader = self.reader.clone();
        let batch = reader.decode(header, body)?;
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
