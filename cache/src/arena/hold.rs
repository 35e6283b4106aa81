//! Pages that a reader holds.
#![expect(unsafe_code, reason = "reads the pages it holds")]

use std::fmt;
use std::mem;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

use super::Inner;
use super::extent::{Extent, ExtentList, PAGE_BYTES, PAGE_BYTES_U64};

/// A reader's hold on the pages under a range of bytes, taken once at the start
/// and let go page by page as the bytes are taken. Dropping it lets go of what
/// has not been taken; the pieces that were taken keep their own pages.
#[must_use = "dropping the hold lets the pages go"]
pub struct PageHold {
    inner: Arc<Inner>,
    /// The pages still held, those of `runs[..at]` excepted.
    runs: ExtentList,
    at: usize,
    /// Where the next byte is in the first page held.
    offset: usize,
    remaining: u64,
}

impl PageHold {
    /// Holds the pages under `range` of `extents`.
    pub(super) fn open(
        inner: &Arc<Inner>,
        extents: &[Extent],
        range: Range<u64>,
    ) -> Option<PageHold> {
        let runs = covering(extents, &range)?;
        if !inner.space.hold(&runs) {
            return None;
        }
        Some(PageHold {
            inner: Arc::clone(inner),
            runs,
            at: 0,
            offset: usize::try_from(range.start % PAGE_BYTES_U64).unwrap_or(0),
            remaining: range.end - range.start,
        })
    }

    /// Bytes not taken yet; 0 after [`PageHold::release`].
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Bytes of the pages that this still holds.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.runs[self.at..].iter().map(|run| run.bytes()).sum()
    }

    /// Takes the next bytes, uncopied: at most `n`, and at most up to where the
    /// memory is no longer contiguous. `None` when nothing remains (or `n` is
    /// 0). The piece keeps the pages under it, and no others; a page that two
    /// pieces share is let go with the later of them.
    pub fn take(&mut self, n: usize) -> Option<Bytes> {
        let (start, offset, bytes) = self.next(n)?;
        let address = self.inner.space.regions.address(start, offset, bytes);
        let end = offset + bytes;
        let pages = u32::try_from(end.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX);
        if !end.is_multiple_of(PAGE_BYTES) && bytes as u64 != self.remaining {
            // The piece's last page has bytes of the next piece too.
            self.inner.space.regions.hold_again(start + pages - 1);
        }
        self.advance(bytes);
        let piece = Piece {
            inner: Arc::clone(&self.inner),
            extent: Extent {
                first: start,
                pages,
            },
            address,
            bytes,
        };
        Some(Bytes::from_owner(piece))
    }

    /// Copies the next bytes into `to`, and lets go of the pages passed. Gives
    /// how many: less than asked only when no more remain.
    pub fn copy_to(&mut self, to: &mut [u8]) -> usize {
        let mut copied = 0;
        while let Some((first, offset, bytes)) = self.next(to.len() - copied) {
            // SAFETY: the pages are held, and the bytes of a page with an owner
            // or reader other than its writer do not change.
            let from = unsafe { self.inner.space.regions.bytes(first, offset, bytes) };
            to[copied..copied + bytes].copy_from_slice(from);
            copied += bytes;
            self.pass(bytes);
        }
        copied
    }

    /// Passes over `n` bytes, or all that remain.
    pub fn skip(&mut self, n: u64) {
        let mut left = usize::try_from(n.min(self.remaining)).unwrap_or(usize::MAX);
        while let Some((_, _, bytes)) = self.next(left) {
            self.pass(bytes);
            left -= bytes;
        }
    }

    /// Lets everything go that has not been taken, and gives how many bytes
    /// that were: how a supervisor cuts off a reader that stalls.
    pub fn release(&mut self) -> u64 {
        let runs = mem::take(&mut self.runs);
        let held = &runs[mem::take(&mut self.at)..];
        if !held.is_empty() {
            self.inner.unhold(held);
        }
        self.offset = 0;
        mem::take(&mut self.remaining)
    }

    /// Where the next at most `n` bytes are that follow each other in memory:
    /// page, offset from its start, bytes.
    fn next(&self, n: usize) -> Option<(u32, usize, usize)> {
        let run = self.runs.get(self.at)?;
        let here = run.pages as usize * PAGE_BYTES - self.offset;
        let remaining = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let bytes = n.min(here).min(remaining);
        (bytes > 0).then_some((run.first, self.offset, bytes))
    }

    /// Moves on by `bytes` of what [`PageHold::next`] gave, and gives the pages
    /// that are no longer needed. The caller has taken over their counts.
    fn advance(&mut self, bytes: usize) -> Extent {
        let run = &mut self.runs[self.at];
        let end = self.offset + bytes;
        self.remaining -= bytes as u64;
        let passed = if self.remaining == 0 {
            run.pages
        } else {
            u32::try_from(end / PAGE_BYTES).unwrap_or(u32::MAX)
        };
        let extent = Extent {
            first: run.first,
            pages: passed,
        };
        run.first += passed;
        run.pages -= passed;
        self.offset = end % PAGE_BYTES;
        if run.pages == 0 {
            self.at += 1;
            self.offset = 0;
        }
        extent
    }

    /// Moves on by `bytes`, and lets go of the pages passed.
    fn pass(&mut self, bytes: usize) {
        let passed = self.advance(bytes);
        if passed.pages > 0 {
            self.inner.unhold(&[passed]);
        }
    }
}

impl Drop for PageHold {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for PageHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageHold")
            .field("remaining", &self.remaining)
            .field("runs", &&self.runs[self.at..])
            .finish()
    }
}

/// Bytes in flight, and a reader's count on each page under them.
struct Piece {
    inner: Arc<Inner>,
    extent: Extent,
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the bytes under `address` are only read, and stay as they are while
// this has a count on their pages; the rest may be sent and shared.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `address` is that of `bytes` bytes of a region, which lives
        // as long as `inner`. Pages with a reader are neither written to (their
        // writer handed them on before they could be held) nor reused.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.inner.unhold(&[self.extent]);
    }
}

/// The pages under `range` of `extents`; `None` when it ends after them.
fn covering(extents: &[Extent], range: &Range<u64>) -> Option<ExtentList> {
    if range.start >= range.end {
        let all: u64 = extents.iter().map(|extent| extent.bytes()).sum();
        return (range.start == range.end && range.end <= all).then(ExtentList::new);
    }
    let mut runs = ExtentList::new();
    let first = range.start / PAGE_BYTES_U64;
    let end = range.end.div_ceil(PAGE_BYTES_U64);
    let mut base = 0;
    for extent in extents {
        let pages = u64::from(extent.pages);
        let from = first.clamp(base, base + pages) - base;
        let to = end.clamp(base, base + pages) - base;
        if from < to {
            runs.push(Extent {
                first: extent.first + u32::try_from(from).ok()?,
                pages: u32::try_from(to - from).ok()?,
            });
        }
        base += pages;
    }
    (end <= base).then_some(runs)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the figures are small")]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::arena::tests::{PAGE, arena};

    /// Extents of 3 and 2 pages, apart from each other, page `n` full of `n`.
    fn entry(arena: &Arena) -> ExtentList {
        let mut first = arena.alloc_pages(3).unwrap();
        let gap = arena.alloc_pages(1).unwrap();
        first.append(arena.alloc_pages(2).unwrap());
        for page in 0..5u8 {
            first.write(u64::from(page) * PAGE as u64, &vec![page; PAGE]);
        }
        drop(gap);
        assert_eq!(first.extents().len(), 2);
        first.into_extents()
    }

    #[test]
    fn pieces_are_the_bytes_in_order() {
        let (arena, _ledger) = arena(16);
        let extents = entry(&arena);
        let (start, end) = (PAGE - 10, 4 * PAGE + 7);
        let mut hold = arena.hold(&extents, start as u64..end as u64).unwrap();
        assert_eq!(hold.held_bytes(), 5 * PAGE as u64);
        let mut read = Vec::new();
        while let Some(piece) = hold.take(100_000) {
            assert!(piece.len() <= 100_000);
            read.extend_from_slice(&piece);
            assert_eq!(hold.remaining() as usize, end - start - read.len());
        }
        let all = [0, 1, 2, 3, 4].map(|page| vec![page; PAGE]).concat();
        assert!(read == all[start..end]);
        assert_eq!(hold.held_bytes(), 0);
    }

    #[test]
    fn copying_and_skipping_let_pages_go() {
        let (arena, _ledger) = arena(16);
        let extents = entry(&arena);
        let mut hold = arena.hold(&extents, 0..5 * PAGE as u64).unwrap();
        arena.free_pages(&extents);
        assert_eq!(arena.held_bytes(), 5 * PAGE as u64);
        hold.skip(PAGE as u64 + 1);
        assert_eq!(arena.held_bytes(), 4 * PAGE as u64);
        let mut to = vec![9; 3 * PAGE];
        assert_eq!(hold.copy_to(&mut to), 3 * PAGE);
        assert_eq!((to[0], to[PAGE], to[3 * PAGE - 1]), (1, 2, 4));
        assert_eq!(arena.held_bytes(), PAGE as u64);
        assert_eq!(hold.copy_to(&mut to), PAGE - 1);
        assert_eq!(hold.copy_to(&mut to), 0);
        assert_eq!(arena.held_bytes(), 0);
    }

    #[test]
    fn a_piece_keeps_its_pages_and_no_others() {
        let (arena, _ledger) = arena(16);
        let extents = entry(&arena);
        let mut hold = arena.hold(&extents, 0..5 * PAGE as u64).unwrap();
        let first = hold.take(PAGE / 2).unwrap();
        let second = hold.take(PAGE).unwrap();
        arena.free_pages(&extents);
        assert_eq!(arena.held_bytes(), 5 * PAGE as u64);
        assert_eq!(hold.release(), 5 * PAGE as u64 - (PAGE + PAGE / 2) as u64);
        assert_eq!((hold.remaining(), hold.take(1)), (0, None));
        assert_eq!(
            arena.held_bytes(),
            2 * PAGE as u64,
            "two pages, three counts"
        );
        let part = second.slice(PAGE - 3..);
        drop(second);
        drop(first);
        assert_eq!(arena.held_bytes(), 2 * PAGE as u64);
        assert_eq!(&part[..], [1, 1, 1]);
        drop(part);
        assert_eq!(arena.held_bytes(), 0);
        assert_eq!(arena.free_bytes(), arena.committed_bytes());
    }

    #[test]
    fn the_last_piece_takes_the_rest_of_the_pages() {
        let (arena, _ledger) = arena(16);
        let extents = entry(&arena);
        let mut hold = arena.hold(&extents, 10..20).unwrap();
        let piece = hold.take(usize::MAX).unwrap();
        drop(hold);
        arena.free_pages(&extents);
        assert_eq!((arena.held_bytes(), piece.len()), (PAGE as u64, 10));
        drop(piece);
        assert_eq!(arena.held_bytes(), 0);
    }

    #[test]
    fn what_is_not_there_is_not_held() {
        let (arena, _ledger) = arena(16);
        let extents = entry(&arena);
        let all = 5 * PAGE as u64;
        assert!(arena.hold(&extents, 0..all + 1).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "that is the test")]
        let reversed = 5..4;
        assert!(arena.hold(&extents, reversed).is_none());
        assert_eq!(arena.hold(&extents, all..all).unwrap().remaining(), 0);
        arena.free_pages(&extents[1..]);
        assert!(arena.hold(&extents, 0..all).is_none(), "no owner any more");
        arena.free_pages(&extents[..1]);
        assert_eq!(arena.held_bytes(), 0);
        assert_eq!(arena.free_bytes(), arena.committed_bytes());
    }
}
