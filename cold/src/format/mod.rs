//! What the objects of the cold tier have in them: `proto-notes/cold.md` is the text of this folder.
//!
//! - [`segment`]: small tensors together, as an Arrow IPC file
//! - [`large`]: one large tensor as such a file, whose bytes are never all in memory
//! - [`sidecar`]: what is in a segment, read without it
//! - [`census`]: which segments count when a start begins
//! - [`gone`]: log records of what was deleted
//! - [`hidden`]: what of others' prefixes is not to be found any more
//! - [`hot`]: what was in memory, for the next start
//! - [`settings`]: what is set of namespaces
//! - [`table`]: rows of the index, where that lies in the store; [`filter`] is part of one
//! - [`manifest`]: which tables are the index
//!
//! Under these: [`tensor`] (one that is to be written), [`stored`] (one tensor's description, sealed), [`blocks`] (the checksums of its bytes), [`pack`] (its
//! bytes compressed),
//! `arrow_file` (what stands around the bytes), `envelope` (what sidecars and log records begin and end
//! with), `cursor` (numbers and texts).
//!
//! All of it is persisted: a layout that is changed gets a new [`FORMAT_VERSION`], and what the version
//! before wrote is still read.

mod arrow_file;
pub mod blocks;
pub mod census;
mod cursor;
mod envelope;
pub mod filter;
#[cfg(test)]
mod golden;
pub mod gone;
pub mod hidden;
pub mod hot;
pub mod large;
pub mod manifest;
pub mod pack;
pub mod segment;
pub mod settings;
pub mod sidecar;
pub mod stored;
pub mod table;
mod table_builder;
pub mod tensor;
#[cfg(test)]
mod testing;

pub use blocks::{blocks_of, verify};
pub use census::{Census, encode_census, read_census};
pub use gone::{Gone, encode_gone, read_gone};
pub use hidden::{Grave, encode_hidden, read_hidden};
pub use hot::{HotNames, encode_hot, read_hot};
pub use large::Large;
pub use manifest::{Manifest, TableName, encode_manifest, read_manifest};
pub use pack::{Packer, Unpacker};
pub use segment::{Built, Layout, build, check};
pub use settings::{SettingsRow, encode_settings, read_settings};
pub use sidecar::{Sidecar, encode_sidecar, read_sidecar};
pub use stored::{decode_stored, decode_value, encode_stored, encode_value};
pub use table::{Tail, read_block, read_tail};
pub use table_builder::{BuiltTable, TableBuilder};
pub use tensor::Tensor;

/// The version of everything in this folder. Version 1 is the first.
pub const FORMAT_VERSION: u16 = 1;
