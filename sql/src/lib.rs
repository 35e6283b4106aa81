//! SQL over a cache: what is in it, who uses its memory, and what it counts, as tables that are read where they are.
//! Nothing is copied for a table to be there, and no writer waits for a query.
//!
//! # The way of a query
//! - [`Sql::plan`] reads a text: `statement` refuses what neither asks nor changes; it and `weight` what would cost more to plan than
//!   a query may;
//!   [`Plan`] says what columns come and which parameters are asked for.
//! - [`Sql::run`] answers it: on threads of their own at idle priority (`threads`), with memory that the ledger has
//!   been asked for (`pool`), and as long as its time is not over ([`Answer`]). [`Counters`] say how many did.
//! - [`Sql::change`] makes a DELETE, an UPDATE or an INSERT of what a query finds (`change`).
//! - `reads` is what a statement reads, for who decides whether it may; a [`Scope`], what a session has set
//! - `spill`: files in which sorts go on that need more memory than there is for them, where a directory is set
//! - What a table has is read by a task on threads of normal priority, at the query's request and only then (`scan`,
//!   `normal`): an idle thread holds no lock that a get or a put could wait for.
//!
//! # The tables
//! - `catalog`: `bowstring.cache`, `bowstring.ns` and `bowstring.information_schema`
//! - `tables`: one a file; [`Live`] are the small ones, some of which the server brings
//! - `filter`, `texts`: what a query's conditions say of namespaces and keys, so that it looks keys up, or walks through
//!   a range of them, where it can
//!
//! # Tensors in columns
//! - `tensor`: how they lie there, and how they are read
//! - `functions`: what a query may ask of them

mod answer;
mod catalog;
mod change;
mod counters;
mod engine;
mod error;
mod filter;
mod functions;
pub mod limits;
mod normal;
mod plan;
mod pool;
mod reads;
mod scan;
mod scope;
mod session;
mod spill;
mod statement;
mod tables;
mod tensor;
mod texts;
mod threads;
mod weight;
mod yields;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Until};
pub use catalog::{ALIKE, CATALOG, SCHEMA};
pub use change::Coming;
pub use counters::{Counters, SqlStats};
pub use engine::listing::Table;
pub use engine::{May, Sql};
pub use limits::Limits;
pub use plan::Plan;
pub use reads::Reads;
pub use scope::{SCHEMAS, Scope};
pub use tables::live::{Columns, Live};
pub use tables::settings::{Setting, settings};
pub use tables::stats::{Figure, stats};
pub use threads::cores;

/// What DataFusion's functions answer.
type DfResult<T> = datafusion::error::Result<T>;
