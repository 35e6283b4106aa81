//! What both ends of the wire must agree on. No I/O, no async.
//!
//! Names and numbers: [`error`] (one error, the stable codes), [`limits`] (every limit),
//! [`name`] (tenant, namespace, key, `key_hash`), [`version`], [`dtype`], [`shape`].
//!
//! JSON: [`json`] (the strict reader under all of these), [`ticket`] (DoGet), [`descriptor`]
//! (DoPut), [`metadata`] (an entry's own), [`settings`] (a namespace's), [`action`] (DoAction, ListFlights) with its [`reply`],
//! [`exchange`] (DoExchange), [`put_result`], [`closing`] (what the last batch of a get says).
//!
//! What people write: [`byte_size`], [`mod@duration`].
//!
//! Small requests without Arrow: [`mux`].
//!
//! Tensor → Arrow IPC: [`form`] (how a tensor lies in columns), [`schema`], [`get_layout`] (one
//! tensor in batches), [`get_rows`] (many), on [`ipc_write`], [`extension`], [`flight_data`].
//!
//! Arrow IPC → tensor: [`flight_data`] (messages in any split), [`put_schema`] (which kind of
//! put), [`single`] and [`bulk`] (the two kinds) over [`mod@column`] (a tensor column's type),
//! [`ipc_check`] (nothing is read before this), [`field`], [`body`] (a received body);
//! [`offsets`], [`transform`] and [`permute`] work on the bytes as they arrive.

#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        reason = "the numbers of tests are small"
    )
)]

pub mod action;
pub mod body;
pub mod bulk;
pub mod byte_size;
pub mod cast;
pub mod closing;
pub mod column;
pub mod descriptor;
pub mod dtype;
pub mod duration;
pub mod error;
pub mod exchange;
pub mod extension;
#[doc(hidden)]
pub mod feed;
pub mod field;
pub mod flight_data;
pub mod form;
pub mod get_layout;
pub mod get_rows;
pub mod ipc_check;
pub mod ipc_write;
pub mod json;
pub mod limits;
pub mod metadata;
pub mod mux;
pub mod name;
pub mod offsets;
pub mod permute;
pub mod put_result;
pub mod put_schema;
pub mod reply;
pub mod schema;
pub mod settings;
pub mod shape;
pub mod single;
#[cfg(test)]
mod testing;
pub mod ticket;
pub mod transform;
pub mod version;

#[cfg(test)]
mod vectors;
