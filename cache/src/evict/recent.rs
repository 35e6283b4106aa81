//! Hits on their way to a policy that must know them one by one.
//!
//! A hit writes a note into a ring and waits for nobody; whoever inserts or evicts takes the notes
//! out, under the policy's lock. A full ring forgets its oldest notes: the marks in the records
//! remain. A thread always writes to the same of several rings, so that threads rarely share one;
//! the order of hits is kept within a ring.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::index::{Handle, low32};

/// Rings; a power of two.
const RINGS: usize = 8;
/// Notes a ring: 4 KiB.
const NOTES: usize = 512;

/// A hit: on which entry, under which hash. The record may be another entry's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) entry: Handle,
    pub(super) hash: u32,
}

/// The rings: 32 KiB.
pub(super) struct Recent {
    rings: Box<[Ring]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            rings: (0..RINGS).map(|_| Ring::new()).collect(),
        }
    }
}

impl Recent {
    /// Notes a hit.
    pub(super) fn push(&self, entry: Handle, hash: u32) {
        let ring = &self.rings[THREAD.with(|thread| *thread) % RINGS];
        let at = ring.written.fetch_add(1, Ordering::Relaxed);
        ring.at(at).store(
            u64::from(entry.get()) << 32 | u64::from(hash),
            Ordering::Release,
        );
    }

    /// Takes all notes out. One caller at a time.
    pub(super) fn drain(&self, mut with: impl FnMut(Note)) {
        for ring in &self.rings {
            let written = ring.written.load(Ordering::Acquire);
            let read = ring.read.swap(written, Ordering::Relaxed);
            if read == written {
                continue;
            }
            for at in read.max(written.saturating_sub(NOTES as u64))..written {
                // Empty where the writer has not come to it yet: it is taken a round later, or lost.
                let note = ring.at(at).swap(0, Ordering::Acquire);
                if let Some(entry) = Handle::from_raw(high32(note)) {
                    let hash = low32(note);
                    with(Note { entry, hash });
                }
            }
        }
    }
}

/// Two cache lines apart from the next, as processors fetch lines in pairs.
#[repr(align(128))]
struct Ring {
    written: AtomicU64,
    read: AtomicU64,
    notes: Box<[AtomicU64]>,
}

impl Ring {
    fn new() -> Self {
        Self {
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            notes: (0..NOTES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn at(&self, at: u64) -> &AtomicU64 {
        &self.notes[usize::try_from(at % NOTES as u64).unwrap_or(0)]
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

fn high32(word: u64) -> u32 {
    low32(word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(recent: &Recent) -> Vec<u32> {
        let mut out = Vec::new();
        recent.drain(|note| {
            assert_eq!(note.hash, !note.entry.get());
            out.push(note.entry.get());
        });
        out
    }

    fn push(recent: &Recent, raw: u32) {
        recent.push(Handle::from_raw(raw).unwrap(), !raw);
    }

    #[test]
    fn notes_come_out_once_in_order_and_the_oldest_are_forgotten() {
        let recent = Recent::default();
        assert!(drained(&recent).is_empty());
        (1..4).for_each(|raw| push(&recent, raw));
        assert_eq!(drained(&recent), [1, 2, 3]);
        assert!(drained(&recent).is_empty());
        let notes = u32::try_from(NOTES).unwrap();
        (1..=2 * notes + 7).for_each(|raw| push(&recent, raw));
        let kept: Vec<u32> = (notes + 8..=2 * notes + 7).collect();
        assert_eq!(drained(&recent), kept);
    }

    #[test]
    fn threads_lose_none_while_there_is_room() {
        let recent = Recent::default();
        let rounds = if cfg!(miri) { 3 } else { 50 };
        for _ in 0..rounds {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let recent = &recent;
                    scope.spawn(move || (1..=100).for_each(|n| push(recent, thread * 100 + n)));
                }
            });
            let mut all = drained(&recent);
            all.sort_unstable();
            assert_eq!(all, (1..=400).collect::<Vec<u32>>());
        }
    }
}
