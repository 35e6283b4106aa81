//! The server of Bowstring: from the settings to a drained end.
//!
//! - `cli`, `config`, `log`: what a person wrote, read once
//! - `listener`, `accept`, `conn`, `grpc`: from a socket to a request
//! - `cold`: the tier below memory, where there is one
//! - `flight`: the verbs of Arrow Flight, one a file
//! - `http`, `metrics`: what an operator sees
//! - `shutdown`: how it ends
//! - `bench`: the other subcommand, which puts load on a server
//!
//! [`run`] puts them together. The caller brings both ends, the settings and the shutdown: the
//! program gives it signals, a test gives it a handle.

pub mod accept;
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
pub mod metrics;
pub mod shutdown;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cache::ledger::Ledger;
use bowstring_cache::{Cache, CacheConfig, Parts};
use bowstring_cold::tier::Cold;
use bowstring_wire::name::Tenant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use config::{Config, HostPort, ListenAddress, Machine};
use conn::{ConnLimits, GUARANTEED_BYTES, WireBudget};
use error::Error;
use flight::{FlightSettings, Service};
use http::HttpState;
use listener::Listener;
use metrics::Metrics;
use shutdown::{Drained, Shutdown};

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
    run_with(config, Arc::new(SystemClock::new()), shutdown, ready).await
}

/// [`run`] with a clock of the caller's.
///
/// # Errors
/// Those of [`run`].
pub async fn run_with(
    config: Config,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    ready: impl FnOnce(&Ready),
) -> Result<Drained, Error> {
    let limits = Limits::within(&config, &Machine::this())?;
    let http_listener = bind_http(&config.http).await?;
    let listeners = bind_flight(&config.listen).await?;
    let addresses = Ready {
        flight: listeners
            .iter()
            .map(Listener::uri)
            .collect::<Result<_, _>>()?,
        http: http_listener.local_addr()?,
    };

    let cache_config = CacheConfig {
        memory: limits.memory_bytes,
        eviction: config.eviction,
        load_idle: config.load_idle,
        rollback_window: config.load_rollback,
        ..CacheConfig::default()
    };
    let below = cold::open(&config, limits.memory_bytes, clock.clone()).await;
    let below = below.map_err(cold::misset)?;
    let mut parts = Parts {
        clock: clock.clone(),
        ..Parts::default()
    };
    if let Some((cold, _)) = &below {
        parts.lower = Arc::new(cold.clone());
    }
    let cache = Cache::with_parts(cache_config, parts)?;
    let tier = below.as_ref().map(|(cold, _)| cold.clone());
    let cold = below.map(|(cold, unread)| {
        cache.observe(cold.max_hlc());
        let running = spawn(cold::run(cold.clone(), unread, cache.clone(), config.warm));
        (cold, cache.clone(), running)
    });
    for (namespace, settings) in &config.namespaces {
        cache.fix_settings(&Tenant::public(), namespace, *settings)?;
    }
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

    let stop_http = CancellationToken::new();
    let state = HttpState {
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let mut http = spawn(http::serve(
        http_listener,
        state,
        clock.clone(),
        stop_http.clone(),
    ));
    let running = shutdown.running();
    let flight = start_flight(
        &config,
        limits,
        listeners,
        (cache, tier),
        metrics,
        clock.clone(),
        &shutdown,
    )?;
    let mut flight = spawn(async move {
        flight.await;
        drop(running);
    });

    tracing::info!(
        memory_bytes = limits.memory_bytes,
        connections_max = limits.connections_max,
        eviction = %config.eviction,
        flight = ?addresses.flight,
        http = %addresses.http,
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    ready(&addresses);

    tokio::select! {
        // In this order: a drain may end them before we look.
        biased;
        () = shutdown.draining() => {}
        _ = &mut flight => return Err(Error::Ended("flight")),
        _ = &mut http => return Err(Error::Ended("http")),
    }
    let until = clock.monotonic() + config.drain_timeout;
    let drained = shutdown.drained(clock.sleep(config.drain_timeout)).await;
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
    if let Some((cold, cache, _running)) = cold {
        tokio::select! {
            () = cold::save(&cold, &cache, until) => {}
            () = shutdown.forced() => tracing::warn!("what memory has was not all written down"),
        }
    }
    stop_http.cancel();
    let _ = http.await;
    Ok(drained)
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
    (cache, tier): (Cache, Option<Cold>),
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let budget = limits.wire_budget(cache.ledger())?;
    let settings = FlightSettings {
        put_idle: config.put_idle,
        slow_request: config.slow_request,
        reflection: config.reflection,
    };
    let conn_limits = ConnLimits {
        streams_max: config.streams_max,
        ..ConnLimits::default()
    };
    let connections_max = usize::try_from(limits.connections_max).unwrap_or(usize::MAX);
    let service = Service::new(cache, tier, clock, budget, metrics, settings);
    let shutdown = shutdown.clone();
    Ok(async move {
        let _touching = spawn(touch_ahead(service.cache.clone(), service.clock.clone()));
        let _expiring = spawn(expire(service.cache.clone(), service.clock.clone()));
        let _loads = spawn(tidy_loads(service.cache.clone(), service.clock.clone()));
        let _snapshots = spawn(tend_snapshots(service.clone()));
        let _supervisor = spawn(flight::supervise(service.clone()));
        accept::serve(listeners, service, conn_limits, connections_max, shutdown).await;
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

async fn bind_flight(addresses: &[ListenAddress]) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let text = address.to_string();
        match Listener::bind(&text).await {
            Ok(listener) => {
                warn_off_loopback(&listener);
                listeners.push(listener);
            }
            Err(source) => {
                return Err(Error::Listen {
                    address: text,
                    source,
                });
            }
        }
    }
    Ok(listeners)
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
