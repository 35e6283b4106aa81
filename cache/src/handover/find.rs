//! What a snapshot says is in the regions: looked at, and taken where it is true.
//!
//! Blocks are decoded and looked at one after the other, ahead of who enters them into the index ([`super::enter`]).

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::settings::{NamespaceSettings, SettingsChange};
use bowstring_wire::version::Version;
use twox_hash::XxHash3_128;

use super::adopt::Adopted;
use super::enter::{Block, Ready};
use super::format::{BLOCK_ROWS, Decoder, Header, Row, SpaceRow, head_checksum};
use crate::arena::{ExtentList, LINE_BYTES, Loc, prefetch};
use crate::engine::Engine;
use crate::head::{self, Rest, split};
use crate::id::Name;
use crate::index::Handle;
use crate::index::record::U48_MAX;
use crate::loads::Stage;
use crate::namespaces::Space;
use crate::publish_all::Arrival;

/// One entry in so many has its bytes read and compared.
const SAMPLE: u64 = 64;
/// No more bytes are read for that, as long as all agree: a tenth of a second.
const SAMPLE_BYTES_MAX: u64 = 1 << 30;
/// Lines of a head that are fetched ahead: most are no longer.
const HEAD_LINES: usize = 4;

/// Looks at all that a snapshot names.
pub(super) struct Finder<'e> {
    engine: &'e Arc<Engine>,
    found: SyncSender<Block<'e>>,
    adopted: Adopted,
}

/// Where an entry's memory is, and nobody else's.
struct Found<'a> {
    loc: Loc,
    extents: ExtentList,
    apart: ExtentList,
    key: &'a str,
}

/// Why an entry was not taken over.
enum Dropped {
    Mismatched,
    Refused,
}

impl<'e> Finder<'e> {
    /// Gives what it finds to `found`.
    pub(super) fn new(engine: &'e Arc<Engine>, found: SyncSender<Block<'e>>) -> Self {
        Self {
            engine,
            found,
            adopted: Adopted::default(),
        }
    }

    /// Looks at all of it, and tells what was not found and what was sampled.
    ///
    /// # Errors
    /// Where the snapshot cannot be read.
    pub(super) fn find_all(
        mut self,
        decoder: &mut Decoder<impl Read>,
        header: &Header,
    ) -> io::Result<Adopted> {
        for _ in 0..header.slabs {
            // What lies in one that cannot be is refused entry by entry.
            let _ = self.engine.arena.adopt_slab(decoder.slab()?);
        }
        let mut rows = Vec::with_capacity(BLOCK_ROWS);
        for _ in 0..header.namespaces {
            let home = self.engine.adopt_space(&decoder.space()?);
            self.find_blocks(decoder, &mut rows, home, 0)?;
            for _ in 0..decoder.loads()? {
                let load = decoder.load()?;
                let space = home.and_then(|home| self.engine.adopt_load(home, &load));
                if load.stage == Stage::Open {
                    self.find_blocks(decoder, &mut rows, space, load.number)?;
                }
            }
        }
        Ok(self.adopted)
    }

    /// Looks at the entries of a namespace or a load; those of one that there cannot be are refused.
    fn find_blocks(
        &mut self,
        decoder: &mut Decoder<impl Read>,
        rows: &mut Vec<Row>,
        space: Option<u32>,
        load: u32,
    ) -> io::Result<()> {
        let there = space.and_then(|number| Some((number, self.engine.spaces.at(number)?)));
        loop {
            decoder.block(rows)?;
            if rows.is_empty() {
                return Ok(());
            }
            let Some((space, names)) = there else {
                self.adopted.refused += rows.len() as u64;
                continue;
            };
            let ready = self.find_rows(names, rows);
            // Nobody receives any more only where that one has died.
            let sent = self.found.send(Block { space, load, ready });
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
    }

    fn find_rows(&mut self, names: &Space, rows: &[Row]) -> Vec<Ready<'e>> {
        let engine = self.engine;
        let records = &engine.index.records;
        // They lie anywhere: each is waited for long, and all of them together not much longer.
        let slots: Vec<Option<(Loc, &[u8])>> =
            rows.iter().map(|row| engine.slot_said(row)).collect();
        let mut handles: Vec<Handle> = Vec::with_capacity(rows.len());
        records.alloc_many(rows.len(), &mut handles);
        // From the end on, so that they are used in the order in which they lie.
        handles.reverse();
        let mut ready = Vec::with_capacity(rows.len());
        for (row, slot) in rows.iter().zip(slots) {
            let found = slot.ok_or(Dropped::Refused);
            let found = match found.and_then(|slot| self.find_memory(row, slot)) {
                Ok(found) => found,
                Err(Dropped::Mismatched) => {
                    self.adopted.mismatched += 1;
                    continue;
                }
                Err(Dropped::Refused) => {
                    self.adopted.refused += 1;
                    continue;
                }
            };
            let Some(handle) = handles.pop() else {
                engine.give_up_memory(&[&found.extents, &found.apart], Some(found.loc));
                self.adopted.refused += 1;
                continue;
            };
            engine.arena.set_tag(found.loc, handle.get());
            let name = Name {
                tenant: &names.tenant,
                namespace: &names.namespace,
                key: found.key,
            };
            let arrival = Arrival {
                row: 0,
                hash: engine.hash_of(name),
                key: found.key,
                len: row.len,
                checksum: row.checksum,
                expires_at_ms: Some(row.expires_at_ms).filter(|at| *at > 0),
                slot: found.loc,
                handle,
                expected: None,
                version: None,
            };
            ready.push(Ready {
                row: *row,
                arrival,
                extents: found.extents,
                apart: found.apart,
            });
        }
        if !handles.is_empty() {
            records.free_many(handles.into_iter());
        }
        ready
    }

    /// Looks whether what a row says of an entry is true, and takes its memory.
    fn find_memory(
        &mut self,
        row: &Row,
        (loc, slot): (Loc, &'e [u8]),
    ) -> std::result::Result<Found<'e>, Dropped> {
        let engine = self.engine;
        let plan = split(row.len);
        let head_bytes = slot.get(plan.inline..).ok_or(Dropped::Refused)?;
        let head = head::decode(head_bytes).ok_or(Dropped::Mismatched)?;
        let key = str::from_utf8(head.key)
            .ok()
            .filter(|key| Key::check(key).is_ok());
        let key = key.ok_or(Dropped::Mismatched)?;
        if head.shape.bytes(head.dtype) != Ok(row.len) {
            return Err(Dropped::Mismatched);
        }
        let mut found = Found {
            loc,
            extents: ExtentList::new(),
            apart: ExtentList::new(),
            key,
        };
        let mut apart_bytes = Vec::new();
        let extents = match head.rest {
            Rest::Here { extents, .. } => extents,
            Rest::Apart { extents, bytes } => {
                if !engine.arena.adopt_pages(&extents) {
                    return Err(Dropped::Refused);
                }
                found.apart = extents;
                let read = engine.rest_bytes(&found.apart, bytes);
                let decoded = read.ok().and_then(|read| {
                    let extents = head::decode_rest(&read)?.0;
                    apart_bytes = read;
                    Some(extents)
                });
                match decoded {
                    Some(extents) => extents,
                    None => return Err(engine.dropped(&found)),
                }
            }
        };
        let pages = extents
            .iter()
            .map(|extent| u64::from(extent.pages))
            .sum::<u64>();
        let is_whole =
            pages == u64::from(plan.pages) && head_checksum(head_bytes, &apart_bytes) == row.head;
        if !is_whole {
            return Err(engine.dropped(&found));
        }
        if !engine.arena.adopt_pages(&extents) {
            let _ = engine.dropped(&found);
            return Err(Dropped::Refused);
        }
        found.extents = extents;
        let is_sampled = self.adopted.mismatched > 0
            || (engine.dice().is_multiple_of(SAMPLE)
                && self.adopted.sampled_bytes < SAMPLE_BYTES_MAX);
        if is_sampled {
            self.adopted.sampled += 1;
            self.adopted.sampled_bytes += row.len;
            let inline = slot.get(..plan.inline).unwrap_or_default();
            if engine.checksum_of(&found.extents, row.len, inline) != row.checksum {
                return Err(engine.dropped(&found));
            }
        }
        if !engine.arena.adopt_slot(loc) {
            let _ = engine.dropped(&found);
            return Err(Dropped::Refused);
        }
        Ok(found)
    }
}

impl Engine {
    fn adopt_space(&self, row: &SpaceRow) -> Option<u32> {
        let tenant = Tenant::parse(&row.tenant).ok()?;
        let namespace = Namespace::parse(&row.namespace).ok()?;
        let number = self.spaces.intern(&tenant, &namespace).ok()?;
        let home = self.spaces.at(number)?;
        if let Ok(change) = SettingsChange::parse(&row.settings) {
            let (hlc, start) = row.settings_version;
            let settings = change.apply(&NamespaceSettings::default());
            home.own.adopt(settings, Version { hlc, start });
        }
        for (counter, count) in [
            (&home.hits.0, row.hits),
            (&home.own.misses.0, row.misses),
            (&home.own.evicted, row.evicted),
            (&home.own.expired, row.expired),
        ] {
            counter.store(count, Ordering::Relaxed);
        }
        Some(number)
    }

    /// Where a row says that its entry's slot is, if that can be, and has the processor fetch what is read of it.
    fn slot_said(&self, row: &Row) -> Option<(Loc, &[u8])> {
        let loc = Loc::from_bits(row.loc).filter(|_| row.len <= U48_MAX)?;
        let slot = self.arena.slot_to_adopt(loc)?;
        let head = slot.get(split(row.len).inline..)?;
        let lines = head.iter().step_by(LINE_BYTES).take(HEAD_LINES);
        lines.chain(slot.last()).for_each(prefetch);
        Some((loc, slot))
    }

    fn checksum_of(&self, extents: &ExtentList, len: u64, inline: &[u8]) -> u128 {
        let mut hasher = XxHash3_128::new();
        for piece in self.pieces(extents, len - inline.len() as u64) {
            hasher.write(&piece);
        }
        hasher.write(inline);
        hasher.finish_128()
    }

    /// Gives back the pages of an entry whose bytes are wrong; its slot was not taken yet.
    fn dropped(&self, found: &Found<'_>) -> Dropped {
        self.give_up_memory(&[&found.extents, &found.apart], None);
        Dropped::Mismatched
    }

    /// Gives back what an entry has that is not taken over after all.
    pub(super) fn give_up_memory(&self, pages: &[&ExtentList], slot: Option<Loc>) {
        for extents in pages.iter().filter(|extents| !extents.is_empty()) {
            self.arena.free_pages(extents);
        }
        if let Some(slot) = slot {
            self.arena.free_slot(slot);
        }
    }
}
