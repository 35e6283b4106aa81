//! gRPC over h2, below any codec.
//!
//! - `chunk`: what one DATA frame carries, without joining it
//! - `request`: frames in, credit back when they are consumed
//! - `response`: data out, within the peer's windows
//! - `status`: errors as trailers
//! - `timeout`: the caller's deadline
//! - `mount`: services written for tonic

mod chunk;
mod mount;
mod request;
mod response;
mod status;
mod timeout;

pub use chunk::{Chunk, Mark, Untaken};
pub use mount::call as call_mounted;
pub use request::RequestBody;
pub use response::{Gone, Responder};
pub use timeout::parse as parse_timeout;
