//! The verbs of Arrow Flight, one a file.
//!
//! - `service`: what every call passes before and after its verb
//! - `verb`, `authorize`, `client`: which RPC, who may, and what kind of client asks
//! - `do_get`, `do_put`, `do_exchange`, `get_flight_info` (and GetSchema), `list_flights`, `do_action` (and
//!   ListActions): the verbs
//! - `load`: files that the server reads
//! - `select`: what a ticket means; `lookup`: many keys, in order
//! - `snapshots`: those that several gets share; `sql`: what is asked by Flight SQL (`no_sql`: in a build without it)
//! - `reflection`: what the services look like; `slow`: the slow-request log
//! - `source`, `out`, `gather`, `stall`: how a get's bytes leave, and what happens when they do not
//! - `turns`: whose rows are stored next; `counter`: how many there are of something
//! - `request`, `reply`: protobuf messages in and out; `room`: what calls themselves cost

mod authorize;
mod client;
mod counter;
mod do_action;
mod do_exchange;
mod do_get;
mod do_put;
mod gather;
mod get_flight_info;
mod list_flights;
pub mod load;
mod lookup;
mod out;
mod reflection;
mod reply;
mod request;
mod room;
mod select;
mod service;
mod slow;
mod snapshots;
mod source;
#[cfg(feature = "sql")]
mod sql;
#[cfg(not(feature = "sql"))]
#[path = "no_sql.rs"]
mod sql;
mod stall;
mod turns;
pub mod verb;

pub use service::{FlightSettings, Service};
pub use sql::open as open_sql;
pub use stall::supervise;
