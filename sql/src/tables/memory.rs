//! `memory`: the ledger, an account a row.

use bowstring_cache::Cache;
use bowstring_cache::ledger::AccountUse;

use super::live::{Columns, Live};

/// The table of a cache's ledger.
pub fn memory(cache: Cache) -> Live {
    Columns::default()
        .text("account", |row: &AccountUse| row.account.name())
        .count("used_bytes", |row| row.used)
        .count("peak_bytes", |row| row.peak)
        .count("refused", |row| row.refused)
        .table("memory", move |_| Ok(cache.ledger().accounts().collect()))
}
