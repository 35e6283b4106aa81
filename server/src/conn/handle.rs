//! What a call may ask of the connection it came over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::listener::Peer;
use crate::shutdown::Running;

/// Shared by a connection's task and the calls on it.
#[derive(Debug)]
pub struct ConnHandle {
    peer: Peer,
    calls: AtomicUsize,
    uploads: AtomicUsize,
    window_changed: Notify,
    killed: CancellationToken,
    written: Arc<AtomicU64>,
    _running: Running,
}

/// A call on a connection, for as long as it lasts.
#[derive(Debug)]
pub struct CallOn {
    conn: Arc<ConnHandle>,
    number: usize,
}

/// While one is held the connection's window is wide, as far as the wire account allows.
#[derive(Debug)]
pub struct Upload(Arc<ConnHandle>);

impl ConnHandle {
    /// For a connection from `peer`. It is `running` until its last call is over, too.
    pub fn new(peer: Peer, running: Running) -> Arc<Self> {
        Arc::new(Self {
            peer,
            calls: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            window_changed: Notify::new(),
            killed: CancellationToken::new(),
            written: Arc::default(),
            _running: running,
        })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A call has begun.
    pub fn call(self: &Arc<Self>) -> CallOn {
        let number = self.calls.fetch_add(1, Ordering::AcqRel);
        CallOn {
            conn: self.clone(),
            number,
        }
    }

    /// Calls that are under way.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// A put has begun whose body will be large.
    pub fn upload(self: &Arc<Self>) -> Upload {
        if self.uploads.fetch_add(1, Ordering::AcqRel) == 0 {
            self.window_changed.notify_one();
        }
        Upload(self.clone())
    }

    /// Whether a put is under way.
    pub fn is_uploading(&self) -> bool {
        self.uploads.load(Ordering::Acquire) > 0
    }

    /// Resolves when [`ConnHandle::is_uploading`] may have changed.
    pub async fn window_changed(&self) {
        self.window_changed.notified().await;
    }

    /// Bytes that the socket has taken so far.
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Where its socket counts them.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        self.written.clone()
    }

    /// Closes the connection at once: for a peer whose socket is stuck.
    pub fn kill(&self) {
        self.killed.cancel();
    }

    /// Resolves when the connection is to be closed at once.
    pub async fn killed(&self) {
        self.killed.cancelled().await;
    }
}

impl CallOn {
    /// How many were there when this one began.
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Drop for CallOn {
    fn drop(&mut self) {
        self.conn.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.0.uploads.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.window_changed.notify_one();
        }
    }
}
