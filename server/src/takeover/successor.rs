//! The one that comes: it asks for what is there, and takes over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_cache::handover::{FORMAT, Handed};

use super::channel::{Channel, Message};
use super::message::{Hello, Kind, Offer, Use};
use super::{ANSWER_WAIT, HANDED_WAIT};

/// Regions that are taken over, at most: a terabyte of the smallest of a cache so large.
const REGIONS_MAX: usize = 1 << 16;

/// A predecessor was there, and has offered its addresses.
pub struct Heir {
    channel: Channel,
    clock: Arc<dyn Clock>,
    takes_memory: bool,
    sockets: Vec<(Use, String, OwnedFd)>,
}

/// What a predecessor leaves.
pub struct Legacy {
    /// Its memory; `None` where it knew another format, or has died before it could say what is there.
    pub handed: Option<Handed>,
    channel: Channel,
    clock: Arc<dyn Clock>,
}

impl Heir {
    /// Asks who listens on `path`; `None` where nobody does.
    ///
    /// # Errors
    /// Where it is not a server of ours, or of another user.
    pub async fn ask(path: &Path, clock: Arc<dyn Clock>) -> io::Result<Option<Self>> {
        let Some(channel) = Channel::connect(path).await? else {
            return Ok(None);
        };
        let hello = Hello::ours().encode();
        // One that ends at this moment is as if it had never been.
        let answer = match channel.send(Kind::Hello, &hello, &[]).await {
            Ok(()) => receive(&channel, &clock, ANSWER_WAIT).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Err(error) if is_gone(&error) => return Ok(None),
            answer => expect(answer?, Kind::Offer)?,
        };
        let offer = Offer::decode(&answer.body)?;
        if offer.sockets.len() != answer.files.len() {
            return Err(wrong("an offer without its sockets"));
        }
        let takes_memory = offer.format == FORMAT;
        if !takes_memory {
            tracing::warn!(
                format = offer.format,
                expected = FORMAT,
                release = offer.release,
                "the server before this one keeps its memory in another format: only its addresses are taken over"
            );
        }
        let sockets = offer.sockets.into_iter().zip(answer.files);
        Ok(Some(Self {
            channel,
            clock,
            takes_memory,
            sockets: sockets
                .map(|((used, address), socket)| (used, address, socket))
                .collect(),
        }))
    }

    /// The predecessor's socket of this address, once.
    pub fn flight(&mut self, address: &str) -> Option<OwnedFd> {
        self.socket(Use::Flight, address)
    }

    /// As [`Heir::flight`], for HTTP.
    pub fn http(&mut self, address: &str) -> Option<OwnedFd> {
        self.socket(Use::Http, address)
    }

    fn socket(&mut self, used: Use, address: &str) -> Option<OwnedFd> {
        let mut sockets = self.sockets.iter();
        let at = sockets.position(|(of, at, _)| *of == used && at == address)?;
        Some(self.sockets.remove(at).2)
    }

    /// Has the predecessor stop, and receives what it leaves. One that dies meanwhile leaves nothing.
    ///
    /// # Errors
    /// Where it goes on instead.
    pub async fn inherit(self) -> io::Result<Legacy> {
        let Self {
            channel,
            clock,
            takes_memory,
            ..
        } = self;
        let received = match channel.send(Kind::Begin, b"", &[]).await {
            Ok(()) if takes_memory => handed(&channel, &clock).await.map(Some),
            Ok(()) => Ok(None),
            Err(error) => Err(error),
        };
        let handed = match received {
            Err(error) if is_gone(&error) => {
                tracing::warn!(
                    "the server before this one has died before it had handed anything over"
                );
                None
            }
            received => received?,
        };
        Ok(Legacy {
            handed,
            channel,
            clock,
        })
    }
}

impl Legacy {
    /// Says that memory was taken over, where it was, and waits until the predecessor is no more.
    ///
    /// # Errors
    /// Where it goes on instead.
    pub async fn accept(self, took_memory: bool) -> io::Result<()> {
        let Self { channel, clock, .. } = self;
        if took_memory && channel.send(Kind::Mine, b"", &[]).await.is_err() {
            // It may have said why not.
        }
        let answer = match receive(&channel, &clock, HANDED_WAIT).await {
            // What it has said before it died was all there is.
            Err(error) if is_gone(&error) => return Ok(()),
            answer => answer?,
        };
        expect(answer, Kind::Yours)?;
        tokio::select! {
            () = channel.closed() => Ok(()),
            () = clock.sleep(HANDED_WAIT) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server before this one does not end",
            )),
        }
    }
}

async fn handed(channel: &Channel, clock: &Arc<dyn Clock>) -> io::Result<Handed> {
    let mut regions = Vec::new();
    loop {
        let message = receive(channel, clock, HANDED_WAIT).await?;
        if message.kind == Kind::Regions {
            let mut files = message.files.into_iter();
            for is_there in message.body {
                regions.push(if is_there == 1 {
                    Some(
                        files
                            .next()
                            .ok_or_else(|| wrong("a region without its file"))?,
                    )
                } else {
                    None
                });
            }
            if regions.len() > REGIONS_MAX {
                return Err(wrong("too many regions"));
            }
            continue;
        }
        let mut files = expect(message, Kind::Snapshot)?.files.into_iter();
        let snapshot = files.next().ok_or_else(|| wrong("no snapshot"))?;
        let opened =
            tokio::task::spawn_blocking(move || Handed::open(File::from(snapshot), regions));
        return opened.await.map_err(io::Error::other)?;
    }
}

/// Whether the other one is no more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

async fn receive(channel: &Channel, clock: &Arc<dyn Clock>, wait: Duration) -> io::Result<Message> {
    tokio::select! {
        message = channel.receive() => message,
        () = clock.sleep(wait) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the server before this one does not answer",
        )),
    }
}

fn expect(message: Message, kind: Kind) -> io::Result<Message> {
    match message.kind {
        got if got == kind => Ok(message),
        Kind::No => Err(io::Error::other(format!(
            "the server before this one goes on: {}",
            String::from_utf8_lossy(&message.body)
        ))),
        got => Err(wrong(&format!(
            "a message out of turn; got=`{got:?}` expected=`{kind:?}`"
        ))),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
