//! `FlightData` as it goes over the wire: the bytes before a body, and an incremental parser.
//!
//! Neither joins nor copies a body: the writer ([`encode_head`]) makes everything up to the
//! body's first byte, the reader ([`Parser`]) hands the body on in the frames it came in.

mod head;
mod parser;
#[cfg(test)]
mod tests;

pub use head::{encode_head, encode_head_into};
pub use parser::{Event, Parser};

/// The flag and the length in front of every gRPC message.
pub const GRPC_PREFIX_BYTES: usize = 5;

// Field numbers of Flight.proto.
const DESCRIPTOR: u64 = 1;
const HEADER: u64 = 2;
const APP_METADATA: u64 = 3;
const BODY: u64 = 1000;

/// Wire type 2, "length-delimited".
const LEN: u64 = 2;
