//! Other metadata for an entry that is there. An entry is never changed, so this is a put of the same bytes over it: who
//! has the old one reads on, nobody finds the key missing, and where there is no room for both the old one stays.

use std::sync::Arc;

use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::version::Version;
use tokio::task::JoinHandle;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::filling::Filling;
use crate::head::{Kept, split};
use crate::id::Id;
use crate::judge::{Candidate, check_checksum, check_metadata};
use crate::known::Known;
use crate::lower::Gone;
use crate::publish::Coming;
use crate::put::{Admit, Mode};
use crate::read::Entry;

/// Bytes that are copied before others run.
const STEP: usize = 1 << 20;

/// An entry that has other metadata now.
#[must_use = "it is to be acknowledged when it has settled"]
pub struct Changed {
    /// The version that it has now.
    pub version: Version,
    below: Option<JoinHandle<Result<()>>>,
}

impl Changed {
    /// One that is already as it was to be.
    pub fn already(version: Version) -> Self {
        Self {
            version,
            below: None,
        }
    }

    /// Waits until the tier below does not have what it was any more. That goes on where nobody waits for it.
    ///
    /// # Errors
    /// Whatever that tier meets.
    pub async fn settled(self) -> Result<Version> {
        if let Some(below) = self.below {
            let done = below.await;
            done.unwrap_or_else(|_| Err(Error::unavailable("the server is being shut down")))?;
        }
        Ok(self.version)
    }
}

impl Cache {
    /// Gives a key's entry other metadata, where it is of this version; `None` where another one is, or none. All else stays
    /// as it is by then: bytes, expiry, source version, pin, hits. It has a new version, unless that was its metadata already.
    ///
    /// It takes as much room as a put of the same tensor, until nobody has the old entry any more. What only the lower tier
    /// has is brought up. Where that has it, it has the new one before it lets go of the old one, so that a kill leaves one of
    /// them.
    ///
    /// # Errors
    /// `invalid_argument` for metadata that is too long, `resource_exhausted` where there is no room for it: then the entry is
    /// as it was. Whatever the lower tier meets: of what [`Changed::settled`] says it is not known which of the two there is.
    pub async fn set_metadata(
        &self,
        id: &Id,
        version: Version,
        metadata: &[u8],
    ) -> Result<Option<Changed>> {
        let engine = self.engine();
        engine.check_writable(&id.tenant, &id.namespace)?;
        check_metadata(metadata)?;
        let there = engine.here(id).await?;
        let Some(there) = there.filter(|there| there.version() == version) else {
            return Ok(None);
        };
        let is_settled = there.record().is_below() || !engine.may_be_below(id.name());
        if is_settled && there.metadata() == metadata {
            return Ok(Some(Changed::already(version)));
        }
        let (dtype, shape) = there.description();
        let mut room = Filling::new(Arc::clone(engine), None);
        engine.copy(&there, &mut room).await?;
        let checksum = room.finish();
        check_checksum(Some(there.checksum()), checksum)?;
        let candidate = Candidate {
            name: id.name(),
            mode: Mode::Replace,
            if_version: Some(version),
            coming: Coming {
                hash: engine.hash_of(id.name()),
                space: engine.spaces.intern(&id.tenant, &id.namespace)?,
                key: id.key.as_str(),
                dtype,
                shape: &shape,
                kept: Kept {
                    metadata,
                    source_version: there.source_version(),
                },
                len: there.len(),
                checksum,
                expires_at_ms: None,
                version: None,
                inherits: true,
                load: 0,
                spares: None,
                pin: false,
                // Nobody has asked for the tensor.
                admit: Admit::Probation,
            },
        };
        let asker = room.asker();
        let (pages, inline) = room.take(there.len());
        let inline = [&inline[..]];
        let draft = engine.draft(&candidate.coming, pages, &inline, asker);
        let draft = draft.await?;
        // Pinned till now, lest room should be made by letting go of it.
        drop(there);
        match engine.settle(&candidate, draft).await {
            Ok((now, _)) => Ok(Some(Changed {
                version: now,
                below: engine.follow_below(id, version, now),
            })),
            Err(error) if error.code == Code::FailedPrecondition && !self.has(id, version) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn has(&self, id: &Id, version: Version) -> bool {
        let there = self.peek(id);
        there.is_some_and(|there| there.version() == version)
    }
}

impl Engine {
    /// Copies an entry's bytes, where they lie, to where there is room for them.
    async fn copy(&self, there: &Entry, room: &mut Filling) -> Result<()> {
        let len = there.len();
        self.check_size(len)?;
        room.grow(len).await?;
        let in_pages = len - split(len).inline as u64;
        let mut at = 0;
        for piece in self.pieces(&there.extents()?, in_pages) {
            for step in piece.chunks(STEP) {
                room.write(at, step)?;
                at += step.len() as u64;
                tokio::task::yield_now().await;
            }
        }
        room.write(at, there.inline())
    }

    /// What has to be done below before the change is acknowledged; nothing, where there is nothing.
    fn follow_below(
        self: &Arc<Self>,
        id: &Id,
        before: Version,
        now: Version,
    ) -> Option<JoinHandle<Result<()>>> {
        let may_be_below = self.may_be_below(id.name());
        let (engine, id) = (Arc::clone(self), id.clone());
        if may_be_below {
            Some(tokio::spawn(async move {
                engine.replace_below(id, before, now).await
            }))
        } else if self.lower.writes_at_once() {
            Some(tokio::spawn(async move {
                engine.write_down(vec![id], false).await
            }))
        } else {
            None
        }
    }

    /// Has the tier below have `now` in the place of `before`: written down first and forgotten then, unlike by a put, whose
    /// bytes its client has yet.
    async fn replace_below(self: &Arc<Self>, id: Id, before: Version, now: Version) -> Result<()> {
        if self.lower.check_writes().is_err() {
            return self.forget_below(&id, Some(now)).await.map(drop);
        }
        self.write_down(vec![id.clone()], true).await?;
        let below = self.lower.describe(&id).await?;
        let is_down = below.is_some_and(|below| below.version == now);
        if !is_down && self.is_anothers(&id, [before, now]).await? {
            return Ok(());
        }
        let gone = Gone {
            only: is_down.then_some(before),
            ..Gone::all_but(Some(now), id)
        };
        self.forget_all_below(vec![gone]).await.map(drop)
    }

    /// Whether somebody has put yet another version, who sees to what that takes the place of.
    async fn is_anothers(self: &Arc<Self>, id: &Id, ours: [Version; 2]) -> Result<bool> {
        let there = Known::find(&Cache::of(Arc::clone(self)), id).await?;
        Ok(there.is_some_and(|there| !ours.contains(&there.version())))
    }
}
