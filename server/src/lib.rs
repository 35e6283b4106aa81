//! The server of Bowstring: from the settings to a drained end.
//!
//! - `cli`, `config`, `log`: what a person wrote, read once
//! - `listener`, `accept`, `conn`, `grpc`: from a socket to a request
//! - `cold`: the tier below memory, where there is one; `attached`: namespaces that are rows of files, beside it
//! - `flight`: the verbs of Arrow Flight, one a file
//! - `http`, `metrics`: what an operator sees
//! - `shutdown`: how it ends
//! - `takeover`: how another process takes its place; `manager`: the service manager, which may keep memory in between
//! - `memory`: what a server begins with of all that
//! - `bench`: the other subcommand, which puts load on a server
//!
//! [`run`] puts them together. The caller brings both ends, the settings and the shutdown: the
//! program gives it signals, a test gives it a handle.

pub mod accept;
mod attached;
pub mod bench;
pub mod cli;
pub mod cold;
pub mod config;
pub mod conn;
pub mod error;
pub mod flight;
pub mod grpc;
pub mod http;
pub mod listener;
pub mod log;
pub mod manager;
mod memory;
pub mod metrics;
pub mod shutdown;
pub mod takeover;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cache::ledger::Ledger;
use bowstring_cache::lower::{LowerTier, NoLowerTier};
use bowstring_wire::name::Tenant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use attached::{Ahead, Attached};
use config::{Config, HostPort, Machine};
use conn::{ConnLimits, GUARANTEED_BYTES, WireBudget};
use error::Error;
use flight::{FlightSettings, Service};
use http::HttpState;
use listener::Listener;
use manager::Manager;
use metrics::Metrics;
use shutdown::{Drained, Shutdown};
use takeover::{Asked, Door, Estate, Heir, Use};

/// Where a server listens, once it does. Prints the lines that a parent process waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// A URI for each address that serves Flight, in the order of the settings.
    pub flight: Vec<String>,
    /// The address of `/healthz` and `/metrics`.
    pub http: SocketAddr,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for uri in &self.flight {
            writeln!(f, "flight {uri}")?;
        }
        writeln!(f, "http http://{}", self.http)
    }
}

/// Runs a server until `shutdown` has drained it. `ready` is called once, when all addresses take
/// connections. Dropping the future ends the server at once.
///
/// # Errors
/// Where the settings do not fit this machine or an address cannot be listened on: then `ready`
/// was not called.
pub async fn run(
    config: Config,
    shutdown: Shutdown,
    ready: impl FnOnce(&Ready),
) -> Result<Drained, Error> {
    let (clock, manager) = (Arc::new(SystemClock::new()), Manager::default());
    run_with(config, clock, manager, shutdown, ready).await
}

/// [`run`] with a clock of the caller's, and the service manager that has started the process.
///
/// # Errors
/// Those of [`run`].
pub async fn run_with(
    config: Config,
    clock: Arc<dyn Clock>,
    mut manager: Manager,
    shutdown: Shutdown,
    ready: impl FnOnce(&Ready),
) -> Result<Drained, Error> {
    let limits = Limits::within(&config, &Machine::this())?;
    let mut ahead = tokio::select! {
        biased;
        ahead = Ahead::read(&config, limits.memory_bytes) => ahead?,
        () = shutdown.draining() => return Ok(Drained::Finished),
    };
    let mut heir = match &config.takeover {
        Some(path) => Heir::ask(path, clock.clone())
            .await
            .map_err(takeover_failed)?,
        None => None,
    };
    let sockets = Sockets::bind(&config, heir.as_mut()).await?;
    let addresses = sockets.addresses()?;
    let since = clock.monotonic();
    let (cache, budget, adopted) =
        memory::start(&config, limits, &clock, heir, &mut manager, &mut ahead).await?;
    let below = cold::open(&config, limits.memory_bytes, clock.clone()).await;
    let below = below.map_err(cold::misset)?;
    let tier = below.as_ref().map(|(cold, _)| cold.clone());
    let others: Arc<dyn LowerTier> = match &tier {
        Some(cold) => Arc::new(cold.clone()),
        None => Arc::new(NoLowerTier),
    };
    let attached = Attached::over(others, clock.clone());
    cache.set_lower(Arc::new(attached.clone()));
    let cold = below.map(|(cold, unread)| {
        cache.observe(cold.max_hlc());
        cold.give_settings(&cache);
        // What a predecessor has handed on is warm.
        let warm = config.warm.filter(|_| adopted.is_none());
        let running = spawn(cold::run(cold.clone(), unread, cache.clone(), warm));
        (cold, running)
    });
    for (namespace, settings) in &config.namespaces {
        cache.fix_settings(&Tenant::public(), namespace, *settings)?;
    }
    ahead.attach(&attached, &cache).await?;
    let metrics = Metrics::new(clock.clone());
    metrics.add_source({
        let (cache, tier) = (cache.clone(), tier.clone());
        move |text| {
            metrics::render_engine(&cache.stats(), text);
            let namespaces = cache.first_namespaces(metrics::NAMESPACES_SHOWN);
            metrics::render_namespaces(&namespaces, text);
            if let Some(tier) = &tier {
                metrics::render_cold(&tier.stats(), text);
            }
        }
    });
    let sql = flight::open_sql(
        &config,
        limits.memory_bytes,
        (&cache, tier.as_ref(), &metrics),
    )?;
    let door = match &config.takeover {
        Some(path) => {
            Some(
                Door::open(path, clock.clone())
                    .await
                    .map_err(|source| Error::Listen {
                        address: path.display().to_string(),
                        source,
                    })?,
            )
        }
        None => None,
    };

    let stop_http = CancellationToken::new();
    let state = HttpState {
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let mut http = spawn(http::serve(
        sockets.http_again()?,
        state,
        clock.clone(),
        stop_http.clone(),
    ));
    let start = |part: &Shutdown| -> Result<AbortOnDropHandle<()>, Error> {
        Ok(start_flight(
            &config,
            limits,
            sockets.flight_again()?,
            Service::new(
                cache.clone(),
                (tier.clone(), attached.clone()),
                sql.clone(),
                clock.clone(),
                budget.clone(),
                metrics.clone(),
                FlightSettings {
                    put_idle: config.put_idle,
                    slow_request: config.slow_request,
                    reflection: config.reflection,
                    load_roots: config.load_roots.clone(),
                    load_rate: config.load_rate.bytes(),
                },
            ),
            part,
        ))
    };
    let mut part = shutdown.part();
    let mut flight = start(&part)?;

    tracing::info!(
        memory_bytes = limits.memory_bytes,
        connections_max = limits.connections_max,
        eviction = %config.eviction,
        flight = ?addresses.flight,
        http = %addresses.http,
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    if let Some(adopted) = adopted {
        memory::tell_adopted(&adopted, clock.monotonic() - since);
    }
    ready(&addresses);
    manager.ready().await;

    let mut successor = None;
    loop {
        let offered = sockets.offered();
        let asked = tokio::select! {
            // In this order: a drain may end them before we look.
            biased;
            () = shutdown.draining() => break,
            _ = &mut flight => return Err(Error::Ended("flight")),
            _ = &mut http => return Err(Error::Ended("http")),
            asked = next_successor(door.as_ref(), &offered) => asked,
        };
        if !asked.takes_memory {
            tracing::info!(
                release = asked.release,
                "a successor takes the addresses; it knows another format of memory"
            );
            let _ = asked.pass_addresses().await;
            successor = Some(asked);
            break;
        }
        tracing::info!(release = asked.release, "handing over to a successor");
        let estate = Estate {
            cache: &cache,
            cold: tier.as_ref(),
            clock: &clock,
        };
        let prepared = tokio::select! {
            prepared = asked.prepare(estate) => prepared,
            () = shutdown.draining() => {
                asked.refuse("it is being stopped").await;
                break;
            }
        };
        if let Err(error) = prepared {
            tracing::warn!(%error, "nothing was handed over: serving on");
            continue;
        }
        let began = clock.monotonic();
        let handed = match takeover::stop(&part, &clock).await {
            true => asked.hand_over(estate).await,
            false => Err(asked.calls_go_on(estate).await),
        };
        match handed {
            Ok(handed) => {
                tracing::info!(
                    entries = handed.exported.entries,
                    bytes = handed.exported.bytes,
                    unwritten = handed.unwritten,
                    paused_ms = (clock.monotonic() - began).as_millis(),
                    "handed over"
                );
                sockets.keep_files();
                door.iter().for_each(Door::keep_file);
                // The successor waits for the end of the process, by a channel that only that closes.
                std::mem::forget(handed);
                return Ok(Drained::Finished);
            }
            Err(error) => {
                tracing::warn!(%error, paused_ms = (clock.monotonic() - began).as_millis(),
                    "nothing was handed over: serving on");
                part = shutdown.part();
                flight = start(&part)?;
            }
        }
    }
    if successor.is_some() {
        sockets.keep_files();
        door.iter().for_each(Door::keep_file);
    } else {
        manager.stopping().await;
    }
    // Whoever comes now is refused, where no successor has the sockets too.
    drop((sockets, door));
    let until = clock.monotonic() + config.drain_timeout;
    let served = shutdown.running();
    let serving = async {
        part.ended(std::future::pending()).await;
        drop(served);
        std::future::pending().await
    };
    let drained = tokio::select! {
        drained = shutdown.drained(clock.sleep(config.drain_timeout)) => drained,
        drained = serving => drained,
    };
    match drained {
        Drained::Finished => tracing::info!("drained"),
        Drained::TimedOut(_) => {
            let drain_timeout_ms = config.drain_timeout.as_millis();
            tracing::warn!(
                drain_timeout_ms,
                "drain timed out; what still ran was cut off"
            );
        }
        Drained::Forced(_) => tracing::warn!("drain was cut short"),
    }
    if let Some((cold, _running)) = cold {
        tokio::select! {
            () = cold::save(&cold, &cache, until) => {}
            () = shutdown.forced() => tracing::warn!("what memory has was not all written down"),
        }
    }
    // A second signal asks for a quick end; and who has our addresses begins with nothing.
    if manager.keeps() && successor.is_none() && !matches!(drained, Drained::Forced(_)) {
        let all_ended = part.ended(clock.sleep(takeover::END_WAIT)).await;
        memory::keep(&cache, &manager, &clock, all_ended).await;
    }
    stop_http.cancel();
    let _ = http.await;
    // Open until the process ends, for which it waits.
    std::mem::forget(successor);
    Ok(drained)
}

/// The sockets that a server listens on.
struct Sockets {
    flight: Vec<(String, Listener)>,
    http: (String, TcpListener),
}

impl Sockets {
    /// Binds what the settings say, and was not inherited.
    async fn bind(config: &Config, mut heir: Option<&mut Heir>) -> Result<Self, Error> {
        let address = config.http.to_string();
        let failed = |source| Error::Listen {
            address: address.clone(),
            source,
        };
        let inherited = heir.as_mut().and_then(|heir| heir.http(&address));
        let http = match inherited {
            Some(socket) => match Listener::inherited(socket, &address).map_err(failed)? {
                Listener::Tcp(listener) => listener,
                Listener::Unix(..) => return Err(failed(std::io::ErrorKind::InvalidInput.into())),
            },
            None => bind_http(&config.http).await?,
        };
        let mut flight = Vec::with_capacity(config.listen.len());
        for address in &config.listen {
            let address = address.to_string();
            let inherited = heir.as_mut().and_then(|heir| heir.flight(&address));
            let bound = match inherited {
                Some(socket) => Listener::inherited(socket, &address),
                None => Listener::bind(&address).await,
            };
            match bound {
                Ok(listener) => {
                    warn_off_loopback(&listener);
                    flight.push((address, listener));
                }
                Err(source) => return Err(Error::Listen { address, source }),
            }
        }
        Ok(Self {
            flight,
            http: (address, http),
        })
    }

    fn addresses(&self) -> Result<Ready, Error> {
        let flight = self.flight.iter().map(|(_, listener)| listener.uri());
        Ok(Ready {
            flight: flight.collect::<Result<_, _>>()?,
            http: self.http.1.local_addr()?,
        })
    }

    fn flight_again(&self) -> Result<Vec<Listener>, Error> {
        let listeners = self.flight.iter().map(|(_, listener)| listener.again());
        Ok(listeners.collect::<Result<_, _>>()?)
    }

    fn http_again(&self) -> Result<TcpListener, Error> {
        let socket = self.http.1.as_fd().try_clone_to_owned()?;
        Ok(TcpListener::from_std(socket.into())?)
    }

    /// What a successor is offered.
    fn offered(&self) -> Vec<(Use, String, BorrowedFd<'_>)> {
        let flight = self.flight.iter();
        let flight = flight.map(|(address, it)| (Use::Flight, address.clone(), it.socket()));
        let http = (Use::Http, self.http.0.clone(), self.http.1.as_fd());
        flight.chain([http]).collect()
    }

    /// They are a successor's from now on.
    fn keep_files(&self) {
        self.flight
            .iter()
            .for_each(|(_, listener)| listener.keep_file());
    }
}

async fn next_successor(door: Option<&Door>, offered: &[(Use, String, BorrowedFd<'_>)]) -> Asked {
    match door {
        Some(door) => door.next(offered).await,
        None => std::future::pending().await,
    }
}

fn takeover_failed(source: std::io::Error) -> Error {
    Error::Takeover(source)
}

/// Settings that depend on the machine, worked out.
#[derive(Clone, Copy, Debug)]
struct Limits {
    memory_bytes: u64,
    connections_max: u32,
}

impl Limits {
    fn within(config: &Config, machine: &Machine) -> Result<Self, Error> {
        let memory_bytes = config.memory.bytes(machine)?;
        if let Ok(machine_bytes) = machine.memory_bytes()
            && memory_bytes > machine_bytes
        {
            tracing::warn!(
                memory_bytes,
                machine_bytes,
                "the budget is more than there is"
            );
        }
        let connections_max = config.connections_within(memory_bytes)?;
        Ok(Self {
            memory_bytes,
            connections_max,
        })
    }

    /// What is set aside for bytes on their way: what connections are guaranteed, and one part in
    /// 32 for windows and gather buffers.
    fn wire_budget(
        &self,
        ledger: &Arc<Ledger>,
    ) -> Result<WireBudget, bowstring_wire::error::Error> {
        let guaranteed = u64::from(self.connections_max) * GUARANTEED_BYTES;
        WireBudget::within(ledger, guaranteed, self.memory_bytes / 32)
    }
}

/// Serves Flight on `listeners` until the drain starts.
fn start_flight(
    config: &Config,
    limits: Limits,
    listeners: Vec<Listener>,
    service: Service,
    shutdown: &Shutdown,
) -> AbortOnDropHandle<()> {
    let conn_limits = ConnLimits {
        streams_max: config.streams_max,
        ..ConnLimits::default()
    };
    let connections_max = usize::try_from(limits.connections_max).unwrap_or(usize::MAX);
    let (shutdown, running) = (shutdown.clone(), shutdown.running());
    spawn(async move {
        let _touching = spawn(touch_ahead(service.cache.clone(), service.clock.clone()));
        let _expiring = spawn(expire(service.cache.clone(), service.clock.clone()));
        let _loads = spawn(tidy_loads(service.cache.clone(), service.clock.clone()));
        let _snapshots = spawn(tend_snapshots(service.clone()));
        let _supervisor = spawn(flight::supervise(service.clone()));
        accept::serve(listeners, service, conn_limits, connections_max, shutdown).await;
        drop(running);
    })
}

/// Touches memory ahead of need. Runs until it is dropped.
async fn touch_ahead(cache: Cache, clock: Arc<dyn Clock>) {
    const TICK: Duration = Duration::from_millis(50);
    loop {
        clock.sleep(TICK).await;
        let cache = cache.clone();
        // The kernel clears what is touched: not for a thread that serves.
        let touched = tokio::task::spawn_blocking(move || while cache.pretouch() {}).await;
        if touched.is_err() {
            return;
        }
    }
}

/// Frees what has expired, in steps of a few milliseconds at most. Runs until it is dropped.
async fn expire(cache: Cache, clock: Arc<dyn Clock>) {
    const TICK: Duration = Duration::from_millis(500);
    loop {
        clock.sleep(TICK).await;
        while cache.expire_due() {
            tokio::task::yield_now().await;
        }
    }
}

/// Does what loads leave to be done, in steps of a millisecond. Runs until it is dropped.
async fn tidy_loads(cache: Cache, clock: Arc<dyn Clock>) {
    const TICK: Duration = Duration::from_millis(100);
    loop {
        clock.sleep(TICK).await;
        while cache.tidy_loads() {
            tokio::task::yield_now().await;
        }
    }
}

/// Keeps room for what leaves snapshots, and forgets old ones. Runs until it is dropped.
async fn tend_snapshots(service: Service) {
    const TICK: Duration = Duration::from_millis(100);
    loop {
        service.clock.sleep(TICK).await;
        service.snapshots.forget_old();
        service.cache.tend_snapshots().await;
    }
}

async fn bind_http(address: &HostPort) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind((address.host.as_str(), address.port)).await;
    bound.map_err(|source| Error::Listen {
        address: address.to_string(),
        source,
    })
}

/// There are no credentials yet: whoever reaches the port reads and writes.
fn warn_off_loopback(listener: &Listener) {
    if let Listener::Tcp(listener) = listener
        && let Ok(address) = listener.local_addr()
        && !address.ip().is_loopback()
    {
        tracing::warn!(%address, "anybody who reaches this address can read and write");
    }
}

/// A task that ends with its handle.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

#[cfg(test)]
mod tests;
