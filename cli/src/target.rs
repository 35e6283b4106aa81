//! The flags that say which server is asked, and for which namespace.

use std::time::Duration;

use bowstring_client::Address;
use bowstring_wire::duration;
use bowstring_wire::name::Namespace;

/// The variable that stands for `--endpoint`.
pub const ENDPOINT_VARIABLE: &str = "BOWSTRING_ENDPOINT";

/// Which server is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// Which server: grpc://HOST:PORT or unix:PATH
    #[arg(
        long,
        env = ENDPOINT_VARIABLE,
        value_name = "ADDRESS",
        default_value = "grpc://127.0.0.1:8815",
        help_heading = "Server"
    )]
    pub endpoint: Address,
    /// Give up on a server that says nothing for so long, to a connection or to a ping
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_non_zero, help_heading = "Server")]
    pub timeout: Duration,
}

/// Which server is asked, and for which namespace.
#[derive(Clone, Debug, clap::Args)]
pub struct Space {
    /// Which namespace
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: Namespace,
    #[command(flatten)]
    pub target: Target,
}
