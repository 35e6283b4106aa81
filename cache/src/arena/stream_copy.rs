//! A copy that goes past the processor's caches.
//!
//! What is put is not read back at once, and is larger than a cache. An ordinary copy first reads each
//! line that it is going to overwrite, and pushes out of the cache what the socket has just left
//! there: 16 MiB into pages of a `memfd` ran at 10 GB/s so, and at 19 past the caches.
#![expect(unsafe_code, reason = "vector stores")]

/// From here on the stores' own cost, and the fence at the end, no longer show.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const STREAMED_FROM: usize = 4096;

/// Copies `from` into `to`, which is as long.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    const LINE: usize = 64;
    const LANE: usize = size_of::<__m128i>();

    if to.len() != from.len() || to.len() < STREAMED_FROM {
        return to.copy_from_slice(from);
    }
    let head = to.as_ptr().align_offset(LINE).min(to.len());
    let whole = (to.len() - head) / LINE * LINE;
    let (to_head, to) = to.split_at_mut(head);
    let (from_head, from) = from.split_at(head);
    to_head.copy_from_slice(from_head);
    let (to, to_tail) = to.split_at_mut(whole);
    let (from, from_tail) = from.split_at(whole);
    for (to, from) in to.chunks_exact_mut(LINE).zip(from.chunks_exact(LINE)) {
        for lane in (0..LINE).step_by(LANE) {
            // SAFETY: both chunks are a line long, so a lane lies within them; `to` begins at a
            // line and the lane at a multiple of its size, which is the alignment the store asks
            // for; the load asks for none. SSE2 is in every x86-64.
            unsafe {
                let lane_of_from = _mm_loadu_si128(from.as_ptr().add(lane).cast());
                _mm_stream_si128(to.as_mut_ptr().add(lane).cast(), lane_of_from);
            }
        }
    }
    // These stores are ordered with no others: whoever learns of the bytes must find them there.
    // SAFETY: a fence touches no memory; SSE2 is in every x86-64.
    unsafe { _mm_sfence() };
    to_tail.copy_from_slice(from_tail);
}

/// Copies `from` into `to`, which is as long.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length_is_copied_and_nothing_beside_it() {
        let from: Vec<u8> = (0..20_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        // An interpreter would take a quarter of an hour for all of them.
        for start in (0..70).step_by(if cfg!(miri) { 33 } else { 1 }) {
            for len in [0, 1, 63, 4095, 4096, 4097, 8191, 12_345] {
                let mut to = vec![0xee; 13_000];
                copy(
                    &mut to[start..start + len],
                    &from[start * 3..start * 3 + len],
                );
                assert_eq!(to[start..start + len], from[start * 3..start * 3 + len]);
                let beside = to[..start].iter().chain(&to[start + len..]);
                assert!(beside.into_iter().all(|byte| *byte == 0xee));
            }
        }
    }
}
