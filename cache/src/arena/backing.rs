//! What regions are made of.

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
