//! Pages that a writer owns.

use super::extent::{Extent, ExtentList};

/// Pages that nobody else knows of, to be filled; freed when dropped. Their
/// bytes count from 0 over all extents.
#[derive(Debug)]
#[must_use = "dropping the pages frees them"]
pub struct Pages {
    extents: ExtentList,
}

impl Pages {
    /// The extents, in the order of their bytes.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Bytes that fit.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Appends `more`. Extents that turn out to be neighbours become one.
    pub fn append(&mut self, more: Pages) {
        unimplemented!()
    }

    /// Frees all pages after the first `pages`.
    pub fn truncate(&mut self, pages: u32) {
        unimplemented!()
    }

    /// The bytes from `offset` to the end of its extent. Writing through this
    /// front to back is cheap: the extent last written to is remembered.
    ///
    /// # Panics
    /// When `offset` is after the last byte.
    pub fn bytes_mut(&mut self, offset: u64) -> &mut [u8] {
        unimplemented!()
    }

    /// Copies `data` to `offset`, over as many extents as it takes.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        unimplemented!()
    }

    /// The bytes from `offset` to the end of its extent, to read back.
    ///
    /// # Panics
    /// When `offset` is after the last byte.
    #[must_use]
    pub fn slice(&self, offset: u64) -> &[u8] {
        unimplemented!()
    }

    /// Hands the pages to the caller, who frees them with
    /// [`Arena::free_pages`](super::Arena::free_pages). Their bytes do not change any more.
    #[must_use = "the caller frees the pages"]
    pub fn into_extents(self) -> ExtentList {
        unimplemented!()
    }
}
