//! The comparison runner: us and our peers in one run, pairwise, medians and ratios; a table, JSON and a plot out.
//!
//! - `peers/`: a file a peer, each with its server as a process of its own. `process`: those processes and what they cost.
//! - `grid`: one tensor at a time, every size. `entries`: memory an entry, a full cache, look-ups as keys grow.
//! - `report`: the table. `plot`: the picture. `clock`: time.

mod clock;
mod entries;
mod grid;
mod peers;
mod plot;
mod process;
mod report;

use std::fs;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::peers::bowstring::{Bowstring, Server};
use crate::peers::h2_client::H2Client;
use crate::peers::pyarrow::{PyArrow, Python};
use crate::peers::raw_tcp::{self, RawTcp};
use crate::peers::stock_flight::{self, StockFlight};
use crate::peers::{Peer, Work};
use crate::process::Process;
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
    /// A full cache, and a million entries
    Memory,
    /// Ten million entries in 2.5 GiB
    Many,
    /// Look-ups as keys grow
    Lookup,
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
    RawTcp,
    /// arrow-flight over tonic
    StockFlight,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    match arguments.peer {
        Some(Role::Peer(Name::RawTcp)) => return raw_tcp::serve(),
        Some(Role::Peer(Name::StockFlight)) => return stock_flight::serve(),
        None => {}
    }
    let sizes: Vec<u64> = arguments.sizes_kib.iter().map(|kib| kib << 10).collect();
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut report = Report::default();
    if wanted(Part::Rust) {
        rust(&mut report, &arguments.works, &sizes, arguments.repeats)?;
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
    }
    if wanted(Part::Many) {
        report.small(&entries::small("2560MiB", 10_000_000)?);
    }
    if wanted(Part::Lookup) {
        report.lookup(&entries::lookup(1000, 1_000_000, arguments.repeats)?);
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

fn rust(report: &mut Report, works: &[Work], sizes: &[u64], repeats: usize) -> Outcome<()> {
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
    peers.push(Box::new(RawTcp::start()?));
    peers.push(Box::new(StockFlight::start()?));
    report
        .series
        .extend(grid::run(&mut peers, works, sizes, repeats)?);
    report.rust();
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
        .extend(grid::run(&mut peers, works, sizes, repeats)?);
    report.pyarrow();
    Ok(())
}
