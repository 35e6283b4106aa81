//! Large reads that are under way, so that one that stalls can be cut off.
//!
//! A read holds the pages that it has not sent. As long as their entry can be found that costs
//! nothing; once it has left the index, they are memory that nobody else gets. What may be held so
//! is limited ([`crate::config::CacheConfig::held_percent`]); when the limit would be passed, the
//! read that has stalled longest loses what it has not taken yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::arena::PageHold;
use crate::clock::Clock;
use crate::id::Id;
use crate::index::Handle;

/// Names one large read for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// One large read as a supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRead {
    /// Names it.
    pub id: ReadId,
    /// What is read.
    pub entry: Id,
    /// Bytes of pages that it still holds.
    pub outstanding_bytes: u64,
    /// When it last took a piece, on the cache's monotonic clock.
    pub last_progress: Duration,
    /// True when the entry has left the index, so that the bytes count as held.
    pub unlinked: bool,
}

/// The large reads that are under way.
pub struct Reads {
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    /// How many, so that an eviction where nobody reads costs one load.
    count: AtomicU64,
    cut: AtomicU64,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    by_id: BTreeMap<u64, Arc<Read>>,
}

/// What a reader and those who may cut it off share.
pub(crate) struct Read {
    id: u64,
    handle: Handle,
    entry: Id,
    outstanding: AtomicU64,
    progress_ns: AtomicU64,
    unlinked: AtomicBool,
    hold: Mutex<Hold>,
}

enum Hold {
    Open {
        pages: PageHold,
        then: Option<Box<dyn FnOnce() + Send>>,
    },
    Cut {
        stalled: Duration,
    },
}

impl Reads {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            open: Mutex::default(),
            count: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// All of them, the one that has stalled longest first.
    pub fn active(&self) -> Vec<ActiveRead> {
        let mut all: Vec<ActiveRead> = {
            let open = self.open.lock();
            open.by_id.values().map(|read| read.describe()).collect()
        };
        all.sort_by_key(|read| read.last_progress);
        all
    }

    /// Takes away what a read has not taken yet; false when it has ended. Its next
    /// [`Reader::take`](crate::read::Reader::take) says so.
    pub fn cut(&self, id: ReadId) -> bool {
        let read = self.open.lock().by_id.get(&id.0).cloned();
        read.is_some_and(|read| self.cut_off(&read))
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn cut_count(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// Registers a read of `handle`, which the caller has pinned. `is_live` is asked once others
    /// can find the read, so that whoever unlinks the entry meanwhile is not missed.
    pub(crate) fn begin(
        &self,
        handle: Handle,
        entry: Id,
        pages: PageHold,
        is_live: impl FnOnce() -> bool,
    ) -> Arc<Read> {
        let mut open = self.open.lock();
        let id = open.next_id;
        open.next_id += 1;
        let read = Arc::new(Read {
            id,
            handle,
            entry,
            outstanding: AtomicU64::new(pages.held_bytes()),
            progress_ns: AtomicU64::new(self.now_ns()),
            unlinked: AtomicBool::new(false),
            hold: Mutex::new(Hold::Open { pages, then: None }),
        });
        open.by_id.insert(id, Arc::clone(&read));
        self.count.fetch_add(1, Ordering::AcqRel);
        drop(open);
        // With the fence in `unlinked`: one of the two sees what the other did.
        fence(Ordering::SeqCst);
        if !is_live() {
            read.unlinked.store(true, Ordering::Release);
        }
        read
    }

    pub(crate) fn end(&self, read: &Read) {
        if self.open.lock().by_id.remove(&read.id).is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// What readers of `handle` hold is held from now on.
    pub(crate) fn unlinked(&self, handle: Handle) {
        self.unlinked_all(|| [handle]);
    }

    /// As [`Reads::unlinked`], of several, which are asked for where anybody reads.
    pub(crate) fn unlinked_all<H: AsRef<[Handle]>>(&self, handles: impl FnOnce() -> H) {
        fence(Ordering::SeqCst);
        if self.count() == 0 {
            return;
        }
        let handles = handles();
        for read in self.open.lock().by_id.values() {
            if handles.as_ref().contains(&read.handle) {
                read.unlinked.store(true, Ordering::Release);
            }
        }
    }

    /// Bytes that would become held if `handle` left the index: at most, for readers may share.
    pub(crate) fn outstanding_of(&self, handle: Handle) -> u64 {
        if self.count() == 0 {
            return 0;
        }
        let open = self.open.lock();
        let of = |read: &&Arc<Read>| read.handle == handle && !read.is_unlinked();
        open.by_id
            .values()
            .filter(of)
            .map(|read| read.outstanding.load(Ordering::Relaxed))
            .sum()
    }

    /// The read that has stalled longest among those whose pages are held, or would be if
    /// `next_victim` went; and for how long. `None` when at most one is left, which may finish.
    pub(crate) fn most_stalled(
        &self,
        next_victim: Option<Handle>,
    ) -> Option<(Arc<Read>, Duration)> {
        let open = self.open.lock();
        let counted = |read: &&Arc<Read>| {
            (read.is_unlinked() || Some(read.handle) == next_victim)
                && read.outstanding.load(Ordering::Relaxed) > 0
        };
        let all = open.by_id.values().filter(counted);
        all.clone().nth(1)?;
        let worst = all.min_by_key(|read| read.progress_ns.load(Ordering::Relaxed))?;
        Some((Arc::clone(worst), self.stalled(worst)))
    }

    /// Takes the next bytes of a read, at most `n`.
    pub(crate) fn take(
        &self,
        read: &Read,
        n: usize,
        out: &mut SmallVec<[Bytes; 2]>,
    ) -> Result<usize> {
        let mut hold = read.hold.lock();
        let pages = hold.pages()?;
        let mut taken = 0;
        while taken < n {
            let Some(piece) = pages.take(n - taken) else {
                break;
            };
            taken += piece.len();
            out.push(piece);
        }
        self.progress(read, pages);
        Ok(taken)
    }

    /// Copies the next bytes of a read.
    pub(crate) fn copy_to(&self, read: &Read, to: &mut [u8]) -> Result<usize> {
        let mut hold = read.hold.lock();
        let pages = hold.pages()?;
        let copied = pages.copy_to(to);
        self.progress(read, pages);
        Ok(copied)
    }

    /// Calls `then` when the read is cut off, at once where it is already.
    pub(crate) fn on_cut(&self, read: &Read, call: Box<dyn FnOnce() + Send>) {
        let mut hold = read.hold.lock();
        if let Hold::Open { then, .. } = &mut *hold {
            *then = Some(call);
            return;
        }
        drop(hold);
        call();
    }

    fn progress(&self, read: &Read, pages: &PageHold) {
        read.outstanding
            .store(pages.held_bytes(), Ordering::Relaxed);
        read.progress_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    /// Takes a read's pages away, and tells who waits for it. False where that has been done.
    pub(crate) fn cut_off(&self, read: &Read) -> bool {
        let stalled = self.stalled(read);
        let before = std::mem::replace(&mut *read.hold.lock(), Hold::Cut { stalled });
        let Hold::Open { pages, then } = before else {
            return false;
        };
        drop(pages);
        read.outstanding.store(0, Ordering::Relaxed);
        self.cut.fetch_add(1, Ordering::Relaxed);
        self.end(read);
        if let Some(then) = then {
            then();
        }
        true
    }

    fn stalled(&self, read: &Read) -> Duration {
        let since = Duration::from_nanos(read.progress_ns.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(since)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Read {
    fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    fn describe(&self) -> ActiveRead {
        ActiveRead {
            id: ReadId(self.id),
            entry: self.entry.clone(),
            outstanding_bytes: self.outstanding.load(Ordering::Relaxed),
            last_progress: Duration::from_nanos(self.progress_ns.load(Ordering::Relaxed)),
            unlinked: self.is_unlinked(),
        }
    }
}

impl Hold {
    fn pages(&mut self) -> Result<&mut PageHold> {
        match self {
            Hold::Open { pages, .. } => Ok(pages),
            Hold::Cut { stalled } => Err(Error::exhausted(format!(
                "reader was cut off: stalled while its tensor had to go; stalled_ms=`{}`",
                stalled.as_millis()
            ))),
        }
    }
}
