//! What holds when a client does wrong, or when there is too little of something.
//!
//! - `mutated`: damaged puts and requests over live connections (with `mutate`, what is done to them)
//! - `lengths`: declared lengths that are lies, a thousand at once
//! - `lies`: shapes and schemas that are lies (with `lie`, how they are told)
//! - `names`: hostile names
//! - `pressure`: ten times the memory, put and read at once
//! - `stalled`: readers that do not read
//! - `floods`: connections and frames without end
//!
//! Helpers: `dice` (the same numbers in every run), `raw` (gRPC without a gRPC library), `frames`
//! (HTTP/2 without an HTTP/2 library), `stream` (puts, field by field), `state` (what a server has
//! and how to take it away).
//!
//! What is asserted is bytes, counts and that everything ends; never how soon. Sizes are those of a
//! run of some minutes; `BOWSTRING_RELIABILITY_SCALE=10` makes them tenfold (`docs/reliability.md`).

mod dice;
mod frames;
mod floods;
mod lengths;
mod lie;
mod lies;
mod mutate;
mod mutated;
mod names;
mod pressure;
mod raw;
mod stalled;
mod state;
mod stream;

/// `count`, or what the environment makes of it.
fn scaled(count: usize) -> usize {
    let scale = std::env::var("BOWSTRING_RELIABILITY_SCALE").ok();
    count * scale.and_then(|text| text.parse().ok()).unwrap_or(1)
}
