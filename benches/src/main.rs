//! The comparison runner: us and our peers in one run, pairwise, medians and ratios; a table, JSON and a plot out.
//!
//! - `peers/`: a file a peer, each with its server as a process of its own. `process`: those processes and what they cost.
//! - `grid`: one tensor at a time, every size. `entries`: memory an entry, a full cache. `others`: the same in Redis and memcached. `lookup`: gets as keys grow.
//! - `load`: `bowstring bench` and redis-benchmark in turn; `redis_rows`, `tails`: the rows made of that.
//! - `overload`: more than a server can take. `upgrade`: a server that is replaced.
//! - `loading`: `bowstring load` of a file of embeddings.
//! - `bulk`: ten million tensors put over the wire, into the engine, into Redis. `redhare_rows`: its own work.
//! - `cold`: what is in files only, and what that costs what is in memory.
//! - `report`: the table. `plot`: the picture. `clock`: time.

mod bulk;
mod clock;
mod cold;
mod entries;
mod grid;
mod load;
mod loading;
mod lookup;
mod others;
mod overload;
mod peers;
mod plot;
mod process;
mod redhare_rows;
mod redis_rows;
mod report;
mod tails;
mod upgrade;

use std::fs;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::peers::bowstring::{Bowstring, Server};
use crate::peers::h2_client::H2Client;
use crate::peers::pyarrow::{PyArrow, Python};
use crate::peers::raw_tcp::{self, Buffers, RawTcp};
use crate::peers::stock_flight::{self, StockFlight};
use crate::peers::{Peer, Work};
use crate::process::{Place, Process};
use crate::report::Report;

/// What goes wrong ends the run and is told to the person who started it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Compares Bowstring with its peers, all in one run
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    peer: Option<Role>,
    /// What to measure; everything where nothing is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Repetitions of each kind of work, size and peer
    #[arg(long, default_value_t = 15)]
    repeats: usize,
    /// Tensor sizes in KiB, each a multiple of 1 KiB
    #[arg(long, value_delimiter = ',', default_values_t = [3, 64, 1 << 10, 16 << 10, 256 << 10])]
    sizes_kib: Vec<u64>,
    /// Kinds of work to time
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Work::Get, Work::Array, Work::Put])]
    works: Vec<Work>,
    /// Where the two ends of the Rust peers run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Place::Free])]
    place: Vec<Place>,
    /// How long it is overloaded
    #[arg(long, default_value_t = 30)]
    overload_seconds: u64,
    /// First bring the peers that are not built here under target/peers: Redis, memcached, redhare
    #[arg(long)]
    install_peers: bool,
    /// Where compare.md, compare.json and compare.svg go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rust client, raw TCP, stock arrow-flight
    Rust,
    /// PyArrow's client against both servers
    Pyarrow,
    /// A full cache, and a million entries, in Redis and memcached too
    Memory,
    /// Ten million entries in 2.5 GiB
    Many,
    /// Redis: large values, pipelined and single gets, many at a time from Python
    Redis,
    /// redhare: blocks of a KV cache
    Redhare,
    /// Ten million tensors put by sixteen writers
    Bulk,
    /// `bowstring load` of a Parquet file
    Load,
    /// Small gets beside streams and eviction
    Tails,
    /// Look-ups as keys grow to ten million
    Lookup,
    /// The cold tier: large tensors, many small ones, a start, twenty times the memory
    Cold,
    /// Five times the load it can take
    Overload,
    /// Replaced by a successor that takes over 1.2 million entries
    Upgrade,
}

/// What the runner starts of itself
#[derive(Debug, Subcommand)]
enum Role {
    /// Serve as one of the peers
    #[command(subcommand, hide = true)]
    Peer(Name),
}

#[derive(Debug, Subcommand)]
enum Name {
    /// A plain socket
    RawTcp {
        /// How much may be on the way
        #[arg(value_enum)]
        buffers: Buffers,
    },
    /// A file through a plain socket
    FileTcp,
    /// arrow-flight over tonic
    StockFlight,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    match arguments.peer {
        Some(Role::Peer(Name::RawTcp { buffers })) => return raw_tcp::serve(buffers),
        Some(Role::Peer(Name::FileTcp)) => return cold::file_tcp::serve(),
        Some(Role::Peer(Name::StockFlight)) => return stock_flight::serve(),
        None => {}
    }
    if arguments.install_peers {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/install-peers");
        if !std::process::Command::new(script).status()?.success() {
            return Err("the peers cannot be installed".into());
        }
    }
    let sizes: Vec<u64> = arguments.sizes_kib.iter().map(|kib| kib << 10).collect();
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut report = Report::default();
    if wanted(Part::Rust) {
        for &place in &arguments.place {
            place.settle()?;
            rust(
                &mut report,
                place,
                &arguments.works,
                &sizes,
                arguments.repeats,
            )?;
        }
        report.rust();
        Place::Free.settle()?;
    }
    if wanted(Part::Pyarrow) {
        match Python::find() {
            Ok(python) => pyarrow(
                &mut report,
                &python,
                &arguments.works,
                &sizes,
                arguments.repeats,
            )?,
            Err(why) => report.skipped.push(format!("PyArrow: {why}")),
        }
    }
    if wanted(Part::Memory) {
        report.full(&entries::full("1GiB")?);
        report.small(&entries::small("1GiB", 1_000_000)?);
        report.elsewhere("Redis", 1_000_000, others::redis(1_000_000));
        report.elsewhere("memcached", 1_000_000, others::memcached(1_000_000));
    }
    if wanted(Part::Many) {
        report.small(&entries::small("2560MiB", 10_000_000)?);
        report.expiring(&entries::expiring("2560MiB", 10_000_000)?);
    }
    if wanted(Part::Lookup) {
        report.lookup(&lookup::run(arguments.repeats)?);
    }
    if wanted(Part::Redis) {
        match redis_rows::run(arguments.repeats.min(5), Python::find()) {
            Ok((goals, skipped)) => {
                report.goals.extend(goals);
                report.skipped.extend(skipped);
            }
            Err(why) => report.skipped.push(format!("Redis: {why}")),
        }
    }
    if wanted(Part::Redhare) {
        let rows = Python::find().and_then(|python| redhare_rows::run(3, &python));
        match rows {
            Ok(goals) => report.goals.extend(goals),
            Err(why) => report.skipped.push(format!("redhare: {why}")),
        }
    }
    if wanted(Part::Bulk) {
        let (goals, skipped) = bulk::run()?;
        report.goals.extend(goals);
        report.skipped.extend(skipped);
    }
    if wanted(Part::Load) {
        report.goals.extend(loading::run(arguments.repeats)?);
    }
    if wanted(Part::Tails) {
        report.goals.extend(tails::run(arguments.repeats.min(5))?);
    }
    if wanted(Part::Cold) {
        report.goals.extend(cold::run(arguments.repeats)?);
    }
    if wanted(Part::Overload) {
        report
            .goals
            .extend(overload::run(arguments.overload_seconds)?);
    }
    if wanted(Part::Upgrade) {
        report.goals.extend(upgrade::run(arguments.repeats.min(5))?);
    }
    let markdown = report.markdown();
    print!("{markdown}");
    fs::create_dir_all(&arguments.out)?;
    fs::write(arguments.out.join("compare.md"), markdown)?;
    fs::write(
        arguments.out.join("compare.json"),
        serde_json::to_string_pretty(&report.json())? + "\n",
    )?;
    fs::write(arguments.out.join("compare.svg"), plot::svg(&report.series))?;
    Ok(())
}

fn rust(
    report: &mut Report,
    place: Place,
    works: &[Work],
    sizes: &[u64],
    repeats: usize,
) -> Outcome<()> {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    // Dropped, and so stopped, after its client.
    let server = match Server::start("2GiB") {
        Ok(server) => Some(server),
        Err(why) => {
            report.skipped.push(format!("bowstring: {why}"));
            None
        }
    };
    if let Some(server) = &server {
        peers.push(Box::new(Bowstring::new(server)?));
        peers.push(Box::new(H2Client::new(server)?));
    }
    peers.push(Box::new(RawTcp::start(Buffers::Narrow)?));
    peers.push(Box::new(RawTcp::start(Buffers::Wide)?));
    peers.push(Box::new(StockFlight::start()?));
    report
        .series
        .extend(grid::run(&mut peers, place, works, sizes, repeats)?);
    Ok(())
}

fn pyarrow(
    report: &mut Report,
    python: &Python,
    works: &[Work],
    sizes: &[u64],
    repeats: usize,
) -> Outcome<()> {
    let ours = Server::start("2GiB")?;
    let (theirs, uri): (Process, String) = python.server()?;
    let client = python.client()?;
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(PyArrow::new(
            "pyarrow-bowstring",
            &client,
            ours.id(),
            &ours.flight,
        )),
        Box::new(PyArrow::new("pyarrow-pyarrow", &client, theirs.id(), &uri)),
    ];
    report
        .series
        .extend(grid::run(&mut peers, Place::Free, works, sizes, repeats)?);
    report.pyarrow();
    Ok(())
}
