//! The `mux` exchange: many small requests over one stream, each answered by its number.
//!
//! A message is a `FlightData` with a header of ours in `app_metadata` and, behind it, a tensor's
//! bytes in `data_body`. `request` and `reply` are the two headers, all their integers
//! little-endian; `messages` finds them in a stream; `code` is an error's number. One small get is
//! one message each way, without Arrow and without JSON.
//!
//! These layouts are on the wire for ever: `proto-notes/mux.md` and its vectors say the same.

mod code;
mod field;
mod messages;
mod reply;
mod request;

pub use messages::{MuxEvent, MuxHead, MuxMessages, MuxPrefix};
pub use reply::{MuxReply, MuxTensor};
pub use request::{MuxKind, MuxOp, MuxPut, MuxRequest, id_of, kind_of};

/// The first byte of every header.
pub const MUX_VERSION: u8 = 1;

#[cfg(test)]
mod tests;
