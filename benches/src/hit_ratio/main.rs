//! Replays traces against the policies of `cache/` as they are: hit ratios at parts of the trace's
//! footprint, beside what an oracle would reach, and what a bulk load costs those who are served.
//!
//! - `trace`: the requests. `belady`: the oracle. `load`: a bulk load in the middle of a trace.
//!
//! Writes a JSON object a line. `benches/python/hit_ratio` makes the traces, runs the same through
//! libcachesim, and draws the table.

mod belady;
mod load;
mod trace;

use std::path::PathBuf;

use bowstring_cache::Eviction;
use bowstring_cache::evict::simulation::{Asked, Simulation};
use clap::Parser;
use serde_json::{Value, json};

use crate::trace::Trace;

/// What goes wrong ends the run and is told to the person who started it.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Replays traces against the eviction policies
#[derive(Debug, Parser)]
struct Arguments {
    /// Files of requests, each two little-endian u64: an object's number and its bytes
    traces: Vec<PathBuf>,
    /// Sizes of the cache, in hundredths of the bytes of all objects
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 10, 25])]
    percents: Vec<u64>,
    /// Policies to replay
    #[arg(long, value_delimiter = ',', default_values_t = Eviction::ALL)]
    policies: Vec<Eviction>,
    /// Leave the oracle out, which takes longest
    #[arg(long)]
    no_belady: bool,
    /// Instead: what a bulk load in the middle costs
    #[arg(long)]
    load: bool,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    for path in &arguments.traces {
        if !path.exists() {
            eprintln!("skipped: no file; path=`{}`", path.display());
            continue;
        }
        let trace = Trace::read(path)?;
        println!("{}", trace.describe());
        for percent in &arguments.percents {
            let bytes_max = trace.footprint() / 100 * percent;
            if arguments.load {
                for policy in &arguments.policies {
                    println!("{}", load::run(&trace, *policy, *percent));
                }
                continue;
            }
            for policy in &arguments.policies {
                let (ratios, follows) = replay(&trace, *policy, bytes_max);
                let mut line = ratios.json(&trace, policy.name(), *percent);
                line["follows"] = follows.name().into();
                println!("{line}");
            }
            if !arguments.no_belady {
                for (name, ratios) in belady::bounds(&trace, bytes_max) {
                    println!("{}", ratios.json(&trace, name, *percent));
                }
            }
        }
    }
    Ok(())
}

fn replay(trace: &Trace, policy: Eviction, bytes_max: u64) -> (Ratios, Eviction) {
    let mut simulation = Simulation::new(policy, bytes_max, trace.objects());
    let mut ratios = Ratios::default();
    for (object, bytes) in trace.requests() {
        let hit = simulation.ask(trace::hash(object), bytes) == Asked::Hit;
        ratios.count(hit, bytes);
    }
    (ratios, simulation.follows())
}

/// Requests and bytes, and those of them that were hits.
#[derive(Debug, Clone, Copy, Default)]
struct Ratios {
    asked: (u64, u64),
    hit: (u64, u64),
}

impl Ratios {
    fn count(&mut self, hit: bool, bytes: u64) {
        self.asked = (self.asked.0 + 1, self.asked.1 + bytes);
        if hit {
            self.hit = (self.hit.0 + 1, self.hit.1 + bytes);
        }
    }

    /// Hundredths of the requests that were hits.
    fn objects(&self) -> f64 {
        percent(self.hit.0, self.asked.0)
    }

    fn json(&self, trace: &Trace, policy: &str, percent_of: u64) -> Value {
        json!({
            "trace": trace.name(),
            "percent": percent_of,
            "policy": policy,
            "objects": self.objects(),
            "bytes": percent(self.hit.1, self.asked.1),
        })
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    let ratio = part as f64 / whole.max(1) as f64;
    (ratio * 10_000.0).round() / 100.0
}
