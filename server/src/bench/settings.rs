//! What the flags say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bowstring_client::Address;
use bowstring_wire::duration;
use bowstring_wire::limits::MAX_MUX_PUT_BYTES;
use bowstring_wire::name::Namespace;

use super::BenchError;
use super::sizes::Sizes;

/// Connections that one process opens, at most: a thread each.
const CONCURRENCY_MAX: u32 = 4096;
/// Gets under way on a connection, at most.
const PIPELINE_MAX: u32 = 1024;

/// Put load on a server and say what it took
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Who is asked: grpc://HOST:PORT, unix:PATH, or redis://HOST:PORT to compare
    #[arg(
        long,
        visible_alias = "target",
        value_name = "ADDRESS",
        default_value = "grpc://127.0.0.1:8815"
    )]
    pub endpoint: Endpoint,
    /// How we are spoken to: `mux`, many small requests over one stream, or `flight`, a DoGet or DoPut each.
    /// Without it, mux where no tensor is larger than 64KiB. Redis has its own
    #[arg(long, value_enum)]
    pub via: Option<Via>,
    /// Bytes of a tensor: 3KiB, or several with their shares: 3KiB:90,1MiB:10
    #[arg(long, value_name = "SIZE", default_value = "3KiB")]
    pub size: Sizes,
    /// How many keys there are
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub keys: u64,
    /// How skewed the choice of keys is: the exponent of Zipf's law, 0 for all alike
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.0)]
    pub zipf: f64,
    /// The share of gets; all else are puts, which replace a key
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub read_share: f64,
    /// Connections, a thread each unless `--threads` says otherwise
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    pub concurrency: u32,
    /// Threads that drive the connections: one reads a connection's replies while the others' requests are under way. A thread
    /// that is woken for every reply costs more than the reply
    #[arg(long, value_name = "COUNT", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Operations that a connection starts at once; the gets among them are under way together. With mux and Redis only
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(PIPELINE_MAX)))]
    pub pipeline: u32,
    /// Operations a second, of all connections together, started on time whether or not the earlier ones have ended;
    /// latency counts from when one was to start. Without it each connection starts the next when the last has ended
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How long to work
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_non_zero)]
    pub duration: Duration,
    /// How many operations, of all connections together, instead of how long
    #[arg(long, value_name = "COUNT", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub operations: Option<u64>,
    /// The keys are there already, of an earlier run with the same keys and sizes
    #[arg(long)]
    pub no_load: bool,
    /// Where the keys lie; Redis has it as a prefix
    #[arg(long, default_value = "bench", value_parser = namespace)]
    pub namespace: String,
    /// Another choice of keys
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Bowstring.
    Bowstring(Address),
    /// A Redis, `HOST:PORT`.
    Redis(String),
}

/// How a Bowstring is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    /// DoExchange, many requests over one stream.
    Mux,
    /// A DoGet or DoPut each.
    Flight,
}

impl Settings {
    /// Refuses flags that do not go together.
    pub fn check(&self) -> Result<(), BenchError> {
        let refused = |why: String| Err(BenchError::Settings(why));
        if !(0.0..=1.0).contains(&self.read_share) {
            return refused(format!(
                "expected a share from 0 to 1, read_share=`{}`",
                self.read_share
            ));
        }
        if !(0.0..=10.0).contains(&self.zipf) {
            return refused(format!(
                "expected an exponent from 0 to 10, zipf=`{}`",
                self.zipf
            ));
        }
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate <= 1e9)
        {
            return refused(format!(
                "expected more than 0 and at most 1e9, rate=`{rate}`"
            ));
        }
        if matches!(self.endpoint, Endpoint::Redis(_)) {
            if self.via.is_some() {
                return refused("Redis speaks its own protocol: leave out --via".to_owned());
            }
            return Ok(());
        }
        match self.via() {
            Via::Mux if self.size.largest() > MAX_MUX_PUT_BYTES => refused(format!(
                "a tensor is too large for mux: use --via flight; bytes=`{}` max=`{MAX_MUX_PUT_BYTES}`",
                self.size.largest()
            )),
            Via::Flight if self.pipeline > 1 => refused(format!(
                "a DoGet is not pipelined: use --via mux, or --concurrency; pipeline=`{}`",
                self.pipeline
            )),
            _ => Ok(()),
        }
    }

    /// Of one thread, at most.
    pub fn connections_a_thread(&self) -> usize {
        let threads = self.threads.unwrap_or(self.concurrency);
        usize::try_from(self.concurrency.div_ceil(threads)).unwrap_or(usize::MAX)
    }

    /// How a Bowstring is spoken to.
    pub fn via(&self) -> Via {
        let small = self.size.largest() <= 64 << 10;
        let guessed = if small { Via::Mux } else { Via::Flight };
        self.via.unwrap_or(guessed)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(host) = text.strip_prefix("redis://") else {
            let address = text
                .parse()
                .map_err(|error: bowstring_wire::error::Error| error.message)?;
            return Ok(Self::Bowstring(address));
        };
        // A Redis address is HOST:PORT as ours is; `redis://HOST` means its own port.
        let host = host.strip_suffix('/').unwrap_or(host);
        let host = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:6379")
        };
        match host.parse() {
            Ok(Address::Tcp(host)) => Ok(Self::Redis(host)),
            _ => Err(format!("expected redis://HOST:PORT, address=`{text}`")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bowstring(address) => address.fmt(f),
            Self::Redis(host) => write!(f, "redis://{host}"),
        }
    }
}

fn namespace(text: &str) -> Result<String, String> {
    Namespace::parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.message.into_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    pub fn settings(flags: &[&str]) -> Settings {
        Line::try_parse_from(["bench"].iter().chain(flags))
            .unwrap()
            .settings
    }

    #[test]
    fn what_goes_together() {
        for flags in [
            &[][..],
            &["--target", "redis://127.0.0.1:1", "--pipeline", "16"],
            &[
                "--endpoint",
                "unix:/run/b.sock",
                "--zipf",
                "0.99",
                "--rate",
                "1000",
            ],
            &["--size", "3KiB:9,1MiB:1", "--operations", "10"],
        ] {
            settings(flags).check().unwrap();
        }
    }

    #[test]
    fn threads_share_the_connections() {
        let each = |flags: &[&str]| settings(flags).connections_a_thread();
        assert_eq!(each(&["--concurrency", "16"]), 1);
        assert_eq!(each(&["--concurrency", "16", "--threads", "3"]), 6);
        assert_eq!(each(&["--concurrency", "2", "--threads", "3"]), 1);
        // Whoever waits for an operation's time would not read what has come meanwhile.
        assert!(Line::try_parse_from(["bench", "--threads", "1", "--rate", "1"]).is_err());
    }

    #[test]
    fn what_does_not() {
        for (flags, why) in [
            (&["--read-share", "1.5"][..], "from 0 to 1"),
            (&["--zipf", "-1"], "zipf"),
            (&["--rate", "0"], "rate"),
            (&["--via", "mux", "--size", "2MiB"], "--via flight"),
            (&["--via", "flight", "--pipeline", "2"], "--via mux"),
            (&["--size", "1MiB", "--pipeline", "2"], "--via mux"),
            (
                &["--target", "redis://a", "--via", "mux"],
                "leave out --via",
            ),
        ] {
            let flags: Vec<&str> = flags.iter().map(|flag| flag.trim()).collect();
            let joined = joined(&flags);
            let parts: Vec<&str> = joined.iter().map(String::as_str).collect();
            let refused = settings(&parts).check().unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
            assert_eq!(refused.exit_code(), 2);
        }
    }

    /// `--flag=value`, so that a value may begin with a dash.
    fn joined(flags: &[&str]) -> Vec<String> {
        flags.chunks(2).map(|pair| pair.join("=")).collect()
    }

    #[test]
    fn endpoints() {
        let parse = |text: &str| text.parse::<Endpoint>();
        assert_eq!(parse("redis://a").unwrap().to_string(), "redis://a:6379");
        assert_eq!(
            parse("redis://a:1/").unwrap(),
            Endpoint::Redis("a:1".to_owned())
        );
        assert_eq!(
            parse("127.0.0.1:1").unwrap().to_string(),
            "grpc://127.0.0.1:1"
        );
        for wrong in ["redis://", "redis://a:b", "http://a:1", "a"] {
            assert!(parse(wrong).unwrap_err().contains("address=`"), "{wrong}");
        }
    }
}
