//! How an arena is laid out.

use std::io;

#[cfg(doc)]
use super::Arena;
use super::backing::BackingKind;
use super::extent::PAGE_BYTES_U64;

/// How an arena is laid out.
#[derive(Debug, Clone)]
pub struct ArenaConfig {
    /// The most bytes that the arena may ever have touched at once; the ledger
    /// may leave it less. Rounded up to whole regions.
    pub bytes_max: u64,
    /// Bytes of a region, a power of two, at least four pages. `None`: 64 MiB,
    /// less for a small arena and up to 256 MiB for a large one.
    pub region_bytes: Option<u64>,
    /// What the regions are made of.
    pub backing: BackingKind,
    /// Bytes that [`Arena::pretouch`] keeps touched and free ahead of what has
    /// been allocated. Charged like the rest.
    pub window_bytes: u64,
}

impl ArenaConfig {
    /// The defaults for an arena of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> ArenaConfig {
        ArenaConfig {
            bytes_max,
            region_bytes: None,
            backing: BackingKind::default(),
            window_bytes: (bytes_max / 64).min(8 << 20),
        }
    }

    /// Sets what the regions are made of.
    #[must_use]
    pub fn with_backing(mut self, backing: BackingKind) -> ArenaConfig {
        self.backing = backing;
        self
    }

    /// Sets the bytes of a region.
    #[must_use]
    pub fn with_region_bytes(mut self, bytes: u64) -> ArenaConfig {
        self.region_bytes = Some(bytes);
        self
    }

    /// Pages of a region, and how many regions.
    pub(super) fn layout(&self) -> io::Result<(u32, u32)> {
        const MIB: u64 = 1 << 20;
        let few = (self.bytes_max / 16).clamp(MIB, 64 * MIB);
        let large = (self.bytes_max / 64).clamp(MIB, 256 * MIB);
        let bytes = self.region_bytes.unwrap_or(1 << few.max(large).ilog2());
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        if !bytes.is_power_of_two() || bytes < 4 * PAGE_BYTES_U64 {
            return Err(wrong(format!(
                "a region must be a power of two of at least four pages region_bytes=`{bytes}`"
            )));
        }
        let regions = self.bytes_max.div_ceil(bytes).max(1);
        // The number after the last page is a number, too.
        match u32::try_from(regions * (bytes / PAGE_BYTES_U64)) {
            Ok(pages) => {
                let regions = u32::try_from(regions).unwrap_or(u32::MAX);
                Ok((pages / regions, regions))
            }
            Err(_) => Err(wrong(format!(
                "more pages than there are numbers bytes_max=`{}`",
                self.bytes_max
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Arena;
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn layouts_that_make_no_sense_are_refused() {
        let ledger = Ledger::new(1 << 30);
        for (bytes_max, region) in [
            (1 << 30, 3 << 20),
            (1 << 30, 1 << 16),
            (u64::MAX / 4, 1 << 26),
        ] {
            let config = ArenaConfig::new(bytes_max)
                .with_backing(BackingKind::Heap)
                .with_region_bytes(region);
            let error = Arena::new(&config, Arc::clone(&ledger)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let region = |bytes_max| {
            let (pages, regions) = ArenaConfig::new(bytes_max).layout().unwrap();
            assert!(u64::from(pages) * u64::from(regions) * PAGE_BYTES_U64 >= bytes_max);
            (u64::from(pages) * PAGE_BYTES_U64) >> 20
        };
        let mib = [1 << 20, 100 << 20, 1 << 30, 8 << 30, 64 << 30, 1 << 40].map(region);
        assert_eq!(mib, [1, 4, 64, 128, 256, 256]);
    }
}
