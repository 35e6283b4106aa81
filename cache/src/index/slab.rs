//! The slab of all records: grows by chunks, never shrinks, never becomes anything else.

use std::sync::{Arc, OnceLock};

use super::record::{Handle, Record};
use super::sync::{AtomicU8, AtomicU32, Mutex, Ordering};
use super::{Budget, Full};
use crate::arena::prefetch;

/// Records a chunk. 4,096 make 292 KiB with their links and places: small beside any budget, and the
/// directory of a billion records still fits a few megabytes.
#[cfg(not(any(feature = "loom", miri)))]
const CHUNK: usize = 4096;
#[cfg(any(feature = "loom", miri))]
const CHUNK: usize = 4;

/// All records: a slab that grows by chunks and never shrinks.
pub struct Records {
    hot: Box<[OnceLock<Box<[Record]>>]>,
    links: Box<[OnceLock<Box<[Links]>>]>,
    places: Box<[OnceLock<Box<[AtomicU8]>>]>,
    free: Mutex<FreeList>,
    budget: Arc<dyn Budget>,
}

impl Records {
    /// A slab for at most `entries_max` records, rounded up to whole chunks.
    ///
    /// # Errors
    /// [`Full`] where the budget refuses the directory.
    pub fn new(entries_max: u32, budget: Arc<dyn Budget>) -> Result<Records, Full> {
        // Record 0 is never given out, so that a handle is never 0. Number u32::MAX is in
        // the last chunk of all, hence no handle overflows.
        let chunks = (entries_max as usize / CHUNK + 1).min(u32::MAX as usize / CHUNK + 1);
        let bytes = directory_bytes(chunks);
        if !budget.charge(bytes) {
            return Err(Full { bytes });
        }
        Ok(Records {
            hot: (0..chunks).map(|_| OnceLock::new()).collect(),
            links: (0..chunks).map(|_| OnceLock::new()).collect(),
            places: (0..chunks).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(FreeList {
                head: None,
                len: 0,
                chunks: 0,
            }),
            budget,
        })
    }

    /// A private record, all zero, for the caller to fill; `None` where the slab cannot
    /// grow. Given back by [`Records::free`].
    pub fn alloc(&self) -> Option<Handle> {
        let mut free = self.free.lock();
        self.pop(&mut free)
    }

    /// Appends `n` private records to `out` under one lock, or as many as there are room
    /// for, and tells how many.
    pub fn alloc_many(&self, n: usize, out: &mut Vec<Handle>) -> usize {
        let mut free = self.free.lock();
        (0..n)
            .map_while(|_| self.pop(&mut free))
            .map(|handle| out.push(handle))
            .count()
    }

    /// Ends a record that is the caller's alone: private, or dead without pins.
    pub fn free(&self, handle: Handle) {
        self.at(handle).make_free();
        self.push(&mut self.free.lock(), handle);
    }

    /// As [`Records::free`], for several under one lock.
    pub fn free_many(&self, handles: impl Iterator<Item = Handle>) {
        let mut free = self.free.lock();
        for handle in handles {
            self.at(handle).make_free();
            self.push(&mut free, handle);
        }
    }

    /// The record of a handle that this slab gave out.
    pub fn at(&self, handle: Handle) -> &Record {
        let Some(chunk) = self.hot[handle.index() / CHUNK].get() else {
            // No handle leaves the slab before its chunk is there.
            unreachable!("a handle of another slab")
        };
        &chunk[handle.index() % CHUNK]
    }

    /// The record of any number; `None` where there is none of it yet.
    pub fn try_at(&self, handle: Handle) -> Option<&Record> {
        let chunk = self.hot.get(handle.index() / CHUNK)?.get()?;
        chunk.get(handle.index() % CHUNK)
    }

    /// Has the processor fetch a record, and what a policy keeps of it.
    pub fn prefetch(&self, handle: Handle) {
        prefetch(self.at(handle));
        prefetch(self.links(handle));
    }

    /// The policy's link to the record before.
    pub fn prev(&self, handle: Handle) -> Option<Handle> {
        Handle::from_raw(self.links(handle).prev.load(Ordering::Relaxed))
    }

    /// The policy's link to the record behind.
    pub fn next(&self, handle: Handle) -> Option<Handle> {
        Handle::from_raw(self.links(handle).next.load(Ordering::Relaxed))
    }

    /// Sets [`Records::prev`]. Between `alloc` and `free` only.
    pub fn set_prev(&self, handle: Handle, to: Option<Handle>) {
        self.links(handle)
            .prev
            .store(to.map_or(0, Handle::get), Ordering::Relaxed);
    }

    /// Sets [`Records::next`]. Between `alloc` and `free` only.
    pub fn set_next(&self, handle: Handle, to: Option<Handle>) {
        self.links(handle)
            .next
            .store(to.map_or(0, Handle::get), Ordering::Relaxed);
    }

    /// In which of its lists a policy has the record; 0 for none.
    pub fn place(&self, handle: Handle) -> u8 {
        let chunk = self.places[handle.index() / CHUNK].get();
        chunk.map_or(0, |chunk| {
            chunk[handle.index() % CHUNK].load(Ordering::Relaxed)
        })
    }

    /// Sets [`Records::place`]. Between `alloc` and `free` only, and 0 again before that.
    pub fn set_place(&self, handle: Handle, place: u8) {
        if let Some(chunk) = self.places[handle.index() / CHUNK].get() {
            chunk[handle.index() % CHUNK].store(place, Ordering::Relaxed);
        }
    }

    /// Records that are not free.
    pub fn used(&self) -> u64 {
        let free = self.free.lock();
        (free.chunks * CHUNK) as u64 - u64::from(free.len) - u64::from(free.chunks > 0)
    }

    /// Bytes held: chunks and directory.
    pub fn bytes(&self) -> u64 {
        self.free.lock().chunks as u64 * chunk_bytes() + directory_bytes(self.hot.len())
    }

    fn links(&self, handle: Handle) -> &Links {
        let Some(chunk) = self.links[handle.index() / CHUNK].get() else {
            unreachable!("a handle of another slab")
        };
        &chunk[handle.index() % CHUNK]
    }

    fn pop(&self, free: &mut FreeList) -> Option<Handle> {
        if free.head.is_none() {
            self.grow(free)?;
        }
        let handle = free.head?;
        free.head = self.next(handle);
        free.len -= 1;
        self.set_next(handle, None);
        self.set_prev(handle, None);
        self.at(handle).make_private();
        Some(handle)
    }

    fn push(&self, free: &mut FreeList, handle: Handle) {
        self.set_next(handle, free.head);
        free.head = Some(handle);
        free.len += 1;
    }

    fn grow(&self, free: &mut FreeList) -> Option<()> {
        let (hot, links) = (self.hot.get(free.chunks)?, self.links.get(free.chunks)?);
        let places = self.places.get(free.chunks)?;
        if !self.budget.charge(chunk_bytes()) {
            return None;
        }
        let base = u32::try_from(free.chunks * CHUNK).ok()?;
        let count = u32::try_from(CHUNK).ok()?;
        hot.get_or_init(|| (0..CHUNK).map(|_| Record::free()).collect());
        places.get_or_init(|| (0..CHUNK).map(|_| AtomicU8::new(0)).collect());
        // Strung in ascending order; the last one ends the list, which is empty now.
        links.get_or_init(|| {
            (1..=count)
                .map(|i| Links {
                    prev: AtomicU32::new(0),
                    next: AtomicU32::new(if i < count { base + i } else { 0 }),
                })
                .collect()
        });
        free.head = Handle::from_raw(base).or(Handle::from_raw(base + 1));
        free.len = count - u32::from(base == 0);
        free.chunks += 1;
        Some(())
    }
}

/// The links a policy strings its records on. Only the policy's lock makes them consistent.
#[derive(Debug)]
struct Links {
    prev: AtomicU32,
    next: AtomicU32,
}

/// Free records, strung on their `next` links.
#[derive(Debug)]
struct FreeList {
    head: Option<Handle>,
    len: u32,
    chunks: usize,
}

impl Drop for Records {
    fn drop(&mut self) {
        self.budget.release(self.bytes());
    }
}

fn chunk_bytes() -> u64 {
    (CHUNK * (size_of::<Record>() + size_of::<Links>() + size_of::<AtomicU8>())) as u64
}

fn directory_bytes(chunks: usize) -> u64 {
    // Three slices, each a fat pointer and a state.
    (chunks * 3 * size_of::<OnceLock<Box<[Record]>>>()) as u64
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::AtomicU64;

    use super::super::Unlimited;
    use super::*;

    #[expect(clippy::cast_possible_truncation, reason = "small")]
    const CHUNK_U32: u32 = CHUNK as u32;

    /// A budget of so many bytes.
    struct Bytes(AtomicU64);

    impl Budget for Bytes {
        fn charge(&self, bytes: u64) -> bool {
            let take = |left: u64| left.checked_sub(bytes);
            self.0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
        }

        fn release(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn hands_out_every_record_once() {
        let records = Records::new(CHUNK_U32 * 2 + 3, Arc::new(Unlimited)).unwrap();
        let mut handles = Vec::new();
        assert_eq!(records.alloc_many(CHUNK + 2, &mut handles), CHUNK + 2);
        handles.extend(std::iter::from_fn(|| records.alloc()));
        assert_eq!(
            handles.len(),
            3 * CHUNK - 1,
            "whole chunks, but for record 0"
        );
        assert_eq!(handles.iter().collect::<HashSet<_>>().len(), handles.len());
        assert_eq!(records.used(), handles.len() as u64);
        for &handle in &handles {
            records.free(handle);
        }
        assert_eq!(records.used(), 0);
        assert_eq!(
            records.alloc_many(usize::MAX, &mut Vec::new()),
            handles.len()
        );
    }

    #[test]
    fn a_reused_record_is_blank_and_of_the_next_generation() {
        let records = Records::new(1, Arc::new(Unlimited)).unwrap();
        let handle = records.alloc().unwrap();
        records.at(handle).set_len(7);
        records.set_prev(handle, Some(handle));
        records.free(handle);
        let again = records.alloc().unwrap();
        assert_eq!(again, handle);
        assert_eq!(
            (records.at(again).len(), records.at(again).generation()),
            (0, 1)
        );
        assert_eq!((records.prev(again), records.next(again)), (None, None));
    }

    #[test]
    fn growth_asks_first_and_all_is_given_back() {
        let total = directory_bytes(2) + chunk_bytes() + 10;
        let budget = Arc::new(Bytes(AtomicU64::new(total)));
        let records = Records::new(CHUNK_U32 + 2, budget.clone()).unwrap();
        let mut handles = Vec::new();
        assert_eq!(records.alloc_many(CHUNK + 2, &mut handles), CHUNK - 1);
        assert!(records.alloc().is_none());
        assert_eq!(records.bytes(), total - 10);
        assert_eq!(budget.0.load(Ordering::Relaxed), 10);
        budget.release(chunk_bytes());
        assert!(records.alloc().is_some(), "once there is room again");
        drop(records);
        assert_eq!(budget.0.load(Ordering::Relaxed), total + chunk_bytes());
    }

    #[test]
    fn a_budget_without_room_for_the_directory_is_refused() {
        let refused = Records::new(1, Arc::new(Bytes(AtomicU64::new(5)))).err();
        assert_eq!(
            refused,
            Some(Full {
                bytes: directory_bytes(1)
            })
        );
    }
}
