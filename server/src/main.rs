//! The program `bowstring`: reads the command line, logs, and runs a server, a load on one, or a question to one, to its end.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use bowstring_cache::clock::SystemClock;
use bowstring_server::cli::{self, Command};
use bowstring_server::config::{Config, Environment};
use bowstring_server::error::Error;
use bowstring_server::manager::Manager;
use bowstring_server::shutdown::{Drained, Shutdown};
use bowstring_server::{Ready, bench, log, run_with};

/// See the workspace's manifest for why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the process exits with when a second signal cut its drain short.
const EXIT_FORCED: u8 = 130;

/// Threads for what waits for a disk: as many requests as a disk does side by side. Each keeps some memory for itself.
const BLOCKING_THREADS_MAX: usize = 8;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), &Environment::of_process()) {
        Ok(command) => command,
        Err(error) => return error.report().into(),
    };
    match command {
        Command::Serve(config) => end_of(serve(*config)),
        Command::Bench(settings) => match bench::run(&settings, &mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bowstring: {error}");
                error.exit_code().into()
            }
        },
        Command::Ask(command) => match bowstring_cli::run(command, cli::whole()) {
            Ok(code) => code.into(),
            Err(error) => {
                eprintln!("bowstring: {error}");
                error.exit_code().into()
            }
        },
    }
}

fn end_of(ended: Result<Drained, Error>) -> ExitCode {
    match ended {
        Ok(Drained::Finished | Drained::TimedOut(_)) => ExitCode::SUCCESS,
        Ok(Drained::Forced(_)) => EXIT_FORCED.into(),
        Err(error) => {
            eprintln!("bowstring: {error}");
            error.exit_code().into()
        }
    }
}

fn serve(config: Config) -> Result<Drained, Error> {
    log::init(&config.log_level, config.log_format)?;
    let manager = Manager::of_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("bowstring")
        .build()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let clock = Arc::new(SystemClock::new());
        run_with(config, clock, manager, shutdown, print_ready).await
    });
    // What was forced may hang in a system call; the process does not wait for it.
    runtime.shutdown_background();
    ended
}

/// The lines that tell a parent process where we listen.
fn print_ready(ready: &Ready) {
    let mut out = std::io::stdout().lock();
    // A parent that has closed our output does not want to know.
    let _ = write!(out, "{ready}").and_then(|()| out.flush());
}
