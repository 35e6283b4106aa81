//! Messages on their way out.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use bowstring_wire::error::{Code, Error};
use bowstring_wire::limits::MUX_CHUNK_BYTES;
use bowstring_wire::mux::{MuxPrefix, MuxReply, MuxTensor};
use futures::FutureExt;
use futures::future::{Either, select, select_all};

use super::timed::{Ended, Timed};
use crate::flight::gather::GATHER_BELOW_BYTES;
use crate::flight::out::{Failure, Out};
use crate::flight::service::Service;
use crate::flight::source::{Ready, Source};

/// The replies of one exchange: small ones at once, large ones in turn.
pub struct Replies<'a> {
    service: &'a Service,
    out: Out<'a>,
    /// Whether something was written since the last flush.
    written: bool,
    large: VecDeque<Large>,
    header: Vec<u8>,
    head: Vec<u8>,
}

/// A reply that is sent in chunks.
struct Large {
    id: u32,
    /// Until the first chunk.
    tensor: Option<MuxTensor>,
    source: Source,
    bytes: u64,
    left: u64,
    timed: Timed,
}

impl<'a> Replies<'a> {
    /// Replies into `out`.
    pub fn new(service: &'a Service, out: Out<'a>) -> Self {
        Self {
            service,
            out,
            written: false,
            large: VecDeque::new(),
            header: Vec::new(),
            head: Vec::new(),
        }
    }

    /// How long they have waited for their client.
    pub fn waited(&self) -> Duration {
        self.out.waited()
    }

    /// Replies that are being sent in chunks.
    pub fn under_way(&self) -> usize {
        self.large.len()
    }

    /// Whether there are any.
    pub fn are_under_way(&self) -> bool {
        !self.large.is_empty()
    }

    /// Whether this one is among them.
    pub fn is_under_way(&self, id: u32) -> bool {
        self.large.iter().any(|large| large.id == id)
    }

    /// A reply without a body.
    pub async fn one(&mut self, id: u32, reply: &MuxReply) -> Result<(), Failure> {
        self.head(id, reply, 0).await
    }

    /// A tensor; without `content`, its description only.
    pub async fn tensor(
        &mut self,
        id: u32,
        tensor: MuxTensor,
        content: Option<(Ready, Range<u64>)>,
        timed: Timed,
    ) -> Result<(), Failure> {
        let Some((ready, range)) = content else {
            self.ended(&timed, 0);
            let more = false;
            return self.one(id, &MuxReply::Tensor { tensor, more }).await;
        };
        let bytes = range.end - range.start;
        let more = false;
        if let Ready::Here(entry) = &ready
            && let Some(small) = entry.in_slot(&range)
        {
            self.head(id, &MuxReply::Tensor { tensor, more }, bytes)
                .await?;
            self.out.copied(small).await?;
            self.ended(&timed, bytes);
            return Ok(());
        }
        let mut source = self.out.source(ready, range)?;
        if bytes >= GATHER_BELOW_BYTES {
            self.large.push_back(Large {
                id,
                tensor: Some(tensor),
                source,
                bytes,
                left: bytes,
                timed,
            });
            return Ok(());
        }
        self.head(id, &MuxReply::Tensor { tensor, more }, bytes)
            .await?;
        self.out.tensor(&mut source, bytes).await?;
        self.ended(&timed, bytes);
        Ok(())
    }

    /// The next chunk of the large reply whose turn it is, if there is one: of the first that has something at hand. Where
    /// `other` is done before there is any, gives what that came to instead.
    pub async fn chunk<T>(&mut self, other: impl Future<Output = T>) -> Result<Option<T>, Failure> {
        if self.large.is_empty() {
            return Ok(None);
        }
        // All of them are waited for: each may have what another one waits for.
        let more = self
            .large
            .iter_mut()
            .map(|large| large.source.more().boxed());
        let other = pin!(other);
        let first = select(other, select_all(more));
        let (more, at) = match self.out.waiting(first).await? {
            Either::Left((done, _)) => return Ok(Some(done)),
            Either::Right(((more, at, _), _)) => (more, at),
        };
        let Some(mut large) = self.large.remove(at) else {
            return Ok(None);
        };
        if let Err(error) = more {
            self.broken(large, error).await?;
            return Ok(None);
        }
        let bytes = large.left.min(MUX_CHUNK_BYTES).min(large.source.at_hand());
        large.left -= bytes;
        let more = large.left > 0;
        let reply = match large.tensor.take() {
            Some(tensor) => MuxReply::Tensor { tensor, more },
            None => MuxReply::More { more },
        };
        self.head(large.id, &reply, bytes).await?;
        self.out.tensor(&mut large.source, bytes).await?;
        if more {
            self.large.push_back(large);
        } else {
            self.ended(&large.timed, large.bytes);
        }
        Ok(None)
    }

    /// A reply whose bytes do not come any more. The others go on.
    async fn broken(&mut self, large: Large, error: Error) -> Result<(), Failure> {
        let ended = Ended {
            code: Some(error.code),
            ..Ended::default()
        };
        let Large { id, timed, .. } = large;
        timed.answered(self.service, ended, self.waited());
        self.one(id, &MuxReply::Failed(error)).await
    }

    /// Ends a reply that is being sent in chunks, or one that has not begun.
    pub async fn cancel(&mut self, id: u32, waiting: Option<Timed>) -> Result<(), Failure> {
        let large = self.large.iter().position(|large| large.id == id);
        let large = large.and_then(|at| self.large.remove(at));
        if let Some(timed) = waiting.or(large.map(|large| large.timed)) {
            let ended = Ended {
                code: Some(Code::Cancelled),
                ..Ended::default()
            };
            timed.answered(self.service, ended, self.waited());
        }
        let error = Error::new(Code::Cancelled, "cancelled, as was asked");
        self.one(id, &MuxReply::Failed(error)).await
    }

    /// Hands over what was written.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        self.written = false;
        self.out.flush().await
    }

    /// Resolves when the client has given up.
    pub async fn gone(&mut self) {
        self.out.gone().await;
    }

    /// A tensor was sent.
    fn ended(&self, timed: &Timed, bytes: u64) {
        let ended = Ended {
            bytes,
            ..Ended::default()
        };
        timed.answered(self.service, ended, self.waited());
    }

    async fn head(&mut self, id: u32, reply: &MuxReply, body: u64) -> Result<(), Failure> {
        self.header.clear();
        reply.encode(id, &mut self.header);
        let prefix = MuxPrefix::new(self.header.len(), body)?;
        self.head.clear();
        self.head.extend_from_slice(&prefix.front);
        self.head.extend_from_slice(&self.header);
        self.head.extend_from_slice(&prefix.back);
        // A reply alone gets a buffer of its size. Where one is followed by another, more will be:
        // they share a large one.
        let small = if body < GATHER_BELOW_BYTES { body } else { 0 };
        self.out.expect(if self.written {
            GATHER_BELOW_BYTES
        } else {
            self.head.len() as u64 + small
        });
        self.written = true;
        self.out.copied(&self.head).await
    }
}
