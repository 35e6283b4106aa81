//! The successor's side: what a predecessor has written down, taken over as far as it is true.
//!
//! The snapshot is believed as a whole where its checksum agrees. Of each entry then, place and bounds are checked, the
//! head has the checksum that it was written down with, and one in [`SAMPLE`] is read whole and compared with its own.
//! Whatever does not agree is dropped, and from the first whose bytes do not on, all are read.

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::settings::{NamespaceSettings, SettingsChange};
use bowstring_wire::version::Version;
use twox_hash::XxHash3_128;

use super::format::{BLOCK_ROWS, Decoder, Header, Row, SpaceRow, head_checksum, is_whole};
use crate::arena::{ExtentList, Loc};
use crate::cache::Cache;
use crate::config::{CacheConfig, Parts};
use crate::engine::{Engine, policy_hash};
use crate::evict::Enter;
use crate::head::{self, Rest, split};
use crate::index::record::{ACCESS_MODULUS, U48_MAX};
use crate::index::{Fields, Finger, Handle};
use crate::publish::Draft;
use crate::publish_all::Arrival;
use crate::victim::{Evicted, Terms};

/// One entry in so many has its bytes read and compared.
const SAMPLE: u64 = 64;
/// No more bytes are read for that, as long as all agree: a tenth of a second.
const SAMPLE_BYTES_MAX: u64 = 1 << 30;
/// A slab fuller than this is not worth emptying.
const COMPACT_FILL_MAX: u8 = 90;
/// Victims between two looks at the slabs.
const VICTIMS_A_COMPACTION: u64 = 32;
/// Entries that a policy is told of at once.
const POLICY_STEP: usize = 4_096;

/// What a predecessor has handed on, whole.
#[derive(Debug)]
pub struct Handed {
    snapshot: File,
    regions: Vec<Option<OwnedFd>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Entries taken over.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
    /// Entries whose bytes were read and compared.
    pub sampled: u64,
    /// How many bytes that were.
    pub sampled_bytes: u64,
    /// Entries dropped because bytes were not those that they should be.
    pub mismatched: u64,
    /// Entries dropped for another reason: a place that cannot be, or no room.
    pub refused: u64,
    /// Entries evicted because there is less memory than before.
    pub evicted: u64,
}

/// A cache that has been taken over, but for what is free in it.
#[must_use = "without its end, nothing that is free can be used"]
pub struct Adoption {
    cache: Cache,
    adopted: Adopted,
}

impl Handed {
    /// Reads the snapshot through.
    ///
    /// # Errors
    /// `InvalidData` where it is damaged or of another format.
    pub fn open(mut snapshot: File, regions: Vec<Option<OwnedFd>>) -> io::Result<Self> {
        let len = snapshot.metadata()?.len();
        snapshot.rewind()?;
        if !is_whole(&mut snapshot, len)? {
            let what = "the snapshot of the cache is damaged";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        decode(&snapshot)?;
        Ok(Self { snapshot, regions })
    }
}

impl Cache {
    /// A cache with what a predecessor has handed on. Until [`Adoption::settle`] it is only to be looked at, and its ledger
    /// lends it whatever it takes: no more is charged to the machine than already was.
    ///
    /// # Errors
    /// Those of [`Cache::with_parts`]; `internal` where the regions cannot be mapped.
    pub fn succeed(
        mut config: CacheConfig,
        parts: Parts,
        handed: Handed,
    ) -> Result<(Self, Adoption)> {
        let Handed { snapshot, regions } = handed;
        let (mut decoder, header) = decode(&snapshot).map_err(unreadable)?;
        config.region_bytes = Some(header.region_bytes);
        let cache = Self::of(Arc::new(Engine::over(config, parts, regions)?));
        let engine = cache.engine();
        engine.ledger.set_total(u64::MAX);
        engine.hlc.observe(header.hlc);
        let mut adopted = Adopted::default();
        for _ in 0..header.slabs {
            // What lies in one that cannot be is refused entry by entry.
            let _ = engine.arena.adopt_slab(decoder.slab().map_err(unreadable)?);
        }
        let mut newcomers = Vec::new();
        let mut rows = Vec::with_capacity(BLOCK_ROWS);
        for _ in 0..header.namespaces {
            let space = decoder.space().map_err(unreadable)?;
            let home = engine.adopt_space(&space);
            loop {
                decoder.block(&mut rows).map_err(unreadable)?;
                if rows.is_empty() {
                    break;
                }
                match home {
                    Some(home) => engine.adopt_rows(home, &rows, &mut adopted, &mut newcomers),
                    None => adopted.refused += rows.len() as u64,
                }
            }
        }
        engine.tell_policy_in_turn(newcomers);
        engine.charge_overhead();
        let adoption = Adoption {
            cache: cache.clone(),
            adopted,
        };
        Ok((cache, adoption))
    }
}

impl Adoption {
    /// What was taken over.
    pub fn adopted(&self) -> Adopted {
        self.adopted
    }

    /// Once the predecessor is no more: what was not taken over is free, and where there is less memory than there was,
    /// entries go until what is left fits.
    pub fn settle(mut self) -> Adopted {
        let engine = self.cache.engine();
        engine.arena.settle();
        let memory = engine.config.memory;
        let mut looks = 4 * self.adopted.entries + 1_024;
        while engine.ledger.used() > memory && looks > 0 {
            looks -= 1;
            engine.arena.give_back(engine.ledger.used() - memory);
            if engine.ledger.used() <= memory {
                break;
            }
            match engine.evict(Terms::default()) {
                Evicted::One => self.adopted.evicted += 1,
                Evicted::Later => {}
                Evicted::Nothing if engine.compact(COMPACT_FILL_MAX) => {}
                Evicted::Nothing => break,
            }
            if looks.is_multiple_of(VICTIMS_A_COMPACTION) {
                engine.compact(COMPACT_FILL_MAX);
            }
        }
        engine.charge_overhead();
        engine.ledger.set_total(memory);
        self.adopted
    }
}

/// An entry that a policy has yet to be told of.
struct Newcomer {
    age: u32,
    handle: Handle,
    hash: u32,
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

    /// Takes a block of entries over.
    fn adopt_rows(
        self: &Arc<Self>,
        home: u32,
        rows: &[Row],
        adopted: &mut Adopted,
        newcomers: &mut Vec<Newcomer>,
    ) {
        let Some(space) = self.spaces.at(home) else {
            return;
        };
        let mut drafts = Vec::with_capacity(rows.len());
        for row in rows {
            match self.find_memory(row, adopted) {
                Ok(found) => match self.index.records.alloc() {
                    Some(handle) => {
                        let Found {
                            loc,
                            extents,
                            apart,
                            key,
                        } = found;
                        let hash = self.hash_in(space, key.as_bytes());
                        let draft = Draft::new(Arc::clone(self), handle, loc, extents, apart);
                        drafts.push((row, key, hash, handle, loc, draft));
                    }
                    None => {
                        self.let_go_of_memory(&found);
                        adopted.refused += 1;
                    }
                },
                Err(Dropped::Mismatched) => adopted.mismatched += 1,
                Err(Dropped::Refused) => adopted.refused += 1,
            }
        }
        drafts.sort_by(|one, next| one.1.cmp(next.1));
        let mut shards = (self.index.table).lock_all(drafts.iter().map(|draft| draft.2));
        let Some(mut base) = self.base_for(home, 0) else {
            return;
        };
        let mut finger = Finger::default();
        let (mut count, mut bytes) = (0, 0);
        let mut published = Vec::with_capacity(drafts.len());
        for (row, key, hash, handle, slot, draft) in drafts {
            let fields = Fields {
                namespace: base.view.base(),
                last_access: self.second().wrapping_sub(row.age) % ACCESS_MODULUS,
                ..Fields::default()
            };
            let arrival = Arrival {
                row: 0,
                hash,
                key,
                len: row.len,
                checksum: row.checksum,
                expires_at_ms: Some(row.expires_at_ms).filter(|at| *at > 0),
                slot,
                handle,
                expected: None,
                version: None,
            };
            let (hlc, start) = row.version;
            let version = Version { hlc, start };
            if !self.publish_in(
                &mut shards,
                &mut base,
                &mut finger,
                &arrival,
                version,
                &fields,
            ) {
                adopted.refused += 1;
                continue;
            }
            // Its memory is the index's now.
            let _ = draft.into_handle();
            count += 1;
            bytes += row.len;
            let record = self.record(handle);
            record.set_hits(row.hits);
            record.set_marks(u32::from(row.marks).min(MARKS_MAX));
            if row.kept {
                self.pins.add(self.footprint(self.record(handle)));
                self.record(handle).set_kept(true);
            } else {
                newcomers.push(Newcomer {
                    age: row.age,
                    handle,
                    hash: policy_hash(hash),
                });
            }
            published.push((handle, arrival.expires_at_ms));
        }
        base.space.add_all(count, bytes, false);
        drop(base);
        drop(shards);
        for (handle, expires_at_ms) in published {
            self.expiry.note(handle, expires_at_ms);
        }
        adopted.entries += count;
        adopted.bytes += bytes;
    }

    /// Looks whether what a row says of an entry is true, and takes its memory.
    fn find_memory(
        &self,
        row: &Row,
        adopted: &mut Adopted,
    ) -> std::result::Result<Found<'_>, Dropped> {
        let refused = || Dropped::Refused;
        let loc = Loc::from_bits(row.loc).filter(|_| row.len <= U48_MAX);
        let loc = loc.ok_or_else(refused)?;
        let plan = split(row.len);
        let slot = self.arena.slot_to_adopt(loc).ok_or_else(refused)?;
        let head_bytes = slot.get(plan.inline..).ok_or_else(refused)?;
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
                if !self.arena.adopt_pages(&extents) {
                    return Err(Dropped::Refused);
                }
                found.apart = extents;
                let read = self.rest_bytes(&found.apart, bytes);
                let decoded = read.ok().and_then(|read| {
                    let extents = head::decode_rest(&read)?.0;
                    apart_bytes = read;
                    Some(extents)
                });
                match decoded {
                    Some(extents) => extents,
                    None => return Err(self.dropped(&found)),
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
            return Err(self.dropped(&found));
        }
        if !self.arena.adopt_pages(&extents) {
            let _ = self.dropped(&found);
            return Err(Dropped::Refused);
        }
        found.extents = extents;
        let is_sampled = adopted.mismatched > 0
            || (self.dice().is_multiple_of(SAMPLE) && adopted.sampled_bytes < SAMPLE_BYTES_MAX);
        if is_sampled {
            adopted.sampled += 1;
            adopted.sampled_bytes += row.len;
            let inline = slot.get(..plan.inline).unwrap_or_default();
            if self.checksum_of(&found.extents, row.len, inline) != row.checksum {
                return Err(self.dropped(&found));
            }
        }
        if !self.arena.adopt_slot(loc) {
            let _ = self.dropped(&found);
            return Err(Dropped::Refused);
        }
        Ok(found)
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
        for extents in [&found.extents, &found.apart] {
            if !extents.is_empty() {
                self.arena.free_pages(extents);
            }
        }
        Dropped::Mismatched
    }

    fn let_go_of_memory(&self, found: &Found<'_>) {
        let _ = self.dropped(found);
        self.arena.free_slot(found.loc);
    }

    /// Tells the policy of all, what was not asked for longest first.
    fn tell_policy_in_turn(&self, mut newcomers: Vec<Newcomer>) {
        newcomers.sort_by_key(|one| std::cmp::Reverse(one.age));
        for step in newcomers.chunks(POLICY_STEP) {
            let entries: Vec<(Handle, u32)> =
                step.iter().map(|one| (one.handle, one.hash)).collect();
            (self.policy).insert_all(&self.index.records, &entries, Enter::Known);
        }
    }
}

/// The most that a record counts.
const MARKS_MAX: u32 = 3;

fn decode(mut snapshot: &File) -> io::Result<(Decoder<BufReader<&File>>, Header)> {
    snapshot.rewind()?;
    Decoder::new(BufReader::with_capacity(1 << 16, snapshot))
}

fn unreadable(error: io::Error) -> Error {
    Error::internal(format!(
        "what was handed on cannot be read; error=`{error}`"
    ))
}
