//! Memory that is read soon, asked for ahead.
//!
//! A look-up waits for one cache miss after the other, each some 100 ns. Of sixteen look-ups, sixteen can be
//! waited for at once, but only if somebody says so: between two of them lie more instructions than the processor
//! looks ahead.
#![expect(unsafe_code, reason = "there is no other way to prefetch")]

use super::loc::Loc;
use super::region::Regions;
use super::slot::payload_bytes;

/// Bytes that the processor fetches at once.
pub(crate) const LINE_BYTES: usize = 64;
/// From here on the processor sees by itself that a copy goes on.
const FIRST_LINES: usize = 4;

/// Asks for the line that `at` begins in. What lies there does not matter, nor who writes to it.
pub(crate) fn prefetch<T>(at: &T) {
    line(std::ptr::from_ref(at).cast());
}

/// Asks for the first bytes of a slot, and for the line at byte `also`.
pub(super) fn slot(regions: &Regions, loc: Loc, also: usize) {
    let bytes = payload_bytes(loc);
    let start = regions.address(loc.page(), loc.offset(), bytes).as_ptr();
    let lines = (0..bytes).step_by(LINE_BYTES).take(FIRST_LINES);
    for at in lines.chain([also.min(bytes)]) {
        line(start.wrapping_add(at));
    }
}

/// Asks for the line at a slot's byte `at`.
pub(super) fn slot_line(regions: &Regions, loc: Loc, at: usize) {
    let bytes = payload_bytes(loc);
    let start = regions.address(loc.page(), loc.offset(), bytes).as_ptr();
    line(start.wrapping_add(at.min(bytes)));
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing and faults nowhere; SSE is in every x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn line(_at: *const u8) {}
