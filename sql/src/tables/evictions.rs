//! `evictions`: what was evicted last, an entry a row, the oldest first.

use bowstring_cache::Cache;
use bowstring_cache::evicted::EvictedEntry;

use super::live::{Columns, Live};

/// An entry, and its version as `tensors` shows it.
struct Row {
    entry: EvictedEntry,
    version: String,
}

/// The table of a cache's last evictions.
pub fn evictions(cache: Cache) -> Live {
    Columns::default()
        .time("evicted_at", |row: &Row| row.entry.at_ms)
        .text("namespace", |row| row.entry.namespace.as_str())
        .text("key", |row| &row.entry.key)
        .text("version", |row| &row.version)
        .text("dtype", |row| row.entry.dtype.name())
        .count("bytes", |row| row.entry.bytes)
        .text("why", |row| row.entry.cause.as_str())
        .text("went_to", |row| match row.entry.is_below {
            true => "cold",
            false => "nowhere",
        })
        .table("evictions", move |tenant| {
            let evicted = cache.evicted(tenant).into_iter();
            let rows = evicted.map(|entry| Row {
                version: entry.version.to_string(),
                entry,
            });
            Ok(rows.collect())
        })
}
