//! Figures of namespaces. Their names are a client's, so only the first few are shown.

use bowstring_cache::stats::NamespaceStats;

use super::text::Text;

/// Namespaces that are shown: with eight figures each, a quarter of what a page may have.
pub const NAMESPACES_SHOWN: usize = 32;

/// Writes the figures of the first namespaces.
pub fn render(namespaces: &[NamespaceStats], text: &mut Text) {
    type Figure = fn(&NamespaceStats) -> Option<u64>;
    let gauges: [(&str, &str, Figure); 4] = [
        (
            "bowstring_namespace_entries",
            "Entries of a namespace; the first namespaces only.",
            |stats| Some(stats.entries),
        ),
        (
            "bowstring_namespace_bytes",
            "Bytes of their tensors.",
            |stats| Some(stats.bytes),
        ),
        (
            "bowstring_namespace_entries_max",
            "The most entries, where that is set.",
            |stats| stats.settings.entries_max,
        ),
        (
            "bowstring_namespace_bytes_max",
            "The most bytes, where that is set.",
            |stats| stats.settings.bytes_max,
        ),
    ];
    let counters: [(&str, &str, Figure); 4] = [
        (
            "bowstring_namespace_hits_total",
            "Gets that found their key.",
            |stats| Some(stats.hits),
        ),
        (
            "bowstring_namespace_misses_total",
            "Gets that did not.",
            |stats| Some(stats.misses),
        ),
        (
            "bowstring_namespace_evicted_total",
            "Entries that were evicted.",
            |stats| Some(stats.evicted),
        ),
        (
            "bowstring_namespace_expired_total",
            "Entries that expired.",
            |stats| Some(stats.expired),
        ),
    ];
    let mut write = |figures: [(&str, &str, Figure); 4], counts: bool| {
        for (name, help, figure) in figures {
            let mut family = if counts {
                text.counter(name, help)
            } else {
                text.gauge(name, help)
            };
            for stats in namespaces.iter().take(NAMESPACES_SHOWN) {
                if let Some(value) = figure(stats) {
                    family.labelled(&[("namespace", stats.namespace.as_str())], value);
                }
            }
        }
    };
    write(gauges, false);
    write(counters, true);
}

#[cfg(test)]
pub(super) mod tests {
    use bowstring_wire::name::Namespace;
    use bowstring_wire::settings::NamespaceSettings;

    use super::super::Metrics;
    use super::super::text::tests::parse;
    use super::*;

    fn example(n: usize) -> NamespaceStats {
        NamespaceStats {
            namespace: Namespace::parse(&format!("n{n}")).unwrap(),
            entries: 1,
            bytes: 2,
            hits: 3,
            misses: 4,
            evicted: 5,
            expired: 6,
            settings: NamespaceSettings {
                entries_max: Some(7),
                bytes_max: (n == 0).then_some(8),
                ..NamespaceSettings::default()
            },
            settings_version: None,
            attached_rows: None,
        }
    }

    /// Adds figures of more namespaces than are shown.
    pub(in super::super) fn add_example(metrics: &Metrics) {
        let many: Vec<_> = (0..200).map(example).collect();
        metrics.add_source(move |text| render(&many, text));
    }

    #[test]
    fn the_first_ones_are_shown() {
        let mut text = Text::default();
        render(&[example(0), example(1)], &mut text);
        let samples = parse(&text.finish());
        for (name, value) in [
            ("entries", 1.0),
            ("bytes", 2.0),
            ("hits_total", 3.0),
            ("misses_total", 4.0),
            ("evicted_total", 5.0),
            ("expired_total", 6.0),
            ("entries_max", 7.0),
            ("bytes_max", 8.0),
        ] {
            let sample = format!("bowstring_namespace_{name}{{namespace=\"n0\"}}");
            assert_eq!(samples[sample.as_str()], value, "{name}");
        }
        assert!(!samples.contains_key("bowstring_namespace_bytes_max{namespace=\"n1\"}"));
    }
}
