//! The engine of Bowstring: tensors in a fixed amount of memory, found by name.
//!
//! It knows nothing of gRPC or Arrow: a tensor is a name, a dtype, a shape and bytes.
//!
//! # The way of a tensor
//! - **In**: [`Cache::put`] gives a [`put::Put`]; `reserve` waits for room, `write` copies into
//!   pages that nobody else knows of (`filling`), `publish` asks what is there already (`judge`)
//!   and swaps the entry into the index (`publish`). Many small ones go through [`rows`], and
//!   together into the index (`publish_all`).
//! - **Out**: [`Cache::get`] finds and pins an [`read::Entry`] ([`ahead`] where many are looked up); its [`read::Reader`] holds what it
//!   has not sent yet, page by page ([`reads`]). A miss goes through [`lower`], and what is found there comes back by [`restore`].
//! - **Away**: replaced, deleted, expired or evicted (`evict`), an entry is unlinked
//!   (`publish`), and its memory is free with its last pin. One that is evicted ahead of need goes to
//!   the tier below first ([`lower`]; `below` is what the engine does with it).
//!
//! # What holds it together
//! - `engine` is what all handles share; `head` is what lies in an entry's slot; `room` makes
//!   room and `reserve` is the queue for it; `namespaces` numbers namespaces, and `settings` has what
//!   each has of its own; [`scan`] reads a
//!   namespace's keys in order, and [`snapshot`] as they were at one moment; [`known`] is what is known of a key wherever its bytes are; [`heat`] tells which are hot; [`event`] tells of everything that comes and goes, and [`evicted`] lists what was evicted last.
//! - [`metadata`] puts an entry over itself; `pins` keeps entries from eviction; `expiry` frees what has expired without being asked.
//! - [`loads`] publishes many puts at once: `view` says which generation of a key shows, `look`
//!   finds it, `layers` keeps two of them apart.
//! - `attached`: namespaces that are rows of files, which nobody changes.
//! - [`ledger`] counts memory, [`arena`] has it, [`index`] finds entries in it.
//! - [`handover`] passes all of it on to a successor process.
//! - [`clock`], [`entropy`] and [`hlc`] are time, randomness and versions.
//!
//! # What is always so
//! - The ledger's accounts never sum to more than its total: whatever grows is charged first.
//! - An entry can be found whole or not at all, and is never changed; only its place may be.
//! - A look-up takes no lock. Table, order and policy change together, under the lock of the key's
//!   shard, then the order's, then the policy's. No lock is held over an await.
//! - A slot is read under a pin or under its namespace's order lock, and moved under both.

pub mod ahead;
pub mod arena;
mod attached;
mod below;
pub mod cache;
pub mod clock;
pub mod config;
mod engine;
pub mod entropy;
pub mod event;
pub mod evict;
pub mod evicted;
mod expiry;
mod filling;
pub mod generation;
pub mod handover;
mod head;
pub mod heat;
pub mod hlc;
pub mod id;
pub mod index;
mod judge;
pub mod known;
mod layers;
pub mod ledger;
pub mod loads;
#[doc(hidden)]
pub mod look;
pub mod lower;
pub mod metadata;
mod namespaces;
mod pins;
mod publish;
mod publish_all;
pub mod put;
pub mod read;
mod reader;
pub mod reads;
mod reserve;
pub mod restore;
mod room;
pub mod rows;
pub mod scan;
mod settings;
pub mod snapshot;
pub mod stats;
mod sweep;
mod victim;
#[doc(hidden)]
pub mod view;

#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use config::{CacheConfig, Parts};
pub use evict::Eviction;
pub use id::Id;
