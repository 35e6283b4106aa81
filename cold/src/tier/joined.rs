//! What is read together of several tensors: what lies side by side as one range, and ranges of a segment in
//! one request.

use std::ops::Range;

use bytes::Bytes;

use super::flights::Land;
use crate::entry::{Number, Prefix, Stored};

/// Bytes between two tensors that are read rather than asked for apart.
const GAP_BYTES: u64 = 64 << 10;
/// Bytes of all ranges of a piece.
const PIECE_BYTES: u64 = 1 << 20;
/// Ranges of a piece.
const RANGES_MAX: usize = 128;
/// A tensor of more is read by itself, step by step into its place.
const ALONE_BYTES: u64 = 256 << 10;

/// Something to be read, and who is told.
pub(super) struct Wanted {
    pub(super) stored: Stored,
    pub(super) to_stay: bool,
    pub(super) land: Land,
}

/// What is read of a segment in one request: ranges in their order, none of them touching the next.
pub(super) struct Piece {
    pub(super) prefix: Prefix,
    pub(super) segment: Number,
    ranges: Vec<(Range<u64>, Vec<Wanted>)>,
}

/// All of these, in as few pieces as may be.
pub(super) fn pieces(mut wanted: Vec<Wanted>) -> Vec<Piece> {
    wanted.sort_by_key(|wanted| wanted.stored.place);
    let mut pieces: Vec<Piece> = Vec::new();
    for one in wanted {
        match pieces.last_mut() {
            Some(last) if last.has_room_for(&one.stored) => last.push(one),
            _ => pieces.push(Piece::of(one)),
        }
    }
    pieces
}

/// Pieces of one prefix that are asked for together, of which a store takes so many.
pub(super) fn groups(pieces: Vec<Piece>, at_once: impl Fn(Prefix) -> usize) -> Vec<Vec<Piece>> {
    let mut groups: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        let has_room = |group: &&mut Vec<Piece>| {
            let all = group.iter().chain([&piece]);
            all.clone()
                .all(|one| one.prefix == piece.prefix && !one.is_alone())
                && group.len() < at_once(piece.prefix)
                && all.map(Piece::bytes).sum::<u64>() <= PIECE_BYTES
        };
        match groups.last_mut().filter(has_room) {
            Some(group) => group.push(piece),
            None => groups.push(vec![piece]),
        }
    }
    groups
}

impl Piece {
    fn of(one: Wanted) -> Piece {
        let place = one.stored.place;
        Piece {
            prefix: place.prefix,
            segment: place.segment,
            ranges: vec![(range_of(&one.stored), vec![one])],
        }
    }

    /// Whether it takes one more, which lies behind all that are in it.
    fn has_room_for(&self, one: &Stored) -> bool {
        let place = one.place;
        let is_here = (self.prefix, self.segment) == (place.prefix, place.segment);
        let next = range_of(one);
        let (more, ranges) = match self.reaches(&next) {
            Some(last) => (next.end.saturating_sub(last.end), 0),
            None => (next.end - next.start, 1),
        };
        is_here
            && !self.is_alone()
            && !is_large(one)
            && self.bytes() + more <= PIECE_BYTES
            && self.ranges.len() + ranges <= RANGES_MAX
    }

    fn push(&mut self, one: Wanted) {
        let next = range_of(&one.stored);
        let is_joined = self.reaches(&next).is_some();
        match self.ranges.last_mut() {
            Some((last, wanted)) if is_joined => {
                last.end = next.end.max(last.end);
                wanted.push(one);
            }
            _ => self.ranges.push((next, vec![one])),
        }
    }

    /// The last range, where `next` is to be read with it.
    fn reaches(&self, next: &Range<u64>) -> Option<&Range<u64>> {
        let (last, _) = self.ranges.last()?;
        (next.start <= last.end + GAP_BYTES).then_some(last)
    }

    /// Whether it is one tensor that is to be read by itself.
    pub(super) fn is_alone(&self) -> bool {
        let mut wanted = self.wanted();
        wanted.next().is_some_and(|one| is_large(&one.stored))
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.ranges.iter().flat_map(|(_, wanted)| wanted)
    }

    pub(super) fn into_wanted(self) -> impl Iterator<Item = Wanted> {
        self.ranges.into_iter().flat_map(|(_, wanted)| wanted)
    }

    fn bytes(&self) -> u64 {
        let each = self.ranges.iter();
        each.map(|(range, _)| range.end - range.start).sum()
    }

    /// What it takes while it is read, and decompressed one after the other.
    pub(super) fn room(&self) -> u64 {
        let packed = self.wanted().filter(|one| one.stored.is_packed());
        let largest = packed.map(|one| one.stored.description.len).max();
        self.bytes() + largest.unwrap_or(0)
    }

    /// The ranges of the segment's file.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges.iter().map(|(range, _)| range.clone()).collect()
    }

    /// Each with its own bytes out of those of the ranges.
    pub(super) fn each(self, read: Vec<Bytes>) -> impl Iterator<Item = (Wanted, Bytes)> {
        let ranges = self.ranges.into_iter().zip(read);
        ranges.flat_map(|((range, wanted), bytes)| {
            wanted.into_iter().map(move |one| {
                let at = |offset: u64| usize::try_from(offset - range.start).unwrap_or(usize::MAX);
                let own = range_of(&one.stored);
                let own = bytes.slice(at(own.start)..at(own.end));
                (one, own)
            })
        })
    }
}

fn range_of(stored: &Stored) -> Range<u64> {
    let first = stored.place.offset;
    first..first + stored.file_bytes()
}

fn is_large(stored: &Stored) -> bool {
    stored.description.len > ALONE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Place;
    use bowstring_cache::Id;
    use bowstring_cache::lower::Description;
    use bowstring_wire::dtype::DType;
    use bowstring_wire::name::{Key, Namespace};
    use bowstring_wire::shape::Shape;
    use bowstring_wire::version::Version;
    use tokio::sync::watch;

    fn wanted(segment: u64, offset: u64, len: u64) -> Wanted {
        Wanted {
            stored: Stored {
                description: Description {
                    attached: false,
                    id: Id::public(Namespace::default(), Key::parse("k").unwrap()),
                    version: Version { hlc: 77, start: 5 },
                    dtype: DType::UInt8,
                    shape: Shape::new(&[len]).unwrap(),
                    len,
                    checksum: 0,
                    expires_at_ms: None,
                    source_version: None,
                    metadata: Vec::new(),
                },
                place: Place {
                    prefix: Prefix::OWN,
                    segment: Number(segment),
                    offset,
                },
                blocks: Vec::new(),
                frames: Vec::new(),
            },
            to_stay: false,
            land: watch::channel(None).0,
        }
    }

    /// A segment, and of each range where it is and how many tensors that is for.
    type Read = (u64, Vec<(Range<u64>, usize)>);

    fn read(wanted: Vec<Wanted>) -> Vec<Read> {
        let ranges = |piece: Piece| {
            let each = piece.ranges.iter();
            let ranges = each.map(|(range, wanted)| (range.clone(), wanted.len()));
            (piece.segment.0, ranges.collect())
        };
        pieces(wanted).into_iter().map(ranges).collect()
    }

    #[test]
    fn neighbours_are_one_range_and_ranges_of_a_segment_one_piece() {
        let near = vec![wanted(1, 500, 100), wanted(1, 0, 100), wanted(2, 700, 0)];
        let expected = [(1, vec![(0..600, 2)]), (2, vec![(700..700, 1)])];
        assert_eq!(read(near), expected);
        let far = 100 + GAP_BYTES;
        let apart = vec![
            wanted(1, 0, 100),
            wanted(1, far, 1),
            wanted(1, far + 2 + GAP_BYTES, 1),
        ];
        let next = far + 2 + GAP_BYTES;
        let expected = [(1, vec![(0..far + 1, 2), (next..next + 1, 1)])];
        assert_eq!(read(apart), expected);
        assert_eq!(read(Vec::new()), []);
    }

    #[test]
    fn a_piece_has_a_limit_in_bytes_and_in_ranges_and_large_ones_are_apart() {
        let large = ALONE_BYTES + 1;
        let large = vec![
            wanted(1, 0, 9),
            wanted(1, 9, large),
            wanted(1, 9 + large, 9),
        ];
        let pieces = pieces(large);
        let alone: Vec<bool> = pieces.iter().map(Piece::is_alone).collect();
        assert_eq!(alone, [false, true, false]);
        for step in [1 << 18, 1 << 20] {
            let many = (0..10).map(|at| wanted(1, at * step, 1 << 18)).collect();
            let counts = read(many).into_iter();
            let counts = counts.map(|(_, ranges)| ranges.iter().map(|range| range.1).sum());
            assert_eq!(counts.collect::<Vec<usize>>(), [4, 4, 2], "{step}");
        }
        let most = RANGES_MAX as u64;
        let many = (0..most + 1).map(|at| wanted(1, at << 20, 1)).collect();
        let counts: Vec<usize> = read(many).iter().map(|(_, ranges)| ranges.len()).collect();
        assert_eq!(counts, [RANGES_MAX, 1]);
    }

    #[test]
    fn each_gets_its_own_bytes() {
        let all = vec![wanted(1, 10, 2), wanted(1, 15, 3), wanted(1, 1 << 20, 1)];
        let mut pieces = pieces(all);
        let read = vec![Bytes::from_static(b"01234567"), Bytes::from_static(b"x")];
        let each = pieces.remove(0).each(read);
        let own: Vec<Bytes> = each.map(|(_, own)| own).collect();
        assert_eq!(own, [&b"01"[..], b"567", b"x"]);
        assert!(pieces.is_empty());
    }
}
