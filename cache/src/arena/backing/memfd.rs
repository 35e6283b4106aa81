//! Regions as `memfd` files, mapped shared.
//!
//! Sealed against becoming smaller from the start, so that a successor process that maps it need not fear that.
//! Not against being written to: that also stops holes from being punched and a successor from
//! mapping, so it is done when a descriptor is first handed to a client.
#![expect(unsafe_code, reason = "promises what the arena dereferences")]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fcntl_get_seals,
    fstat, ftruncate, memfd_create, seek,
};

use super::Backing;

/// Bytes populated a system call: enough to make the call cheap, few enough
/// that a signal or a fork does not wait long for the address space's lock.
const POPULATE_BYTES: usize = 1 << 20;

/// The same, of what is there already.
const AHEAD_BYTES: usize = 16 << 20;

/// The smallest page a system has; touching one byte in each touches them all.
const TOUCH_BYTES: usize = 4096;

pub(super) struct Memfd {
    file: OwnedFd,
    map: MmapRaw,
    base: NonNull<u8>,
    populates: AtomicBool,
}

impl Memfd {
    pub(super) fn map(bytes: usize) -> io::Result<Memfd> {
        let file = memfd_create(
            "bowstring-arena",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&file, bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        Memfd::over(file, bytes)
    }

    /// Maps a region that was made before.
    pub(super) fn over(file: OwnedFd, bytes: usize) -> io::Result<Memfd> {
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        // A core dump of everyone's tensors helps nobody; refused is fine too.
        drop(map.advise(Advice::DontDump));
        Ok(Memfd {
            file,
            map,
            base,
            populates: AtomicBool::new(true),
        })
    }

    /// Touches by hand, where the kernel is older than 5.14.
    fn touch(&self, offset: usize, bytes: usize) {
        for at in (offset..offset + bytes).step_by(TOUCH_BYTES) {
            assert!(at < self.map.len());
            // SAFETY: within the mapping; the caller of `commit` keeps everyone
            // else off these bytes, which read as 0.
            unsafe { self.base.as_ptr().add(at).write_volatile(0) }
        }
    }
}

/// Whether a file can be a region of `bytes` bytes, and how it is sealed.
pub(super) fn check(file: &OwnedFd, bytes: usize) -> io::Result<SealFlags> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    // Only a file in memory has seals.
    let seals = fcntl_get_seals(file)?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err(wrong("a region that could be made smaller".to_owned()));
    }
    let len = fstat(file)?.st_size;
    if usize::try_from(len) != Ok(bytes) {
        return Err(wrong(format!(
            "a region of another size bytes=`{len}` expected=`{bytes}`"
        )));
    }
    Ok(seals)
}

// SAFETY: the mapping is of a file of that length that cannot become shorter and that only a
// predecessor has, who stops before any byte of it is looked at; made of zeroes until written to, page-aligned, and unmapped
// when `map` is dropped.
unsafe impl Backing for Memfd {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let piece = POPULATE_BYTES.min(end - at);
            if self.populates.load(Ordering::Relaxed) {
                match self.map.advise_range(Advice::PopulateWrite, at, piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        self.populates.store(false, Ordering::Relaxed);
                        continue;
                    }
                    // Out of memory: said here rather than by a SIGBUS later.
                    Err(error) => return Err(error),
                }
            } else {
                self.touch(at, piece);
            }
            at += piece;
        }
        Ok(())
    }

    fn map_ahead(&self, offset: usize, bytes: usize) {
        // A kernel older than 5.14 does it when they are read.
        drop(self.map.advise_range(Advice::PopulateRead, offset, bytes));
    }

    fn map_all_ahead(&self) {
        let whole = self.map.len();
        let mut at = 0;
        // Where there is no more, or no such question: they are mapped when they are read.
        while at < whole
            && let Ok(data) = seek(&self.file, SeekFrom::Data(at as u64))
            && let Ok(hole) = seek(&self.file, SeekFrom::Hole(data))
            && let (Ok(data), Ok(hole)) = (usize::try_from(data), usize::try_from(hole))
        {
            at = hole.min(whole);
            let pieces = (data..at).step_by(AHEAD_BYTES);
            pieces.for_each(|piece| self.map_ahead(piece, AHEAD_BYTES.min(at - piece)));
        }
    }

    fn decommit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            offset as u64,
            bytes as u64,
        )?;
        Ok(())
    }

    fn file(&self) -> io::Result<Option<OwnedFd>> {
        self.file.try_clone().map(Some)
    }
}

// SAFETY: `base` points into `map`, which may be used from any thread; who may
// touch which bytes when is the arena's business.
unsafe impl Send for Memfd {}
// SAFETY: as above.
unsafe impl Sync for Memfd {}
