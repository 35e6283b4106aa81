//! The first message of a put: one column is one tensor, several are one entry a row.

use crate::bulk::BulkSchema;
use crate::error::{Error, Result};
use crate::ipc_check;
use crate::single::SingleSchema;

/// What a put's schema asks for.
#[derive(Clone, Debug)]
pub enum PutSchema {
    /// One column: one tensor.
    Single(Box<SingleSchema>),
    /// Several columns: an entry each row.
    Bulk(BulkSchema),
}

impl PutSchema {
    /// Reads `data_header` of a put's first message.
    ///
    /// # Errors
    /// `invalid_argument` for what is no schema, has no column, or whose one column is no
    /// tensor. The columns of a bulk put are judged with its command
    /// ([`BulkSchema::with_command`]).
    pub fn parse(header: &[u8]) -> Result<Self> {
        let schema = ipc_check::schema(header)?;
        match schema.fields().map_or(0, |fields| fields.len()) {
            0 => Err(Error::invalid(
                "the schema has no columns; expected one for a tensor, or a key and a tensor \
                 column for many",
            )),
            1 => SingleSchema::new(schema).map(|schema| Self::Single(Box::new(schema))),
            _ => Ok(Self::Bulk(BulkSchema::new(header))),
        }
    }
}
