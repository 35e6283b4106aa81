//! What a server has made to be gone of others' prefixes, which it only reads: names and namespaces, each with
//! the clock of a version. What others have of them of that version, or of one before, is not to be found.
//!
//! ```text
//! envelope of kind 4 around
//! count varint | each: 1 u8 | hlc u64 | tenant | namespace | key       a name
//!                      2 u8 | hlc u64 | tenant | namespace | prefix    all names that begin with a prefix
//! ```

use bowstring_cache::Id;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use super::stored::{name, put_name, tenant};
use crate::entry::Number;

/// What is not to be found, up to the version of a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grave {
    /// One name.
    Name(Id, u64),
    /// All names of a tenant's namespace that begin with a prefix.
    Prefix((Tenant, Namespace), String, u64),
}

const NAME: u8 = 1;
const PREFIX: u8 = 2;

/// A record.
pub fn encode_hidden(number: Number, graves: &[Grave]) -> Bytes {
    let mut out = envelope::begin(Kind::Hidden, number);
    put_varint(&mut out, graves.len() as u64);
    for grave in graves {
        match grave {
            Grave::Name(id, hlc) => {
                out.push(NAME);
                out.extend_from_slice(&hlc.to_le_bytes());
                put_name(id, &mut out);
            }
            Grave::Prefix((tenant, namespace), prefix, hlc) => {
                out.push(PREFIX);
                out.extend_from_slice(&hlc.to_le_bytes());
                put_bytes(&mut out, tenant.as_str().as_bytes());
                put_bytes(&mut out, namespace.as_str().as_bytes());
                put_bytes(&mut out, prefix.as_bytes());
            }
        }
    }
    envelope::seal(out)
}

/// Reads what [`encode_hidden`] wrote, under the name of this number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_hidden(number: Number, bytes: &[u8]) -> Result<Vec<Grave>> {
    let body = envelope::open(Kind::Hidden, number, bytes)?;
    read_body(body).ok_or_else(|| damaged(Kind::Hidden, "its names cannot be"))
}

fn read_body(body: &[u8]) -> Option<Vec<Grave>> {
    let mut cursor = Cursor::new(body);
    let mut graves = Vec::new();
    for _ in 0..cursor.varint()? {
        let (kind, hlc) = (cursor.u8()?, cursor.u64()?);
        graves.push(match kind {
            NAME => Grave::Name(name(&mut cursor)?, hlc),
            PREFIX => {
                let tenant = tenant(&mut cursor)?;
                let namespace = Namespace::parse(cursor.text()?).ok()?;
                Grave::Prefix((tenant, namespace), cursor.text()?.to_owned(), hlc)
            }
            _ => return None,
        });
    }
    cursor.left().is_empty().then_some(graves)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::id;

    fn grave() -> impl Strategy<Value = Grave> {
        (id(), any::<bool>(), any::<u64>()).prop_map(|(id, all, hlc)| match all {
            true => Grave::Prefix(
                (id.tenant, id.namespace),
                id.key.as_str().chars().take(1).collect(),
                hlc,
            ),
            false => Grave::Name(id, hlc),
        })
    }

    proptest! {
        #[test]
        fn it_comes_back(graves in prop::collection::vec(grave(), 0..8), number in any::<u64>()) {
            let bytes = encode_hidden(Number(number), &graves);
            prop_assert_eq!(read_hidden(Number(number), &bytes), Ok(graves));
            prop_assert!(read_hidden(Number(number ^ 1), &bytes).is_err());
        }

        #[test]
        fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = envelope::begin(Kind::Hidden, Number(3));
            out.extend_from_slice(&bytes);
            let object = envelope::seal(out);
            if let Ok(graves) = read_hidden(Number(3), &object) {
                prop_assert_eq!(encode_hidden(Number(3), &graves), object);
            }
        }
    }
}
