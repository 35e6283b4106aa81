//! A server's figures at one moment, and what happened between two.

use std::collections::BTreeMap;

use bowstring_wire::name::Namespace;
use bowstring_wire::reply::{EvictionStats, MemoryStats, NamespaceDescribed, StatsReply};
use serde::Serialize;

use crate::Error;
use crate::client::Client;
use crate::ns;

/// Figures of one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    stats: StatsReply,
    namespaces: BTreeMap<Namespace, NamespaceDescribed>,
}

/// What happened in a time, and what there is at its end. Programs see it as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// The server's version.
    pub server: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// How long it lasted, by the server's clock.
    pub interval_ms: u64,
    /// Gets of one key or of each of many, found or not.
    pub gets_per_second: f64,
    /// Of those, how many found their key; none where there were none.
    pub hit_ratio: Option<f64>,
    /// Tensors stored.
    pub puts_per_second: f64,
    /// Entries evicted.
    pub evicted_per_second: f64,
    /// Entries expired.
    pub expired_per_second: f64,
    /// Bytes of requests.
    pub received_bytes_per_second: f64,
    /// Bytes of answers.
    pub sent_bytes_per_second: f64,
    /// Requests that are being answered, without the one that asks.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Entries.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
    /// What the memory is spent on.
    pub memory: MemoryStats,
    /// What goes when it is spent.
    pub eviction: EvictionStats,
    /// Those that are asked for most first, then the largest.
    pub namespaces: Vec<NamespaceRates>,
}

/// What happened in a namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamespaceRates {
    /// Its name.
    pub namespace: Namespace,
    /// Gets of its keys.
    pub gets_per_second: f64,
    /// Of those, how many found their key.
    pub hit_ratio: Option<f64>,
    /// Entries of it that were evicted.
    pub evicted_per_second: f64,
    /// Its entries.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
}

impl Sample {
    /// Asks.
    pub async fn take(client: &mut Client) -> Result<Self, Error> {
        let stats = client.action("stats", String::new()).await?;
        let mut namespaces = BTreeMap::new();
        let mut after = None;
        loop {
            let reply = ns::part(client, after).await?;
            after = reply.namespaces.last().map(|it| it.namespace.clone());
            namespaces.extend(
                reply
                    .namespaces
                    .into_iter()
                    .map(|it| (it.namespace.clone(), it)),
            );
            if !reply.more {
                return Ok(Self { stats, namespaces });
            }
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.stats.counters.get(name).map_or(0, |counter| counter.0)
    }

    fn received_bytes(&self) -> u64 {
        self.stats
            .requests
            .values()
            .map(|it| it.received_bytes)
            .sum()
    }

    fn sent_bytes(&self) -> u64 {
        self.stats.requests.values().map(|it| it.sent_bytes).sum()
    }
}

impl Rates {
    /// What happened between two samples; `None` where the server was started between them.
    pub fn between(before: &Sample, now: &Sample) -> Option<Self> {
        if before.stats.start != now.stats.start {
            return None;
        }
        let interval_ms = now.stats.uptime_ms.saturating_sub(before.stats.uptime_ms);
        let seconds = interval_ms.max(1) as f64 / 1_000.0;
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let counted = |name| (before.counter(name), now.counter(name));
        let of = |(before, now)| rate(before, now);
        let (hits, misses) = (of(counted("hits")), of(counted("misses")));
        let spaces = now.namespaces.values().map(|it| {
            let was = before.namespaces.get(&it.namespace);
            let was = |figure: fn(&NamespaceDescribed) -> u64| was.map_or(0, figure);
            let hits = rate(was(|it| it.hits), it.hits);
            let misses = rate(was(|it| it.misses), it.misses);
            NamespaceRates {
                namespace: it.namespace.clone(),
                gets_per_second: hits + misses,
                hit_ratio: ratio(hits, misses),
                evicted_per_second: rate(was(|it| it.evicted), it.evicted),
                entries: it.entries,
                bytes: it.bytes,
            }
        });
        let mut namespaces: Vec<_> = spaces.collect();
        namespaces.sort_by(|one, other| {
            let gets = other.gets_per_second.total_cmp(&one.gets_per_second);
            gets.then(other.bytes.cmp(&one.bytes))
        });
        let in_flight: u64 = now.stats.requests.values().map(|it| it.in_flight).sum();
        Some(Self {
            server: now.stats.server.clone(),
            uptime_ms: now.stats.uptime_ms,
            interval_ms,
            gets_per_second: hits + misses,
            hit_ratio: ratio(hits, misses),
            puts_per_second: of(counted("published")),
            evicted_per_second: of(counted("evicted")),
            expired_per_second: of(counted("expired")),
            received_bytes_per_second: rate(before.received_bytes(), now.received_bytes()),
            sent_bytes_per_second: rate(before.sent_bytes(), now.sent_bytes()),
            in_flight: in_flight.saturating_sub(1),
            connections: now.stats.connections,
            entries: now.stats.entries,
            bytes: now.stats.bytes,
            memory: now.stats.memory.clone(),
            eviction: now.stats.eviction.clone(),
            namespaces,
        })
    }
}

fn ratio(hits: f64, misses: f64) -> Option<f64> {
    let all = hits + misses;
    (all > 0.0).then(|| hits / all)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bowstring_wire::reply::{Counter, RequestStats};
    use bowstring_wire::settings::NamespaceSettings;

    fn sample(uptime_ms: u64, times: u64) -> Sample {
        let mut sample = Sample::default();
        let stats = &mut sample.stats;
        stats.uptime_ms = uptime_ms;
        for (name, each) in [
            ("hits", 30),
            ("misses", 10),
            ("published", 5),
            ("evicted", 1),
        ] {
            stats
                .counters
                .insert(name.to_owned(), Counter(each * times));
        }
        let requests = RequestStats {
            in_flight: 2,
            received_bytes: 1_000 * times,
            sent_bytes: 2_000 * times,
            ..RequestStats::default()
        };
        stats.requests.insert("DoGet".to_owned(), requests);
        for (name, hits, bytes) in [("cold", 0, 9), ("hot", 20, 5), ("large", 0, 10)] {
            let namespace = Namespace::parse(name).unwrap();
            let described = NamespaceDescribed {
                attached: None,
                namespace: namespace.clone(),
                entries: 1,
                bytes,
                hits: hits * times,
                misses: 0,
                evicted: 0,
                expired: 0,
                settings: NamespaceSettings::default(),
                settings_version: None,
            };
            sample.namespaces.insert(namespace, described);
        }
        sample
    }

    /// What happened in two seconds.
    pub fn rates() -> Rates {
        Rates::between(&sample(1_000, 1), &sample(3_000, 3)).unwrap()
    }

    #[test]
    fn rates_are_by_the_server_s_clock() {
        let rates = rates();
        assert_eq!((rates.gets_per_second, rates.hit_ratio), (40.0, Some(0.75)));
        assert_eq!(
            (rates.puts_per_second, rates.evicted_per_second),
            (5.0, 1.0)
        );
        assert_eq!(rates.received_bytes_per_second, 1_000.0);
        assert_eq!(rates.sent_bytes_per_second, 2_000.0);
        assert_eq!((rates.in_flight, rates.interval_ms), (1, 2_000));
        let names: Vec<_> = rates
            .namespaces
            .iter()
            .map(|it| it.namespace.as_str())
            .collect();
        assert_eq!(names, ["hot", "large", "cold"]);
        assert_eq!(rates.namespaces[1].hit_ratio, None);
    }

    #[test]
    fn a_server_that_was_started_anew_has_no_rates() {
        let mut anew = sample(5_000, 4);
        anew.stats.start = 1;
        assert_eq!(Rates::between(&sample(3_000, 3), &anew), None);
    }
}
