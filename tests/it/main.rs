//! Integration tests: real servers, real sockets, stock clients. One binary, so that it is linked
//! once. The harness is the library of this crate.
//!
//! - one tensor: `put_get`, `layouts`, `permutation`, `modes`, `alignment`
//! - many: `bulk`, `many`, `exchange`, `mux`; many at once, or none: `loads`, of files that the server reads: `load_files`, that are served as they are: `attach`, `attach_settings`; what passes to a successor: `taking_over`
//! - what is known of them: `info`, `actions`; how long they stay: `keeping`; namespaces:
//!   `spaces`; what does not fit in memory: `cold`
//! - what is asked by SQL: `sql`; what operators ask: `sql_tables`, `sql_questions`; what is changed by it: `sql_changes`
//!   how queries end: `sql_limits`; what is set for them: `sql_sessions`
//! - what goes wrong: `errors`, `transport`, `limits`, `reliability`
//! - what a page of the documentation shows: `rust_page`
//! - the process: `process`, `settings`, `sockets`, `health`, `watching`; the load generator: `bench`; the command line: `cli`
//!
//! Helpers: `tensor` (tensors as bytes and as Arrow columns), `space` (a namespace of a test's own
//! and the verbs in it), `grpc` (one call by hand).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod grpc;
mod space;
mod tensor;

mod actions;
mod alignment;
mod attach;
mod attach_settings;
mod bench;
mod bulk;
mod cli;
mod cold;
mod cold_also;
mod cold_index;
mod cold_settings;
mod cold_warm;
mod errors;
mod exchange;
mod health;
mod info;
mod keeping;
mod layouts;
mod limits;
mod load_files;
mod loads;
mod many;
mod model;
mod modes;
mod mux;
mod permutation;
mod process;
mod put_get;
mod reliability;
mod rust_page;
mod settings;
mod snapshots;
mod sockets;
mod spaces;
mod sql;
mod sql_catalog;
mod sql_changes;
mod sql_inserts;
mod sql_limits;
mod sql_questions;
mod sql_sessions;
mod sql_tables;
mod taking_over;
mod transport;
mod watching;
