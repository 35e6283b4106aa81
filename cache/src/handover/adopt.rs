//! The successor's side: what a predecessor has written down, taken over as far as it is true.
//!
//! The snapshot is read while it may still be written, a frame after the other; one that does not have its checksum, or
//! does not come, ends the taking over. Of each entry place and bounds are checked, the head has the checksum that it
//! was written down with, and one in 64 is read whole and compared with its own. Whatever does not agree is dropped, and
//! from the first whose bytes do not on, all are read.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bowstring_wire::error::{Error, Result};

use super::enter::{Entered, Entering, Newcomer};
use super::find::Finder;
use super::format::Decoder;
use crate::arena::Arena;
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

/// What a predecessor hands on.
pub struct Handed {
    snapshot: Box<dyn Read + Send>,
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

/// A cache over regions of which it does not know yet what is in them.
#[must_use = "it is no cache yet"]
pub struct Prepared {
    cache: Cache,
    /// Whether there are any.
    is_there: bool,
}

/// A cache that has been taken over, but for what is free in it.
#[must_use = "without its end, nothing that is free can be used"]
pub struct Adoption {
    cache: Cache,
    adopted: Adopted,
    /// What the policy does not know of yet.
    newcomers: Vec<Newcomer>,
}

impl Handed {
    /// The snapshot from its first byte on, which may still be written; and the regions' files, in order, `None` for one that
    /// is no more.
    #[must_use]
    pub fn new(snapshot: impl Read + Send + 'static, regions: Vec<Option<OwnedFd>>) -> Self {
        Self {
            snapshot: Box::new(snapshot),
            regions,
        }
    }
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed")
            .field("regions", &self.regions.len())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// A cache with what a predecessor has handed on. Until [`Adoption::settle`] it is only to be looked at, and its ledger
    /// lends it whatever it takes: no more is charged to the machine than already was.
    ///
    /// # Errors
    /// Those of [`Cache::with_parts`]; `internal` where the snapshot is damaged, of another format or ends too early, and where
    /// the regions cannot be mapped. Nothing of what was handed on has changed then.
    pub fn succeed(config: CacheConfig, parts: Parts, handed: Handed) -> Result<(Self, Adoption)> {
        let Handed { snapshot, regions } = handed;
        Self::over(config, parts, regions)?.adopt(snapshot)
    }

    /// A cache over a predecessor's regions, of which it is not known yet what is in them, and may still change.
    ///
    /// # Errors
    /// Those of [`Cache::with_parts`]; `internal` where the regions cannot be mapped.
    pub fn over(
        mut config: CacheConfig,
        parts: Parts,
        regions: Vec<Option<OwnedFd>>,
    ) -> Result<Prepared> {
        let is_there = regions.iter().any(Option::is_some);
        config.region_bytes = Arena::region_bytes_of(&regions)
            .map_err(unreadable)?
            .or(config.region_bytes);
        let cache = Self::of(Arc::new(Engine::over(config, parts, regions)?));
        Ok(Prepared { cache, is_there })
    }
}

impl Prepared {
    /// Maps what lies in the regions, so that this need not be done later.
    pub fn map_ahead(&self) {
        self.cache.engine().arena.map_ahead();
    }

    /// As [`Cache::succeed`].
    ///
    /// # Errors
    /// As there.
    pub fn adopt(self, snapshot: impl Read + Send) -> Result<(Cache, Adoption)> {
        let Self { cache, is_there } = self;
        let (mut decoder, header) = Decoder::new(snapshot).map_err(unreadable)?;
        let own_bytes = cache.engine().arena.region_bytes();
        if is_there && own_bytes != header.region_bytes {
            return Err(unreadable(io::Error::other(format!(
                "regions of another size; region_bytes=`{own_bytes}` expected=`{}`",
                header.region_bytes
            ))));
        }
        let engine = cache.engine();
        engine.ledger.set_total(u64::MAX);
        engine.hlc.observe(header.hlc);
        engine.number_loads_after(header.last_load);
        let entries = header.entries;
        let (found, blocks) = sync_channel(BLOCKS_AHEAD);
        // To look at what lies in the regions and to enter it into the index takes about as long: one thread each.
        let (adopted, entered) = std::thread::scope(|scope| {
            let finder = Finder::new(engine, found);
            let finding = std::thread::Builder::new()
                .name("adopt".to_owned())
                .spawn_scoped(scope, move || {
                    let adopted = finder.find_all(&mut decoder, &header)?;
                    decoder.end().map(|()| adopted)
                })?;
            let mut entering = Entering::new(engine, entries);
            for block in blocks {
                entering.enter(block);
            }
            let found = finding.join();
            let found = found.unwrap_or_else(|_| Err(io::Error::other("a thread has died")))?;
            Ok((found, entering.end()))
        })
        .map_err(unreadable)?;
        let Entered { newcomers, .. } = entered;
        let adopted = Adopted {
            entries: entered.entries,
            bytes: entered.bytes,
            refused: adopted.refused + entered.refused,
            ..adopted
        };
        engine.charge_overhead();
        let adoption = Adoption {
            cache: cache.clone(),
            adopted,
            newcomers,
        };
        Ok((cache, adoption))
    }
}

impl Adoption {
    /// What was taken over.
    pub fn adopted(&self) -> Adopted {
        self.adopted
    }

    /// Does what needs nothing of the predecessor, which may still be ending: has whoever evicts know all that was taken over.
    pub fn rank(mut self) -> Self {
        let newcomers = std::mem::take(&mut self.newcomers);
        self.cache.engine().tell_policy_in_turn(newcomers);
        self
    }

    /// Once the predecessor is no more: what was not taken over is free, and where there is less memory than there was,
    /// entries go until what is left fits.
    pub fn settle(self) -> Adopted {
        let Self {
            cache, mut adopted, ..
        } = self.rank();
        let engine = cache.engine();
        engine.arena.settle();
        let memory = engine.config.memory;
        let mut looks = 4 * adopted.entries + 1_024;
        while engine.ledger.used() > memory && looks > 0 {
            looks -= 1;
            engine.arena.give_back(engine.ledger.used() - memory);
            if engine.ledger.used() <= memory {
                break;
            }
            match engine.evict(Terms::default()) {
                Evicted::One => adopted.evicted += 1,
                Evicted::Later => {}
                Evicted::Nothing if engine.compact(COMPACT_FILL_MAX) => {}
                // What cannot be evicted does not fit either: its client is told, and may begin again.
                Evicted::Nothing if engine.abort_largest_load() => {}
                Evicted::Nothing => break,
            }
            if looks.is_multiple_of(VICTIMS_A_COMPACTION) {
                engine.compact(COMPACT_FILL_MAX);
            }
        }
        engine.charge_overhead();
        engine.ledger.set_total(memory);
        adopted
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

fn unreadable(error: io::Error) -> Error {
    Error::internal(format!(
        "what was handed on cannot be read; error=`{error}`"
    ))
}
