//! Best fit over ordered trees.

use std::collections::{BTreeMap, BTreeSet};

use super::super::extent::Extent;
use super::PageAlloc;

/// Free runs in two trees, by page and by length: the smallest run that fits,
/// the lowest of equals. Exact, at the price of a few tree walks a call.
#[derive(Debug, Default)]
pub struct TreeAlloc {
    region_pages: u32,
    free: u32,
    /// First page to length.
    by_page: BTreeMap<u32, u32>,
    /// Length and first page.
    by_length: BTreeSet<(u32, u32)>,
}

impl TreeAlloc {
    fn insert(&mut self, run: Extent) {
        self.by_page.insert(run.first, run.pages);
        self.by_length.insert((run.pages, run.first));
    }

    fn remove(&mut self, run: Extent) {
        self.by_page.remove(&run.first);
        self.by_length.remove(&(run.pages, run.first));
    }
}

impl PageAlloc for TreeAlloc {
    fn new(region_pages: u32) -> TreeAlloc {
        TreeAlloc {
            region_pages,
            ..TreeAlloc::default()
        }
    }

    fn free(&mut self, extent: Extent) {
        self.free += extent.pages;
        let mut run = extent;
        if !run.first.is_multiple_of(self.region_pages)
            && let Some((&first, &pages)) = self.by_page.range(..run.first).next_back()
            && first + pages == run.first
        {
            self.remove(Extent { first, pages });
            run = Extent {
                first,
                pages: pages + run.pages,
            };
        }
        if !run.end().is_multiple_of(self.region_pages)
            && let Some(&pages) = self.by_page.get(&run.end())
        {
            self.remove(Extent {
                first: run.end(),
                pages,
            });
            run.pages += pages;
        }
        self.insert(run);
    }

    fn alloc_run(&mut self, pages: u32) -> Option<Extent> {
        let &(length, first) = self.by_length.range((pages, 0)..).next()?;
        self.remove(Extent {
            first,
            pages: length,
        });
        if length > pages {
            self.insert(Extent {
                first: first + pages,
                pages: length - pages,
            });
        }
        self.free -= pages;
        Some(Extent { first, pages })
    }

    fn take_largest(&mut self) -> Option<Extent> {
        let &(pages, first) = self.by_length.last()?;
        self.remove(Extent { first, pages });
        self.free -= pages;
        Some(Extent { first, pages })
    }

    fn largest_run(&self) -> u32 {
        self.by_length.last().map_or(0, |(pages, _)| *pages)
    }

    fn free_pages(&self) -> u32 {
        self.free
    }

    fn runs(&self) -> u32 {
        u32::try_from(self.by_page.len()).unwrap_or(u32::MAX)
    }

    fn overhead_bytes(&self) -> usize {
        // Two trees of 8-byte entries, in nodes of eleven that are at least
        // half full, and a pointer a node: at most 20 bytes an entry each.
        2 * 20 * self.by_page.len()
    }
}
