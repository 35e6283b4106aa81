//! The settings of `bowstring serve`.
//!
//! One struct, [`Config`], is the flags, the environment and the file at once: its doc comments
//! are the help text, its defaults are the defaults. `layers.rs` says which of the four wins;
//! `address.rs`, `memory.rs` and `roots.rs` read the values, and `duration` of the wire. Settings are numbers and names
//! only: clocks and sockets come to [`crate::run`] beside them.

mod address;
mod layers;
mod memory;
mod roots;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use bowstring_cache::Eviction;
pub use bowstring_cold::tier::WritePolicy;
use bowstring_wire::action::AttachSettings;
use bowstring_wire::byte_size::ByteSize;
use bowstring_wire::duration;
use bowstring_wire::name::Namespace;
use bowstring_wire::settings::SettingsChange;

pub use address::{HostPort, ListenAddress};
pub use layers::{Environment, load};
pub use memory::{MEMORY_MIN, Machine, Memory, Percent};
pub use roots::LoadRoot;

/// Most connections that `connections_max` can ask for.
pub const CONNECTIONS_MAX: u32 = 65_536;
/// Connections where `connections_max` is not given and memory allows.
pub const CONNECTIONS_DEFAULT: u32 = 1_024;
/// What every connection may always have unread, in bytes: the reason for the cap on them.
pub const CONNECTION_GUARANTEE_BYTES: u64 = 64 << 10;
/// At most one part in so many of the memory goes to the connections' guarantees, however many
/// are asked for.
const CONNECTIONS_MEMORY_SHARE: u64 = 4;
/// The same where nobody asked: what they take, tensors do not have.
const CONNECTIONS_DEFAULT_SHARE: u64 = 32;

/// Serve tensors over Arrow Flight
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Config {
    /// Where to serve Arrow Flight: HOST:PORT, or unix:PATH for a Unix socket. May be given more
    /// than once; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8815")]
    pub listen: Vec<ListenAddress>,

    /// Where to serve /healthz and /metrics over HTTP
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8816")]
    pub http: HostPort,

    /// All the memory that data may take, index and buffers included: 1GiB, 512MiB, a number of
    /// bytes, or a share such as 80% of the cgroup's limit, else of the host's memory
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub memory: Memory,

    /// Which entries go when memory is full: lru, s3fifo, sieve, tinylfu, or adaptive, which is
    /// whichever of the four does best lately
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub eviction: Eviction,

    /// Where entries go that do not fit in memory: file:///DIRECTORY, s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX or az://CONTAINER/PREFIX with the usual credentials, memory:. Each server has its own
    #[arg(long, value_name = "URL")]
    pub cold: Option<String>,

    /// The cold store of another server, which is read and never written to: a node that is no more, or one that
    /// goes on. May be given more than once; what this server has itself goes before
    #[arg(long, value_name = "URL")]
    pub cold_also: Vec<String>,

    /// Where the index of the cold tier lies, on a local disk. Without it the index lies in the store
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,

    /// At start, bring what the last run had in memory back out of the cold tier, what was asked for most
    /// first, until this share of the memory is used: 50%. Default: nothing, until it is asked for
    #[arg(long, value_name = "SHARE")]
    pub warm: Option<Percent>,

    /// When entries are written to the cold tier: on_evict, on_put, or off, which reads only
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub write_policy: WritePolicy,

    /// Bytes of tensors that are packed into one object of the cold tier, at most one part in 64 of
    /// the memory
    #[arg(long, value_name = "SIZE", default_value = "32MiB")]
    pub cold_segment_bytes: ByteSize,

    /// Bytes of objects that the cold store may have; what was not read for longest goes
    #[arg(long, value_name = "SIZE")]
    pub cold_bytes_max: Option<ByteSize>,

    /// Reads after which a tensor of the cold tier stays in memory: 1 is the first
    #[arg(long, value_name = "NUMBER", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=15))]
    pub cold_stay_reads: u32,

    /// Requests to the cold store at one time
    #[arg(long, value_name = "NUMBER", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub cold_concurrency: u32,

    /// How long a request to the cold store may take; a read that takes longer is a miss
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse_non_zero)]
    pub cold_timeout: Duration,

    /// How long a write to the cold store is tried again before it counts as failed
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::parse_non_zero)]
    pub cold_retry: Duration,

    /// Have what the cold tier acknowledges survive a power cut, not only the end of the process
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cold_fsync: bool,

    /// A TOML file with these settings, with _ for - in their names
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Most connections at once; further ones are closed. Default: 1024, or fewer where 64 KiB
    /// each would pass one part in 32 of the memory
    #[arg(long, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub connections_max: Option<u32>,

    /// Most requests at once on one connection; a client waits before it sends more
    #[arg(long, value_name = "NUMBER", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub streams_max: u32,

    /// How long a put that holds memory may send nothing before it is cut off
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_non_zero)]
    pub put_idle: Duration,

    /// How long an open load is kept with which nothing is done
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse_non_zero)]
    pub load_idle: Duration,

    /// How long what was before a committed load is kept for a rollback, if memory allows
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    pub load_rollback: Duration,

    /// Bytes of memory that one query of SQL may use, beside the cache's own. Default: one part in 16 of the memory, 8MiB to
    /// 256MiB
    #[arg(long, value_name = "SIZE")]
    pub sql_memory: Option<ByteSize>,

    /// Threads that queries run on, at the lowest priority. Default: as many as there are processors, at most 8
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub sql_threads: Option<u32>,

    /// How long a query may take, its wait for others included
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_non_zero)]
    pub sql_timeout: Duration,

    /// Rows that the answer to a query may have
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub sql_rows_max: u64,

    /// Queries at one time; more wait for their turn, as long as their time allows
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub sql_concurrency: u32,

    /// A directory on a local disk where sorts, joins and groups go on that need more than sql_memory. Without it they end
    #[arg(long, value_name = "DIRECTORY")]
    pub sql_spill_dir: Option<PathBuf>,

    /// Bytes that all queries together may have there
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    pub sql_spill_max: ByteSize,

    /// A folder whose files of Parquet and Arrow clients may have the server load: an absolute path, or file:///FOLDER.
    /// May be given more than once; no other file is read. Default: none
    #[arg(long, value_name = "FOLDER")]
    pub load_roots: Vec<LoadRoot>,

    /// Bytes a second that the server loads from files, all loads together
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub load_rate: ByteSize,

    /// How long to wait for running requests after SIGTERM or SIGINT. The default leaves five of
    /// the thirty seconds that Kubernetes gives
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = duration::parse)]
    pub drain_timeout: Duration,

    /// A Unix socket by which memory passes on when the program is replaced: a server that is started with the path that
    /// another one runs with takes over its memory, its cold tier and its addresses, and the other one ends
    #[arg(long, value_name = "PATH")]
    pub takeover: Option<PathBuf>,

    /// Log each request that takes longer than this, with what it waited for. Default: none
    #[arg(long, value_name = "TIME", value_parser = duration::parse_non_zero)]
    pub slow_request: Option<Duration>,

    /// Describe the gRPC services to tools such as grpcurl
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// What to log on standard error: error, warn, info, debug, trace, or filters such as
    /// info,bowstring_cache=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = crate::log::check_level)]
    pub log_level: String,

    /// How to log: text, or json with an object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Settings of namespaces, the tables `[namespace."NAME"]` of the file
    #[arg(skip)]
    pub namespaces: BTreeMap<Namespace, SettingsChange>,

    /// Namespaces that are the rows of files, the tables `[attach."NAME"]` of the file
    #[arg(skip)]
    pub attach: BTreeMap<Namespace, AttachSettings>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line, for machines.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl Config {
    /// The most connections at once, within `memory_bytes`.
    ///
    /// # Errors
    /// Where the setting was given and does not fit; where it was not, fewer are allowed.
    pub fn connections_within(&self, memory_bytes: u64) -> Result<u32, ConfigError> {
        let within = |share| {
            let fit = memory_bytes / share / CONNECTION_GUARANTEE_BYTES;
            u32::try_from(fit).unwrap_or(u32::MAX).max(1)
        };
        let fit = within(CONNECTIONS_MEMORY_SHARE);
        match self.connections_max {
            None => Ok(CONNECTIONS_DEFAULT.min(within(CONNECTIONS_DEFAULT_SHARE))),
            Some(wanted) if wanted <= fit => Ok(wanted),
            Some(wanted) => Err(ConfigError::new(format!(
                "connections_max=`{wanted}` is too many for memory=`{}`: 64 KiB each must stay \
                 within a quarter of it; max=`{fit}`",
                self.memory
            ))),
        }
    }
}

impl Default for Config {
    /// The settings without any flag, variable or file.
    fn default() -> Self {
        layers::defaults()
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is neither `text` nor `json`")),
        }
    }
}

/// A setting that cannot be: one sentence, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_memory_on_loopback() {
        let config = Config::default();
        assert_eq!(config.listen, ["127.0.0.1:8815".parse().unwrap()]);
        assert_eq!(config.http.to_string(), "127.0.0.1:8816");
        assert_eq!(config.memory.to_string(), "1GiB");
        assert_eq!(config.eviction, Eviction::default());
        assert_eq!(config.drain_timeout, Duration::from_secs(25));
        assert_eq!((config.cold, config.config), (None, None));
    }

    #[test]
    fn connections_fit_in_memory() {
        let mut config = Config::default();
        assert_eq!(config.connections_within(4 << 30), Ok(CONNECTIONS_DEFAULT));
        assert_eq!(config.connections_within(1 << 30), Ok(512));
        assert_eq!(config.connections_within(16 << 20), Ok(8));
        assert_eq!(config.connections_within(0), Ok(1));
        config.connections_max = Some(65);
        let error = config.connections_within(16 << 20).unwrap_err().to_string();
        assert!(
            error.contains("connections_max=`65`") && error.contains("max=`64`"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!("JSON".parse::<LogFormat>().unwrap_err().contains("`JSON`"));
    }
}
