//! Times in fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::text::Family;

/// Upper bounds in microseconds, and how they print in seconds. A small get on loopback takes
/// some 50 µs, a gigabyte to a slow client minutes; a factor of about four between the two.
const BUCKETS: [(u64, &str); 13] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
    (300_000_000, "300"),
];

/// Counts of times by bucket. Recording is two relaxed additions.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One more than the bounds: what is above them all.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(super) fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|(bound, _)| *bound < us);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    pub(super) fn render(&self, family: &mut Family<'_>, label: (&str, &str)) {
        let mut total = 0;
        for (count, bound) in self
            .counts
            .iter()
            .zip(BUCKETS.map(|(_, text)| text).iter().chain(&["+Inf"]))
        {
            total += count.load(Relaxed);
            family.sample("_bucket", &[label, ("le", bound)], total);
        }
        let sum = Duration::from_micros(self.sum_us.load(Relaxed)).as_secs_f64();
        family.sample("_sum", &[label], sum);
        // The sum of the buckets, so that both agree while others record.
        family.sample("_count", &[label], total);
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::{Text, tests::parse};
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let histogram = Histogram::default();
        for us in [50, 51, 400, 300_000_000, 300_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        histogram.record(Duration::MAX);
        let mut text = Text::default();
        histogram.render(
            &mut text.histogram("x_seconds", "Help."),
            ("verb", "do_get"),
        );
        let samples = parse(&text.finish());
        let bucket = |le| samples[&format!("x_seconds_bucket{{verb=\"do_get\",le=\"{le}\"}}")];
        assert_eq!(bucket("0.00005"), 1.0, "a bound is part of its bucket");
        assert_eq!(bucket("0.0001"), 2.0);
        assert_eq!(bucket("0.0005"), 3.0);
        assert_eq!(bucket("300"), 4.0);
        assert_eq!(bucket("+Inf"), 6.0);
        assert_eq!(samples["x_seconds_count{verb=\"do_get\"}"], 6.0);
    }

    #[test]
    fn bounds_ascend_and_print_what_they_are() {
        assert!(BUCKETS.is_sorted_by_key(|(us, _)| *us));
        for (us, text) in BUCKETS {
            let seconds: f64 = text.parse().unwrap();
            assert_eq!(Duration::from_secs_f64(seconds), Duration::from_micros(us));
        }
    }
}
