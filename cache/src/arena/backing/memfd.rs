//! Regions as `memfd` files, mapped shared.
//!
//! No seal yet: seals also stop holes from being punched and a successor from
//! mapping, so a region is sealed when its descriptor is first handed out.
#![expect(unsafe_code, reason = "promises what the arena dereferences")]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

use super::Backing;

/// Bytes populated a system call: enough to make the call cheap, few enough
/// that a signal or a fork does not wait long for the address space's lock.
const POPULATE_BYTES: usize = 1 << 20;

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

// SAFETY: the mapping is of a file of that length which nobody else has, made of
// zeroes until written to, page-aligned, and unmapped when `map` is dropped.
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

    fn decommit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            offset as u64,
            bytes as u64,
        )?;
        Ok(())
    }
}

// SAFETY: `base` points into `map`, which may be used from any thread; who may
// touch which bytes when is the arena's business.
unsafe impl Send for Memfd {}
// SAFETY: as above.
unsafe impl Sync for Memfd {}
