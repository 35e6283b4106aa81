//! A region that can only be read: it was sealed before we had it, because a client has its descriptor.
//!
//! Its pages cannot be given back one by one: holes cannot be punched into it. So it is kept until nobody needs any of
//! them, and goes whole.
#![expect(unsafe_code, reason = "maps what the arena dereferences")]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::Backing;

/// Either of them keeps us from writing.
pub(super) const SEALS: SealFlags = SealFlags::FUTURE_WRITE.union(SealFlags::WRITE);

pub(super) struct Sealed {
    /// Gone when the memory is.
    file: Mutex<Option<OwnedFd>>,
    map: MmapRaw,
    base: NonNull<u8>,
}

impl Sealed {
    pub(super) fn map(file: OwnedFd, bytes: usize) -> io::Result<Sealed> {
        let map = MmapOptions::new().len(bytes).map_raw_read_only(&file)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Sealed {
            file: Mutex::new(Some(file)),
            map,
            base,
        })
    }
}

// SAFETY: the mapping is of a file of that length that cannot become shorter, which nobody can write to who has not
// mapped it before; page-aligned, and unmapped when `map` is dropped. What `retire` puts in its place is the same,
// of zeroes.
unsafe impl Backing for Sealed {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn commit(&self, _offset: usize, _bytes: usize) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn decommit(&self, _offset: usize, _bytes: usize) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn file(&self) -> io::Result<Option<OwnedFd>> {
        self.file
            .lock()
            .as_ref()
            .map(OwnedFd::try_clone)
            .transpose()
    }

    fn is_sealed(&self) -> bool {
        true
    }

    fn retire(&self) {
        let mut file = self.file.lock();
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let base = self.base.as_ptr().cast();
        // SAFETY: the range is this mapping's own and of its length; it is replaced by one that can be read just the
        // same, so that a stale look at it is none at memory that is not there.
        let replaced = unsafe { mmap_anonymous(base, self.map.len(), ProtFlags::READ, flags) };
        // Where that fails the memory stays, and is tried again with nothing: it was uncharged, and goes with us.
        if replaced.is_ok() {
            *file = None;
        }
    }
}

// SAFETY: `base` points into `map`, which may be read from any thread.
unsafe impl Send for Sealed {}
// SAFETY: as above.
unsafe impl Sync for Sealed {}
