//! Pages that a reader holds.

use bytes::Bytes;

/// A reader's hold on the pages under a range of bytes, taken once at the start
/// and let go page by page as the bytes are taken. Dropping it lets go of what
/// has not been taken; the pieces that were taken keep their own pages.
#[derive(Debug)]
#[must_use = "dropping the hold lets the pages go"]
pub struct PageHold {
    remaining: u64,
}

impl PageHold {
    /// Bytes not taken yet; 0 after [`PageHold::release`].
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Bytes of the pages that this still holds.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Takes the next bytes, uncopied: at most `n`, and at most up to where the
    /// memory is no longer contiguous. `None` when nothing remains (or `n` is
    /// 0). The piece keeps the pages under it, and no others; a page that two
    /// pieces share is let go with the later of them.
    pub fn take(&mut self, n: usize) -> Option<Bytes> {
        unimplemented!()
    }

    /// Copies the next bytes into `to`, and lets go of the pages passed. Gives
    /// how many: less than asked only when no more remain.
    pub fn copy_to(&mut self, to: &mut [u8]) -> usize {
        unimplemented!()
    }

    /// Passes over `n` bytes, or all that remain.
    pub fn skip(&mut self, n: u64) {
        unimplemented!()
    }

    /// Lets everything go that has not been taken, and gives how many bytes
    /// that were: how a supervisor cuts off a reader that stalls.
    pub fn release(&mut self) -> u64 {
        unimplemented!()
    }
}
