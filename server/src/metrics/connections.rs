//! Who is connected: counted by transport, and listed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::{Inner, Metrics, Text};
use crate::conn::ConnHandle;
use crate::listener::Peer;

const TRANSPORTS: [&str; 2] = ["tcp", "unix"];

/// A connection that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Counts from 1 since the start.
    pub id: u64,
    /// `tcp` or `unix`.
    pub transport: &'static str,
    /// `HOST:PORT`, or which user's which process it is.
    pub peer: String,
    /// Since when, in Unix milliseconds.
    pub opened_at_ms: u64,
    /// Requests that are being answered.
    pub requests: u64,
    /// Bytes that its socket has taken.
    pub sent_bytes: u64,
}

impl Metrics {
    /// Counts and lists a connection from now until the guard is dropped.
    pub fn connected(&self, conn: &Arc<ConnHandle>) -> Connection {
        let connections = &self.0.connections;
        let transport = connections.of(conn.peer());
        transport.opened.fetch_add(1, Relaxed);
        transport.open.fetch_add(1, Relaxed);
        let mut listed = connections.listed.lock();
        listed.last += 1;
        let (id, conn) = (listed.last, Arc::clone(conn));
        let opened_at_ms = self.0.clock.now_ms();
        listed.open.insert(id, Listed { opened_at_ms, conn });
        Connection {
            inner: self.0.clone(),
            id,
        }
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        let open = self.0.connections.by_transport.iter();
        let open = open.map(|it| it.open.load(Relaxed));
        u64::try_from(open.sum::<i64>()).unwrap_or(0)
    }

    /// Each of them, in the order in which they came.
    pub fn connected_now(&self) -> Vec<Connected> {
        let listed = self.0.connections.listed.lock();
        let open = listed.open.iter();
        open.map(|(id, listed)| listed.told(*id)).collect()
    }
}

/// One open connection, counted and listed.
#[must_use]
pub struct Connection {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let connections = &self.inner.connections;
        let gone = connections.listed.lock().open.remove(&self.id);
        // Its end may wake others: not under the lock.
        if let Some(gone) = gone {
            connections.of(gone.conn.peer()).open.fetch_sub(1, Relaxed);
        }
    }
}

#[derive(Default)]
pub(super) struct Connections {
    by_transport: [PerTransport; TRANSPORTS.len()],
    listed: Mutex<List>,
}

#[derive(Default)]
struct PerTransport {
    opened: AtomicU64,
    open: AtomicI64,
}

/// As many as there may be connections, in a part of what each is charged for anyway.
#[derive(Default)]
struct List {
    last: u64,
    open: BTreeMap<u64, Listed>,
}

struct Listed {
    opened_at_ms: u64,
    conn: Arc<ConnHandle>,
}

impl Connections {
    fn of(&self, peer: &Peer) -> &PerTransport {
        &self.by_transport[transport(peer)]
    }

    pub(super) fn render(&self, text: &mut Text) {
        let transports = || TRANSPORTS.iter().zip(&self.by_transport);
        let mut family = text.gauge("bowstring_connections", "Open connections.");
        for (name, transport) in transports() {
            family.labelled(&[("transport", name)], transport.open.load(Relaxed));
        }
        let mut family = text.counter("bowstring_connections_opened_total", "Connections taken.");
        for (name, transport) in transports() {
            family.labelled(&[("transport", name)], transport.opened.load(Relaxed));
        }
    }
}

impl Listed {
    fn told(&self, id: u64) -> Connected {
        let peer = self.conn.peer();
        Connected {
            id,
            transport: TRANSPORTS[transport(peer)],
            peer: peer.to_string(),
            opened_at_ms: self.opened_at_ms,
            requests: self.conn.calls() as u64,
            sent_bytes: self.conn.written_bytes(),
        }
    }
}

fn transport(peer: &Peer) -> usize {
    usize::from(matches!(peer, Peer::Unix { .. }))
}
