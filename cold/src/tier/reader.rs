//! One load of a key, however many wait for it: the first begins it, on a task of its own, so that nobody
//! who goes away takes it from the others.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::lower::{Bring, Description};
use bowstring_cache::read::Entry;
use bowstring_cache::restore::{Back, Restored};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Code, Error, Result};
use tokio::sync::watch;

use super::queue::Which;
use super::{Cold, ask, failed};
use crate::entry::Stored;
use crate::store::{ObjectName, StoreError};

/// How often a key that is changed all the time is looked for.
const ROUNDS: usize = 8;
/// How long one waits for a commit that goes on.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// What a load came to.
#[derive(Clone)]
pub(super) enum Landed {
    Here(Arc<Entry>),
    Missing,
    /// Something took the key's place meanwhile.
    Again,
    /// The store did not answer, or memory has no room.
    Failed(Error),
}

/// A load that others join.
pub(super) type Flight = watch::Receiver<Option<Landed>>;

impl Cold {
    pub(super) async fn described(&self, id: &Id) -> Result<Option<Description>> {
        if let Some(entry) = self.inner.queue.get(id) {
            let current = !self.inner.is_expired(entry.expires_at_ms());
            return current.then(|| Description::of(&entry)).transpose();
        }
        let stored = self.look_up(id).await?;
        Ok(stored.map(|stored| stored.description))
    }

    pub(super) async fn bring(&self, cache: &Cache, id: &Id, how: Bring) -> Result<Option<Entry>> {
        for _ in 0..ROUNDS {
            if let Some(entry) = cache.peek(id) {
                return Ok(Some(entry));
            }
            let landed = match how {
                Bring::ToRead => match self.inner.queue.get(id) {
                    Some(entry) if self.inner.is_expired(entry.expires_at_ms()) => return Ok(None),
                    Some(entry) => {
                        self.inner.counters.hits_queued.add(1);
                        return Ok(Some(entry));
                    }
                    None => self.join(cache, id).await,
                },
                Bring::ToStay => self.load_one(cache, id, true).await,
            };
            match landed {
                Landed::Here(entry) => {
                    if let Some(entry) = entry.share() {
                        return Ok(Some(entry));
                    }
                }
                Landed::Missing => return Ok(None),
                Landed::Again => {}
                // To who reads, what cannot be read in time is not there.
                Landed::Failed(error)
                    if how == Bring::ToRead && error.code == Code::Unavailable =>
                {
                    return Ok(None);
                }
                Landed::Failed(error) => return Err(error),
            }
        }
        match how {
            Bring::ToRead => Ok(None),
            Bring::ToStay => Err(Error::unavailable(
                "the key is being changed by others all the time; try again",
            )),
        }
    }

    async fn join(&self, cache: &Cache, id: &Id) -> Landed {
        let mut flight = {
            let mut flights = self.inner.flights.lock();
            match flights.get(id) {
                Some(flight) => flight.clone(),
                None => {
                    let (land, flight) = watch::channel(None);
                    flights.insert(id.clone(), flight.clone());
                    let (cold, cache, id) = (self.clone(), cache.clone(), id.clone());
                    tokio::spawn(async move {
                        let again = cold.inner.seen.again(cold.inner.hash_of(&id));
                        let landed = cold.load_one(&cache, &id, again).await;
                        cold.inner.leave(&id, &land.subscribe());
                        land.send_replace(Some(landed));
                    });
                    flight
                }
            }
        };
        let landed = flight.wait_for(Option::is_some).await;
        let landed = landed.map(|landed| landed.clone());
        landed.ok().flatten().unwrap_or(Landed::Again)
    }

    async fn look_up(&self, id: &Id) -> Result<Option<Stored>> {
        if !self.working().is_some_and(|index| index.may_have(id)) {
            return Ok(None);
        }
        let name = id.clone();
        let found = ask(self, move |index| index.get(&name)).await?.flatten();
        let is_current = |stored: &Stored| !self.inner.is_expired(stored.description.expires_at_ms);
        Ok(found.filter(is_current))
    }

    /// Whether the index has a key as it should be.
    pub(super) fn has(&self, id: &Id, is_it: impl FnOnce(&Stored) -> bool) -> bool {
        let found = self.working().map(|index| index.get(id));
        matches!(found, Some(Ok(Some(now))) if is_it(&now))
    }

    async fn load_one(&self, cache: &Cache, id: &Id, to_stay: bool) -> Landed {
        if let Some(entry) = self.inner.queue.get(id) {
            if self.inner.is_expired(entry.expires_at_ms()) {
                return Landed::Missing;
            }
            return self.bring_back_up(cache, id, &entry).await;
        }
        let stored = match self.look_up(id).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Landed::Missing,
            Err(error) => return Landed::Failed(error),
        };
        self.load_stored(cache, stored, to_stay).await
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
        inner.counters.hits.add(1);
        inner.counters.read_bytes.add(stored.description.len);
        if !to_stay {
            return landed(restored.pass());
        }
        let id = &stored.description.id;
        let still = || self.has(id, |now| now.place == stored.place);
        self.put_back(id, restored, still).await
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
            Ok(restored) => {
                let still = || {
                    let waiting = self.inner.queue.waiting(id);
                    waiting.is_some_and(|waiting| Which::of(&waiting.entry) == which)
                        || self.has(id, |now| which.is(&now.description))
                };
                self.put_back(id, restored, still).await
            }
            Err(error) => Landed::Failed(error),
        }
    }

    pub(super) async fn put_back(
        &self,
        id: &Id,
        mut restored: Restored,
        still: impl Fn() -> bool,
    ) -> Landed {
        let inner = &self.inner;
        loop {
            {
                let _nobody_forgets = inner.stripes[inner.stripe_of(id)].lock().await;
                match restored.publish(&still) {
                    Ok(Back::Here(entry)) => {
                        inner.counters.promoted.add(1);
                        return landed(Ok(entry));
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
        let (inner, segment) = (&self.inner, stored.place.segment);
        let now = inner.clock.monotonic();
        inner.last_read.lock().insert(segment, now);
        let name = ObjectName::Segment(segment);
        let range = stored.place.offset..stored.place.offset + len;
        let mut written = Ok(());
        let each = |piece: &[u8]| {
            if written.is_ok() {
                written = restoring.write(piece);
            }
        };
        match inner.store.read_pieces(&name, range, each).await {
            Ok(()) => written?,
            Err(StoreError::NotFound | StoreError::Short { .. }) => return Ok(None),
            Err(error) => {
                inner.counters.failed_reads.add(1);
                return Err(failed(error));
            }
        }
        match restoring.finish().await {
            Ok(restored) => Ok(Some(restored)),
            Err(error) if error.code == Code::DataLoss => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An entry whose bytes are not there any more: a miss from now on.
    pub(super) async fn damaged(&self, stored: Stored) -> Landed {
        let inner = &self.inner;
        let id = stored.description.id.clone();
        let _stripe = inner.stripes[inner.stripe_of(&id)].lock().await;
        // A segment that was moved or dropped meanwhile is no damage.
        if !self.has(&id, |now| now.place == stored.place) {
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

fn landed(entry: Result<Entry>) -> Landed {
    match entry {
        Ok(entry) => Landed::Here(Arc::new(entry)),
        Err(error) => Landed::Failed(error),
    }
}
