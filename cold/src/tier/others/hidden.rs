//! What this server has replaced or deleted, as far as others' prefixes have it: it is not to be found there
//! again, after a restart and after the loss of the state directory either. So a record of it is on our own store
//! before the answer. Records are merged, never dropped: nobody knows whether a prefix that is not there now comes
//! back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowstring_cache::lower::{Description, Gone};
use bowstring_cache::{Cache, Id};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use parking_lot::{Mutex, RwLock};

use super::index_failed;
use crate::entry::{Number, Place, Prefix, Stored};
use crate::format::{Grave, encode_hidden, read_hidden};
use crate::index::{ColdIndex, IndexError};
use crate::store::{Folder, ObjectName, Store, StoreError};
use crate::tier::build::RECORD_BYTES_MAX;
use crate::tier::{Cold, blocking, failed};

/// Prefixes of one namespace that are told apart: from there on all of it is hidden, which is misses.
const PREFIXES_MAX: usize = 1_000;
/// Keys of a namespace that are hidden together.
const STEP: usize = 1_000;
/// How often another start may have taken a number.
const TRIES: usize = 64;
/// So many small records become one, and how small they are.
const MERGE_MIN: usize = 64;
const MERGE_BYTES: u64 = 1 << 20;
const MERGE_BYTES_TOGETHER: u64 = 8 << 20;
const MERGE_EVERY: Duration = Duration::from_secs(60);

type Space = (Tenant, Namespace);

pub(super) struct Hidden {
    /// A row for each name, whose version has the clock: the index of a tier, of tensors that are not there.
    names: ColdIndex,
    prefixes: RwLock<HashMap<Space, Vec<(String, u64)>>>,
    /// What has a clock up to this one is hidden: somebody has damaged a record.
    all: AtomicU64,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    writing: tokio::sync::Mutex<()>,
}

/// What gathers while a record is being written.
#[derive(Default)]
struct Waiting {
    graves: Vec<Grave>,
    turn: u64,
    written: u64,
}

impl Hidden {
    pub(super) async fn open(names: ColdIndex, own: &Store) -> Result<Self> {
        let listed = own.list(Folder::Hidden).await.map_err(failed)?;
        let last = listed.last().map_or(0, |listed| listed.name.number());
        Ok(Self {
            names,
            prefixes: RwLock::default(),
            all: AtomicU64::new(0),
            next: AtomicU64::new(last.saturating_add(1)),
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.names.resident_bytes()
    }

    /// Whether a version of a name is not to be found. Reads the disk, if the name may be hidden at all.
    pub(super) fn hides(&self, id: &Id, version: Version) -> bool {
        if version.hlc <= self.all.load(Ordering::Acquire) {
            return true;
        }
        let space = (id.tenant.clone(), id.namespace.clone());
        let key = id.key.as_str();
        let by_prefix = self.prefixes.read().get(&space).is_some_and(|prefixes| {
            let hides =
                |(prefix, hlc): &(String, u64)| version.hlc <= *hlc && key.starts_with(prefix);
            prefixes.iter().any(hides)
        });
        by_prefix
            || self.names.may_have(id)
                && match self.names.get(id) {
                    Ok(grave) => grave.is_some_and(|it| version.hlc <= it.description.version.hlc),
                    // Nobody knows.
                    Err(_) => true,
                }
    }

    /// Takes in what is hidden. Calls come one at a time.
    fn apply(&self, graves: &[Grave]) -> std::result::Result<(), IndexError> {
        let mut rows: HashMap<&Id, Stored> = HashMap::new();
        for grave in graves {
            match grave {
                Grave::Name(id, hlc) => {
                    let old = match rows.get(id) {
                        Some(old) => Some((old.description.version.hlc, old.place.segment)),
                        None => {
                            let old = self.names.get(id)?;
                            old.map(|old| (old.description.version.hlc, old.place.segment))
                        }
                    };
                    if old.is_none_or(|(old, _)| old < *hlc) {
                        // A later one takes the place of one before.
                        let number = old.map_or(1, |(_, Number(number))| number + 1);
                        if let Some(row) = row(id, *hlc, number) {
                            rows.insert(id, row);
                        }
                    }
                }
                Grave::Prefix(space, prefix, hlc) => self.apply_prefix(space, prefix, *hlc),
            }
        }
        let rows: Vec<Stored> = rows.into_values().collect();
        self.names.insert_all(&rows).map(drop)
    }

    fn apply_prefix(&self, space: &Space, prefix: &str, hlc: u64) {
        let mut prefixes = self.prefixes.write();
        let of = prefixes.entry(space.clone()).or_default();
        of.retain(|(there, at)| *at > hlc || !there.starts_with(prefix));
        of.push((prefix.to_owned(), hlc));
        if of.len() > PREFIXES_MAX {
            let highest = of.iter().map(|(_, hlc)| *hlc).max();
            *of = vec![(String::new(), highest.unwrap_or(hlc))];
        }
    }
}

/// What stands for a name that is hidden up to a clock.
fn row(id: &Id, hlc: u64, number: u64) -> Option<Stored> {
    Some(Stored {
        description: Description {
            attached: false,
            id: id.clone(),
            version: Version { hlc, start: 0 },
            dtype: DType::UInt8,
            shape: Shape::new(&[0]).ok()?,
            len: 0,
            checksum: 0,
            expires_at_ms: None,
            source_version: None,
            metadata: Vec::new(),
        },
        place: Place {
            prefix: Prefix::OWN,
            segment: Number(number),
            offset: 0,
        },
        blocks: Vec::new(),
        frames: Vec::new(),
    })
}

impl Cold {
    /// What others have of these keys is not to be found any more. Gives the versions that were.
    pub(in crate::tier) async fn hide_names(
        &self,
        cache: &Cache,
        gone: &[Gone],
    ) -> Result<Vec<Option<Version>>> {
        let mut found = vec![None; gone.len()];
        let Some(others) = &self.inner.others else {
            return Ok(vec![None; gone.len()]);
        };
        // Before and after: what is not read at either moment is hidden unseen.
        let was_ready = others.is_ready();
        let ids = gone.iter().map(|gone| gone.id.clone());
        self.look_there(ids, &mut found).await?;
        let is_ready = was_ready && others.is_ready();
        let hlc = cache.later_hlc();
        let graves = gone.iter().zip(&found);
        let graves = graves.filter(|(_, found)| found.is_some() || !is_ready);
        let graves = graves.map(|(gone, _)| Grave::Name(gone.id.clone(), hlc));
        self.hide(graves.collect()).await?;
        let version = |stored: Stored| stored.description.version;
        Ok(found.into_iter().map(|it| it.map(version)).collect())
    }

    /// As [`Cold::hide_names`], of all keys of a namespace that begin with `prefix`. Gives how many there were
    /// that neither memory nor our own store has.
    pub(in crate::tier) async fn hide_under(
        &self,
        cache: &Cache,
        of: (&Tenant, &Namespace),
        prefix: &str,
    ) -> Result<u64> {
        let Some(others) = &self.inner.others else {
            return Ok(0);
        };
        let all_of_it = || {
            let space = (of.0.clone(), of.1.clone());
            vec![Grave::Prefix(space, prefix.to_owned(), cache.later_hlc())]
        };
        if !others.is_ready() {
            self.hide(all_of_it()).await?;
            return Ok(0);
        }
        let (mut went, mut any) = (0, false);
        let mut after: Option<String> = None;
        loop {
            let listed = self.list_elsewhere(of, prefix, after.as_deref(), STEP);
            let ids = listed
                .await?
                .into_iter()
                .map(|stored| stored.description.id);
            let ids: Vec<Id> = ids.collect();
            let Some(last) = ids.last() else { break };
            after = Some(last.key.as_str().to_owned());
            any = true;
            let is_only_there = |id: &&Id| {
                let here = self.working().is_some_and(|index| index.may_have(id));
                cache.peek(id).is_none() && !self.inner.queue.has(id) && !here
            };
            went += ids.iter().filter(is_only_there).count() as u64;
            if !prefix.is_empty() {
                let hlc = cache.later_hlc();
                let graves = ids.into_iter().map(|id| Grave::Name(id, hlc));
                self.hide(graves.collect()).await?;
            }
        }
        if any && prefix.is_empty() {
            self.hide(all_of_it()).await?;
        }
        Ok(went)
    }

    /// On the store before it returns; calls at a time are written together.
    async fn hide(&self, graves: Vec<Grave>) -> Result<()> {
        let Some(others) = self.inner.others.as_ref().filter(|_| !graves.is_empty()) else {
            return Ok(());
        };
        let hidden = &others.hidden;
        self.inner.counters.hidden.add(graves.len() as u64);
        let turn = {
            let mut waiting = hidden.waiting.lock();
            waiting.graves.extend(graves);
            waiting.turn
        };
        let _one_at_a_time = hidden.writing.lock().await;
        let graves = {
            let mut waiting = hidden.waiting.lock();
            if waiting.written > turn {
                return Ok(());
            }
            waiting.turn += 1;
            std::mem::take(&mut waiting.graves)
        };
        if let Err(error) = self.write_hidden(&graves).await {
            // Who waits tries it for himself.
            hidden.waiting.lock().graves.extend(graves);
            return Err(error);
        }
        self.apply_hidden(graves).await?;
        let mut waiting = hidden.waiting.lock();
        waiting.written = waiting.turn;
        Ok(())
    }

    async fn write_hidden(&self, graves: &[Grave]) -> Result<()> {
        let Some(others) = &self.inner.others else {
            return Ok(());
        };
        for _ in 0..TRIES {
            let number = others.hidden.next.fetch_add(1, Ordering::Relaxed);
            let record = encode_hidden(Number(number), graves);
            let name = ObjectName::Hidden(number);
            match self.inner.store.create(&name, vec![record]).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Exists) => {}
                Err(error) => {
                    return Err(Error::unavailable(format!(
                        "the cold tier cannot write down what is gone of others' prefixes; try again; error=`{error}`"
                    )));
                }
            }
        }
        Err(failed(StoreError::Exists))
    }

    async fn apply_hidden(&self, graves: Vec<Grave>) -> Result<()> {
        let cold = self.clone();
        let applied = blocking(move || {
            let others = cold.inner.others.as_ref();
            let applied = others.map_or(Ok(()), |others| others.hidden.apply(&graves));
            if let (Err(_), Some(others)) = (&applied, others) {
                // The record is written; until the next start, nothing of others' is found.
                others.hidden.all.store(u64::MAX, Ordering::Release);
            }
            applied
        });
        if let Err(error) = applied.await? {
            let error = index_failed(&error);
            tracing::error!(error = %error.message, "cold tier: nothing of others' prefixes is found until the next start");
        }
        Ok(())
    }

    /// Reads what was hidden before this start.
    pub(super) async fn read_hidden(&self) -> Result<()> {
        let Some(others) = &self.inner.others else {
            return Ok(());
        };
        let store = &self.inner.store;
        for listed in store.list(Folder::Hidden).await.map_err(failed)? {
            let record = match store.read_all(&listed.name, RECORD_BYTES_MAX).await {
                Ok(record) => record,
                Err(StoreError::NotFound) => continue,
                Err(error) => return Err(failed(error)),
            };
            match read_hidden(Number(listed.name.number()), &record) {
                Ok(graves) => {
                    let _one_at_a_time = others.hidden.writing.lock().await;
                    self.apply_hidden(graves).await?;
                }
                Err(error) if error.code == Code::DataLoss => {
                    // All that was there when it was written.
                    let until = self.inner.clock.now_ms() << 16;
                    others.hidden.all.fetch_max(until, Ordering::AcqRel);
                    tracing::warn!(record = listed.name.number(), error = %error.message,
                        "cold tier: nobody knows what a record says is hidden of others' prefixes: all that is older is left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes one of many small records, now and then. Runs until it is dropped.
    pub(super) async fn merge_hidden(&self) {
        loop {
            self.inner.clock.sleep(MERGE_EVERY).await;
            if let Err(error) = self.merge_some().await {
                tracing::debug!(error = %error.message, "cold tier: records of what is hidden were not merged");
            }
        }
    }

    pub(in crate::tier) async fn merge_some(&self) -> Result<()> {
        let store = &self.inner.store;
        let mut listed = store.list(Folder::Hidden).await.map_err(failed)?;
        let mut together = 0;
        listed.retain(|listed| {
            together += listed.bytes;
            listed.bytes < MERGE_BYTES && together <= MERGE_BYTES_TOGETHER
        });
        if listed.len() < MERGE_MIN {
            return Ok(());
        }
        let mut names: HashMap<Id, u64> = HashMap::new();
        let mut prefixes: HashMap<(Space, String), u64> = HashMap::new();
        for one in &listed {
            let record = store.read_all(&one.name, RECORD_BYTES_MAX).await;
            let record = record.map_err(failed)?;
            for grave in read_hidden(Number(one.name.number()), &record)? {
                let (at, hlc) = match grave {
                    Grave::Name(id, hlc) => (names.entry(id).or_default(), hlc),
                    Grave::Prefix(space, prefix, hlc) => {
                        (prefixes.entry((space, prefix)).or_default(), hlc)
                    }
                };
                *at = hlc.max(*at);
            }
        }
        let names = names.into_iter().map(|(id, hlc)| Grave::Name(id, hlc));
        let prefixes = prefixes.into_iter();
        let prefixes = prefixes.map(|((space, prefix), hlc)| Grave::Prefix(space, prefix, hlc));
        let merged: Vec<Grave> = names.chain(prefixes).collect();
        self.write_hidden(&merged).await?;
        for one in listed {
            store.delete(&one.name).await.map_err(failed)?;
        }
        Ok(())
    }
}
