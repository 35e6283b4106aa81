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
use crate::engine::{Engine, PinnedHere, policy_hash};
use crate::event::{Event, What, Why};
use crate::head::split;
use crate::index::{Fields, Finger, Handle, Order, Shards};
use crate::namespaces::{Base, Space};
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
    pub(crate) expected: Option<PinnedHere<'a>>,
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
        let is_attached = shared.load == 0 && base.space.check_writable().is_err();
        if is_attached || base.view.beside().is_some() || self.would_be_over(&base, arrivals) {
            return;
        }
        let fields = Fields {
            namespace: base.view.base(),
            load_generation: if shared.load == 0 { 0 } else { LOADED },
            last_access: self.second(),
            ..Fields::default()
        };
        let first = (self.hlc).next_of(self.clock.now_ms(), arrivals.len() as u64);
        let fingers = self.look_ahead_in(&base.order, arrivals);
        let mut finger = Finger::default();
        let (mut count, mut bytes) = (0, 0);
        let mut before = None;
        for ((one, hlc), ahead) in arrivals.iter_mut().zip(first.hlc..).zip(fingers) {
            finger = ahead.or(finger);
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
        self.tell_policy_of_all(arrivals, shared.admit);
        self.went_all(space, arrivals);
        let come = || arrivals.iter().filter(|one| one.version.is_some());
        self.events.emit_all(What::Published, count, || {
            come().filter_map(|one| Some(event(space, one, one.version?, one.len, What::Published)))
        });
        drop(shards);
        come().for_each(|one| self.expiry.note(one.handle, one.expires_at_ms));
        self.after_unlink_all(arrivals);
        self.charge_overhead();
    }

    /// Finds about where they belong, and has the misses of what is read there overlap: each step for
    /// all of them before the next.
    fn look_ahead_in(&self, order: &Order, arrivals: &[Arrival<'_>]) -> Vec<Finger> {
        let fingers = order.fingers(arrivals.iter().map(|one| one.key.as_bytes()));
        let there = fingers.iter().filter_map(|&finger| order.at(finger));
        let there: Vec<Handle> = there
            .inspect(|&there| self.index.records.prefetch(there))
            .collect();
        for record in there.into_iter().map(|there| self.record(there)) {
            if let Some(loc) = Loc::from_bits(record.loc()) {
                // The key is the first of the head.
                self.arena.prefetch_line(loc, split(record.len()).inline);
            }
        }
        fingers
    }

    /// As [`Engine::publish_in`] has left them: what is new, and what is where another one was.
    fn tell_policy_of_all(&self, arrivals: &[Arrival<'_>], admit: Admit) {
        let records = &self.index.records;
        let wanted = admit == Admit::Hot;
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for one in arrivals.iter().filter(|one| one.version.is_some()) {
            match &one.expected {
                None => new.push((one.handle, policy_hash(one.hash))),
                Some(old) => {
                    // As for one, see `replace_in_policy`.
                    let marks = old.record().marks() + u32::from(wanted);
                    self.record(one.handle).set_marks(marks);
                    again.push((old.handle, one.handle));
                }
            }
        }
        self.policy.insert_all(records, &new, admit.into());
        self.policy.replace_all(records, &again);
        if wanted {
            for one in replacing(arrivals) {
                self.policy.hit(one.handle, policy_hash(one.hash));
            }
        }
    }

    /// As [`Engine::went`], of all that have been replaced.
    fn went_all(&self, space: &Space, arrivals: &[Arrival<'_>]) {
        // Those that no load brought, and those that one did.
        let mut gone = [(0, 0); 2];
        for old in replacing(arrivals).filter_map(|one| one.expected.as_ref()) {
            let record = old.record();
            let (count, bytes) = &mut gone[usize::from(record.load_generation() == LOADED)];
            *count += 1;
            *bytes += record.len();
            let last = record.unlink();
            debug_assert!(!last, "it is pinned");
        }
        for ((count, bytes), loaded) in gone.into_iter().zip([false, true]) {
            if count > 0 {
                space.subtract_all(count, bytes, loaded);
            }
        }
        let what = What::Unlinked(Why::Replaced);
        self.events.emit_all(what, gone[0].0 + gone[1].0, || {
            replacing(arrivals).filter_map(|one| {
                let old = one.expected.as_ref()?;
                Some(event(space, one, old.version(), old.record().len(), what))
            })
        });
    }

    /// As [`Engine::after_unlink`], of all that have been replaced.
    fn after_unlink_all(&self, arrivals: &mut [Arrival<'_>]) {
        let come = arrivals.iter_mut().filter(|one| one.version.is_some());
        let old: Vec<PinnedHere<'_>> = come.filter_map(|one| one.expected.take()).collect();
        if old.is_empty() {
            return;
        }
        self.reads
            .unlinked_all(|| old.iter().map(|old| old.handle).collect::<Vec<_>>());
        let handles = old.into_iter().filter_map(|old| {
            let handle = old.handle;
            old.unpin().then_some(handle)
        });
        self.free_all(&handles.collect::<Vec<_>>());
        // Only without the pins is what their readers have counted as held.
        self.enforce_held();
    }

    /// Publishes one of them; false, with nothing changed, where it is not plain.
    pub(crate) fn publish_in(
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
        let Some(old) = &one.expected else {
            if self.standing(shard, base.view, key).base.is_some() {
                return false;
            }
            self.arena.set_tag(one.slot, handle.get());
            return self.enter_new(shards, base, finger, one, version, fields);
        };
        let (Some(at), there) = (shard.position(old.handle), old.record()) else {
            return false;
        };
        if there.namespace() != fields.namespace || there.is_kept() {
            return false;
        }
        self.arena.set_tag(one.slot, handle.get());
        self.fill_record(one, version, fields);
        if !base.order.replace_near(finger, old.handle, handle)
            && base
                .order
                .insert_near(finger, key, handle, &**self)
                .is_err()
        {
            return false;
        }
        self.leaves_order(base.space, there, key);
        shard.replace_at(at, handle, || self.record(handle).publish());
        true
    }

    /// Publishes one whose key the namespace is known not to have, and whose slot is tagged; false, with nothing
    /// changed, where there is no room.
    pub(crate) fn enter_new(
        self: &Arc<Self>,
        shards: &mut Shards<'_>,
        base: &mut Base<'_>,
        finger: &mut Finger,
        one: &Arrival<'_>,
        version: Version,
        fields: &Fields,
    ) -> bool {
        let Some(shard) = shards.of(one.hash) else {
            return false;
        };
        if shard.reserve().is_err() {
            return false;
        }
        self.fill_record(one, version, fields);
        let key = one.key.as_bytes();
        if (base.order.insert_near(finger, key, one.handle, &**self)).is_err() {
            return false;
        }
        let record = self.record(one.handle);
        shard.insert_reserved(one.handle, || record.publish());
        true
    }

    fn fill_record(&self, one: &Arrival<'_>, version: Version, fields: &Fields) {
        let record = self.record(one.handle);
        record.set_loc(one.slot.to_bits());
        record.set(&Fields {
            len: one.len,
            checksum: one.checksum,
            version: (version.hlc, version.start),
            expires_at_ms: one.expires_at_ms,
            ..*fields
        });
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

/// Those that have come in the place of another one.
fn replacing<'a, 'r>(arrivals: &'a [Arrival<'r>]) -> impl Iterator<Item = &'a Arrival<'r>> {
    let come = |one: &&Arrival<'_>| one.version.is_some() && one.expected.is_some();
    arrivals.iter().filter(come)
}

fn event<'a>(
    space: &'a Space,
    one: &Arrival<'a>,
    version: Version,
    bytes: u64,
    what: What,
) -> Event<'a> {
    Event {
        tenant: &space.tenant,
        namespace: &space.namespace,
        key: one.key,
        version,
        bytes,
        what,
    }
}
