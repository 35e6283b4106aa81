//! What queries have done and do.

use bowstring_sql::SqlStats;

use super::text::Text;

/// Writes the figures.
pub fn render(stats: &SqlStats, text: &mut Text) {
    text.gauge(
        "bowstring_sql_running",
        "Statements whose turn it is: they are planned, or run.",
    )
    .value(stats.running);
    text.gauge(
        "bowstring_sql_waiting",
        "Statements that wait for their turn.",
    )
    .value(stats.waiting);
    text.counter("bowstring_sql_queries_total", "Queries that ended, by how.")
        .labelled(&[("end", "answered")], stats.answered)
        .labelled(&[("end", "failed")], stats.failed)
        .labelled(&[("end", "given_up")], stats.given_up);
    text.counter("bowstring_sql_rows_total", "Rows that queries found.")
        .value(stats.rows);
    text.counter(
        "bowstring_sql_changed_total",
        "Entries that statements changed, deleted or put.",
    )
    .value(stats.changed);
    text.gauge(
        "bowstring_sql_spill_bytes",
        "Bytes on the disk that queries go on on.",
    )
    .value(stats.spill_bytes);
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::parse;
    use super::*;

    #[test]
    fn every_figure_is_there() {
        let stats = SqlStats {
            running: 1,
            waiting: 2,
            answered: 3,
            failed: 4,
            given_up: 5,
            rows: 6,
            changed: 7,
            spill_bytes: 8,
        };
        let mut text = Text::default();
        render(&stats, &mut text);
        let samples = parse(&text.finish());
        for (name, value) in [
            ("running", 1.0),
            ("waiting", 2.0),
            ("queries_total{end=\"answered\"}", 3.0),
            ("queries_total{end=\"failed\"}", 4.0),
            ("queries_total{end=\"given_up\"}", 5.0),
            ("rows_total", 6.0),
            ("changed_total", 7.0),
            ("spill_bytes", 8.0),
        ] {
            assert_eq!(samples[&format!("bowstring_sql_{name}")], value, "{name}");
        }
    }
}
