//! What the last run had in memory comes back into it, the hottest first, behind all that clients ask for:
//! nobody waits for such a load, and nothing goes for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_cache::ledger::Account;
use bowstring_cache::restore::Restored;
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::Result;
use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::joined::{Piece, Wanted, pieces};
use super::reader::{Landed, Still};
use super::writer::free_wanted;
use super::{Cold, failed};
use crate::entry::{Number, Stored};
use crate::format::{HotNames, read_hot};
use crate::store::ObjectName;

/// The largest list that is read.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Names that are looked up together.
const STEP: usize = 256;
/// Pieces that are read at one time.
const PIECES: usize = 4;
/// What an entry takes in memory besides its bytes, at most.
const OVERHEAD_BYTES: u64 = 512;
/// How long reads of clients are let by before one piece, and how often it is looked whether any are left.
const WAY_WAIT: Duration = Duration::from_millis(100);
const WAY_TICK: Duration = Duration::from_millis(2);

impl Cold {
    /// Loads the hottest of the last run until `percent` of the memory is used, where that was asked for.
    /// After that a list of this run may take the place of the last one's.
    pub async fn warm(&self, cache: &Cache, percent: Option<u8>) {
        let inner = &self.inner;
        if let Some(percent) = percent {
            inner.counters.warming.add(1);
            let started = inner.clock.monotonic();
            let warmed = self.try_warm(cache, percent).await;
            inner.counters.warming.subtract(1);
            match warmed {
                Ok(()) => {
                    let took_ms = (inner.clock.monotonic() - started).as_millis();
                    let entries = inner.counters.warmed.get();
                    let bytes = inner.counters.warmed_bytes.get();
                    tracing::info!(entries, bytes, took_ms, "cold tier: memory is warm");
                }
                Err(error) => {
                    tracing::warn!(error = %error.message, "cold tier: memory was not warmed");
                }
            }
        }
        inner.hot.was_read();
    }

    async fn try_warm(&self, cache: &Cache, percent: u8) -> Result<()> {
        let Some(name) = self.last_list().await? else {
            return Ok(());
        };
        let list = self.inner.store.read_all(&name, LIST_BYTES_MAX).await;
        let list = list.map_err(failed)?;
        let Some(_charge) = cache.charge(Account::Cold, list.len() as u64) else {
            return Ok(());
        };
        let mut names = read_hot(Number(name.number()), &list)?;
        tracing::info!(
            names = names.left(),
            percent,
            "cold tier: memory is being warmed"
        );
        let is_full = AtomicBool::new(false);
        let room = Room {
            cache,
            used_max: cache.config().memory / 100 * u64::from(percent),
        };
        while let Some(ids) = step(&mut names, cache) {
            let mut wanted = Vec::new();
            let mut left = room.left();
            for stored in self.look_up_all(ids).await?.into_iter().flatten() {
                let bytes = stored.description.len + OVERHEAD_BYTES;
                if bytes <= left {
                    left -= bytes;
                    let land = watch::channel(None).0;
                    wanted.push(Wanted {
                        stored,
                        to_stay: true,
                        land,
                    });
                }
            }
            // They are all read, or there is no more room: in either case these are the last.
            let (is_full, room) = (&is_full, &room);
            let all =
                stream::iter(pieces(wanted)).for_each_concurrent(PIECES, |piece| async move {
                    self.give_way().await;
                    if room.takes(&piece) {
                        self.warm_piece(cache, piece).await;
                    } else {
                        is_full.store(true, Ordering::Relaxed);
                    }
                });
            all.await;
            if is_full.load(Ordering::Relaxed) || room.left() < OVERHEAD_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Lets reads of clients by, but not for ever.
    async fn give_way(&self) {
        let clock = &self.inner.clock;
        let until = clock.monotonic() + WAY_WAIT;
        while !self.inner.flights.is_empty() && clock.monotonic() < until {
            clock.sleep(WAY_TICK).await;
        }
    }

    /// What does not come is left to who asks for it.
    async fn warm_piece(&self, cache: &Cache, piece: Piece) {
        let name = ObjectName::Segment(piece.segment);
        if piece.is_alone() {
            for one in piece.into_wanted() {
                if let Ok(Some(restored)) = self.read(cache, &one.stored).await {
                    self.warmed(&one.stored, restored).await;
                }
            }
            return;
        }
        let Some(_charge) = cache.charge(Account::Cold, piece.room()) else {
            return;
        };
        let store = self.inner.store_of(piece.prefix);
        let Ok(read) = store.read_ranges(&name, piece.ranges()).await else {
            return;
        };
        for (one, own) in piece.each(read) {
            if let Ok(restored) = self.restored(cache, &one.stored, &own).await {
                self.warmed(&one.stored, restored).await;
            }
        }
    }

    async fn warmed(&self, stored: &Stored, restored: Restored) {
        let id = &stored.description.id;
        let still = Still::LiesAt(stored.place);
        if let Landed::Here(_) = self.put_back(id, restored, still).await {
            self.inner.counters.warmed.add(1);
            let bytes = stored.description.len;
            self.inner.counters.warmed_bytes.add(bytes);
        }
    }
}

/// The next names that memory has not; `None` at the end.
fn step(names: &mut HotNames, cache: &Cache) -> Option<Vec<Id>> {
    if names.left() == 0 {
        return None;
    }
    let missing = |id: &Id| cache.peek(id).is_none();
    Some(names.take(STEP).filter(missing).collect())
}

/// How much may come: no more than was asked for, and nothing goes for it.
struct Room<'a> {
    cache: &'a Cache,
    used_max: u64,
}

impl Room<'_> {
    fn left(&self) -> u64 {
        let cache = self.cache;
        // What is kept free by handing entries down, and something for those who put meanwhile.
        let kept_free = free_wanted(cache) * 5 / 4;
        let free = cache.free_bytes().saturating_sub(kept_free);
        free.min(self.used_max.saturating_sub(cache.ledger().used()))
    }

    fn takes(&self, piece: &Piece) -> bool {
        let bytes: u64 = piece.wanted().map(|one| one.stored.description.len).sum();
        bytes <= self.left()
    }
}
