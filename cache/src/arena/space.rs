//! Pages: free ones, ones never touched, and the ledger between them.
//!
//! *Warm* pages are touched, charged and free. *Cold* ones have never been
//! touched, or were given back: they cost nothing, and are charged before they
//! are touched. An allocation takes warm pages if it gets large enough runs of
//! them, else cold ones, else whatever warm pages there are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::extent::{Extent, ExtentList, PAGE_BYTES_U64};
use super::page_alloc::{DefaultPageAlloc, PageAlloc, TreeAlloc};
use super::region::Regions;
use crate::ledger::{Account, Ledger};

/// Runs of a large allocation are at least this long where free space gives it.
const PIECE_PAGES: u32 = 4;

/// Pages touched at once when fewer are asked for: 1 MiB.
const STEP_PAGES: u32 = 16;

pub(super) struct Space {
    pub(super) regions: Regions,
    pub(super) ledger: Arc<Ledger>,
    /// Few runs, seldom asked: the one that costs nothing a page.
    cold: Mutex<TreeAlloc>,
    warm: Mutex<DefaultPageAlloc>,
    pub(super) committed: AtomicU32,
    /// Copies of what the allocators know, to be read without their locks.
    warm_pages: AtomicU32,
    warm_overhead: AtomicU64,
    cold_overhead: AtomicU64,
    /// Whether regions are being adopted: what nobody has is neither warm nor cold yet.
    pub(super) adopting: AtomicBool,
    /// Whether some region is sealed.
    pub(super) any_sealed: AtomicBool,
}

impl Space {
    /// Over these regions: the first is mapped where none is yet, and others are adopted.
    pub(super) fn new(regions: Regions, ledger: Arc<Ledger>) -> io::Result<Space> {
        let region_pages = regions.region_pages();
        let mut cold = TreeAlloc::new(region_pages);
        let adopting = regions.mapped() > 0;
        if !adopting && let Some(extent) = regions.map_next()? {
            cold.free(extent);
        }
        let all = 0..regions.mapped();
        let any_sealed = all
            .into_iter()
            .any(|at| regions.is_sealed(regions.region(at)));
        Ok(Space {
            adopting: AtomicBool::new(adopting),
            any_sealed: AtomicBool::new(any_sealed),
            regions,
            ledger,
            cold: Mutex::new(cold),
            warm: Mutex::new(DefaultPageAlloc::new(region_pages)),
            committed: AtomicU32::new(0),
            warm_pages: AtomicU32::new(0),
            warm_overhead: AtomicU64::new(0),
            cold_overhead: AtomicU64::new(0),
        })
    }

    /// Takes `pages` pages and makes them owned.
    pub(super) fn alloc(&self, pages: u32) -> Option<ExtentList> {
        let piece = pages.min(PIECE_PAGES).min(self.regions.region_pages());
        let mut got = ExtentList::new();
        if pages > 0
            && !self.take_warm(pages, piece, &mut got)
            && !self.grow(pages, piece, &mut got)
            && !self.take_any(pages, &mut got)
        {
            return None;
        }
        for extent in &got {
            self.regions.own(*extent);
        }
        Some(got)
    }

    /// Takes `pages` pages in one run and makes them owned.
    pub(super) fn alloc_run(&self, pages: u32) -> Option<Extent> {
        if pages > self.regions.region_pages() {
            return None;
        }
        let warm = self.with_warm(|warm| warm.alloc_run(pages));
        let run = warm.or_else(|| {
            let mut got = ExtentList::new();
            self.grow(pages, pages, &mut got).then(|| got[0])
        })?;
        self.regions.own(run);
        Some(run)
    }

    /// Takes the owner away from `extents`. `true` when a page became free.
    pub(super) fn disown(&self, extents: &[Extent]) -> bool {
        let mut freed = ExtentList::new();
        for extent in extents {
            self.regions.disown(*extent, &mut freed);
        }
        self.put_warm(&freed)
    }

    /// Adds a reader to the pages of `extents`, all or none.
    pub(super) fn hold(&self, extents: &[Extent]) -> bool {
        let mut freed = ExtentList::new();
        let held = extents
            .iter()
            .position(|extent| !self.regions.hold(*extent, &mut freed));
        if let Some(failed) = held {
            for extent in &extents[..failed] {
                self.regions.unhold(*extent, &mut freed);
            }
            self.put_warm(&freed);
        }
        held.is_none()
    }

    /// Takes a reader away from the pages of `extents`. `true` when a page
    /// became free.
    pub(super) fn unhold(&self, extents: &[Extent]) -> bool {
        let mut freed = ExtentList::new();
        for extent in extents {
            self.regions.unhold(*extent, &mut freed);
        }
        self.put_warm(&freed)
    }

    /// Touches one step of pages, unless `window` pages are warm already.
    pub(super) fn pretouch(&self, window: u32) -> bool {
        let warm = self.warm_pages();
        let pages = window.saturating_sub(warm).min(STEP_PAGES);
        let room = self.ledger.free() >= u64::from(pages) * PAGE_BYTES_U64;
        let mut got = ExtentList::new();
        pages > 0 && room && self.grow_by(pages, 1, &mut got) && self.put_warm(&got)
    }

    /// Gives warm pages back, `pages` of them if there are so many, and says
    /// how many that were.
    pub(super) fn give_back(&self, pages: u32) -> u32 {
        let mut got = ExtentList::new();
        self.with_warm(|warm| {
            let pages = pages.min(warm.free_pages());
            warm.alloc(pages, 1, &mut got);
        });
        let mut given = 0;
        let mut kept = ExtentList::new();
        for extent in got {
            match self.regions.decommit(extent) {
                Ok(()) => {
                    self.with_cold(|cold| cold.free(extent));
                    self.uncharge(extent.pages);
                    given += extent.pages;
                }
                Err(_) => kept.push(extent),
            }
        }
        self.put_warm(&kept);
        given
    }

    pub(super) fn warm_pages(&self) -> u32 {
        self.warm_pages.load(Ordering::Acquire)
    }

    /// Capped, because who finds no cold pages has counted them for a moment.
    pub(super) fn committed_pages(&self) -> u32 {
        let committed = self.committed.load(Ordering::Acquire);
        committed.min(self.regions.pages_max())
    }

    pub(super) fn overhead_bytes(&self) -> u64 {
        self.regions.overhead_bytes()
            + self.warm_overhead.load(Ordering::Relaxed)
            + self.cold_overhead.load(Ordering::Relaxed)
    }

    /// Takes whatever there is, the best first: large warm runs, cold pages,
    /// small warm runs.
    fn take_any(&self, pages: u32, got: &mut ExtentList) -> bool {
        let mut rest = pages;
        self.with_warm(|warm| {
            while rest > 0 && warm.largest_run() >= PIECE_PAGES.min(rest) {
                let run = warm.alloc_run(rest).or_else(|| warm.take_largest());
                got.extend(run);
                rest -= run.map_or(0, |run| run.pages);
            }
        });
        let room = u32::try_from(self.ledger.free() / PAGE_BYTES_U64).unwrap_or(u32::MAX);
        let cold = self.regions.pages_max() - self.committed_pages();
        let grown = rest.min(room).min(cold);
        if grown > 0 && self.grow_by(grown, 1, got) {
            rest -= grown;
        }
        if rest == 0 || self.take_warm(rest, 1, got) {
            return true;
        }
        self.put_warm(got);
        got.clear();
        false
    }

    fn take_warm(&self, pages: u32, piece: u32, got: &mut ExtentList) -> bool {
        self.with_warm(|warm| warm.alloc(pages, piece, got))
    }

    fn put_warm(&self, extents: &[Extent]) -> bool {
        if extents.is_empty() {
            return false;
        }
        let sealed = self.any_sealed.load(Ordering::Relaxed);
        if sealed || self.adopting.load(Ordering::Relaxed) {
            extents.iter().for_each(|extent| self.put_odd(*extent));
        } else {
            self.with_warm(|warm| extents.iter().for_each(|extent| warm.free(*extent)));
        }
        true
    }

    /// Takes `pages` cold pages, the first run of at least `piece`. Small
    /// requests touch a whole step when the ledger gives it; what is over
    /// becomes warm.
    fn grow(&self, pages: u32, piece: u32, got: &mut ExtentList) -> bool {
        let step = pages.next_multiple_of(STEP_PAGES);
        let mut grown = ExtentList::new();
        let room = self.ledger.free() >= u64::from(step) * PAGE_BYTES_U64;
        let done = (step > pages && room && self.grow_by(step, piece, &mut grown))
            || self.grow_by(pages, piece, &mut grown);
        let mut rest = pages;
        let mut over = ExtentList::new();
        for extent in grown {
            let used = extent.pages.min(rest);
            rest -= used;
            if used > 0 {
                got.push(Extent {
                    pages: used,
                    ..extent
                });
            }
            if used < extent.pages {
                over.push(Extent {
                    first: extent.first + used,
                    pages: extent.pages - used,
                });
            }
        }
        self.put_warm(&over);
        done
    }

    /// Charges and touches exactly `pages` cold pages, or none. No lock is held
    /// while they are touched.
    fn grow_by(&self, pages: u32, piece: u32, got: &mut ExtentList) -> bool {
        let bytes = u64::from(pages) * PAGE_BYTES_U64;
        if !self.ledger.try_charge(Account::Arena, bytes) {
            return false;
        }
        self.committed.fetch_add(pages, Ordering::AcqRel);
        let mut cold = ExtentList::new();
        if !self.take_cold(pages, piece, &mut cold) {
            self.uncharge(pages);
            return false;
        }
        if cold
            .iter()
            .all(|extent| self.regions.commit(*extent).is_ok())
        {
            got.extend(cold);
            return true;
        }
        // The system has less than the ledger promised. What was touched goes
        // back; what cannot go back stays charged, and warm.
        for extent in cold {
            match self.regions.decommit(extent) {
                Ok(()) => {
                    self.with_cold(|free| free.free(extent));
                    self.uncharge(extent.pages);
                }
                Err(_) => {
                    self.put_warm(&[extent]);
                }
            }
        }
        false
    }

    /// Takes cold pages in runs of at least `piece` but for the last, out of new
    /// regions when those mapped have none so long.
    fn take_cold(&self, pages: u32, piece: u32, got: &mut ExtentList) -> bool {
        self.with_cold(|cold| {
            loop {
                if cold.alloc(pages, piece, got) {
                    return true;
                }
                match self.regions.map_next() {
                    Ok(Some(region)) => cold.free(region),
                    Ok(None) | Err(_) => return false,
                }
            }
        })
    }

    pub(super) fn uncharge(&self, pages: u32) {
        self.committed.fetch_sub(pages, Ordering::AcqRel);
        let bytes = u64::from(pages) * PAGE_BYTES_U64;
        self.ledger.release(Account::Arena, bytes);
    }

    pub(super) fn with_warm<T>(&self, work: impl FnOnce(&mut DefaultPageAlloc) -> T) -> T {
        let mut warm = self.warm.lock();
        let done = work(&mut warm);
        self.warm_pages.store(warm.free_pages(), Ordering::Release);
        let overhead = warm.overhead_bytes() as u64;
        self.warm_overhead.store(overhead, Ordering::Relaxed);
        done
    }

    pub(super) fn with_cold<T>(&self, work: impl FnOnce(&mut TreeAlloc) -> T) -> T {
        let mut cold = self.cold.lock();
        let done = work(&mut cold);
        let overhead = cold.overhead_bytes() as u64;
        self.cold_overhead.store(overhead, Ordering::Relaxed);
        done
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.uncharge(self.committed_pages());
    }
}
