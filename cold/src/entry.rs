//! What is known of a tensor in the cold tier, and where its bytes lie.

pub use bowstring_cache::lower::Description;

/// Bytes that one checksum of a large tensor covers.
pub const BLOCK_BYTES: u64 = 1 << 20;

/// The number of a segment or of a log record: in the order in which they were begun, never used twice
/// under one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

/// Under whose prefix of a store something lies: our own, or one of others', which are read only. Not
/// persisted: what is written says it of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Prefix(pub usize);

impl Prefix {
    /// Ours.
    pub const OWN: Prefix = Prefix(0);
}

/// Where a tensor's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Under which prefix.
    pub prefix: Prefix,
    /// In which segment.
    pub segment: Number,
    /// From which byte of its file on.
    pub offset: u64,
}

/// A tensor in the cold tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub description: Description,
    /// Where it is.
    pub place: Place,
    /// xxh3-64 of each [`BLOCK_BYTES`] of a tensor that has more than one of them; none of others, for
    /// which `description.checksum` is that.
    pub blocks: Vec<u64>,
}
