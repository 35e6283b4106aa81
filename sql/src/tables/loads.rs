//! `loads`: those that are open, and the finished ones that are remembered, a load a row.

use bowstring_cache::Cache;
use bowstring_cache::loads::ListedLoad;

use super::live::{Columns, Live};

/// The table of a cache's loads.
pub fn loads(cache: Cache) -> Live {
    Columns::default()
        .text("load_id", |load: &ListedLoad| &load.id)
        .text("namespace", |load| load.namespace.as_str())
        .text("state", |load| load.state)
        .truth("replace_all", |load| load.replace_all)
        .count("entries", |load| load.holds.entries)
        .count("bytes", |load| load.holds.bytes)
        .count_if_any("declared_bytes", |load| load.declared_bytes)
        .time("last_used_at", |load| load.last_used_ms)
        .table("loads", move |tenant| Ok(cache.loads(tenant)))
}
