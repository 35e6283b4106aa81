//! Why something was not done. A kind says what the caller must do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use bowstring_wire::error::Error;

/// What came of a request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// An object of that name is there, with other bytes.
    Exists,
    /// There is no object of that name.
    NotFound,
    /// The object has fewer bytes than were asked for: it is not as it was written.
    Short {
        /// Where the bytes asked for end.
        expected: u64,
        /// Bytes of the object.
        bytes: u64,
    },
    /// The object has more bytes than the caller takes.
    TooLong {
        /// What the caller takes.
        max: u64,
        /// Bytes of the object.
        bytes: u64,
    },
    /// There was no answer in time. It may be done all the same.
    Timeout,
    /// No room, or nothing can be written at all: it stays so until somebody acts.
    Full(String),
    /// The store will not do it: credentials, permissions, something that it does not have.
    Refused(String),
    /// Anything else. It may be done all the same; later it may work.
    Failed(String),
}

/// What one request or its tries gave.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// Whether the same request may work at once.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, StoreError::Timeout | StoreError::Failed(_))
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::AlreadyExists { .. } | E::Precondition { .. } => StoreError::Exists,
            E::NotFound { .. } => StoreError::NotFound,
            E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::UnknownConfigurationKey { .. } => StoreError::Refused(said(&error)),
            _ if is_full(&error) => StoreError::Full(said(&error)),
            _ => StoreError::Failed(said(&error)),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            StoreError::Full(error.to_string())
        } else {
            StoreError::Failed(error.to_string())
        }
    }
}

/// What an error says, without the queries of URLs: the signatures in them open the store to who reads a log
/// (object_store 0.13.2 tells that of a delete on Azure).
fn said(error: &object_store::Error) -> String {
    let text = error.to_string();
    let words = text.split_inclusive(char::is_whitespace);
    let mut said = String::with_capacity(text.len());
    for word in words {
        match word.split_once('?') {
            Some((before, _)) if before.contains("://") => {
                said.push_str(before);
                said.push(' ');
            }
            _ => said.push_str(word),
        }
    }
    said
}

/// Whether a disk is full somewhere below.
fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let kinds = [
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::ReadOnlyFilesystem,
    ];
    let mut cause = Some(error);
    while let Some(error) = cause {
        let found = error.downcast_ref::<io::Error>();
        if found.is_some_and(|found| kinds.contains(&found.kind())) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Exists => f.write_str("an object of that name is there already"),
            StoreError::NotFound => f.write_str("no object of that name"),
            StoreError::Short { expected, bytes } => write!(
                f,
                "an object is shorter than it was written; bytes=`{bytes}` expected at least \
                 `{expected}`"
            ),
            StoreError::TooLong { max, bytes } => write!(
                f,
                "an object is longer than it can be; bytes=`{bytes}` expected at most `{max}`"
            ),
            StoreError::Timeout => f.write_str("no answer from the object store in time"),
            StoreError::Full(why) => write!(f, "the object store has no room: {why}"),
            StoreError::Refused(why) => write!(f, "the object store refuses: {why}"),
            StoreError::Failed(why) => write!(f, "the object store failed: {why}"),
        }
    }
}

impl StdError for StoreError {}

/// For who has asked for something that needs the store.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound => Error::not_found(message),
            StoreError::Exists => Error::exists(message),
            StoreError::Short { .. } | StoreError::TooLong { .. } => Error::data_loss(message),
            StoreError::Refused(_) => Error::precondition(message),
            StoreError::Timeout | StoreError::Full(_) | StoreError::Failed(_) => {
                Error::unavailable(message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_under_other_errors() {
        let of = |kind: io::ErrorKind| {
            let source = Box::new(io::Error::from(kind));
            StoreError::from(object_store::Error::Generic { store: "x", source })
        };
        assert!(matches!(
            of(io::ErrorKind::StorageFull),
            StoreError::Full(_)
        ));
        assert!(matches!(
            of(io::ErrorKind::ReadOnlyFilesystem),
            StoreError::Full(_)
        ));
        assert!(matches!(
            of(io::ErrorKind::ConnectionReset),
            StoreError::Failed(_)
        ));
    }

    #[test]
    fn no_signature_is_told() {
        let source =
            "a request to https://a.blob.core.windows.net/c?comp=batch&sig=se%2Fcret failed? yes";
        let error = StoreError::from(object_store::Error::Generic {
            store: "x",
            source: source.into(),
        });
        let said = error.to_string();
        assert!(!said.contains("sig"), "{said}");
        assert!(
            said.ends_with("https://a.blob.core.windows.net/c failed? yes"),
            "{said}"
        );
    }
}
