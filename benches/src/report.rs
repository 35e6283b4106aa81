//! What was measured against what was to be reached: a Markdown table and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::Outcome;
use crate::entries::{Expiring, Held};
use crate::grid::{SMALL_BYTES, Series, size_name};
use crate::lookup::Lookup;
use crate::peers::Work;

/// One line of the table.
pub struct Goal {
    work: String,
    against: String,
    reach: String,
    measured: String,
    met: bool,
}

/// All that a run found.
#[derive(Default)]
pub struct Report {
    /// The grid.
    pub series: Vec<Series>,
    /// The rows of the performance page that were measured.
    pub goals: Vec<Goal>,
    /// Peers that are not there, and why.
    pub skipped: Vec<String>,
}

impl Report {
    /// The rows that compare Rust clients: raw TCP, stock arrow-flight, CPU time.
    pub fn rust(&mut self) {
        let mut goals = Vec::new();
        for ours in self
            .series
            .iter()
            .filter(|series| series.peer == "bowstring")
        {
            let size = size_name(ours.bytes);
            let name = format!("{} {size}{}", ours.work.name(), ours.place.suffix());
            if ours.bytes >= 16 << 20
                && let Some(raw) = self.raw(ours)
            {
                let least = if ours.work == Work::Get { 0.85 } else { 0.80 };
                goals.push(Goal::at_least(
                    &name,
                    "raw TCP",
                    least,
                    ours.speed_over(raw),
                ));
                goals.push(Goal::at_most(
                    &format!("{name}, CPU seconds a gigabyte, both ends"),
                    "raw TCP",
                    1.2,
                    ours.cpu_over(raw),
                ));
            }
            if ours.bytes >= 16 << 20
                && let Some(plain) = self.other("bowstring-h2-crate", ours)
            {
                goals.push(Goal::at_least(
                    &name,
                    "our server by the h2 crate's client",
                    1.0,
                    ours.speed_over(plain),
                ));
            }
            if ours.bytes >= 16 << 20
                && let Some(stock) = self.other("stock-flight", ours)
            {
                goals.push(Goal::at_least(
                    &name,
                    "stock arrow-flight",
                    1.8,
                    ours.speed_over(stock),
                ));
            }
        }
        self.goals.extend(goals);
    }

    /// The rows of the unmodified PyArrow client.
    pub fn pyarrow(&mut self) {
        let mut goals = Vec::new();
        for ours in self
            .series
            .iter()
            .filter(|series| series.peer == "pyarrow-bowstring")
        {
            let Some(theirs) = self.other("pyarrow-pyarrow", ours) else {
                continue;
            };
            let least = if ours.bytes <= SMALL_BYTES { 1.3 } else { 1.0 };
            let name = format!(
                "PyArrow client, {} {}",
                ours.work.name(),
                size_name(ours.bytes)
            );
            goals.push(Goal::at_least(
                &name,
                "PyArrow's C++ server",
                least,
                ours.speed_over(theirs),
            ));
            if ours.bytes <= SMALL_BYTES {
                let cpu = 1.0 / ours.cpu_over(theirs);
                goals.push(Goal::at_least(
                    &format!("{name}, CPU both ends"),
                    "PyArrow's C++ server",
                    least,
                    cpu,
                ));
            }
        }
        self.goals.extend(goals);
    }

    /// The rows of many small entries.
    pub fn small(&mut self, held: &Held) {
        let name = format!("{} entries of 64 B", held.put);
        let beyond = held.beyond;
        self.goals.push(Goal {
            work: format!("{name}: bytes an entry beyond tensor and key"),
            against: "itself".to_owned(),
            reach: "≤ 112".to_owned(),
            measured: format!("{beyond:.1}"),
            met: beyond <= 112.0,
        });
        self.goals.push(Goal {
            work: format!(
                "{name}, --memory {}: every key still there",
                mib(held.limit)
            ),
            against: "itself".to_owned(),
            reach: held.put.to_string(),
            measured: format!("{} ({:.1} s)", held.entries, held.seconds),
            met: held.entries == held.put,
        });
        self.charged(held, &name);
        let own = (held.charged - held.charged_empty) as f64 / held.put as f64;
        self.goals.push(Goal::figure(
            &format!("{name}: charged bytes an entry beyond its 64 and its key's 8"),
            "",
            format!("{:.1}", own - 72.0),
        ));
        let [some, more] = held.scans;
        let rate = 0.1 / more;
        self.goals.push(Goal::figure(
            &format!("{name}: prefix get of 1,000 keys, and of 100,000, by stock arrow-flight"),
            "",
            format!(
                "{:.2} ms, {:.0} ms ({rate:.2} million a second)",
                some * 1e3,
                more * 1e3
            ),
        ));
    }

    /// The rows of entries that expire.
    pub fn expiring(&mut self, seen: &Expiring) {
        let name = format!("{} entries of 64 B with a time to live", seen.count);
        let [quiet, waiting] = seen.idle.map(|share| share * 100.0);
        self.goals.push(Goal::figure(
            &format!("{name}: the server's CPU while none is due"),
            "as many without",
            format!("{waiting:.2} against {quiet:.2} % of a core"),
        ));
        self.goals.push(Goal::figure(
            &format!("{name}: the server's CPU an entry that goes"),
            "",
            format!(
                "{:.2} µs; none left {:.1} s after the last was due",
                seen.micros, seen.late
            ),
        ));
    }

    /// What the same entries cost elsewhere.
    pub fn elsewhere(&mut self, peer: &str, count: u64, beyond: Outcome<f64>) {
        match beyond {
            Ok(beyond) => self.goals.push(Goal::figure(
                &format!(
                    "{count} entries of 64 B: charged bytes an entry beyond its 64 and its key's 8"
                ),
                peer,
                format!("{beyond:.1}"),
            )),
            Err(why) => self.skipped.push(format!("{peer}: {why}")),
        }
    }

    /// The rows of a full cache.
    pub fn full(&mut self, held: &Held) {
        let share = held.bytes as f64 / held.limit as f64;
        let name = "filled with 64 KiB tensors";
        self.goals.push(Goal::at_least(
            &format!("tensor bytes held, {name}"),
            "--memory",
            0.85,
            share,
        ));
        self.charged(held, name);
    }

    /// The rows of look-ups as keys grow; the first has the fewest.
    pub fn lookup(&mut self, lookups: &[Lookup]) {
        let Some((few, more)) = lookups.split_first() else {
            return;
        };
        for many in more {
            let mut goal = Goal::at_most(
                &format!(
                    "one get of 64 B, {} keys ({:.1} → {:.1} CPU-µs both ends)",
                    many.keys, few.cpu_micros, many.cpu_micros
                ),
                &format!("itself with {} keys", few.keys),
                1.1,
                many.cpu_ratio,
            );
            write_to(
                &mut goal.measured,
                format_args!(
                    " (time {:.2} ×: {:.1} → {:.1} µs)",
                    many.ratio, few.micros, many.micros
                ),
            );
            self.goals.push(goal);
        }
    }

    /// The tables.
    pub fn markdown(&self) -> String {
        let mut out =
            String::from("| work | against | to reach | measured | |\n|---|---|---|---|---|\n");
        for goal in &self.goals {
            let Goal {
                work,
                against,
                reach,
                measured,
                met,
            } = goal;
            let met = match (reach.as_str(), met) {
                ("", _) => "",
                (_, true) => "✓",
                (_, false) => "falls short",
            };
            write_to(
                &mut out,
                format_args!("| {work} | {against} | {reach} | {measured} | {met} |\n"),
            );
        }
        out.push_str("\n| work | size | peer | µs an operation | GB/s | CPU-µs both ends | CPU-s a GB |\n|---|---|---|---|---|---|---|\n");
        for series in &self.series {
            let (seconds, cpu, bytes) = (series.op_seconds(), series.op_cpu(), series.bytes as f64);
            write_to(
                &mut out,
                format_args!(
                    "| {} | {}{} | {} | {:.1} | {:.2} | {:.1} | {:.3} |\n",
                    series.work.name(),
                    size_name(series.bytes),
                    series.place.suffix(),
                    series.peer,
                    seconds * 1e6,
                    bytes / seconds / 1e9,
                    cpu * 1e6,
                    cpu / bytes * 1e9
                ),
            );
        }
        for skipped in &self.skipped {
            write_to(&mut out, format_args!("\nskipped: {skipped}\n"));
        }
        out
    }

    /// Everything, repetitions included.
    pub fn json(&self) -> Value {
        let goals: Vec<Value> = self.goals.iter().map(Goal::json).collect();
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|series| {
                json!({
                    "peer": series.peer, "place": series.place.suffix().trim_start_matches(", "), "work": series.work.name(), "bytes": series.bytes, "ops": series.ops,
                    "seconds": series.seconds, "cpu_seconds": series.cpu,
                })
            })
            .collect();
        json!({ "goals": goals, "series": series, "skipped": self.skipped })
    }

    fn charged(&mut self, held: &Held, name: &str) {
        let limit = held.limit / 100 * 102 + (64 << 20);
        self.goals.push(Goal {
            work: format!("memory charged, {name}"),
            against: "--memory".to_owned(),
            reach: format!("≤ {}", mib(limit)),
            measured: format!(
                "{} (the ledger says {} of {})",
                mib(held.charged),
                mib(held.used),
                mib(held.limit)
            ),
            met: held.charged <= limit,
        });
    }

    /// The faster of the two plain sockets.
    fn raw(&self, ours: &Series) -> Option<&Series> {
        let both = ["raw-tcp", "raw-tcp-wide"].map(|peer| self.other(peer, ours));
        let faster = |one: &&Series, two: &&Series| one.op_seconds().total_cmp(&two.op_seconds());
        both.into_iter().flatten().min_by(faster)
    }

    fn other(&self, peer: &str, ours: &Series) -> Option<&Series> {
        self.series.iter().find(|series| {
            (series.peer, series.place, series.work, series.bytes)
                == (peer, ours.place, ours.work, ours.bytes)
        })
    }
}

impl Goal {
    /// A ratio that is to be this high.
    pub fn at_least(work: &str, against: &str, least: f64, ratio: f64) -> Goal {
        Goal {
            work: work.to_owned(),
            against: against.to_owned(),
            reach: format!("≥ {least:.2} ×"),
            measured: format!("{ratio:.2} ×"),
            met: ratio >= least,
        }
    }

    /// A ratio that is to be no higher.
    pub fn at_most(work: &str, against: &str, most: f64, ratio: f64) -> Goal {
        Goal {
            reach: format!("≤ {most:.2} ×"),
            met: ratio <= most,
            ..Goal::at_least(work, against, most, ratio)
        }
    }

    /// A figure that is to be this high.
    pub fn at_least_so_many(work: &str, least: f64, figure: f64) -> Goal {
        Goal {
            reach: format!("≥ {least:.0}"),
            met: figure >= least,
            ..Goal::figure(work, "itself", format!("{figure:.0}"))
        }
    }

    /// A figure with a unit of its own that is to be no higher.
    pub fn below(work: &str, against: &str, most: f64, figure: f64, unit: &str) -> Goal {
        Goal {
            reach: format!("≤ {most:.0} {unit}"),
            met: figure <= most,
            ..Goal::figure(work, against, format!("{figure:.2}"))
        }
    }

    /// A figure that nobody has to reach.
    pub fn figure(work: &str, against: &str, measured: String) -> Goal {
        Goal {
            work: work.to_owned(),
            against: against.to_owned(),
            reach: String::new(),
            measured,
            met: true,
        }
    }

    /// Says more of what was measured.
    pub fn note(&mut self, more: &str) {
        write_to(&mut self.measured, format_args!("; {more}"));
    }

    fn json(&self) -> Value {
        let Goal {
            work,
            against,
            reach,
            measured,
            met,
        } = self;
        json!({ "work": work, "against": against, "reach": reach, "measured": measured, "met": met })
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn write_to(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Place;

    #[test]
    fn goals_are_judged_by_the_pairs() {
        let one = |peer, seconds: f64| Series {
            peer,
            place: Place::Free,
            work: Work::Get,
            bytes: 16 << 20,
            ops: 1,
            seconds: vec![seconds; 3],
            cpu: vec![seconds; 3],
        };
        let series = vec![
            one("bowstring", 1.0),
            one("raw-tcp", 1.3),
            one("raw-tcp-wide", 0.9),
            one("stock-flight", 1.5),
        ];
        let mut report = Report {
            series,
            ..Report::default()
        };
        report.rust();
        report.skipped.push("redis".to_owned());
        let table = report.markdown();
        assert!(
            table.contains("| get 16 MiB | raw TCP | ≥ 0.85 × | 0.90 × | ✓ |"),
            "{table}"
        );
        assert!(
            table.contains("| raw TCP | ≤ 1.20 × | 1.11 × | ✓ |"),
            "{table}"
        );
        assert!(
            table.contains("| get 16 MiB | stock arrow-flight | ≥ 1.80 × | 1.50 × | falls short |"),
            "{table}"
        );
        assert!(table.contains("skipped: redis"));
        assert_eq!(report.json()["goals"].as_array().unwrap().len(), 3);
    }
}
