//! The arena as a whole, and what its files' tests share.

use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;

use super::*;
use crate::ledger::Account;

pub(super) const PAGE: usize = PAGE_BYTES;

/// An arena on the heap with a ledger of `pages` pages, in regions of 16.
pub(super) fn arena(pages: u64) -> (Arena, Arc<Ledger>) {
    let ledger = Ledger::new(pages * PAGE as u64);
    let config = ArenaConfig::new(pages * PAGE as u64)
        .with_backing(BackingKind::Heap)
        .with_region_bytes(16 * PAGE as u64);
    (Arena::new(&config, Arc::clone(&ledger)).unwrap(), ledger)
}

/// Compared at once: byte by byte would take minutes under Miri.
pub(super) fn full_of(bytes: &[u8], byte: u8) -> bool {
    bytes == vec![byte; bytes.len()]
}

pub(super) fn total(extents: &[Extent]) -> u32 {
    extents.iter().map(|extent| extent.pages).sum()
}

#[test]
fn what_is_touched_is_charged_and_comes_back() {
    let (arena, ledger) = arena(40);
    assert_eq!(ledger.used(), 0, "nothing is touched at first");
    let pages = arena.alloc_pages(20).unwrap();
    assert_eq!(ledger.used_by(Account::Arena), arena.committed_bytes());
    assert!(arena.committed_bytes() >= 20 * PAGE as u64);
    assert!(arena.alloc_pages(21).is_none());
    assert!(arena.alloc_pages(20).is_some(), "to the last page");
    drop(pages);
    assert_eq!(arena.free_bytes(), 40 * PAGE as u64);
    assert_eq!(arena.give_back(15 * PAGE as u64), 15 * PAGE as u64);
    assert_eq!(ledger.used(), 25 * PAGE as u64);
    assert_eq!(arena.give_back(u64::MAX), 25 * PAGE as u64);
    assert_eq!(arena.give_back(1), 0);
    assert!(arena.alloc_pages(40).is_some());
    let piece = {
        let extents = arena.alloc_pages(1).unwrap().into_extents();
        arena.hold(&extents, 0..1).unwrap().take(1)
    };
    drop(arena);
    assert_eq!(ledger.used(), 40 * PAGE as u64, "a piece keeps the arena");
    drop(piece);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn others_charges_leave_the_arena_less() {
    let (arena, ledger) = arena(40);
    let index = ledger.charge(Account::Index, 30 * PAGE as u64).unwrap();
    assert!(arena.alloc_pages(11).is_none());
    let pages = arena.alloc_pages(10).unwrap();
    assert_eq!(ledger.free(), 0);
    drop(index);
    assert!(arena.alloc_pages(30).is_some());
    drop(pages);
}

#[test]
fn the_window_is_touched_in_steps_and_no_further() {
    let ledger = Ledger::new(1 << 30);
    let mut config = ArenaConfig::new(1 << 26).with_backing(BackingKind::Heap);
    config.window_bytes = 40 * PAGE as u64;
    let arena = Arena::new(&config, Arc::clone(&ledger)).unwrap();
    assert!(arena.pretouch() && arena.pretouch() && arena.pretouch());
    assert!(!arena.pretouch());
    assert_eq!(arena.free_bytes(), 40 * PAGE as u64);
    assert_eq!(ledger.used(), 40 * PAGE as u64);
}

#[test]
fn large_requests_get_large_pieces_while_cold_pages_are_there() {
    let (arena, _ledger) = arena(64);
    let singles: Vec<Pages> = (0..16).map(|_| arena.alloc_pages(1).unwrap()).collect();
    let _kept: Vec<Pages> = singles.into_iter().step_by(2).collect();
    assert_eq!(arena.free_bytes(), 8 * PAGE as u64);
    let first = arena.alloc_pages(8).unwrap();
    assert_eq!(first.extents().len(), 1);
    // Half a region and two whole ones; then the single pages that are left.
    let large = arena.alloc_pages(40).unwrap();
    assert_eq!(large.extents().len(), 3);
    assert_eq!(arena.alloc_pages(8).unwrap().extents().len(), 8);
}

#[test]
fn slots_are_aligned_and_apart_and_their_tags_too() {
    let (arena, _ledger) = arena(64);
    let sizes = [
        0,
        1,
        12,
        13,
        200,
        1020,
        1021,
        5000,
        32 * 1024,
        50_000,
        SLOT_PAYLOAD_MAX,
    ];
    let mut slots: Vec<Slot> = (0..3)
        .flat_map(|_| sizes)
        .map(|bytes| {
            let slot = arena.alloc_slot(bytes).unwrap();
            assert!(slot.capacity() >= bytes);
            assert_eq!(slot_bytes_for(bytes), Some(slot.capacity() + TAG_BYTES));
            assert_eq!(slot.bytes().as_ptr() as usize % 16, 0);
            slot
        })
        .collect();
    for (at, slot) in (0u8..).zip(&mut slots) {
        slot.bytes_mut().fill(at);
        arena.set_tag(slot.loc(), u32::from(at) + 1000);
    }
    for (at, slot) in (0u8..).zip(slots) {
        assert!(full_of(slot.bytes(), at));
        let loc = slot.into_loc();
        assert!(full_of(arena.slot(loc), at));
        assert_eq!(arena.tag(loc), u32::from(at) + 1000);
        arena.free_slot(loc);
    }
    assert!(arena.alloc_slot(SLOT_PAYLOAD_MAX + 1).is_none());
    assert_eq!(arena.stats().pages_slab, 0);
    assert_eq!(
        arena.tag(arena.alloc_slot(200).unwrap().loc()),
        0,
        "a new slot has no tag"
    );
}

#[test]
fn a_batch_frees_what_is_not_taken_out() {
    let (arena, _ledger) = arena(4);
    let mut batch = arena.slot_batch();
    assert_eq!(batch.alloc(100, 1000), 1000);
    assert_eq!(batch.alloc(1020, 1000), 128, "two pages are left");
    batch.bytes_mut(1127).fill(3);
    let loc = batch.take(1127);
    assert_eq!(batch.len(), 1128);
    drop(batch);
    assert_eq!(arena.slot(loc)[1000], 3);
    let stats = arena.stats();
    assert_eq!((stats.classes.len(), stats.classes[0].used), (1, 1));
    arena.free_slot(loc);
    assert_eq!(arena.free_bytes(), 4 * PAGE as u64);
}

#[test]
fn a_slab_makes_do_with_fewer_pages() {
    let (arena, _ledger) = arena(16);
    let pages: Vec<Pages> = (0..16).map(|_| arena.alloc_pages(1).unwrap()).collect();
    let _kept: Vec<Pages> = pages.into_iter().step_by(2).collect();
    // Would like five pages in a run; there are single ones.
    assert!(arena.alloc_slot(20 * 1024 - 4).is_some());
}

#[test]
fn the_listener_hears_of_what_becomes_free_without_locks() {
    let (arena, _ledger) = arena(16);
    let calls = Arc::new(AtomicUsize::new(0));
    let own = Arc::new(Mutex::new(Some(arena.clone())));
    let (seen, again) = (Arc::clone(&calls), Arc::clone(&own));
    assert!(arena.on_free(Arc::new(move || {
        seen.fetch_add(1, Ordering::Relaxed);
        // Takes every lock that there is.
        if let Some(arena) = again.lock().as_ref() {
            drop(arena.stats());
            let _kept = arena.alloc_slot(100).map(Slot::into_loc);
        }
    })));
    assert!(!arena.on_free(Arc::new(|| {})));
    drop(arena.alloc_pages(3));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    drop(arena.alloc_slot(5000));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let extents = arena.alloc_pages(1).unwrap().into_extents();
    let hold = arena.hold(&extents, 0..10);
    arena.free_pages(&extents);
    assert_eq!(calls.load(Ordering::Relaxed), 2, "a reader holds the page");
    drop(hold);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    own.lock().take();
}

#[test]
fn compaction_empties_a_sparse_slab() {
    let (arena, _ledger) = arena(16);
    let locs: Vec<Loc> = (0..64u8 * 3)
        .map(|at| {
            let mut slot = arena.alloc_slot(1020).unwrap();
            slot.bytes_mut().fill(at);
            arena.set_tag(slot.loc(), u32::from(at) + 1);
            slot.into_loc()
        })
        .collect();
    assert!(arena.compact(100).is_none(), "all full");
    let (gone, left): (Vec<_>, Vec<_>) = locs.iter().zip(0u8..).partition(|(_, at)| at % 2 == 0);
    gone.iter().for_each(|(loc, _)| arena.free_slot(**loc));
    let mut places: Vec<(Loc, u8)> = left.into_iter().map(|(loc, at)| (*loc, at)).collect();
    assert!(arena.compact(49).is_none(), "half full each");
    let compaction = arena.compact(50).unwrap();
    assert_eq!((compaction.pages(), compaction.survivors().len()), (1, 32));
    assert_eq!(compaction.copy_bytes(), 32 * 1024);
    let committed = arena.stats().pages_slab;
    for &loc in compaction.survivors() {
        let at = arena.tag(loc) - 1;
        let mut to = compaction.destination().unwrap();
        to.bytes_mut().copy_from_slice(arena.slot(loc));
        arena.set_tag(to.loc(), at + 1);
        let place = places
            .iter_mut()
            .find(|(_, of)| u32::from(*of) == at)
            .unwrap();
        assert_eq!(place.0, loc);
        place.0 = to.into_loc();
        arena.free_slot(loc);
    }
    assert_eq!(arena.held_bytes(), PAGE as u64, "until the attempt is over");
    drop(compaction);
    assert_eq!(
        (arena.held_bytes(), arena.stats().pages_slab),
        (0, committed - 1)
    );
    for (loc, at) in places {
        assert!(full_of(arena.slot(loc), at));
        arena.free_slot(loc);
    }
}

#[test]
fn readers_and_the_owner_race_for_the_last_count() {
    const ROUNDS: u8 = if cfg!(miri) { 8 } else { 200 };
    let (arena, ledger) = arena(64);
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let arena = &arena;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let Some(mut pages) = arena.alloc_pages(5) else {
                        continue;
                    };
                    let stamp = thread.wrapping_mul(80).wrapping_add(round);
                    pages.write(0, &vec![stamp; 5 * PAGE]);
                    let slot = arena.alloc_slot(3000 + usize::from(round));
                    let extents = pages.into_extents();
                    let mut hold = arena.hold(&extents, 100..5 * PAGE as u64).unwrap();
                    std::thread::scope(|readers| {
                        readers.spawn(|| {
                            while let Some(piece) = hold.take(PAGE) {
                                assert!(full_of(&piece, stamp));
                            }
                        });
                        arena.free_pages(&extents);
                        drop(slot);
                        drop(arena.alloc_pages(7));
                    });
                }
            });
        }
    });
    assert_eq!(arena.held_bytes(), 0);
    assert_eq!(arena.free_bytes(), arena.committed_bytes());
    assert_eq!(arena.free_bytes(), ledger.used());
}
