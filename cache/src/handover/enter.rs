//! What was found in the regions, entered into the index: one block after the other, in the order of their keys.

use std::sync::Arc;

use bowstring_wire::version::Version;

use super::format::Row;
use crate::arena::prefetch;
use crate::engine::{Engine, policy_hash};
use crate::index::record::ACCESS_MODULUS;
use crate::index::{Fields, Finger, Handle};
use crate::publish::Draft;
use crate::publish_all::Arrival;

/// The most that a record counts.
const MARKS_MAX: u32 = 3;

/// Entries of one namespace.
pub(super) struct Block<'a> {
    pub(super) home: u32,
    pub(super) ready: Vec<Ready<'a>>,
}

/// An entry whose memory is taken.
pub(super) struct Ready<'a> {
    pub(super) row: Row,
    pub(super) arrival: Arrival<'a>,
    pub(super) draft: Draft,
}

/// What has been entered.
#[derive(Debug, Default)]
pub(super) struct Entered {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) refused: u64,
}

/// An entry that a policy has yet to be told of.
pub(super) struct Newcomer {
    pub(super) age: u32,
    pub(super) handle: Handle,
    pub(super) hash: u32,
}

impl Engine {
    /// Enters a block into the index. What cannot be there is dropped, and its memory given up.
    pub(super) fn enter(
        self: &Arc<Self>,
        block: Block<'_>,
        entered: &mut Entered,
        newcomers: &mut Vec<Newcomer>,
    ) {
        let Block { home, ready } = block;
        let table = &self.index.table;
        // What another processor has just looked at comes from there, all of it at once.
        for one in &ready {
            table.prefetch(one.arrival.hash);
            self.index.records.prefetch(one.arrival.handle);
            one.arrival
                .key
                .as_bytes()
                .first()
                .into_iter()
                .for_each(prefetch);
        }
        let mut shards = table.lock_all(ready.iter().map(|one| one.arrival.hash));
        let Some(mut base) = self.base_for(home, 0) else {
            return;
        };
        let now = self.second();
        let mut finger = Finger::default();
        let (mut count, mut bytes) = (0, 0);
        let mut published = Vec::with_capacity(ready.len());
        for Ready {
            row,
            arrival,
            draft,
        } in ready
        {
            let fields = Fields {
                namespace: base.view.base(),
                last_access: now.wrapping_sub(row.age) % ACCESS_MODULUS,
                ..Fields::default()
            };
            let (hlc, start) = row.version;
            let version = Version { hlc, start };
            // In the order of the keys none comes twice.
            let last = base.order.last().map(|last| self.key(self.record(last)));
            let is_next = last.is_none_or(|last| last < arrival.key.as_bytes());
            if !is_next
                || !self.enter_new(
                    &mut shards,
                    &mut base,
                    &mut finger,
                    &arrival,
                    version,
                    &fields,
                )
            {
                entered.refused += 1;
                continue;
            }
            // Its memory is the index's now.
            let _ = draft.into_handle();
            count += 1;
            bytes += row.len;
            let handle = arrival.handle;
            let record = self.record(handle);
            record.set_hits(row.hits);
            record.set_marks(u32::from(row.marks).min(MARKS_MAX));
            if row.kept {
                self.pins.add(self.footprint(self.record(handle)));
                self.record(handle).set_kept(true);
            } else {
                newcomers.push(Newcomer {
                    age: row.age,
                    handle,
                    hash: policy_hash(arrival.hash),
                });
            }
            published.push((handle, arrival.expires_at_ms));
        }
        base.space.add_all(count, bytes, false);
        drop(base);
        drop(shards);
        for (handle, expires_at_ms) in published {
            self.expiry.note(handle, expires_at_ms);
        }
        entered.entries += count;
        entered.bytes += bytes;
    }
}
