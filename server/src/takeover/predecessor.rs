//! The one that is there: it listens for a successor, and hands over.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cache::clock::Clock;
use bowstring_cache::handover::{Exported, FORMAT};
use bowstring_cold::tier::Cold;
use tokio::net::UnixListener;

use super::channel::{Channel, FILES_MAX, Message};
use super::message::{Hello, Kind, Offer, Use};
use super::{ANSWER_WAIT, BEGIN_WAIT, END_WAIT, MAPPED_WAIT, MINE_WAIT};
use crate::listener::Listener;

/// Where a successor knocks.
pub struct Door {
    listener: Listener,
    clock: Arc<dyn Clock>,
}

/// A successor that could start, and waits for what it is to have.
pub struct Asked {
    channel: Channel,
    /// Whether it knows our format of memory.
    pub takes_memory: bool,
    /// Its release.
    pub release: String,
}

/// What is handed over.
#[derive(Clone, Copy)]
pub struct Estate<'a> {
    /// Memory.
    pub cache: &'a Cache,
    /// The tier below it.
    pub cold: Option<&'a Cold>,
    /// Time.
    pub clock: &'a Arc<dyn Clock>,
}

/// The successor has it all. Its channel is open until the process ends.
#[must_use]
pub struct HandedOver {
    /// What it has.
    pub exported: Exported,
    /// Entries that were on their way to the cold tier, and are lost.
    pub unwritten: u64,
    _channel: Channel,
}

impl Door {
    /// Listens on `path`, for processes of the same user.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = Listener::bind(&format!("unix:{}", path.display())).await?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, clock })
    }

    /// The next successor that could start with these sockets.
    pub async fn next(&self, sockets: &[(Use, String, BorrowedFd<'_>)]) -> Asked {
        loop {
            match self.try_next(sockets).await {
                Ok(asked) => return asked,
                Err(error) => {
                    tracing::warn!(%error, "somebody asked to take over and did not go on; we do");
                    self.clock.sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Leaves the socket's file, which is the successor's to replace.
    pub fn keep_file(&self) {
        self.listener.keep_file();
    }

    async fn try_next(&self, sockets: &[(Use, String, BorrowedFd<'_>)]) -> io::Result<Asked> {
        let Listener::Unix(listener, _) = &self.listener else {
            return std::future::pending().await;
        };
        let channel = Channel::new(accept(listener).await?)?;
        let hello = self.receive(&channel, Kind::Hello, ANSWER_WAIT).await?;
        let hello = Hello::decode(&hello.body)?;
        let offer = Offer {
            format: FORMAT,
            release: Hello::ours().release,
            sockets: sockets
                .iter()
                .map(|(used, address, _)| (*used, address.clone()))
                .collect(),
        };
        let files: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, _, socket)| *socket).collect();
        channel.send(Kind::Offer, &offer.encode(), &files).await?;
        self.receive(&channel, Kind::Begin, BEGIN_WAIT).await?;
        Ok(Asked {
            channel,
            takes_memory: hello.format == FORMAT,
            release: hello.release,
        })
    }

    async fn receive(&self, channel: &Channel, kind: Kind, wait: Duration) -> io::Result<Message> {
        receive(channel, kind, &self.clock, wait).await
    }
}

async fn accept(listener: &UnixListener) -> io::Result<tokio::net::UnixStream> {
    listener.accept().await.map(|(stream, _)| stream)
}

impl Asked {
    /// Gives it the regions, to be mapped while everybody is being served.
    ///
    /// # Errors
    /// Where it is not ready to have them, or is no more: nothing has changed then.
    pub async fn prepare(&self, estate: Estate<'_>) -> io::Result<()> {
        let Estate { cache, cold, clock } = estate;
        cache.set_regions_fixed(true);
        if let Err(error) = self.pass_regions(cache, clock).await {
            cache.set_regions_fixed(false);
            self.refuse(&error.to_string()).await;
            return Err(error);
        }
        if let Some(cold) = cold {
            // What is written down now, nobody has to wait for later.
            cold.pass_on(clock.monotonic() + END_WAIT).await;
        }
        Ok(())
    }

    /// Hands memory over. Nobody is being served.
    ///
    /// # Errors
    /// Where the successor is not ready to have it, or is no more: nothing has changed then.
    pub async fn hand_over(self, estate: Estate<'_>) -> io::Result<HandedOver> {
        let Estate { cache, cold, clock } = estate;
        // First, so that nothing more is handed down.
        cache.set_frozen(true);
        let unwritten = match cold {
            Some(cold) => cold.pass_on(clock.monotonic() + END_WAIT).await,
            None => 0,
        };
        match self.pass(cache, clock).await {
            Ok(exported) => Ok(HandedOver {
                exported,
                unwritten,
                _channel: self.channel,
            }),
            Err(error) => {
                cache.set_regions_fixed(false);
                cache.set_frozen(false);
                self.refuse(&error.to_string()).await;
                Err(error)
            }
        }
    }

    /// Says that it is not to be, because calls could not be ended.
    pub async fn calls_go_on(&self, estate: Estate<'_>) -> io::Error {
        estate.cache.set_regions_fixed(false);
        let why = "calls under way could not be ended";
        self.refuse(why).await;
        io::Error::other(why)
    }

    /// Says that it is not to be.
    pub async fn refuse(&self, why: &str) {
        // It may have gone.
        let _ = self.channel.send(Kind::No, why.as_bytes(), &[]).await;
    }

    /// To one that takes addresses only: it may serve as soon as we have ended. The channel is open until then.
    ///
    /// # Errors
    /// Where it has gone.
    pub async fn pass_addresses(&self) -> io::Result<()> {
        self.channel.send(Kind::Yours, b"", &[]).await
    }

    async fn pass_regions(&self, cache: &Cache, clock: &Arc<dyn Clock>) -> io::Result<()> {
        let regions = cache.region_files()?;
        for some in regions.chunks(FILES_MAX) {
            let there: Vec<u8> = some.iter().map(|file| u8::from(file.is_some())).collect();
            let files: Vec<BorrowedFd<'_>> =
                some.iter().flatten().map(|file| file.as_fd()).collect();
            self.channel.send(Kind::Regions, &there, &files).await?;
        }
        self.channel.send(Kind::Ahead, b"", &[]).await?;
        receive(&self.channel, Kind::Mapped, clock, MAPPED_WAIT).await?;
        Ok(())
    }

    async fn pass(&self, cache: &Cache, clock: &Arc<dyn Clock>) -> io::Result<Exported> {
        // It is read while it is being written.
        let (out, snapshot) = UnixStream::pair()?;
        out.set_write_timeout(Some(MINE_WAIT))?;
        let files = [snapshot.as_fd()];
        self.channel.send(Kind::Snapshot, b"", &files).await?;
        drop(snapshot);
        let writing = cache.clone();
        let written = tokio::task::spawn_blocking(move || writing.export(&out));
        let exported = written.await.map_err(io::Error::other)??;
        receive(&self.channel, Kind::Mine, clock, MINE_WAIT).await?;
        self.channel.send(Kind::Yours, b"", &[]).await?;
        Ok(exported)
    }
}

async fn receive(
    channel: &Channel,
    kind: Kind,
    clock: &Arc<dyn Clock>,
    wait: Duration,
) -> io::Result<Message> {
    let message = tokio::select! {
        message = channel.receive() => message?,
        () = clock.sleep(wait) => return Err(io::ErrorKind::TimedOut.into()),
    };
    if message.kind != kind {
        let what = format!(
            "a message out of turn; got=`{:?}` expected=`{kind:?}`",
            message.kind
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(message)
}
