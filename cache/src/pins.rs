//! Pins of users: a pinned entry is not evicted. It can be replaced, and the new tensor is pinned
//! then, for it is the key that was pinned; it can be deleted; and it expires when it is told to.
//! A load that is merged replaces like a put: while it lies over a pinned entry, both are pinned, and
//! one that replaces all begins without pins but its own.
//!
//! A pin is a bit in the record. No policy has a pinned entry, so that whoever looks for a victim
//! passes none. What is pinned is counted as the pages and slots that it takes, and is limited: by
//! [`pinned_percent`](crate::config::CacheConfig::pinned_percent) alone, so that pins, which nothing
//! but their users ends, leave room for puts; by
//! [`busy_percent`](crate::config::CacheConfig::busy_percent) with puts and readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::error::{Error, Result};
use bowstring_wire::version::Version;

use crate::arena::{Extent, PAGE_BYTES_U64};
use crate::cache::Cache;
use crate::engine::{Engine, Pinned, policy_hash};
use crate::evict::Enter;
use crate::head::{Rest, split};
use crate::id::Id;
use crate::index::{Handle, Record};

/// What is pinned.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    bytes: AtomicU64,
    entries: AtomicU64,
    refused: AtomicU64,
}

/// What a put has changed here: see [`Pins::undo`].
pub(crate) struct InPlace {
    before: Option<u64>,
    now: Option<u64>,
}

impl Cache {
    /// Pins a key's entry. Says whether it was not pinned before; `None` where there is no such
    /// key.
    ///
    /// # Errors
    /// `resource_exhausted` where too much is pinned, or held by pins, puts and readers together;
    /// whatever the lower tier meets.
    pub async fn pin(&self, id: &Id) -> Result<Option<bool>> {
        self.pin_where(id, None).await
    }

    /// As [`Cache::pin`], where the key's entry is of this version.
    ///
    /// # Errors
    /// As [`Cache::pin`].
    pub async fn pin_version(&self, id: &Id, version: Version) -> Result<Option<bool>> {
        self.pin_where(id, Some(version)).await
    }

    async fn pin_where(&self, id: &Id, wanted: Option<Version>) -> Result<Option<bool>> {
        self.engine().check_writable(&id.tenant, &id.namespace)?;
        // One that loses against another change of the key looks again.
        while let Some(entry) = self.engine().here(id).await? {
            if wanted.is_some_and(|wanted| wanted != entry.version()) {
                break;
            }
            if let Some(pinned) = self.engine().keep(&entry.into_pinned())? {
                return Ok(Some(pinned));
            }
        }
        Ok(None)
    }

    /// Lets a key's entry be evicted again. Says whether it was pinned; `None` where there is no
    /// such key.
    pub fn unpin(&self, id: &Id) -> Option<bool> {
        self.unpin_where(id, None)
    }

    /// As [`Cache::unpin`], where the key's entry in memory is of this version.
    pub fn unpin_version(&self, id: &Id, version: Version) -> Option<bool> {
        self.unpin_where(id, Some(version))
    }

    fn unpin_where(&self, id: &Id, wanted: Option<Version>) -> Option<bool> {
        while let Some(entry) = self.peek(id) {
            if wanted.is_some_and(|wanted| wanted != entry.version()) {
                break;
            }
            let entry = entry.into_pinned();
            if let Some(unpinned) = self.engine().let_go(&entry) {
                return Some(unpinned);
            }
        }
        None
    }
}

impl Engine {
    /// The most that users may pin.
    pub(crate) fn pinned_bytes_max(&self) -> u64 {
        self.arena_bytes_max() / 100 * self.config.pinned_percent
    }

    /// Pages and slot of an entry that is pinned in the index, or being published.
    pub(crate) fn footprint(&self, record: &Record) -> u64 {
        let apart = match self.head(record).map(|head| head.rest) {
            Ok(Rest::Apart { extents, .. }) => pages(&extents),
            Ok(Rest::Here { .. }) | Err(_) => 0,
        };
        let pages = u64::from(split(record.len()).pages) + apart;
        pages * PAGE_BYTES_U64 + self.slot(record).len() as u64
    }

    /// Pins an entry for its user. Says whether it was not before; `None` where it has left the
    /// index.
    pub(crate) fn keep(&self, entry: &Pinned) -> Result<Option<bool>> {
        let kept = self.change(entry, |record| {
            if record.is_kept() {
                return Ok(false);
            }
            self.count_pin(self.footprint(record))?;
            record.set_kept(true);
            self.policy.remove(&self.index.records, entry.handle, None);
            Ok(true)
        });
        kept.transpose()
    }

    /// Of a key that a load is merged over: what shows is pinned as what it hides is; says whether it
    /// was not. Under the lock of the key's shard. No limit is asked: an open load leaves room beside
    /// what is pinned, however much of that it will hide.
    pub(crate) fn pin_over(&self, over: &Pinned, below: Handle) -> bool {
        let (record, below) = (over.record(), self.record(below));
        if record.is_kept() || !below.is_kept() || self.is_expired(below) {
            return false;
        }
        self.pins.add(self.footprint(record));
        record.set_kept(true);
        self.policy.remove(&self.index.records, over.handle, None);
        true
    }

    /// Lets an entry be evicted again, and what it hides. Says whether it was pinned; `None` where it
    /// has left the index.
    fn let_go(self: &Arc<Self>, entry: &Pinned) -> Option<bool> {
        let space = self.spaces.at(entry.record().namespace())?;
        let key = self.key(entry.record());
        let hash = self.hash_in(space, key);
        let shard = self.index.table.lock(hash);
        if !shard.contains(entry.handle) {
            return None;
        }
        let unpinned = self.unpin(entry, hash);
        if let Some(below) = self.below(&shard, entry) {
            self.unpin(&self.pin_locked(below).ok()?, hash);
        }
        drop(shard);
        self.queue.freed();
        Some(unpinned)
    }

    /// Under the lock of the key's shard.
    fn unpin(&self, entry: &Pinned, hash: u64) -> bool {
        let record = entry.record();
        let was = record.is_kept();
        if was {
            record.set_kept(false);
            self.pins.release(self.footprint(record));
            let (records, hash) = (&self.index.records, policy_hash(hash));
            self.policy
                .insert(records, entry.handle, hash, Enter::Known);
        }
        was
    }

    /// For an entry about to be published in the place of `old`: pins it where that one is, or where
    /// `asked`.
    pub(crate) fn pin_in_place(
        &self,
        record: &Record,
        old: Option<&Pinned>,
        asked: bool,
    ) -> Result<InPlace> {
        let kept = old.filter(|old| old.record().is_kept());
        let before = kept.map(|old| self.footprint(old.record()));
        // It may have been tried before, when another one was there.
        record.set_kept(false);
        if before.is_none() && !asked {
            return Ok(InPlace {
                before: None,
                now: None,
            });
        }
        let now = self.footprint(record);
        // The old one's first: what takes its place needs no more room than there is with it.
        if let Some(before) = before {
            self.pins.release(before);
        }
        if let Err(refused) = self.count_pin(now) {
            if let Some(before) = before {
                self.pins.add(before);
            }
            return Err(refused);
        }
        record.set_kept(true);
        Ok(InPlace {
            before,
            now: Some(now),
        })
    }

    fn count_pin(&self, bytes: u64) -> Result<()> {
        self.pins.add(bytes);
        let (own, all) = (self.pinned_bytes_max(), self.busy_bytes_max());
        let (limit, value) = if self.pins.bytes() > own {
            ("pinned_bytes_max", own)
        } else if self.busy_bytes() > all {
            ("busy_bytes_max", all)
        } else {
            return Ok(());
        };
        self.pins.release(bytes);
        self.pins.refused.fetch_add(1, Ordering::Relaxed);
        Err(Error::exhausted(format!(
            "no room to pin an entry; limit=`{limit}` value=`{value}` wanted_bytes=`{bytes}` \
             pinned_bytes=`{}` reserved_bytes=`{}` held_bytes=`{}`",
            self.pins.bytes(),
            self.reserved.load(Ordering::Relaxed),
            self.arena.held_bytes(),
        )))
    }
}

impl Pins {
    /// Pages and slots of what is pinned.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A pinned entry of this footprint is pinned no more.
    pub(crate) fn release(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    /// The put that was to change this does not come now.
    pub(crate) fn undo(&self, in_place: &InPlace) {
        if let Some(now) = in_place.now {
            self.release(now);
        }
        if let Some(before) = in_place.before {
            self.add(before);
        }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }
}

fn pages(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.pages)).sum()
}
