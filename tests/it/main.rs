//! Integration tests: real servers, real sockets, stock clients. One binary, so that it is linked
//! once. The harness is the library of this crate.

mod process;
mod reliability;
