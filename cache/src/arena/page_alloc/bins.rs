//! Good fit over bins of runs by length.

use super::super::extent::Extent;
use super::PageAlloc;

/// Free runs in doubly linked lists by length class, with the length written at
/// both ends of each run so that neighbours are found by page number (two-level
/// segregated fit). Constant time a call, 12 bytes a page.
#[derive(Debug)]
pub struct BinAlloc {
    /// A region's pages are two to this power.
    shift: u32,
    free: u32,
    runs: u32,
    /// Bit `n` is set when bin `n` has a run.
    filled: [u64; BINS.div_ceil(64)],
    heads: [u32; BINS],
    /// By region, made when its first page is freed.
    pages: Vec<Box<[Page]>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Page {
    /// The run's length, at its first and last page; else 0.
    length: u32,
    /// The run's neighbours in its bin, at its first page.
    previous: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Lengths up to this have a bin each.
const EXACT: u32 = 64;

/// Bins a doubling after that.
const STEPS: u32 = 16;

const BINS: usize = (EXACT + STEPS * (32 - EXACT.ilog2())) as usize;

/// Runs looked at in a bin of mixed lengths before a larger bin is taken.
const LOOKS: usize = 8;

impl BinAlloc {
    fn insert(&mut self, run: Extent) {
        let bin = bin_of(run.pages);
        let next = self.heads[bin];
        self.page_mut(run.end() - 1).length = run.pages;
        *self.page_mut(run.first) = Page {
            length: run.pages,
            previous: NONE,
            next,
        };
        if next != NONE {
            self.page_mut(next).previous = run.first;
        }
        self.heads[bin] = run.first;
        self.filled[bin / 64] |= 1 << (bin % 64);
        self.runs += 1;
    }

    fn remove(&mut self, first: u32) -> Extent {
        let Page {
            length,
            previous,
            next,
        } = self.page(first);
        let bin = bin_of(length);
        if next != NONE {
            self.page_mut(next).previous = previous;
        }
        if previous != NONE {
            self.page_mut(previous).next = next;
        } else {
            self.heads[bin] = next;
            if next == NONE {
                self.filled[bin / 64] &= !(1 << (bin % 64));
            }
        }
        self.page_mut(first).length = 0;
        self.page_mut(first + length - 1).length = 0;
        self.runs -= 1;
        Extent {
            first,
            pages: length,
        }
    }

    /// The first filled bin at or after `bin`.
    fn filled_from(&self, bin: usize) -> Option<usize> {
        let mut word = bin / 64;
        let mut bits = self.filled.get(word)? & (u64::MAX << (bin % 64));
        while bits == 0 {
            word += 1;
            bits = *self.filled.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    fn list(&self, bin: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = self.heads[bin];
        std::iter::from_fn(move || {
            let first = at;
            let page = (first != NONE).then(|| self.page(first))?;
            at = page.next;
            Some((first, page.length))
        })
    }

    fn mask(&self) -> u32 {
        (1 << self.shift) - 1
    }

    /// A page that was never free has no length.
    fn page(&self, page: u32) -> Page {
        let region = self.pages.get((page >> self.shift) as usize);
        let at = (page & self.mask()) as usize;
        region
            .and_then(|region| region.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn page_mut(&mut self, page: u32) -> &mut Page {
        let number = (page >> self.shift) as usize;
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, Box::default);
        }
        let at = (page & self.mask()) as usize;
        let region = &mut self.pages[number];
        if region.is_empty() {
            *region = vec![Page::default(); 1 << self.shift].into();
        }
        &mut region[at]
    }

    /// A run of at least `pages` pages: the smallest of those looked at in its
    /// own bin, else any of the next bin, else one found by looking at all of
    /// its own bin.
    fn fit(&self, pages: u32) -> Option<u32> {
        let own = bin_of(pages);
        let fits = |&(_, length): &(u32, u32)| length >= pages;
        let near = self.list(own).take(LOOKS).filter(fits);
        if let Some((first, _)) = near.min_by_key(|(_, length)| *length) {
            return Some(first);
        }
        match self.filled_from(own + 1) {
            Some(bin) => Some(self.heads[bin]),
            None => self.list(own).find(fits).map(|(first, _)| first),
        }
    }

    fn largest(&self) -> Option<(u32, u32)> {
        let word = self.filled.iter().rposition(|bits| *bits != 0)?;
        let bin = word * 64 + self.filled[word].ilog2() as usize;
        self.list(bin).take(LOOKS).max_by_key(|(_, length)| *length)
    }
}

impl PageAlloc for BinAlloc {
    fn new(region_pages: u32) -> BinAlloc {
        BinAlloc {
            shift: region_pages.trailing_zeros(),
            free: 0,
            runs: 0,
            filled: [0; BINS.div_ceil(64)],
            heads: [NONE; BINS],
            pages: Vec::new(),
        }
    }

    fn free(&mut self, extent: Extent) {
        self.free += extent.pages;
        let mut run = extent;
        if run.first & self.mask() != 0 {
            let length = self.page(run.first - 1).length;
            if length > 0 {
                let before = self.remove(run.first - length);
                run = Extent {
                    first: before.first,
                    pages: before.pages + run.pages,
                };
            }
        }
        if run.end() & self.mask() != 0 && self.page(run.end()).length > 0 {
            run.pages += self.remove(run.end()).pages;
        }
        self.insert(run);
    }

    fn alloc_run(&mut self, pages: u32) -> Option<Extent> {
        let first = self.fit(pages)?;
        let run = self.remove(first);
        if run.pages > pages {
            self.insert(Extent {
                first: run.first + pages,
                pages: run.pages - pages,
            });
        }
        self.free -= pages;
        Some(Extent { first, pages })
    }

    fn take_largest(&mut self) -> Option<Extent> {
        let (first, pages) = self.largest()?;
        self.free -= pages;
        Some(self.remove(first))
    }

    fn largest_run(&self) -> u32 {
        self.largest().map_or(0, |(_, pages)| pages)
    }

    fn free_pages(&self) -> u32 {
        self.free
    }

    fn runs(&self) -> u32 {
        self.runs
    }

    fn overhead_bytes(&self) -> usize {
        let regions = self.pages.iter().filter(|region| !region.is_empty());
        (regions.count() << self.shift) * size_of::<Page>()
            + self.pages.capacity() * size_of::<Box<[Page]>>()
            + size_of::<BinAlloc>()
    }
}

fn bin_of(pages: u32) -> usize {
    if pages <= EXACT {
        return pages as usize - 1;
    }
    let doubling = pages.ilog2() - EXACT.ilog2();
    let step = (pages - (EXACT << doubling)) / ((EXACT / STEPS) << doubling);
    (EXACT + doubling * STEPS + step) as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_in_order_of_length() {
        let mut last = 0;
        for pages in 1..if cfg!(miri) { 1_000 } else { 100_000 } {
            let bin = bin_of(pages);
            assert!(bin == last || bin == last + 1 || pages == 1, "{pages}");
            last = bin;
        }
        assert!(bin_of(u32::MAX) < BINS);
    }
}
