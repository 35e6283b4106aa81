//! What came of the operations.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The slowest that is told apart; slower ones count as this.
const SLOWEST: Duration = Duration::from_secs(3600);

/// What came of the operations of one connection, or of all together.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Keys that were there.
    pub gets: Kind,
    /// Keys that were put.
    pub puts: Kind,
    /// Gets of keys that were not there.
    pub misses: u64,
    /// Operations that the server refused.
    pub failed: u64,
    /// Gets that returned other bytes than were put.
    pub wrong: u64,
    /// Operations that were to start before the end and never did.
    pub missed: u64,
    /// From the start to the end of the last operation.
    pub took: Duration,
    first_failure: Option<String>,
}

/// One kind of operation.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Of the tensors.
    pub bytes: u64,
    latency: Histogram<u64>,
}

impl Default for Kind {
    fn default() -> Self {
        // Three figures, which is what a percentile of a noisy machine is worth.
        let latency = Histogram::new(3).unwrap_or_else(|_| unreachable!("3 is from 0 to 5"));
        Self { bytes: 0, latency }
    }
}

impl Kind {
    /// One more, of so many bytes.
    pub fn record(&mut self, bytes: u64, latency: Duration) {
        self.bytes += bytes;
        let nanos = u64::try_from(latency.min(SLOWEST).as_nanos()).unwrap_or(u64::MAX);
        // It grows as it must, and holds an hour.
        let _ = self.latency.record(nanos);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.latency.len()
    }

    /// What this share of them, from 0 to 1, stayed below; 1 is the slowest.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(share))
    }

    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        let _ = self.latency.add(&other.latency);
    }
}

impl Tally {
    /// One that went wrong; the first is remembered.
    pub fn fail(&mut self, why: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(why);
    }

    /// One get that returned other bytes.
    pub fn be_wrong(&mut self, why: String) {
        self.wrong += 1;
        self.first_failure.get_or_insert(why);
    }

    /// What was said of the first that went wrong.
    pub fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    /// Another connection's.
    pub fn add(&mut self, other: &Self) {
        self.gets.add(&other.gets);
        self.puts.add(&other.puts);
        self.misses += other.misses;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.missed += other.missed;
        self.took = self.took.max(other.took);
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_add_up() {
        let mut all = Tally::default();
        for ms in [1, 2, 100] {
            let mut one = Tally::default();
            one.gets.record(10, Duration::from_millis(ms));
            one.took = Duration::from_millis(ms);
            one.misses = 1;
            one.fail(format!("after {ms}"));
            all.add(&one);
        }
        assert_eq!(
            (all.gets.count(), all.gets.bytes, all.puts.count()),
            (3, 30, 0)
        );
        assert_eq!((all.misses, all.failed), (3, 3));
        assert_eq!(all.first_failure(), Some("after 1"));
        assert_eq!(all.took, Duration::from_millis(100));
        let near = |share, ms: f64| {
            let off = all.gets.quantile(share).as_secs_f64() * 1e3 / ms;
            assert!((0.998..1.002).contains(&off), "{share}: {off}");
        };
        near(0.5, 2.0);
        near(1.0, 100.0);
    }
}
