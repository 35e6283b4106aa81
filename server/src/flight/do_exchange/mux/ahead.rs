//! Requests that have come and whose turn is not yet: what they will look up is fetched for all of them at once.

use bowstring_cache::ahead::AHEAD_MAX;
use bowstring_wire::mux::{MuxEvent, MuxMessages};
use bytes::Bytes;
use smallvec::SmallVec;

use super::request::Requests;

/// Requests without a body, and what came behind them.
#[derive(Default)]
pub struct Ahead {
    /// In reverse.
    headers: SmallVec<[Bytes; AHEAD_MAX]>,
    then: Option<MuxEvent>,
}

impl Ahead {
    /// What is next of them.
    pub fn next(&mut self) -> Option<MuxEvent> {
        match self.headers.pop() {
            Some(header) => Some(MuxEvent::Message { header, body: 0 }),
            None => self.then.take(),
        }
    }

    /// Takes the request of `header` and those behind it. There must be none before.
    pub fn fill(&mut self, header: Bytes, messages: &mut MuxMessages, requests: &Requests<'_>) {
        self.headers.push(header);
        while self.headers.len() < AHEAD_MAX {
            // An error is told when its turn comes: the reader of messages stays where it is.
            match messages.next_event() {
                Ok(Some(MuxEvent::Message { header, body: 0 })) => self.headers.push(header),
                Ok(event) => {
                    self.then = event;
                    break;
                }
                Err(_) => break,
            }
        }
        if self.headers.len() > 1 {
            requests.look_ahead(self.headers.iter().map(|header| &header[..]));
        }
        self.headers.reverse();
    }
}
