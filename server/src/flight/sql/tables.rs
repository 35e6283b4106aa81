//! SQL over the cache of this server, and what it brings to it: the tables `stats` and `settings`.

use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cold::tier::Cold;
use bowstring_sql::{Figure, Limits, Setting, Sql};
use bowstring_wire::error::Result;

use crate::config::Config;
use crate::metrics::{Metrics, cold_counters, cold_gauges};

/// Queries over `cache`, of `memory` bytes.
///
/// # Errors
/// Where the operating system gives no threads.
pub fn open(
    config: &Config,
    memory: u64,
    (cache, cold, metrics): (&Cache, Option<&Cold>, &Metrics),
) -> Result<Option<Sql>> {
    let limits = Limits::within(memory, bowstring_sql::cores());
    let settings = bowstring_sql::settings(settings(config, &limits));
    let (of, cold, metrics) = (cache.clone(), cold.cloned(), metrics.clone());
    let stats = bowstring_sql::stats(move || figures(&of, cold.as_ref(), &metrics));
    Sql::new(cache.clone(), vec![stats, settings], limits).map(Some)
}

/// Every counter and gauge, now.
fn figures(cache: &Cache, cold: Option<&Cold>, metrics: &Metrics) -> Vec<Figure> {
    let stats = cache.stats();
    let (events, loads) = (stats.events, stats.loads);
    let mut figures: Vec<Figure> = [
        ("memory_limit_bytes", stats.memory),
        ("memory_used_bytes", cache.ledger().used()),
        ("entries", stats.entries),
        ("bytes", stats.live_bytes),
        ("arena_used_bytes", stats.arena_used_bytes),
        ("reserved_bytes", stats.reserved_bytes),
        ("held_bytes", stats.held_bytes),
        ("held_bytes_max", stats.held_bytes_max),
        ("pinned_bytes", stats.pinned_bytes),
        ("pinned_bytes_max", stats.pinned_bytes_max),
        ("pinned_entries", stats.pinned_entries),
        ("pins_refused", stats.pins_refused),
        ("reads_open", stats.reads_open),
        ("reads_cut", stats.reads_cut),
        ("puts_waiting", stats.puts_waiting),
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("namespaces", stats.namespaces.into()),
        ("namespaces_max", stats.namespaces_max.into()),
        ("moved", stats.moved),
        ("published", events.published),
        ("replaced", events.replaced),
        ("deleted", events.deleted),
        ("expired", events.expired),
        ("evicted", events.evicted),
        ("evicted_bytes", events.evicted_bytes),
        ("loads_open", loads.open),
        ("loads_open_bytes", loads.open_bytes),
        ("loads_committed", loads.committed),
        ("loads_rolled_back", loads.rolled_back),
        ("loads_aborted", loads.aborted),
        ("loads_expired", loads.expired),
        ("connections", metrics.connections()),
    ]
    .map(|(name, value)| Figure::new(name, value))
    .into();
    for (verb, requests) in metrics.requests() {
        for (name, value) in [
            ("ok", requests.ok),
            ("failed", requests.failed),
            ("in_flight", requests.in_flight),
            ("received_bytes", requests.received_bytes),
            ("sent_bytes", requests.sent_bytes),
        ] {
            figures.push(Figure::new(format!("requests_{verb}_{name}"), value));
        }
    }
    if let Some(cold) = cold {
        let stats = cold.stats();
        let of_cold = cold_gauges(&stats).into_iter().chain(cold_counters(&stats));
        figures.extend(of_cold.map(|(name, _, value)| Figure::new(format!("cold_{name}"), value)));
    }
    figures
}

/// What the server was started with. What may have a secret in it is not shown.
fn settings(config: &Config, limits: &Limits) -> Vec<Setting> {
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let is_set = |set: bool| if set { "set" } else { "none" }.to_owned();
    [
        ("listen", Some(listen.join(", "))),
        ("http", Some(config.http.to_string())),
        ("memory", Some(config.memory.to_string())),
        ("eviction", Some(config.eviction.to_string())),
        ("cold", Some(is_set(config.cold.is_some()))),
        ("write_policy", Some(config.write_policy.to_string())),
        (
            "connections_max",
            config.connections_max.map(|n| n.to_string()),
        ),
        ("streams_max", Some(config.streams_max.to_string())),
        ("put_idle", Some(time(config.put_idle))),
        ("load_idle", Some(time(config.load_idle))),
        ("load_rollback", Some(time(config.load_rollback))),
        ("drain_timeout", Some(time(config.drain_timeout))),
        ("slow_request", config.slow_request.map(time)),
        ("log_level", Some(config.log_level.clone())),
        ("sql_query_bytes", Some(limits.query_bytes.to_string())),
        ("sql_queries", Some(limits.queries.to_string())),
        ("sql_timeout", Some(time(limits.timeout))),
        ("sql_rows", Some(limits.rows.to_string())),
        ("sql_threads", Some(limits.threads.to_string())),
    ]
    .map(|(name, value)| Setting {
        name: name.to_owned(),
        value,
    })
    .into()
}

/// As the settings are written.
fn time(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
