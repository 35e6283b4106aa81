//! What is set of namespaces. Of two rows for one namespace, wherever they are, the one of the later version counts.
//!
//! ```text
//! envelope of kind 5 around
//! count varint | each: hlc u64 | start u32 | tenant text | namespace text | settings text
//! ```
//!
//! The settings are JSON as `namespace_set` answers it, and stand here as they were written: one that a release
//! does not know is nothing to it, and is there again for one that does.

use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use bytes::Bytes;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use super::stored::{tenant, version};
use crate::entry::Number;

/// What is set of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsRow {
    /// Whose.
    pub tenant: Tenant,
    /// Of which.
    pub namespace: Namespace,
    /// The version of the settings.
    pub version: Version,
    /// As JSON, not looked into.
    pub json: String,
}

/// A record.
pub fn encode_settings(number: Number, rows: &[SettingsRow]) -> Bytes {
    let mut out = envelope::begin(Kind::Settings, number);
    put_varint(&mut out, rows.len() as u64);
    for row in rows {
        out.extend_from_slice(&row.version.hlc.to_le_bytes());
        out.extend_from_slice(&row.version.start.to_le_bytes());
        put_bytes(&mut out, row.tenant.as_str().as_bytes());
        put_bytes(&mut out, row.namespace.as_str().as_bytes());
        put_bytes(&mut out, row.json.as_bytes());
    }
    envelope::seal(out)
}

/// Reads what [`encode_settings`] wrote, under the name of this number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_settings(number: Number, bytes: &[u8]) -> Result<Vec<SettingsRow>> {
    let body = envelope::open(Kind::Settings, number, bytes)?;
    read_body(body).ok_or_else(|| damaged(Kind::Settings, "its rows cannot be"))
}

fn read_body(body: &[u8]) -> Option<Vec<SettingsRow>> {
    let mut cursor = Cursor::new(body);
    let mut rows = Vec::new();
    for _ in 0..cursor.varint()? {
        rows.push(SettingsRow {
            version: version(&mut cursor)?,
            tenant: tenant(&mut cursor)?,
            namespace: Namespace::parse(cursor.text()?).ok()?,
            json: cursor.text()?.to_owned(),
        });
    }
    cursor.left().is_empty().then_some(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::id;

    fn row() -> impl Strategy<Value = SettingsRow> {
        (id(), any::<u64>(), any::<u32>(), "\\PC{0,20}").prop_map(|(id, hlc, start, json)| {
            SettingsRow {
                tenant: id.tenant,
                namespace: id.namespace,
                version: Version { hlc, start },
                json,
            }
        })
    }

    proptest! {
        #[test]
        fn it_comes_back(rows in prop::collection::vec(row(), 0..8), number in any::<u64>()) {
            let bytes = encode_settings(Number(number), &rows);
            prop_assert_eq!(read_settings(Number(number), &bytes), Ok(rows));
            prop_assert!(read_settings(Number(number ^ 1), &bytes).is_err());
        }

        #[test]
        fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = envelope::begin(Kind::Settings, Number(3));
            out.extend_from_slice(&bytes);
            let object = envelope::seal(out);
            if let Ok(rows) = read_settings(Number(3), &object) {
                prop_assert_eq!(encode_settings(Number(3), &rows), object);
            }
        }
    }
}
