//! `bowstring bench`: puts load on a server, ours or Redis, and says what it took.
//!
//! - `settings`: the flags. `sizes`, `chooser`: how large a key's tensor is, and which key is next
//! - `target`: what is asked: `flight`, `mux`, `redis`, a file each
//! - `schedule`: when an operation is to start. `worker`: one connection's work
//! - `tally`: what came of it. `report`: for people, and as JSON
//!
//! A connection for as many as `--concurrency` says, and a thread for each or, with `--threads`, for several; nothing is shared
//! while they work.

mod chooser;
mod report;
mod schedule;
mod settings;
mod sizes;
mod tally;
mod target;
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};

use report::Report;
pub use settings::Settings;
use tally::Tally;
use worker::Worker;

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The flags do not go together.
    #[error("{0}")]
    Settings(String),
    /// The target is not there, or went away.
    #[error("{what}; endpoint=`{endpoint}` source=`{source}`")]
    Target {
        /// What failed.
        what: &'static str,
        /// As it stands in the settings.
        endpoint: String,
        /// What was said.
        source: bowstring_wire::error::Error,
    },
    /// Operations failed, or what was read was not what had been put: the report says how many.
    #[error(
        "{failed} operations failed, {wrong} gets returned other bytes than were put; first=`{first}`"
    )]
    Failed {
        /// How many the server refused.
        failed: u64,
        /// How many returned other bytes.
        wrong: u64,
        /// What was said of the first of them.
        first: String,
    },
    /// A thread could not be started, or the report not be written.
    #[error("cannot run; source=`{0}`")]
    System(#[from] std::io::Error),
}

impl BenchError {
    /// What the process exits with: 2 where the settings are wrong, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            _ => 1,
        }
    }
}

/// Puts the keys, does the work and writes the report.
///
/// # Errors
/// Where it could not be done, and, behind the report, where some of it failed.
pub fn run(settings: &Settings, out: &mut impl std::io::Write) -> Result<(), BenchError> {
    settings.check()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut workers = (0..settings.concurrency)
        .map(|number| Worker::connect(settings, number, &clock))
        .collect::<Result<Vec<_>, _>>()?;
    let loading = clock.monotonic();
    if !settings.no_load {
        in_threads(&mut workers, 1, |workers| {
            workers.iter_mut().try_for_each(Worker::load)
        })?;
    }
    let started = clock.monotonic();
    let each = settings.connections_a_thread();
    let tallies = in_threads(&mut workers, each, move |workers| {
        Worker::work(workers, started)
    })?;
    let mut tally = Tally::default();
    for one in tallies {
        tally.add(&one);
    }
    let report = Report {
        settings,
        loaded: started.saturating_sub(loading),
        tally,
    };
    report.write(out)?;
    match report.tally.first_failure() {
        None => Ok(()),
        Some(first) => Err(BenchError::Failed {
            failed: report.tally.failed,
            wrong: report.tally.wrong,
            first: first.to_owned(),
        }),
    }
}

/// Has all workers do it at the same time, so many of them on each thread.
fn in_threads<'a, T: Send>(
    workers: &mut [Worker<'a>],
    each: usize,
    work: impl Fn(&mut [Worker<'a>]) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    let work = &work;
    thread::scope(|scope| {
        let threads = workers
            .chunks_mut(each)
            .map(|workers| thread::Builder::new().spawn_scoped(scope, move || work(workers)))
            .collect::<Result<Vec<_>, _>>()?;
        threads
            .into_iter()
            .map(|thread| {
                let panicked = |_| BenchError::System(std::io::Error::other("a worker panicked"));
                thread.join().map_err(panicked)?
            })
            .collect()
    })
}

/// Seconds, for a rate.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
