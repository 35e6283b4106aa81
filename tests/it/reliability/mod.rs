//! What holds when a client does wrong, or when there is too little of something.
//!
//! - `mutated`: damaged puts and requests over live connections (with `mutate`, what is done to them)
//! - `exchanged`: damaged exchanges, the same way
//! - `lengths`: declared lengths that are lies, a thousand at once
//! - `lies`: shapes and schemas that are lies (with `lie_of_schema`, `lie_of_values`)
//! - `names`: hostile names (with `hostile`)
//! - `refusals`: one client, refused again and again
//! - `pressure`: ten times the memory, put and read at once (with `content`)
//! - `stalled`: readers that do not read
//! - `beside_puts`: readers beside puts that receive as much as they may
//! - `floods`: connections and frames without end
//! - `unended`: requests that are never ended, and answers larger than their request
//! - `cold`: a server with a cold tier, killed, and one whose store was damaged; `disk`: one whose disk is full or fails, `store`: one over S3 on a bad day
//! - `runaway`: queries of SQL that would never end
//! - `upgrade`: a server that is stopped, or replaced by one that takes over its memory (with `crowd`, clients that try again)
//!
//! Helpers: `dice` (the same numbers in every run), `raw` (gRPC without a gRPC library), `frames`
//! (HTTP/2 without an HTTP/2 library), `stream` (puts, field by field), `lie` (Arrow IPC, number by
//! number), `state` (what a server has and how to take it away).
//!
//! What is asserted is bytes, counts and that everything ends; never how soon. Sizes are those of a
//! run of some minutes; `BOWSTRING_RELIABILITY_SCALE=10` makes them tenfold, `BOWSTRING_RELIABILITY_LARGE=1` takes
//! memory and tensors for a large machine (`docs/reliability.md`).

mod beside_puts;
mod cold;
pub mod content;
mod crowd;
pub mod dice;
mod disk;
mod exchanged;
mod floods;
mod frames;
mod hostile;
mod lengths;
mod lie;
mod lie_of_schema;
mod lie_of_values;
mod lies;
mod mutate;
mod mutated;
mod names;
mod pressure;
mod raw;
mod refusals;
mod runaway;
mod stalled;
mod state;
mod store;
mod stream;
mod unended;
mod upgrade;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use raw::Answer;

/// `count`, or what the environment makes of it.
fn scaled(count: usize) -> usize {
    let scale = std::env::var("BOWSTRING_RELIABILITY_SCALE").ok();
    count * scale.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Whether the environment wants larger memory and larger tensors.
fn is_large() -> bool {
    std::env::var_os("BOWSTRING_RELIABILITY_LARGE").is_some()
}

/// How calls ended, by code; for reports.
#[derive(Debug, Default)]
struct Tally(Mutex<(BTreeMap<String, u64>, Duration)>);

impl Tally {
    fn add(&self, answer: &Answer) {
        let code = match (&answer.broken, answer.status) {
            (Some(_), _) => "broken",
            (None, Some(0)) => "ok",
            (None, _) => &answer.code,
        };
        let mut seen = self.0.lock().expect("no panic before");
        *seen.0.entry(code.to_owned()).or_default() += 1;
        seen.1 = seen.1.max(answer.waited);
    }

    /// Prints what came of it, for `--nocapture` and `docs/reliability.md`.
    fn report(&self, what: &str, more_bytes: u64) {
        eprintln!("{what}: {self}; memory +{} KiB", more_bytes >> 10);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.lock().map_err(|_| fmt::Error)?;
        write!(
            f,
            "{} calls, the longest {:?}:",
            seen.0.values().sum::<u64>(),
            seen.1
        )?;
        seen.0
            .iter()
            .try_for_each(|(code, count)| write!(f, " {code} {count}"))
    }
}
