//! How much of the arena is in use while sizes are mixed and shift.
#![expect(clippy::cast_possible_truncation, reason = "the figures are small")]

use std::collections::{HashMap, VecDeque};

use super::tests::PAGE;
use super::*;

const ARENA_BYTES: u64 = 256 << 20;

/// A cache without an index: victims by second chance, a third of the entries
/// having been used since; sparse slabs emptied when pages are short.
struct Cache {
    arena: Arena,
    random: u64,
    entries: HashMap<u32, Entry>,
    queue: VecDeque<u32>,
    next: u32,
    live: u64,
    moved: u64,
}

struct Entry {
    bytes: u64,
    extents: ExtentList,
    tail: Option<Loc>,
}

impl Cache {
    fn new() -> Cache {
        let ledger = Ledger::new(ARENA_BYTES);
        let config = ArenaConfig::new(ARENA_BYTES).with_backing(BackingKind::Heap);
        Cache {
            arena: Arena::new(&config, ledger).unwrap(),
            random: 7,
            entries: HashMap::new(),
            queue: VecDeque::new(),
            next: 1,
            live: 0,
            moved: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// Spread evenly over the logarithm.
    fn size(&mut self, least: u64, most: u64) -> u64 {
        let doublings = (most / least).ilog2();
        let base = least << self.random(u64::from(doublings));
        base + self.random(base)
    }

    fn put(&mut self, bytes: u64) {
        let (mut pages, mut tail) = (bytes / PAGE_BYTES_U64, (bytes % PAGE_BYTES_U64) as usize);
        if tail > SLOT_TAIL_MAX {
            (pages, tail) = (pages + 1, 0);
        }
        let extents = self.evicting(|arena| arena.alloc_pages(pages as u32));
        let tail = self.evicting(|arena| match tail {
            0 => Some(None),
            tail => arena.alloc_slot(tail).map(Some),
        });
        let number = self.next;
        self.next += 1;
        let tail = tail.map(|slot| {
            self.arena.set_tag(slot.loc(), number);
            slot.into_loc()
        });
        self.live += bytes;
        self.queue.push_back(number);
        let extents = extents.into_extents();
        self.entries.insert(
            number,
            Entry {
                bytes,
                extents,
                tail,
            },
        );
    }

    fn evicting<T>(&mut self, alloc: impl Fn(&Arena) -> Option<T>) -> T {
        loop {
            if let Some(got) = alloc(&self.arena) {
                return got;
            }
            // Room in slabs first, if it makes a page; then a victim.
            if !self.compact() {
                self.evict();
            }
        }
    }

    fn evict(&mut self) {
        while let Some(number) = self.queue.pop_front() {
            if self.random(3) == 0 {
                self.queue.push_back(number);
                continue;
            }
            let entry = self.entries.remove(&number).unwrap();
            self.live -= entry.bytes;
            self.arena.free_pages(&entry.extents);
            entry
                .tail
                .into_iter()
                .for_each(|loc| self.arena.free_slot(loc));
            return;
        }
        panic!("nothing to evict");
    }

    fn compact(&mut self) -> bool {
        let Some(compaction) = self.arena.compact(95) else {
            return false;
        };
        for &loc in compaction.survivors() {
            let number = self.arena.tag(loc);
            let entry = self.entries.get_mut(&number).unwrap();
            assert_eq!(entry.tail, Some(loc));
            let to = compaction.destination().unwrap();
            self.arena.set_tag(to.loc(), number);
            entry.tail = Some(to.into_loc());
            self.arena.free_slot(loc);
        }
        self.moved += compaction.copy_bytes();
        true
    }

    /// Puts a budget's worth of entries, then another during which the least
    /// share in use is taken.
    fn phase(&mut self, least: u64, most: u64) -> f64 {
        let mut worst = 1.0f64;
        for counts in [false, true] {
            let mut put = 0;
            while put < ARENA_BYTES {
                let bytes = self.size(least, most);
                self.put(bytes);
                put += bytes;
                if counts {
                    worst = worst.min(self.live as f64 / ARENA_BYTES as f64);
                }
            }
        }
        worst
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many entries; other tests have the same steps")]
fn nine_tenths_are_in_use_whatever_the_sizes_were_before() {
    let mut cache = Cache::new();
    for (least, most) in [
        (1 << 10, 4 << 20),
        (1 << 10, 4 << 10),
        (1 << 20, 4 << 20),
        (1 << 10, 4 << 20),
        (PAGE as u64 / 2, 4 * PAGE as u64),
    ] {
        let moved = cache.moved;
        let worst = cache.phase(least, most);
        assert!(
            worst >= 0.9,
            "least=`{least}` most=`{most}` worst=`{worst}`"
        );
        let moved = cache.moved - moved;
        assert!(
            moved <= ARENA_BYTES,
            "least=`{least}` most=`{most}` moved=`{moved}`"
        );
    }
}
