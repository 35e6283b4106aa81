//! Several keys at once: one look into the index for all of them, and what lies side by side is read in one
//! piece. One load a key here too, however many wait for it: they all run on one task.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowstring_cache::ledger::Account;
use bowstring_cache::lower::{Description, Found, Reading};
use bowstring_cache::read::Entry;
use bowstring_cache::restore::Restored;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Code, Result};
use bowstring_wire::name::{Namespace, Tenant};
use futures::StreamExt;
use futures::future::try_join_all;
use tokio::sync::watch;

use super::flights::{Flight, Land, landed};
use super::joined::{Piece, Wanted, pieces};
use super::reader::{Landed, Way};
use super::{Cold, ask, failed, is_under};
use crate::entry::{BLOCK_BYTES, Stored};
use crate::store::{ObjectName, StoreError};

/// Names that one thread looks up.
const LOOK_UPS: usize = 128;
/// Pieces that are read at one time.
const RANGES: usize = 8;

/// A key's load, and who is told.
type Flown = (Id, Land);

/// Where one key's answer comes from.
enum Comes {
    Here(Entry),
    Lands(Flight),
    /// By itself.
    Alone,
}

impl Cold {
    pub(super) async fn describe_many(&self, ids: &[Id]) -> Result<Vec<Option<Description>>> {
        let mut found = Vec::with_capacity(ids.len());
        let mut asked = Vec::new();
        for id in ids {
            let queued = self.inner.queue.get(id);
            if queued.is_none() {
                asked.push(id.clone());
            }
            found.push(queued);
        }
        let mut stored = self.look_up_all(asked).await?.into_iter();
        let described = found.into_iter().map(|queued| match queued {
            Some(entry) if self.inner.is_expired(entry.expires_at_ms()) => Ok(None),
            Some(entry) => Description::of(&entry).map(Some),
            None => Ok(stored.next().flatten().map(|stored| stored.description)),
        });
        described.collect()
    }

    /// Gives as many of the first keys as may be given at once, at least one; without `reading` they are to
    /// stay in memory.
    pub(super) async fn bring_many(
        &self,
        cache: &Cache,
        ids: &[Id],
        bytes_max: u64,
        reading: Option<Reading>,
    ) -> Result<Vec<Option<Found>>> {
        let coming = self.begin_many(cache, ids, bytes_max, reading);
        let mut found = Vec::with_capacity(ids.len());
        for comes in coming {
            let landed = match comes {
                Comes::Here(entry) => {
                    self.inner.counters.hits_queued.add(1);
                    found.push(Some(Found::Here(entry)));
                    continue;
                }
                Comes::Alone => Landed::Again,
                Comes::Lands(flight) => landed(flight).await,
            };
            match landed {
                Landed::Missing => found.push(None),
                // To who reads, what cannot be read in time is not there.
                Landed::Failed(error) if reading.is_some() && error.code == Code::Unavailable => {
                    found.push(None);
                }
                Landed::Large(_) if reading.is_none() => break,
                landed => match self.found(cache, &landed) {
                    Some(one) => found.push(Some(one)),
                    None => break,
                },
            }
        }
        if found.is_empty()
            && let Some(first) = ids.first()
        {
            // Whoever asks for it first gets it, or is told why not.
            found.push(match reading {
                None => self.bring(cache, first).await?.map(Found::Here),
                Some(reading) => self.find(cache, first, reading).await?,
            });
        }
        Ok(found)
    }

    /// Finds out who has begun to load each key, and begins with the others.
    fn begin_many(
        &self,
        cache: &Cache,
        ids: &[Id],
        bytes_max: u64,
        reading: Option<Reading>,
    ) -> Vec<Comes> {
        let inner = &self.inner;
        let mut flown: Vec<Flown> = Vec::new();
        let begin = |id: &Id| {
            if let Some(entry) = inner.queue.get(id) {
                return match reading.is_none() || inner.is_expired(entry.expires_at_ms()) {
                    true => Comes::Alone,
                    false => Comes::Here(entry),
                };
            }
            let (flight, land) = inner.flights.join(id);
            flown.extend(land.map(|land| (id.clone(), land)));
            Comes::Lands(flight)
        };
        let coming = ids.iter().map(begin).collect();
        if !flown.is_empty() {
            let (cold, cache) = (self.clone(), cache.clone());
            tokio::spawn(async move { cold.load_many(&cache, flown, bytes_max, reading).await });
        }
        coming
    }

    /// Loads keys, and tells who waits for each.
    async fn load_many(
        &self,
        cache: &Cache,
        flown: Vec<Flown>,
        bytes_max: u64,
        reading: Option<Reading>,
    ) {
        let ids = flown.iter().map(|(id, _)| id.clone()).collect();
        let found = match self.look_up_all(ids).await {
            Ok(found) => found,
            Err(error) => {
                for (id, land) in flown {
                    self.tell(&id, &land, Landed::Failed(error.clone()));
                }
                return;
            }
        };
        let mut left = bytes_max;
        let mut wanted: Vec<Wanted> = Vec::new();
        for ((id, land), stored) in flown.into_iter().zip(found) {
            let Some(stored) = stored else {
                self.tell(&id, &land, Landed::Missing);
                continue;
            };
            let len = stored.description.len;
            let is_large = len > BLOCK_BYTES;
            // What is read a second time stays in memory; which of them are read now is said below.
            let way = |stored: &Stored| match reading {
                None => Way::Stays,
                Some(reading) => self.way_of(cache, stored, reading),
            };
            if is_large && way(&stored) == Way::InPieces {
                self.tell(&id, &land, Landed::Large(Arc::new(stored)));
            } else if len <= left || wanted.is_empty() {
                left = left.saturating_sub(len);
                let to_stay = is_large || way(&stored) == Way::Stays;
                wanted.push(Wanted {
                    stored,
                    to_stay,
                    land,
                });
            } else {
                left = 0;
                self.tell(&id, &land, Landed::Again);
            }
        }
        let pieces = futures::stream::iter(pieces(wanted));
        pieces
            .for_each_concurrent(RANGES, |piece| self.read_piece(cache, piece))
            .await;
    }

    async fn read_piece(&self, cache: &Cache, piece: Piece) {
        let inner = &self.inner;
        let room = match piece.is_alone() {
            true => None,
            false => cache.charge(Account::Cold, piece.room()),
        };
        let Some(_room) = room else {
            return self.read_each(cache, piece.into_wanted().collect()).await;
        };
        inner.is_read(piece.prefix, piece.segment);
        let name = ObjectName::Segment(piece.segment);
        let store = inner.store_of(piece.prefix);
        let read = match store.read_ranges(&name, &piece.ranges()).await {
            Ok(read) => read,
            // Some of them may be whole.
            Err(StoreError::NotFound | StoreError::Short { .. }) => {
                return self.read_each(cache, piece.into_wanted().collect()).await;
            }
            Err(error) => {
                inner.counters.failed_reads.add(1);
                let error = failed(error);
                for Wanted { stored, land, .. } in piece.into_wanted() {
                    self.tell(&stored.description.id, &land, Landed::Failed(error.clone()));
                }
                return;
            }
        };
        for (one, own) in piece.each(read) {
            let Wanted {
                stored,
                to_stay,
                land,
            } = one;
            let landed = match self.restored(cache, &stored, &own).await {
                Ok(restored) => self.land(&stored, restored, to_stay).await,
                Err(error) if error.code == Code::DataLoss => self.damaged(stored.clone()).await,
                Err(error) => Landed::Failed(error),
            };
            self.tell(&stored.description.id, &land, landed);
        }
    }

    /// One after the other.
    async fn read_each(&self, cache: &Cache, wanted: Vec<Wanted>) {
        for one in wanted {
            let Wanted {
                stored,
                to_stay,
                land,
            } = one;
            let id = stored.description.id.clone();
            let landed = self.load_stored(cache, stored, to_stay).await;
            self.tell(&id, &land, landed);
        }
    }

    /// A tensor that came with others.
    pub(super) async fn restored(
        &self,
        cache: &Cache,
        stored: &Stored,
        bytes: &[u8],
    ) -> Result<Restored> {
        let mut restoring = cache.restore(stored.description.clone());
        restoring.reserve().await?;
        match stored.is_packed() {
            true => {
                let unpackers = &self.inner.unpackers;
                unpackers.each_block(stored, bytes, |_, block| restoring.write(block))?;
            }
            false => restoring.write(bytes)?,
        }
        restoring.finish().await
    }

    fn tell(&self, id: &Id, land: &Land, landed: Landed) {
        self.inner.flights.end(id, land, landed);
    }

    /// What the index has of each key.
    pub(super) async fn look_up_all(&self, ids: Vec<Id>) -> Result<Vec<Option<Stored>>> {
        let mut found = self.look_up_own(ids.clone()).await?;
        self.look_elsewhere(ids, &mut found).await?;
        Ok(found)
    }

    async fn look_up_own(&self, ids: Vec<Id>) -> Result<Vec<Option<Stored>>> {
        // A thread for some of them each: a block of the index is read and decompressed for almost every name.
        let parts = ids
            .chunks(LOOK_UPS)
            .map(|ids| self.look_up_some(ids.to_vec()));
        let found = try_join_all(parts).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn look_up_some(&self, ids: Vec<Id>) -> Result<Vec<Option<Stored>>> {
        let count = ids.len();
        let index = self.working();
        if !index.is_some_and(|index| ids.iter().any(|id| index.may_have(id))) {
            return Ok(vec![None; count]);
        }
        let found = ask(self, move |index| {
            let get = |id: &Id| match index.may_have(id) {
                true => index.get(id),
                false => Ok(None),
            };
            ids.iter()
                .map(get)
                .collect::<crate::index::Result<Vec<_>>>()
        });
        let mut found = found.await?.unwrap_or_else(|| vec![None; count]);
        for one in &mut found {
            *one = one
                .take()
                .filter(|it| !self.inner.is_expired(it.description.expires_at_ms));
        }
        Ok(found)
    }

    pub(super) async fn list_some(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Description>> {
        // Before the index: what leaves the queue is there.
        let mut listed = BTreeMap::new();
        for waiting in self.inner.queue.all() {
            let (id, expires_at_ms) = (&waiting.id, waiting.entry.expires_at_ms());
            let key = id.key.as_str();
            if is_under(id, (tenant, namespace), prefix)
                && after.is_none_or(|after| key > after)
                && !self.inner.is_expired(expires_at_ms)
            {
                listed.insert(key.to_owned(), Description::of(&waiting.entry)?);
            }
        }
        let mut elsewhere = Vec::new();
        if self.working().is_some() {
            let listed = self.list_elsewhere((tenant, namespace), prefix, after, limit);
            elsewhere = listed.await?;
        }
        let (tenant, namespace) = (tenant.clone(), namespace.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let now_ms = self.inner.clock.now_ms();
        let below = ask(self, move |index| {
            let mut below = Vec::new();
            for stored in index.scan(&tenant, &namespace, &prefix, after.as_deref())? {
                let found = stored?.description;
                if found.expires_at_ms.is_none_or(|at| at > now_ms) {
                    below.push(found);
                }
                if below.len() == limit {
                    break;
                }
            }
            Ok(below)
        });
        for found in below.await?.unwrap_or_default() {
            let key = found.id.key.as_str().to_owned();
            listed.entry(key).or_insert(found);
        }
        for found in elsewhere {
            let key = found.description.id.key.as_str().to_owned();
            listed.entry(key).or_insert(found.description);
        }
        Ok(listed.into_values().take(limit).collect())
    }
}
