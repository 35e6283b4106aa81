//! The arena's inner loops:
//!
//! ```text
//! cargo bench -p bowstring-cache --bench arena
//! ```
//!
//! Pages are warm: what is measured is the arena, not the first touch.

use std::hint::black_box;
use std::sync::Arc;

use bowstring_cache::arena::{Arena, ArenaConfig, Loc, PAGE_BYTES_U64, Slot};
use bowstring_cache::ledger::Ledger;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ARENA_BYTES: u64 = 256 << 20;

fn arena() -> Arena {
    let ledger = Ledger::new(ARENA_BYTES);
    let arena = Arena::new(&ArenaConfig::new(ARENA_BYTES), Arc::clone(&ledger)).expect("an arena");
    drop(arena.alloc_pages(pages(ARENA_BYTES)));
    arena
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE_BYTES_U64).expect("few pages")
}

/// Allocate and free, without touching the bytes.
fn page_round_trips(c: &mut Criterion) {
    let arena = arena();
    let mut group = c.benchmark_group("pages");
    for bytes in [64 << 10, 1 << 20, 16 << 20, 64 << 20] {
        group.bench_function(BenchmarkId::new("alloc_free", bytes), |b| {
            b.iter(|| black_box(arena.alloc_pages(pages(bytes))));
        });
    }
    group.finish();
}

/// One copy into fresh pages, as a put makes it, in frames of 256 KiB.
fn page_writes(c: &mut Criterion) {
    let arena = arena();
    let frame = vec![7u8; 256 << 10];
    let mut group = c.benchmark_group("pages");
    for bytes in [1u64 << 20, 16 << 20] {
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(BenchmarkId::new("alloc_write_free", bytes), |b| {
            b.iter(|| {
                let mut to = arena.alloc_pages(pages(bytes)).expect("room");
                for at in (0..bytes).step_by(frame.len()) {
                    to.write(at, &frame);
                }
                to
            });
        });
    }
    group.finish();
}

/// Hold a tensor and take it in pieces of 1 MiB, as a get does.
fn reads(c: &mut Criterion) {
    let arena = arena();
    let mut group = c.benchmark_group("pages");
    for bytes in [1u64 << 20, 16 << 20, 128 << 20] {
        let extents = arena
            .alloc_pages(pages(bytes))
            .expect("room")
            .into_extents();
        group.bench_function(BenchmarkId::new("hold_take", bytes), |b| {
            b.iter(|| {
                let mut hold = arena.hold(&extents, 0..bytes).expect("pages");
                while let Some(piece) = hold.take(1 << 20) {
                    black_box(piece);
                }
            });
        });
        arena.free_pages(&extents);
    }
    group.finish();
}

/// Slots of a small embedding with its head, one by one and a thousand a call.
fn slots(c: &mut Criterion) {
    let arena = arena();
    let mut group = c.benchmark_group("slots");
    // Some thousand slabs with holes: what a full cache looks like.
    let mut locs: Vec<Loc> = (0..200_000)
        .map(|_| arena.alloc_slot(280).map(Slot::into_loc).expect("room"))
        .collect();
    let holes: Vec<Loc> = locs.iter().copied().step_by(7).collect();
    arena.free_slots(&holes);
    let mut at = 0;
    locs.retain(|_| {
        at += 1;
        (at - 1) % 7 != 0
    });

    group.bench_function("alloc_free", |b| {
        b.iter(|| black_box(arena.alloc_slot(280)));
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("batch_of_1000", |b| {
        b.iter(|| {
            let mut batch = arena.slot_batch();
            assert_eq!(batch.alloc(280, 1000), 1000);
            batch
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("read_280_bytes", |b| {
        let mut at = 0;
        b.iter(|| {
            at = (at + 7919) % locs.len();
            arena.slot(locs[at])[..280]
                .iter()
                .step_by(64)
                .fold(0u8, |sum, byte| sum ^ byte)
        });
    });
    group.finish();
}

/// Empty one slab of 1 KiB slots that is half full.
fn compaction(c: &mut Criterion) {
    let arena = arena();
    c.bench_function("compaction/half_full_slab", |b| {
        b.iter_batched(
            || {
                let slots: Vec<Loc> = (0..128)
                    .map(|_| arena.alloc_slot(1020).map(Slot::into_loc).expect("room"))
                    .collect();
                slots
                    .iter()
                    .step_by(2)
                    .for_each(|loc| arena.free_slot(*loc));
                slots
            },
            |slots| {
                let compaction = arena.compact(60).expect("a sparse slab");
                let mut moved = Vec::with_capacity(64);
                for loc in compaction.survivors() {
                    let mut to = compaction.destination().expect("room");
                    to.bytes_mut().copy_from_slice(arena.slot(*loc));
                    moved.push(to.into_loc());
                    arena.free_slot(*loc);
                }
                let left = slots.iter().skip(1).step_by(2);
                let left = left.filter(|loc| !compaction.survivors().contains(loc));
                moved.extend(left);
                drop(compaction);
                arena.free_slots(&moved);
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(
    benches,
    page_round_trips,
    page_writes,
    reads,
    slots,
    compaction
);
criterion_main!(benches);
