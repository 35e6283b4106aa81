//! The types of columns, in the numbers of Flight SQL.

use arrow_array::RecordBatch;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType};
use bowstring_wire::error::Result;

use super::arrow_error;

/// The rows that a command asks for.
pub fn batch(of: CommandGetXdbcTypeInfo) -> Result<RecordBatch> {
    use XdbcDataType::*;
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, size, quote) in [
        ("BOOLEAN", XdbcBit, 1, false),
        ("SMALLINT", XdbcSmallint, 16, false),
        ("INTEGER", XdbcInteger, 32, false),
        ("BIGINT", XdbcBigint, 64, false),
        ("REAL", XdbcReal, 24, false),
        ("DOUBLE", XdbcDouble, 53, false),
        ("VARCHAR", XdbcVarchar, i32::MAX, true),
        ("BYTEA", XdbcVarbinary, i32::MAX, true),
        ("TIMESTAMP", XdbcTimestamp, 32, true),
    ] {
        let is_number = !quote && data_type != XdbcBit;
        let quote = quote.then(|| "'".to_owned());
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            column_size: Some(size),
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: data_type == XdbcVarchar,
            searchable: Searchable::Full,
            unsigned_attribute: Some(false),
            auto_increment: Some(false),
            local_type_name: Some(name.to_owned()),
            sql_data_type: data_type,
            num_prec_radix: is_number.then_some(2),
            ..XdbcTypeInfo::default()
        });
    }
    let types = types.build().map_err(arrow_error)?;
    types.record_batch(of.data_type).map_err(arrow_error)
}
