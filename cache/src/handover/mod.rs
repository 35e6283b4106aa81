//! A cache passes from one process to the next: regions stay where they are, and a snapshot says what is in them.
//!
//! - `format`: the snapshot, which is a contract between releases (`proto-notes/takeover.md`); `frames`: how it passes
//! - `export`: the predecessor writes it
//! - `adopt`: the successor's side; `find` reads the snapshot, and believes only what fits together; `enter` fills the index
//!
//! What is passed on is what namespaces show, and their loads: what the open ones hold, and what the others came to; not what a
//! committed one could be rolled back to.
//! Entries lie in the regions as they were, their heads with them; so the format's version stands for those too.
//!
//! The predecessor freezes its memory before [`Cache::export`]. The successor gives nothing back and writes to nothing (but
//! slots' tags, which are hints) before [`Adoption::settle`], so that until then the predecessor can go on instead.
//!
//! [`Cache::export`]: crate::Cache::export

mod adopt;
mod enter;
mod export;
mod find;
mod format;
mod frames;

pub use adopt::{Adopted, Adoption, Handed, Prepared};
pub use export::Exported;
pub use format::FORMAT;

#[cfg(test)]
mod tests;
