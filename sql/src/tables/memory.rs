//! `memory`: the ledger, an account a row.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bowstring_cache::Cache;
use bowstring_cache::ledger::AccountUse;
use bowstring_wire::error::{Error, Result};

use super::int;
use super::live::Live;

/// The table of a cache's ledger.
pub fn memory(cache: Cache) -> Live {
    let schema = Arc::new(Schema::new(vec![
        Field::new("account", DataType::Utf8, false),
        Field::new("used_bytes", DataType::Int64, false),
        Field::new("peak_bytes", DataType::Int64, false),
        Field::new("refused", DataType::Int64, false),
    ]));
    let of = schema.clone();
    Live::new("memory", schema, move || {
        let accounts: Vec<AccountUse> = cache.ledger().accounts().collect();
        let names = accounts.iter().map(|account| account.account.name());
        let numbers = |of: fn(&AccountUse) -> u64| -> ArrayRef {
            let numbers = accounts.iter().map(|account| int(of(account)));
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(names)),
            numbers(|account| account.used),
            numbers(|account| account.peak),
            numbers(|account| account.refused),
        ];
        batch(of.clone(), columns)
    })
}

/// A batch of columns that were made for it.
pub fn batch(schema: Arc<Schema>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::internal(format!("a table's columns do not fit it; {error}")))
}
