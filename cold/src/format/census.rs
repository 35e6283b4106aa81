//! Which segments count of those that lie under a prefix when a start begins there. What comes to the store behind that
//! from an earlier start was still on its way when that one was killed, and nobody was told of it.
//!
//! ```text
//! envelope of kind 8 around
//! first u64 | count varint | each: how far it lies above the one before, varint
//! ```

use std::collections::BTreeSet;

use bowstring_wire::error::Result;
use bytes::Bytes;

use super::cursor::{Cursor, put_varint};
use super::envelope::{self, Kind, damaged};
use crate::entry::Number;

/// What a start has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// What is from this number on is of this start, or of a later one.
    pub first: Number,
    /// What counts of those before.
    pub segments: BTreeSet<Number>,
}

impl Census {
    /// Whether a segment counts.
    pub fn has(&self, number: Number) -> bool {
        number >= self.first || self.segments.contains(&number)
    }
}

/// The census of this start.
pub fn encode_census(epoch: u64, census: &Census) -> Bytes {
    let mut out = envelope::begin(Kind::Census, Number(epoch));
    out.extend_from_slice(&census.first.0.to_le_bytes());
    put_varint(&mut out, census.segments.len() as u64);
    let mut before = 0;
    for number in &census.segments {
        put_varint(&mut out, number.0 - before);
        before = number.0;
    }
    envelope::seal(out)
}

/// Reads what [`encode_census`] wrote, under the name of this start.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_census(epoch: u64, bytes: &[u8]) -> Result<Census> {
    let body = envelope::open(Kind::Census, Number(epoch), bytes)?;
    read_body(body).ok_or_else(|| damaged(Kind::Census, "its numbers cannot be"))
}

fn read_body(body: &[u8]) -> Option<Census> {
    let mut cursor = Cursor::new(body);
    let first = Number(cursor.u64()?);
    let mut segments = BTreeSet::new();
    let mut before = 0_u64;
    for _ in 0..cursor.varint()? {
        before = before.checked_add(cursor.varint()?)?;
        // Each once: what is written is read in one way.
        if !segments.insert(Number(before)) {
            return None;
        }
    }
    cursor
        .left()
        .is_empty()
        .then_some(Census { first, segments })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_counted_comes_back(
            epoch in any::<u64>(),
            first in any::<u64>(),
            numbers in prop::collection::btree_set(any::<u64>(), 0..50),
        ) {
            let segments = numbers.iter().copied().map(Number).collect();
            let census = Census { first: Number(first), segments };
            let bytes = encode_census(epoch, &census);
            prop_assert_eq!(read_census(epoch, &bytes).unwrap(), census.clone());
            prop_assert!(read_census(epoch ^ 1, &bytes).is_err());
            for number in numbers {
                prop_assert!(census.has(Number(number)));
            }
            prop_assert!(census.has(Number(first)));
        }
    }
}
