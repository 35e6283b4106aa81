//! What was in memory, the hottest first: a hint for the next start, which finds the tensors by the index.
//!
//! ```text
//! envelope of kind 3 around
//! namespaces varint | each: tenant text | namespace text
//! names varint | each: its namespace varint, counted from 0 | key text
//! ```

use bowstring_cache::Id;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bytes::Bytes;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use super::stored::tenant;
use crate::entry::Number;

/// Names, those first that were asked for most; each with the number of its namespace in `namespaces`.
pub fn encode_hot<'a>(
    number: Number,
    namespaces: &[(Tenant, Namespace)],
    names: impl ExactSizeIterator<Item = (usize, &'a str)>,
) -> Bytes {
    let mut out = envelope::begin(Kind::Hot, number);
    put_varint(&mut out, namespaces.len() as u64);
    for (tenant, namespace) in namespaces {
        put_bytes(&mut out, tenant.as_str().as_bytes());
        put_bytes(&mut out, namespace.as_str().as_bytes());
    }
    put_varint(&mut out, names.len() as u64);
    for (namespace, key) in names {
        put_varint(&mut out, namespace as u64);
        put_bytes(&mut out, key.as_bytes());
    }
    envelope::seal(out)
}

/// Names of a list, one after the other as they are asked for: a list may have millions.
#[derive(Debug, Clone)]
pub struct HotNames {
    bytes: Bytes,
    /// Where the next name begins.
    at: usize,
    left: u64,
    namespaces: Vec<(Tenant, Namespace)>,
}

impl HotNames {
    /// How many names are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

/// Reads what [`encode_hot`] wrote, under the name of this number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_hot(number: Number, bytes: &Bytes) -> Result<HotNames> {
    let body = envelope::open(Kind::Hot, number, bytes)?;
    let names = read_body(&bytes.slice_ref(body));
    names.ok_or_else(|| damaged(Kind::Hot, "its names cannot be"))
}

fn read_body(body: &Bytes) -> Option<HotNames> {
    let mut cursor = Cursor::new(body);
    // No room is taken for a number that nothing stands behind.
    let mut namespaces = Vec::new();
    for _ in 0..cursor.varint()? {
        let tenant = tenant(&mut cursor)?;
        namespaces.push((tenant, Namespace::parse(cursor.text()?).ok()?));
    }
    let left = cursor.varint()?;
    Some(HotNames {
        at: body.len() - cursor.left().len(),
        bytes: body.clone(),
        left,
        namespaces,
    })
}

impl Iterator for HotNames {
    type Item = Id;

    /// The next name; none too where what follows is none.
    fn next(&mut self) -> Option<Id> {
        self.left = self.left.checked_sub(1)?;
        let mut cursor = Cursor::new(self.bytes.get(self.at..)?);
        let read = |cursor: &mut Cursor<'_>| {
            let namespace = usize::try_from(cursor.varint()?).ok()?;
            let (tenant, namespace) = self.namespaces.get(namespace)?.clone();
            Some(Id {
                tenant,
                namespace,
                key: Key::parse(cursor.text()?).ok()?,
            })
        };
        let id = read(&mut cursor);
        self.at = self.bytes.len() - cursor.left().len();
        if id.is_none() {
            self.left = 0;
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::id;

    proptest! {
        #[test]
        fn it_comes_back_in_order(ids in prop::collection::vec(id(), 0..8), number in any::<u64>()) {
            let of = |id: &Id| (id.tenant.clone(), id.namespace.clone());
            let namespaces: Vec<_> = ids.iter().map(of).collect();
            let names = ids.iter().enumerate().map(|(at, id)| (at, id.key.as_str()));
            let bytes = encode_hot(Number(number), &namespaces, names);
            let names = read_hot(Number(number), &bytes).unwrap();
            prop_assert_eq!(names.left(), ids.len() as u64);
            prop_assert_eq!(names.collect::<Vec<_>>(), ids);
            prop_assert!(read_hot(Number(number ^ 1), &bytes).is_err());
            let mut flipped = bytes.to_vec();
            flipped[bytes.len() / 2] ^= 4;
            prop_assert!(read_hot(Number(number), &flipped.into()).is_err());
        }

        #[test]
        fn any_body_ends(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = envelope::begin(Kind::Hot, Number(3));
            out.extend_from_slice(&bytes);
            if let Ok(names) = read_hot(Number(3), &envelope::seal(out)) {
                prop_assert!(names.count() <= bytes.len());
            }
        }
    }
}
