//! What can go wrong, and what the process exits with.

use std::io;

use bowstring_client::Address;
use bowstring_wire::error::Code;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The flags do not go together.
    #[error("{0}")]
    Usage(String),
    /// Nobody listens there, or the connection broke.
    #[error(
        "no server answers; is `bowstring serve` running there, and is --endpoint (or BOWSTRING_ENDPOINT) right? \
         endpoint=`{endpoint}` source=`{source}`"
    )]
    Unreachable {
        /// As it stands in the flags.
        endpoint: Address,
        /// What was said.
        source: tonic::transport::Error,
    },
    /// The server refused, or its answer cannot be understood.
    #[error("{0}")]
    Refused(#[from] bowstring_wire::error::Error),
    /// A local file, or standard input or output.
    #[error("{what}; path=`{path}` source=`{source}`")]
    File {
        /// What failed.
        what: &'static str,
        /// Which file.
        path: String,
        /// What was said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system refuses what a process needs.
    #[error("cannot run; source=`{0}`")]
    System(io::Error),
}

impl Error {
    /// What the process exits with; `docs/cli.md` has the table.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(error) if error.code == Code::NotFound => 1,
            Self::Usage(_) => 2,
            Self::Refused(error) if error.code == Code::Unavailable => 4,
            Self::Refused(_) => 3,
            Self::Unreachable { .. } => 4,
            Self::File { .. } | Self::System(_) => 5,
        }
    }
}
