//! What a put answers, in the `app_metadata` of its `PutResult`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::json;
use crate::limits::MAX_PUT_ERRORS;
use crate::version::Version;

/// Counts of a put, and its first errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PutReply {
    /// Entries that the put made.
    #[serde(with = "json::uint")]
    pub stored: u64,
    /// Entries that were there and stayed.
    #[serde(with = "json::uint")]
    pub existed: u64,
    /// Tensor bytes of the entries stored.
    #[serde(with = "json::uint")]
    pub bytes: u64,
    /// The version of the one entry, stored or existing; absent for a bulk put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The first errors, at most [`MAX_PUT_ERRORS`].
    #[serde(default)]
    pub errors: Vec<PutError>,
    /// All errors.
    #[serde(with = "json::uint")]
    pub errors_total: u64,
}

/// A row that was not stored. It does not lose the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutError {
    /// The row, counted over the whole put.
    #[serde(with = "json::uint")]
    pub row: u64,
    /// Its key, as far as it can be read; clipped where it is no legal key.
    pub key: Option<String>,
    /// The stable code.
    pub code: String,
    /// What was wrong and what was expected.
    pub message: String,
}

impl PutReply {
    /// Counts an error, and spells it out while there is room.
    pub fn push_error(&mut self, row: u64, key: Option<&str>, error: &Error) {
        self.errors_total += 1;
        if self.errors.len() < MAX_PUT_ERRORS {
            self.errors.push(PutError {
                row,
                key: key.map(|key| crate::error::clip(key, crate::limits::MAX_KEY_BYTES).into()),
                code: error.code.as_str().to_owned(),
                message: error.message.clone().into_owned(),
            });
        }
    }

    /// Its counts, without the errors themselves.
    pub fn counts(&self) -> PutReply {
        PutReply {
            errors: Vec::new(),
            version: None,
            ..*self
        }
    }

    /// Adds what another one counted, whose errors are of other rows of the same put.
    pub fn merge(&mut self, other: PutReply) {
        self.stored += other.stored;
        self.existed += other.existed;
        self.bytes += other.bytes;
        self.errors_total += other.errors_total;
        self.errors.extend(other.errors);
        // Each has its own first ones, so the first of all are among them.
        self.errors.sort_by_key(|error| error.row);
        self.errors.truncate(MAX_PUT_ERRORS);
    }

    /// The JSON.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }

    /// Reads what a server answered.
    ///
    /// # Errors
    /// `internal` where it is no such JSON.
    pub fn parse(bytes: &[u8]) -> Result<PutReply> {
        json::read_reply("put result", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_hundred_errors_are_spelt_out_and_all_are_counted() {
        let mut reply = PutReply::default();
        let error = Error::invalid("key is empty");
        for row in 0..250 {
            reply.push_error(row, None, &error);
        }
        assert_eq!((reply.errors.len(), reply.errors_total), (100, 250));
        assert_eq!(reply.errors[99].row, 99);
        assert_eq!(PutReply::parse(reply.to_json().as_bytes()), Ok(reply));
    }

    #[test]
    fn of_two_halves_the_first_errors_are_spelt_out() {
        let error = Error::invalid("key is empty");
        let half = |rows: std::ops::Range<u64>, skip| {
            let mut reply = PutReply {
                stored: 1,
                existed: 2,
                bytes: 3,
                ..PutReply::default()
            };
            rows.step_by(skip)
                .for_each(|row| reply.push_error(row, None, &error));
            reply
        };
        let mut reply = half(0..300, 2);
        reply.merge(half(1..300, 2));
        assert_eq!((reply.stored, reply.existed, reply.bytes), (2, 4, 6));
        assert_eq!(reply.errors_total, 300);
        let rows: Vec<u64> = reply.errors.iter().map(|error| error.row).collect();
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_json_is_that_of_the_contract() {
        let mut reply = PutReply {
            stored: 1,
            bytes: 1 << 60,
            version: Some(Version { hlc: 1, start: 7 }),
            ..PutReply::default()
        };
        reply.push_error(3, Some("a"), &Error::data_loss("x"));
        assert_eq!(
            reply.to_json(),
            r#"{"stored":1,"existed":0,"bytes":"1152921504606846976","version":"4294967303","#
                .to_owned()
                + r#""errors":[{"row":3,"key":"a","code":"data_loss","message":"x"}],"errors_total":1}"#
        );
    }

    proptest! {
        #[test]
        fn round_trip(stored in any::<u64>(), bytes in any::<u64>(), key in prop::option::of(".{0,9}"), message in ".{0,20}") {
            let mut reply = PutReply { stored, bytes, ..PutReply::default() };
            reply.push_error(stored, key.as_deref(), &Error::invalid(message));
            prop_assert_eq!(PutReply::parse(reply.to_json().as_bytes()), Ok(reply));
        }
    }
}
