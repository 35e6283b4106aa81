//! What a put comes to: what is there already decides, with the put's mode or `if_version`.

use std::sync::Arc;

use bowstring_wire::descriptor::Mode;
use bowstring_wire::error::{Error, Result, clip};
use bowstring_wire::limits::MAX_QUOTED_BYTES;
use bowstring_wire::version::Version;

use crate::engine::{Engine, PinnedHere};
use crate::id::Name;
use crate::index::Mark;
use crate::publish::{Coming, Commit, Draft};
use crate::put::METADATA_BYTES_MAX;
use crate::read::Entry;
use crate::reserve::Line;
use crate::room::{Asker, GROW_TRIES};

/// A tensor that wants to be published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: Name<'a>,
    pub(crate) mode: Mode,
    pub(crate) if_version: Option<Version>,
    pub(crate) coming: Coming<'a>,
}

impl Candidate<'_> {
    /// Whether what is there decides what becomes of it, and it may be below.
    pub(crate) fn is_by_what_is_there(&self) -> bool {
        let by_mode = self.mode != Mode::Replace;
        let decides =
            by_mode || self.if_version.is_some() || self.coming.kept.source_version.is_some();
        decides && self.coming.load == 0
    }
}

pub(crate) enum Judged<'e> {
    /// What is there stays.
    Stays(Entry),
    /// The candidate comes, in place of what is there now.
    Comes(Option<PinnedHere<'e>>),
}

impl Engine {
    /// What becomes of a candidate as things are now. `same` compares its bytes with an entry's.
    pub(crate) fn judge<'e>(
        self: &'e Arc<Self>,
        candidate: &Candidate<'_>,
        same: impl FnOnce(&Entry) -> bool,
    ) -> Result<Judged<'e>> {
        let Candidate { name, coming, .. } = candidate;
        let found = self.find_current(coming.hash, *name, Mark::Peek, coming.seen());
        self.judge_found(candidate, found, same)
    }

    /// As [`Engine::judge`], with what is there.
    pub(crate) fn judge_found<'e>(
        self: &'e Arc<Self>,
        Candidate {
            name,
            coming,
            mode,
            if_version,
        }: &Candidate<'_>,
        found: Option<PinnedHere<'e>>,
        same: impl FnOnce(&Entry) -> bool,
    ) -> Result<Judged<'e>> {
        if let Some(wanted) = *if_version {
            check_version(*name, wanted, found.as_ref().map(PinnedHere::version))?;
            return Ok(Judged::Comes(found));
        }
        let Some(found) = found else {
            return Ok(Judged::Comes(None));
        };
        if let Some(coming) = coming.kept.source_version {
            return match self.source_version(found.record()) {
                Some(there) if there >= coming => Ok(Judged::Stays(found.into_entry())),
                _ => Ok(Judged::Comes(Some(found))),
            };
        }
        match mode {
            Mode::Replace => Ok(Judged::Comes(Some(found))),
            Mode::Keep => Ok(Judged::Stays(found.into_entry())),
            Mode::Create => {
                let entry = found.into_entry();
                // The checksum tells most apart; it is no proof, so the bytes decide.
                let equal = entry.checksum() == coming.checksum
                    && entry.len() == coming.len
                    && entry.dtype() == coming.dtype
                    && entry.shape() == *coming.shape
                    && same(&entry);
                if equal {
                    Ok(Judged::Stays(entry))
                } else {
                    Err(already_exists(*name, &entry))
                }
            }
        }
    }

    /// The answer to a candidate where what is there stays; it is pinned, where that was asked for.
    pub(crate) fn stays(&self, there: Entry, candidate: &Candidate<'_>) -> Result<(Version, bool)> {
        let version = there.version();
        if candidate.coming.pin {
            // One that went meanwhile was there when it was judged.
            self.keep(&there.into_pinned())?;
        }
        Ok((version, true))
    }

    /// Publishes a draft, or finds that what is there stays; `true` in the second case.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        candidate: &Candidate<'_>,
        mut draft: Draft,
    ) -> Result<(Version, bool)> {
        let mut grown = 0;
        loop {
            let found = self.found(candidate).await?;
            let expected = match self.judge_found(candidate, found, |there| draft.holds(there))? {
                Judged::Stays(entry) => return self.stays(entry, candidate),
                Judged::Comes(expected) => expected.map(PinnedHere::into_pinned),
            };
            let there = expected.as_ref().map(|there| there.handle);
            match draft.commit(&candidate.coming, expected) {
                Commit::Done(version) => return Ok((version, false)),
                // Somebody else changed the key: so somebody gets on.
                Commit::Raced(back) => draft = back,
                Commit::Refused(refused) => return Err(refused),
                Commit::Over(back, over) => {
                    draft = back;
                    let Some(space) = self.spaces.at(candidate.coming.space) else {
                        return Err(Error::internal("a namespace is not known"));
                    };
                    let bytes = candidate.coming.len;
                    self.make_own_room(space, over, bytes, there).await?;
                }
                Commit::Full(back, full) => {
                    draft = back;
                    grown += 1;
                    if grown > GROW_TRIES {
                        return Err(Error::exhausted(format!(
                            "no room for the index; limit=`memory` value=`{}`",
                            self.config.memory
                        )));
                    }
                    let asker = Asker {
                        line: Line::Holder,
                        spares: candidate.coming.spares,
                    };
                    self.let_index_grow(full, asker).await?;
                }
                Commit::Closed => return Err(self.closed_load(candidate.coming.load)),
            }
        }
    }

    /// Refuses a put that would wait in vain for the tier below: what a load brings is not written down before
    /// it is committed.
    pub(crate) fn check_below(&self, below: bool, load: u32) -> Result<()> {
        match (below, load) {
            (false, _) => Ok(()),
            (true, 0) => self.lower.check_writes(),
            (true, _) => Err(Error::invalid(
                "a put into a load cannot wait for the cold tier; commit the load, then flush",
            )),
        }
    }

    /// Refuses a tensor that no waiting makes fit.
    pub(crate) fn check_size(&self, bytes: u64) -> Result<()> {
        let max = self.busy_bytes_max();
        if bytes <= max {
            return Ok(());
        }
        Err(Error::exhausted(format!(
            "tensor is too large for this cache; bytes=`{bytes}` limit=`tensor_bytes_max` \
             value=`{max}` memory=`{}`",
            self.config.memory
        )))
    }
}

/// Refuses bytes whose checksum is not the one that was given with them.
pub(crate) fn check_checksum(given: Option<u128>, found: u128) -> Result<()> {
    match given {
        Some(given) if given != found => Err(Error::data_loss(format!(
            "the bytes received have another checksum; checksum=`{found:032x}` expected \
             {given:032x}"
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn check_metadata(metadata: &[u8]) -> Result<()> {
    if metadata.len() <= METADATA_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "metadata is too long; bytes=`{}` expected at most {METADATA_BYTES_MAX}",
        metadata.len()
    )))
}

/// Whether what is there has the version that a put or a delete asks for.
pub(crate) fn check_version(name: Name<'_>, wanted: Version, found: Option<Version>) -> Result<()> {
    let key = clip(name.key, MAX_QUOTED_BYTES);
    match found {
        Some(version) if version == wanted => Ok(()),
        Some(version) => Err(Error::precondition(format!(
            "the key has another version; key=`{key}` version=`{version}` if_version=`{wanted}`"
        ))),
        None => Err(Error::precondition(format!(
            "no such key; key=`{key}` if_version=`{wanted}`"
        ))),
    }
}

pub(crate) fn already_exists(name: Name<'_>, entry: &Entry) -> Error {
    Error::exists(format!(
        "the key holds another tensor; key=`{}` dtype=`{}` shape=`{}` version=`{}`",
        clip(name.key, MAX_QUOTED_BYTES),
        entry.dtype().name(),
        entry.shape(),
        entry.version()
    ))
}
