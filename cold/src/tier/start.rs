//! Who writes under a prefix, what is there already, and whether the index knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use bowstring_cache::clock::Clock;
use bowstring_cache::entropy::Entropy;
use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::build::{Unread, index_step, records_of};
use super::census::{counted, take_census};
use super::counters::Counters;
use super::degraded::Trust;
use super::fence::Fence;
use super::flights::Flights;
use super::forget::RECORD_NAMES;
use super::hot::Hot;
use super::kept::Kept;
use super::others::{Others, open_stores};
use super::owed::Owed;
use super::passing::Passing;
use super::queue::Queue;
use super::seen::Seen;
use super::segment::packers;
use super::settings::ColdSettings;
use super::unpacking::Unpackers;
use super::{ASKING_MAX, Cold, Inner, blocking, failed};
use crate::entry::Number;
use crate::format::{FORMAT_VERSION, Gone, encode_gone};
use crate::index::{ColdIndex, InStore, IndexError, IndexSettings, Pending, Rebuild, State};
use crate::store::{Folder, Listed, ObjectName, Store, StoreError};

/// How often another start may take the number that we want.
const EPOCH_TRIES: u32 = 16;
/// Numbers that each start has for itself: more than it can use.
const EPOCH_NUMBERS: u64 = 1 << 40;
/// Objects that are deleted at one time.
const DELETES: usize = 8;

impl Cold {
    /// Opens a tier: begins an epoch under its prefix, from which on what an earlier one writes is not
    /// taken for ours, and opens the index. What is left to be read is for [`Cold::build`].
    ///
    /// # Errors
    /// `invalid_argument` for a store or a directory that cannot be used, `unavailable` for a store that
    /// does not answer.
    pub async fn open(
        settings: ColdSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Cold, Option<Unread>)> {
        let store = Store::open(&settings.url, settings.store.clone(), Arc::clone(&clock))?;
        Self::over(store, settings, clock).await
    }

    /// As [`Cold::open`], over a store of the caller's.
    ///
    /// # Errors
    /// As [`Cold::open`].
    pub async fn over(
        store: Store,
        settings: ColdSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Cold, Option<Unread>)> {
        let trust = Trust::new(settings.state_dir.clone());
        // Of others' prefixes there is an index on the disk, wherever our own is.
        let (dir, scratch) = match &settings.state_dir {
            Some(dir) => (Some(dir.clone()), None),
            None if settings.also.is_empty() => (None, None),
            None => {
                let dir = tempfile::Builder::new().prefix("bowstring-cold-").tempdir();
                let dir = dir.map_err(|error| {
                    Error::invalid(format!(
                        "no directory for the indices of others' prefixes; error=`{error}`"
                    ))
                })?;
                (Some(dir.path().to_owned()), Some(dir))
            }
        };
        let on_disk = settings.state_dir.as_ref().map(|dir| IndexSettings {
            fsync: settings.fsync,
            ..IndexSettings::new(dir.join("index"))
        });
        let trusted = |trust: &Trust| {
            trust.give().map_err(|error| {
                Error::invalid(format!(
                    "the state directory cannot be written; dir=`{:?}` error=`{error}`",
                    settings.state_dir
                ))
            })
        };
        let given_up = trust.was_given_up();
        if !given_up {
            trusted(&trust)?;
        }
        // The directory's lock before the epoch: who does not get it leaves the other's index what it is.
        let mut opened = None;
        if let Some(of) = on_disk.clone() {
            opened = open_index(of).await?;
        }
        let begun = (clock.monotonic(), clock.now_ms());
        let (before, epoch) = begin_epoch(&store).await?;
        let mut segments = store.list(Folder::Segments).await.map_err(failed)?;
        if given_up {
            tracing::warn!(
                "cold tier: what is below was given up when its index was lost, it begins anew"
            );
            give_up(&store, &mut segments).await?;
            trusted(&trust)?;
        }
        let mut logs = store.list(Folder::Log).await.map_err(failed)?;
        let highest = segments.iter().chain(&logs);
        let highest = highest.map(|listed| listed.name.number()).max();
        counted(&store, &mut segments).await?;
        let index_settings = on_disk.unwrap_or_else(|| {
            IndexSettings::in_store(InStore {
                store: store.clone(),
                runtime: tokio::runtime::Handle::current(),
                epoch,
            })
        });
        let mut onto = None;
        if settings.state_dir.is_none()
            && let Some(index) = open_index(index_settings.clone()).await?
            && index.state().is_some()
        {
            let sidecars = sidecars_of(&segments);
            onto = Some(index_step(move || Rebuild::onto(index, &sidecars)).await?);
        }
        // What was promised gone may have no record on the store yet.
        let known = opened.as_ref().map(ColdIndex::highest);
        let highest = highest.max(known.map(|known| known.0));
        // Above all that an earlier start may still write.
        let first = highest.map_or(1, |highest| highest + 1);
        let mut first = first.max(epoch.checked_mul(EPOCH_NUMBERS).unwrap_or(0));
        let begins = Number(first);
        let identity = || store.identity().to_owned();
        // Of what was given up, nothing in the index is believed either.
        let is_ours =
            |state: State| !given_up && state.store == identity() && state.epoch == before;
        let index = match opened {
            Some(index) if index.state().is_some_and(is_ours) => {
                let identity = identity();
                Some(index_step(move || index.set_state(&identity, epoch).map(|()| index)).await?)
            }
            // Of another store, it has nothing to say to this one.
            Some(index) if !given_up && index.state().is_none_or(|it| it.store == identity()) => {
                let pending = index.pending(usize::MAX);
                logs.extend(tell(&store, &pending, &mut first).await?);
                None
            }
            _ => None,
        };
        // An index that goes on being used knows nothing of what was written when it was killed, nor does anybody.
        let mut sidecars = sidecars_of(&segments);
        if let Some(index) = &index {
            let known: BTreeSet<Number> = index.segments().iter().map(|one| one.number).collect();
            sidecars.retain(|number| known.contains(number));
        }
        take_census(&store, epoch, begins, sidecars).await?;
        let unread = index.is_none().then(|| Unread {
            settings: index_settings,
            records: records_of(&segments, &logs),
            begun: Mutex::new(onto),
            epoch,
        });
        let counters = Counters::default();
        // Behind the epoch: what an earlier start keeps from now on is refused there.
        let kept = Kept::open(&store, &counters).await?;
        let also = open_stores(&settings.also, &store, &settings.store, &clock)?;
        let others = match &dir {
            Some(dir) => Others::open(dir, &store, also).await?,
            None => None,
        };
        let cold = Cold {
            inner: Arc::new(Inner {
                clock,
                store,
                index: index.map_or_else(OnceLock::new, |index| OnceLock::from(Arc::new(index))),
                gone_before: Mutex::new(Vec::new()),
                queue: Queue::default(),
                flights: Flights::default(),
                stripes: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
                hash: std::hash::RandomState::new(),
                seen: Seen::new(settings.stay_reads),
                passing: Passing::new(settings.passing_bytes),
                unpackers: Unpackers::default(),
                packing: Semaphore::new(packers()),
                asking: Semaphore::new(ASKING_MAX),
                next: AtomicU64::new(first),
                open: Mutex::new(BTreeSet::new()),
                last_read: Mutex::new(BTreeMap::new()),
                owed: Owed::default(),
                fence: Fence::new(epoch, begun),
                trust,
                hot: Hot::default(),
                others,
                kept,
                counters,
                flushes: AtomicU64::new(0),
                _dir: scratch,
                settings,
            }),
        };
        Ok((cold, unread))
    }

    /// Whether there is an index: until then, what is below is not found.
    pub fn is_ready(&self) -> bool {
        self.inner.index.get().is_some()
    }

    /// The highest clock of a version that is here: what memory makes from now on is later.
    pub fn max_hlc(&self) -> u64 {
        let index = self.inner.index.get();
        index.map_or(0, |index| index.max_hlc())
    }
}

/// The index as it lies there, where it can be opened.
async fn open_index(settings: IndexSettings) -> Result<Option<ColdIndex>> {
    match blocking(move || ColdIndex::open(settings)).await? {
        Ok(index) => Ok(Some(index)),
        Err(IndexError::Unusable(why)) => {
            tracing::warn!(%why, "cold tier: the index cannot be opened, it is built anew");
            Ok(None)
        }
        Err(error @ IndexError::Store(_)) => Err(Error::unavailable(format!("cold tier: {error}"))),
        Err(error) => Err(Error::invalid(format!("cold tier: {error}"))),
    }
}

fn sidecars_of(segments: &[Listed]) -> BTreeSet<Number> {
    let sidecar = |listed: &Listed| match listed.name {
        ObjectName::Sidecar(number) => Some(number),
        _ => None,
    };
    segments.iter().filter_map(sidecar).collect()
}

/// Has the store's log say what an index that is not used any more was to tell it.
async fn tell(store: &Store, pending: &[Pending], next: &mut u64) -> Result<Vec<Listed>> {
    let mut records = Vec::new();
    for pending in pending.chunks(RECORD_NAMES) {
        let gone = pending.iter().map(|one| (one.gone.clone(), one.below));
        let gone: Vec<(Gone, Number)> = gone.collect();
        let number = Number(*next);
        *next += 1;
        let (name, record) = (ObjectName::Log(number), encode_gone(number, &gone));
        let bytes = record.len() as u64;
        let written = store.create(&name, vec![record]).await;
        written.map_err(failed)?;
        records.push(Listed { name, bytes });
    }
    Ok(records)
}

/// Has no segment count any more: without its sidecar none does.
async fn give_up(store: &Store, segments: &mut Vec<Listed>) -> Result<()> {
    let is_sidecar = |listed: &Listed| matches!(listed.name, ObjectName::Sidecar(_));
    let sidecars = segments.extract_if(.., |listed| is_sidecar(listed));
    let sidecars: Vec<Listed> = sidecars.collect();
    let deletes = sidecars.into_iter().map(|listed| {
        let store = store.clone();
        async move { store.delete(&listed.name).await }
    });
    let mut deletes = stream::iter(deletes).buffer_unordered(DELETES);
    while let Some(deleted) = deletes.next().await {
        deleted.map_err(failed)?;
    }
    Ok(())
}

/// The epoch before ours, 0 for none, and ours.
///
/// Its text is like no other's: the store takes an object with the very bytes of a create for one whose answer
/// was lost.
async fn begin_epoch(store: &Store) -> Result<(u64, u64)> {
    let [by, _] = Entropy::draw()?.hash_key;
    for _ in 0..EPOCH_TRIES {
        let epochs = store.list(Folder::Epochs).await.map_err(failed)?;
        let last = epochs.last().map_or(0, |listed| listed.name.number());
        let text = format!(
            "{{\"epoch\": {}, \"format\": {}, \"by\": \"{by:016x}\"}}\n",
            last + 1,
            FORMAT_VERSION
        );
        let name = ObjectName::Epoch(last + 1);
        match store.create(&name, vec![Bytes::from(text)]).await {
            Ok(()) => return Ok((last, last + 1)),
            Err(StoreError::Exists) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Error::unavailable(
        "others start under this prefix of the cold store all the time; give each node its own",
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bowstring_cache::clock::SystemClock;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;
    use crate::store::StoreSettings;
    use crate::store::faults::{Fault, Faulty, Site};

    /// Both have looked before either writes: had they the same bytes, each would take the one object for
    /// its own.
    #[tokio::test]
    async fn two_that_start_at_once_have_epochs_of_their_own() {
        let clock = Arc::new(SystemClock::new());
        let slow = |site, _: &Path, _| {
            (site == Site::Put).then_some(Fault::Delay(Duration::from_millis(1)))
        };
        let inner = Faulty::new(Arc::new(InMemory::new()), clock.clone(), slow);
        let store = Store::new(
            Arc::new(inner),
            Path::default(),
            StoreSettings::default(),
            clock,
        );
        let (one, other) = futures::join!(begin_epoch(&store), begin_epoch(&store));
        let mut epochs = [one.unwrap(), other.unwrap()];
        epochs.sort_unstable();
        assert_eq!(epochs, [(0, 1), (1, 2)]);
    }
}
