//! The `mux` exchange.
//!
//! Requests are taken in the order they come; all that came in one read is answered before
//! anything is sent. A small reply is copied into the answer at once. A large one is sent in chunks
//! that take turns with each other and with the small replies between them. While as many are under
//! way as may be, or the client does not read, no request is taken: the stream's window fills up.
//! What has to be loaded from below memory is answered when it is there, and nobody behind it waits for it.
//!
//! - `ahead`: requests that have come and whose turn is not yet
//! - `below`: gets of what memory has not
//! - `request`: what a request asks of the cache
//! - `put`: a tensor on its way in
//! - `replies`: messages on their way out
//! - `timed`: requests in the counters and the slow-request log

mod ahead;
mod below;
mod put;
mod replies;
mod request;
mod timed;

use bowstring_wire::error::{Error, Result};
use bowstring_wire::limits::MUX_LARGE_MAX;
use bowstring_wire::mux::{MuxEvent, MuxMessages, MuxReply, id_of};
use bowstring_wire::name::Namespace;
use bytes::Bytes;
use std::task::Poll;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::flight::authorize::Principal;
use crate::flight::client::Client;
use crate::flight::do_put::Messages;
use crate::flight::out::{Failure, Out};
use crate::flight::service::Service;
use crate::grpc::Responder;
use ahead::Ahead;
use below::{Below, Came};
use put::Receiving;
use replies::Replies;
use request::{Asked, Requests};
use timed::{Ended, Timed};

/// Answers requests until the client ends the stream or the server drains.
pub async fn run(
    service: &Service,
    principal: &Principal,
    client: Client,
    namespace: Namespace,
    frames: Messages<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let out = Out::new(service, respond, client, frames.counted(), 0);
    let mut mux = Mux {
        service,
        messages: MuxMessages::default(),
        ahead: Ahead::default(),
        frames,
        requests: Requests::new(service, principal, namespace),
        receiving: None,
        below: Below::new(service),
        replies: Replies::new(service, out),
        draining: service.draining(),
    };
    mux.skip_opening().await?;
    mux.answer().await
}

struct Mux<'a> {
    service: &'a Service,
    frames: Messages<'a>,
    messages: MuxMessages,
    ahead: Ahead,
    requests: Requests<'a>,
    /// The put whose body is coming.
    receiving: Option<(Box<Receiving>, Timed)>,
    below: Below<'a>,
    replies: Replies<'a>,
    draining: CancellationToken,
}

impl Mux<'_> {
    /// The rest of the first message, and what came behind it.
    async fn skip_opening(&mut self) -> Result<()> {
        self.messages = MuxMessages::new(self.frames.end_message().await?);
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        loop {
            let draining = self.draining.is_cancelled();
            let open = draining || self.take_requests().await?;
            self.below.begin(self.replies.under_way());
            if let Some(came) = self.replies.chunk(self.below.next()).await? {
                self.came(came).await?;
            }
            self.replies.flush().await?;
            if !self.replies.are_under_way() {
                if self.below.is_empty() {
                    if draining {
                        return Err(Failure::Refused(super::draining()));
                    }
                    if !open {
                        return Ok(self.messages.finish()?);
                    }
                }
                self.wait(open && !draining).await?;
            }
        }
    }

    /// Takes every request that is there; false at the end of the stream.
    async fn take_requests(&mut self) -> Result<bool, Failure> {
        while self.replies.under_way() < MUX_LARGE_MAX && self.below.has_room() {
            match self.next_event()? {
                Some(MuxEvent::Message { header, body }) => self.begin(&header, body).await?,
                Some(MuxEvent::Body(piece)) => self.body(&piece).await?,
                None => {
                    // A client that is quicker than we are must not keep this thread to itself.
                    tokio::task::coop::consume_budget().await;
                    match self.frames.frame_now().await? {
                        Poll::Ready(Some(frame)) => self.messages.push(frame),
                        Poll::Ready(None) => return Ok(false),
                        Poll::Pending => return Ok(true),
                    }
                }
            }
        }
        Ok(true)
    }

    fn next_event(&mut self) -> Result<Option<MuxEvent>> {
        if let Some(event) = self.ahead.next() {
            return Ok(Some(event));
        }
        match self.messages.next_event()? {
            Some(MuxEvent::Message { header, body: 0 }) => {
                self.ahead.fill(header, &mut self.messages, &self.requests);
                Ok(self.ahead.next())
            }
            event => Ok(event),
        }
    }

    /// Waits for what comes first: a load, or a request where `more` may come.
    async fn wait(&mut self, more: bool) -> Result<(), Failure> {
        // A put that has begun holds room: then its client may not be silent for long.
        self.frames.holds_room = self.receiving.is_some();
        let takes = more && self.below.has_room();
        let came = tokio::select! {
            biased;
            came = self.below.next() => came,
            frame = self.frames.frame(), if takes => {
                if let Some(frame) = frame? {
                    self.messages.push(frame);
                }
                return Ok(());
            }
            // Who has as many waiting as may be is not listened to.
            () = self.replies.gone(), if !takes => return Err(Failure::Gone),
            () = self.draining.cancelled(), if more => return Ok(()),
        };
        self.came(came).await
    }

    /// Answers gets that have waited.
    async fn came(&mut self, came: Vec<Came>) -> Result<(), Failure> {
        for Came { number, timed, hit } in came {
            match hit {
                Ok((tensor, content)) => {
                    self.replies
                        .tensor(number, tensor, Some(content), timed)
                        .await?;
                }
                Err(error) => self.failed(number, error, &timed, Duration::ZERO).await?,
            }
        }
        Ok(())
    }

    /// A message has begun. What is wrong with its request is the request's error, as far as it
    /// has a number.
    async fn begin(&mut self, header: &Bytes, body: u64) -> Result<(), Failure> {
        let id = id_of(header)?;
        if self.replies.is_under_way(id) || self.below.is_waiting(id) {
            return self.cancel_or_refuse(id, header).await;
        }
        let timed = Timed::now(
            self.service,
            header,
            self.requests.of(),
            self.replies.waited(),
        );
        match self.requests.answer(id, header, body).await {
            Ok(Asked::Entry(tensor, content)) => {
                self.replies.tensor(id, tensor, content, timed).await
            }
            Ok(Asked::Below(wanted)) => {
                self.below.ask(wanted, timed);
                Ok(())
            }
            Ok(Asked::Put(put)) if body == 0 => self.stored(put, &timed).await,
            Ok(Asked::Put(put)) => {
                self.receiving = Some((put, timed));
                Ok(())
            }
            Ok(Asked::Nothing) => Ok(()),
            Err(error) => self.failed(id, error, &timed, Duration::ZERO).await,
        }
    }

    async fn failed(
        &mut self,
        id: u32,
        error: Error,
        timed: &Timed,
        room: Duration,
    ) -> Result<(), Failure> {
        let code = Some(error.code);
        let ended = Ended {
            code,
            room,
            ..Ended::default()
        };
        timed.answered(self.service, ended, self.replies.waited());
        self.replies.one(id, &MuxReply::Failed(error)).await
    }

    /// The number of a reply that is under way, or waited for, can only be cancelled.
    async fn cancel_or_refuse(&mut self, id: u32, header: &[u8]) -> Result<(), Failure> {
        if !request::is_cancel(header) {
            return Err(Failure::Refused(Error::invalid(format!(
                "a request has the number of one whose reply is under way; id=`{id}`"
            ))));
        }
        let waiting = self.below.cancel(id);
        self.replies.cancel(id, waiting).await
    }

    /// The next piece of a message's body; that of no put, or of one that failed, is thrown away.
    async fn body(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let Some((mut put, timed)) = self.receiving.take() else {
            return Ok(());
        };
        match put.write(piece) {
            Ok(false) => {
                self.receiving = Some((put, timed));
                Ok(())
            }
            Ok(true) => self.stored(put, &timed).await,
            Err(error) => self.failed(put.id(), error, &timed, put.room()).await,
        }
    }

    async fn stored(&mut self, put: Box<Receiving>, timed: &Timed) -> Result<(), Failure> {
        let (id, room) = (put.id(), put.room());
        match put.publish().await {
            Ok(published) => {
                let ended = Ended {
                    room,
                    ..Ended::default()
                };
                timed.answered(self.service, ended, self.replies.waited());
                let reply = MuxReply::Stored {
                    version: published.version,
                    existed: published.existed,
                };
                self.replies.one(id, &reply).await
            }
            Err(error) => self.failed(id, error, timed, room).await,
        }
    }
}
