//! Many gets, with requests under way while replies are read.

use bowstring_wire::error::{Error, Result};
use bowstring_wire::mux::{MuxReply, MuxTensor};

use super::stream::{Stream, length, malformed};
use super::{GetOptions, get_op};

/// Requests under way, at most: two batches, so that the server has one while we read the other's replies.
const REQUESTS_MAX: usize = 64;
/// Their bytes, at most. Within half of the window that every server grants, so that sending never waits: it would keep the
/// replies, which we do not read meanwhile, from coming.
const BYTES_MAX: usize = 24 << 10;
/// What a request takes beside its key.
const REQUEST_BYTES: usize = 40;

/// A request under way.
struct Asked {
    id: u32,
    /// Which key.
    at: usize,
    /// Bytes of the request.
    cost: usize,
    /// What has come of a tensor that comes in pieces.
    begun: Option<(MuxTensor, Vec<u8>)>,
}

/// Requests under way, by their numbers: each has the place that its number gives, and waits for it. Kept from call to call,
/// with its memory.
pub(super) struct Many {
    places: Vec<Option<Asked>>,
    count: usize,
    bytes: usize,
    /// Keys that [`begin`] has asked for.
    begun: usize,
    /// A tensor that did not come in one piece.
    buffer: Vec<u8>,
}

/// Asks for the first of these keys, as many as may be under way.
pub(super) fn begin<K: AsRef<str>>(stream: &mut Stream, keys: &[K]) -> Result<()> {
    let mut many = stream.take_many()?;
    many.ask(stream, &mut keys.iter().enumerate())?;
    many.begun = many.count;
    stream.many = Some(many);
    stream.flush()
}

/// Asks for the rest of the keys, and reads the replies.
pub(super) fn get<K: AsRef<str>>(
    stream: &mut Stream,
    keys: &[K],
    each: impl FnMut(usize, Result<(&MuxTensor, &[u8])>),
) -> Result<()> {
    let mut many = match stream.many.take() {
        Some(many) if many.begun <= keys.len() => many,
        Some(many) => {
            stream.many = Some(many);
            return Err(begun());
        }
        None => Box::default(),
    };
    many.finish(stream, keys, each)?;
    many.begun = 0;
    // After an error it is gone: replies that still come are to no request, which closes the stream.
    stream.many = Some(many);
    Ok(())
}

/// What a caller is told whose request would be mistaken for one of those that were begun.
pub(super) fn begun() -> Error {
    Error::invalid(
        "gets were begun on this exchange and not read; expected get_many with the same keys",
    )
}

impl Many {
    /// Whether nothing was begun that is still to be read.
    pub(super) fn is_idle(&self) -> bool {
        self.begun == 0
    }

    fn ask<'k, K: AsRef<str> + 'k>(
        &mut self,
        stream: &mut Stream,
        keys: &mut impl Iterator<Item = (usize, &'k K)>,
    ) -> Result<()> {
        while self.has_room(stream.next_id())
            && let Some((at, key)) = keys.next()
        {
            let key = key.as_ref();
            let id = stream.ask(key, get_op(GetOptions::default()), &[])?;
            self.insert(id, at, key.len() + REQUEST_BYTES);
        }
        Ok(())
    }

    fn finish<K: AsRef<str>>(
        &mut self,
        stream: &mut Stream,
        keys: &[K],
        mut each: impl FnMut(usize, Result<(&MuxTensor, &[u8])>),
    ) -> Result<()> {
        let mut keys = keys.iter().enumerate().skip(self.begun);
        loop {
            if self.count <= REQUESTS_MAX / 2 {
                self.ask(stream, &mut keys)?;
            }
            if self.count == 0 {
                return Ok(());
            }
            let (id, reply) = stream.next_reply()?;
            if !self.reply(stream, id, reply, &mut each)? {
                self.remove(id);
            }
        }
    }

    /// Reads one message of a reply; whether another follows.
    fn reply(
        &mut self,
        stream: &mut Stream,
        id: u32,
        reply: MuxReply,
        each: &mut impl FnMut(usize, Result<(&MuxTensor, &[u8])>),
    ) -> Result<bool> {
        let Some(asked) = self.places[place(id)].as_mut().filter(|a| a.id == id) else {
            return Err(stream.close(malformed("a reply to no request")));
        };
        match reply {
            MuxReply::Tensor { tensor, more } if asked.begun.is_none() => {
                if more {
                    asked.begun = Some((tensor, Vec::new()));
                    asked.take(stream)?;
                } else if let Some(bytes) = stream.body_here() {
                    match whole(bytes.len(), &tensor) {
                        Ok(()) => each(asked.at, Ok((&tensor, bytes))),
                        Err(error) => return Err(stream.close(error)),
                    }
                    stream.end_message()?;
                } else {
                    self.buffer.resize(length(&tensor)?, 0);
                    let read = stream.read_body(&mut self.buffer)?;
                    whole(read, &tensor).map_err(|error| stream.close(error))?;
                    each(asked.at, Ok((&tensor, &self.buffer)));
                }
                Ok(more)
            }
            MuxReply::More { more } => {
                asked.take(stream)?;
                if !more && let Some((tensor, bytes)) = &asked.begun {
                    whole(bytes.len(), tensor).map_err(|error| stream.close(error))?;
                    each(asked.at, Ok((tensor, bytes)));
                }
                Ok(more)
            }
            MuxReply::Failed(error) => {
                stream.end_message()?;
                each(asked.at, Err(error));
                Ok(false)
            }
            other => Err(stream.unexpected(&other)),
        }
    }

    fn has_room(&self, id: u32) -> bool {
        self.bytes <= BYTES_MAX && self.places[place(id)].is_none()
    }

    fn insert(&mut self, id: u32, at: usize, cost: usize) {
        self.count += 1;
        self.bytes += cost;
        let begun = None;
        self.places[place(id)] = Some(Asked {
            id,
            at,
            cost,
            begun,
        });
    }

    fn remove(&mut self, id: u32) {
        if let Some(asked) = self.places[place(id)].take() {
            self.count -= 1;
            self.bytes -= asked.cost;
        }
    }
}

impl Default for Many {
    fn default() -> Self {
        Self {
            places: (0..REQUESTS_MAX).map(|_| None).collect(),
            count: 0,
            bytes: 0,
            begun: 0,
            buffer: Vec::new(),
        }
    }
}

fn place(id: u32) -> usize {
    id as usize % REQUESTS_MAX
}

impl Asked {
    /// Takes the current message's body. Room grows with what comes, not with what was announced.
    fn take(&mut self, stream: &mut Stream) -> Result<()> {
        let Some((tensor, bytes)) = &mut self.begun else {
            return Err(stream.close(malformed("more of a tensor before its beginning")));
        };
        let (have, more) = (bytes.len(), stream.body());
        if more > length(tensor)? - have {
            return Err(stream.close(malformed("more bytes than the shape says")));
        }
        bytes.resize(have + more, 0);
        stream.read_body(&mut bytes[have..]).map(drop)
    }
}

fn whole(bytes: usize, tensor: &MuxTensor) -> Result<(), Error> {
    if bytes == length(tensor)? {
        return Ok(());
    }
    Err(malformed("fewer bytes than the shape says"))
}
