//! Several entries that come to one namespace together: what [`crate::publish`] does for one, with
//! locks, clock, counters and policy once for all of them.
//!
//! The shards of all their keys are locked at once, and each entry is published by itself under
//! that: nobody sees more or less of the others for it. They go in key order, so that the
//! namespace's order is walked through instead of searched for each. What is not plain is left to be
//! published alone: a key for the second time, one that somebody else has just changed, pins, a
//! namespace at its limits or between two loads.

use std::sync::Arc;

use bowstring_wire::descriptor::Admit;
use bowstring_wire::version::Version;

use crate::arena::Loc;
use crate::engine::{Engine, Pinned, policy_hash};
use crate::event::{Event, What, Why};
use crate::index::{Fields, Finger, Handle, Shards};
use crate::namespaces::Base;
use crate::view::LOADED;

/// What they share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Together {
    /// As [`Coming::space`](crate::publish::Coming::space).
    pub(crate) space: u32,
    /// The load that brings them; 0 is none.
    pub(crate) load: u32,
    pub(crate) admit: Admit,
}

/// One of them. Its slot is filled; slot and record are its owner's until it is published.
pub(crate) struct Arrival<'a> {
    /// A number of its owner's.
    pub(crate) row: usize,
    pub(crate) hash: u64,
    pub(crate) key: &'a str,
    pub(crate) len: u64,
    pub(crate) checksum: u128,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) slot: Loc,
    pub(crate) handle: Handle,
    /// What is there now, in whose place it comes.
    pub(crate) expected: Option<Pinned>,
    /// Set when it is published.
    pub(crate) version: Option<Version>,
}

impl Engine {
    /// Publishes those that can be published together; the others keep no version.
    pub(crate) fn publish_all(self: &Arc<Self>, shared: Together, arrivals: &mut [Arrival<'_>]) {
        if !arrivals.is_sorted_by(|one, next| one.key <= next.key) {
            // Stable: of two with one key the first comes first.
            arrivals.sort_by(|one, next| one.key.cmp(next.key));
        }
        let mut shards = (self.index.table).lock_all(arrivals.iter().map(|one| one.hash));
        let Some(mut base) = self.base_for(shared.space, shared.load) else {
            return;
        };
        if base.view.beside().is_some() || self.would_be_over(&base, arrivals) {
            return;
        }
        let fields = Fields {
            namespace: base.view.base(),
            load_generation: if shared.load == 0 { 0 } else { LOADED },
            last_access: self.second(),
            ..Fields::default()
        };
        let first = (self.hlc).next_of(self.clock.now_ms(), arrivals.len() as u64);
        let mut finger = Finger::default();
        let (mut count, mut bytes) = (0, 0);
        let mut before = None;
        for (one, hlc) in arrivals.iter_mut().zip(first.hlc..) {
            if before.replace(one.key) == Some(one.key) {
                continue;
            }
            let version = Version { hlc, ..first };
            if self.publish_in(&mut shards, &mut base, &mut finger, one, version, &fields) {
                one.version = Some(version);
                count += 1;
                bytes += one.len;
            }
        }
        let space = base.space;
        space.add_all(count, bytes, shared.load != 0);
        drop(base);
        let come = || arrivals.iter().filter(|one| one.version.is_some());
        let new = come().filter(|one| one.expected.is_none());
        let new: Vec<_> = new.map(|one| (one.handle, policy_hash(one.hash))).collect();
        (self.policy).insert_all(&self.index.records, &new, shared.admit.into());
        for one in come() {
            if let Some(old) = &one.expected {
                self.replace_in_policy(old, one.handle, one.hash, shared.admit);
                self.went(old, Why::Replaced);
            }
        }
        self.events.emit_published(count, || {
            come().filter_map(|one| {
                Some(Event {
                    tenant: &space.tenant,
                    namespace: &space.namespace,
                    key: one.key,
                    version: one.version?,
                    bytes: one.len,
                    what: What::Published,
                })
            })
        });
        drop(shards);
        for one in arrivals.iter_mut().filter(|one| one.version.is_some()) {
            self.expiry.note(one.handle, one.expires_at_ms);
            if let Some(old) = one.expected.take() {
                self.after_unlink(old, Why::Replaced);
            }
        }
        self.charge_overhead();
    }

    /// Publishes one of them; false, with nothing changed, where it is not plain.
    fn publish_in(
        self: &Arc<Self>,
        shards: &mut Shards<'_>,
        base: &mut Base<'_>,
        finger: &mut Finger,
        one: &Arrival<'_>,
        version: Version,
        fields: &Fields,
    ) -> bool {
        let (key, handle) = (one.key.as_bytes(), one.handle);
        let Some(shard) = shards.of(one.hash) else {
            return false;
        };
        let there = match &one.expected {
            None => {
                if self.standing(shard, base.view, key).base.is_some() || shard.reserve().is_err() {
                    return false;
                }
                None
            }
            Some(old) => {
                let at = shard.position(old.handle);
                let record = old.record();
                if at.is_none() || record.namespace() != fields.namespace || record.is_kept() {
                    return false;
                }
                at
            }
        };
        let record = self.record(handle);
        self.arena.set_tag(one.slot, handle.get());
        record.set_loc(one.slot.to_bits());
        record.set(&Fields {
            len: one.len,
            checksum: one.checksum,
            version: (version.hlc, version.start),
            expires_at_ms: one.expires_at_ms,
            ..*fields
        });
        if (base.order.insert_behind(finger, key, handle, &**self)).is_err() {
            return false;
        }
        if let Some(old) = &one.expected {
            self.leaves_order(base.space, old.record(), key);
        }
        let publish = || record.publish();
        match there {
            Some(at) => shard.replace_at(at, handle, publish),
            None => shard.insert_reserved(handle, publish),
        }
        true
    }

    /// Whether all of them may be more than a limit of their namespace allows.
    fn would_be_over(&self, base: &Base<'_>, arrivals: &[Arrival<'_>]) -> bool {
        let (mut entries, mut bytes) = (0, 0);
        for one in arrivals {
            let old = one.expected.as_ref().map(|old| old.record().len());
            entries += u64::from(old.is_none());
            bytes += one.len.saturating_sub(old.unwrap_or(0));
        }
        let shown = self.spaces.counted(base.space);
        base.space.over(shown, entries, bytes).is_some()
    }
}
