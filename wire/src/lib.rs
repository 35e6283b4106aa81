//! What both ends of the wire must agree on. No I/O, no async.
//!
//! Names and numbers: [`error`] (one error, the stable codes), [`limits`] (every limit),
//! [`name`] (tenant, namespace, key, `key_hash`), [`version`], [`dtype`], [`shape`].
//!
//! JSON: `json` (the strict reader under all of these), `ticket` (DoGet), `descriptor`
//! (DoPut), `action` (DoAction, ListFlights) with its `reply`, `put_result`, `closing`
//! (what the last batch of a get says).
//!
//! Tensor ⇄ Arrow IPC: [`flight_data`] (messages, both ways), [`body`] (a received body).

pub mod body;
pub mod dtype;
pub mod error;
pub mod flight_data;
pub mod limits;
pub mod name;
pub mod shape;
pub mod version;
