//! The harness of the integration tests: a real `bowstring serve`, on free ports, for a test.
//!
//! - `server`: starts the process, waits until it is ready, stops it by its own id
//! - `binary`: which program that is; `output`: what it says
//! - `cli`: its other commands, run to their end
//! - `connect`: stock clients of it, over TCP and Unix sockets
//! - `observe`: what an operator sees: `/metrics`, the `stats` action, `/proc`
//! - `covered`: which dtypes a test has had
//! - `disk`: a disk that fails as it is told; `s3`: an S3 server that does
//! - `wait`: for something that takes a while; no test asserts how long
//!
//! A test that looks at memory or at counters starts a server of its own; all others share one
//! ([`Server::shared`]) and keep to a namespace of their own.

mod binary;
mod cli;
mod connect;
mod covered;
mod disk;
mod observe;
mod output;
mod s3;
mod server;
mod wait;

pub use binary::binary;
pub use cli::{Cli, Told};
pub use connect::{MESSAGE_BYTES_MAX, channel, flight};
pub use covered::covered;
pub use disk::{Call, FaultyDisk, Folder, How};
pub use observe::{Metrics, ResidentMemory};
pub use s3::{S3, Spoil, Spoiled};
pub use server::{Builder, Exit, Server};
pub use wait::{PATIENCE, pause, until, within};
