//! Threads at the same names, filters, and building anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::name::{Namespace, Tenant};

use super::testing::{id, stored, version};
use super::{ColdIndex, IndexSettings, Rebuild};
use crate::entry::{Number, Stored};
use crate::format::Gone;

fn settings(dir: &std::path::Path, memory_bytes: u64, fsync: bool) -> IndexSettings {
    IndexSettings {
        memory_bytes,
        fsync,
        ..IndexSettings::new(dir)
    }
}

/// Segments that were begun before a name was removed, or its namespace cleared, come in after that.
#[test]
fn what_was_removed_does_not_come_back_out_of_a_late_segment() {
    let root = tempfile::tempdir().unwrap();
    let index = ColdIndex::open(settings(root.path(), 64 << 10, false)).unwrap();
    let numbers = AtomicU64::new(1);
    let next = || numbers.fetch_add(1, Ordering::SeqCst);
    let namespaces = ["a", "b"];
    let names: Vec<_> = namespaces
        .iter()
        .flat_map(|namespace| (0..4).map(|key| id(namespace, &format!("k{key}"))))
        .collect();
    std::thread::scope(|scope| {
        for late in 0..2 {
            let (index, names) = (&index, &names);
            scope.spawn(move || {
                for round in 0..400 {
                    let number = next();
                    if (round + late) % 3 == 0 {
                        std::thread::yield_now();
                    }
                    let of = |name: &bowstring_cache::Id| stored(name.clone(), number, number, 0);
                    let entries: Vec<Stored> = names.iter().map(of).collect();
                    index.insert_all(&entries).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for round in 0..400 {
                let name = &names[round % names.len()];
                let log = next();
                if round % 50 == 49 {
                    let tenant = Tenant::public();
                    index.clear(&tenant, &name.namespace, Number(log)).unwrap();
                } else {
                    index
                        .remove_all(&[(name.clone(), None)], Number(log))
                        .unwrap();
                }
                if let Some(found) = index.get(name).unwrap() {
                    assert!(found.place.segment > Number(log));
                }
            }
        });
        scope.spawn(|| {
            for round in 0..400 {
                index.tidy(3).unwrap();
                let namespace = Namespace::parse(namespaces[round % 2]).unwrap();
                let rows = index.scan(&Tenant::public(), &namespace, "", None).unwrap();
                let keys: Vec<_> = rows.map(|row| row.unwrap().description.id.key).collect();
                assert!(keys.is_sorted() && keys.len() <= 4);
            }
        });
    });
    index.settle(Number(next()));
    while index.tidy(100).unwrap() {}
    // What the segments are said to hold is what is there.
    let mut alive = BTreeMap::new();
    for name in &names {
        if let Some(found) = index.get(name).unwrap() {
            *alive.entry(found.place.segment).or_insert(0) += 1;
        }
    }
    let segments = index.segments();
    let said = segments.iter().filter(|segment| segment.live_entries > 0);
    let said: BTreeMap<_, _> = said.map(|s| (s.number, s.live_entries)).collect();
    assert_eq!(said, alive);
    assert_eq!(index.len(), alive.values().sum::<u64>());
}

#[test]
fn removes_of_many_threads_are_all_on_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = ColdIndex::open(settings(&dir, 1 << 20, true)).unwrap();
    index.set_state("memory:", 1).unwrap();
    let entries: Vec<_> = (0..160)
        .map(|n| stored(id("n", &format!("k{n}")), n, 1, n))
        .collect();
    index.insert_all(&entries).unwrap();
    std::thread::scope(|scope| {
        for mine in entries.chunks(20) {
            let index = &index;
            scope.spawn(move || {
                for entry in mine.iter().skip(1) {
                    let ids = [(entry.description.id.clone(), Some(version(1000)))];
                    let gone = index.remove_all(&ids, Number(2)).unwrap();
                    assert_eq!(gone, [Some(entry.description.version)]);
                }
            });
        }
    });
    let copy = root.path().join("copy");
    super::model::copy_dir(&dir, &copy);
    let copy = ColdIndex::open(settings(&copy, 1 << 20, true)).unwrap();
    assert!(copy.state().is_some());
    assert_eq!(copy.len(), 8);
    for (n, entry) in entries.iter().enumerate() {
        let found = copy.get(&entry.description.id).unwrap();
        assert_eq!(found.is_some(), n % 20 == 0);
    }
}

#[test]
fn filters_answer_for_tables() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path(), 256 << 10, false);
    let index = ColdIndex::open(settings.clone()).unwrap();
    let name = |n: u64| id("n", &format!("k{n}"));
    assert!(!index.may_have(&name(0)));
    for from in (0..6000).step_by(500) {
        let entries: Vec<_> = (from..from + 500)
            .map(|n| stored(name(n), n, 1, n))
            .collect();
        index.insert_all(&entries).unwrap();
    }
    drop(index);
    // Opened again, there are tables and nothing that is being flushed for long.
    let index = ColdIndex::open(settings).unwrap();
    assert!((0..6000).all(|n| index.may_have(&name(n))));
    let wrong = (6000..12_000).filter(|n| index.may_have(&name(*n))).count();
    assert!(wrong < 200, "{wrong} of 6000");
    assert!(index.resident_bytes() > 6000);
}

#[test]
fn an_index_built_anew_is_the_one_that_was_lost() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let entries = |segment: u64, keys: std::ops::Range<u64>| -> Vec<Stored> {
        keys.map(|n| stored(id("n", &format!("k{n}")), segment, segment, n))
            .collect()
    };
    let gone = |n: u64| Gone::Name(id("n", &format!("k{n}")));
    let other = stored(id("m", "k"), 4, 4, 0);
    let namespace = Namespace::parse("m").unwrap();
    let nowhere = Rebuild::begin(IndexSettings::new(root.path().join("nowhere"))).unwrap();
    assert!(nowhere.finish("memory:", 1).unwrap().is_empty());
    std::fs::create_dir_all(dir.join("rows")).unwrap();
    std::fs::write(dir.join("rows/version"), b"nonsense").unwrap();
    assert!(ColdIndex::open(IndexSettings::new(&dir)).is_err());
    let mut rebuild = Rebuild::begin(IndexSettings::new(&dir)).unwrap();
    rebuild.segment(Number(1), 100, &entries(1, 0..10)).unwrap();
    rebuild.segment(Number(2), 100, &entries(2, 5..8)).unwrap();
    // The last one was put again before that was said.
    let said = [
        (gone(0), Number(3)),
        (gone(5), Number(3)),
        (gone(7), Number(2)),
    ];
    rebuild.gone(Number(3), &said).unwrap();
    rebuild.segment(Number(4), 100, &[other]).unwrap();
    rebuild
        .gone(
            Number(5),
            &[(Gone::Namespace(Tenant::public(), namespace), Number(5))],
        )
        .unwrap();
    rebuild.segment(Number(6), 100, &entries(6, 0..1)).unwrap();
    let index = rebuild.finish("memory:", 3).unwrap();
    assert_eq!(index.state().unwrap().epoch, 3);
    while index.tidy(100).unwrap() {}
    let found = index.scan(&Tenant::public(), &Namespace::parse("n").unwrap(), "", None);
    let found: Vec<_> = found.unwrap().map(|row| row.unwrap()).collect();
    let expected = [
        entries(6, 0..1),
        entries(1, 1..5),
        entries(2, 6..8),
        entries(1, 8..10),
    ];
    assert_eq!(found, expected.concat());
    let live: Vec<_> = index.segments().iter().map(|s| s.live_entries).collect();
    assert_eq!(live, [6, 2, 0, 1]);
    assert_eq!(index.max_hlc(), 6);
}
