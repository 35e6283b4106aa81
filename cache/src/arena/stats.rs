//! What the arena counts.

/// The arena in numbers: pages of [`PAGE_BYTES`](super::PAGE_BYTES), and bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArenaStats {
    /// Pages that the arena may touch at most.
    pub pages_max: u32,
    /// Pages touched and charged: free, slab, owned and held ones together,
    /// and those that are being touched.
    pub pages_committed: u32,
    /// Touched pages that are free.
    pub pages_free: u32,
    /// Pages in slabs.
    pub pages_slab: u32,
    /// Pages of large tensors, of open puts too, that have an owner.
    pub pages_owned: u32,
    /// Pages without an owner that readers still hold.
    pub pages_held: u32,
    /// Bytes of slots in use, each at its class's size.
    pub slot_bytes_used: u64,
    /// Bytes kept on the heap about pages and slots.
    pub overhead_bytes: u64,
    /// The classes that have slabs, smallest first.
    pub classes: Vec<SlotClassStats>,
}

/// One size class of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotClassStats {
    /// Bytes of a slot, its tag included.
    pub slot_bytes: u32,
    /// Slabs, those being emptied included.
    pub slabs: u32,
    /// Pages of the slabs.
    pub pages: u32,
    /// Slots in use.
    pub used: u32,
    /// Slots that an allocation could take at once.
    pub free: u32,
}
