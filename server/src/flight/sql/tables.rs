//! SQL over the cache of this server, and the tables that it brings to it.

use std::path::Path;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cold::index::Segment;
use bowstring_cold::tier::Cold;
use bowstring_sql::{Columns, Figure, Limits, Live, Setting, Sql};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Tenant;

use crate::config::Config;
use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::metrics::{
    Connected, Metrics, Sample, SlowRequest, cold_counters, cold_gauges, render_sql,
};

/// The least that a query can have: what the ledger is asked for at once.
const QUERY_BYTES_MIN: u64 = 1 << 20;

/// Queries over `cache`, of `memory` bytes.
///
/// # Errors
/// Where the operating system gives no threads, `invalid_argument` where a setting cannot be.
pub fn open(
    config: &Config,
    memory: u64,
    (cache, cold, metrics): (&Cache, Option<&Cold>, &Metrics),
) -> Result<Option<Sql>> {
    let limits = limits(config, memory)?;
    let stats = {
        let (cache, cold, metrics) = (cache.clone(), cold.cloned(), metrics.clone());
        bowstring_sql::stats(move |tenant| {
            see_server(tenant)?;
            Ok(figures(&cache, cold.as_ref(), &metrics))
        })
    };
    let brought = vec![
        stats,
        bowstring_sql::settings(settings(config, &limits)),
        segments(cold.cloned()),
        connections(metrics.clone()),
        slow_requests(metrics.clone()),
    ];
    let sql = Sql::new(cache.clone(), brought, limits)?;
    metrics.add_source({
        let counters = sql.counters().clone();
        move |text| render_sql(&counters.now(), text)
    });
    Ok(Some(sql))
}

/// What queries may use: what is set, or else what goes with `memory`.
fn limits(config: &Config, memory: u64) -> Result<Limits> {
    let usual = Limits::within(memory, bowstring_sql::cores());
    let query_bytes = config.sql_memory.map_or(usual.query_bytes, |bytes| bytes.0);
    if !(QUERY_BYTES_MIN..=memory.max(usual.query_bytes)).contains(&query_bytes) {
        return Err(Error::invalid(format!(
            "a query has at least 1 MiB and at most all memory; sql_memory=`{query_bytes}` memory=`{memory}`"
        )));
    }
    let whole = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Limits {
        query_bytes,
        queries: whole(config.sql_concurrency),
        timeout: config.sql_timeout,
        rows: config.sql_rows_max,
        threads: config.sql_threads.map_or(usual.threads, whole),
        spill_dir: config.sql_spill_dir.clone(),
        spill_bytes: config.sql_spill_max.0,
    })
}

/// Segments of the tier below; none where there is no such tier.
fn segments(cold: Option<Cold>) -> Live {
    Columns::default()
        .count("segment", |segment: &Segment| segment.number.0)
        .count("live_entries", |segment| segment.live_entries)
        .count("live_bytes", |segment| segment.live_bytes)
        // Not known of one that is just being written.
        .count_if_any("total_bytes", |segment| {
            (segment.total_bytes > 0).then_some(segment.total_bytes)
        })
        .share("live_share", |segment| {
            let total = segment.total_bytes;
            (total > 0).then(|| segment.live_bytes as f64 / total as f64)
        })
        .table("segments", move |tenant| {
            see_server(tenant)?;
            Ok(cold.as_ref().map(Cold::segments_now).unwrap_or_default())
        })
}

fn connections(metrics: Metrics) -> Live {
    Columns::default()
        .count("id", |conn: &Connected| conn.id)
        .text("transport", |conn| conn.transport)
        .text("peer", |conn| &conn.peer)
        .time("opened_at", |conn| conn.opened_at_ms)
        .count("requests", |conn| conn.requests)
        .count("sent_bytes", |conn| conn.sent_bytes)
        .table("connections", move |tenant| {
            see_server(tenant)?;
            Ok(metrics.connected_now())
        })
}

fn slow_requests(metrics: Metrics) -> Live {
    Columns::default()
        .time("answered_at", |slow: &SlowRequest| slow.at_ms)
        .text("verb", |slow| slow.verb)
        .text("code", |slow| slow.code)
        .text("namespace", |slow| &slow.namespace)
        .text("key", |slow| &slow.key)
        .count("bytes", |slow| slow.bytes)
        .count("elapsed_ms", |slow| slow.elapsed_ms)
        .count("room_ms", |slow| slow.room_ms)
        .count("sending_ms", |slow| slow.sending_ms)
        .table("slow_requests", move |tenant| {
            Ok(metrics.slow_requests(tenant))
        })
}

/// Refuses a table that is of the server as a whole to whom it is not for.
fn see_server(tenant: &Tenant) -> Result<()> {
    let principal = Principal {
        tenant: tenant.clone(),
    };
    authorize(&principal, Operation::Stats, Resource::Server)
}

/// Every counter and gauge, now: a short name for what is mostly asked for, then all that `/metrics` says, by the names
/// that it has there.
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
        ("evictions_unlisted", stats.evictions_unlisted),
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
    figures.extend(metrics.samples().into_iter().map(figure));
    figures
}

fn figure(sample: Sample) -> Figure {
    let Sample {
        name,
        labels,
        value,
    } = sample;
    Figure {
        name,
        labels,
        value: value.whole(),
        value_float: value.float(),
    }
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
        ("cold_also", Some(config.cold_also.len().to_string())),
        ("state_dir", config.state_dir.as_deref().map(path)),
        ("warm", config.warm.map(|warm| warm.to_string())),
        ("write_policy", Some(config.write_policy.to_string())),
        (
            "cold_segment_bytes",
            Some(config.cold_segment_bytes.to_string()),
        ),
        (
            "cold_bytes_max",
            config.cold_bytes_max.map(|bytes| bytes.to_string()),
        ),
        ("cold_stay_reads", Some(config.cold_stay_reads.to_string())),
        (
            "cold_concurrency",
            Some(config.cold_concurrency.to_string()),
        ),
        ("cold_timeout", Some(time(config.cold_timeout))),
        ("cold_retry", Some(time(config.cold_retry))),
        ("cold_fsync", Some(config.cold_fsync.to_string())),
        ("config", config.config.as_deref().map(path)),
        (
            "connections_max",
            config.connections_max.map(|n| n.to_string()),
        ),
        ("streams_max", Some(config.streams_max.to_string())),
        ("put_idle", Some(time(config.put_idle))),
        ("load_idle", Some(time(config.load_idle))),
        ("load_rollback", Some(time(config.load_rollback))),
        (
            "load_roots",
            Some(match &config.load_roots[..] {
                [] => "none".to_owned(),
                roots => {
                    let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
                    roots.join(", ")
                }
            }),
        ),
        ("load_rate", Some(config.load_rate.to_string())),
        ("drain_timeout", Some(time(config.drain_timeout))),
        ("takeover", config.takeover.as_deref().map(path)),
        ("slow_request", config.slow_request.map(time)),
        ("reflection", Some(config.reflection.to_string())),
        ("log_level", Some(config.log_level.clone())),
        ("log_format", Some(config.log_format.to_string())),
        ("sql_memory", Some(limits.query_bytes.to_string())),
        ("sql_concurrency", Some(limits.queries.to_string())),
        ("sql_timeout", Some(time(limits.timeout))),
        ("sql_rows_max", Some(limits.rows.to_string())),
        ("sql_threads", Some(limits.threads.to_string())),
        ("sql_spill_dir", limits.spill_dir.as_deref().map(path)),
        ("sql_spill_max", Some(limits.spill_bytes.to_string())),
    ]
    .map(|(name, value)| Setting {
        name: name.to_owned(),
        value,
    })
    .into()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// As the settings are written.
fn time(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn each_flag_is_a_row() {
        let config = Flags::parse_from(["serve"]).config;
        let rows = settings(&config, &Limits::within(1 << 30, 2));
        let rows: BTreeSet<String> = rows.into_iter().map(|row| row.name).collect();
        let command = Flags::command();
        let flags = command
            .get_arguments()
            .map(|flag| flag.get_id().to_string());
        assert_eq!(rows, flags.collect());
    }
}
