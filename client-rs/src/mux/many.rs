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

/// Requests under way, by their numbers: each has the place that its number gives, and waits for it.
struct UnderWay {
    places: Vec<Option<Asked>>,
    count: usize,
    bytes: usize,
}

pub(super) fn get<K: AsRef<str>>(
    stream: &mut Stream,
    keys: &[K],
    mut each: impl FnMut(usize, Result<(&MuxTensor, &[u8])>),
) -> Result<()> {
    let mut keys = keys.iter().enumerate();
    let mut under_way = UnderWay {
        places: (0..REQUESTS_MAX).map(|_| None).collect(),
        count: 0,
        bytes: 0,
    };
    let mut buffer = Vec::new();
    loop {
        if under_way.count <= REQUESTS_MAX / 2 {
            while under_way.has_room(stream.next_id())
                && let Some((at, key)) = keys.next()
            {
                let key = key.as_ref();
                let id = stream.ask(key, get_op(GetOptions::default()), &[])?;
                under_way.insert(id, at, key.len() + REQUEST_BYTES);
            }
        }
        if under_way.count == 0 {
            return Ok(());
        }
        let (id, reply) = stream.next_reply()?;
        let Some(asked) = under_way.at(id) else {
            return Err(stream.close(malformed("a reply to no request")));
        };
        let more = match reply {
            MuxReply::Tensor { tensor, more } if asked.begun.is_none() => {
                if more {
                    asked.begun = Some((tensor, Vec::new()));
                    asked.take(stream)?;
                } else {
                    buffer.resize(length(&tensor)?, 0);
                    whole(stream.read_body(&mut buffer)?, &tensor).map_err(|e| stream.close(e))?;
                    each(asked.at, Ok((&tensor, &buffer)));
                }
                more
            }
            MuxReply::More { more } => {
                asked.take(stream)?;
                if !more && let Some((tensor, bytes)) = &asked.begun {
                    whole(bytes.len(), tensor).map_err(|e| stream.close(e))?;
                    each(asked.at, Ok((tensor, bytes)));
                }
                more
            }
            MuxReply::Failed(error) => {
                stream.end_message()?;
                each(asked.at, Err(error));
                false
            }
            other => return Err(stream.unexpected(&other)),
        };
        if !more {
            under_way.remove(id);
        }
    }
}

impl UnderWay {
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

    fn at(&mut self, id: u32) -> Option<&mut Asked> {
        self.places[place(id)]
            .as_mut()
            .filter(|asked| asked.id == id)
    }

    fn remove(&mut self, id: u32) {
        if let Some(asked) = self.places[place(id)].take() {
            self.count -= 1;
            self.bytes -= asked.cost;
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
