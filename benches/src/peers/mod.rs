//! Who is compared: a file a peer. Each can get and put one tensor of a size in a loop, and says how long that took.

pub mod bowstring;
pub mod h2_client;
pub mod memcached;
pub mod pyarrow;
pub mod raw_tcp;
pub mod redis;
pub mod stock_flight;

use crate::Outcome;

/// Elements of a row of every tensor here: float32, so 1 KiB, which every size is a multiple of.
pub const CELL: u64 = 256;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// A tensor into a warm buffer (Rust), or a table (PyArrow).
    Get,
    /// PyArrow: a table, and then one ndarray of it.
    Array,
    /// A tensor from a warm buffer.
    Put,
}

impl Work {
    /// As it stands in the results.
    pub fn name(self) -> &'static str {
        match self {
            Work::Get => "get",
            Work::Array => "array",
            Work::Put => "put",
        }
    }
}

/// A client and the server it talks to.
pub trait Peer {
    /// As it stands in the results.
    fn name(&self) -> &'static str;
    /// The processes whose CPU time is the peer's, both ends.
    fn pids(&self) -> Vec<u32>;
    /// Whether it does that kind of work.
    fn can(&self, work: Work) -> bool {
        work != Work::Array
    }
    /// Has a tensor of that size there to be got.
    fn prepare(&mut self, bytes: u64) -> Outcome<()>;
    /// Does it `ops` times over, one after the other, and says the seconds.
    fn run(&mut self, work: Work, bytes: u64, ops: u32) -> Outcome<f64>;
}
