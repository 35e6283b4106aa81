//! An entry comes back from below: with the version that it had, and only where nothing has taken
//! its place.

use std::sync::Arc;

use bowstring_wire::error::{Error, Result};

use crate::cache::Cache;
use crate::engine::{Engine, Pinned};
use crate::filling::Filling;
use crate::head::Kept;
use crate::index::{Fields, Mark, Pin};
use crate::lower::Description;
use crate::publish::{Coming, Commit, Draft};
use crate::put::Admit;
use crate::read::Entry;

/// An entry on its way up. Dropping it gives everything back.
pub struct Restoring {
    engine: Arc<Engine>,
    description: Description,
    room: Filling,
    written: u64,
}

/// How an attempt to put an entry back ended.
pub enum Back {
    /// It is there, or could not be kept for want of room; here it is, pinned.
    Here(Entry),
    /// Something else has the key, or had until just now: look again.
    Taken,
    /// What its namespace shows is just being changed: try again.
    Busy(Box<Restored>),
}

/// One that is whole, and can be found by nobody yet.
pub struct Restored {
    engine: Arc<Engine>,
    description: Description,
    space: u32,
    draft: Draft,
}

impl Cache {
    /// Begins to bring an entry back into memory.
    pub fn restore(&self, description: Description) -> Restoring {
        let engine = Arc::clone(self.engine());
        Restoring {
            room: Filling::new(Arc::clone(&engine), None),
            engine,
            description,
            written: 0,
        }
    }
}

impl Restoring {
    /// Waits for room for all of it.
    ///
    /// # Errors
    /// As [`Put::reserve`](crate::put::Put::reserve).
    pub async fn reserve(&mut self) -> Result<()> {
        self.engine.check_size(self.description.len)?;
        self.room.grow(self.description.len).await
    }

    /// Copies `bytes` behind what is written already.
    ///
    /// # Errors
    /// `internal` for more than was reserved.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.room.write(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The entry, once all is written.
    ///
    /// # Errors
    /// `data_loss` where these are not the bytes that it had; `resource_exhausted`.
    pub async fn finish(mut self) -> Result<Restored> {
        let known = &self.description;
        if self.written != known.len || self.room.finish() != known.checksum {
            return Err(Error::data_loss(
                "the bytes that came back are not those that were written down",
            ));
        }
        let (tenant, namespace) = (&known.id.tenant, &known.id.namespace);
        let space = self.engine.spaces.intern(tenant, namespace)?;
        let asker = self.room.asker();
        let (pages, inline) = self.room.take(self.written);
        let coming = coming(&self.engine, known, space);
        let draft = self.engine.draft(&coming, pages, &[&inline], asker).await?;
        Ok(Restored {
            engine: self.engine,
            description: self.description,
            space,
            draft,
        })
    }
}

impl Restored {
    /// Puts it into the index, where nothing has the key, and where `still` says that it is still to be
    /// found below: nothing is committed, rolled back or cleared between that and this. Does not wait:
    /// where the index or the namespace has no room, it is as with [`Restored::pass`].
    ///
    /// # Errors
    /// `internal` would be a bug of ours.
    pub fn publish(self, still: impl FnOnce() -> bool) -> Result<Back> {
        let engine = Arc::clone(&self.engine);
        let home = engine.spaces.at(self.space);
        let home = home.ok_or_else(|| Error::internal("an entry's namespace is not known"))?;
        let Ok(_turn) = home.turn.try_lock() else {
            return Ok(Back::Busy(Box::new(self)));
        };
        if !still() {
            return Ok(Back::Taken);
        }
        let coming = coming(&self.engine, &self.description, self.space);
        match self.draft.commit(&coming, None) {
            Commit::Done(_) => {
                engine.note_brought(home, &self.description);
                let cache = Cache::of(self.engine);
                let found = cache.peek(&self.description.id);
                Ok(found.map_or(Back::Taken, Back::Here))
            }
            Commit::Full(draft, _) | Commit::Over(draft, _) => {
                pass(draft, &coming, &self.engine).map(Back::Here)
            }
            Commit::Raced(_) | Commit::Refused(_) | Commit::Closed => Ok(Back::Taken),
        }
    }

    /// Gives it without anybody finding it: its memory is free when the caller lets it go.
    ///
    /// # Errors
    /// `internal` would be a bug of ours.
    pub fn pass(self) -> Result<Entry> {
        let coming = coming(&self.engine, &self.description, self.space);
        pass(self.draft, &coming, &self.engine)
    }
}

/// An entry that was never in the index.
fn pass(draft: Draft, coming: &Coming<'_>, engine: &Arc<Engine>) -> Result<Entry> {
    let handle = draft.into_handle();
    let handle = handle.ok_or_else(|| Error::internal("an entry that has no record"))?;
    let record = engine.record(handle);
    record.set(&Fields {
        len: coming.len,
        checksum: coming.checksum,
        version: coming.version.map_or((0, 0), |v| (v.hlc, v.start)),
        expires_at_ms: coming.expires_at_ms,
        namespace: coming.space,
        load_generation: 0,
        last_access: engine.second(),
    });
    record.publish();
    // Nobody finds it; only whoever empties its slab may have it for a moment.
    let pinned = loop {
        match record.try_pin(Mark::Peek) {
            Pin::Pinned => {
                break Pinned {
                    engine: Arc::clone(engine),
                    handle,
                };
            }
            Pin::Busy | Pin::Gone => std::hint::spin_loop(),
        }
    };
    let last = record.unlink();
    debug_assert!(!last, "it is pinned");
    Ok(Entry::new(pinned))
}

fn coming<'a>(engine: &Engine, known: &'a Description, space: u32) -> Coming<'a> {
    Coming {
        hash: engine.hash_of(known.id.name()),
        space,
        key: known.id.key.as_str(),
        dtype: known.dtype,
        shape: &known.shape,
        kept: Kept {
            metadata: &known.metadata,
            source_version: known.source_version,
        },
        len: known.len,
        checksum: known.checksum,
        expires_at_ms: known.expires_at_ms,
        version: Some(known.version),
        inherits: false,
        load: 0,
        spares: None,
        pin: false,
        admit: Admit::Hot,
    }
}
