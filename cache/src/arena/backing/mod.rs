//! What regions are made of.

mod heap;
mod memfd;
mod sealed;

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

/// Where a region's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackingKind {
    /// `memfd` files, mapped shared: what a client on the same host, or a
    /// successor process, can be given.
    #[default]
    Memfd,
    /// The heap: for Miri and simulation. Gives nothing back to the system.
    Heap,
}

impl BackingKind {
    /// Maps `bytes` bytes, none of them touched.
    pub(super) fn map(self, bytes: usize) -> io::Result<Box<dyn Backing>> {
        Ok(match self {
            BackingKind::Memfd => Box::new(memfd::Memfd::map(bytes)?),
            BackingKind::Heap => Box::new(heap::Heap::map(bytes)?),
        })
    }
}

/// Maps a region that another process has made: read-only where it was sealed against being written to.
///
/// # Errors
/// Where it is not a region of `bytes` bytes that nobody can make smaller.
pub(super) fn adopt(file: OwnedFd, bytes: usize) -> io::Result<Box<dyn Backing>> {
    let seals = memfd::check(&file, bytes)?;
    Ok(if seals.intersects(sealed::SEALS) {
        Box::new(sealed::Sealed::map(file, bytes)?)
    } else {
        Box::new(memfd::Memfd::over(file, bytes)?)
    })
}

/// Bytes of a file that is to be a region.
pub(super) fn bytes_of(file: &OwnedFd) -> io::Result<u64> {
    u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)
}

/// One region's memory.
///
/// # Safety
/// The bytes from `base` on, as many as were asked for, are aligned to 4 KiB,
/// initialised, and valid for reads (and for writes, unless it is sealed) from any
/// thread until this is dropped; nobody else writes to them.
#[expect(unsafe_code, reason = "the arena dereferences `base`")]
pub(super) unsafe trait Backing: Send + Sync {
    /// The first byte.
    fn base(&self) -> NonNull<u8>;

    /// Touches bytes that were never touched, or have been given back.
    /// Afterwards they read as 0. The caller keeps everyone else off them.
    fn commit(&self, offset: usize, bytes: usize) -> io::Result<()>;

    /// Maps bytes that were committed before, by whomever: one step for many of them instead of one for each page that
    /// is read. A hint.
    fn map_ahead(&self, _offset: usize, _bytes: usize) {}

    /// As [`Backing::map_ahead`], of all that was ever touched and not given back since, by whomever.
    fn map_all_ahead(&self) {}

    /// Gives bytes back to the system; they are not to be used until they have
    /// been committed again. The caller keeps everyone else off them.
    fn decommit(&self, offset: usize, bytes: usize) -> io::Result<()>;

    /// The file, once more, for a successor; `None` where there is none.
    fn file(&self) -> io::Result<Option<OwnedFd>>;

    /// Whether its bytes can only be read: they are neither committed nor decommitted then.
    fn is_sealed(&self) -> bool {
        false
    }

    /// Gives all memory of a sealed region back: its bytes read as 0 from then on. Nobody needs them any more.
    fn retire(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every backing must do.
    #[expect(unsafe_code, reason = "writes to memory that the test alone has")]
    fn keeps_bytes(kind: BackingKind) {
        const BYTES: usize = 64 * 1024;
        let backing = kind.map(4 * BYTES).unwrap();
        assert_eq!(backing.base().as_ptr() as usize % 4096, 0);
        backing.commit(BYTES, 2 * BYTES).unwrap();
        // SAFETY: committed, within the mapping, and nobody else has it.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(backing.base().as_ptr().add(BYTES), 2 * BYTES)
        };
        assert!(bytes.iter().step_by(997).all(|byte| *byte == 0));
        bytes.fill(7);
        backing.decommit(BYTES, BYTES).unwrap();
        assert_eq!(bytes[BYTES], 7, "the neighbour stays");
        backing.commit(BYTES, BYTES).unwrap();
        bytes[0] = 1;
        assert_eq!((bytes[0], bytes[2 * BYTES - 1]), (1, 7));
    }

    #[test]
    fn the_heap_keeps_bytes() {
        keeps_bytes(BackingKind::Heap);
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn memfd_keeps_bytes() {
        keeps_bytes(BackingKind::Memfd);
    }
}
