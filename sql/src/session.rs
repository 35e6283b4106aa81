//! What all queries have in common: the settings of DataFusion, and its functions.

use std::sync::Arc;

use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use crate::catalog::{CATALOG, SCHEMA};
use crate::limits::{BATCH_ROWS, Limits};
use crate::yields::JoinsYield;

/// Functions of which a few bytes of a query make as many bytes as they like, all at once and unasked.
const WITHOUT: [&str; 9] = [
    "repeat",
    "lpad",
    "rpad",
    "space",
    "range",
    "generate_series",
    "array_repeat",
    "array_resize",
    "list_resize",
];

/// What all queries have in common.
pub fn base(limits: &Limits) -> SessionState {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(limits.threads)
        .with_batch_size(BATCH_ROWS);
    // A text is what clients of every age have.
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // Dealing batches out would have a query pay for tensors that it holds where they lie.
    config
        .options_mut()
        .optimizer
        .enable_round_robin_repartition = false;
    // What a sort keeps free to merge what it has on the disk: of a small memory, a small part.
    let merging = usize::try_from(limits.query_bytes / 8).unwrap_or(usize::MAX);
    let merging = merging.min(config.options().execution.sort_spill_reservation_bytes);
    config.options_mut().execution.sort_spill_reservation_bytes = merging;
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rule(Arc::new(JoinsYield));
    if let Some(functions) = builder.scalar_functions() {
        functions.retain(|function| !WITHOUT.contains(&function.name()));
        functions.extend(crate::functions::all());
    }
    // Nothing is read that is not in the cache.
    *builder.file_formats() = None;
    *builder.table_factories() = None;
    builder.build()
}
