//! A statement's ticket: all that is needed to run it, so that it says the same to any server and after a restart, and a
//! number of its own, by which one run is told from another of the same text.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowstring_sql::Scope;
use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use prost::Message;
use twox_hash::XxHash3_64;

/// Numbers that nobody can guess: of a counter, by keys of this process.
#[derive(Default)]
pub struct Numbers {
    keys: [RandomState; 2],
    next: AtomicU64,
}

impl Numbers {
    /// Another one than all before.
    pub fn next(&self) -> u128 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = &self.keys;
        (u128::from(high.hash_one(number)) << 64) | u128::from(low.hash_one(number))
    }
}

/// What a ticket says. Its form is the server's own matter: for clients it is bytes.
#[derive(Clone, PartialEq, Message)]
pub struct Statement {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(bytes = "bytes", tag = "2")]
    number: Bytes,
    #[prost(string, optional, tag = "3")]
    schema: Option<String>,
    #[prost(uint64, optional, tag = "4")]
    timeout_ms: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    rows_max: Option<u64>,
    /// A hash of the schema that was said.
    #[prost(fixed64, optional, tag = "6")]
    columns: Option<u64>,
}

impl Statement {
    /// The ticket of a statement that was asked in a session.
    pub fn new(text: String, number: u128, scope: &Scope) -> Self {
        let (schema, timeout, rows_max) = scope.set();
        Self {
            text,
            number: number.to_be_bytes().to_vec().into(),
            schema: schema.map(str::to_owned),
            timeout_ms: timeout.map(|of| u64::try_from(of.as_millis()).unwrap_or(u64::MAX)),
            rows_max,
            columns: None,
        }
    }

    /// Says what its answer is to be like.
    pub fn expect(&mut self, schema: &[u8]) {
        self.columns = Some(XxHash3_64::oneshot(schema));
    }

    /// Whether that is still so.
    ///
    /// # Errors
    /// `failed_precondition` where what it reads has changed.
    pub fn check(&self, schema: &[u8]) -> Result<()> {
        match self
            .columns
            .is_none_or(|expected| expected == XxHash3_64::oneshot(schema))
        {
            true => Ok(()),
            false => Err(Error::precondition(
                "the statement has other columns now than GetFlightInfo has said; ask it for another ticket",
            )),
        }
    }

    /// Reads a ticket's handle.
    ///
    /// # Errors
    /// `invalid_argument` for what GetFlightInfo does not make.
    pub fn read(handle: &[u8]) -> Result<Self> {
        let read = Self::decode(handle).ok();
        let read = read.filter(|read| read.number.len() == size_of::<u128>());
        read.ok_or_else(|| {
            Error::invalid(
                "the ticket of Flight SQL is none that GetFlightInfo has given; ask it for another",
            )
        })
    }

    /// What its session had set.
    ///
    /// # Errors
    /// `invalid_argument` where that cannot be set.
    pub fn scope(&self) -> Result<Scope> {
        let mut scope = Scope::default();
        scope.set_schema(self.schema.as_deref())?;
        scope.set_timeout(self.timeout_ms.map(Duration::from_millis));
        scope.set_rows_max(self.rows_max);
        Ok(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_says_what_was_asked_and_is_unlike_any_other() {
        let numbers = Numbers::default();
        let mut scope = Scope::default();
        scope.set_schema(Some("ns")).unwrap();
        scope.set_timeout(Some(Duration::from_millis(1_500)));
        scope.set_rows_max(Some(7));
        for scope in [scope, Scope::default()] {
            let made = || Statement::new("SELECT 1".to_owned(), numbers.next(), &scope);
            let (one, other) = (made(), made());
            assert_ne!(one, other);
            let read = Statement::read(&one.encode_to_vec()).unwrap();
            assert_eq!(read, one);
            assert_eq!(read.scope().unwrap(), scope);
        }
        for garbage in [&b""[..], b"SELECT 1", b"\x0a\x01a"] {
            assert!(Statement::read(garbage).is_err(), "{garbage:?}");
        }
    }
}
