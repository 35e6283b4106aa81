//! Pages and runs of pages.

use smallvec::SmallVec;

/// Bytes of a page: the unit in which large tensors take memory, and in which
/// readers hold it.
pub const PAGE_BYTES: usize = 64 * 1024;

/// [`PAGE_BYTES`] where bytes are counted in 64 bits.
pub const PAGE_BYTES_U64: u64 = PAGE_BYTES as u64;

/// A run of pages that follow each other in memory. An extent lies in one
/// region; two extents whose page numbers follow each other may not be
/// contiguous in memory, where a region ends between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// The number of the first page, over the whole arena.
    pub first: u32,
    /// How many pages; never 0.
    pub pages: u32,
}

/// An entry's extents, in the order of its bytes. Most have one or two.
pub type ExtentList = SmallVec<[Extent; 2]>;

impl Extent {
    /// Bytes that it spans.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.pages) * PAGE_BYTES_U64
    }

    /// The number after its last page.
    #[must_use]
    pub fn end(self) -> u32 {
        self.first + self.pages
    }

    /// As 8 bytes, for an entry's head.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.first) << 32 | u64::from(self.pages)
    }

    /// What [`Extent::to_bits`] gave.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    pub fn from_bits(bits: u64) -> Extent {
        Extent {
            first: (bits >> 32) as u32,
            pages: bits as u32,
        }
    }
}

/// Pages that `bytes` take, the last one perhaps in part.
///
/// `None` when that is more than there are page numbers.
#[must_use]
pub fn pages_for(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(PAGE_BYTES_U64)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_back() {
        let extent = Extent {
            first: u32::MAX - 3,
            pages: 3,
        };
        assert_eq!(Extent::from_bits(extent.to_bits()), extent);
        assert_eq!(extent.end(), u32::MAX);
    }

    #[test]
    fn pages_are_counted_up() {
        assert_eq!(pages_for(0), Some(0));
        assert_eq!(pages_for(1), Some(1));
        assert_eq!(pages_for(PAGE_BYTES_U64), Some(1));
        assert_eq!(pages_for(PAGE_BYTES_U64 + 1), Some(2));
        assert_eq!(pages_for(u64::MAX), None);
    }
}
