//! What can go wrong, and what the process exits with.

use std::io;

use bowstring_client::Address;
use bowstring_wire::error::Code;

/// What a process exits with that was interrupted: 128 and SIGINT's number, as shells say it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// What a process exits with where a part is missing: rows that were bad, or keys that were gone before their turn.
pub(crate) const EXIT_PARTLY: u8 = 6;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The flags do not go together.
    #[error("{0}")]
    Usage(String),
    /// Nobody listens there.
    #[error(
        "no server answers; is `bowstring serve` running there, and is --endpoint (or BOWSTRING_ENDPOINT) right? \
         endpoint=`{endpoint}` cause=`{cause}`"
    )]
    Unreachable {
        /// As it stands in the flags.
        endpoint: Address,
        /// What was said.
        cause: String,
    },
    /// The connection broke, or what is at its other end does not speak Flight.
    #[error(
        "the connection broke; run it again where the server is there, and a Flight server: `bowstring stat` tells; \
         cause=`{cause}`"
    )]
    Broken {
        /// What was said.
        cause: String,
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
    /// Whoever reads our output has gone: there is nobody left to tell, and nothing went wrong.
    #[error("standard output is closed")]
    Closed,
    /// The system refuses what a process needs.
    #[error("cannot run; source=`{0}`")]
    System(io::Error),
}

impl Error {
    /// A file that cannot be read or written.
    pub(crate) fn file(
        what: &'static str,
        path: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::File {
            what,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// What the process exits with; `docs/cli.md` has the table.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Refused(error) if error.code == Code::NotFound => 1,
            Self::Usage(_) => 2,
            Self::Refused(error) if error.code == Code::Unavailable => 4,
            Self::Refused(_) => 3,
            Self::Unreachable { .. } | Self::Broken { .. } => 4,
            Self::File { .. } | Self::System(_) => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowstring_wire::error::Error as WireError;

    #[test]
    fn every_kind_has_its_exit_code() {
        let broken = Error::Broken {
            cause: "reset".to_owned(),
        };
        for (error, code) in [
            (WireError::not_found("no such key").into(), 1),
            (Error::Usage("no".to_owned()), 2),
            (WireError::exists("other bytes").into(), 3),
            (WireError::unavailable("draining").into(), 4),
            (broken, 4),
            (Error::System(io::Error::other("no threads")), 5),
            (Error::Closed, 0),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
