//! What a query may use. All limits of this room are here.

use std::path::PathBuf;
use std::time::Duration;

/// A statement's text, in bytes: room for an `IN` list of ten thousand keys.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Words and signs of a statement that nest what stands around them: operators, brackets, `SELECT`. A plan is walked, and
/// dropped, by functions that call themselves.
pub const NESTING_MAX: usize = 2_000;
/// Tables that a statement reads once its `WITH` clauses are put into each other.
pub const RELATIONS_MAX: u64 = 500;
/// Leaves of an expression once those of subqueries are put into it, as the optimiser does.
pub const LEAVES_MAX: u64 = 10_000;
/// Stack of a thread that plans and runs queries; the part that is not used costs nothing.
pub const STACK_BYTES: usize = 32 << 20;
/// Threads that read files for walks.
pub const WALK_BLOCKING_THREADS_MAX: usize = 4;
/// Rows of a batch. A query's thread gives its core away between batches: one takes about 0.1 ms.
pub const BATCH_ROWS: usize = 2_048;
/// Bytes of the cache's own memory that one scan may hold.
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes of tensors in one batch, where they are smaller than that; at most one part in 256 of the memory. A few such batches
/// stay in a core's own cache.
pub const VALUES_BYTES: u64 = 512 << 10;
/// A tensor smaller than this is copied into a batch's own buffer.
pub const COPIED_BYTES: u64 = 64 << 10;
/// Bytes that a function of tensors makes of one batch.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// Buckets of a histogram.
pub const BUCKETS_MAX: usize = 65_536;
/// Namespaces that are listed as tables; the others are tables too, for who names them.
pub const NAMESPACES_LISTED: usize = 1_000;
/// What the ledger is asked for at once.
pub const CHARGE_BYTES: u64 = 1 << 20;

/// What may be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that one query may use beside the cache's own.
    pub query_bytes: u64,
    /// Queries at one time; more wait for their turn.
    pub queries: usize,
    /// How long a query may take, its wait included.
    pub timeout: Duration,
    /// Rows of an answer.
    pub rows: u64,
    /// Threads, at idle priority.
    pub threads: usize,
    /// Where queries go on that need more memory than they may have; nowhere, where there is none.
    pub spill_dir: Option<PathBuf>,
    /// Bytes that all queries may have there.
    pub spill_bytes: u64,
}

impl Limits {
    /// For a cache of `memory` bytes on a machine of `cores` processors.
    pub fn within(memory: u64, cores: usize) -> Self {
        Self {
            query_bytes: (memory / 16).clamp(8 << 20, 256 << 20),
            queries: 4,
            timeout: Duration::from_secs(60),
            rows: 100_000_000,
            threads: cores.clamp(1, 8),
            spill_dir: None,
            spill_bytes: 4 << 30,
        }
    }
}
