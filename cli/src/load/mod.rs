//! `bowstring load`: files become entries.
//!
//! - `source`: reads them on a thread. `feed`: what one put takes of that. `attempt`: puts, until all is there or the server is another one;
//!   `answer`: what comes back
//! - `journal`: how far it is, for the next run. `bad_rows`: what was not put
//! - `server_side`: where the server reads the files itself

mod answer;
mod attempt;
mod bad_rows;
mod feed;
mod journal;
mod server_side;
mod source;

use std::sync::Arc;
use std::time::Duration;

use bowstring_wire::dtype::DType;
use bowstring_wire::duration;
use bowstring_wire::error::Error as WireError;
use serde_json::json;

use crate::Error;
use crate::entry::{Entry, ModeFlag};
use crate::error::EXIT_PARTLY;
use crate::format::{Format, Options, read_keys};
use crate::human::count;
use crate::load::attempt::{Attempt, Ended};
use crate::load::bad_rows::BadRows;
use crate::load::journal::{Journal, State};
use crate::load::source::Plan;
use crate::out;
use crate::progress::Progress;
use crate::target::Space;

/// A server that is restarted again and again is not one to load anything into.
const ATTEMPTS_MAX: u32 = 10;

/// Load files: each array, tensor or row becomes an entry.
#[derive(Debug, clap::Args)]
pub struct Load {
    #[command(flatten)]
    space: Space,
    #[command(flatten)]
    entry: Entry,
    /// Files, or `-` for standard input: .npy, .npz, .safetensors, Arrow, Feather, Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// What they are, where their first bytes do not say
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Which column of a table has the keys; within structs NAME.NAME
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// Which column of a table has the tensors; within structs NAME.NAME
    #[arg(long, value_name = "NAME")]
    tensor_column: Option<String>,
    /// Keys of the rows of a .npy matrix or a table, `-` for standard input: text, a line each, or a column (--key-column) of Parquet or Arrow
    #[arg(long, value_name = "FILE")]
    keys: Option<String>,
    /// What NumPy's void bytes are, which it writes for float8 and bfloat16
    #[arg(long, value_name = "DTYPE", value_parser = DType::parse)]
    dtype: Option<DType>,
    /// What to put before each key
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Have the server read the files, where its setting load_roots allows it: paths, folders and patterns as it sees them, of Parquet and Arrow. All or nothing
    #[arg(
        long,
        conflicts_with_all = ["format", "keys", "dtype", "bad_rows", "retry", "restart", "patience", "part_mib", "admit"]
    )]
    server_side: bool,
    /// All or nothing: it shows when it is whole
    #[arg(long)]
    atomic: bool,
    /// All or nothing, and keys of the namespace that are not among them go
    #[arg(long)]
    replace_all: bool,
    /// Where rows that were not put go: JSON lines with file, row, key, code and message
    #[arg(long, value_name = "FILE")]
    bad_rows: Option<String>,
    /// Load only the rows that such a file names
    #[arg(long, value_name = "FILE")]
    retry: Option<String>,
    /// Begin at the beginning, whatever an earlier run has done
    #[arg(long)]
    restart: bool,
    /// How long a server that is not there is waited for
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_non_zero)]
    patience: Duration,
    /// MiB of one put: what is sent again where a connection broke, and held in memory until the server has it
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    part_mib: u64,
    /// Show nothing on the way
    #[arg(short, long)]
    quiet: bool,
    /// How often a line says how far it is, where there is no terminal
    #[arg(long, hide = true, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    progress_every: Duration,
    /// Say at the end what was done, as JSON
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let line_every = (!self.quiet).then_some(self.progress_every);
        if self.server_side {
            return self.by_server(line_every).await;
        }
        if self.keys.is_some() && self.files.len() > 1 {
            return Err(Error::Usage("--keys is for one file".to_owned()));
        }
        let all = self.files.iter().chain(&self.keys);
        let standard_input = all.filter(|file| *file == "-").count();
        if standard_input > 1 {
            return Err(Error::Usage("standard input can be read once".to_owned()));
        }
        let keys = self.keys.as_deref();
        let keys = keys.map(|path| read_keys(path, self.key_column.as_deref()));
        let keys = keys.transpose()?;
        let only = self.retry.as_deref().map(bad_rows::read).transpose()?;
        let plan = Plan {
            files: self.files.clone(),
            format: self.format,
            options: Options {
                key_column: self.key_column.clone(),
                tensor_column: self.tensor_column.clone(),
                keys,
                dtype: self.dtype,
                ..Options::default()
            },
            prefix: self.prefix.clone(),
            only: only.map(Arc::new),
        };
        let total = plan.rows()?;
        let (mut journal, mut state) = match (standard_input, self.identity()?) {
            (0, identity) => match Journal::open(&identity)? {
                Some((journal, state)) => (Some(journal), state.unwrap_or_default()),
                None => (None, State::default()),
            },
            // What was read of it is gone.
            _ => (None, State::default()),
        };
        if let Some(journal) = &mut journal
            && self.restart
        {
            journal.forget()?;
            state = State::default();
        }
        let bad_rows = self.bad_rows.as_deref();
        let mut attempt = Attempt {
            target: self.space.target.clone(),
            command: bowstring_wire::descriptor::PutCommand {
                namespace: self.space.namespace.clone(),
                ..self.entry.command()
            },
            mode_given: self.entry.mode.is_some_and(|mode| mode != ModeFlag::Keep),
            plan,
            atomic: self.atomic || self.replace_all,
            replace_all: self.replace_all,
            patience: self.patience,
            part_bytes: usize::try_from(self.part_mib << 20).unwrap_or(usize::MAX),
            bad_rows: bad_rows
                .map(|path| BadRows::open(path, state.bad_rows_bytes))
                .transpose()?,
            journal,
            state,
            progress: Progress::start(total, 0, None),
        };
        let mut ended = Ended::Again("");
        for _ in 0..ATTEMPTS_MAX {
            attempt.progress = Progress::start(total, attempt.rows_done(), line_every);
            ended = attempt.run().await?;
            let Ended::Again(why) = ended else { break };
            if self.files.iter().any(|file| file == "-") {
                let said = format!("{why}: standard input cannot be read again; run it again");
                return Err(WireError::unavailable(said).into());
            }
            eprintln!("bowstring: {why}; the load begins again");
            attempt.forget()?;
        }
        if let Ended::Again(why) = ended {
            return Err(WireError::unavailable(format!(
                "{why}, again and again; attempts=`{ATTEMPTS_MAX}`"
            ))
            .into());
        }
        let seconds = attempt.progress.end().as_secs_f64();
        let counts = attempt.state.counts;
        let aborted = matches!(ended, Ended::Aborted);
        if let Some(journal) = attempt.journal.take() {
            journal.remove()?;
        }
        let rows = counts.stored + counts.existed + counts.bad;
        let text = if self.json {
            json!({"rows": rows, "stored": counts.stored, "existed": counts.existed, "bytes": counts.bytes, "bad": counts.bad, "committed": !aborted, "seconds": seconds}).to_string()
        } else {
            format!(
                "{} rows: {} stored, {} existed, {} bad; {:.1} MiB in {seconds:.2} s ({:.0} rows/s)",
                count(rows),
                count(counts.stored),
                count(counts.existed),
                count(counts.bad),
                counts.bytes as f64 / f64::from(1 << 20),
                rows as f64 / seconds.max(1e-3)
            )
        };
        out::print(&(text + "\n"))?;
        if aborted {
            eprintln!(
                "bowstring: it was to be all or nothing and there are bad rows, so nothing was loaded"
            );
        }
        if counts.bad > 0 && bad_rows.is_none() {
            eprintln!(
                "bowstring: rows that were not put; --bad-rows FILE writes down which, and why; rows=`{}`",
                counts.bad
            );
        }
        Ok(if counts.bad > 0 { EXIT_PARTLY } else { 0 })
    }

    /// What makes another load of it, as one line.
    fn identity(&self) -> Result<String, Error> {
        let mut files = Vec::new();
        for path in self.files.iter().chain(&self.keys).chain(&self.retry) {
            if path == "-" {
                continue;
            }
            let failed = |error| Error::file("cannot open", path, error);
            let whole = std::fs::canonicalize(path).map_err(failed)?;
            let about = std::fs::metadata(path).map_err(failed)?;
            let changed = about.modified().map_err(failed)?;
            let changed = changed
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            files.push(json!([whole, about.len(), changed.as_nanos().to_string()]));
        }
        let identity = json!({
            "endpoint": self.space.target.endpoint.to_string(),
            "namespace": self.space.namespace.to_string(),
            "files": files,
            "format": self.format.map(|format| format!("{format:?}")),
            "columns": [self.key_column, self.tensor_column],
            "dtype": self.dtype.map(DType::name),
            "prefix": self.prefix,
            "mode": self.entry.mode.map(|mode| format!("{mode:?}")),
            "ttl_ms": self.entry.ttl,
            "admit": self.entry.admit.map(|admit| format!("{admit:?}")),
            "atomic": [self.atomic, self.replace_all],
            "bad_rows": self.bad_rows,
        });
        Ok(identity.to_string())
    }
}
