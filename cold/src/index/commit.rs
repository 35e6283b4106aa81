//! Writing in groups: who comes while a group is being written waits and is written with the next, so
//! that a hundred removes at a time cost one fsync.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::disk::Write;
use super::error::Result;
use super::kept::Kept;
use super::rows;
use super::state::Head;
use super::tally::{Segment, Tally, Tell};
use crate::entry::Number;

/// What an operation has decided on; all of it is written, or nothing.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) rows: Vec<Write>,
    pub(super) tells: Vec<(Number, Tell)>,
    /// The highest clock of a version among them.
    pub(super) hlc: u64,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tells.is_empty()
    }

    fn append(&mut self, mut other: Change) {
        self.rows.append(&mut other.rows);
        self.tells.append(&mut other.tells);
        self.hlc = self.hlc.max(other.hlc);
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Change,
    /// Which group is being gathered.
    gathering: u64,
    /// Groups below this one are on the disk.
    written: u64,
    writing: bool,
}

/// The one writer of the tree.
pub(super) struct Committer {
    queue: Mutex<Queue>,
    done: Condvar,
    written: Mutex<Written>,
    /// A copy of the tally's, for those who may not wait.
    entries: AtomicU64,
    /// Set behind each group, where there is a disk.
    head: Option<Mutex<Head>>,
}

/// What is known of all that was written.
#[derive(Debug)]
struct Written {
    tally: Tally,
    hlc: u64,
    /// How many groups.
    groups: u64,
}

impl Committer {
    pub(super) fn new(tally: Tally, head: Option<Head>, groups: u64, hlc: u64) -> Committer {
        Committer {
            queue: Mutex::default(),
            done: Condvar::new(),
            entries: AtomicU64::new(tally.entries()),
            written: Mutex::new(Written { tally, hlc, groups }),
            head: head.map(Mutex::new),
        }
    }

    /// Returns when the change is on the disk. Changes are written in the order of the calls.
    pub(super) fn commit(&self, change: Change, disk: &Kept) -> Result<()> {
        if change.is_empty() {
            return disk.check();
        }
        let mut queue = self.queue.lock();
        queue.waiting.append(change);
        let group = queue.gathering;
        while queue.written <= group {
            disk.check()?;
            if queue.writing {
                self.done.wait(&mut queue);
            } else {
                self.lead(&mut queue, disk);
            }
        }
        Ok(())
    }

    /// Writes all that has gathered. An error is kept by the disk, for all who wait.
    fn lead(&self, queue: &mut MutexGuard<'_, Queue>, disk: &Kept) {
        let change = std::mem::take(&mut queue.waiting);
        queue.gathering += 1;
        queue.writing = true;
        let group = queue.gathering;
        let written = MutexGuard::unlocked(queue, || self.write(change, disk));
        queue.writing = false;
        if written.is_ok() {
            queue.written = group;
        }
        self.done.notify_all();
    }

    fn write(&self, change: Change, disk: &Kept) -> Result<()> {
        let own = self.take_in(change.tells, change.hlc);
        disk.write(change.rows.into_iter().chain(own))?;
        // Behind the rows: it may say less than they do, never more.
        self.vouch(disk)
    }

    /// Says in the head that all is there that was written so far.
    pub(super) fn vouch(&self, disk: &Kept) -> Result<()> {
        let Some(head) = &self.head else {
            return Ok(());
        };
        let groups = self.written.lock().groups;
        let set = head.lock().set(groups);
        set.map_err(|error| disk.lose(&error))
    }

    /// What is now known of all that was written, this group among it, and the rows that say so.
    fn take_in(&self, tells: Vec<(Number, Tell)>, hlc: u64) -> Vec<Write> {
        let mut written = self.written.lock();
        let mut segments = BTreeMap::new();
        for (number, tell) in tells {
            segments.insert(number, written.tally.tell(number, tell));
        }
        written.hlc = written.hlc.max(hlc);
        written.groups += 1;
        let entries = written.tally.entries();
        self.entries.store(entries, Ordering::Release);
        let segments = segments.into_iter();
        let mut own: Vec<Write> = segments
            .map(|(number, row)| (rows::segment_key(number), row.map(rows::numbers)))
            .collect();
        let head = rows::numbers([written.groups, written.hlc]);
        own.push((rows::HEAD.to_vec(), Some(head)));
        own
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Acquire)
    }

    /// Whether a segment is one of those that there are.
    pub(super) fn has_segment(&self, number: Number) -> bool {
        self.written.lock().tally.has(number)
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        self.written.lock().tally.segments()
    }

    pub(super) fn max_hlc(&self) -> u64 {
        self.written.lock().hlc
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.written.lock().tally.resident_bytes()
    }
}
