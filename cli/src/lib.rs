//! The command line for people, over Flight, to any server: a verb a file, or a folder.
//!
//! - what there is: `ls`, `exists`, `stat`, `info` (one tensor), `ns` (namespaces), `top` (live)
//! - what becomes of it: `rm` (with `clear`), `keep` (`expire`, `pin`, `unpin`), `tiers` (`flush`, `evict`, `prewarm`)
//! - tensors that move: `put`, `load/`, `get`, `export`; files that stay where they are: `attached` (`attach`, `detach`)
//! - `sql/`: statements of SQL
//! - `shell`: completions and man pages
//!
//! Under them:
//!
//! - `client`: a connection, and the calls over it that answer at once
//! - `target`, `keys`: the flags that say which server, which namespace and which keys
//! - `out` (standard output, JSON), `table`, `bar`, `human` (units), `confirm`: what a person sees
//! - `put_stream`, `get_stream`: one DoPut, one DoGet; `entry`: how entries are put
//! - `format/`: the files that people keep tensors in; `output`: where they go to; `progress`: how far it is
//! - `state`: where things are remembered; `clock`: time; `error`: what can go wrong, and what the process exits with

mod attached;
mod bar;
mod client;
mod clock;
mod confirm;
mod entry;
mod error;
mod exists;
mod export;
mod format;
mod get;
mod get_stream;
mod human;
mod info;
mod keep;
mod keys;
mod load;
mod ls;
mod ns;
mod out;
mod output;
mod progress;
mod put;
mod put_stream;
mod rm;
mod shell;
mod sql;
mod stat;
mod state;
mod table;
mod target;
mod tiers;
mod top;

pub use error::{EXIT_INTERRUPTED, Error};
pub use target::ENDPOINT_VARIABLE;

/// What is asked of a server.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List keys, with dtype, shape and size
    Ls(ls::Ls),
    /// Say which keys are there; exits with 1 unless all are
    Exists(exists::Exists),
    /// Say all about keys but their bytes; without keys, about the server
    Stat(stat::Stat),
    /// Say all about one tensor, and draw its values
    Info(info::Info),
    /// List namespaces, or show one and change its settings
    Ns(ns::Ns),
    /// Watch a server: gets, puts, memory, and the namespaces that are asked for most
    Top(top::Top),
    /// Put a file as one tensor
    Put(put::Put),
    /// Load files: each array, tensor or row becomes an entry
    Load(load::Load),
    /// Serve files that lie with the server as a namespace, read-only and without loading them
    Attach(attached::Attach),
    /// End that: the namespace is an empty one, the files stay
    Detach(attached::Detach),
    /// Get one tensor into a file
    Get(get::Get),
    /// Write all tensors whose keys begin with something into a file
    Export(export::Export),
    /// Delete keys, or all that begin with a prefix
    Rm(rm::Rm),
    /// Delete all keys of a namespace
    Clear(rm::Clear),
    /// Give keys a time to live from now on, or take it away
    Expire(keep::Expire),
    /// Keep keys from eviction
    Pin(keep::Pin),
    /// Let keys be evicted again
    Unpin(keep::Unpin),
    /// Write what only memory has to the cold tier, and wait for that
    Flush(tiers::Flush),
    /// Move keys out of memory into the cold tier
    Evict(tiers::Evict),
    /// Read keys from the cold tier into memory
    Prewarm(tiers::Prewarm),
    /// Ask by SQL, typed, from a file or in a flag
    Sql(sql::Sql),
    /// Print a shell's completions
    Completions(shell::Completions),
    /// Print the man page, or write one for each command
    Man(shell::Man),
}

/// Does it, and gives what the process exits with. `whole` is all of the command line, of which
/// [`Command`] is a part.
///
/// # Errors
/// Where it could not be done; [`Error::exit_code`] then says what to exit with.
pub fn run(command: Command, whole: clap::Command) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::System)?;
    // At a prompt it is what runs that is interrupted, and the prompt stays.
    let ends_interrupted = !matches!(&command, Command::Sql(sql) if sql.takes_interrupts());
    // In a task of its own: whoever waits to write to a pipe or to read from one can be interrupted.
    let work = runtime.spawn(command.run(whole));
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => done.unwrap_or_else(|gone| Err(Error::System(gone.into()))),
            interrupted = tokio::signal::ctrl_c(), if ends_interrupted => interrupted.map(|()| EXIT_INTERRUPTED).map_err(Error::System),
        }
    });
    // What still waits is not waited for.
    runtime.shutdown_background();
    match done {
        Err(Error::Closed) => Ok(Error::Closed.exit_code()),
        done => done,
    }
}

impl Command {
    async fn run(self, whole: clap::Command) -> Result<u8, Error> {
        match self {
            Self::Ls(ls) => ls.run().await,
            Self::Exists(exists) => exists.run().await,
            Self::Stat(stat) => stat.run().await,
            Self::Info(info) => info.run().await,
            Self::Ns(ns) => ns.run().await,
            Self::Top(top) => top.run().await,
            Self::Put(put) => put.run().await,
            Self::Load(load) => load.run().await,
            Self::Attach(attach) => attach.run().await,
            Self::Detach(detach) => detach.run().await,
            Self::Get(get) => get.run().await,
            Self::Export(export) => export.run().await,
            Self::Rm(rm) => rm.run().await,
            Self::Clear(clear) => clear.run().await,
            Self::Expire(expire) => expire.run().await,
            Self::Pin(pin) => pin.run().await,
            Self::Unpin(unpin) => unpin.run().await,
            Self::Flush(flush) => flush.run().await,
            Self::Evict(evict) => evict.run().await,
            Self::Prewarm(prewarm) => prewarm.run().await,
            Self::Sql(sql) => sql.run().await,
            Self::Completions(completions) => completions.run(whole),
            Self::Man(man) => man.run(whole),
        }
    }
}
