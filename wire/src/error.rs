//! One error for every room: a code that says what the caller must do, a sentence that says what
//! happened and what was expected.

use std::borrow::Cow;
use std::fmt;

/// `Result` with the one error type of the workspace.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as it goes over the wire: `code: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the caller must do about it.
    pub code: Code,
    /// What happened and what was expected; lower case, facts last as key=`value`.
    pub message: Cow<'static, str>,
}

/// The stable codes of the wire contract. Clients tell errors apart by these, because several of
/// them share a gRPC status and client libraries show several statuses as one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No such key.
    NotFound,
    /// The key holds another tensor, and the put was not allowed to replace it.
    AlreadyExists,
    /// The request is wrong whatever the state of the server.
    InvalidArgument,
    /// A limit; the message names it and its value.
    ResourceExhausted,
    /// The request is right, the state is not (versions, dtypes, an `if_version`).
    FailedPrecondition,
    /// The entry still has the version in `unless_version`.
    NotModified,
    /// Another node owns the key.
    Moved,
    /// No credentials, or bad ones.
    Unauthenticated,
    /// Good credentials that do not allow this.
    PermissionDenied,
    /// Try again.
    Unavailable,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Named by the wire contract, not built yet; or not part of it.
    Unimplemented,
    /// A checksum does not agree.
    DataLoss,
    /// A bug of ours.
    Internal,
}

impl Code {
    /// Every code, in the order of the wire contract.
    pub const ALL: [Code; 15] = [
        Code::NotFound,
        Code::AlreadyExists,
        Code::InvalidArgument,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::NotModified,
        Code::Moved,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Unimplemented,
        Code::DataLoss,
        Code::Internal,
    ];

    /// The stable name: it begins the message and is the trailer `bowstring-code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::InvalidArgument => "invalid_argument",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::NotModified => "not_modified",
            Code::Moved => "moved",
            Code::Unauthenticated => "unauthenticated",
            Code::PermissionDenied => "permission_denied",
            Code::Unavailable => "unavailable",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::Cancelled => "cancelled",
            Code::Unimplemented => "unimplemented",
            Code::DataLoss => "data_loss",
            Code::Internal => "internal",
        }
    }

    /// The code of a stable name; `None` for a name that this version does not know.
    #[expect(
        clippy::should_implement_trait,
        reason = "an unknown code is no error to a reader, so `None` and not `FromStr`"
    )]
    pub fn from_str(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The number of the gRPC status that carries this code.
    pub fn grpc_status(self) -> i32 {
        match self {
            Code::Cancelled => 1,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::NotFound => 5,
            Code::AlreadyExists => 6,
            Code::PermissionDenied => 7,
            Code::ResourceExhausted => 8,
            Code::FailedPrecondition | Code::NotModified | Code::Moved => 9,
            Code::Unimplemented => 12,
            Code::Internal => 13,
            Code::Unavailable => 14,
            Code::DataLoss => 15,
            Code::Unauthenticated => 16,
        }
    }

    /// True where the same request may succeed if it is sent again soon, unchanged.
    /// `resource_exhausted` is not: it also answers requests that no wait makes fit.
    pub fn is_retryable(self) -> bool {
        matches!(self, Code::Unavailable)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Error {
    /// An error of the given code. What a stranger sent may be quoted: characters that steer a
    /// terminal, break a line of a log or turn a text around are escaped.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Error {
        let message = message.into();
        let message = match message.contains(is_hidden) {
            true => Cow::Owned(visible(&message).into_owned()),
            false => message,
        };
        Error { code, message }
    }

    /// `invalid_argument`: say what was wrong and what was expected.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::InvalidArgument, message)
    }

    /// `not_found`.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::NotFound, message)
    }

    /// `already_exists`.
    pub fn exists(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::AlreadyExists, message)
    }

    /// `resource_exhausted`: name the limit and its value.
    pub fn exhausted(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::ResourceExhausted, message)
    }

    /// `failed_precondition`.
    pub fn precondition(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::FailedPrecondition, message)
    }

    /// `unavailable`: the caller should try again.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Unavailable, message)
    }

    /// `unimplemented`.
    pub fn unimplemented(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Unimplemented, message)
    }

    /// `data_loss`: a checksum does not agree.
    pub fn data_loss(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::DataLoss, message)
    }

    /// `internal`: a bug of ours.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Internal, message)
    }

    /// See [`Code::is_retryable`].
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// At most `max` bytes of `text`, its middle left out where it is longer. A message that quotes
/// what a stranger sent must not grow with it: it travels in a gRPC header.
pub fn clip(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let half = max.saturating_sub('…'.len_utf8()) / 2;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    Cow::Owned(format!("{}…{}", &text[..head], &text[tail..]))
}

/// `text` with what does more than show itself escaped: control characters, line and paragraph
/// separators, marks and overrides of the direction, a byte order mark.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a character does more than show itself, as [`visible`] says.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{61c}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_cannot_steer_a_terminal_or_forge_a_line() {
        let quoted = "no such key; key=`a\n\u{1b}[31m\0\u{202e}ü🏹`";
        let error = Error::not_found(quoted);
        assert_eq!(
            error.to_string(),
            "not_found: no such key; key=`a\\n\\u{1b}[31m\\u{0}\\u{202e}ü🏹`"
        );
        let again = Error::not_found(error.message.clone());
        assert_eq!(again.message, error.message, "on the client's side too");
    }

    #[test]
    fn every_code_has_its_own_name_and_finds_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_str(code.as_str()), Some(code));
        }
        assert_eq!(Code::from_str("nonsense"), None);
        assert_eq!(Code::from_str(""), None);
    }

    #[test]
    fn the_message_begins_with_the_code() {
        let error = Error::not_found("no such key; key=`a`");
        assert_eq!(error.to_string(), "not_found: no such key; key=`a`");
        assert_eq!(Code::Moved.grpc_status(), 9);
        assert!(Error::unavailable("").is_retryable() && !error.is_retryable());
    }

    #[test]
    fn clip_keeps_both_ends_and_whole_characters() {
        assert_eq!(clip("short", 5), "short");
        let long = "ä".repeat(1000);
        let clipped = clip(&long, 63);
        assert!(clipped.len() <= 63 && clipped.contains('…'), "{clipped}");
        assert!(clipped.starts_with('ä') && clipped.ends_with('ä'));
    }
}
