//! `Body`: the body of a received message as the frames it came in, not joined.
//!
//! Everything here answers `None` where a range lies outside; nothing panics, because the
//! ranges come from a header that a stranger wrote.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// A rope of frames with byte addresses from 0 to [`Body::len`].
#[derive(Clone, Debug, Default)]
pub struct Body {
    parts: Vec<Bytes>,
    /// `ends[i]` is the address one past the last byte of `parts[i]`.
    ends: Vec<u64>,
}

impl Body {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame at the end; an empty one is dropped.
    pub fn push(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        self.ends.push(self.len() + part.len() as u64);
        self.parts.push(part);
    }

    /// Bytes held.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The pieces that cover `range`, in order; what lies outside the body is left out.
    pub fn slices(&self, range: Range<u64>) -> Slices<'_> {
        Slices {
            body: self,
            part: self.part_of(range.start),
            at: range.start,
            end: range.end.min(self.len()),
        }
    }

    /// Copies `range` into `to`, which must be as long; `None` (and nothing copied) where the
    /// range is not inside the body or the lengths differ.
    pub fn copy_to(&self, range: Range<u64>, to: &mut [u8]) -> Option<()> {
        if !self.holds(&range) || range.end - range.start != to.len() as u64 {
            return None;
        }
        let mut to = to;
        for piece in self.slices(range) {
            let (head, rest) = to.split_at_mut(piece.len());
            head.copy_from_slice(piece);
            to = rest;
        }
        Some(())
    }

    /// The `N` bytes from `at` on.
    pub fn read_array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut out = [0; N];
        self.copy_to(at..at.checked_add(N as u64)?, &mut out)?;
        Some(out)
    }

    /// `range` as one piece: shared where it lies in one frame, copied where it spans several.
    pub fn contiguous(&self, range: Range<u64>) -> Option<Bytes> {
        if !self.holds(&range) {
            return None;
        }
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let part = self.part_of(range.start);
        let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        if range.end <= self.ends[part] {
            let from = usize::try_from(range.start - start).ok()?;
            let to = usize::try_from(range.end - start).ok()?;
            return Some(self.parts[part].slice(from..to));
        }
        let mut joined = BytesMut::with_capacity(usize::try_from(range.end - range.start).ok()?);
        for piece in self.slices(range) {
            joined.extend_from_slice(piece);
        }
        Some(joined.freeze())
    }

    fn holds(&self, range: &Range<u64>) -> bool {
        range.start <= range.end && range.end <= self.len()
    }

    /// The index of the part that holds the byte at `at`.
    fn part_of(&self, at: u64) -> usize {
        // Frames are mostly of one size, so that a share of the bytes is the same share of the
        // frames, or its neighbour; who sends others pays a search.
        let count = self.ends.len();
        let share = u128::from(at) * count as u128 / u128::from(self.len().max(1));
        let guess = usize::try_from(share)
            .unwrap_or(count)
            .min(count.saturating_sub(1));
        for part in [guess, guess.saturating_sub(1)] {
            let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
            if start <= at && self.ends.get(part).is_some_and(|&end| at < end) {
                return part;
            }
        }
        self.ends.partition_point(|&end| end <= at)
    }
}

impl FromIterator<Bytes> for Body {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        let mut body = Self::new();
        parts.into_iter().for_each(|part| body.push(part));
        body
    }
}

impl From<Bytes> for Body {
    fn from(part: Bytes) -> Self {
        std::iter::once(part).collect()
    }
}

/// The pieces of [`Body::slices`].
#[derive(Clone, Debug)]
pub struct Slices<'a> {
    body: &'a Body,
    part: usize,
    at: u64,
    end: u64,
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.at >= self.end {
            return None;
        }
        let part = self.body.parts.get(self.part)?;
        let part_end = *self.body.ends.get(self.part)?;
        let part_start = part_end - part.len() as u64;
        let from = usize::try_from(self.at - part_start).ok()?;
        let to = usize::try_from(self.end.min(part_end) - part_start).ok()?;
        self.at = part_end;
        self.part += 1;
        part.get(from..to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_outside_are_none() {
        let body = Body::from(Bytes::from_static(b"abc"));
        assert_eq!(body.read_array::<2>(1), Some(*b"bc"));
        assert_eq!(body.read_array::<2>(2), None);
        assert_eq!(body.read_array::<1>(u64::MAX), None);
        assert!(body.contiguous(2..5).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "a hostile header can say so")]
        let reversed = 2..1;
        assert!(body.copy_to(reversed, &mut []).is_none());
        assert_eq!(Body::new().slices(0..9).count(), 0);
        assert_eq!(body.contiguous(3..3), Some(Bytes::new()));
    }

    #[test]
    fn a_range_in_one_frame_is_shared_and_not_copied() {
        let frame = Bytes::from(vec![7u8; 100]);
        let at = frame.as_ptr();
        let body: Body = [Bytes::from_static(b"head"), frame].into_iter().collect();
        assert_eq!(
            body.contiguous(14..20).unwrap().as_ptr(),
            at.wrapping_add(10)
        );
    }

    proptest! {
        #[test]
        fn any_split_reads_as_the_joined_bytes(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..12),
            from in 0u64..120, len in 0u64..120,
        ) {
            let joined = parts.concat();
            let body: Body = parts.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(body.len(), joined.len() as u64);
            let range = from..from + len;
            let inside = range.end <= body.len();
            let bounds = range.start.min(body.len()) as usize..range.end.min(body.len()) as usize;
            prop_assert_eq!(body.slices(range.clone()).collect::<Vec<_>>().concat(), &joined[bounds.clone()]);
            let mut copied = vec![0; len as usize];
            prop_assert_eq!(body.copy_to(range.clone(), &mut copied).is_some(), inside);
            let one = body.contiguous(range);
            prop_assert_eq!(one.is_some(), inside);
            if let Some(one) = one {
                prop_assert_eq!(&one[..], &joined[bounds.clone()]);
                prop_assert_eq!(&copied[..], &joined[bounds]);
            }
        }
    }
}
