//! The successor's side: what a predecessor has written down, taken over as far as it is true.
//!
//! The snapshot is believed as a whole where its checksum agrees. Of each entry then, place and bounds are checked, the
//! head has the checksum that it was written down with, and one in 64 is read whole and compared with its own.
//! Whatever does not agree is dropped, and from the first whose bytes do not on, all are read.

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bowstring_wire::error::{Error, Result};

use super::enter::{Entered, Newcomer};
use super::find::Finder;
use super::format::{Decoder, Header, is_whole};
use crate::cache::Cache;
use crate::config::{CacheConfig, Parts};
use crate::engine::Engine;
use crate::evict::Enter;
use crate::index::Handle;
use crate::victim::{Evicted, Terms};

/// A slab fuller than this is not worth emptying.
const COMPACT_FILL_MAX: u8 = 90;
/// Victims between two looks at the slabs.
const VICTIMS_A_COMPACTION: u64 = 32;
/// Entries that a policy is told of at once.
const POLICY_STEP: usize = 4_096;
/// Blocks that wait to be entered.
const BLOCKS_AHEAD: usize = 8;

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
        let mut newcomers = Vec::new();
        let (found, blocks) = sync_channel(BLOCKS_AHEAD);
        // To look at what lies in the regions and to enter it into the index takes about as long: one thread each.
        let (adopted, entered) = std::thread::scope(|scope| {
            let finder = Finder::new(engine, found);
            let finding = std::thread::Builder::new()
                .name("adopt".to_owned())
                .spawn_scoped(scope, move || finder.find_all(&mut decoder, &header))?;
            let mut entered = Entered::default();
            for block in blocks {
                engine.enter(block, &mut entered, &mut newcomers);
            }
            let found = finding.join();
            let found = found.unwrap_or_else(|_| Err(io::Error::other("a thread has died")))?;
            Ok((found, entered))
        })
        .map_err(unreadable)?;
        let adopted = Adopted {
            entries: entered.entries,
            bytes: entered.bytes,
            refused: adopted.refused + entered.refused,
            ..adopted
        };
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

impl Engine {
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

fn decode(mut snapshot: &File) -> io::Result<(Decoder<BufReader<&File>>, Header)> {
    snapshot.rewind()?;
    Decoder::new(BufReader::with_capacity(1 << 16, snapshot))
}

fn unreadable(error: io::Error) -> Error {
    Error::internal(format!(
        "what was handed on cannot be read; error=`{error}`"
    ))
}
