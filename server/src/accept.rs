//! The accept loop: which connections are taken, and their end.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ledger::Account;
use tokio::sync::Semaphore;

use crate::conn::{self, ConnLimits, End, GUARANTEED_BYTES, HalfOpen, Host};
use crate::flight::Service;
use crate::listener::{Listener, Peer, Socket};
use crate::metrics::Refusal;
use crate::shutdown::Shutdown;

/// Connections that may be greeting us at one time; the oldest gives way.
const HALF_OPEN_MAX: usize = 128;
/// After a failed `accept` (out of descriptors, say) the loop pauses, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `listeners` until the drain starts; each connection then ends in its own time.
pub async fn serve(
    listeners: Vec<Listener>,
    service: Service,
    limits: ConnLimits,
    connections_max: usize,
    shutdown: Shutdown,
) {
    let acceptor = Acceptor {
        service: service.clone(),
        limits,
        half_open: HalfOpen::new(HALF_OPEN_MAX),
        places: Arc::new(Semaphore::new(connections_max)),
        shutdown: shutdown.clone(),
    };
    let loops = listeners
        .into_iter()
        .map(|listener| acceptor.clone().run(listener));
    futures::future::join_all(loops).await;
    service.set_draining().await;
}

#[derive(Clone)]
struct Acceptor {
    service: Service,
    limits: ConnLimits,
    half_open: Arc<HalfOpen>,
    places: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Acceptor {
    async fn run(self, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.draining() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.take(socket, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    self.service.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts serving a connection, or closes it where there is no place for one more.
    fn take(&self, socket: Socket, peer: Peer) {
        let metrics = &self.service.metrics;
        let place = self.places.clone().try_acquire_owned().ok();
        let room = self.service.budget.try_take(GUARANTEED_BYTES);
        let buffer = socket.send_buffer_bytes().ok();
        let buffer = buffer.and_then(|bytes| self.service.cache.charge(Account::Socket, bytes));
        let (Some(place), Some(room), Some(buffer)) = (place, room, buffer) else {
            return metrics.refused(Refusal::ConnectionsMax);
        };
        let counted = metrics.connected(matches!(peer, Peer::Unix { .. }));
        let running = self.shutdown.running();
        let greeting = self.half_open.enter();
        let Self {
            service,
            limits,
            shutdown,
            ..
        } = self.clone();
        tokio::spawn(async move {
            let host = Host {
                limits,
                clock: service.clock.clone(),
                budget: service.budget.clone(),
                drain: shutdown.drain_token(),
            };
            let served = conn::serve(host, socket, peer, greeting, |request, respond, conn| {
                service.on_call(request, respond, conn);
            });
            let end = tokio::select! {
                end = served => end,
                () = shutdown.forced() => End::Closed,
            };
            count(&service, &end);
            drop((place, room, buffer, counted, running));
        });
    }
}

fn count(service: &Service, end: &End) {
    let why = match end {
        End::Closed | End::Killed => return,
        End::GreetingTimeout => Refusal::GreetingTimeout,
        End::GaveWay => Refusal::HalfOpenMax,
        End::Silent => Refusal::KeepaliveTimeout,
        End::Broken(error) => {
            tracing::debug!(%error, "a connection broke off");
            if error.is_io() {
                return;
            }
            Refusal::Protocol
        }
    };
    service.metrics.refused(why);
}
