//! Compares the page allocators, and prints the table that
//! `docs/decisions/0001-page-allocator.md` has:
//!
//! ```text
//! cargo bench -p bowstring-cache --bench page_alloc
//! ```
//!
//! A history of puts and evictions is made once per mix, with sizes spread
//! evenly over their logarithms and victims chosen by use (second chance, a
//! third of the entries used since), and played to each allocator in turn.
//! *Use* is of a stricter game, in which a put evicts until its pieces are of
//! four pages or more: the share of pages in use right after each put, on
//! average and at worst. *Extents* and *ns* are of the arena's own rule: such
//! pieces if there are any, else any. *Slabs* says how many of the requests for
//! a run of three to five pages, as slabs make them, got one.

use std::collections::VecDeque;
use std::process::ExitCode;

use bowstring_cache::arena::page_alloc::{BinAlloc, PageAlloc, TreeAlloc};
use bowstring_cache::arena::{Extent, ExtentList};

const REGION: u32 = 1024;
const REGIONS: u32 = 16;
const PAGES: u32 = REGION * REGIONS;
const PIECE: u32 = 4;
const ROUNDS: usize = 7;

/// Puts a history, after those that fill the arena for the first time.
const PUTS: usize = 60_000;

struct Mix {
    name: &'static str,
    /// Sizes in pages, and how many in a hundred are of one page or a slab.
    pages: (u32, u32),
    singles: u64,
    slabs: u64,
}

const MIXES: [Mix; 4] = [
    Mix {
        name: "64 KiB - 64 MiB",
        pages: (1, 1024),
        singles: 0,
        slabs: 0,
    },
    Mix {
        name: "the same, half of them slabs",
        pages: (1, 1024),
        singles: 30,
        slabs: 20,
    },
    Mix {
        name: "64 KiB - 1 MiB",
        pages: (1, 16),
        singles: 0,
        slabs: 0,
    },
    Mix {
        name: "9 of 10 one page, else 1 - 64 MiB",
        pages: (16, 1024),
        singles: 90,
        slabs: 0,
    },
];

#[derive(Clone, Copy)]
enum Op {
    Put { id: u32, pages: u32 },
    Slab { id: u32, pages: u32 },
    Evict { id: u32 },
}

#[derive(Default, Clone, Copy)]
struct Figures {
    use_mean: f64,
    use_worst: f64,
    extents: f64,
    slabs: f64,
    ns: f64,
    overhead: f64,
}

fn main() -> ExitCode {
    // `cargo test --benches` asks for a list of tests, and there are none.
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return ExitCode::SUCCESS;
    }
    println!(
        "| mix | allocator | use, mean | use, worst | extents a put | slabs whole | ns an operation | heap bytes a page |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for mix in &MIXES {
        let history = history(mix);
        let mut tree = Vec::new();
        let mut bins = Vec::new();
        // By turns, so that a slow second hits both.
        for round in 0..ROUNDS {
            tree.push(figures::<TreeAlloc>(mix, &history, round == 0));
            bins.push(figures::<BinAlloc>(mix, &history, round == 0));
        }
        row(mix, "tree, best fit", &tree);
        row(mix, "bins, good fit", &bins);
    }
    ExitCode::SUCCESS
}

fn row(mix: &Mix, allocator: &str, rounds: &[Figures]) {
    let first = rounds[0];
    let mut ns: Vec<f64> = rounds.iter().map(|figures| figures.ns).collect();
    ns.sort_by(f64::total_cmp);
    println!(
        "| {} | {allocator} | {:.1} % | {:.1} % | {:.2} | {} | {:.0} | {:.1} |",
        mix.name,
        first.use_mean * 100.0,
        first.use_worst * 100.0,
        first.extents,
        if mix.slabs > 0 {
            format!("{:.1} %", first.slabs * 100.0)
        } else {
            "-".into()
        },
        ns[ns.len() / 2],
        first.overhead,
    );
}

fn figures<A: PageAlloc>(mix: &Mix, history: &[Op], first: bool) -> Figures {
    let mut figures = replay::<A>(history);
    if first {
        (figures.use_mean, figures.use_worst) = strict::<A>(mix);
    }
    figures
}

/// The history, made against a count of free pages alone: under the arena's
/// rule a put finds room whenever there are enough pages.
fn history(mix: &Mix) -> Vec<Op> {
    let mut random = Random(42);
    let mut entries: VecDeque<(u32, u32)> = VecDeque::new();
    let mut ops = Vec::new();
    let mut free = PAGES;
    let mut id = 0;
    let mut evicted = false;
    let mut puts = 0;
    while puts < PUTS {
        let (pages, slab) = random.size(mix);
        while free < pages {
            evicted = true;
            let (victim, pages) = random.victim(&mut entries);
            ops.push(Op::Evict { id: victim });
            free += pages;
        }
        ops.push(if slab {
            Op::Slab { id, pages }
        } else {
            Op::Put { id, pages }
        });
        entries.push_back((id, pages));
        free -= pages;
        id += 1;
        puts += usize::from(evicted);
    }
    ops
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn replay<A: PageAlloc>(history: &[Op]) -> Figures {
    let mut alloc = all_free::<A>();
    let mut entries: Vec<ExtentList> = vec![ExtentList::new(); history.len()];
    let (mut puts, mut extents, mut slabs, mut whole) = (0u32, 0usize, 0u32, 0u32);
    let mut overhead = 0;
    let start = std::time::Instant::now();
    for op in history {
        match *op {
            Op::Put { id, pages } => {
                let got = &mut entries[id as usize];
                let done = alloc.alloc(pages, PIECE.min(pages), got) || alloc.alloc(pages, 1, got);
                assert!(done, "the history counts on it");
                puts += 1;
                extents += got.len();
            }
            Op::Slab { id, pages } => {
                let got = &mut entries[id as usize];
                slabs += 1;
                if let Some(run) = alloc.alloc_run(pages) {
                    whole += 1;
                    got.push(run);
                } else {
                    assert!(alloc.alloc(pages, 1, got), "the history counts on it");
                }
            }
            Op::Evict { id } => {
                for extent in std::mem::take(&mut entries[id as usize]) {
                    alloc.free(extent);
                }
                overhead = overhead.max(alloc.overhead_bytes());
            }
        }
    }
    let ns = start.elapsed().as_secs_f64() * 1e9;
    Figures {
        extents: extents as f64 / f64::from(puts.max(1)),
        slabs: f64::from(whole) / f64::from(slabs.max(1)),
        ns: ns / history.len() as f64,
        overhead: overhead as f64 / f64::from(PAGES),
        ..Figures::default()
    }
}

/// The stricter game: mean and worst share of pages in use.
fn strict<A: PageAlloc>(mix: &Mix) -> (f64, f64) {
    let mut random = Random(43);
    let mut alloc = all_free::<A>();
    let mut entries: VecDeque<(ExtentList, u32)> = VecDeque::new();
    let (mut sum, mut worst, mut puts) = (0.0, 1.0f64, 0);
    let mut evicted = false;
    while puts < PUTS / 4 {
        let (pages, _) = random.size(mix);
        let mut got = ExtentList::new();
        while !alloc.alloc(pages, PIECE.min(pages), &mut got) {
            evicted = true;
            let (victim, _) = random.victim(&mut entries);
            victim
                .into_iter()
                .for_each(|extent: Extent| alloc.free(extent));
        }
        entries.push_back((got, pages));
        if evicted {
            let used = 1.0 - f64::from(alloc.free_pages()) / f64::from(PAGES);
            sum += used;
            worst = worst.min(used);
            puts += 1;
        }
    }
    (sum / puts as f64, worst)
}

fn all_free<A: PageAlloc>() -> A {
    let mut alloc = A::new(REGION);
    for region in 0..REGIONS {
        alloc.free(Extent {
            first: region * REGION,
            pages: REGION,
        });
    }
    alloc
}

/// The same figures in every run.
struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Pages, and whether they are a slab's.
    #[expect(clippy::cast_possible_truncation, reason = "small figures")]
    fn size(&mut self, mix: &Mix) -> (u32, bool) {
        let kind = self.next() % 100;
        if kind < mix.singles {
            return (1, false);
        }
        if kind < mix.singles + mix.slabs {
            return (3 + (self.next() % 3) as u32, true);
        }
        let (least, most) = (f64::from(mix.pages.0), f64::from(mix.pages.1));
        let pages = least * (most / least).powf(self.unit());
        (pages.round() as u32, false)
    }

    fn victim<T>(&mut self, entries: &mut VecDeque<T>) -> T {
        loop {
            let Some(oldest) = entries.pop_front() else {
                panic!("nothing to evict");
            };
            if !self.next().is_multiple_of(3) {
                return oldest;
            }
            entries.push_back(oldest);
        }
    }
}
