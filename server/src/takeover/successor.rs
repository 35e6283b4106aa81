//! The one that comes: it asks for what is there, and takes over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_cache::handover::FORMAT;

use super::channel::{Channel, Message};
use super::message::{Hello, Kind, Offer, Use};
use super::{ANSWER_WAIT, HANDED_WAIT};

/// Regions that are taken over, at most: a terabyte of the smallest of a cache so large.
pub const REGIONS_MAX: usize = 1 << 16;

/// A predecessor was there, and has offered its addresses.
pub struct Heir {
    channel: Channel,
    clock: Arc<dyn Clock>,
    takes_memory: bool,
    sockets: Vec<(Use, String, OwnedFd)>,
}

/// What a predecessor leaves.
pub struct Legacy {
    /// The regions' files, in order, of which it may still change what is in them; `None` where it knew another format, or has
    /// died.
    pub regions: Option<Vec<Option<OwnedFd>>>,
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

    /// Says that it could start, and receives the regions. A predecessor that dies meanwhile leaves nothing.
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
            Ok(()) if takes_memory => regions(&channel, &clock).await.map(Some),
            Ok(()) => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Legacy {
            regions: unless_gone(received)?.flatten(),
            channel,
            clock,
        })
    }
}

impl Legacy {
    /// Says that the regions are mapped, has the predecessor stop, and gives what it says is in them, which it may still be
    /// writing; `None` where it has died.
    ///
    /// # Errors
    /// Where it goes on instead.
    pub async fn snapshot(&self) -> io::Result<Option<UnixStream>> {
        let Self { channel, clock, .. } = self;
        let received = async {
            channel.send(Kind::Mapped, b"", &[]).await?;
            expect(receive(channel, clock, HANDED_WAIT).await?, Kind::Snapshot)
        };
        let Some(message) = unless_gone(received.await)? else {
            return Ok(None);
        };
        let mut files = message.files.into_iter();
        let snapshot = UnixStream::from(files.next().ok_or_else(|| wrong("no snapshot"))?);
        snapshot.set_read_timeout(Some(HANDED_WAIT))?;
        Ok(Some(snapshot))
    }

    /// What it left could not be taken over. True where it has died meanwhile, so that somebody has to begin with nothing.
    ///
    /// # Errors
    /// Where it goes on instead.
    pub async fn has_died(&self) -> io::Result<bool> {
        match receive(&self.channel, &self.clock, ANSWER_WAIT).await {
            Err(error) if is_gone(&error) => {
                tracing::warn!("the server before this one has died before it had handed all over");
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            answer => expect(answer?, Kind::Yours).map(|_| false),
        }
    }

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

async fn regions(channel: &Channel, clock: &Arc<dyn Clock>) -> io::Result<Vec<Option<OwnedFd>>> {
    let mut regions = Vec::new();
    loop {
        let message = receive(channel, clock, HANDED_WAIT).await?;
        if message.kind != Kind::Regions {
            return expect(message, Kind::Ahead).map(|_| regions);
        }
        let mut files = message.files.into_iter();
        for is_there in message.body {
            let file = (is_there == 1).then(|| files.next());
            regions.push(match file {
                Some(None) => return Err(wrong("a region without its file")),
                Some(file) => file,
                None => None,
            });
        }
        if regions.len() > REGIONS_MAX {
            return Err(wrong("too many regions"));
        }
    }
}

/// `None` where the other one is no more.
fn unless_gone<T>(received: io::Result<T>) -> io::Result<Option<T>> {
    match received {
        Err(error) if is_gone(&error) => {
            tracing::warn!("the server before this one has died before it had handed all over");
            Ok(None)
        }
        received => received.map(Some),
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
