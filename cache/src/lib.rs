//! The engine of Bowstring: tensors in a fixed amount of memory, found by name.

pub mod clock;
pub mod entropy;
pub mod hlc;
mod reserve;
