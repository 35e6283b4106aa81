//! Rows of the index in the order of their keys, where that lies in the store: blocks, each read and checked by itself,
//! and behind them what is held in memory of a table.
//!
//! ```text
//! blocks | tail
//! block   raw u32 | a frame of zstd | xxh3-64 of both
//! raw     each row: key bytes | 0 u8 (it is gone) or 1 u8, value bytes
//! tail    envelope of kind 5, whose number is the table's, around
//!         shared bytes | blocks varint | each: its length varint, separator bytes | filter bytes
//! ```
//! A key is in the last block whose separator is not above it: a separator is the shortest text above all keys before and
//! not above those behind, without the bytes that are `shared` by all of them but the first, which is empty.

use std::cmp::Ordering;

use bowstring_wire::error::Result;
use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::cursor::{Cursor, put_bytes, put_varint};
use super::envelope::{self, Kind, damaged};
use super::filter::Filter;
use crate::entry::Number;
use crate::room::Room;

const RAW_BYTES: usize = 4;
const SUM_BYTES: usize = 8;
pub(super) const GONE: u8 = 0;
pub(super) const THERE: u8 = 1;
/// More than a block may have: a row of the largest tensor.
const RAW_MAX: usize = 1 << 28;

/// A row: a key, and what it stands for; none where it is gone.
pub type Row = (Bytes, Option<Bytes>);

/// What is held in memory of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    shared: Box<[u8]>,
    /// Where each block ends.
    ends: Box<[u32]>,
    /// What separators have beyond `shared`, one behind the other, and where each ends.
    texts: Box<[u8]>,
    text_ends: Box<[u32]>,
    filter: Filter,
}

impl Tail {
    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.ends.len()
    }

    /// Where in the object a block lies.
    pub fn place(&self, block: usize) -> Option<std::ops::Range<u64>> {
        let end = u64::from(*self.ends.get(block)?);
        let start = block.checked_sub(1).and_then(|at| self.ends.get(at));
        Some(start.map_or(0, |start| u64::from(*start))..end)
    }

    /// The block in which a key is, if it is in any.
    pub fn block_of(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (1, self.blocks());
        while low < high {
            let middle = low.midpoint(high);
            match self.is_above(middle, key) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        low.saturating_sub(1)
    }

    /// Whether the table may have the key of a hash: false is sure.
    pub fn may_have(&self, hash: u64) -> bool {
        self.filter.may_have(hash)
    }

    /// Bytes of memory behind it.
    pub fn resident_bytes(&self) -> u64 {
        let numbers = size_of_val(&*self.ends) + size_of_val(&*self.text_ends);
        let texts = self.shared.len() + self.texts.len();
        (numbers + texts + self.filter.as_bytes().len()) as u64
    }

    /// Whether the separator of a block is above a key.
    fn is_above(&self, block: usize, key: &[u8]) -> bool {
        let shared = self.shared.len();
        let head = key.get(..shared).unwrap_or(key);
        match head.cmp(&self.shared) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => self.text(block) > key.get(shared..).unwrap_or_default(),
        }
    }

    fn text(&self, block: usize) -> &[u8] {
        let at = |nth: usize| self.text_ends.get(nth).map_or(0, |end| index(*end));
        let start = block.checked_sub(1).map_or(0, at);
        self.texts.get(start..at(block)).unwrap_or_default()
    }

    pub(super) fn new(blocks: &[(u32, Vec<u8>)], filter: Filter) -> Tail {
        let separators = blocks.get(1..).unwrap_or_default();
        let ends = separators.first().zip(separators.last());
        let shared = ends.map_or(0, |((_, first), (_, last))| common(first, last));
        let shared_text = ends.and_then(|((_, first), _)| first.get(..shared));
        let (mut texts, mut text_ends) = (Vec::new(), Vec::with_capacity(blocks.len()));
        for (_, separator) in blocks {
            texts.extend_from_slice(separator.get(shared..).unwrap_or_default());
            text_ends.push(small(texts.len()));
        }
        Tail {
            shared: shared_text.unwrap_or_default().into(),
            ends: blocks.iter().map(|(end, _)| *end).collect(),
            texts: texts.into(),
            text_ends: text_ends.into(),
            filter,
        }
    }

    pub(super) fn encode(&self, number: u64) -> Bytes {
        let mut out = envelope::begin(Kind::Table, Number(number));
        put_bytes(&mut out, &self.shared);
        put_varint(&mut out, self.blocks() as u64);
        for block in 0..self.blocks() {
            let place = self.place(block).unwrap_or_default();
            put_varint(&mut out, place.end - place.start);
            put_bytes(&mut out, self.text(block));
        }
        put_bytes(&mut out, self.filter.as_bytes());
        envelope::seal(out)
    }
}

/// Reads the tail of the table of this number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written there, `failed_precondition` for a newer format.
pub fn read_tail(number: u64, bytes: &[u8]) -> Result<Tail> {
    let body = envelope::open(Kind::Table, Number(number), bytes)?;
    read_body(body).ok_or_else(|| damaged(Kind::Table, "its blocks cannot be"))
}

fn read_body(body: &[u8]) -> Option<Tail> {
    let mut cursor = Cursor::new(body);
    let shared = cursor.bytes()?.into();
    let (mut end, mut ends) = (0_u32, Vec::new());
    let (mut texts, mut text_ends) = (Vec::new(), Vec::new());
    for _ in 0..cursor.varint()? {
        end = end.checked_add(u32::try_from(cursor.varint()?).ok()?)?;
        ends.push(end);
        texts.extend_from_slice(cursor.bytes()?);
        text_ends.push(u32::try_from(texts.len()).ok()?);
    }
    let filter = Filter::from_bytes(cursor.bytes()?);
    cursor.left().is_empty().then_some(Tail {
        shared,
        ends: ends.into(),
        texts: texts.into(),
        text_ends: text_ends.into(),
        filter,
    })
}

/// The rows of a block; none where its bytes are not what was written.
pub fn read_block(bytes: &[u8]) -> Option<Bytes> {
    let (checked, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
    if XxHash3_64::oneshot(checked).to_le_bytes() != *sum {
        return None;
    }
    let (raw, frame) = checked.split_first_chunk::<RAW_BYTES>()?;
    let raw = index(u32::from_le_bytes(*raw));
    if raw > RAW_MAX {
        return None;
    }
    let mut rows = Room::new(raw as u64).ok()?;
    let len = zstd::bulk::decompress_to_buffer(frame, rows.as_mut()).ok()?;
    (len == raw).then(|| rows.freeze(len))
}

/// The rows of a block in their order.
#[derive(Debug, Clone)]
pub struct Rows {
    left: Bytes,
}

impl Rows {
    /// Of what [`read_block`] gave.
    pub fn new(block: Bytes) -> Rows {
        Rows { left: block }
    }

    /// What a block has of a key: nothing, that it is gone, or its value.
    pub fn find(block: &Bytes, key: &[u8]) -> Option<Option<Bytes>> {
        let mut left = Cursor::new(block);
        while let Some((found, value)) = row(&mut left) {
            if found >= key {
                return (found == key).then(|| value.map(|value| block.slice_ref(value)));
            }
        }
        None
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let mut cursor = Cursor::new(&self.left);
        let (key, value) = row(&mut cursor)?;
        let row = (
            self.left.slice_ref(key),
            value.map(|value| self.left.slice_ref(value)),
        );
        let left = self.left.len() - cursor.left().len();
        drop(self.left.split_to(left));
        Some(row)
    }
}

fn row<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key = cursor.bytes()?;
    match cursor.u8()? {
        GONE => Some((key, None)),
        THERE => Some((key, Some(cursor.bytes()?))),
        _ => None,
    }
}

/// How many bytes two keys have in common at their beginning.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b);
    same.count()
}

fn small(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::format::filter::hash_of;
    use crate::format::{TableBuilder, TableName};

    type Map = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn build(rows: &Map, block_bytes: usize) -> (Bytes, TableName, Tail) {
        let mut builder = TableBuilder::new(7, block_bytes).unwrap();
        for (key, value) in rows {
            builder.push(key, value.as_deref()).unwrap();
        }
        let built = builder.finish().unwrap();
        (built.file.concat().into(), built.name, built.tail)
    }

    fn block(file: &Bytes, tail: &Tail, at: usize) -> Option<Bytes> {
        let place = tail.place(at).unwrap();
        read_block(&file[place.start as usize..place.end as usize])
    }

    fn rows() -> impl Strategy<Value = Map> {
        let key = prop_oneof!["[ab]{0,4}", "k[0-9]{1,6}"].prop_map(String::into_bytes);
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        prop::collection::btree_map(key, value, 1..200)
    }

    proptest! {
        #[test]
        fn every_row_is_in_its_block_and_no_other_key_is(rows in rows(), block_bytes in 1usize..300, asked in "[abk0-9]{0,4}") {
            let (file, name, tail) = build(&rows, block_bytes);
            prop_assert_eq!(name.rows, rows.len() as u64);
            prop_assert_eq!(name.bytes, file.len() as u64);
            let read = read_tail(7, &file[name.tail_at as usize..]);
            prop_assert_eq!(&read, &Ok(tail.clone()));
            prop_assert!(read_tail(8, &file[name.tail_at as usize..]).is_err());
            for (key, value) in &rows {
                prop_assert!(tail.may_have(hash_of(key)));
                let block = block(&file, &tail, tail.block_of(key)).unwrap();
                let found = Rows::find(&block, key).map(|it| it.map(|it| it.to_vec()));
                prop_assert_eq!(found, Some(value.clone()));
            }
            let all = (0..tail.blocks()).flat_map(|at| Rows::new(block(&file, &tail, at).unwrap()));
            let all: Vec<_> = all.map(|(key, value)| (key.to_vec(), value.map(|it| it.to_vec()))).collect();
            prop_assert_eq!(all, rows.clone().into_iter().collect::<Vec<_>>());
            if !rows.contains_key(asked.as_bytes()) {
                let block = block(&file, &tail, tail.block_of(asked.as_bytes())).unwrap();
                prop_assert_eq!(Rows::find(&block, asked.as_bytes()), None);
            }
        }

        #[test]
        fn a_flipped_bit_is_found(rows in rows(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (file, name, tail) = build(&rows, 100);
            let mut bad = file.to_vec();
            let at = at.index(bad.len());
            bad[at] ^= 1 << bit;
            let bad = Bytes::from(bad);
            let is_tail = at as u64 >= name.tail_at;
            prop_assert_eq!(read_tail(7, &bad[name.tail_at as usize..]).is_err(), is_tail);
            let damaged = (0..tail.blocks()).filter(|at| block(&bad, &tail, *at).is_none());
            prop_assert_eq!(damaged.count(), usize::from(!is_tail));
        }

        #[test]
        fn any_bytes_are_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = envelope::begin(Kind::Table, Number(3));
            out.extend_from_slice(&bytes);
            crate::feed::object(&envelope::seal(out));
            let found = Rows::new(bytes.clone().into()).count();
            prop_assert!(found <= bytes.len());
            let mut sealed = bytes;
            sealed.extend_from_slice(&XxHash3_64::oneshot(&sealed).to_le_bytes());
            let _ = read_block(&sealed);
        }
    }
}
