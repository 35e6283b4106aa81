//! The cache's own figures, as it gives them when the page is asked for.

use bowstring_cache::stats::Stats;

use super::text::Text;

/// Writes the figures of a cache.
pub fn render(stats: &Stats, text: &mut Text) {
    text.gauge(
        "bowstring_memory_limit_bytes",
        "What all accounts together may use: --memory.",
    )
    .value(stats.memory);
    let mut family = text.gauge(
        "bowstring_memory_used_bytes",
        "Bytes charged to an account of the ledger.",
    );
    for account in &stats.accounts {
        family.labelled(&[("account", account.account.name())], account.used);
    }
    let mut family = text.gauge(
        "bowstring_memory_peak_bytes",
        "The most ever charged to an account.",
    );
    for account in &stats.accounts {
        family.labelled(&[("account", account.account.name())], account.peak);
    }
    let mut family = text.counter(
        "bowstring_memory_refused_total",
        "Charges refused because memory was used up.",
    );
    for account in &stats.accounts {
        family.labelled(&[("account", account.account.name())], account.refused);
    }

    let labels = [
        ("policy", stats.eviction.name()),
        ("follows", stats.eviction_follows.name()),
    ];
    text.gauge(
        "bowstring_eviction_info",
        "The eviction policy, and the one that it follows at the moment; always 1.",
    )
    .labelled(&labels, 1);
    text.gauge("bowstring_entries", "Entries that can be found.")
        .value(stats.entries);
    text.gauge("bowstring_entries_bytes", "Bytes of their tensors.")
        .value(stats.live_bytes);
    text.gauge(
        "bowstring_arena_used_bytes",
        "Pages and slots of the arena in use.",
    )
    .value(stats.arena_used_bytes);
    text.gauge("bowstring_puts_reserved_bytes", "Room that open puts hold.")
        .value(stats.reserved_bytes);
    text.gauge("bowstring_puts_waiting", "Puts that wait for room.")
        .value(stats.puts_waiting);
    text.gauge(
        "bowstring_readers_held_bytes",
        "What readers hold of entries that are gone.",
    )
    .value(stats.held_bytes);
    text.gauge(
        "bowstring_readers_held_limit_bytes",
        "The most that readers may hold so.",
    )
    .value(stats.held_bytes_max);
    text.gauge(
        "bowstring_pinned_entries",
        "Entries that users have pinned.",
    )
    .value(stats.pinned_entries);
    text.gauge("bowstring_pinned_bytes", "Pages and slots that they take.")
        .value(stats.pinned_bytes);
    text.gauge(
        "bowstring_pinned_limit_bytes",
        "The most that they may take.",
    )
    .value(stats.pinned_bytes_max);
    text.counter("bowstring_pins_refused_total", "Pins that were refused.")
        .value(stats.pins_refused);
    text.gauge(
        "bowstring_busy_limit_bytes",
        "What pins, open puts and readers may hold together.",
    )
    .value(stats.busy_bytes_max);
    text.gauge("bowstring_reads_open", "Reads of large tensors under way.")
        .value(stats.reads_open);
    text.counter(
        "bowstring_reads_cut_off_total",
        "Readers that lost what they held because they stalled.",
    )
    .value(stats.reads_cut);

    text.gauge("bowstring_namespaces", "Namespaces.")
        .value(stats.namespaces);
    text.gauge("bowstring_namespaces_limit", "The most that there may be.")
        .value(stats.namespaces_max);
    text.gauge("bowstring_loads_open", "Loads that are open.")
        .value(stats.loads.open);
    text.gauge(
        "bowstring_loads_open_bytes",
        "What open loads hold: nobody sees it, and it is not evicted.",
    )
    .value(stats.loads.open_bytes);
    text.counter("bowstring_loads_total", "Loads that ended, by how.")
        .labelled(&[("end", "committed")], stats.loads.committed)
        .labelled(&[("end", "rolled_back")], stats.loads.rolled_back)
        .labelled(&[("end", "aborted")], stats.loads.aborted)
        .labelled(&[("end", "expired")], stats.loads.expired);

    text.counter("bowstring_hits_total", "Gets that found their key.")
        .value(stats.hits);
    text.counter("bowstring_misses_total", "Gets that did not.")
        .value(stats.misses);
    text.counter("bowstring_published_total", "Entries that came.")
        .value(stats.events.published);
    text.counter("bowstring_unlinked_total", "Entries that went, by reason.")
        .labelled(&[("reason", "replaced")], stats.events.replaced)
        .labelled(&[("reason", "deleted")], stats.events.deleted)
        .labelled(&[("reason", "expired")], stats.events.expired)
        .labelled(&[("reason", "evicted")], stats.events.evicted);
    text.counter(
        "bowstring_evicted_bytes_total",
        "Bytes of the tensors that were evicted.",
    )
    .value(stats.events.evicted_bytes);
    text.counter(
        "bowstring_evictions_unlisted_total",
        "Evictions that the list of the last ones lacks.",
    )
    .value(stats.evictions_unlisted);
    text.counter(
        "bowstring_moved_total",
        "Small entries moved to empty a page.",
    )
    .value(stats.moved);
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Metrics;
    use super::super::text::tests::parse;
    use super::*;
    use bowstring_cache::Eviction;
    use bowstring_cache::event::EventCounts;
    use bowstring_cache::ledger::{Account, Ledger};
    use bowstring_cache::loads::LoadStats;

    fn example() -> Stats {
        let ledger = Ledger::new(1 << 20);
        assert!(ledger.try_charge(Account::Index, 64));
        Stats {
            start: 7,
            memory: ledger.total(),
            accounts: ledger.accounts().collect(),
            eviction: Eviction::Adaptive,
            eviction_follows: Eviction::Lru,
            entries: 3,
            live_bytes: 4,
            arena_used_bytes: 5,
            reserved_bytes: 6,
            held_bytes: 7,
            held_bytes_max: 8,
            reads_open: 9,
            reads_cut: 10,
            puts_waiting: 11,
            loads: LoadStats::default(),
            hits: 12,
            misses: 13,
            moved: 14,
            pinned_bytes: 17,
            pinned_bytes_max: 18,
            pinned_entries: 19,
            pins_refused: 20,
            busy_bytes_max: 21,
            namespaces: 22,
            namespaces_max: 23,
            events: EventCounts {
                evicted: 15,
                evicted_bytes: 16,
                ..EventCounts::default()
            },
            evictions_unlisted: 24,
        }
    }

    /// Adds figures such as a cache gives.
    pub(in super::super) fn add_example(metrics: &Metrics) {
        metrics.add_source(|text| render(&example(), text));
    }

    #[test]
    fn every_figure_of_the_cache_is_there() {
        let mut text = Text::default();
        render(&example(), &mut text);
        let samples = parse(&text.finish());
        assert_eq!(samples["bowstring_memory_limit_bytes"], 1_048_576.0);
        assert_eq!(
            samples["bowstring_memory_used_bytes{account=\"index\"}"],
            64.0
        );
        assert_eq!(samples["bowstring_entries"], 3.0);
        let info = "bowstring_eviction_info{policy=\"adaptive\",follows=\"lru\"}";
        assert_eq!(samples[info], 1.0);
        assert_eq!(
            samples["bowstring_unlinked_total{reason=\"evicted\"}"],
            15.0
        );
        for value in 3..=24 {
            assert!(
                samples.values().any(|sample| *sample == f64::from(value)),
                "{value}"
            );
        }
        let accounts = samples
            .keys()
            .filter(|name| name.starts_with("bowstring_memory_used_bytes{"));
        assert_eq!(accounts.count(), Account::ALL.len());
    }
}
