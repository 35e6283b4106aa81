//! What of each segment is still alive: how much would be gained by rewriting it.

use std::collections::BTreeMap;

use crate::entry::Number;

/// A segment as the index sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which.
    pub number: Number,
    /// Entries whose bytes lie there.
    pub live_entries: u64,
    /// Bytes of those.
    pub live_bytes: u64,
    /// Bytes of its file; none as long as nobody has said.
    pub total_bytes: u64,
}

/// A change of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tell {
    /// So many bytes of an entry lie there now.
    Gained(u64),
    /// So many bytes of an entry do not any more.
    Lost(u64),
    /// How large its file is.
    Total(u64),
    /// There is no such file any more.
    Dropped,
}

/// All segments; in memory and, a row each, on the disk.
#[derive(Debug, Default)]
pub(super) struct Tally {
    segments: BTreeMap<Number, [u64; 3]>,
    entries: u64,
}

impl Tally {
    pub(super) fn load(&mut self, number: Number, numbers: [u64; 3]) {
        self.entries += numbers[0];
        self.segments.insert(number, numbers);
    }

    /// Takes a change in and says what the segment's row is to be.
    pub(super) fn tell(&mut self, number: Number, tell: Tell) -> Option<[u64; 3]> {
        match tell {
            Tell::Dropped => {
                let gone = self.segments.remove(&number);
                self.entries -= gone.map_or(0, |[entries, ..]| entries);
                return None;
            }
            // An entry that still pointed into a segment that is gone.
            Tell::Lost(_) if !self.segments.contains_key(&number) => return None,
            _ => {}
        }
        let [entries, bytes, total] = self.segments.entry(number).or_default();
        match tell {
            Tell::Gained(len) => {
                *entries += 1;
                *bytes = bytes.saturating_add(len);
                self.entries += 1;
            }
            Tell::Lost(len) if *entries > 0 => {
                *entries -= 1;
                *bytes = bytes.saturating_sub(len);
                self.entries -= 1;
            }
            Tell::Lost(_) | Tell::Dropped => {}
            Tell::Total(len) => *total = len,
        }
        Some([*entries, *bytes, *total])
    }

    pub(super) fn has(&self, number: Number) -> bool {
        self.segments.contains_key(&number)
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        let all = self.segments.iter();
        all.map(
            |(number, [live_entries, live_bytes, total_bytes])| Segment {
                number: *number,
                live_entries: *live_entries,
                live_bytes: *live_bytes,
                total_bytes: *total_bytes,
            },
        )
        .collect()
    }

    /// 32 bytes a segment and as much again for the nodes of the tree, which are half full at worst.
    pub(super) fn resident_bytes(&self) -> u64 {
        u64::try_from(self.segments.len() * 64).unwrap_or(u64::MAX)
    }
}
