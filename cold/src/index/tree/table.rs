//! A table in the store, and its rows in order.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::Cache;
use super::io::Io;
use crate::format::table::{Row, Rows};
use crate::format::{TableName, Tail, read_block, read_tail};
use crate::index::error::{IndexError, Result};
use crate::store::ObjectName;

/// Objects that nobody needs any more.
pub(super) type Trash = Mutex<Vec<ObjectName>>;

/// What is in memory of a table. The last one that has it takes the object away, where it was given up.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    tail: Tail,
    given_up: Mutex<Option<Arc<Trash>>>,
}

impl Table {
    pub(super) fn new(name: TableName, tail: Tail) -> Table {
        Table {
            name,
            tail,
            given_up: Mutex::new(None),
        }
    }

    /// A table that is named somewhere.
    pub(super) async fn open(io: &Io, name: TableName) -> Result<Table> {
        let object = ObjectName::Table(name.number);
        let bytes = io.read(object, name.tail_at..name.bytes).await?;
        let tail = read_tail(name.number, &bytes);
        let tail = tail.map_err(|error| IndexError::Corrupt(error.message.to_string()))?;
        Ok(Table::new(name, tail))
    }

    /// Its object goes once nobody reads it any more. No manifest names it.
    pub(super) fn give_up(&self, trash: &Arc<Trash>) {
        *self.given_up.lock() = Some(Arc::clone(trash));
    }

    /// The block in which a key is, if the table has it.
    pub(super) fn block_of(&self, key: &[u8], hash: u64) -> Option<usize> {
        let in_range = self.name.first[..] <= *key && *key <= self.name.last[..];
        (in_range && self.tail.may_have(hash)).then(|| self.tail.block_of(key))
    }

    /// Reads blocks from one on, `count` of them or fewer.
    pub(super) async fn read(&self, io: &Io, from: usize, count: usize) -> Result<Vec<Bytes>> {
        let places = (from..from.saturating_add(count)).map_while(|at| self.tail.place(at));
        let places: Vec<_> = places.collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Ok(Vec::new());
        };
        let (start, end) = (first.start, last.end);
        let name = ObjectName::Table(self.name.number);
        let bytes = io.read(name, start..end).await?;
        let block = |place: std::ops::Range<u64>| {
            let at = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            let block = bytes.get(at(place.start)..at(place.end));
            block.and_then(read_block).ok_or_else(|| {
                IndexError::Corrupt(format!(
                    "a block's checksum does not agree; object=`{name}`"
                ))
            })
        };
        places.into_iter().map(block).collect()
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let keys = self.name.first.capacity() + self.name.last.capacity();
        // And the counts around it.
        (size_of::<Table>() + 16 + keys) as u64 + self.tail.resident_bytes()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(trash) = self.given_up.get_mut().take() {
            trash.lock().push(ObjectName::Table(self.name.number));
        }
    }
}

/// The rows of tables that do not overlap, from a key on.
pub(super) struct Run {
    io: Io,
    /// What is read of one block at a time is looked for here first.
    cache: Option<Arc<Cache>>,
    /// How many blocks are read at a time.
    at_once: usize,
    tables: std::vec::IntoIter<Arc<Table>>,
    table: Option<Arc<Table>>,
    block: usize,
    /// Read ahead, the next last.
    blocks: Vec<Bytes>,
    rows: Option<Rows>,
}

impl Run {
    /// `tables` are in the order of their keys.
    pub(super) fn new(
        io: Io,
        cache: Option<Arc<Cache>>,
        at_once: usize,
        mut tables: Vec<Arc<Table>>,
        from: &[u8],
    ) -> Run {
        tables.retain(|table| *table.name.last >= *from);
        let mut tables = tables.into_iter();
        let table = tables.next();
        let block = table.as_ref().map_or(0, |it| it.tail.block_of(from));
        Run {
            io,
            cache,
            at_once,
            tables,
            table,
            block,
            blocks: Vec::new(),
            rows: None,
        }
    }

    /// The next row; rows of the first block may be below the key.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                return Ok(Some(row));
            }
            if self.blocks.is_empty() {
                self.read()?;
            }
            match self.blocks.pop() {
                Some(block) => self.rows = Some(Rows::new(block)),
                None => return Ok(None),
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        while let Some(table) = &self.table {
            if self.block < table.tail.blocks() {
                break;
            }
            self.table = self.tables.next();
            self.block = 0;
        }
        let Some(table) = self.table.clone() else {
            return Ok(());
        };
        let which = (table.name.number, self.block);
        let cached = self.cache.as_ref().and_then(|cache| cache.get(which));
        if let Some(block) = cached {
            self.blocks.push(block);
            self.block += 1;
            return Ok(());
        }
        let (io, from, count) = (self.io.clone(), self.block, self.at_once);
        let blocks = self
            .io
            .wait(async move { table.read(&io, from, count).await })?;
        self.block += blocks.len();
        if let (Some(cache), Some(first)) = (&self.cache, blocks.first()) {
            cache.put(which, first.clone());
        }
        self.blocks = blocks;
        self.blocks.reverse();
        Ok(())
    }
}
