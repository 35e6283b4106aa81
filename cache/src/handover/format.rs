//! The snapshot: a header, the slabs, then each namespace with its entries and its loads.
//!
//! Numbers are little-endian; a text stands behind its length. Entries come in blocks, in key order, so that neither side
//! has more than a block of them in memory. All of it passes in [frames](super::frames), which say whether it is whole.

use std::io::{self, Read, Write};

use twox_hash::XxHash3_64;

use super::frames::{FrameReader, FrameWriter};
use crate::arena::{Extent, SlabPlace};
use crate::loads::{LoadOutcome, PassedLoad, Stage};

/// The format's version. It also stands for what lies in the regions: [`crate::head`], and how slots lie in their slabs.
/// Whoever changes any of them counts this up.
pub const FORMAT: u32 = 2;

/// Rows of a block, at most.
pub(super) const BLOCK_ROWS: usize = 1_000;

const MAGIC: [u8; 8] = *b"BOWHAND\n";
const ROW_BYTES: usize = 68;
/// The longest text: settings, as JSON.
const TEXT_BYTES_MAX: u32 = 1 << 16;
const KEPT: u8 = 1;
const REPLACES_ALL: u8 = 1;
const BELOW_FORGOTTEN: u8 = 2;

/// What a successor must know before all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) region_bytes: u64,
    /// The latest version's clock.
    pub(super) hlc: u64,
    /// How many entries there are, about.
    pub(super) entries: u64,
    /// The number of the last load that was begun.
    pub(super) last_load: u32,
    pub(super) slabs: u32,
    pub(super) namespaces: u32,
}

/// What a namespace has of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpaceRow {
    pub(super) tenant: String,
    pub(super) namespace: String,
    /// As JSON, with their version; both empty where nothing was ever set.
    pub(super) settings: String,
    pub(super) settings_version: (u64, u32),
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
}

/// What is known of an entry but for what lies in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) loc: u64,
    pub(super) len: u64,
    pub(super) checksum: u128,
    pub(super) version: (u64, u32),
    /// 0 where it never expires.
    pub(super) expires_at_ms: u64,
    /// See [`head_checksum`].
    pub(super) head: u64,
    /// Seconds since it was last asked for.
    pub(super) age: u32,
    pub(super) hits: u16,
    pub(super) marks: u8,
    pub(super) kept: bool,
}

impl Row {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.loc.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&self.version.0.to_le_bytes());
        out.extend_from_slice(&self.version.1.to_le_bytes());
        out.extend_from_slice(&self.expires_at_ms.to_le_bytes());
        out.extend_from_slice(&self.head.to_le_bytes());
        out.extend_from_slice(&self.age.to_le_bytes());
        out.extend_from_slice(&self.hits.to_le_bytes());
        out.extend_from_slice(&[self.marks, if self.kept { KEPT } else { 0 }]);
    }

    fn decode(from: &[u8]) -> io::Result<Row> {
        let mut from = Decoder {
            from,
            rows: Vec::new(),
        };
        let mut row = Row {
            loc: from.u64()?,
            len: from.u64()?,
            checksum: u128::from_le_bytes(from.bytes()?),
            version: (from.u64()?, from.u32()?),
            expires_at_ms: from.u64()?,
            head: from.u64()?,
            age: from.u32()?,
            hits: from.bytes().map(u16::from_le_bytes)?,
            marks: 0,
            kept: false,
        };
        let [marks, flags] = from.bytes()?;
        (row.marks, row.kept) = (marks, flags & KEPT != 0);
        Ok(row)
    }
}

/// A checksum of what an entry's slot has from the head on, and of what the head has in pages of its own: the row alone
/// says where bytes are, and they must be those that it was written for.
pub(super) fn head_checksum(head: &[u8], apart: &[u8]) -> u64 {
    let rest = XxHash3_64::oneshot(apart);
    XxHash3_64::oneshot(head) ^ rest.rotate_left(1)
}

/// Writes a snapshot.
pub(super) struct Encoder<W> {
    out: FrameWriter<W>,
    rows: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut encoder = Self {
            out: FrameWriter::new(out),
            rows: Vec::with_capacity(BLOCK_ROWS * ROW_BYTES),
        };
        encoder.put(&MAGIC)?;
        encoder.put(&FORMAT.to_le_bytes())?;
        encoder.put(&header.region_bytes.to_le_bytes())?;
        encoder.put(&header.hlc.to_le_bytes())?;
        encoder.put(&header.entries.to_le_bytes())?;
        encoder.put(&header.last_load.to_le_bytes())?;
        encoder.put(&header.slabs.to_le_bytes())?;
        encoder.put(&header.namespaces.to_le_bytes())?;
        Ok(encoder)
    }

    pub(super) fn slab(&mut self, slab: SlabPlace) -> io::Result<()> {
        self.put(&slab.extent.to_bits().to_le_bytes())?;
        self.put(&[slab.class])
    }

    pub(super) fn space(&mut self, space: &SpaceRow) -> io::Result<()> {
        for text in [&space.tenant, &space.namespace, &space.settings] {
            let len = u32::try_from(text.len()).map_err(io::Error::other)?;
            self.put(&len.to_le_bytes())?;
            self.put(text.as_bytes())?;
        }
        let (hlc, start) = space.settings_version;
        self.put(&hlc.to_le_bytes())?;
        self.put(&start.to_le_bytes())?;
        for counter in [space.hits, space.misses, space.evicted, space.expired] {
            self.put(&counter.to_le_bytes())?;
        }
        Ok(())
    }

    /// How many loads of the namespace follow.
    pub(super) fn loads(&mut self, count: usize) -> io::Result<()> {
        let count = u32::try_from(count).map_err(io::Error::other)?;
        self.put(&count.to_le_bytes())
    }

    /// One of them. Of an open one blocks of entries follow.
    pub(super) fn load(&mut self, load: &PassedLoad) -> io::Result<()> {
        self.put(&load.number.to_le_bytes())?;
        self.put(&load.start.to_le_bytes())?;
        let replaces_all = if load.replace_all { REPLACES_ALL } else { 0 };
        let forgotten = if load.below_forgotten {
            BELOW_FORGOTTEN
        } else {
            0
        };
        self.put(&[stage_code(load.stage), replaces_all | forgotten])?;
        let LoadOutcome { entries, bytes } = load.outcome;
        for count in [load.declared_bytes, entries, bytes] {
            self.put(&count.to_le_bytes())?;
        }
        Ok(())
    }

    /// Some entries of the namespace or load before; none at the end of them.
    pub(super) fn block(&mut self, rows: &[Row]) -> io::Result<()> {
        let count = u32::try_from(rows.len()).map_err(io::Error::other)?;
        self.put(&count.to_le_bytes())?;
        self.rows.clear();
        for row in rows {
            row.encode(&mut self.rows);
        }
        self.out.write_all(&self.rows)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.out.finish()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }
}

/// Reads what [`Encoder`] wrote, in the same order. What cannot be is an error.
pub(super) struct Decoder<R> {
    from: R,
    rows: Vec<u8>,
}

impl<R: Read> Decoder<FrameReader<R>> {
    /// # Errors
    /// `InvalidData` for another format.
    pub(super) fn new(from: R) -> io::Result<(Self, Header)> {
        let mut decoder = Self {
            from: FrameReader::new(from),
            rows: Vec::new(),
        };
        if decoder.bytes()? != MAGIC {
            return Err(wrong("not a snapshot of a cache".to_owned()));
        }
        let format = decoder.u32()?;
        if format != FORMAT {
            return Err(wrong(format!(
                "a snapshot of another format; format=`{format}` expected=`{FORMAT}`"
            )));
        }
        let header = Header {
            region_bytes: decoder.u64()?,
            hlc: decoder.u64()?,
            entries: decoder.u64()?,
            last_load: decoder.u32()?,
            slabs: decoder.u32()?,
            namespaces: decoder.u32()?,
        };
        Ok((decoder, header))
    }

    /// Sees to it that nothing follows, and that this is the end.
    pub(super) fn end(mut self) -> io::Result<()> {
        match self.from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(wrong("a snapshot that goes on behind its end".to_owned())),
        }
    }
}

impl<R: Read> Decoder<R> {
    pub(super) fn slab(&mut self) -> io::Result<SlabPlace> {
        let extent = Extent::from_bits(self.u64()?);
        let [class] = self.bytes()?;
        Ok(SlabPlace { extent, class })
    }

    pub(super) fn space(&mut self) -> io::Result<SpaceRow> {
        Ok(SpaceRow {
            tenant: self.text()?,
            namespace: self.text()?,
            settings: self.text()?,
            settings_version: (self.u64()?, self.u32()?),
            hits: self.u64()?,
            misses: self.u64()?,
            evicted: self.u64()?,
            expired: self.u64()?,
        })
    }

    pub(super) fn loads(&mut self) -> io::Result<u32> {
        self.u32()
    }

    pub(super) fn load(&mut self) -> io::Result<PassedLoad> {
        let (number, start) = (self.u32()?, self.u32()?);
        let [stage, flags] = self.bytes()?;
        let stage = STAGES.into_iter().find(|known| stage_code(*known) == stage);
        Ok(PassedLoad {
            number,
            start,
            stage: stage.ok_or_else(|| wrong("a load of no known kind".to_owned()))?,
            replace_all: flags & REPLACES_ALL != 0,
            below_forgotten: flags & BELOW_FORGOTTEN != 0,
            declared_bytes: self.u64()?,
            outcome: LoadOutcome {
                entries: self.u64()?,
                bytes: self.u64()?,
            },
        })
    }

    pub(super) fn block(&mut self, rows: &mut Vec<Row>) -> io::Result<()> {
        rows.clear();
        let count = self.u32()? as usize;
        if count > BLOCK_ROWS {
            return Err(wrong(format!(
                "too many entries in a block; entries=`{count}`"
            )));
        }
        self.rows.resize(count * ROW_BYTES, 0);
        self.from.read_exact(&mut self.rows)?;
        for row in self.rows.chunks_exact(ROW_BYTES) {
            rows.push(Row::decode(row)?);
        }
        Ok(())
    }

    fn text(&mut self) -> io::Result<String> {
        let len = self.u32()?;
        if len > TEXT_BYTES_MAX {
            return Err(wrong(format!("a text that is too long; bytes=`{len}`")));
        }
        let mut text = vec![0; len as usize];
        self.from.read_exact(&mut text)?;
        String::from_utf8(text).map_err(|_| wrong("a text that is none".to_owned()))
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

const STAGES: [Stage; 4] = [
    Stage::Open,
    Stage::Committed,
    Stage::RolledBack,
    Stage::Aborted,
];

fn stage_code(stage: Stage) -> u8 {
    match stage {
        Stage::Open => 1,
        Stage::Committed => 2,
        Stage::RolledBack => 3,
        Stage::Aborted => 4,
    }
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
