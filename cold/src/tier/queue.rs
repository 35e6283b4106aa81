//! Entries on their way down. Each is pinned, and found by who looks for its key, until it is in the
//! index or was let go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bowstring_cache::Id;
use bowstring_cache::lower::Description;
use bowstring_cache::read::Entry;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::is_under;

/// What is kept of an entry besides its own memory.
const OVERHEAD_BYTES: u64 = 512;

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Waits,
    /// It is in the store and in the index.
    Written,
    /// It is not to be written any more.
    LetGo,
    /// A write has failed; it is tried again.
    Failed(String),
}

/// Which of a key's entries: a version that was given another expiry is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
}

impl Which {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            version: entry.version(),
            expires_at_ms: entry.expires_at_ms(),
        }
    }

    pub(super) fn is(self, there: &Description) -> bool {
        (self.version, self.expires_at_ms) == (there.version, there.expires_at_ms)
    }
}

/// An entry that waits to be written.
pub(super) struct Waiting {
    pub(super) id: Id,
    pub(super) entry: Entry,
    pub(super) since: Duration,
    /// Whether a put waits for it.
    pub(super) urgent: AtomicBool,
    gone: AtomicBool,
    fate: watch::Sender<Fate>,
}

impl Waiting {
    /// Whether it is not to be found any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn cost(&self) -> u64 {
        self.entry.len() + OVERHEAD_BYTES
    }

    pub(super) fn fate(&self) -> watch::Receiver<Fate> {
        self.fate.subscribe()
    }

    pub(super) fn tell(&self, fate: Fate) {
        self.fate.send_replace(fate);
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Of `state`, for who only wants to know whether to look.
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Somebody has come.
    pub(super) came: Notify,
}

#[derive(Default)]
struct State {
    by_id: HashMap<Id, Arc<Waiting>>,
    /// Those that the writer has not seen.
    new: Vec<Arc<Waiting>>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.load(Ordering::Acquire) == 0
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes of all that wait, with what is kept of them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn has(&self, id: &Id) -> bool {
        !self.is_empty() && self.state.lock().by_id.contains_key(id)
    }

    /// The entry that waits, pinned once more.
    pub(super) fn get(&self, id: &Id) -> Option<Entry> {
        self.waiting(id)?.entry.share()
    }

    pub(super) fn waiting(&self, id: &Id) -> Option<Arc<Waiting>> {
        if self.is_empty() {
            return None;
        }
        self.state.lock().by_id.get(id).cloned()
    }

    /// Takes an entry, in the place of another one of its key; `None` where that would be more than `max`
    /// bytes.
    pub(super) fn push(
        &self,
        id: Id,
        entry: Entry,
        since: Duration,
        max: u64,
    ) -> Option<Arc<Waiting>> {
        let mut state = self.state.lock();
        if let Some(there) = state.by_id.get(&id)
            && Which::of(&there.entry) == Which::of(&entry)
        {
            return Some(Arc::clone(there));
        }
        // What it takes the place of goes in any case.
        let before = state.by_id.remove(&id);
        if let Some(before) = &before {
            self.out(before, Fate::LetGo);
        }
        if self.bytes() + entry.len() + OVERHEAD_BYTES > max {
            if before.is_some() {
                self.entries.fetch_sub(1, Ordering::Release);
            }
            return None;
        }
        let (fate, _) = watch::channel(Fate::Waits);
        let waiting = Arc::new(Waiting {
            id: id.clone(),
            entry,
            since,
            urgent: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            fate,
        });
        self.bytes.fetch_add(waiting.cost(), Ordering::Relaxed);
        state.by_id.insert(id, Arc::clone(&waiting));
        state.new.push(Arc::clone(&waiting));
        if before.is_none() {
            self.entries.fetch_add(1, Ordering::Release);
        }
        drop(state);
        self.came.notify_one();
        Some(waiting)
    }

    /// All that wait.
    pub(super) fn all(&self) -> Vec<Arc<Waiting>> {
        self.state.lock().by_id.values().cloned().collect()
    }

    /// Those that came since the last call.
    pub(super) fn take_new(&self) -> Vec<Arc<Waiting>> {
        std::mem::take(&mut self.state.lock().new)
    }

    /// With nobody coming or going meanwhile.
    pub(super) fn standing_still<R>(&self, with: impl FnOnce() -> R) -> R {
        let _state = self.state.lock();
        with()
    }

    /// It is in the index, or is not to be written.
    pub(super) fn done(&self, waiting: &Arc<Waiting>, fate: Fate) {
        let mut state = self.state.lock();
        let is_there = state.by_id.get(&waiting.id);
        if is_there.is_some_and(|there| Arc::ptr_eq(there, waiting)) {
            state.by_id.remove(&waiting.id);
            self.entries.fetch_sub(1, Ordering::Release);
            waiting.entry.set_below(fate == Fate::Written);
            self.out(waiting, fate);
        }
    }

    /// A key is gone, but where it is what `stays`. Gives the version that waited.
    pub(super) fn forget(&self, id: &Id, stays: impl FnOnce(Which) -> bool) -> Option<Version> {
        if self.is_empty() {
            return None;
        }
        let mut state = self.state.lock();
        let there = &state.by_id.get(id)?.entry;
        let version = there.version();
        if stays(Which::of(there)) {
            return None;
        }
        let waiting = state.by_id.remove(id)?;
        self.entries.fetch_sub(1, Ordering::Release);
        self.out(&waiting, Fate::LetGo);
        drop(state);
        Some(version)
    }

    /// All keys of a namespace that begin with `prefix` are gone; gives them.
    pub(super) fn forget_prefix(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        prefix: &str,
    ) -> Vec<Id> {
        let goes = |id: &Id| is_under(id, (tenant, namespace), prefix);
        let mut state = self.state.lock();
        let gone: Vec<Id> = state.by_id.keys().filter(|id| goes(id)).cloned().collect();
        for id in &gone {
            if let Some(waiting) = state.by_id.remove(id) {
                self.entries.fetch_sub(1, Ordering::Release);
                self.out(&waiting, Fate::LetGo);
            }
        }
        gone
    }

    fn out(&self, waiting: &Waiting, fate: Fate) {
        self.bytes.fetch_sub(waiting.cost(), Ordering::Relaxed);
        waiting.gone.store(true, Ordering::Release);
        waiting.tell(fate);
    }
}
