//! The rows of the tree. For ever: what is here is on disks; a change needs a new [`FORMAT`](super::state).
//!
//! | key | value |
//! |---|---|
//! | `e` tenant NUL namespace NUL key | an entry, as in `format` |
//! | `f` tenant NUL namespace | the floor: segments below this number are gone for that namespace |
//! | `h` | how many groups were written, the highest clock of a version |
//! | `l` number, big-endian, and the key of an entry or a floor | nothing: that name, or namespace, is gone, and the store's log does not say so yet |
//! | `s` number, big-endian | live entries, live bytes and all bytes of a segment |
//!
//! Numbers in values are u64, little-endian. Names have no NUL, so the keys of a namespace stand
//! together and in their order.

use bowstring_cache::Id;
use bowstring_wire::name::{Key, Namespace, Tenant};

use super::error::IndexError;
use crate::entry::Number;
use crate::format::Gone;

pub(super) const HEAD: &[u8] = b"h";
pub(super) const FLOORS: &[u8] = b"f";
pub(super) const SEGMENTS: &[u8] = b"s";
pub(super) const PENDING: &[u8] = b"l";

/// The key of an entry's row.
pub(super) fn entry_key(id: &Id) -> Vec<u8> {
    let mut key = namespace_prefix(&id.tenant, &id.namespace);
    key.extend_from_slice(id.key.as_str().as_bytes());
    key
}

/// What the entries' keys of a namespace begin with, and those of no other.
pub(super) fn namespace_prefix(tenant: &Tenant, namespace: &Namespace) -> Vec<u8> {
    let (tenant, namespace) = (tenant.as_str(), namespace.as_str());
    // Room for a key behind it.
    let mut prefix = Vec::with_capacity(3 + tenant.len() + namespace.len() + 64);
    prefix.push(b'e');
    prefix.extend_from_slice(tenant.as_bytes());
    prefix.push(0);
    prefix.extend_from_slice(namespace.as_bytes());
    prefix.push(0);
    prefix
}

/// The name in the key of an entry's row.
pub(super) fn entry_id(key: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(key.strip_prefix(b"e")?).ok()?;
    let (tenant, rest) = text.split_once('\0')?;
    let (namespace, key) = rest.split_once('\0')?;
    Some(Id {
        tenant: Tenant::parse(tenant).ok()?,
        namespace: Namespace::parse(namespace).ok()?,
        key: Key::parse(key).ok()?,
    })
}

/// The part of an entry's key that is its namespace's prefix.
pub(super) fn prefix_of(entry_key: &[u8]) -> &[u8] {
    let nul = |from: usize| {
        let rest = entry_key.get(from..).unwrap_or_default();
        rest.iter()
            .position(|byte| *byte == 0)
            .map(|at| from + at + 1)
    };
    let end = nul(0).and_then(nul).unwrap_or(entry_key.len());
    entry_key.get(..end).unwrap_or_default()
}

/// The key of the floor of the namespace that has this prefix.
pub(super) fn floor_key(prefix: &[u8]) -> Vec<u8> {
    let names = prefix.get(1..prefix.len().saturating_sub(1));
    [FLOORS, names.unwrap_or_default()].concat()
}

/// The prefix of the namespace whose floor has this key.
pub(super) fn floor_prefix(floor_key: &[u8]) -> Vec<u8> {
    let names = floor_key.get(FLOORS.len()..).unwrap_or_default();
    [b"e".as_slice(), names, b"\0"].concat()
}

pub(super) fn segment_key(number: Number) -> Vec<u8> {
    [SEGMENTS, &number.0.to_be_bytes()].concat()
}

pub(super) fn segment_number(segment_key: &[u8]) -> Option<Number> {
    let bytes = segment_key.strip_prefix(SEGMENTS)?.try_into().ok()?;
    Some(Number(u64::from_be_bytes(bytes)))
}

/// The key of the row that notes what is gone, of which the entry's or the floor's row has this key.
pub(super) fn pending_key(number: Number, gone: &[u8]) -> Vec<u8> {
    [PENDING, &number.0.to_be_bytes(), gone].concat()
}

/// What a row notes.
pub(super) fn pending(pending_key: &[u8]) -> Option<(Number, Gone)> {
    let (number, key) = pending_key
        .strip_prefix(PENDING)?
        .split_first_chunk::<8>()?;
    let gone = match key.strip_prefix(FLOORS) {
        Some(names) => {
            let (tenant, namespace) = str::from_utf8(names).ok()?.split_once('\0')?;
            let tenant = Tenant::parse(tenant).ok()?;
            Gone::Namespace(tenant, Namespace::parse(namespace).ok()?)
        }
        None => Gone::Name(entry_id(key)?),
    };
    Some((Number(u64::from_be_bytes(*number)), gone))
}

/// A row of numbers.
pub(super) fn numbers<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Reads a row of numbers.
pub(super) fn read_numbers<const N: usize>(row: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = row.as_chunks::<8>();
    let numbers: [[u8; 8]; N] = chunks.try_into().ok()?;
    rest.is_empty().then(|| numbers.map(u64::from_le_bytes))
}

/// The first key behind all that begin with `prefix`, which must not end in 0xFF.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// A row whose value is not what was written.
pub(super) fn damaged(key: &[u8]) -> IndexError {
    IndexError::Corrupt(format!("row=`{}`", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_read_back_and_sort_as_the_names_do(
            a in ("[a-z0-9]{1,4}", "[a-z0-9]{1,4}", "[^\0]{1,9}"),
            b in ("[a-z0-9]{1,4}", "[a-z0-9]{1,4}", "[^\0]{1,9}"),
        ) {
            let id = |(tenant, namespace, key): &(String, String, String)| Id {
                tenant: Tenant::parse(tenant).unwrap(),
                namespace: Namespace::parse(namespace).unwrap(),
                key: Key::parse(key).unwrap(),
            };
            let (a, b) = (id(&a), id(&b));
            let (row_a, row_b) = (entry_key(&a), entry_key(&b));
            prop_assert_eq!(entry_id(&row_a), Some(a.clone()));
            prop_assert_eq!(row_a.cmp(&row_b), a.cmp(&b));
            let prefix = namespace_prefix(&a.tenant, &a.namespace);
            prop_assert_eq!(prefix_of(&row_a), &prefix[..]);
            prop_assert_eq!(floor_prefix(&floor_key(&prefix)), prefix.clone());
            prop_assert!(row_a < behind(&prefix));
            let noted = pending(&pending_key(Number(7), &row_a));
            prop_assert_eq!(noted, Some((Number(7), Gone::Name(a.clone()))));
            let noted = pending(&pending_key(Number(8), &floor_key(&prefix)));
            let whole = Gone::Namespace(a.tenant.clone(), a.namespace.clone());
            prop_assert_eq!(noted, Some((Number(8), whole)));
            let same = (&a.tenant, &a.namespace) == (&b.tenant, &b.namespace);
            prop_assert_eq!(row_b.starts_with(&prefix), same);
        }

        #[test]
        fn numbers_are_read_back(n in any::<[u64; 3]>(), segment in any::<u64>()) {
            prop_assert_eq!(read_numbers::<3>(&numbers(n)), Some(n));
            prop_assert_eq!(read_numbers::<2>(&numbers(n)), None);
            let number = Number(segment);
            prop_assert_eq!(segment_number(&segment_key(number)), Some(number));
        }
    }
}
