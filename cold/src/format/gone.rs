//! Log records: what is gone from all segments whose number is below one that stands with it. They are read where the
//! index is lost, so that no deleted tensor comes back out of the sidecars.
//!
//! ```text
//! envelope of kind 2 around
//! count varint | each: 1 u8 | below u64 | tenant | namespace | key        a name
//!                      2 u8 | below u64 | tenant | namespace              all names of a namespace
//! ```
//! That number is no higher than the record's, and mostly lower: a record is written some time after what it tells of, and
//! what was put again in between may be in a segment by then.

use bowstring_cache::Id;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use super::stored::{name, put_name, tenant};
use crate::entry::Number;

/// What is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gone {
    /// Every version of one name.
    Name(Id),
    /// Every name of a tenant's namespace.
    Namespace(Tenant, Namespace),
}

const NAME: u8 = 1;
const NAMESPACE: u8 = 2;

/// A log record: what is gone, and from which segments on it is not.
pub fn encode_gone(number: Number, gone: &[(Gone, Number)]) -> Bytes {
    let mut out = envelope::begin(Kind::Gone, number);
    put_varint(&mut out, gone.len() as u64);
    for (gone, Number(below)) in gone {
        match gone {
            Gone::Name(id) => {
                out.push(NAME);
                out.extend_from_slice(&below.to_le_bytes());
                put_name(id, &mut out);
            }
            Gone::Namespace(tenant, namespace) => {
                out.push(NAMESPACE);
                out.extend_from_slice(&below.to_le_bytes());
                put_bytes(&mut out, tenant.as_str().as_bytes());
                put_bytes(&mut out, namespace.as_str().as_bytes());
            }
        }
    }
    envelope::seal(out)
}

/// Reads what [`encode_gone`] wrote, under the name of this number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_gone(number: Number, bytes: &[u8]) -> Result<Vec<(Gone, Number)>> {
    let body = envelope::open(Kind::Gone, number, bytes)?;
    read_body(number, body).ok_or_else(|| damaged(Kind::Gone, "its names cannot be"))
}

fn read_body(number: Number, body: &[u8]) -> Option<Vec<(Gone, Number)>> {
    let mut cursor = Cursor::new(body);
    let count = cursor.varint()?;
    let mut gone = Vec::new();
    for _ in 0..count {
        let (kind, below) = (cursor.u8()?, Number(cursor.u64()?));
        // What has a higher number was written later, and nobody could know of it.
        if below > number {
            return None;
        }
        let one = match kind {
            NAME => Gone::Name(name(&mut cursor)?),
            NAMESPACE => {
                let tenant = tenant(&mut cursor)?;
                Gone::Namespace(tenant, Namespace::parse(cursor.text()?).ok()?)
            }
            _ => return None,
        };
        gone.push((one, below));
    }
    cursor.left().is_empty().then_some(gone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::id;

    fn gone() -> impl Strategy<Value = Gone> {
        (id(), any::<bool>()).prop_map(|(id, all)| match all {
            true => Gone::Namespace(id.tenant, id.namespace),
            false => Gone::Name(id),
        })
    }

    proptest! {
        #[test]
        fn it_comes_back(gone in prop::collection::vec((gone(), any::<u64>()), 0..8), number in any::<u64>()) {
            let below = |at: u64| Number(at.min(number));
            let gone: Vec<_> = gone.into_iter().map(|(one, at)| (one, below(at))).collect();
            let bytes = encode_gone(Number(number), &gone);
            prop_assert_eq!(read_gone(Number(number), &bytes), Ok(gone));
            prop_assert!(read_gone(Number(number ^ 1), &bytes).is_err());
        }

        #[test]
        fn what_a_record_could_not_know_is_refused(gone in gone(), number in 0..u64::MAX) {
            let bytes = encode_gone(Number(number), &[(gone, Number(number + 1))]);
            prop_assert!(read_gone(Number(number), &bytes).is_err());
        }

        #[test]
        fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = envelope::begin(Kind::Gone, Number(3));
            out.extend_from_slice(&bytes);
            crate::feed::object(&envelope::seal(out));
        }
    }
}
