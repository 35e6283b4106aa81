//! Log records: what is gone from all segments whose number is below the record's. They are read where the
//! index is lost, so that no deleted tensor comes back out of the sidecars.
//!
//! ```text
//! envelope of kind 2 around
//! count varint | each: 1 u8 | tenant | namespace | key        a name
//!                      2 u8 | tenant | namespace              all names of a namespace
//! ```

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

/// A log record.
pub fn encode_gone(number: Number, gone: &[Gone]) -> Bytes {
    let mut out = envelope::begin(Kind::Gone, number);
    put_varint(&mut out, gone.len() as u64);
    for gone in gone {
        match gone {
            Gone::Name(id) => {
                out.push(NAME);
                put_name(id, &mut out);
            }
            Gone::Namespace(tenant, namespace) => {
                out.push(NAMESPACE);
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
pub fn read_gone(number: Number, bytes: &[u8]) -> Result<Vec<Gone>> {
    let body = envelope::open(Kind::Gone, number, bytes)?;
    read_body(body).ok_or_else(|| damaged(Kind::Gone, "its names cannot be"))
}

fn read_body(body: &[u8]) -> Option<Vec<Gone>> {
    let mut cursor = Cursor::new(body);
    let count = cursor.varint()?;
    let mut gone = Vec::new();
    for _ in 0..count {
        gone.push(match cursor.u8()? {
            NAME => Gone::Name(name(&mut cursor)?),
            NAMESPACE => {
                let tenant = tenant(&mut cursor)?;
                Gone::Namespace(tenant, Namespace::parse(cursor.text()?).ok()?)
            }
            _ => return None,
        });
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
        fn it_comes_back(gone in prop::collection::vec(gone(), 0..8), number in any::<u64>()) {
            let bytes = encode_gone(Number(number), &gone);
            prop_assert_eq!(read_gone(Number(number), &bytes), Ok(gone));
            prop_assert!(read_gone(Number(number ^ 1), &bytes).is_err());
        }

        #[test]
        fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = envelope::begin(Kind::Gone, Number(3));
            out.extend_from_slice(&bytes);
            crate::feed::object(&envelope::seal(out));
        }
    }
}
