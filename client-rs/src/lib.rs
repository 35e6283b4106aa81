//! A minimal client for one tensor at a time: the receive path and the send path, without a copy in user space.
//!
//! ```no_run
//! use bowstring_client::{Connection, Descriptor, DType, Shape};
//!
//! # fn main() -> Result<(), bowstring_client::Error> {
//! let mut connection = Connection::connect(&"grpc://127.0.0.1:8815".parse()?)?;
//! connection.put(Descriptor::Path(&["a"]), DType::Float32, &Shape::new(&[2, 3])?, &[0; 24])?;
//! let mut buffer = Vec::new();
//! let tensor = connection.get_into(br#"{"key": "a"}"#, &mut buffer)?;
//! assert_eq!((tensor.shape.dims(), buffer.len()), (&[2, 3][..], 24));
//! # Ok(())
//! # }
//! ```
//!
//! Calls block, and one connection carries one call at a time: open several for more. It is for tensors of any size whose
//! bytes are wanted in one place; gets of many keys, queries and actions go through any Arrow Flight client.
//!
//! - [`connection`]: what a caller sees. [`get`] and [`put`]: the two verbs' streams.
//! - [`mux`]: many small requests over one stream.
//! - `message`: FlightData read field by field off a response. `protobuf`: the few fields that we write. `transport/`: the client's end of HTTP/2.

pub mod address;
pub mod connection;
pub mod get;
mod message;
pub mod mux;
#[cfg(test)]
mod peer;
mod protobuf;
pub mod put;
mod transport;

pub use address::Address;
pub use bowstring_wire::dtype::DType;
pub use bowstring_wire::error::{Code, Error, Result};
pub use bowstring_wire::shape::Shape;
pub use bowstring_wire::version::Version;
pub use connection::{Connection, Options};
pub use get::Tensor;
pub use mux::Mux;
pub use put::Descriptor;
