//! The engine of Bowstring: tensors in a fixed amount of memory, found by name.

pub mod arena;
pub mod cache;
pub mod clock;
pub mod config;
mod engine;
pub mod entropy;
pub mod event;
mod evict;
mod filling;
mod head;
pub mod hlc;
pub mod id;
pub mod index;
mod judge;
pub mod ledger;
pub mod lower;
mod namespaces;
mod publish;
pub mod put;
pub mod read;
pub mod reads;
pub mod release;
mod reserve;
mod room;
pub mod rows;
pub mod scan;
pub mod stats;

#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use config::{CacheConfig, Parts};
pub use id::Id;
