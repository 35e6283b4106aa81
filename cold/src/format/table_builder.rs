//! A table of the index that is being built, in memory.

use std::io;

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use twox_hash::XxHash3_64;
use zstd::bulk::Compressor;

use super::cursor::put_bytes;
use super::filter::{Filter, hash_of};
use super::manifest::TableName;
use super::pack::LEVEL;
use super::table::{GONE, THERE, Tail, common};
use crate::room::Rooms;

/// Takes rows in the order of their keys.
pub struct TableBuilder {
    number: u64,
    block_bytes: usize,
    zstd: Compressor<'static>,
    out: Rooms,
    raw: Vec<u8>,
    block: Vec<u8>,
    /// Where each block ends, and its separator.
    blocks: Vec<(u32, Vec<u8>)>,
    separator: Vec<u8>,
    hashes: Vec<u64>,
    first: Vec<u8>,
    last: Vec<u8>,
}

/// A table, to be written.
#[derive(Debug)]
pub struct BuiltTable {
    /// The bytes of its object.
    pub file: Vec<Bytes>,
    /// How it is named.
    pub name: TableName,
    /// What is held in memory of it.
    pub tail: Tail,
}

impl TableBuilder {
    /// A table of this number, whose blocks have about so many bytes before they are compressed.
    ///
    /// # Errors
    /// `internal` where zstd does not know the level.
    pub fn new(number: u64, block_bytes: usize) -> Result<TableBuilder> {
        Ok(TableBuilder {
            number,
            block_bytes,
            zstd: Compressor::new(LEVEL).map_err(|error| failed(&error))?,
            out: Rooms::default(),
            block: Vec::new(),
            raw: Vec::with_capacity(block_bytes + 1024),
            blocks: Vec::new(),
            separator: Vec::new(),
            hashes: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
        })
    }

    /// Appends a row, whose key is above all before.
    ///
    /// # Errors
    /// `internal` where a block cannot be compressed.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        debug_assert!(
            self.hashes.is_empty() || *key > self.last[..],
            "keys must ascend"
        );
        if self.hashes.is_empty() {
            self.first.extend_from_slice(key);
        } else if self.raw.len() >= self.block_bytes {
            self.end_block()?;
            let shortest = key.get(..=common(&self.last, key)).unwrap_or(key);
            self.separator = shortest.to_vec();
        }
        put_bytes(&mut self.raw, key);
        match value {
            None => self.raw.push(GONE),
            Some(value) => {
                self.raw.push(THERE);
                put_bytes(&mut self.raw, value);
            }
        }
        self.hashes.push(hash_of(key));
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// About as many bytes as its blocks have.
    pub fn bytes(&self) -> usize {
        self.out.len() + self.raw.len() / 2
    }

    /// The whole of it; it has a row at least.
    ///
    /// # Errors
    /// As [`TableBuilder::push`].
    pub fn finish(mut self) -> Result<BuiltTable> {
        self.end_block()?;
        let tail = Tail::new(&self.blocks, Filter::of(&self.hashes));
        let encoded = tail.encode(self.number);
        let tail_at = self.out.len() as u64;
        let name = TableName {
            number: self.number,
            bytes: tail_at + encoded.len() as u64,
            tail_at,
            rows: self.hashes.len() as u64,
            first: self.first,
            last: self.last,
        };
        let mut file = self.out.freeze();
        file.push(encoded);
        Ok(BuiltTable { file, name, tail })
    }

    fn end_block(&mut self) -> Result<()> {
        let raw = u32::try_from(self.raw.len()).map_err(|_| too_large())?;
        let frame = self.zstd.compress(&self.raw);
        let frame = frame.map_err(|error| failed(&error))?;
        self.block.clear();
        self.block.extend_from_slice(&raw.to_le_bytes());
        self.block.extend_from_slice(&frame);
        let sum = XxHash3_64::oneshot(&self.block);
        self.block.extend_from_slice(&sum.to_le_bytes());
        self.out
            .push(&self.block)
            .map_err(|error| Error::exhausted(error.to_string()))?;
        let end = u32::try_from(self.out.len()).map_err(|_| too_large())?;
        self.blocks.push((end, std::mem::take(&mut self.separator)));
        self.raw.clear();
        Ok(())
    }
}

fn failed(error: &io::Error) -> Error {
    Error::internal(format!("zstd failed; error=`{error}`"))
}

fn too_large() -> Error {
    Error::internal("a table of the cold tier's index has no room for a row")
}
