//! The batches of a put as they arrive.

use std::sync::Arc;

use bowstring_cache::ledger::{Account, Charge};
use bowstring_wire::body::Body;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::Event;
use bytes::Bytes;

use crate::conn::{ConnHandle, GUARANTEED_BYTES, Upload};
use crate::flight::do_put::messages::Messages;
use crate::flight::service::Service;

/// The largest batch as a part of the memory: while its rows are stored they are there twice.
pub const BATCH_MEMORY_SHARE: u64 = 4;

/// A batch as it came.
pub struct Batch {
    pub header: Bytes,
    pub body: Body,
    /// Until its rows are stored, or its values wanted no more.
    pub room: Option<Arc<Charge>>,
}

/// What came next.
pub enum Received {
    Whole(Batch),
    /// A body of so many bytes has begun that finds no room beside those that are being stored.
    Begun(u64),
}

/// The batches of a put.
pub struct Incoming<'a, 'm> {
    service: &'a Service,
    /// That the rows belong to; 0 is none.
    load: u32,
    conn: &'a Arc<ConnHandle>,
    messages: &'a mut Messages<'m>,
    /// Of the message that has begun.
    header: Option<Bytes>,
    upload: Option<Upload>,
}

impl<'a, 'm> Incoming<'a, 'm> {
    pub fn new(
        service: &'a Service,
        load: u32,
        conn: &'a Arc<ConnHandle>,
        messages: &'a mut Messages<'m>,
    ) -> Self {
        Self {
            service,
            load,
            conn,
            messages,
            header: None,
            upload: None,
        }
    }

    /// The next batch, or its beginning where others are being stored and it finds no room `beside`
    /// them.
    pub async fn batch(&mut self, beside: bool) -> Result<Option<Received>> {
        while let Some(event) = self.messages.next().await? {
            match event {
                Event::Header(bytes) => self.header = Some(bytes),
                // A body without anything in it may lack its header.
                Event::BodyStart { len } if len > 0 || self.header.is_some() => {
                    if beside && !self.has_room_beside(len) {
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
                            room: None,
                        })));
                    }
                }
                Event::BodyChunk(_) => return Err(Error::internal("a body without a beginning")),
                Event::BodyStart { .. } | Event::Descriptor(_) | Event::AppMetadata(_) => {}
            }
        }
        Ok(None)
    }

    /// Whether room is held between two messages as well: then the client may not be silent for long.
    pub fn keep_room(&mut self, keep: bool) {
        self.messages.keeps_room = keep;
    }

    /// The batch whose body has begun.
    pub async fn rest(&mut self, len: u64) -> Result<Received> {
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
            room: Some(Arc::new(room)),
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

    /// Whether more than one batch is held: only while there is more room than anybody wants.
    fn has_room_beside(&self, len: u64) -> bool {
        len <= self.limit() / 2 && len <= self.service.cache.ledger().free()
    }

    fn limit(&self) -> u64 {
        self.service.cache.config().memory / BATCH_MEMORY_SHARE
    }
}
