//! What is told at the end.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::seconds;
use super::settings::{Endpoint, Settings};
use super::tally::{Kind, Tally};

/// The shares that are told.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("max", 1.0),
];

/// A run.
pub struct Report<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// How long putting the keys took.
    pub loaded: Duration,
    /// What came of it.
    pub tally: Tally,
}

impl Report<'_> {
    /// Writes the table, or the JSON.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.settings.json {
            writeln!(out, "{:#}", self.json())
        } else {
            self.table(out)
        }
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Kind)> {
        let kinds = [("get", &self.tally.gets), ("put", &self.tally.puts)];
        kinds.into_iter().filter(|(_, kind)| kind.count() > 0)
    }

    fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            settings, tally, ..
        } = self;
        let Settings {
            concurrency,
            pipeline,
            keys,
            size,
            zipf,
            ..
        } = settings;
        let load = match settings.rate {
            Some(rate) => format!("{rate} operations a second, whatever is late"),
            None => "the next when the last has ended".to_owned(),
        };
        writeln!(
            out,
            "endpoint    {} ({})",
            settings.endpoint,
            self.protocol()
        )?;
        writeln!(
            out,
            "load        connections {concurrency}, pipeline {pipeline}; {load}"
        )?;
        write!(out, "keys        {keys} of {size}, zipf {zipf}")?;
        if settings.no_load {
            writeln!(out, ", not put by this run")?;
        } else {
            writeln!(out, ", put in {:.2} s", seconds(self.loaded))?;
        }
        writeln!(out, "ran         {:.2} s", seconds(tally.took))?;
        writeln!(
            out,
            "\n      {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "operations", "per second", "MiB/s", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs"
        )?;
        for (name, kind) in self.kinds() {
            write!(
                out,
                "{name:<5} {:>12} {:>12.0} {:>10.1}",
                kind.count(),
                self.rate(kind.count()),
                self.rate(kind.bytes) / f64::from(1 << 20)
            )?;
            for (_, share) in QUANTILES {
                write!(out, " {:>10.1}", seconds(kind.quantile(share)) * 1e6)?;
            }
            writeln!(out)?;
        }
        for (count, what) in [
            (tally.misses, "gets of keys that were not there"),
            (
                tally.missed,
                "operations not started in time to the end: the rate was not held",
            ),
            (tally.failed, "operations failed"),
            (tally.wrong, "gets returned other bytes than were put"),
        ] {
            if count > 0 {
                writeln!(out, "\n{count} {what}")?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let Self {
            settings, tally, ..
        } = self;
        let mut all = json!({
            "endpoint": settings.endpoint.to_string(),
            "protocol": self.protocol(),
            "size": settings.size.to_string(),
            "keys": settings.keys,
            "zipf": settings.zipf,
            "read_share": settings.read_share,
            "concurrency": settings.concurrency,
            "pipeline": settings.pipeline,
            "rate": settings.rate,
            "load_seconds": if settings.no_load { Value::Null } else { json!(seconds(self.loaded)) },
            "seconds": seconds(tally.took),
            "misses": tally.misses,
            "missed": tally.missed,
            "failed": tally.failed,
            "wrong": tally.wrong,
        });
        for (name, kind) in self.kinds() {
            let mut one = json!({
                "operations": kind.count(),
                "bytes": kind.bytes,
                "per_second": self.rate(kind.count()),
            });
            for (quantile, share) in QUANTILES {
                one[format!("{quantile}_us")] = json!(seconds(kind.quantile(share)) * 1e6);
            }
            all[name] = one;
        }
        all
    }

    fn protocol(&self) -> &'static str {
        match (&self.settings.endpoint, self.settings.via()) {
            (Endpoint::Redis(_), _) => "redis",
            (_, super::settings::Via::Mux) => "mux",
            (_, super::settings::Via::Flight) => "flight",
        }
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / seconds(self.tally.took).max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::settings::tests::settings;

    fn report(flags: &[&str]) -> String {
        let settings = settings(flags);
        let mut tally = Tally::default();
        for us in 1..=1000 {
            tally.gets.record(1 << 20, Duration::from_micros(us));
        }
        tally.took = Duration::from_secs(2);
        tally.misses = 3;
        let loaded = Duration::from_millis(1500);
        let mut out = Vec::new();
        let report = Report {
            settings: &settings,
            loaded,
            tally,
        };
        report.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn for_people() {
        let table = report(&["--rate", "500", "--size", "1MiB", "--via", "mux"]);
        let row: Vec<&str> = table
            .lines()
            .find(|line| line.starts_with("get"))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(row[..4], ["get", "1000", "500", "500.0"]);
        assert!(
            row[4].starts_with("500.") && row[8].starts_with("1000."),
            "{table}"
        );
        assert!(table.contains("grpc://127.0.0.1:8815 (mux)"), "{table}");
        assert!(
            table.contains("10000 of 1MiB, zipf 0, put in 1.50 s"),
            "{table}"
        );
        assert!(table.contains("500 operations a second"), "{table}");
        assert!(
            table.contains("\n3 gets of keys that were not there"),
            "{table}"
        );
        assert!(
            !table.contains("put  ") && !table.contains("failed"),
            "{table}"
        );
    }

    #[test]
    fn for_programs() {
        let told = report(&["--json", "--no-load", "--target", "redis://a"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["get"]["operations"], 1000);
        assert_eq!(told["get"]["per_second"], 500.0);
        assert_eq!(
            (&told["protocol"], &told["load_seconds"]),
            (&json!("redis"), &Value::Null)
        );
        let median = told["get"]["p50_us"].as_f64().unwrap();
        assert!((499.0..=501.0).contains(&median), "{median}");
        assert!(told.get("put").is_none());
    }
}
