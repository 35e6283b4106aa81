//! Pages that a writer owns.
#![expect(unsafe_code, reason = "reads and writes the pages it owns")]

use std::fmt;
use std::mem;
use std::sync::Arc;

use super::extent::{Extent, ExtentList, PAGE_BYTES, PAGE_BYTES_U64};
use super::{Inner, stream_copy};

/// Pages that nobody else knows of, to be filled; freed when dropped. Their
/// bytes count from 0 over all extents; what was in them before is still there.
#[must_use = "dropping the pages frees them"]
pub struct Pages {
    inner: Arc<Inner>,
    extents: ExtentList,
    bytes: u64,
    /// An extent and the offset of its first byte: where the last write was.
    cursor: (usize, u64),
}

impl Pages {
    pub(super) fn new(inner: Arc<Inner>, extents: ExtentList) -> Pages {
        Pages {
            inner,
            bytes: extents.iter().map(|extent| extent.bytes()).sum(),
            extents,
            cursor: (0, 0),
        }
    }

    /// The extents, in the order of their bytes.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Bytes that fit.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends `more`. Extents that turn out to be neighbours become one.
    ///
    /// # Panics
    /// When `more` is of another arena.
    pub fn append(&mut self, mut more: Pages) {
        assert!(Arc::ptr_eq(&self.inner, &more.inner), "pages of two arenas");
        self.bytes += mem::take(&mut more.bytes);
        for extent in mem::take(&mut more.extents) {
            match self.extents.last_mut() {
                Some(last) if self.inner.space.regions.follows(*last, extent) => {
                    last.pages += extent.pages;
                }
                _ => self.extents.push(extent),
            }
        }
    }

    /// Frees all pages after the first `pages`.
    pub fn truncate(&mut self, pages: u32) {
        let mut freed = ExtentList::new();
        let keep = u64::from(pages) * PAGE_BYTES_U64;
        while self.bytes > keep
            && let Some(last) = self.extents.last_mut()
        {
            let over = u32::try_from((self.bytes - keep) / PAGE_BYTES_U64).unwrap_or(u32::MAX);
            let over = over.min(last.pages);
            last.pages -= over;
            self.bytes -= u64::from(over) * PAGE_BYTES_U64;
            freed.push(Extent {
                first: last.end(),
                pages: over,
            });
            if last.pages == 0 {
                self.extents.pop();
            }
        }
        self.cursor = (0, 0);
        if !freed.is_empty() {
            self.inner.free_pages(&freed);
        }
    }

    /// The bytes from `offset` to the end of its extent. Writing through this
    /// front to back is cheap: the extent last written to is remembered.
    ///
    /// # Panics
    /// When `offset` is after the last byte.
    pub fn bytes_mut(&mut self, offset: u64) -> &mut [u8] {
        let start = if offset >= self.cursor.1 {
            self.cursor
        } else {
            (0, 0)
        };
        let (at, base) = self.find(offset, start);
        self.cursor = (at, base);
        let (first, skip, bytes) = within(self.extents[at], offset - base);
        // SAFETY: this value owns the pages, nobody else knows of them, and the
        // slice borrows it exclusively.
        unsafe { self.inner.space.regions.bytes_mut(first, skip, bytes) }
    }

    /// Copies `data` to `offset`, over as many extents as it takes.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let to = self.bytes_mut(offset);
            let n = to.len().min(data.len());
            let (now, later) = data.split_at(n);
            stream_copy::copy(&mut to[..n], now);
            data = later;
            offset += n as u64;
        }
    }

    /// The bytes from `offset` to the end of its extent, to read back.
    ///
    /// # Panics
    /// When `offset` is after the last byte.
    #[must_use]
    pub fn slice(&self, offset: u64) -> &[u8] {
        let (at, base) = self.find(offset, (0, 0));
        let (first, skip, bytes) = within(self.extents[at], offset - base);
        // SAFETY: this value owns the pages, nobody else knows of them, and
        // writing to them takes an exclusive borrow of it.
        unsafe { self.inner.space.regions.bytes(first, skip, bytes) }
    }

    /// Hands the pages to the caller, who frees them with
    /// [`Arena::free_pages`](super::Arena::free_pages). Their bytes do not change any more.
    #[must_use = "the caller frees the pages"]
    pub fn into_extents(mut self) -> ExtentList {
        mem::take(&mut self.extents)
    }

    /// The extent that has byte `offset`, and the offset of its first byte;
    /// looked for from extent `at`, whose first byte is `base`.
    fn find(&self, offset: u64, (at, base): (usize, u64)) -> (usize, u64) {
        let mut base = base;
        for (at, extent) in self.extents.iter().enumerate().skip(at) {
            if offset - base < extent.bytes() {
                return (at, base);
            }
            base += extent.bytes();
        }
        panic!(
            "offset after the last byte offset=`{offset}` bytes=`{}`",
            self.bytes
        );
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if !self.extents.is_empty() {
            self.inner.free_pages(&self.extents);
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pages").field(&self.extents).finish()
    }
}

/// Where the bytes after `offset` of an extent are: first page, offset, bytes.
pub(super) fn within(extent: Extent, offset: u64) -> (u32, usize, usize) {
    // An extent lies in a region, which fits into memory: so does its length.
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = extent.pages as usize * PAGE_BYTES;
    (extent.first, offset, bytes.saturating_sub(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::tests::{PAGE, arena, total};

    #[test]
    fn bytes_go_over_extents_in_order() {
        let (arena, _ledger) = arena(8);
        // Every second page is free: extents of one page each.
        let singles: Vec<Pages> = (0..8).map(|_| arena.alloc_pages(1).unwrap()).collect();
        let kept: Vec<Pages> = singles.into_iter().step_by(2).collect();
        let mut pages = arena.alloc_pages(4).unwrap();
        assert_eq!(pages.extents().len(), 4);
        let stripes: Vec<Vec<u8>> = (0u8..=255).map(|byte| vec![byte; PAGE / 64]).collect();
        let data = stripes.concat();
        for (at, piece) in data.chunks(100_000).enumerate() {
            pages.write(at as u64 * 100_000, piece);
        }
        pages.write(5, &data[5..6]);
        let mut read = Vec::new();
        while (read.len() as u64) < pages.bytes() {
            read.extend_from_slice(pages.slice(read.len() as u64));
        }
        assert!(read == data);
        assert_eq!(kept.len(), 4);
    }

    #[test]
    fn appended_neighbours_become_one_and_truncating_frees() {
        let (arena, _ledger) = arena(16);
        let mut pages = arena.alloc_pages(3).unwrap();
        pages.append(arena.alloc_pages(5).unwrap());
        assert_eq!(total(pages.extents()), 8);
        assert_eq!(pages.extents().len(), 1);
        let free = arena.free_bytes();
        pages.truncate(2);
        assert_eq!(pages.bytes(), 2 * PAGE as u64);
        assert_eq!(arena.free_bytes() - free, 6 * PAGE as u64);
        pages.truncate(5);
        assert_eq!(total(pages.extents()), 2);
        pages.truncate(0);
        assert!(pages.extents().is_empty());
        assert_eq!(arena.stats().pages_owned, 0);
    }

    #[test]
    fn pages_handed_on_are_the_callers() {
        let (arena, _ledger) = arena(16);
        let extents = arena.alloc_pages(4).unwrap().into_extents();
        assert_eq!(arena.stats().pages_owned, 4);
        arena.free_pages(&extents);
        assert_eq!(arena.stats().pages_owned, 0);
    }

    #[test]
    #[should_panic(expected = "without an owner")]
    fn freeing_twice_is_noticed() {
        let (arena, _ledger) = arena(16);
        let extents = arena.alloc_pages(4).unwrap().into_extents();
        arena.free_pages(&extents);
        arena.free_pages(&extents);
    }

    #[test]
    #[should_panic(expected = "after the last byte")]
    fn writing_after_the_end_is_noticed() {
        let (arena, _ledger) = arena(16);
        let mut pages = arena.alloc_pages(1).unwrap();
        pages.write(PAGE as u64 - 1, &[1, 2]);
    }
}
