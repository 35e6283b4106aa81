//! What others have written under prefixes of their own, which this server reads and never writes to: a node that
//! is no more, or one that goes on writing. Its own tensors go before; of several others', the higher version.
//!
//! - `follow`: an index of each prefix, out of what is there, and of what comes there
//! - `hidden`: what this server has replaced or deleted is not to be found there again
//!
//! The indices begin anew with each start. Until a prefix has been read once, none of its tensors is found, and
//! whatever is put or deleted here is hidden there unseen.

mod follow;
mod hidden;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowstring_cache::Id;
use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use parking_lot::RwLock;

use super::reader::Landed;
use super::{Cold, Inner, blocking};
use crate::entry::{Number, Place, Prefix, Stored};
use crate::index::{ColdIndex, IndexError, IndexSettings, wipe};
use crate::store::{Store, StoreSettings};
use hidden::Hidden;

/// What the index of a prefix may have in memory besides some bytes an entry.
const INDEX_BYTES: u64 = 8 << 20;

/// All of them.
pub(super) struct Others {
    all: Vec<Other>,
    hidden: Hidden,
}

/// One prefix.
struct Other {
    prefix: Prefix,
    store: Store,
    index: ColdIndex,
    /// Segments that were there when it was last looked: rows of others are left over.
    live: RwLock<HashSet<Number>>,
    /// All that was there has been read once.
    ready: AtomicBool,
}

/// The stores of prefixes that are only read.
///
/// # Errors
/// `invalid_argument`, `failed_precondition` for what cannot be one, or is our own.
pub(super) fn open_stores(
    urls: &[String],
    own: &Store,
    settings: &StoreSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Store>> {
    let mut stores: Vec<Store> = Vec::with_capacity(urls.len());
    for url in urls {
        let store = Store::open_to_read(url, settings.clone(), Arc::clone(clock))?;
        if store.identity() == own.identity() {
            return Err(Error::invalid(format!(
                "a prefix to read is our own; cold_also=`{url}` expected that of another server"
            )));
        }
        if url.starts_with("memory:") {
            return Err(Error::invalid(format!(
                "nobody else has written there; cold_also=`{url}`"
            )));
        }
        stores.push(store);
    }
    Ok(stores)
}

impl Others {
    /// With empty indices, in `dir`; `None` where there are no stores.
    pub(super) async fn open(dir: &Path, own: &Store, stores: Vec<Store>) -> Result<Option<Self>> {
        if stores.is_empty() {
            return Ok(None);
        }
        let hidden = Hidden::open(new_index(dir.join("hidden")).await?, own).await?;
        let mut all = Vec::with_capacity(stores.len());
        for (at, store) in stores.into_iter().enumerate() {
            let at = at + 1;
            all.push(Other {
                prefix: Prefix(at),
                store: store.to_read(),
                index: new_index(dir.join(format!("also-{at}"))).await?,
                live: RwLock::default(),
                ready: AtomicBool::new(false),
            });
        }
        Ok(Some(Self { all, hidden }))
    }

    /// Whether any of them may have a key: false is sure.
    pub(super) fn may_have(&self, id: &Id) -> bool {
        let may_have = |other: &Other| !other.is_ready() || other.index.may_have(id);
        self.all.iter().any(may_have)
    }

    fn is_ready(&self) -> bool {
        self.all.iter().all(Other::is_ready)
    }

    fn other(&self, prefix: Prefix) -> Option<&Other> {
        self.all.get(prefix.0.checked_sub(1)?)
    }

    /// What is to be found of a key. Reads the disk.
    fn find(&self, id: &Id, now_ms: u64) -> Option<Stored> {
        let found = self.all.iter().filter_map(|other| other.get(id));
        let found = found.filter(|stored| self.shows(stored, now_ms));
        // The first one of those that are the same.
        found.reduce(|best, next| {
            let is_newer = next.description.version > best.description.version;
            if is_newer { next } else { best }
        })
    }

    fn shows(&self, stored: &Stored, now_ms: u64) -> bool {
        let known = &stored.description;
        known.expires_at_ms.is_none_or(|at| at > now_ms)
            && !self.hidden.hides(&known.id, known.version)
    }

    /// The first keys of a namespace that begin with `prefix` and come after `after`. Reads the disk.
    fn list(
        &self,
        (tenant, namespace): (&Tenant, &Namespace),
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Vec<Stored> {
        let mut listed: BTreeMap<String, Stored> = BTreeMap::new();
        for other in self.all.iter().filter(|other| other.is_ready()) {
            let Ok(scan) = other.index.scan(tenant, namespace, prefix, after) else {
                continue;
            };
            let shown = scan
                .filter_map(|stored| other.shown(stored.ok()?))
                .filter(|stored| self.shows(stored, now_ms));
            for stored in shown.take(limit) {
                let key = stored.description.id.key.as_str().to_owned();
                let is_newer = listed
                    .get(&key)
                    .is_none_or(|it| stored.description.version > it.description.version);
                if is_newer {
                    listed.insert(key, stored);
                }
            }
        }
        listed.into_values().take(limit).collect()
    }

    /// Entries that are to be found, but for what is hidden; prefixes that were not read yet; memory of the
    /// indices.
    pub(super) fn figures(&self) -> (u64, u64, u64) {
        let mut figures = (0, 0, self.hidden.resident_bytes());
        for other in &self.all {
            let live = other.live.read();
            let segments = other.index.segments();
            let alive = segments.iter().filter(|it| live.contains(&it.number));
            figures.0 += alive.map(|segment| segment.live_entries).sum::<u64>();
            figures.1 += u64::from(!other.is_ready());
            figures.2 += other.index.resident_bytes();
        }
        figures
    }
}

impl Other {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn get(&self, id: &Id) -> Option<Stored> {
        if !self.is_ready() || !self.index.may_have(id) {
            return None;
        }
        // An index that fails finds nothing, and who follows the prefix learns of it.
        self.shown(self.index.get(id).ok()??)
    }

    fn shown(&self, mut stored: Stored) -> Option<Stored> {
        stored.place.prefix = self.prefix;
        let is_there = self.live.read().contains(&stored.place.segment);
        is_there.then_some(stored)
    }
}

impl Inner {
    /// Where what lies under a prefix is.
    pub(super) fn store_of(&self, prefix: Prefix) -> &Store {
        let other = self.others.as_ref().and_then(|it| it.other(prefix));
        other.map_or(&self.store, |other| &other.store)
    }

    /// What is to be found of a key in others' prefixes. Reads the disk.
    pub(super) fn find_elsewhere(&self, id: &Id) -> Option<Stored> {
        self.others.as_ref()?.find(id, self.clock.now_ms())
    }

    pub(super) fn may_be_elsewhere(&self, id: &Id) -> bool {
        self.others
            .as_ref()
            .is_some_and(|others| others.may_have(id))
    }
}

impl Cold {
    /// Looks in others' prefixes for what was not found here; not while nobody knows what is here.
    pub(super) async fn look_elsewhere(
        &self,
        ids: impl IntoIterator<Item = Id>,
        found: &mut [Option<Stored>],
    ) -> Result<()> {
        match self.working() {
            Some(_) => self.look_there(ids, found).await,
            None => Ok(()),
        }
    }

    async fn look_there(
        &self,
        ids: impl IntoIterator<Item = Id>,
        found: &mut [Option<Stored>],
    ) -> Result<()> {
        if self.inner.others.is_none() {
            return Ok(());
        }
        let missing: Vec<(usize, Id)> = ids
            .into_iter()
            .enumerate()
            .filter(|(at, id)| {
                found.get(*at).is_some_and(Option::is_none) && self.inner.may_be_elsewhere(id)
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let cold = self.clone();
        let elsewhere = blocking(move || {
            let find = |(at, id): (usize, Id)| (at, cold.inner.find_elsewhere(&id));
            missing.into_iter().map(find).collect::<Vec<_>>()
        });
        for (at, stored) in elsewhere.await? {
            found[at] = stored;
        }
        Ok(())
    }

    /// What others have of a namespace, as [`Others::list`].
    pub(super) async fn list_elsewhere(
        &self,
        of: (&Tenant, &Namespace),
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored>> {
        if self.inner.others.is_none() {
            return Ok(Vec::new());
        }
        let cold = self.clone();
        let of = (of.0.clone(), of.1.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        blocking(move || {
            let (inner, of) = (&cold.inner, (&of.0, &of.1));
            let now_ms = inner.clock.now_ms();
            let others = inner.others.as_ref();
            others.map_or_else(Vec::new, |others| {
                others.list(of, &prefix, after.as_deref(), limit, now_ms)
            })
        })
        .await
    }

    /// Bytes that are not where another's index has them: their segment was dropped or rewritten there, or is
    /// damaged. Not found any more until the prefix tells of them anew.
    pub(super) async fn lost_elsewhere(&self, stored: Stored) -> Landed {
        let cold = self.clone();
        let done = blocking(move || {
            let inner = &cold.inner;
            let id = stored.description.id;
            let others = inner.others.as_ref();
            if let Some(other) = others.and_then(|it| it.other(stored.place.prefix)) {
                let place = Place {
                    prefix: Prefix::OWN,
                    ..stored.place
                };
                let _ = other.index.remove_placed(&[(id.clone(), place)]);
            }
            inner.find_elsewhere(&id).is_some()
        });
        match done.await {
            Ok(true) => Landed::Again,
            Ok(false) => Landed::Missing,
            Err(error) => Landed::Failed(error),
        }
    }
}

async fn new_index(dir: std::path::PathBuf) -> Result<ColdIndex> {
    let opened = blocking(move || {
        wipe(&dir)?;
        ColdIndex::open(IndexSettings {
            memory_bytes: INDEX_BYTES,
            ..IndexSettings::new(dir)
        })
    });
    let opened = opened.await?;
    opened.map_err(|error| Error::invalid(format!("cold tier: {error}")))
}

fn index_failed(error: &IndexError) -> Error {
    Error::internal(format!("the index of another's prefix: {error}"))
}
