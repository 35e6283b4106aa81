//! One tensor on its way in.
//!
//! Its bytes go straight into pages that nobody else knows of, the checksum taken beside the copy;
//! what fills no whole page waits in a small buffer, for it will lie beside the head, which is made
//! last. `publish` swaps all of it into the index. Until then, dropping the put gives everything
//! back: there is no other state.

use std::sync::Arc;

pub use bowstring_wire::descriptor::{Admit, Mode};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::cache::Cache;
use crate::engine::{Engine, PinnedHere};
use crate::filling::Filling;
use crate::head::Kept;
use crate::id::Id;
use crate::index::Mark;
use crate::judge::{self, Candidate, Judged, check_checksum};
use crate::loads::Load;
use crate::look::Seen;
use crate::publish::Coming;
use crate::read::Entry;

/// What is known of a tensor before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutSpec {
    /// Element type.
    pub dtype: DType,
    /// What to do where the key is there already.
    pub mode: Mode,
    /// Publish only over this version, whatever `mode` says.
    pub if_version: Option<Version>,
    /// The entry's own metadata as the caller encodes it; given back unread. At most
    /// [`METADATA_BYTES_MAX`].
    pub metadata: Vec<u8>,
    /// Unix milliseconds from when on the entry is a miss; `None` is as its namespace has it set,
    /// or never.
    pub expires_at_ms: Option<u64>,
    /// The load that this put belongs to, as [`Cache::load`] gave it; 0 is none.
    pub load: u32,
    /// Not to be evicted, whether it is stored or was there already.
    pub pin: bool,
    /// Where the eviction policy lets it in.
    pub admit: Admit,
    /// To be answered once the tier below has it too.
    pub below: bool,
    /// Bytes of the tensor, where they are known: reserved at once by the first
    /// [`Put::reserve`].
    pub size_bytes: Option<u64>,
    /// What xxh3-128 of the tensor's bytes must be.
    pub checksum: Option<u128>,
    /// The version that the tensor's source gives it. Where it is given, it decides instead of
    /// `mode`: a higher one than that of what is there (or one where that has none) replaces it, any
    /// other lets it stay.
    pub source_version: Option<i64>,
}

impl PutSpec {
    /// A plain write-once put.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            mode: Mode::Create,
            if_version: None,
            metadata: Vec::new(),
            expires_at_ms: None,
            load: 0,
            pin: false,
            admit: Admit::Hot,
            below: false,
            size_bytes: None,
            checksum: None,
            source_version: None,
        }
    }
}

/// The most that [`PutSpec::metadata`] may be: what the wire allows, and room for an encoding.
pub const METADATA_BYTES_MAX: usize = 4 * bowstring_wire::limits::MAX_METADATA_BYTES;

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The version that the key has now.
    pub version: Version,
    /// True when what was there stayed and nothing was stored.
    pub existed: bool,
    /// Bytes of the tensor that was put.
    pub bytes: u64,
}

/// One tensor on its way in. Dropping it gives everything back.
pub struct Put {
    engine: Arc<Engine>,
    id: Id,
    hash: u64,
    spec: PutSpec,
    load: Option<Arc<Load>>,
    room: Filling,
    written: u64,
}

impl Cache {
    /// Begins to put one tensor, and refuses what can be refused already.
    ///
    /// # Errors
    /// `invalid_argument` for metadata that is too long, `failed_precondition` for an `if_version`
    /// that does not hold, `already_exists` where dtype or size alone show that `create` will
    /// fail, `resource_exhausted` for a size that cannot ever fit.
    pub fn put(&self, id: Id, spec: PutSpec) -> Result<Put> {
        let engine = Arc::clone(self.engine());
        judge::check_metadata(&spec.metadata)?;
        engine.check_below(spec.below, spec.load)?;
        engine.check_writable(&id.tenant, &id.namespace)?;
        if let Some(bytes) = spec.size_bytes {
            engine.check_size(bytes)?;
            let number = engine.spaces.find(&id.tenant, &id.namespace);
            if let Some(space) = number.and_then(|number| engine.spaces.at(number)) {
                engine.check_own(space, bytes)?;
            }
        }
        let load = match spec.load {
            0 => None,
            number => Some(engine.open_load(number)?),
        };
        if let Some(load) = &load {
            engine.check_load_room(load, spec.size_bytes.unwrap_or(0))?;
        }
        let hash = engine.hash_of(id.name());
        let put = Put {
            room: Filling::new(Arc::clone(&engine), load.as_ref().map(|load| load.home)),
            engine,
            id,
            hash,
            spec,
            load,
            written: 0,
        };
        put.judge_early()?;
        Ok(put)
    }
}

impl Put {
    /// Waits until there is room for `bytes` more than what is written (or for the whole
    /// `size_bytes`, where that is more).
    ///
    /// # Errors
    /// `resource_exhausted`, naming the limit and its value: at once where the tensor cannot ever
    /// fit, after 2 s (10 s for a put that holds nothing yet) where the room did not come.
    pub async fn reserve(&mut self, bytes: u64) -> Result<()> {
        let asked = self.written.saturating_add(bytes);
        self.engine.check_size(asked)?;
        let known = self.spec.size_bytes.unwrap_or(0);
        let asked = asked.max(known);
        if let Some(load) = &self.load {
            self.engine.open_load(self.spec.load)?;
            self.engine.check_load_room(load, asked)?;
        }
        self.room.grow(asked).await
    }

    /// Copies `bytes` behind what is written already.
    ///
    /// # Errors
    /// `internal` for more than was reserved: a bug of the caller's.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.room.write(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What is put.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Makes the tensor readable, whole and at once, as `shape`.
    ///
    /// # Errors
    /// `invalid_argument` where the shape takes other than the written bytes, `data_loss` where
    /// the given checksum does not agree, `already_exists`, `failed_precondition`,
    /// `resource_exhausted`. Nothing is stored then. Whatever the lower tier meets: then it is not
    /// known whether it was stored.
    pub async fn publish(mut self, shape: Shape) -> Result<Published> {
        let expected = shape.bytes(self.spec.dtype)?;
        if expected != self.written {
            return Err(Error::invalid(format!(
                "the tensor has other bytes than its shape; shape=`{shape}` dtype=`{}` \
                 bytes=`{}` expected {expected}",
                self.spec.dtype.name(),
                self.written
            )));
        }
        let checksum = self.room.finish();
        check_checksum(self.spec.checksum, checksum)?;
        let space = match &self.load {
            None => {
                let spaces = &self.engine.spaces;
                spaces.intern(&self.id.tenant, &self.id.namespace)?
            }
            Some(load) => load.space,
        };
        let candidate = Candidate {
            name: self.id.name(),
            mode: self.spec.mode,
            if_version: self.spec.if_version,
            coming: Coming {
                hash: self.hash,
                space,
                key: self.id.key.as_str(),
                dtype: self.spec.dtype,
                shape: &shape,
                kept: Kept {
                    metadata: &self.spec.metadata,
                    source_version: self.spec.source_version,
                },
                len: self.written,
                checksum,
                expires_at_ms: self.engine.expiry_in(space, self.spec.expires_at_ms),
                version: None,
                inherits: false,
                load: self.spec.load,
                spares: self.load.as_ref().map(|load| load.home),
                pin: self.spec.pin,
                admit: self.spec.admit,
            },
        };
        let published = |version, existed| Published {
            version,
            existed,
            bytes: candidate.coming.len,
        };
        // What stays is found out before any more room is asked for.
        let found = self.engine.found(&candidate).await?;
        let same = |there: &Entry| self.room.holds(there);
        if let Judged::Stays(there) = self.engine.judge_found(&candidate, found, same)? {
            let (version, existed) = self.engine.stays(there, &candidate)?;
            self.engine
                .write_down(vec![self.id], self.spec.below)
                .await?;
            return Ok(published(version, existed));
        }
        let asker = self.room.asker();
        let (pages, inline) = self.room.take(self.written);
        let draft = self
            .engine
            .draft(&candidate.coming, pages, &[&inline], asker)
            .await?;
        let (version, existed) = self.engine.settle(&candidate, draft).await?;
        if self.load.is_none() && !existed {
            self.engine.forget_below(&self.id, Some(version)).await?;
        }
        self.engine
            .write_down(vec![self.id], self.spec.below)
            .await?;
        Ok(published(version, existed))
    }

    /// What the first message alone shows.
    fn judge_early(&self) -> Result<()> {
        let seen = match &self.load {
            None => Seen::Now,
            Some(load) => Seen::In(load.space),
        };
        let found = self
            .engine
            .find_current(self.hash, self.id.name(), Mark::Peek, seen)
            .map(PinnedHere::into_entry);
        if found.is_none() && self.load.is_none() && self.engine.may_be_below(self.id.name()) {
            return Ok(());
        }
        if let Some(wanted) = self.spec.if_version {
            return judge::check_version(
                self.id.name(),
                wanted,
                found.as_ref().map(Entry::version),
            );
        }
        let Some(entry) = found else {
            return Ok(());
        };
        let differs = entry.dtype() != self.spec.dtype
            || self.spec.size_bytes.is_some_and(|n| n != entry.len());
        let by_mode = self.spec.source_version.is_none();
        if by_mode && self.spec.mode == Mode::Create && differs {
            return Err(judge::already_exists(self.id.name(), &entry));
        }
        Ok(())
    }
}
