//! Records strung on their links, from the oldest to the newest, with a count of their bytes.

use crate::index::{Handle, Records};

/// What an entry counts at least: a small tensor's slot and record are not free.
const ENTRY_BYTES_MIN: u64 = 128;

/// A list of records. Only its owner's lock makes it consistent.
#[derive(Debug)]
pub(super) struct Queue {
    /// What [`Records::place`] says of its records.
    place: u8,
    newest: Option<Handle>,
    oldest: Option<Handle>,
    len: u64,
    bytes: u64,
}

impl Queue {
    pub(super) fn new(place: u8) -> Self {
        Self {
            place,
            newest: None,
            oldest: None,
            len: 0,
            bytes: 0,
        }
    }

    pub(super) fn oldest(&self) -> Option<Handle> {
        self.oldest
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn push_newest(&mut self, records: &Records, entry: Handle) {
        self.insert_after(records, entry, self.newest);
    }

    pub(super) fn push_oldest(&mut self, records: &Records, entry: Handle) {
        self.insert_after(records, entry, None);
    }

    /// Puts `entry` right behind `older` on the way to the newest; `None` makes it the oldest.
    pub(super) fn insert_after(&mut self, records: &Records, entry: Handle, older: Option<Handle>) {
        let newer = match older {
            Some(older) => records.prev(older),
            None => self.oldest,
        };
        self.link(records, entry, newer, older);
        records.set_place(entry, self.place);
        self.len += 1;
        self.bytes += bytes_of(records, entry);
    }

    pub(super) fn remove(&mut self, records: &Records, entry: Handle) {
        let (newer, older) = (records.prev(entry), records.next(entry));
        match newer {
            Some(newer) => records.set_next(newer, older),
            None => self.newest = older,
        }
        match older {
            Some(older) => records.set_prev(older, newer),
            None => self.oldest = newer,
        }
        records.set_prev(entry, None);
        records.set_next(entry, None);
        records.set_place(entry, 0);
        self.len -= 1;
        self.bytes -= bytes_of(records, entry);
    }

    /// Puts `new` where `old` is, which leaves.
    pub(super) fn substitute(&mut self, records: &Records, old: Handle, new: Handle) {
        let (newer, older) = (records.prev(old), records.next(old));
        self.link(records, new, newer, older);
        records.set_place(new, records.place(old));
        records.set_prev(old, None);
        records.set_next(old, None);
        records.set_place(old, 0);
        self.bytes += bytes_of(records, new);
        self.bytes -= bytes_of(records, old);
    }

    pub(super) fn make_newest(&mut self, records: &Records, entry: Handle) {
        if self.newest != Some(entry) {
            self.remove(records, entry);
            self.push_newest(records, entry);
        }
    }

    fn link(
        &mut self,
        records: &Records,
        entry: Handle,
        newer: Option<Handle>,
        older: Option<Handle>,
    ) {
        records.set_prev(entry, newer);
        records.set_next(entry, older);
        match newer {
            Some(newer) => records.set_next(newer, Some(entry)),
            None => self.newest = Some(entry),
        }
        match older {
            Some(older) => records.set_prev(older, Some(entry)),
            None => self.oldest = Some(entry),
        }
    }
}

/// What an entry counts in a queue. It must not change while it is in one.
pub(super) fn bytes_of(records: &Records, entry: Handle) -> u64 {
    records.at(entry).len().max(ENTRY_BYTES_MIN)
}
