//! Why a server did not start, or stopped.

use std::io;

use bowstring_wire::error::{Code, Error as WireError};
use bowstring_wire::name::Namespace;

use crate::config::ConfigError;

/// Why a server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be: mend it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen; address=`{address}` source=`{source}`")]
    Listen {
        /// As it stands in the settings.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The cache cannot be made: too little memory, most likely.
    #[error("cannot make the cache; source=`{0}`")]
    Cache(#[from] WireError),
    /// A namespace cannot be the rows of the files that the settings name.
    #[error("cannot attach files; namespace=`{namespace}` source=`{source}`")]
    Attach {
        /// As it stands in the settings.
        namespace: Namespace,
        /// What is wrong with it or with its files.
        source: WireError,
    },
    /// Another server is there, and its place cannot be taken.
    #[error("cannot take over; source=`{0}`")]
    Takeover(io::Error),
    /// The system refuses what a server needs.
    #[error("cannot run; source=`{0}`")]
    System(#[from] io::Error),
    /// A part that must run as long as the server has ended. A bug.
    #[error("stopped unexpectedly; part=`{0}`")]
    Ended(&'static str),
}

impl Error {
    /// What the process exits with: 2 where the settings are wrong, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            // What may be otherwise the next time is no wrong setting.
            Self::Attach { source, .. } => match source.code {
                Code::Unavailable | Code::Internal => 1,
                _ => 2,
            },
            _ => 1,
        }
    }
}
