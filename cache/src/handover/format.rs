//! The snapshot's bytes: a header, the slabs, then each namespace with its entries, and a checksum of it all.
//!
//! Numbers are little-endian; a text stands behind its length. Entries come in blocks, in key order, so that neither side
//! has more than a block of them in memory.

use std::io::{self, Read, Write};

use twox_hash::{XxHash3_64, XxHash3_128};

use crate::arena::{Extent, SlabPlace};

/// The format's version. It also stands for what lies in the regions: [`crate::head`], and how slots lie in their slabs.
/// Whoever changes any of them counts this up.
pub const FORMAT: u32 = 1;

/// Rows of a block, at most.
pub(super) const BLOCK_ROWS: usize = 1_000;

const MAGIC: [u8; 8] = *b"BOWHAND\n";
const ROW_BYTES: usize = 68;
const CHECKSUM_BYTES: u64 = 16;
/// The longest text: settings, as JSON.
const TEXT_BYTES_MAX: u32 = 1 << 16;
const KEPT: u8 = 1;

/// What a successor must know before it maps anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) region_bytes: u64,
    /// The latest version's clock.
    pub(super) hlc: u64,
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

/// A checksum of what an entry's slot has from the head on, and of what the head has in pages of its own: the row alone
/// says where bytes are, and they must be those that it was written for.
pub(super) fn head_checksum(head: &[u8], apart: &[u8]) -> u64 {
    let rest = XxHash3_64::oneshot(apart);
    XxHash3_64::oneshot(head) ^ rest.rotate_left(1)
}

/// Writes a snapshot, and its checksum at the end.
pub(super) struct Encoder<W> {
    out: W,
    hasher: XxHash3_128,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut encoder = Self {
            out,
            hasher: XxHash3_128::new(),
        };
        encoder.put(&MAGIC)?;
        encoder.put(&FORMAT.to_le_bytes())?;
        encoder.put(&header.region_bytes.to_le_bytes())?;
        encoder.put(&header.hlc.to_le_bytes())?;
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

    /// Some entries of the namespace before; none at the end of them.
    pub(super) fn block(&mut self, rows: &[Row]) -> io::Result<()> {
        let count = u32::try_from(rows.len()).map_err(io::Error::other)?;
        self.put(&count.to_le_bytes())?;
        let mut bytes = Vec::with_capacity(rows.len() * ROW_BYTES);
        for row in rows {
            bytes.extend_from_slice(&row.loc.to_le_bytes());
            bytes.extend_from_slice(&row.len.to_le_bytes());
            bytes.extend_from_slice(&row.checksum.to_le_bytes());
            bytes.extend_from_slice(&row.version.0.to_le_bytes());
            bytes.extend_from_slice(&row.version.1.to_le_bytes());
            bytes.extend_from_slice(&row.expires_at_ms.to_le_bytes());
            bytes.extend_from_slice(&row.head.to_le_bytes());
            bytes.extend_from_slice(&row.age.to_le_bytes());
            bytes.extend_from_slice(&row.hits.to_le_bytes());
            bytes.extend_from_slice(&[row.marks, if row.kept { KEPT } else { 0 }]);
        }
        self.put(&bytes)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let checksum = self.hasher.finish_128().to_le_bytes();
        self.out.write_all(&checksum)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.write(bytes);
        self.out.write_all(bytes)
    }
}

/// Whether the last bytes of a snapshot of `len` bytes are the checksum of those before.
pub(super) fn is_whole(mut snapshot: impl Read, len: u64) -> io::Result<bool> {
    let Some(mut left) = len.checked_sub(CHECKSUM_BYTES) else {
        return Ok(false);
    };
    let mut hasher = XxHash3_128::new();
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let step = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        snapshot.read_exact(&mut buffer[..step])?;
        hasher.write(&buffer[..step]);
        left -= step as u64;
    }
    let mut checksum = [0; 16];
    snapshot.read_exact(&mut checksum)?;
    Ok(u128::from_le_bytes(checksum) == hasher.finish_128())
}

/// Reads what [`Encoder`] wrote, in the same order. What cannot be is an error; whether it is whole was asked before.
pub(super) struct Decoder<R> {
    from: R,
}

impl<R: Read> Decoder<R> {
    /// # Errors
    /// `InvalidData` for another format.
    pub(super) fn new(from: R) -> io::Result<(Self, Header)> {
        let mut decoder = Self { from };
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
            slabs: decoder.u32()?,
            namespaces: decoder.u32()?,
        };
        Ok((decoder, header))
    }

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

    pub(super) fn block(&mut self, rows: &mut Vec<Row>) -> io::Result<()> {
        rows.clear();
        let count = self.u32()?;
        if count as usize > BLOCK_ROWS {
            return Err(wrong(format!(
                "too many entries in a block; entries=`{count}`"
            )));
        }
        for _ in 0..count {
            let mut row = Row {
                loc: self.u64()?,
                len: self.u64()?,
                checksum: u128::from_le_bytes(self.bytes()?),
                version: (self.u64()?, self.u32()?),
                expires_at_ms: self.u64()?,
                head: self.u64()?,
                age: self.u32()?,
                hits: self.bytes().map(u16::from_le_bytes)?,
                marks: 0,
                kept: false,
            };
            let [marks, flags] = self.bytes()?;
            (row.marks, row.kept) = (marks, flags & KEPT != 0);
            rows.push(row);
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

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
