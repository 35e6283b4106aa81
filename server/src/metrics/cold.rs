//! The cold tier's figures.

use bowstring_cold::tier::ColdStats;

use super::text::Text;

/// A figure's name behind `bowstring_cold_`, what it says, and its value.
type Figure = (&'static str, &'static str, u64);

/// What is so now.
pub fn gauges(stats: &ColdStats) -> [Figure; 9] {
    [
        (
            "entries",
            "Entries that can be read from the store.",
            stats.entries,
        ),
        ("queued", "Entries on their way to the store.", stats.queued),
        ("queued_bytes", "Their bytes.", stats.queued_bytes),
        (
            "index_bytes",
            "Memory of the cold tier's index.",
            stats.index_bytes,
        ),
        (
            "ready",
            "1 once the index is there: until then nothing is found in the store.",
            stats.ready.into(),
        ),
        (
            "degraded",
            "1 while writes to the store fail: what is evicted may be lost.",
            stats.degraded.into(),
        ),
        (
            "also_entries",
            "Entries of other servers that can be read.",
            stats.also_entries,
        ),
        (
            "also_unread",
            "Other servers' prefixes of which nothing is found.",
            stats.also_unread,
        ),
        (
            "warming",
            "1 while entries of the last run are brought into memory.",
            stats.warming.into(),
        ),
    ]
}

/// What has happened since the start.
pub fn counters(stats: &ColdStats) -> [Figure; 30] {
    [
        ("written", "Entries written.", stats.written),
        ("written_bytes", "Their bytes.", stats.written_bytes),
        (
            "compressed",
            "Of the entries written, those that are compressed.",
            stats.packed,
        ),
        (
            "compressed_bytes",
            "Their bytes before that.",
            stats.packed_bytes,
        ),
        (
            "compressed_stored_bytes",
            "Their bytes after that.",
            stats.packed_file_bytes,
        ),
        ("segments", "Segments written.", stats.segments),
        (
            "dropped",
            "Entries let go unwritten: too much was on its way.",
            stats.dropped,
        ),
        ("dropped_bytes", "Their bytes.", stats.dropped_bytes),
        (
            "failed_writes",
            "Segments whose write failed.",
            stats.failed_writes,
        ),
        ("hits", "Gets answered from the store.", stats.hits),
        (
            "hits_queued",
            "Gets answered with what was on its way.",
            stats.hits_queued,
        ),
        (
            "read_bytes",
            "Bytes of tensors read from the store.",
            stats.read_bytes,
        ),
        (
            "promoted",
            "Entries that came back into memory.",
            stats.promoted,
        ),
        (
            "damaged",
            "Entries whose bytes were not those that were written.",
            stats.damaged,
        ),
        (
            "failed_reads",
            "Reads that the store did not answer: misses.",
            stats.failed_reads,
        ),
        (
            "forgotten",
            "Entries replaced, deleted or cleared.",
            stats.forgotten,
        ),
        (
            "rewritten",
            "Segments rewritten, because little of them was alive.",
            stats.rewritten,
        ),
        (
            "segments_dropped",
            "Segments that are no more.",
            stats.segments_dropped,
        ),
        (
            "given_up",
            "Entries given up for the limit of the store.",
            stats.given_up,
        ),
        (
            "orphans",
            "Objects of an earlier start that were never acknowledged, removed.",
            stats.orphans,
        ),
        (
            "also_hits",
            "Of the gets answered from the store, those with another server's entry.",
            stats.also_hits,
        ),
        (
            "also_hidden",
            "Names that others have and are not to be found any more.",
            stats.also_hidden,
        ),
        (
            "warmed",
            "Entries of the last run brought into memory at the start; no gets.",
            stats.warmed,
        ),
        ("warmed_bytes", "Their bytes.", stats.warmed_bytes),
        (
            "store_requests",
            "Requests to the store, each try.",
            stats.store.requests,
        ),
        ("store_errors", "Tries that failed.", stats.store.errors),
        (
            "store_timeouts",
            "Of those, the ones without an answer in time.",
            stats.store.timeouts,
        ),
        (
            "store_retries",
            "Tries after a request's first.",
            stats.store.retries,
        ),
        (
            "store_read_bytes",
            "Bytes of objects read.",
            stats.store.read_bytes,
        ),
        (
            "store_written_bytes",
            "Bytes of objects written.",
            stats.store.written_bytes,
        ),
    ]
}

/// Writes the figures.
pub fn render(stats: &ColdStats, text: &mut Text) {
    for (name, help, value) in gauges(stats) {
        text.gauge(&format!("bowstring_cold_{name}"), help)
            .value(value);
    }
    for (name, help, value) in counters(stats) {
        text.counter(&format!("bowstring_cold_{name}_total"), help)
            .value(value);
    }
}
