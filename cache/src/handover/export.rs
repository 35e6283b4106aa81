//! The predecessor's side: what is in the regions, written down.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::format::{BLOCK_ROWS, Encoder, Header, Row, SpaceRow, head_checksum};
use crate::arena::{LINE_BYTES, Loc};
use crate::cache::Cache;
use crate::engine::Engine;
use crate::head::{Rest, split};
use crate::index::Handle;
use crate::index::record::ACCESS_MODULUS;
use crate::loads::{Load, Stage};
use crate::namespaces::Space;

/// Threads that look at entries, at most.
const THREADS_MAX: usize = 4;
/// Entries that one of them looks at in a turn: some milliseconds of work.
const TURN_ROWS: usize = 8 * BLOCK_ROWS;

/// What was written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries.
    pub entries: u64,
    /// Their tensors' bytes.
    pub bytes: u64,
}

impl Cache {
    /// Has nothing that is in memory be written over from now on, or lets that be again: puts wait for room, and nothing is
    /// evicted for them.
    pub fn set_frozen(&self, frozen: bool) {
        self.engine().arena.set_frozen(frozen);
    }

    /// Lets there be no more regions, or lets them come again: a successor can be given [all](Cache::region_files) that there
    /// are, before the cache is frozen. What does not fit into those finds no more memory than there is.
    pub fn set_regions_fixed(&self, fixed: bool) {
        self.engine().arena.set_regions_fixed(fixed);
    }

    /// Writes down what a successor has to know of what is in the regions. It is [frozen](Cache::set_frozen) and stays so
    /// as long as there is a successor, and nobody has been told of anything that comes later than this.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn export(&self, out: impl Write) -> io::Result<Exported> {
        let engine = self.engine();
        let outline = engine.arena.outline();
        let homes: Vec<&Space> = {
            let all = engine.spaces.all();
            all.filter_map(|(number, space)| (space.home == number).then_some(space))
                .collect()
        };
        let (last_load, loads) = engine.loads_to_pass();
        let count = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let header = Header {
            region_bytes: outline.region_bytes,
            hlc: engine.hlc.last(),
            entries: engine.index.records.used(),
            last_load,
            slabs: count(outline.slabs.len())?,
            namespaces: count(homes.len())?,
        };
        let mut writing = Writing {
            engine,
            now_ms: engine.clock.now_ms(),
            encoder: Encoder::new(out, &header)?,
            exported: Exported::default(),
        };
        for slab in outline.slabs {
            writing.encoder.slab(slab)?;
        }
        for home in homes {
            let loads = loads.get(&home.home).map_or(&[][..], Vec::as_slice);
            writing.namespace(home, loads)?;
        }
        writing.encoder.finish()?;
        Ok(writing.exported)
    }

    /// The regions' files, in order, each once more; `None` for one that is no more.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub fn region_files(&self) -> io::Result<Vec<Option<OwnedFd>>> {
        self.engine().arena.files()
    }
}

/// A snapshot that is being written.
struct Writing<'e, W> {
    engine: &'e Engine,
    now_ms: u64,
    encoder: Encoder<W>,
    exported: Exported,
}

impl<W: Write> Writing<'_, W> {
    /// A namespace and its loads. Until all of that is written its base is locked, so that no load is committed meanwhile: one
    /// that a client sees committed is so here, and shows.
    fn namespace(&mut self, home: &Space, loads: &[Arc<Load>]) -> io::Result<()> {
        let engine = self.engine;
        self.encoder.space(&describe(home))?;
        // A successor does not know the files that these are rows of.
        if home.check_writable().is_err() {
            self.encoder.block(&[])?;
            return self.encoder.loads(0);
        }
        let shown = engine.spaces.shown(home);
        match shown.plain_keys(engine) {
            Some(keys) => self.entries(keys)?,
            None => self.entries(shown.keys(engine, b"", None))?,
        }
        self.encoder.loads(loads.len())?;
        for load in loads {
            let passed = load.passed();
            self.encoder.load(&passed)?;
            if passed.stage != Stage::Open {
                continue;
            }
            match engine.spaces.at(load.space) {
                Some(space) => {
                    let order = space.order.read();
                    self.entries(order.prefix(b"", None, engine))?;
                }
                None => self.encoder.block(&[])?,
            }
        }
        Ok(())
    }

    /// Entries in the order of their keys, which is locked. Some threads look at them, each at a few thousand in its turn, while
    /// this one writes down what they have seen.
    fn entries(&mut self, mut keys: impl Iterator<Item = Handle>) -> io::Result<()> {
        let (engine, now_ms) = (self.engine, self.now_ms);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(THREADS_MAX);
        std::thread::scope(|scope| {
            let mut turns = VecDeque::new();
            loop {
                while turns.len() <= threads {
                    let handles: Vec<Handle> = keys.by_ref().take(TURN_ROWS).collect();
                    if handles.len() < TURN_ROWS && turns.is_empty() {
                        // So few that no thread is worth it: there are thousands of namespaces.
                        self.write(&engine.rows(&handles, now_ms))?;
                        return self.encoder.block(&[]);
                    }
                    if handles.is_empty() {
                        break;
                    }
                    let turn = std::thread::Builder::new()
                        .name("hand on".to_owned())
                        .spawn_scoped(scope, move || engine.rows(&handles, now_ms))?;
                    turns.push_back(turn);
                }
                let Some(turn) = turns.pop_front() else {
                    return self.encoder.block(&[]);
                };
                let blocks = turn.join();
                self.write(&blocks.map_err(|_| io::Error::other("a thread has died"))?)?;
            }
        })
    }

    fn write(&mut self, blocks: &[Vec<Row>]) -> io::Result<()> {
        for rows in blocks.iter().filter(|rows| !rows.is_empty()) {
            self.exported.entries += rows.len() as u64;
            self.exported.bytes += rows.iter().map(|row| row.len).sum::<u64>();
            self.encoder.block(rows)?;
        }
        Ok(())
    }
}

impl Engine {
    /// A block after the other. Their order is locked.
    fn rows(&self, handles: &[Handle], now_ms: u64) -> Vec<Vec<Row>> {
        let blocks = handles.chunks(BLOCK_ROWS).map(|handles| {
            self.look_ahead_at(handles);
            let rows = handles
                .iter()
                .filter_map(|&handle| self.row(handle, now_ms));
            rows.collect()
        });
        blocks.collect()
    }

    /// Has the processor fetch what is read of these entries: they lie anywhere, and so the waits for them overlap.
    fn look_ahead_at(&self, handles: &[Handle]) {
        for handle in handles {
            self.index.records.prefetch(*handle);
        }
        for record in handles.iter().map(|handle| self.record(*handle)) {
            if let Some(loc) = Loc::from_bits(record.loc()) {
                let head = split(record.len()).inline;
                self.arena.prefetch_line(loc, head);
                self.arena.prefetch_line(loc, head + LINE_BYTES);
            }
        }
    }

    /// An entry whose order is locked; `None` where it is of no use any more.
    fn row(&self, handle: Handle, now_ms: u64) -> Option<Row> {
        let record = self.record(handle);
        let expires_at_ms = record.expires_at_ms();
        if !record.is_live() || expires_at_ms.is_some_and(|at| at <= now_ms) {
            return None;
        }
        let head = self.slot(record).get(split(record.len()).inline..)?;
        let apart = match self.head(record).ok()?.rest {
            Rest::Here { .. } => Vec::new(),
            Rest::Apart { extents, bytes } => self.rest_bytes(&extents, bytes).ok()?,
        };
        let now = self.second() % ACCESS_MODULUS;
        let age = now.wrapping_sub(record.last_access()) % ACCESS_MODULUS;
        Some(Row {
            loc: record.loc(),
            len: record.len(),
            checksum: record.checksum(),
            version: record.version(),
            expires_at_ms: expires_at_ms.unwrap_or(0),
            head: head_checksum(head, &apart),
            age,
            hits: u16::try_from(record.hits()).unwrap_or(u16::MAX),
            marks: u8::try_from(record.marks()).unwrap_or(u8::MAX),
            kept: record.is_kept(),
        })
    }
}

fn describe(home: &Space) -> SpaceRow {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    // A successor has a settings file of its own.
    let (settings, version) = home.own.given();
    SpaceRow {
        tenant: home.tenant.as_str().to_owned(),
        namespace: home.namespace.as_str().to_owned(),
        settings: version.map_or_else(String::new, |_| settings.to_json()),
        settings_version: version.map_or((0, 0), |version| (version.hlc, version.start)),
        hits: read(&home.hits.0),
        misses: read(&home.own.misses.0),
        evicted: read(&home.own.evicted),
        expired: read(&home.own.expired),
    }
}
