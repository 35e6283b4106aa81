//! The cold tier: what does not fit in memory, in object storage, and the index that finds it.
//!
//! - `entry`: what is known of a tensor that lies there
//! - `store`: objects, whole or not at all, in time or not at all
//! - `format`: segments as Arrow IPC files, and the sidecars that say what is in them
//! - `index`: names to places, on a local disk or in the store, and what is gone for good
//! - `tier`: what the engine has below it, out of these
//! - `room`: memory that the system has back when it is dropped

#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        reason = "the numbers of tests are small"
    )
)]

pub mod entry;
#[doc(hidden)]
pub mod feed;
pub mod format;
pub mod index;
mod room;
pub mod store;
pub mod tier;
