//! The flags that say which server is asked, and for which namespace.

use bowstring_client::Address;
use bowstring_wire::name::Namespace;

/// Which server is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// Which server: grpc://HOST:PORT or unix:PATH
    #[arg(
        long,
        env = "BOWSTRING_ENDPOINT",
        value_name = "ADDRESS",
        default_value = "grpc://127.0.0.1:8815"
    )]
    pub endpoint: Address,
}

/// Which server is asked, and for which namespace.
#[derive(Clone, Debug, clap::Args)]
pub struct Space {
    #[command(flatten)]
    pub target: Target,
    /// Which namespace
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: Namespace,
}
