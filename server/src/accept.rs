//! The accept loop: which connections are taken, and their end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::ledger::{Account, Charge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::conn::{self, ConnHandle, ConnLimits, End, HalfOpen, Host};
use crate::flight::Service;
use crate::listener::{Listener, Peer, Socket};
use crate::metrics::Refusal;
use crate::shutdown::Shutdown;

/// Connections that may be greeting us at one time, at most half of all that may be there; the oldest
/// gives way. Otherwise a stranger who says nothing could take every place.
const HALF_OPEN_MAX: usize = 128;
/// After a failed `accept` (out of descriptors, say) the loop pauses, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A connection that gave way has left its place long before this.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// How long a connection whose kernel memory could not be charged waits to try again.
const PAY_AGAIN: Duration = Duration::from_millis(100);

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
        half_open: HalfOpen::new(HALF_OPEN_MAX.min(connections_max / 2)),
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
                Ok((socket, peer)) => self.take(socket, peer).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    self.service.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts serving a connection, or closes it where there is no place for one more.
    async fn take(&self, socket: Socket, peer: Peer) {
        let metrics = &self.service.metrics;
        let Some(place) = self.place().await else {
            return metrics.refused(Refusal::ConnectionsMax);
        };
        // A drain waits for the last who has it.
        let handle = ConnHandle::new(peer, self.shutdown.running());
        let counted = metrics.connected(&handle);
        let greeting = self.half_open.enter();
        let Self {
            service,
            limits,
            shutdown,
            ..
        } = self.clone();
        let kernel_bytes = socket.send_buffer_bytes().unwrap_or(0);
        tokio::spawn(async move {
            let host = Host {
                limits,
                clock: service.clock.clone(),
                budget: service.budget.clone(),
                drain: shutdown.drain_token(),
            };
            let served = conn::serve(host, socket, handle, greeting, |request, respond, conn| {
                service.on_call(request, respond, conn);
            });
            let mut served = pin!(served);
            let mut paid = None;
            let end = loop {
                tokio::select! {
                    end = &mut served => break end,
                    charge = pay(&service, kernel_bytes), if paid.is_none() => paid = Some(charge),
                    () = shutdown.forced() => break End::Closed,
                }
            };
            count(&service, &end);
            drop((place, paid, counted));
        });
    }

    /// A place for one connection more. In a storm those who say nothing have them all for a moment:
    /// the ones that were told to give way have still to wake up and go.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = &self.places;
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Some(place);
        }
        if !self.half_open.give_way() {
            return None;
        }
        tokio::select! {
            place = places.clone().acquire_owned() => place.ok(),
            // It greeted us at the very moment, and stays.
            () = self.service.clock.sleep(PLACE_WAIT) => None,
        }
    }
}

/// Charges what the kernel may keep for a connection. Where open puts and readers have everything
/// just now, it is charged when they are done: no reason to turn a client away.
async fn pay(service: &Service, bytes: u64) -> Charge {
    loop {
        if let Some(charge) = service.cache.charge(Account::Socket, bytes) {
            return charge;
        }
        service.clock.sleep(PAY_AGAIN).await;
    }
}

fn count(service: &Service, end: &End) {
    let why = match end {
        End::Closed | End::Killed => return,
        End::GreetingTimeout => Refusal::GreetingTimeout,
        End::GaveWay => Refusal::HalfOpenMax,
        End::Silent => Refusal::KeepaliveTimeout,
        End::Broken(error) if error.is_io() => {
            tracing::debug!(%error, "a connection broke off");
            return;
        }
        End::Broken(error) => {
            tracing::info!(%error, "closed a connection that broke HTTP/2");
            Refusal::Protocol
        }
    };
    service.metrics.refused(why);
}
