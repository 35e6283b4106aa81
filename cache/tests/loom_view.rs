//! What a namespace shows while loads are committed, rolled back and cleaned up after, model-checked
//! as `loom_index` is: one reader beside one writer, in every order of their atomics with at most
//! three forced switches, or two where both have many steps.
//!
//! `cargo test -p bowstring-cache --features loom --test loom_view`
//!
//! Views, their holding, table, records and the look-up are the engine's own. The writer's steps are
//! those of `loads/commit`, `loads/fold` and `loads/tidy`, without what lies around them: key orders,
//! counters, the policy.
#![cfg(feature = "loom")]

use std::sync::Arc;

use bowstring_cache::index::{Handle, Index, Mark, Record, Records, Table, Unlimited};
use bowstring_cache::look::{self, Ground, Seen};
use bowstring_cache::view::{LOADED, Readers, Role, View, Word};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

/// Forced switches, for a reader of one key and for one of several.
const ONE: usize = 3;
const SEVERAL: usize = 2;
/// The generations of the namespace: its first, and that of its loads.
const HOME: u32 = 0;
const LOAD: u32 = 1;
/// What a key's entries hold there.
const OLD: u64 = 10;
const NEW: u64 = 20;

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// A namespace.
struct World {
    index: Index,
    word: Word,
    readers: [Readers; 2],
    lost: AtomicBool,
}

/// Two keys of it, in lines of their own.
const KEYS: [u64; 2] = [1, 2];

fn hash(key: u64) -> u64 {
    key << 29
}

impl World {
    /// With both keys, and a load of both that is not committed.
    fn new() -> Arc<Self> {
        let world = World {
            index: Index {
                records: Records::new(64, Arc::new(Unlimited)).expect("no limit"),
                table: Table::with_shards(64, 1, Arc::new(Unlimited)).expect("no limit"),
            },
            word: Word::new(View::first(HOME)),
            readers: Default::default(),
            lost: AtomicBool::new(false),
        };
        Arc::new(world)
    }

    fn put(&self, key: u64, generation: u32, value: u64) -> Handle {
        let handle = self.index.records.alloc().expect("no limit");
        let record = self.record(handle);
        record.set_loc(key);
        record.set_len(value);
        record.set_namespace(generation);
        record.set_load_generation(if generation == LOAD { LOADED } else { 0 });
        let mut shard = self.index.table.lock(hash(key));
        shard.insert(handle, || record.publish()).expect("no limit");
        handle
    }

    fn record(&self, handle: Handle) -> &Record {
        self.index.records.at(handle)
    }

    fn get(&self, key: u64, seen: Seen) -> Option<u64> {
        let ground = Named(self, key);
        let (handle, pinned) = look::find(&self.index, &ground, hash(key), Mark::Peek, seen)?;
        assert_eq!(self.record(handle).loc(), key);
        let value = self.record(handle).len();
        drop(pinned);
        Some(value)
    }

    /// As `Engine::hold_view`.
    fn hold(&self) -> View {
        let each = |view: View, count: fn(&Readers)| {
            let beside = view.beside().filter(|_| view.is_layered());
            for number in [Some(view.base()), beside].into_iter().flatten() {
                count(&self.readers[number as usize]);
            }
        };
        let come = |view| each(view, Readers::come);
        self.word.hold(come, |view| each(view, Readers::go))
    }

    fn let_go(&self, view: View) {
        self.readers[view.base() as usize].go();
        if let Some(beside) = view.beside().filter(|_| view.is_layered()) {
            self.readers[beside as usize].go();
        }
    }

    fn commit(&self, replace_all: bool) -> View {
        let view = self.word.view();
        let next = if replace_all {
            view.next(LOAD, Some((view.base(), Role::Kept)))
        } else {
            view.next(view.base(), Some((LOAD, Role::Over)))
        };
        self.word.set(next);
        next
    }

    /// Of a load that was merged.
    fn roll_back(&self) {
        let view = self.word.view();
        self.word.set(view.next(view.base(), None));
    }

    /// Nobody sees this generation any more, nor does what is left of it come back.
    fn empty(&self, number: u32, entries: [Handle; 2]) -> bool {
        if !self.readers[number as usize].none() {
            return false;
        }
        for handle in entries {
            let key = self.record(handle).loc();
            let mut shard = self.index.table.lock(hash(key));
            self.lost.store(true, Ordering::Release);
            assert!(shard.remove(handle));
            self.unlink(handle);
        }
        true
    }

    /// Whether the number of an empty generation is used again.
    fn recycle(&self, number: u32) -> bool {
        let recycled = self.readers[number as usize].none();
        if recycled {
            self.lost.store(false, Ordering::Release);
        }
        recycled
    }

    /// Brings an entry of a merged load into the base.
    fn fold(&self, view: View, over: Handle, below: Handle) {
        let mut shard = self.index.table.lock(hash(self.record(over).loc()));
        assert!(shard.remove(below));
        self.record(over).set_owner(view.base(), view.epoch());
        self.unlink(below);
    }

    fn unlink(&self, handle: Handle) {
        if self.record(handle).unlink() {
            self.index.records.free(handle);
        }
    }
}

/// The entries of a key.
struct Named<'a>(&'a World, u64);

struct Pinned<'a>(&'a World, Handle);

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if self.0.record(self.1).unpin() {
            self.0.index.records.free(self.1);
        }
    }
}

impl<'a> Ground for Named<'a> {
    type Space = Word;
    type Pinned = Pinned<'a>;

    fn space(&self, record: &Record) -> Option<&Word> {
        (record.loc() == self.1).then_some(&self.0.word)
    }

    fn word<'b>(&'b self, word: &'b Word) -> &'b Word {
        word
    }

    fn is_lost(&self, view: View) -> bool {
        view.role() == Role::Over && self.0.lost.load(Ordering::Acquire)
    }

    fn pinned(&self, handle: Handle) -> Pinned<'a> {
        Pinned(self.0, handle)
    }

    fn free(&self, handle: Handle) {
        self.0.index.records.free(handle);
    }
}

/// Runs `read` beside `write`, in a world where both keys are in both generations.
fn beside(
    preemptions: usize,
    read: impl Fn(&World) + Send + Sync + Copy + 'static,
    write: impl Fn(&World, [Handle; 2], [Handle; 2]) + Send + Sync + 'static,
) {
    explore(preemptions, move || {
        let world = World::new();
        let old = KEYS.map(|key| world.put(key, HOME, OLD));
        let new = KEYS.map(|key| world.put(key, LOAD, NEW));
        let reader = {
            let world = world.clone();
            thread::spawn(move || read(&world))
        };
        write(&world, old, new);
        reader.join().unwrap();
    });
}

/// A key that is there all the time is never missed, and does not go back.
fn reads_on(world: &World) {
    let read = || world.get(KEYS[0], Seen::Now).expect("never a gap");
    let (one, other) = (read(), read());
    assert!([OLD, NEW].contains(&one) && one <= other, "{one} {other}");
}

/// Who holds a view sees one generation: all of it as long as he does.
fn reads_one_generation(world: &World) {
    let view = world.hold();
    let values = KEYS.map(|key| world.get(key, Seen::By(view)));
    assert!(
        [[Some(OLD); 2], [Some(NEW); 2]].contains(&values),
        "{values:?} by {view:?}"
    );
    world.let_go(view);
}

/// As [`reads_one_generation`], but some of it may have gone for the generation that came after.
fn reads_no_mixture(world: &World) {
    let view = world.hold();
    let values = KEYS.map(|key| world.get(key, Seen::By(view)));
    let found: Vec<u64> = values.into_iter().flatten().collect();
    assert!(found.iter().all(|value| *value == found[0]), "{values:?}");
    assert!(
        view.is_first() || found == [NEW; 2],
        "{values:?} by {view:?}"
    );
    world.let_go(view);
}

#[test]
fn a_look_up_beside_the_commit_of_a_load_that_is_merged_and_folded() {
    beside(ONE, reads_on, |world, old, new| {
        let view = world.commit(false);
        world.fold(view, new[0], old[0]);
        world.word.set(view.with(None));
    });
}

#[test]
fn a_look_up_beside_the_commit_of_a_load_that_replaces_all() {
    beside(ONE, reads_on, |world, old, _| {
        let view = world.commit(true);
        world.word.set(view.with(None));
        world.empty(HOME, old);
    });
}

#[test]
fn a_look_up_beside_a_commit_and_a_rollback() {
    let reads = |world: &World| {
        let value = world.get(KEYS[0], Seen::Now).expect("never a gap");
        assert!([OLD, NEW].contains(&value));
    };
    beside(ONE, reads, |world, _, new| {
        world.commit(false);
        world.roll_back();
        world.empty(LOAD, new);
    });
}

#[test]
fn several_look_ups_beside_the_commit_of_a_load_that_replaces_all() {
    beside(SEVERAL, reads_one_generation, |world, old, _| {
        let view = world.commit(true);
        world.word.set(view.with(None));
        world.empty(HOME, old);
    });
}

#[test]
fn several_look_ups_beside_a_commit_and_a_rollback() {
    beside(SEVERAL, reads_one_generation, |world, _, new| {
        world.commit(false);
        world.roll_back();
        world.empty(LOAD, new);
    });
}

#[test]
fn several_look_ups_beside_the_commit_of_a_load_that_is_merged_and_folded() {
    beside(SEVERAL, reads_no_mixture, |world, old, new| {
        let view = world.commit(false);
        for (new, old) in new.into_iter().zip(old) {
            world.fold(view, new, old);
        }
        world.word.set(view.with(None));
    });
}

/// A generation's number is used again by a later load, but not for who knows it as the one before.
#[test]
fn several_look_ups_beside_a_generation_that_is_used_again() {
    beside(SEVERAL, reads_one_generation, |world, _, new| {
        world.commit(false);
        world.roll_back();
        if world.empty(LOAD, new) && world.recycle(LOAD) {
            world.put(KEYS[0], LOAD, NEW + 1);
        }
    });
}

/// Where memory is wanted, what nobody sees goes under who holds it: he finds less, and nothing older.
#[test]
fn several_look_ups_beside_an_eviction_of_what_they_hold() {
    let reads = |world: &World| {
        let view = world.hold();
        let values = KEYS.map(|key| world.get(key, Seen::By(view)));
        let wanted = if view.is_layered() { NEW } else { OLD };
        assert!(
            values.iter().flatten().all(|value| *value == wanted),
            "{values:?} by {view:?}"
        );
        assert!(view.is_layered() || values == [Some(OLD); 2]);
        world.let_go(view);
    };
    beside(SEVERAL, reads, |world, _, new| {
        world.commit(false);
        world.roll_back();
        let mut shard = world.index.table.lock(hash(KEYS[0]));
        world.lost.store(true, Ordering::Release);
        assert!(shard.remove(new[0]));
        world.unlink(new[0]);
    });
}
