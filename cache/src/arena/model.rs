//! Random histories of the whole arena, played against a model of who has what.
#![expect(clippy::cast_possible_truncation, reason = "the figures are small")]

use std::collections::HashSet;

use proptest::prelude::*;

use super::tests::{PAGE, arena, full_of, total};
use super::*;
use crate::ledger::Account;

#[derive(Debug, Clone)]
enum Step {
    Pages(u32),
    Slots(usize, usize),
    Free(usize),
    Hold(usize, u64, u64),
    Take(usize, usize),
    Drop(usize),
    Release(usize),
    Compact(u8),
    GiveBack(u64),
    Pretouch,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop_oneof![3 => 1usize..400, 2 => 400usize..8000, 1 => 8000usize..60_000];
    prop_oneof![
        4 => (1u32..20).prop_map(Step::Pages),
        5 => (sizes, 1usize..40).prop_map(|(bytes, n)| Step::Slots(bytes, n)),
        6 => (0usize..1000).prop_map(Step::Free),
        4 => (0usize..1000, 0u64..1_000_000, 1u64..1_000_000)
            .prop_map(|(at, from, bytes)| Step::Hold(at, from, bytes)),
        6 => (0usize..1000, 1usize..200_000).prop_map(|(at, n)| Step::Take(at, n)),
        3 => (0usize..1000).prop_map(Step::Drop),
        1 => (0usize..1000).prop_map(Step::Release),
        3 => (30u8..100).prop_map(Step::Compact),
        1 => (1u64..2_000_000).prop_map(Step::GiveBack),
        1 => Just(Step::Pretouch),
    ]
}

/// What the model keeps: who has what, and the byte that it is full of.
#[derive(Default)]
struct Model {
    pages: Vec<(ExtentList, u8)>,
    slots: Vec<(Loc, u8)>,
    /// A hold, the entry's byte, the next offset, and the pages not passed.
    holds: Vec<(PageHold, u8, u64, Vec<u32>)>,
    pieces: Vec<(bytes::Bytes, u8, u64, Vec<u32>)>,
    stamp: u8,
}

/// Byte `offset` of an entry of pages.
fn content(stamp: u8, offset: u64) -> u8 {
    stamp.wrapping_add((offset / PAGE_BYTES_U64) as u8)
}

fn page_numbers(extents: &[Extent]) -> Vec<u32> {
    extents
        .iter()
        .flat_map(|extent| extent.first..extent.end())
        .collect()
}

impl Model {
    fn play(&mut self, arena: &Arena, step: Step) {
        self.stamp = self.stamp.wrapping_add(37);
        let stamp = self.stamp;
        match step {
            Step::Pages(n) => {
                let Some(mut pages) = arena.alloc_pages(n) else {
                    let stats = arena.stats();
                    let busy = stats.pages_owned + stats.pages_slab + stats.pages_held;
                    assert!(busy + n > 64, "there was room");
                    return;
                };
                assert_eq!(total(pages.extents()), n);
                for page in 0..u64::from(n) {
                    let at = page * PAGE_BYTES_U64;
                    pages.write(at, &[content(stamp, at); PAGE]);
                }
                self.pages.push((pages.into_extents(), stamp));
            }
            Step::Slots(bytes, n) => {
                let mut batch = arena.slot_batch();
                let got = batch.alloc(bytes, n);
                assert_eq!(got, batch.len());
                for at in 0..got {
                    batch.bytes_mut(at).fill(stamp);
                }
                // Every fifth stays in the batch, and is freed with it.
                for at in (0..got).filter(|at| at % 5 != 4) {
                    let loc = batch.take(at);
                    assert!(self.slots.iter().all(|(other, _)| *other != loc));
                    self.slots.push((loc, stamp));
                }
            }
            Step::Free(at) => {
                let entries = self.pages.len() + self.slots.len();
                if entries == 0 {
                    return;
                }
                let at = at % entries;
                if at < self.pages.len() {
                    let (extents, _) = self.pages.swap_remove(at);
                    arena.free_pages(&extents);
                } else {
                    let from = at - self.pages.len();
                    let to = (from + 7).min(self.slots.len());
                    let gone: Vec<(Loc, u8)> = self.slots.drain(from..to).collect();
                    for (loc, stamp) in &gone {
                        assert!(full_of(arena.slot(*loc), *stamp));
                    }
                    arena.free_slots(&gone.iter().map(|(loc, _)| *loc).collect::<Vec<_>>());
                }
            }
            Step::Hold(at, from, bytes) if !self.pages.is_empty() => {
                let (extents, stamp) = &self.pages[at % self.pages.len()];
                let all = u64::from(total(extents)) * PAGE_BYTES_U64;
                let range = from % all..(from % all + bytes).min(all);
                let pages = page_numbers(extents);
                let first = (range.start / PAGE_BYTES_U64) as usize;
                let pages = pages[first..range.end.div_ceil(PAGE_BYTES_U64) as usize].to_vec();
                let hold = arena.hold(extents, range.clone()).unwrap();
                self.holds.push((hold, *stamp, range.start, pages));
            }
            Step::Take(at, n) if !self.holds.is_empty() => {
                let at = at % self.holds.len();
                let (hold, stamp, offset, pages) = &mut self.holds[at];
                let Some(piece) = hold.take(n) else {
                    assert_eq!(hold.remaining(), 0);
                    return;
                };
                let start = *offset;
                *offset += piece.len() as u64;
                let touched = (offset.div_ceil(PAGE_BYTES_U64) - start / PAGE_BYTES_U64) as usize;
                let passed = if hold.remaining() == 0 {
                    pages.len()
                } else {
                    (*offset / PAGE_BYTES_U64 - start / PAGE_BYTES_U64) as usize
                };
                let under = pages[..touched].to_vec();
                pages.drain(..passed);
                self.pieces.push((piece, *stamp, start, under));
            }
            Step::Drop(at) if !self.pieces.is_empty() => {
                let at = at % self.pieces.len();
                self.pieces.swap_remove(at);
            }
            Step::Release(at) if !self.holds.is_empty() => {
                let at = at % self.holds.len();
                let (mut hold, _, _, _) = self.holds.swap_remove(at);
                let remaining = hold.remaining();
                assert_eq!(hold.release(), remaining);
            }
            Step::Compact(fill_max) => {
                let Some(compaction) = arena.compact(fill_max) else {
                    return;
                };
                for &loc in compaction.survivors() {
                    let Some((place, _)) = self.slots.iter_mut().find(|(it, _)| *it == loc) else {
                        panic!("a slot in use that nobody has");
                    };
                    let mut to = compaction.destination().unwrap();
                    to.bytes_mut().copy_from_slice(arena.slot(loc));
                    *place = to.into_loc();
                    arena.free_slot(loc);
                }
            }
            Step::GiveBack(bytes) => {
                let given = arena.give_back(bytes);
                assert!(given >= bytes || arena.free_bytes() == 0);
            }
            Step::Pretouch => {
                arena.pretouch();
            }
            Step::Hold(..) | Step::Take(..) | Step::Drop(..) | Step::Release(..) => {}
        }
    }

    fn check(&self, arena: &Arena, ledger: &Ledger) {
        let mut owners = HashSet::new();
        for page in self
            .pages
            .iter()
            .flat_map(|(extents, _)| page_numbers(extents))
        {
            assert!(owners.insert(page), "two entries have one page");
        }
        let read = self.holds.iter().map(|(.., pages)| pages);
        let read = read
            .chain(self.pieces.iter().map(|(.., pages)| pages))
            .flatten();
        let read: HashSet<u32> = read.copied().collect();
        let held = read.difference(&owners).count();
        let stats = arena.stats();
        assert_eq!(stats.pages_held as usize, held);
        assert_eq!(stats.pages_owned as usize, owners.len());
        assert_eq!(
            stats.pages_committed,
            stats.pages_free + stats.pages_slab + stats.pages_owned + stats.pages_held
        );
        assert_eq!(ledger.used_by(Account::Arena), arena.committed_bytes());
        let used: u32 = stats.classes.iter().map(|class| class.used).sum();
        assert_eq!(used as usize, self.slots.len());
        assert!(stats.classes.iter().all(|class| class.used > 0));
        for (piece, stamp, offset, _) in &self.pieces {
            let at = |at: usize| content(*stamp, offset + at as u64);
            assert_eq!(piece[0], at(0));
            assert_eq!(piece[piece.len() - 1], at(piece.len() - 1));
        }
        for (extents, stamp) in &self.pages {
            for (page, at) in page_numbers(extents).into_iter().zip(0u64..) {
                let extent = Extent {
                    first: page,
                    pages: 1,
                };
                let mut read = [0];
                arena.hold(&[extent], 77..78).unwrap().copy_to(&mut read);
                assert_eq!(read[0], content(*stamp, at * PAGE_BYTES_U64));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn agrees_with_a_model(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 25 } else { 150 })) {
        let (arena, ledger) = arena(64);
        let mut model = Model::default();
        for step in steps {
            model.play(&arena, step);
            model.check(&arena, &ledger);
        }
        let Model { pages, slots, holds, pieces, .. } = model;
        pages.iter().for_each(|(extents, _)| arena.free_pages(extents));
        drop((holds, pieces));
        arena.free_slots(&slots.iter().map(|(loc, _)| *loc).collect::<Vec<_>>());
        let stats = arena.stats();
        prop_assert_eq!(stats.pages_free, stats.pages_committed);
        prop_assert!(stats.classes.is_empty());
        drop(arena);
        prop_assert_eq!(ledger.used(), 0);
    }
}
