//! One load of a key, however many wait for it: the first begins it, on a task of its own, so that nobody
//! who goes away takes it from the others. What is large does not come into memory for one who reads it: then
//! all that is loaded is where it is.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::lower::{Description, Found, Reading};
use bowstring_cache::read::Entry;
use bowstring_cache::restore::{Back, Restored, Restoring};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Code, Error, Result};

use super::flights::landed;
use super::pieces::{Lost, Pieces};
use super::queue::Which;
use super::stream::Large;
use super::{Cold, ask, failed};
use crate::entry::{BLOCK_BYTES, Place, Prefix, Stored};
use crate::store::{ObjectName, StoreError};

/// What has more than one part in so many of the memory does not stay there for being read.
const STAY_SHARE: u64 = 4;
/// How often a key that is changed all the time is looked for.
const ROUNDS: usize = 8;
/// How long one waits for a commit that goes on.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// What a load came to.
#[derive(Clone)]
pub(super) enum Landed {
    Here(Arc<Entry>),
    /// Each who reads it has its own pieces.
    Large(Arc<Stored>),
    Missing,
    /// Something took the key's place meanwhile.
    Again,
    /// The store did not answer, or memory has no room.
    Failed(Error),
}

/// How a tensor comes to who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Into memory, to be found there from now on.
    Stays,
    /// Into memory, for those who wait for it.
    Passes,
    /// Past memory.
    InPieces,
}

/// What an entry that comes back into memory still has to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Still {
    LiesAt(Place),
    /// On its way down, or there.
    IsBelow(Which),
}

impl Cold {
    /// Brings a key up to stay.
    pub(super) async fn bring(&self, cache: &Cache, id: &Id) -> Result<Option<Entry>> {
        for _ in 0..ROUNDS {
            if let Some(entry) = cache.peek(id) {
                return Ok(Some(entry));
            }
            match self.load_to_stay(cache, id).await {
                Landed::Missing => return Ok(None),
                Landed::Failed(error) => return Err(error),
                landed => {
                    if let Some(Found::Here(entry)) = self.found(cache, &landed) {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Err(Error::unavailable(
            "the key is being changed by others all the time; try again",
        ))
    }

    /// Finds a key for who reads it.
    pub(super) async fn find(
        &self,
        cache: &Cache,
        id: &Id,
        reading: Reading,
    ) -> Result<Option<Found>> {
        for _ in 0..ROUNDS {
            if let Some(entry) = cache.peek(id) {
                return Ok(Some(Found::Here(entry)));
            }
            if let Some(entry) = self.inner.queue.get(id) {
                if self.inner.is_expired(entry.expires_at_ms()) {
                    return Ok(None);
                }
                self.inner.counters.hits_queued.add(1);
                return Ok(Some(Found::Here(entry)));
            }
            match self.join(cache, id, reading).await {
                Landed::Missing => return Ok(None),
                // To who reads, what cannot be read in time is not there.
                Landed::Failed(error) if error.code == Code::Unavailable => return Ok(None),
                Landed::Failed(error) => return Err(error),
                landed => {
                    if let Some(found) = self.found(cache, &landed) {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    /// What a load has found, once more.
    pub(super) fn found(&self, cache: &Cache, landed: &Landed) -> Option<Found> {
        match landed {
            Landed::Here(entry) => entry.share().map(Found::Here),
            Landed::Large(stored) => {
                let (cold, cache, stored) = (self.clone(), cache.clone(), Arc::clone(stored));
                Some(Found::Below(Box::new(Large {
                    cold,
                    cache,
                    stored,
                })))
            }
            Landed::Missing | Landed::Again | Landed::Failed(_) => None,
        }
    }

    async fn join(&self, cache: &Cache, id: &Id, reading: Reading) -> Landed {
        let (flight, land) = self.inner.flights.join(id);
        if let Some(land) = land {
            let (cold, cache, id) = (self.clone(), cache.clone(), id.clone());
            tokio::spawn(async move {
                let landed = cold.load_to_read(&cache, &id, reading).await;
                cold.inner.flights.end(&id, &land, landed);
            });
        }
        landed(flight).await
    }

    /// Whether something is still so that nobody changes under the lock of its stripe, which the caller has.
    async fn is_still(&self, id: &Id, still: Still) -> bool {
        match still {
            Still::LiesAt(place) => self.has(id, move |now| now.place == place).await,
            Still::IsBelow(which) => {
                let waiting = self.inner.queue.waiting(id);
                waiting.is_some_and(|waiting| Which::of(&waiting.entry) == which)
                    || self.has(id, move |now| which.is(&now.description)).await
            }
        }
    }

    async fn load_to_stay(&self, cache: &Cache, id: &Id) -> Landed {
        if let Some(entry) = self.inner.queue.get(id) {
            if self.inner.is_expired(entry.expires_at_ms()) {
                return Landed::Missing;
            }
            return self.bring_back_up(cache, id, &entry).await;
        }
        match self.look_up(id).await {
            Ok(Some(stored)) => self.load_stored(cache, stored, true).await,
            Ok(None) => Landed::Missing,
            Err(error) => Landed::Failed(error),
        }
    }

    async fn load_to_read(&self, cache: &Cache, id: &Id, reading: Reading) -> Landed {
        // It has been asked, but that was before others could join.
        if self.inner.queue.has(id) {
            return Landed::Again;
        }
        // An index in the store, and then the bytes: who reads waits for all of it no longer than for one of them.
        let (store, began) = (&self.inner.store, self.inner.clock.monotonic());
        let late = || Landed::Failed(Error::unavailable("the store did not answer in time"));
        let stored = match store.in_time(began, 0, self.look_up(id)).await {
            Some(Ok(Some(stored))) => stored,
            Some(Ok(None)) => return Landed::Missing,
            Some(Err(error)) => return Landed::Failed(error),
            None => return late(),
        };
        let to_stay = match self.way_of(cache, &stored, reading) {
            Way::Stays => true,
            Way::Passes => false,
            Way::InPieces => return Landed::Large(Arc::new(stored)),
        };
        let len = stored.description.len;
        let loading = self.load_stored(cache, stored, to_stay);
        let landed = store.in_time(began, len, loading).await;
        landed.unwrap_or_else(late)
    }

    /// How a tensor comes to who reads it.
    pub(super) fn way_of(&self, cache: &Cache, stored: &Stored, reading: Reading) -> Way {
        let len = stored.description.len;
        let is_large = len > BLOCK_BYTES;
        let may_stay = match reading {
            Reading::Whole => len <= cache.config().memory / STAY_SHARE,
            Reading::Part => !is_large,
            Reading::Scan => false,
        };
        let hash = self.inner.hash_of(&stored.description.id);
        if may_stay && self.inner.seen.enough(hash) {
            Way::Stays
        } else if is_large {
            Way::InPieces
        } else {
            Way::Passes
        }
    }

    /// Reads what the index has told of.
    pub(super) async fn load_stored(&self, cache: &Cache, stored: Stored, to_stay: bool) -> Landed {
        match self.read(cache, &stored).await {
            Ok(Some(restored)) => self.land(&stored, restored, to_stay).await,
            Ok(None) => self.damaged(stored).await,
            Err(error) => Landed::Failed(error),
        }
    }

    /// An entry has come up whole.
    pub(super) async fn land(&self, stored: &Stored, restored: Restored, to_stay: bool) -> Landed {
        let inner = &self.inner;
        inner.count_hit(stored.place.prefix);
        inner.counters.read_bytes.add(stored.description.len);
        if !to_stay {
            return came_to(restored.pass());
        }
        let id = &stored.description.id;
        let still = Still::LiesAt(stored.place);
        let landed = self.put_back(id, restored, still).await;
        // What is in another's prefix only is to go down into ours.
        if let Landed::Here(entry) = &landed
            && stored.place.prefix == Prefix::OWN
        {
            entry.set_below(true);
        }
        landed
    }

    /// What is on its way down is wanted in memory after all.
    async fn bring_back_up(&self, cache: &Cache, id: &Id, entry: &Entry) -> Landed {
        let which = Which::of(entry);
        let restored = async {
            let mut restoring = cache.restore(Description::of(entry)?);
            restoring.reserve().await?;
            let shared = entry.share();
            let shared = shared.ok_or_else(|| Error::unavailable("too many readers"))?;
            let mut reader = shared.reader(0..entry.len())?;
            while reader.remaining() > 0 {
                for piece in reader.take(1 << 20)? {
                    restoring.write(&piece)?;
                }
            }
            restoring.finish().await
        };
        match restored.await {
            Ok(restored) => self.put_back(id, restored, Still::IsBelow(which)).await,
            Err(error) => Landed::Failed(error),
        }
    }

    pub(super) async fn put_back(&self, id: &Id, mut restored: Restored, still: Still) -> Landed {
        let inner = &self.inner;
        loop {
            {
                let _nobody_forgets = inner.stripes[inner.stripe_of(id)].lock().await;
                let is_still = self.is_still(id, still).await;
                match restored.publish(|| is_still) {
                    Ok(Back::Here(entry)) => {
                        inner.counters.promoted.add(1);
                        return came_to(Ok(entry));
                    }
                    Ok(Back::Taken) => return Landed::Again,
                    Ok(Back::Busy(back)) => restored = *back,
                    Err(error) => return Landed::Failed(error),
                }
            }
            inner.clock.sleep(BUSY_WAIT).await;
        }
    }

    /// The bytes of an entry, in memory; `None` where they are not those that were written.
    pub(super) async fn read(&self, cache: &Cache, stored: &Stored) -> Result<Option<Restored>> {
        let len = stored.description.len;
        let mut restoring = cache.restore(stored.description.clone());
        self.wait_for_room(cache, len).await;
        restoring.reserve().await?;
        if stored.is_packed() {
            return self.read_packed(cache, stored, restoring).await;
        }
        let (inner, place) = (&self.inner, stored.place);
        inner.is_read(place.prefix, place.segment);
        let store = inner.store_of(place.prefix);
        let name = ObjectName::Segment(place.segment);
        let range = stored.place.offset..stored.place.offset + len;
        let mut written = Ok(());
        let each = |piece: &[u8]| {
            if written.is_ok() {
                written = restoring.write(piece);
            }
        };
        match store.read_pieces(&name, range, each).await {
            Ok(()) => written?,
            Err(StoreError::NotFound | StoreError::Short { .. }) => return Ok(None),
            Err(error) => {
                inner.counters.failed_reads.add(1);
                return Err(failed(error));
            }
        }
        whole(restoring).await
    }

    /// The same of one that lies compressed, block by block.
    async fn read_packed(
        &self,
        cache: &Cache,
        stored: &Stored,
        mut restoring: Restoring,
    ) -> Result<Option<Restored>> {
        let (stored, all) = (Arc::new(stored.clone()), 0..stored.description.len);
        let mut pieces = Pieces::new(self, cache, &stored, all);
        loop {
            match pieces.next().await {
                Ok(Some(block)) => restoring.write(&block)?,
                Ok(None) => break,
                Err(Lost::Damaged) => return Ok(None),
                Err(Lost::Failed(error)) => return Err(error),
            }
        }
        whole(restoring).await
    }

    /// An entry whose bytes are not there any more: a miss from now on.
    pub(super) async fn damaged(&self, stored: Stored) -> Landed {
        if stored.place.prefix != Prefix::OWN {
            return self.lost_elsewhere(stored).await;
        }
        let inner = &self.inner;
        let id = stored.description.id.clone();
        let _stripe = inner.stripes[inner.stripe_of(&id)].lock().await;
        // A segment that was moved or dropped meanwhile is no damage.
        if !self.is_still(&id, Still::LiesAt(stored.place)).await {
            return Landed::Again;
        }
        inner.counters.damaged.add(1);
        tracing::warn!(
            segment = stored.place.segment.0,
            offset = stored.place.offset,
            "cold tier: an entry's bytes are not those that were written, it is dropped"
        );
        let number = inner.number();
        match ask(self, move |index| index.remove_all(&[(id, None)], number)).await {
            Ok(_) => Landed::Missing,
            Err(error) => Landed::Failed(error),
        }
    }
}

/// What was read, if it is what was written.
async fn whole(restoring: Restoring) -> Result<Option<Restored>> {
    match restoring.finish().await {
        Ok(restored) => Ok(Some(restored)),
        Err(error) if error.code == Code::DataLoss => Ok(None),
        Err(error) => Err(error),
    }
}

fn came_to(entry: Result<Entry>) -> Landed {
    match entry {
        Ok(entry) => Landed::Here(Arc::new(entry)),
        Err(error) => Landed::Failed(error),
    }
}
