//! What was found in the regions, entered into the index: one block after the other, in the order of their keys.

use std::sync::Arc;

use bowstring_wire::version::Version;

use super::format::Row;
use crate::arena::{ExtentList, prefetch};
use crate::engine::{Engine, policy_hash};
use crate::index::record::ACCESS_MODULUS;
use crate::index::{Fields, Finger, Handle, Shards};
use crate::publish_all::Arrival;
use crate::view::LOADED;

/// The most that a record counts.
const MARKS_MAX: u32 = 3;

/// Entries of one namespace, or of an open load of it.
pub(super) struct Block<'a> {
    /// The namespace's home, or the load's own generation.
    pub(super) space: u32,
    /// The load's number, 0 for what shows.
    pub(super) load: u32,
    pub(super) ready: Vec<Ready<'a>>,
}

/// An entry whose memory and record are taken, for whoever has this.
pub(super) struct Ready<'a> {
    pub(super) row: Row,
    pub(super) arrival: Arrival<'a>,
    pub(super) extents: ExtentList,
    pub(super) apart: ExtentList,
}

/// What has been entered.
#[derive(Default)]
pub(super) struct Entered {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) refused: u64,
    /// What a policy has yet to be told of.
    pub(super) newcomers: Vec<Newcomer>,
}

/// An entry that a policy has yet to be told of.
pub(super) struct Newcomer {
    pub(super) age: u32,
    pub(super) handle: Handle,
    pub(super) hash: u32,
}

/// An index that is being filled. Nobody else has its table.
pub(super) struct Entering<'e> {
    engine: &'e Arc<Engine>,
    shards: Shards<'e>,
    entered: Entered,
}

impl<'e> Entering<'e> {
    /// `entries` is how many are said to come.
    pub(super) fn new(engine: &'e Arc<Engine>, entries: u64) -> Self {
        let mut shards = engine.index.table.lock_every();
        // More than there can be room for is not believed.
        shards.expect(entries.min(engine.entries_max()));
        Self {
            engine,
            shards,
            entered: Entered::default(),
        }
    }

    pub(super) fn end(self) -> Entered {
        self.entered
    }

    /// Enters a block into the index. What cannot be there is dropped, and its memory given up.
    pub(super) fn enter(&mut self, block: Block<'_>) {
        let Block { space, load, ready } = block;
        let engine = self.engine;
        let table = &engine.index.table;
        // What another processor has just looked at comes from there, all of it at once.
        for one in &ready {
            table.prefetch(one.arrival.hash);
            engine.index.records.prefetch(one.arrival.handle);
            one.arrival
                .key
                .as_bytes()
                .first()
                .into_iter()
                .for_each(prefetch);
        }
        let Some(mut base) = engine.base_for(space, load) else {
            for one in ready {
                self.refuse(&one);
            }
            return;
        };
        let now = engine.second();
        let mut finger = Finger::default();
        let (mut count, mut bytes) = (0, 0);
        for one in ready {
            let Ready { row, arrival, .. } = &one;
            let fields = Fields {
                namespace: base.view.base(),
                load_generation: if load == 0 { 0 } else { LOADED },
                last_access: now.wrapping_sub(row.age) % ACCESS_MODULUS,
                ..Fields::default()
            };
            let (hlc, start) = row.version;
            let version = Version { hlc, start };
            // In the order of the keys none comes twice.
            let last = base.order.last();
            let last = last.map(|last| engine.key(engine.record(last)));
            let is_next = last.is_none_or(|last| last < arrival.key.as_bytes());
            let shards = &mut self.shards;
            if !is_next
                || !engine.enter_new(shards, &mut base, &mut finger, arrival, version, &fields)
            {
                self.refuse(&one);
                continue;
            }
            count += 1;
            bytes += row.len;
            let handle = arrival.handle;
            let record = engine.record(handle);
            record.set_hits(row.hits);
            record.set_marks(u32::from(row.marks).min(MARKS_MAX));
            if row.kept {
                engine.pins.add(engine.footprint(record));
                record.set_kept(true);
            } else {
                self.entered.newcomers.push(Newcomer {
                    age: row.age,
                    handle,
                    hash: policy_hash(arrival.hash),
                });
            }
            engine.expiry.note(handle, arrival.expires_at_ms);
        }
        base.space.add_all(count, bytes, load != 0);
        self.entered.entries += count;
        self.entered.bytes += bytes;
    }

    fn refuse(&mut self, one: &Ready<'_>) {
        self.entered.refused += 1;
        let engine = self.engine;
        engine.give_up_memory(&[&one.extents, &one.apart], Some(one.arrival.slot));
        engine.index.records.free(one.arrival.handle);
    }
}
