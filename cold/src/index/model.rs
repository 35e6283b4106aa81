//! All operations against a map, over reopening and crashes.

use std::collections::BTreeMap;
use std::path::Path;

use bowstring_cache::Id;
use bowstring_wire::name::{Namespace, Tenant};
use proptest::prelude::*;

use super::testing::{Journal, id, stored, version};
use super::tree::tests::Place as TreePlace;
use super::{ColdIndex, Home, IndexSettings, Segment};
use crate::entry::{Number, Place, Prefix, Stored};

const NAMESPACES: [&str; 2] = ["a", "a.b"];
const KEYS: [&str; 5] = ["a", "a/1", "a/2", "b", "\u{10ffff}"];

#[derive(Debug, Clone)]
enum Step {
    /// Names with clocks, out of a segment that was begun so many numbers ago.
    Insert(Vec<(Id, u64)>, u64),
    Move(Vec<Id>),
    Remove(Vec<(Id, Option<u64>)>),
    Clear(usize),
    Settle,
    Tidy,
    DropEmpty,
    Scan(usize, usize, Option<usize>),
    Reopen,
    /// Goes on with what lies in the directory while it is open.
    Crash,
}

fn any_id() -> impl Strategy<Value = Id> {
    (0..NAMESPACES.len(), 0..KEYS.len()).prop_map(|(n, k)| id(NAMESPACES[n], KEYS[k]))
}

fn step() -> impl Strategy<Value = Step> {
    let ids = prop::collection::vec(any_id(), 1..6);
    let inserted = prop::collection::vec((any_id(), 1..30_u64), 1..8);
    let removed = prop::collection::vec((any_id(), prop::option::of(1..30_u64)), 1..4);
    prop_oneof![
        6 => (inserted, 0..4_u64).prop_map(|(names, ago)| Step::Insert(names, ago)),
        2 => ids.prop_map(Step::Move),
        3 => removed.prop_map(Step::Remove),
        1 => (0..NAMESPACES.len()).prop_map(Step::Clear),
        1 => Just(Step::Settle),
        2 => Just(Step::Tidy),
        1 => Just(Step::DropEmpty),
        2 => (0..NAMESPACES.len(), 0..3_usize, prop::option::of(0..KEYS.len()))
            .prop_map(|(n, prefix, after)| Step::Scan(n, prefix, after)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// What the index should say.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Id, Stored>,
    floors: BTreeMap<String, u64>,
    graves: BTreeMap<Id, (u64, Option<u64>)>,
    totals: BTreeMap<u64, u64>,
    hlc: u64,
    next: u64,
    settled: u64,
}

impl Model {
    fn insert(&mut self, new: &Stored) -> bool {
        let id = &new.description.id;
        let number = new.place.segment.0;
        let hlc = new.description.version.hlc;
        let floor = self.floors.get(id.namespace.as_str());
        let buried = self
            .graves
            .get(id)
            .is_some_and(|(log, below)| number < *log && below.is_none_or(|below| hlc < below));
        if buried || floor.is_some_and(|floor| number < *floor) {
            return false;
        }
        let later = |old: &&Stored| old.place.segment >= new.place.segment;
        if let Some(old) = self.rows.get(id).filter(later) {
            let which = |s: &Stored| (s.description.version, s.place);
            return which(old) == which(new);
        }
        self.rows.insert(id.clone(), new.clone());
        self.totals.entry(number).or_default();
        self.hlc = self.hlc.max(hlc);
        true
    }

    fn remove(&mut self, id: &Id, below: Option<u64>, log: u64) -> Option<u64> {
        if log > self.settled {
            let grave = self.graves.entry(id.clone()).or_insert((log, below));
            grave.0 = grave.0.max(log);
            grave.1 = grave.1.zip(below).map(|(a, b)| a.max(b));
        }
        let hlc = self.rows.get(id)?.description.version.hlc;
        below.is_none_or(|below| hlc < below).then(|| {
            self.rows.remove(id);
            hlc
        })
    }

    fn segments(&self) -> Vec<Segment> {
        let of = |number: &u64| {
            let rows = self.rows.values();
            let rows = rows.filter(|row| row.place.segment.0 == *number);
            rows.fold((0, 0), |(n, bytes), row| {
                (n + 1, bytes + row.description.len)
            })
        };
        let all = self.totals.iter().map(|(number, total)| Segment {
            number: Number(*number),
            live_entries: of(number).0,
            live_bytes: of(number).1,
            total_bytes: *total,
        });
        all.collect()
    }
}

fn settings(dir: &Path, small: bool) -> IndexSettings {
    IndexSettings {
        // So small that memtables are flushed and tables compacted all the time.
        memory_bytes: if small { 8 << 10 } else { 16 << 20 },
        ..IndexSettings::new(dir)
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            // The journal is mostly a hole.
            let bytes = std::fs::read(entry.path()).unwrap();
            let end = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            std::fs::write(&to, &bytes[..end]).unwrap();
            let file = std::fs::File::options().write(true).open(&to).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
        }
    }
}

fn scan(index: &ColdIndex, n: usize, prefix: &str, after: Option<&str>) -> Vec<Stored> {
    let namespace = Namespace::parse(NAMESPACES[n]).unwrap();
    let rows = index.scan(&Tenant::public(), &namespace, prefix, after);
    rows.unwrap().map(|row| row.unwrap()).collect()
}

fn compare(index: &ColdIndex, model: &Model) {
    for namespace in NAMESPACES {
        for key in KEYS {
            let id = id(namespace, key);
            let expected = model.rows.get(&id);
            assert_eq!(index.get(&id).unwrap().as_ref(), expected);
            assert!(expected.is_none() || index.may_have(&id));
        }
    }
    for (n, namespace) in NAMESPACES.iter().enumerate() {
        let rows = model.rows.values();
        let rows = rows.filter(|row| row.description.id.namespace.as_str() == *namespace);
        assert_eq!(scan(index, n, "", None), rows.cloned().collect::<Vec<_>>());
    }
    assert_eq!(index.max_hlc(), model.hlc);
}

fn run(steps: Vec<Step>, small: bool, in_store: bool) {
    let root = tempfile::tempdir().unwrap();
    let mut dir = root.path().join("0");
    let place = in_store.then(TreePlace::new);
    let open = |dir: &Path| {
        let settings = settings(dir, small);
        let opened = match &place {
            Some(place) => ColdIndex::open(IndexSettings {
                home: Home::Store(place.next()),
                ..settings
            }),
            None => ColdIndex::open(settings),
        };
        opened.unwrap()
    };
    let mut index = open(&dir);
    let mut journal = Journal::default();
    assert_eq!(index.state(), None);
    index.set_state("memory:", 1).unwrap();
    let mut model = Model {
        next: 10,
        ..Model::default()
    };
    for (at, step) in steps.into_iter().enumerate() {
        model.next += 1;
        let next = model.next;
        match step {
            Step::Insert(names, ago) => {
                let number = (next - ago).max(model.settled);
                let entries: Vec<_> = names
                    .into_iter()
                    .enumerate()
                    .map(|(n, (id, hlc))| stored(id, hlc, number, (at * 100 + n) as u64))
                    .collect();
                let expected: Vec<_> = entries.iter().map(|new| model.insert(new)).collect();
                assert_eq!(index.insert_all(&entries).unwrap(), expected);
                if expected.contains(&true) {
                    journal.segment(number, entries);
                }
            }
            Step::Move(ids) => {
                let moved: Vec<_> = ids
                    .into_iter()
                    .filter_map(|id| {
                        let old = model.rows.get(&id)?.clone();
                        let place = Place {
                            prefix: Prefix::OWN,
                            segment: Number(next),
                            offset: 1,
                        };
                        Some((old.place, Stored { place, ..old }))
                    })
                    .collect();
                let expected: Vec<_> = moved
                    .iter()
                    .map(|(old, new)| {
                        let row = model.rows.get_mut(&new.description.id).unwrap();
                        let same = row.place == *old;
                        if same {
                            *row = new.clone();
                            model.totals.entry(next).or_default();
                        }
                        same
                    })
                    .collect();
                assert_eq!(index.move_all(&moved).unwrap(), expected);
                let moved = moved.into_iter().zip(expected);
                let moved = moved.filter_map(|((_, new), is_in)| is_in.then_some(new));
                let moved: Vec<Stored> = moved.collect();
                if !moved.is_empty() {
                    journal.segment(next, moved);
                }
            }
            Step::Remove(mut names) => {
                if in_store {
                    // A log record knows no versions.
                    names.iter_mut().for_each(|(_, below)| *below = None);
                }
                journal.removed(next, names.iter().map(|(id, _)| id.clone()));
                let removed: Vec<_> = names
                    .iter()
                    .map(|(id, below)| (id.clone(), below.map(version)))
                    .collect();
                let expected: Vec<_> = names
                    .iter()
                    .map(|(id, below)| model.remove(id, *below, next))
                    .collect();
                let got = index.remove_all(&removed, Number(next)).unwrap();
                let got: Vec<_> = got.into_iter().map(|v| v.map(|v| v.hlc)).collect();
                // `start` is above that of no version: a version below `below` has a lower clock.
                assert_eq!(got, expected);
            }
            Step::Clear(n) => {
                let namespace = Namespace::parse(NAMESPACES[n]).unwrap();
                index
                    .clear(&Tenant::public(), &namespace, Number(next))
                    .unwrap();
                journal.cleared(next, namespace.clone());
                model.rows.retain(|id, _| id.namespace != namespace);
                model.floors.insert(NAMESPACES[n].to_owned(), next);
            }
            Step::Settle => {
                index.settle(Number(next));
                model.settled = next;
                model.graves.retain(|_, (log, _)| *log > next);
            }
            Step::Tidy => {
                while index.tidy(2).unwrap() {}
                assert_eq!(index.segments(), model.segments());
                assert_eq!(index.len(), model.rows.len() as u64);
            }
            Step::DropEmpty => {
                while index.tidy(2).unwrap() {}
                for segment in index.segments() {
                    let number = segment.number;
                    if segment.live_entries == 0 && number.0 < model.settled {
                        index.drop_segment(number).unwrap();
                        model.totals.remove(&number.0);
                        journal.drop_segment(number.0);
                    } else if !in_store {
                        // Nobody says it again of a segment that is there.

                        index.add_segment(number, next).unwrap();
                        model.totals.insert(number.0, next);
                    }
                }
            }
            Step::Scan(n, prefix, after) => {
                let prefix = ["", "a", "a/"][prefix];
                let after = after.map(|at| KEYS[at]);
                let expected: Vec<_> = model
                    .rows
                    .values()
                    .filter(|row| {
                        let id = &row.description.id;
                        id.namespace.as_str() == NAMESPACES[n]
                            && id.key.as_str().starts_with(prefix)
                            && after.is_none_or(|after| id.key.as_str() > after)
                    })
                    .cloned()
                    .collect();
                assert_eq!(scan(&index, n, prefix, after), expected);
            }
            Step::Reopen | Step::Crash => {
                // Where tables come and go, a copy of the directory is none of any one moment.
                if matches!(step, Step::Crash) && !small && !in_store {
                    let copy = root.path().join(at.to_string());
                    copy_dir(&dir, &copy);
                    dir = copy;
                }
                let is_saved = matches!(step, Step::Reopen);
                if is_saved {
                    index.settle(Number(next));
                    index.save().unwrap();
                }
                drop(index);
                index = open(&dir);
                assert!(index.state().is_some());
                if in_store {
                    let (opened, read) = journal.read_onto(index, at as u64);
                    assert!(!is_saved || read == 0);
                    index = opened;
                    model.hlc = index.max_hlc();
                }
                // Nothing that was begun before comes in any more.
                index.settle(Number(next));
                model.settled = next;
                model.graves.clear();
            }
        }
        if at % 4 == 0 {
            compare(&index, &model);
        }
    }
    compare(&index, &model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn all_operations_as_a_map_would(steps in prop::collection::vec(step(), 1..60)) {
        run(steps, false, false);
    }

    #[test]
    fn all_operations_as_a_map_would_when_memory_is_short(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(steps, true, false);
    }

    #[test]
    fn all_operations_as_a_map_would_in_the_store(
        steps in prop::collection::vec(step(), 1..120),
        small in any::<bool>(),
    ) {
        run(steps, small, true);
    }
}
