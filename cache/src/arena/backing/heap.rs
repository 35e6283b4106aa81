//! Regions on the heap, for Miri and simulation.
#![expect(unsafe_code, reason = "allocates what the arena dereferences")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use super::Backing;

pub(super) struct Heap {
    base: NonNull<u8>,
    layout: Layout,
}

impl Heap {
    pub(super) fn map(bytes: usize) -> io::Result<Heap> {
        let layout = Layout::from_size_align(bytes, 4096)
            .ok()
            .filter(|layout| layout.size() > 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the layout's size is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Heap { base, layout })
    }
}

// SAFETY: the allocation is zeroed, aligned to 4 KiB, ours alone, and freed on drop.
unsafe impl Backing for Heap {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn commit(&self, _offset: usize, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn decommit(&self, _offset: usize, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn file(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
}

// SAFETY: the allocation belongs to this value alone; who may touch which bytes
// of it when is the arena's business, as with any backing.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated in `map` with this layout, freed only here.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}
