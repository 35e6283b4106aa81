//! What both ends of the wire must agree on. No I/O, no async.
//!
//! Names and numbers: [`error`] (one error, the stable codes), [`limits`] (every limit),
//! [`name`] (tenant, namespace, key, `key_hash`), [`version`], [`dtype`], [`shape`].
//!
//! JSON: [`json`] (the strict reader under all of these), [`ticket`] (DoGet), [`descriptor`]
//! (DoPut), [`metadata`] (an entry's own), [`action`] (DoAction, ListFlights) with its [`reply`],
//! [`put_result`], [`closing`] (what the last batch of a get says).
//!
//! Tensor ⇄ Arrow IPC: [`flight_data`] (messages, both ways), [`body`] (a received body).

pub mod action;
pub mod body;
pub mod closing;
pub mod descriptor;
pub mod dtype;
pub mod error;
pub mod extension;
pub mod flight_data;
pub mod form;
pub mod get_layout;
pub mod get_rows;
pub mod ipc_write;
pub mod json;
pub mod limits;
pub mod metadata;
pub mod name;
pub mod put_result;
pub mod reply;
pub mod schema;
pub mod shape;
pub mod ticket;
pub mod version;

#[cfg(test)]
mod vectors;
