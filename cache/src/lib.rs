//! The engine of Bowstring: tensors in a fixed amount of memory, found by name.

pub mod cache;
pub mod clock;
pub mod config;
pub mod entropy;
pub mod event;
pub mod hlc;
pub mod index;
pub mod id;
pub mod ledger;
pub mod lower;
pub mod put;
pub mod read;
pub mod reads;
pub mod release;
mod reserve;
pub mod rows;
pub mod scan;
pub mod stats;

pub use cache::Cache;
pub use config::{CacheConfig, Parts};
pub use id::Id;
