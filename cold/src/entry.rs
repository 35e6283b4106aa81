//! What is known of a tensor in the cold tier, and where its bytes lie.

use std::ops::Range;

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
    /// Where its bytes lie compressed: those of the frame that stands for each block. The frames lie one behind
    /// the other. Else none.
    pub frames: Vec<u32>,
}

impl Stored {
    /// Whether its bytes lie compressed.
    pub fn is_packed(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Bytes that it has in its segment's file.
    pub fn file_bytes(&self) -> u64 {
        match self.is_packed() {
            true => self.frames_until(self.frames.len()),
            false => self.description.len,
        }
    }

    /// Where in the segment's file those of its bytes are that `blocks` says, which are whole blocks.
    pub fn in_file(&self, blocks: Range<u64>) -> Range<u64> {
        let at = |offset: u64, count: u64| match self.is_packed() {
            true => self.frames_until(usize::try_from(count).unwrap_or(usize::MAX)),
            false => offset,
        };
        let start = at(blocks.start, blocks.start / BLOCK_BYTES);
        let end = at(blocks.end, blocks.end.div_ceil(BLOCK_BYTES));
        self.place.offset + start..self.place.offset + end
    }

    fn frames_until(&self, count: usize) -> u64 {
        let frames = self.frames.iter().take(count);
        frames.map(|frame| u64::from(*frame)).sum()
    }
}
