//! The command line for people, over Flight, to any server: `bowstring exists`, …, a verb a file.
//!
//! - `client`: a connection, and the actions of the wire contract over it
//! - `target`: the flags that say which server and which namespace
//! - `error`: what can go wrong, and what the process exits with

mod client;
mod error;
mod exists;
mod target;

pub use error::Error;

/// What is asked of a server.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say which keys are there; exits with 1 unless all are
    Exists(exists::Exists),
}

/// Does it, and gives what the process exits with.
///
/// # Errors
/// Where it could not be done; [`Error::exit_code`] then says what to exit with.
pub fn run(command: Command) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::System)?;
    runtime.block_on(async {
        match command {
            Command::Exists(exists) => exists.run().await,
        }
    })
}
