//! Small gets while something large goes on beside them, against themselves when it is quiet.

use std::process::Command;

use futures::TryStreamExt;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::load::{Sample, Turns, bench, command, load};
use crate::peers::bowstring::Server;
use crate::peers::stock_flight;
use crate::peers::{Peer, Work};
use crate::process::{Process, cores};
use crate::report::Goal;

const STREAMS: usize = 64;
const LARGE: u64 = 256 << 20;
const SMALL: [&str; 6] = ["--size", "3KiB", "--keys", "10000", "--concurrency", "4"];

/// All rows.
pub fn run(rounds: usize) -> Outcome<Vec<Goal>> {
    let mut goals = Vec::new();
    let server = Server::start("2GiB")?;
    load(&server.flight, &SMALL)?;
    let mut large = crate::peers::bowstring::Bowstring::new(&server)?;
    large.prepare(LARGE)?;
    large.run(Work::Get, LARGE, 1)?;
    drop(large);
    let turns = beside(&server, rounds, || streams(&server))?;
    goals.extend(rows(&turns, "64 × 256 MiB stream"));
    let turns = beside(&server, rounds, busy_loops)?;
    goals.extend(controls(&turns));
    let server = Server::start("1GiB")?;
    load(&server.flight, &SMALL)?;
    let turns = beside(&server, rounds, || churn(&server))?;
    goals.extend(rows(&turns, "eviction runs"));
    Ok(goals)
}

fn beside<T>(server: &Server, rounds: usize, busy: impl Fn() -> Outcome<T>) -> Outcome<Turns> {
    let gets = || {
        let flags = [&SMALL[..], &["--duration", "3s"]].concat();
        bench(&server.flight, server.id(), &flags)
    };
    Turns::take(
        rounds,
        || {
            let _busy = busy()?;
            gets()
        },
        gets,
    )
}

fn rows(turns: &Turns, beside: &str) -> [Goal; 2] {
    let name = format!("3 KiB gets while {beside}");
    let tail = |one: &Sample| one.p99_9_micros;
    let mut slow = Goal::at_most(
        &format!("{name}, p99.9"),
        "itself, quiet",
        3.0,
        turns.ratio(tail),
    );
    let [busy, quiet] = turns.medians(tail);
    slow.note(&format!("{busy:.0} against {quiet:.0} µs"));
    let rate = |one: &Sample| one.per_second;
    let mut fast = Goal::at_least(
        &format!("{name}, throughput"),
        "itself, quiet",
        0.5,
        turns.ratio(rate),
    );
    let [busy, quiet] = turns.medians(rate);
    fast.note(&format!("{busy:.0} against {quiet:.0} a second"));
    let [missed, _] = turns.medians(|one| one.misses as f64);
    if missed > 0.0 {
        fast.note(&format!("{missed:.0} misses"));
    }
    [slow, fast]
}

/// What is the machine's part in the rows above.
fn controls(turns: &Turns) -> [Goal; 2] {
    let name = "3 KiB gets beside a busy loop a core, which asks for nothing";
    let figure = |what: &str, of: fn(&Sample) -> f64, unit: &str| {
        let [busy, quiet] = turns.medians(of);
        let found = format!(
            "{:.2} ×; {busy:.0} against {quiet:.0} {unit}",
            turns.ratio(of)
        );
        Goal::figure(&format!("{name}, {what}"), "itself, quiet", found)
    };
    [
        figure("p99.9", |one| one.p99_9_micros, "µs"),
        figure("throughput", |one| one.per_second, "a second"),
    ]
}

/// A process a core that only counts, until this is dropped.
fn busy_loops() -> Outcome<Vec<Process>> {
    let start = || Process::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    (0..cores()).map(|_| start()).collect()
}

/// Readers who throw away what they read, until this is dropped.
fn streams(server: &Server) -> Outcome<Runtime> {
    let runtime = Runtime::new()?;
    for _ in 0..STREAMS {
        let uri = server.flight.replace("grpc://", "http://");
        runtime.spawn(async move {
            let mut client = stock_flight::connect(&uri).await?;
            loop {
                let ticket = arrow_flight::Ticket::new(format!(r#"{{"key": "t{LARGE}"}}"#));
                let mut stream = client.do_get(ticket).await?.into_inner();
                while stream.try_next().await?.is_some() {}
            }
            #[expect(unreachable_code, reason = "says what kind of error `?` makes")]
            Outcome::Ok(())
        });
    }
    Ok(runtime)
}

/// Puts of many more keys than fit, until this is dropped.
fn churn(server: &Server) -> Outcome<Process> {
    let flags = [
        "--size",
        "64KiB",
        "--keys",
        "100000",
        "--namespace",
        "churn",
    ];
    let more = ["--no-load", "--read-share", "0", "--duration", "1h"];
    Process::start(&mut command(server, &[&flags[..], &more].concat())?)
}
