//! The predecessor's side: what is in the regions, written down.

use std::io::{self, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::format::{BLOCK_ROWS, Encoder, Header, Row, SpaceRow, head_checksum};
use crate::arena::{LINE_BYTES, Loc};
use crate::cache::Cache;
use crate::engine::Engine;
use crate::head::{Rest, split};
use crate::index::Handle;
use crate::index::record::ACCESS_MODULUS;
use crate::namespaces::Space;

/// Threads that look at entries, at most.
const THREADS_MAX: usize = 4;
/// Blocks that each of them looks at in a turn.
const TURN_BLOCKS: usize = 16;

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

    /// Writes down what a successor has to know of what is in the regions. It is [frozen](Cache::set_frozen) and stays so
    /// as long as there is a successor, and nobody has been told of anything that comes later than this.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn export(&self, out: impl Write) -> io::Result<Exported> {
        let engine = self.engine();
        let outline = engine.arena.outline();
        let homes = || {
            let all = engine.spaces.all();
            all.filter(|(number, space)| space.home == *number)
        };
        let count = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let header = Header {
            region_bytes: outline.region_bytes,
            hlc: engine.hlc.last(),
            slabs: count(outline.slabs.len())?,
            namespaces: count(homes().count())?,
        };
        let mut encoder = Encoder::new(out, &header)?;
        for slab in outline.slabs {
            encoder.slab(slab)?;
        }
        let mut exported = Exported::default();
        for (_, home) in homes() {
            encoder.space(&describe(home))?;
            engine.export_entries(home, &mut encoder, &mut exported)?;
        }
        encoder.finish()?;
        Ok(exported)
    }

    /// The regions' files, in order, each once more; `None` for one that is no more.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub fn region_files(&self) -> io::Result<Vec<Option<OwnedFd>>> {
        self.engine().arena.files()
    }
}

impl Engine {
    fn export_entries(
        &self,
        home: &Space,
        encoder: &mut Encoder<impl Write>,
        exported: &mut Exported,
    ) -> io::Result<()> {
        let now_ms = self.clock.now_ms();
        let shown = self.spaces.shown(home);
        let mut keys = shown.keys(self, b"", None);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(THREADS_MAX);
        loop {
            let handles: Vec<Handle> = (keys.by_ref())
                .take(threads * TURN_BLOCKS * BLOCK_ROWS)
                .collect();
            if handles.is_empty() {
                return encoder.block(&[]);
            }
            let share = handles.len().div_ceil(threads).max(BLOCK_ROWS);
            let blocks = std::thread::scope(|scope| {
                // Whoever has started one has a share of its own to look at meanwhile.
                let (own, others) = handles.split_at(share.min(handles.len()));
                let others: Vec<_> = (others.chunks(share))
                    .map(|some| scope.spawn(|| self.rows(some, now_ms)))
                    .collect();
                let mut blocks = self.rows(own, now_ms);
                for other in others {
                    let rows = other.join();
                    blocks.extend(rows.map_err(|_| io::Error::other("a thread has died"))?);
                }
                io::Result::Ok(blocks)
            })?;
            for rows in blocks.iter().filter(|rows| !rows.is_empty()) {
                exported.entries += rows.len() as u64;
                exported.bytes += rows.iter().map(|row| row.len).sum::<u64>();
                encoder.block(rows)?;
            }
        }
    }

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
