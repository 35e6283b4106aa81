//! What is in a segment, read without it.
//!
//! ```text
//! envelope of kind 1, whose number is the segment's, around
//! bytes of the segment's file u64 | tensors varint | each: its length varint, as `stored` writes it
//! ```

use bowstring_wire::error::Result;
use bytes::Bytes;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use super::stored::{decode_stored, encode_stored};
use crate::entry::{Number, Stored};

/// A sidecar, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Of the segment that it belongs to.
    pub number: Number,
    /// Bytes of the segment's file.
    pub file_bytes: u64,
    /// Its tensors, in the order of their bytes.
    pub entries: Vec<Stored>,
}

/// The sidecar of a segment. All of `entries` lie in it.
pub fn encode_sidecar(number: Number, file_bytes: u64, entries: &[Stored]) -> Bytes {
    let mut out = envelope::begin(Kind::Sidecar, number);
    out.extend_from_slice(&file_bytes.to_le_bytes());
    put_varint(&mut out, entries.len() as u64);
    let mut one = Vec::with_capacity(256);
    for entry in entries {
        one.clear();
        encode_stored(entry, &mut one);
        put_bytes(&mut out, &one);
    }
    envelope::seal(out)
}

/// Reads what [`encode_sidecar`] wrote, under the name of this number: one that somebody has copied would
/// bring back what was deleted in between.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_sidecar(number: Number, bytes: &[u8]) -> Result<Sidecar> {
    let body = envelope::open(Kind::Sidecar, number, bytes)?;
    read_body(number, body).ok_or_else(|| damaged(Kind::Sidecar, "its entries cannot be"))
}

fn read_body(number: Number, body: &[u8]) -> Option<Sidecar> {
    let mut cursor = Cursor::new(body);
    let file_bytes = cursor.u64()?;
    let count = cursor.varint()?;
    // No room is taken for a number that nothing stands behind.
    let mut entries = Vec::new();
    let mut end = 0;
    for _ in 0..count {
        let entry = decode_stored(cursor.bytes()?)?;
        let in_order = entry.place.segment == number && entry.place.offset >= end;
        end = entry.place.offset.checked_add(entry.file_bytes())?;
        if !in_order || end > file_bytes {
            return None;
        }
        entries.push(entry);
    }
    cursor.left().is_empty().then_some(Sidecar {
        number,
        file_bytes,
        entries,
    })
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::format::testing::stored;

    /// A sidecar of tensors one behind the other.
    fn sidecar() -> impl Strategy<Value = Sidecar> {
        let entries = prop::collection::vec(stored(), 0..6);
        (entries, 0..1u64 << 40).prop_map(|(mut entries, number)| {
            let mut end = 64;
            for entry in &mut entries {
                entry.place.segment = Number(number);
                entry.place.offset = end;
                end += entry.file_bytes();
            }
            Sidecar {
                number: Number(number),
                file_bytes: end + 100,
                entries,
            }
        })
    }

    fn encode(sidecar: &Sidecar) -> Bytes {
        encode_sidecar(sidecar.number, sidecar.file_bytes, &sidecar.entries)
    }

    #[test]
    fn a_number_of_entries_that_are_not_there_takes_no_room() {
        let mut out = envelope::begin(Kind::Sidecar, Number(1));
        out.extend_from_slice(&64u64.to_le_bytes());
        put_varint(&mut out, u64::MAX);
        assert_eq!(
            read_sidecar(Number(1), &envelope::seal(out))
                .unwrap_err()
                .code,
            Code::DataLoss
        );
    }

    proptest! {
        #[test]
        fn it_comes_back(sidecar in sidecar()) {
            prop_assert_eq!(read_sidecar(sidecar.number, &encode(&sidecar)), Ok(sidecar));
        }

        #[test]
        fn a_flipped_bit_and_a_missing_end_are_found(sidecar in sidecar(), at in any::<Index>(), bit in 0u8..8) {
            let good = encode(&sidecar);
            let at = at.index(good.len());
            prop_assert!(read_sidecar(sidecar.number, &good[..at]).is_err());
            prop_assert!(read_sidecar(Number(sidecar.number.0 + 1), &good).is_err());
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            prop_assert_eq!(read_sidecar(sidecar.number, &bad).unwrap_err().code, Code::DataLoss);
        }

        #[test]
        fn entries_of_another_segment_or_outside_the_file_are_refused(mut sidecar in sidecar()) {
            prop_assume!(sidecar.entries.iter().any(|entry| entry.description.len > 0));
            let other = encode_sidecar(Number(sidecar.number.0 + 1), sidecar.file_bytes, &sidecar.entries);
            prop_assert!(read_sidecar(Number(sidecar.number.0 + 1), &other).is_err());
            sidecar.file_bytes = 64;
            prop_assert!(read_sidecar(sidecar.number, &encode(&sidecar)).is_err());
        }

        #[test]
        fn any_bytes_are_an_object_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::feed::object(&bytes);
            let mut out = envelope::begin(Kind::Sidecar, Number(3));
            out.extend_from_slice(&bytes);
            crate::feed::object(&envelope::seal(out));
        }
    }
}
