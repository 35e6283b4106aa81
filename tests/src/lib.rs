//! The harness of the integration tests: a real `bowstring serve`, on free ports, for a test.
//!
//! - `server`: starts the process, waits until it is ready, stops it by its own id
//! - `binary`: which program that is; `output`: what it says
//! - `cli`: its other commands, run to their end
//! - `connect`: stock clients of it, over TCP and Unix sockets
//! - `observe`: what an operator sees: `/metrics`, the `stats` action, `/proc`
//! - `covered`: which dtypes a test has had
//! - `wait`: for something that takes a while; no test asserts how long
//!
//! A test that looks at memory or at counters starts a server of its own; all others share one
//! ([`Server::shared`]) and keep to a namespace of their own.

mod binary;
mod cli;
mod connect;
mod covered;
mod observe;
mod output;
mod server;
mod wait;

pub use binary::binary;
pub use cli::{Cli, Told};
pub use connect::{MESSAGE_BYTES_MAX, channel, flight};
pub use covered::covered;
pub use observe::{Metrics, ResidentMemory};
pub use server::{Builder, Exit, Server};
pub use wait::{PATIENCE, pause, until, within};
