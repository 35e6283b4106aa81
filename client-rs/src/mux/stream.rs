//! The stream of an exchange: messages out and in.

use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::flight_data::encode_head_into;
use bowstring_wire::mux::{MuxHead, MuxOp, MuxPrefix, MuxReply, MuxTensor};
use bowstring_wire::name::Namespace;
use bytes::BytesMut;

use super::many::{self, Many};
use super::request;
use crate::address::Address;
use crate::connection::Options;
use crate::message::Message;
use crate::put::Descriptor;
use crate::transport::Transport;

const PATH: &str = "/arrow.flight.protocol.FlightService/DoExchange";

pub(super) struct Stream {
    transport: Transport,
    message: Message,
    next: u32,
    header: Vec<u8>,
    /// Requests that are not sent yet: one frame for all of them.
    batch: Vec<u8>,
    /// What `get_many` works with; `None` while it does, and before the first.
    pub(super) many: Option<Box<Many>>,
    /// Why no more requests are possible.
    closed: Option<Error>,
}

/// Bytes of a tensor.
pub(super) fn length(tensor: &MuxTensor) -> Result<usize> {
    usize::try_from(tensor.shape.bytes(tensor.dtype)?).map_err(|_| {
        Error::exhausted(format!(
            "the tensor is larger than this machine's memory, shape=`{}`",
            tensor.shape
        ))
    })
}

impl Stream {
    pub(super) fn open(address: &Address, namespace: &str, options: &Options) -> Result<Stream> {
        let namespace = Namespace::parse(namespace)?;
        let mut transport = Transport::connect(address, options.timeout)?;
        transport.begin(PATH)?;
        // The alphabet of namespaces needs no escapes.
        let command = format!("{{\"exchange\":\"mux\",\"namespace\":\"{namespace}\"}}");
        let descriptor = Descriptor::Command(command.as_bytes()).encode();
        let mut head = BytesMut::new();
        encode_head_into(&mut head, &descriptor, &[], &[], 0)?;
        transport.send(&[&head], false)?;
        Ok(Stream {
            transport,
            message: Message::default(),
            next: 1,
            header: Vec::new(),
            batch: Vec::new(),
            many: None,
            closed: None,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// The number that the next request will have.
    pub(super) fn next_id(&self) -> u32 {
        self.next
    }

    /// What `get_many` works with, to be put back.
    pub(super) fn take_many(&mut self) -> Result<Box<Many>> {
        match self.many.take() {
            Some(many) if many.is_idle() => Ok(many),
            None => Ok(Box::default()),
            begun => {
                self.many = begun;
                Err(many::begun())
            }
        }
    }

    /// Refuses what would read the replies of others.
    pub(super) fn check_idle(&self) -> Result<()> {
        match &self.many {
            Some(many) if !many.is_idle() => Err(many::begun()),
            _ => Ok(()),
        }
    }

    /// Sends a request, or leaves it to the next wait; its number.
    pub(super) fn ask(&mut self, key: &str, op: MuxOp, body: &[u8]) -> Result<u32> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let id = self.next;
        self.header.clear();
        request(id, key, op).encode(&mut self.header)?;
        let prefix = MuxPrefix::new(self.header.len(), body.len() as u64)?;
        self.next = self.next.wrapping_add(1);
        for part in [&prefix.front[..], &self.header, &prefix.back] {
            self.batch.extend_from_slice(part);
        }
        if !body.is_empty() {
            self.send(body)?;
        }
        Ok(id)
    }

    /// Sends the requests that were left, and `body` behind them.
    fn send(&mut self, body: &[u8]) -> Result<()> {
        // A server that has ended the stream says why where the reply would be.
        let sent = self.transport.send(&[&self.batch, body], false);
        self.batch.clear();
        sent.map(drop).map_err(|error| self.close(error))
    }

    /// The first message of the reply to the one request that is under way, and the bytes of its body.
    pub(super) fn reply(&mut self, id: u32) -> Result<(MuxReply, usize)> {
        let (of, reply) = self.next_reply()?;
        if of != id {
            return Err(self.close(malformed("a reply to no request")));
        }
        match reply {
            MuxReply::Failed(error) => {
                self.end_message()?;
                Err(error)
            }
            reply => {
                let body = self.message.body_left();
                if body == 0 {
                    self.end_message()?;
                }
                Ok((reply, body))
            }
        }
    }

    /// The header of the next message; its body is still to be read.
    pub(super) fn next_reply(&mut self) -> Result<(u32, MuxReply)> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if !self.batch.is_empty() {
            self.send(&[])?;
        }
        let read = match self.read_reply() {
            Err(error) if self.transport.has_ended() => self.transport.finish().and(Err(error)),
            read => read,
        };
        read.map_err(|error| self.close(error))
    }

    fn read_reply(&mut self) -> Result<(u32, MuxReply)> {
        let here = self.transport.peek()?;
        // Most often all of it is here, in the order in which our server writes it: then no byte is copied, nor read on
        // its own. What else it may be is for who reads field by field.
        if let Ok(Some(head)) = MuxHead::parse(here) {
            let reply = MuxReply::decode(&here[head.header])?;
            self.transport.consume(head.len);
            let body = usize::try_from(head.body).unwrap_or(usize::MAX);
            self.message.begin_body(body);
            return Ok(reply);
        }
        match self.message.next(&mut self.transport)? {
            true => MuxReply::decode(&self.message.app_metadata),
            false => Err(self.ended()),
        }
    }

    /// The current message's body where it is here in one piece; [`Stream::end_message`] passes over it.
    pub(super) fn body_here(&self) -> Option<&[u8]> {
        self.message.body_here(&self.transport)
    }

    /// Sends what was asked, without waiting for anything.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.send(&[])?;
        let sent = self.transport.flush();
        sent.map_err(|error| self.close(error))
    }

    /// Bytes of the current message's body.
    pub(super) fn body(&self) -> usize {
        self.message.body_left()
    }

    /// Reads the body of the current message to the front of `into`; how much it was.
    pub(super) fn read_body(&mut self, into: &mut [u8]) -> Result<usize> {
        let body = self.message.body_left();
        let Some(piece) = into.get_mut(..body) else {
            return Err(self.close(malformed("more bytes than the shape says")));
        };
        let read = self.message.read_body(&mut self.transport, piece);
        read.map_err(|error| self.close(error))?;
        self.end_message()?;
        Ok(body)
    }

    /// Fills `into` with the current message's body and those of the messages that follow for `id`.
    pub(super) fn fill(&mut self, id: u32, into: &mut [u8], mut more: bool) -> Result<()> {
        let mut filled = self.read_body(into)?;
        while more {
            match self.next_reply()? {
                (of, MuxReply::More { more: again }) if of == id => more = again,
                (of, MuxReply::Failed(error)) if of == id => {
                    self.end_message()?;
                    return Err(error);
                }
                _ => return Err(self.close(malformed("a reply to no request"))),
            }
            filled += self.read_body(&mut into[filled..])?;
        }
        if filled < into.len() {
            return Err(self.close(malformed("fewer bytes than the shape says")));
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        self.transport.send(&[], true)?;
        self.transport.finish()
    }

    pub(super) fn end_message(&mut self) -> Result<()> {
        let ended = self.message.end(&mut self.transport);
        ended.map_err(|error| self.close(error))
    }

    pub(super) fn unexpected(&mut self, reply: &MuxReply) -> Error {
        let what = match reply {
            MuxReply::Tensor { .. } => "a tensor where none was asked for",
            MuxReply::More { .. } => "more of a tensor before its beginning",
            MuxReply::Stored { .. } => "a put's outcome where none was asked for",
            MuxReply::Failed(_) => "an error where none can be",
        };
        self.close(malformed(what))
    }

    /// How the stream ended. In good order it ends only when we end it.
    fn ended(&mut self) -> Error {
        match self.transport.finish() {
            Err(error) => error,
            Ok(()) => Error::new(Code::Unavailable, "the server ended the exchange"),
        }
    }

    pub(super) fn close(&mut self, error: Error) -> Error {
        self.closed.get_or_insert(error).clone()
    }
}

pub(super) fn malformed(what: &str) -> Error {
    Error::new(
        Code::Internal,
        format!("the server's exchange is malformed: {what}"),
    )
}
