//! Allocators of pages: which free pages an allocation gets.
//!
//! They know page numbers only, neither memory nor readers. There are two, kept
//! side by side so that `benches/page_alloc.rs` can go on comparing them; the
//! one that the arena uses is [`DefaultPageAlloc`], and why is in
//! `docs/decisions/0001-page-allocator.md`.

mod bins;
mod tree;

pub use self::bins::BinAlloc;
pub use self::tree::TreeAlloc;
use super::extent::{Extent, ExtentList};

/// The allocator that the arena uses.
pub type DefaultPageAlloc = BinAlloc;

/// Free pages, in runs. A run never spans two regions, whose memory need not be
/// contiguous.
pub trait PageAlloc: Send {
    /// No pages yet, of regions of `region_pages` pages (a power of two).
    fn new(region_pages: u32) -> Self
    where
        Self: Sized;

    /// Adds free pages, which become one run with free neighbours.
    fn free(&mut self, extent: Extent);

    /// Takes `pages` pages in one run, out of a run that is as small as it can
    /// be (or nearly); `None` when there is no such run.
    fn alloc_run(&mut self, pages: u32) -> Option<Extent>;

    /// Takes a whole run, the largest (or nearly).
    fn take_largest(&mut self) -> Option<Extent>;

    /// The length of the run that [`PageAlloc::take_largest`] would take.
    fn largest_run(&self) -> u32;

    /// How many pages are free.
    fn free_pages(&self) -> u32;

    /// How many runs they are in.
    fn runs(&self) -> u32;

    /// Bytes on the heap.
    fn overhead_bytes(&self) -> usize;

    /// Takes `pages` pages in as few runs as it can, each of at least
    /// `piece_min` pages except perhaps the last. They are added to `out`;
    /// `false`, and nothing taken, when it cannot be done.
    fn alloc(&mut self, pages: u32, piece_min: u32, out: &mut ExtentList) -> bool {
        if self.free_pages() < pages {
            return false;
        }
        let start = out.len();
        let mut rest = pages;
        while rest > 0 {
            if let Some(run) = self.alloc_run(rest) {
                out.push(run);
                return true;
            }
            // No run has all of the rest: the largest goes whole.
            let run = (self.largest_run() >= piece_min)
                .then(|| self.take_largest())
                .flatten();
            let Some(run) = run else {
                for run in out.drain(start..) {
                    self.free(run);
                }
                return false;
            };
            rest = rest.saturating_sub(run.pages);
            out.push(run);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REGION: u32 = 16;
    const REGIONS: u32 = 4;

    #[derive(Debug, Clone)]
    enum Step {
        Alloc(u32, u32),
        Run(u32),
        Largest,
        Free(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1u32..30, 1u32..5).prop_map(|(pages, piece)| Step::Alloc(pages, piece)),
            2 => (1u32..20).prop_map(Step::Run),
            1 => Just(Step::Largest),
            4 => any::<prop::sample::Index>().prop_map(|at| Step::Free(at.index(1000))),
        ]
    }

    /// Plays the steps against a map of who has each page.
    fn agrees_with_a_map<A: PageAlloc>(steps: Vec<Step>) -> Result<(), TestCaseError> {
        let mut alloc = A::new(REGION);
        let mut taken = [false; (REGION * REGIONS) as usize];
        let mut held: Vec<Extent> = Vec::new();
        for region in 0..REGIONS {
            alloc.free(Extent {
                first: region * REGION,
                pages: REGION,
            });
        }
        for step in steps {
            let mut got = ExtentList::new();
            match step {
                Step::Alloc(pages, piece) => {
                    let free = alloc.free_pages();
                    let done = alloc.alloc(pages, piece, &mut got);
                    let sum: u32 = got.iter().map(|run| run.pages).sum();
                    prop_assert_eq!(sum, if done { pages } else { 0 });
                    prop_assert!(done || piece > 1 || free < pages);
                    if let [pieces @ .., _] = got.as_slice() {
                        prop_assert!(pieces.iter().all(|run| run.pages >= piece));
                    }
                }
                Step::Run(pages) => {
                    let possible = longest(&taken) >= pages;
                    got.extend(alloc.alloc_run(pages));
                    prop_assert_eq!(!got.is_empty(), possible, "a run that fits is found");
                    prop_assert!(got.iter().all(|run| run.pages == pages));
                }
                Step::Largest => {
                    let longest = alloc.largest_run();
                    got.extend(alloc.take_largest());
                    prop_assert_eq!(got.iter().map(|run| run.pages).sum::<u32>(), longest);
                }
                Step::Free(at) if !held.is_empty() => {
                    let extent = held.swap_remove(at % held.len());
                    for page in extent.first..extent.end() {
                        taken[page as usize] = false;
                    }
                    alloc.free(extent);
                }
                Step::Free(_) => {}
            }
            for run in got {
                prop_assert_eq!(run.first / REGION, (run.end() - 1) / REGION, "one region");
                for page in run.first..run.end() {
                    prop_assert!(!taken[page as usize], "given twice");
                    taken[page as usize] = true;
                }
                held.push(run);
            }
            let free = taken.iter().filter(|taken| !**taken).count();
            prop_assert_eq!(alloc.free_pages() as usize, free);
        }
        for extent in held {
            alloc.free(extent);
        }
        prop_assert_eq!(
            (alloc.free_pages(), alloc.runs()),
            (REGION * REGIONS, REGIONS)
        );
        Ok(())
    }

    fn longest(taken: &[bool]) -> u32 {
        let runs = taken
            .chunks(REGION as usize)
            .flat_map(|region| region.split(|taken| *taken));
        u32::try_from(runs.map(<[bool]>::len).max().unwrap_or(0)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_tree_agrees_with_a_map(steps in prop::collection::vec(step(), 0..if cfg!(miri) { 30 } else { 120 })) {
            agrees_with_a_map::<TreeAlloc>(steps)?;
        }

        #[test]
        fn the_bins_agree_with_a_map(steps in prop::collection::vec(step(), 0..if cfg!(miri) { 30 } else { 120 })) {
            agrees_with_a_map::<BinAlloc>(steps)?;
        }
    }
}
