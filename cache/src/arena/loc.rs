//! Where a slot is, in eight bytes.

use std::num::NonZeroU64;

/// A slot's place: the first page of its slab, its offset there in units of
/// 16 bytes, and its size class. What a record of the index keeps.
///
/// Never 0, so that `Option<Loc>` takes eight bytes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Loc(NonZeroU64);

/// The granularity of slots, in bytes.
pub(super) const UNIT_BYTES: usize = 16;

/// Set in every place, so that none is 0.
const VALID: NonZeroU64 = match NonZeroU64::new(1 << 63) {
    Some(bit) => bit,
    None => NonZeroU64::MIN,
};
/// From here up to the highest bit there is nothing.
const UNUSED_SHIFT: u32 = 56;
const CLASS_SHIFT: u32 = 48;
const UNIT_SHIFT: u32 = 32;

impl Loc {
    pub(super) fn new(page: u32, unit: u16, class: u8) -> Loc {
        let bits =
            u64::from(class) << CLASS_SHIFT | u64::from(unit) << UNIT_SHIFT | u64::from(page);
        Loc(VALID | bits)
    }

    /// As a number that is not 0.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// What [`Loc::to_bits`] gave; `None` for 0 and for whatever no slot's
    /// place looks like.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Loc> {
        if bits >> UNUSED_SHIFT != VALID.get() >> UNUSED_SHIFT {
            return None;
        }
        NonZeroU64::new(bits).map(Loc)
    }

    /// The first page of the slot's slab.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    pub fn page(self) -> u32 {
        self.to_bits() as u32
    }

    /// Bytes from the start of the slab.
    pub(super) fn offset(self) -> usize {
        usize::from(self.unit()) * UNIT_BYTES
    }

    #[expect(clippy::cast_possible_truncation, reason = "a field of 16 bits")]
    pub(super) fn unit(self) -> u16 {
        (self.to_bits() >> UNIT_SHIFT) as u16
    }

    #[expect(clippy::cast_possible_truncation, reason = "a field of 8 bits")]
    pub(super) fn class(self) -> u8 {
        (self.to_bits() >> CLASS_SHIFT) as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_no_place() {
        assert_eq!(Loc::from_bits(0), None);
        assert_eq!(Loc::from_bits(77), None);
        assert_eq!(size_of::<Option<Loc>>(), 8);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn bits_and_back(page: u32, unit: u16, class: u8) {
            let loc = Loc::new(page, unit, class);
            prop_assert_eq!(Loc::from_bits(loc.to_bits()), Some(loc));
            prop_assert_eq!((loc.page(), loc.unit(), loc.class()), (page, unit, class));
            prop_assert_eq!(loc.offset(), usize::from(unit) * 16);
        }
    }
}
