//! Several keys at once: one look into the index for all of them, and what lies side by side is read in one
//! piece. One load a key here too, however many wait for it: they all run on one task.

use std::sync::Arc;

use bowstring_cache::ledger::Account;
use bowstring_cache::lower::{Found, Reading};
use bowstring_cache::read::Entry;
use bowstring_cache::restore::Restored;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Code, Result};
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::flights::{Flight, Land, landed};
use super::joined::{Piece, Wanted, groups, pieces};
use super::reader::{Landed, Way};
use super::{Cold, failed};
use crate::entry::{BLOCK_BYTES, Stored};
use crate::store::{Asked, ObjectName, StoreError};

/// What is asked of the store at one time.
const REQUESTS: usize = 8;

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
        let at_once = |prefix| self.inner.store_of(prefix).objects_at_once();
        let groups = stream::iter(groups(pieces(wanted), at_once));
        groups
            .for_each_concurrent(REQUESTS, |group| self.read_group(cache, group))
            .await;
    }

    async fn read_group(&self, cache: &Cache, group: Vec<Piece>) {
        let inner = &self.inner;
        let Some(prefix) = group.first().map(|first| first.prefix) else {
            return;
        };
        let room = match group.iter().any(Piece::is_alone) {
            true => None,
            false => cache.charge(Account::Cold, group.iter().map(Piece::room).sum()),
        };
        let Some(_room) = room else {
            return self.read_apart(cache, group).await;
        };
        let mut asked: Vec<Asked> = Vec::with_capacity(group.len());
        for piece in &group {
            inner.is_read(prefix, piece.segment);
            asked.push((ObjectName::Segment(piece.segment), piece.ranges()));
        }
        let read = inner.store_of(prefix).read_each(&asked).await;
        for (piece, read) in group.into_iter().zip(read) {
            match read {
                Ok(read) => self.land_piece(cache, piece, read).await,
                // Some of them may be whole.
                Err(StoreError::NotFound | StoreError::Short { .. }) => {
                    self.read_apart(cache, vec![piece]).await;
                }
                Err(error) => {
                    inner.counters.failed_reads.add(1);
                    let error = failed(error);
                    for Wanted { stored, land, .. } in piece.into_wanted() {
                        self.tell(&stored.description.id, &land, Landed::Failed(error.clone()));
                    }
                }
            }
        }
    }

    async fn land_piece(&self, cache: &Cache, piece: Piece, read: Vec<Bytes>) {
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
    async fn read_apart(&self, cache: &Cache, pieces: Vec<Piece>) {
        let wanted: Vec<Wanted> = pieces.into_iter().flat_map(Piece::into_wanted).collect();
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
}
