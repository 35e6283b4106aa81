//! The size classes of slots.
//!
//! 16, 32, … 1024 bytes, then sixteen classes a doubling up to 64 KiB: a slot
//! is less than 16 bytes, or a sixteenth, larger than what is in it; a 200-byte
//! row does not cost 256. A slab has as many pages as it needs to leave at most
//! 1/32 unused at its end: of the classes up to 32 KiB every one finds such a
//! size within eight pages.

use super::extent::PAGE_BYTES;
use super::loc::UNIT_BYTES;

/// The largest slot, in bytes.
pub(super) const SLOT_BYTES_MAX: usize = PAGE_BYTES;

/// How many classes there are.
pub(super) const CLASSES: usize = LINEAR + STEPS * DOUBLINGS;

/// Pages of the largest slab.
pub(super) const SLAB_PAGES_MAX: u32 = 8;

const LINEAR_MAX: usize = 1024;
const LINEAR: usize = LINEAR_MAX / UNIT_BYTES;
const STEPS: usize = 16;
const DOUBLINGS: usize = (SLOT_BYTES_MAX / LINEAR_MAX).ilog2() as usize;

/// The smallest class whose slots have `bytes` bytes; `None` above
/// [`SLOT_BYTES_MAX`].
pub(super) fn class_for(bytes: usize) -> Option<u8> {
    if bytes > SLOT_BYTES_MAX {
        return None;
    }
    let class = if bytes <= LINEAR_MAX {
        bytes.div_ceil(UNIT_BYTES).max(1) - 1
    } else {
        let doubling = ((bytes - 1) / LINEAR_MAX).ilog2();
        let base = LINEAR_MAX << doubling;
        let step = base / STEPS;
        LINEAR + doubling as usize * STEPS + (bytes - base).div_ceil(step) - 1
    };
    u8::try_from(class).ok()
}

/// Bytes of a slot of `class`.
pub(super) fn class_bytes(class: u8) -> usize {
    let class = usize::from(class);
    if class < LINEAR {
        return (class + 1) * UNIT_BYTES;
    }
    let base = LINEAR_MAX << ((class - LINEAR) / STEPS);
    base + base / STEPS * ((class - LINEAR) % STEPS + 1)
}

/// Pages of a slab of `class`: the fewest that leave at most 1/32 unused, or
/// else those that leave the least.
pub(super) fn slab_pages(class: u8) -> u32 {
    let unused = |pages: u32| {
        let slab = pages as usize * PAGE_BYTES;
        slab % class_bytes(class) * 1024 / slab
    };
    (1..=SLAB_PAGES_MAX)
        .find(|pages| unused(*pages) <= 1024 / 32)
        .or_else(|| (1..=SLAB_PAGES_MAX).min_by_key(|pages| unused(*pages)))
        .unwrap_or(1)
}

/// Slots in a slab of `pages` pages.
pub(super) fn slab_slots(class: u8, pages: u32) -> u16 {
    let slots = pages as usize * PAGE_BYTES / class_bytes(class);
    u16::try_from(slots).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_its_smallest_class() {
        let step = if cfg!(miri) { 331 } else { 1 };
        for bytes in (1..=SLOT_BYTES_MAX).step_by(step) {
            let class = class_for(bytes).unwrap();
            assert!(class_bytes(class) >= bytes, "{bytes}");
            assert!(class == 0 || class_bytes(class - 1) < bytes, "{bytes}");
        }
        assert_eq!(class_for(0), Some(0));
        assert_eq!(class_for(SLOT_BYTES_MAX + 1), None);
        assert_eq!(
            class_for(SLOT_BYTES_MAX).map(usize::from),
            Some(CLASSES - 1)
        );
    }

    #[test]
    fn classes_are_whole_units_and_waste_at_most_a_sixteenth() {
        for class in 0..CLASSES {
            let class = u8::try_from(class).unwrap();
            let bytes = class_bytes(class);
            assert_eq!(bytes % UNIT_BYTES, 0);
            assert!(bytes <= LINEAR_MAX || (bytes - class_bytes(class - 1)) * 17 <= bytes + 16);
        }
    }

    #[test]
    fn slabs_leave_little_unused() {
        for class in 0..CLASSES {
            let class = u8::try_from(class).unwrap();
            let pages = slab_pages(class);
            let used = usize::from(slab_slots(class, pages)) * class_bytes(class);
            let slab = pages as usize * PAGE_BYTES;
            let unused_max = if class_bytes(class) <= 56 * 1024 {
                32
            } else {
                10
            };
            assert!((slab - used) * unused_max <= slab, "{}", class_bytes(class));
            assert!(usize::from(slab_slots(class, pages)) <= 64 * 64);
        }
    }
}
