//! `bowstring bench` and redis-benchmark in turn, each a process of its own against a server that lives through all of it.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Outcome;
use crate::grid::{median, pairs};
use crate::peers::bowstring::Server;
use crate::process::{CpuUse, beside};

/// What one run of a load generator found.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Operations a second.
    pub per_second: f64,
    /// CPU microseconds an operation, both ends.
    pub cpu_micros: f64,
    /// Latency.
    pub p99_9_micros: f64,
    /// Gets that found nothing.
    pub misses: u64,
    /// Gets or puts, these included.
    pub operations: f64,
}

/// What `bowstring bench` finds at that server, whose process has this id. `--json` and what was put before count as given.
pub fn bench(endpoint: &str, server: u32, flags: &[&str]) -> Outcome<Sample> {
    let (before, client) = (CpuUse::of(server), children_cpu()?);
    let told = run(endpoint, &[flags, &["--no-load"]].concat())?;
    let cpu = CpuUse::of(server).since(&before) + children_cpu()? - client;
    let kind = if told["put"].is_null() { "get" } else { "put" };
    let number = |name: &str| told[kind][name].as_f64().unwrap_or(f64::NAN);
    Ok(Sample {
        per_second: number("per_second"),
        cpu_micros: cpu / number("operations") * 1e6,
        p99_9_micros: number("p99_9_us"),
        misses: told["misses"].as_u64().unwrap_or(0),
        operations: number("operations"),
    })
}

/// Puts what [`bench`] with the same sizes and keys is to find.
pub fn load(endpoint: &str, flags: &[&str]) -> Outcome<()> {
    run(endpoint, &[flags, &["--operations", "1"]].concat()).map(drop)
}

/// The command for [`bench`], to run beside something else.
pub fn command(server: &Server, flags: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(beside("bowstring")?);
    command.args(["bench", "--endpoint", &server.flight]);
    command.args(flags);
    Ok(command)
}

fn run(endpoint: &str, flags: &[&str]) -> Outcome<Value> {
    let mut command = Command::new(beside("bowstring")?);
    command.args(["bench", "--json", "--endpoint", endpoint]);
    let done = command.args(flags).stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("bowstring bench {flags:?} failed").into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// Samples of two that took turns.
pub struct Turns {
    ours: Vec<Sample>,
    theirs: Vec<Sample>,
}

impl Turns {
    /// Lets both run so often, after one round that does not count.
    pub fn take(
        rounds: usize,
        mut ours: impl FnMut() -> Outcome<Sample>,
        mut theirs: impl FnMut() -> Outcome<Sample>,
    ) -> Outcome<Turns> {
        let mut turns = Turns {
            ours: Vec::new(),
            theirs: Vec::new(),
        };
        for round in 0..=rounds {
            // Who goes first changes.
            let (one, other) = if round % 2 == 0 {
                (ours()?, theirs()?)
            } else {
                let other = theirs()?;
                (ours()?, other)
            };
            if round > 0 {
                turns.ours.push(one);
                turns.theirs.push(other);
            }
        }
        Ok(turns)
    }

    /// How many times theirs ours is, the median of the pairs.
    pub fn ratio(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let each = |samples: &[Sample]| samples.iter().map(&of).collect::<Vec<_>>();
        pairs(&each(&self.ours), &each(&self.theirs))
    }

    /// The medians, ours and theirs.
    pub fn medians(&self, of: impl Fn(&Sample) -> f64) -> [f64; 2] {
        [&self.ours, &self.theirs]
            .map(|samples| median(&samples.iter().map(&of).collect::<Vec<_>>()))
    }
}

/// CPU seconds of the children that have ended and been waited for, in steps of 10 ms.
pub fn children_cpu() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may have spaces in it: the third field and on; these are the 16th and 17th.
    let fields = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let ticks = |at| fields.split_whitespace().nth(at)?.parse::<f64>().ok();
    let (user, system) = (ticks(13), ticks(14));
    Ok((user.ok_or("no cutime")? + system.ok_or("no cstime")?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_alternate_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let take = |name, per_second| {
            order.borrow_mut().push(name);
            Ok(Sample {
                per_second,
                cpu_micros: 1.0,
                p99_9_micros: 1.0,
                misses: 0,
                operations: 1.0,
            })
        };
        let turns = Turns::take(2, || take('a', 3.0), || take('b', 2.0)).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        assert_eq!(turns.ratio(|sample| sample.per_second), 1.5);
        assert_eq!(turns.medians(|sample| sample.per_second), [3.0, 2.0]);
        assert!(children_cpu().unwrap() >= 0.0);
    }
}
