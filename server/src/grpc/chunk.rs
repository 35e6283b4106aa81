//! What one DATA frame carries: a few shared buffers, sent without joining them.

use std::io::IoSlice;
use std::sync::{Arc, Weak};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

/// A list of buffers that h2 writes with one `writev`. A buffer is let go as soon as it is sent.
#[derive(Debug, Default)]
pub struct Chunk {
    // In reverse, so that the front is popped in O(1).
    parts: SmallVec<[Bytes; 4]>,
    remaining: usize,
    mark: Option<Mark>,
}

/// On what is handed over for one peer, until the peer has taken it.
#[derive(Clone, Debug, Default)]
pub struct Mark(Arc<()>);

/// Whether anything with a [`Mark`] is still there.
#[derive(Clone, Debug)]
pub struct Untaken(Weak<()>);

impl Mark {
    /// Tells of everything that has this mark, but for the mark itself.
    pub fn untaken(&self) -> Untaken {
        Untaken(Arc::downgrade(&self.0))
    }
}

impl Untaken {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        self.0.strong_count() > 1
    }
}

impl Chunk {
    /// A chunk of these buffers, in order.
    pub fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let mut parts: SmallVec<[Bytes; 4]> =
            parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.reverse();
        let remaining = parts.iter().map(Bytes::len).sum();
        Self {
            parts,
            remaining,
            mark: None,
        }
    }

    /// With a mark, which its pieces have too.
    pub fn marked(mut self, mark: &Mark) -> Self {
        self.mark = Some(mark.clone());
        self
    }

    /// Takes the first `n` bytes off. `n` must not be above what remains.
    pub fn split_to(&mut self, n: usize) -> Self {
        debug_assert!(n <= self.remaining);
        if n == self.remaining {
            return std::mem::take(self);
        }
        let mut head: SmallVec<[Bytes; 4]> = SmallVec::new();
        let mut wanted = n;
        while wanted > 0 {
            let Some(mut part) = self.parts.pop() else {
                break;
            };
            if part.len() > wanted {
                head.push(part.split_to(wanted));
                self.parts.push(part);
                break;
            }
            wanted -= part.len();
            head.push(part);
        }
        head.reverse();
        self.remaining -= n;
        Self {
            parts: head,
            remaining: n,
            mark: self.mark.clone(),
        }
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self::new([bytes])
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.parts.last().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, part) in dst.iter_mut().zip(self.parts.iter().rev()) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut n: usize) {
        assert!(
            n <= self.remaining,
            "cannot advance past the end of a chunk"
        );
        self.remaining -= n;
        while n > 0 {
            let Some(front) = self.parts.last_mut() else {
                break;
            };
            if front.len() > n {
                front.advance(n);
                break;
            }
            n -= front.len();
            self.parts.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> Chunk {
        Chunk::new([&b"abc"[..], b"", b"defg", b"h"].map(Bytes::from_static))
    }

    #[test]
    fn reads_in_order_whatever_the_steps() {
        for step in 1..=8 {
            let mut rest = chunk();
            let mut got = Vec::new();
            while rest.has_remaining() {
                let n = step.min(rest.chunk().len());
                got.extend_from_slice(&rest.chunk()[..n]);
                rest.advance(n);
            }
            assert_eq!(got, b"abcdefgh");
        }
    }

    #[test]
    fn splits_anywhere() {
        for at in 0..=8 {
            let mut rest = chunk();
            let mut head = rest.split_to(at);
            assert_eq!((head.remaining(), rest.remaining()), (at, 8 - at));
            let mut got = head.copy_to_bytes(at).to_vec();
            got.extend_from_slice(&rest.copy_to_bytes(8 - at));
            assert_eq!(got, b"abcdefgh");
        }
    }

    #[test]
    fn what_is_marked_is_untaken_until_its_last_piece_is_gone() {
        let mark = Mark::default();
        let untaken = mark.untaken();
        assert!(!untaken.is_any());
        let mut rest = chunk().marked(&mark);
        let head = rest.split_to(3);
        let tail = rest.split_to(5);
        drop(rest);
        drop(tail);
        assert!(untaken.is_any());
        drop(head);
        assert!(!untaken.is_any());
    }

    #[test]
    fn vectored_gives_every_part() {
        let chunk = chunk();
        let mut slices = [IoSlice::new(&[]); 8];
        let count = chunk.chunks_vectored(&mut slices);
        let joined: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        assert_eq!(joined, b"abcdefgh");
    }
}
