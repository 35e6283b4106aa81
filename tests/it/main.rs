//! Integration tests: real servers, real sockets, stock clients. One binary, so that it is linked
//! once. The harness is the library of this crate.
//!
//! Helpers: `tensor` (tensors as bytes and as Arrow columns), `space` (a namespace of a test's own
//! and the verbs in it).

mod space;
mod tensor;

mod process;
mod put_get;
mod reliability;
