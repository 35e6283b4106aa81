//! The tree against a map: over reopening, a store that fails, and objects that are damaged.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowstring_cache::clock::SystemClock;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::{InStore, IndexError, Result, Tree};
use crate::index::disk::Write;
use crate::store::faults::{Fault, Faulty, Site};
use crate::store::{ObjectName, Store, StoreSettings};

/// So small that tables are written and merged all the time, down to the third level.
const SMALL: u64 = 2 << 10;

/// A store that counts what it is asked for, and fails as often as it is told.
pub(in crate::index) struct Place {
    runtime: Runtime,
    pub(in crate::index) objects: Arc<InMemory>,
    asked: Arc<AtomicU64>,
    /// One request in so many under `index/` fails, where it is not 0.
    fails: Arc<AtomicU64>,
    epoch: AtomicU64,
}

impl Place {
    pub(in crate::index) fn new() -> Place {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        Place {
            runtime: runtime.unwrap(),
            objects: Arc::default(),
            asked: Arc::default(),
            fails: Arc::default(),
            epoch: AtomicU64::new(1),
        }
    }

    fn store(&self) -> Store {
        let (asked, fails) = (Arc::clone(&self.asked), Arc::clone(&self.fails));
        let plan = move |_: Site, path: &Path, _: u64| {
            // Of all that was ever asked: what is tried again by another store must not fail at the same point.
            let nth = asked.fetch_add(1, Ordering::SeqCst);
            let one_in = fails.load(Ordering::SeqCst);
            let dice = (nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let is_ours = path.as_ref().contains("index");
            match is_ours && one_in > 0 && dice.is_multiple_of(one_in) {
                true if dice.is_multiple_of(2) => Some(Fault::Fail),
                true => Some(Fault::Lost),
                false => None,
            }
        };
        let clock = Arc::new(SystemClock::new());
        let faulty = Faulty::new(Arc::clone(&self.objects), clock.clone(), plan);
        let settings = StoreSettings {
            retries: 0,
            ..StoreSettings::default()
        };
        Store::new(Arc::new(faulty), Path::from("p"), settings, clock)
    }

    /// As the next start of a server finds it.
    pub(in crate::index) fn next(&self) -> InStore {
        InStore {
            store: self.store(),
            runtime: self.runtime.handle().clone(),
            epoch: self.epoch.fetch_add(1, Ordering::SeqCst),
        }
    }

    fn open(&self, memory_bytes: u64) -> Result<Tree> {
        loop {
            match Tree::open(self.next(), memory_bytes) {
                Err(IndexError::Store(_)) => {}
                opened => return opened,
            }
        }
    }

    pub(in crate::index) fn index_objects(&self) -> Vec<Path> {
        let prefix = Path::from("p/index");
        let all = self.objects.list(Some(&prefix));
        let all = all.map_ok(|object| object.location).try_collect::<Vec<_>>();
        let mut all = self.runtime.block_on(all).unwrap();
        all.sort();
        all
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        self.runtime.block_on(async {
            let got = self.objects.get(path).await.unwrap();
            got.bytes().await.unwrap().to_vec()
        })
    }

    fn put(&self, path: &Path, bytes: Vec<u8>) {
        let put = self.objects.put(path, bytes.into());
        self.runtime.block_on(put).unwrap();
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(n: u64) -> Vec<u8> {
    format!("key/{n:04}").into_bytes()
}

/// Writes, where the store takes it in the end.
fn write(tree: &Tree, rows: &[Write]) {
    while let Err(error) = tree.write(rows.iter().cloned()) {
        assert!(matches!(error, IndexError::Lost(_)), "{error}");
        while tree.revive().is_err() {
            std::thread::yield_now();
        }
    }
}

fn take_in(map: &mut Map, rows: &[Write]) {
    for (key, value) in rows {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

fn all(tree: &Tree) -> Map {
    loop {
        let rows = tree.range(Bound::Included(Vec::new()), vec![0xff]);
        let rows = rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())));
        match rows.collect::<Result<Map>>() {
            Err(IndexError::Store(_)) => {}
            all => return all.unwrap(),
        }
    }
}

fn found(tree: &Tree, key: &[u8]) -> Option<Bytes> {
    loop {
        match tree.get(key) {
            Err(IndexError::Store(_)) => {}
            found => return found.unwrap(),
        }
    }
}

fn group() -> impl Strategy<Value = Vec<Write>> {
    let value = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..60));
    let row = (0..200_u64, value).prop_map(|(n, value)| (key(n), value));
    prop::collection::vec(row, 1..30)
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Write>),
    Save,
    /// Another start, which finds what the store has.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => group().prop_map(Step::Write),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
    ]
}

fn run(steps: Vec<Step>, fails: u64) {
    let place = Place::new();
    place.fails.store(fails, Ordering::SeqCst);
    let mut tree = place.open(SMALL).unwrap();
    let save = |tree: &Tree| {
        while let Err(error) = tree.vouch() {
            assert!(!matches!(error, IndexError::Unusable(_)), "{error}");
            let _ = tree.revive();
        }
    };
    save(&tree);
    let (mut map, mut groups) = (Map::new(), Vec::new());
    for step in steps {
        match step {
            Step::Write(rows) => {
                write(&tree, &rows);
                take_in(&mut map, &rows);
                groups.push(rows);
                tree.settle(groups.len() as u64);
            }
            Step::Save => {
                save(&tree);
                assert_eq!(tree.covered(), groups.len() as u64);
            }
            Step::Crash => {
                drop(tree);
                tree = place.open(SMALL).unwrap();
                assert!(tree.epoch().is_some());
                let covered = usize::try_from(tree.covered()).unwrap();
                let states = [covered, groups.len().min(covered + 1)].map(|until| {
                    let mut map = Map::new();
                    groups[..until]
                        .iter()
                        .for_each(|rows| take_in(&mut map, rows));
                    map
                });
                // A scan of many requests would hardly ever come to its end.
                place.fails.store(0, Ordering::SeqCst);
                let there = all(&tree);
                place.fails.store(fails, Ordering::SeqCst);
                assert!(states.contains(&there), "covered {covered}");
                for rows in &groups[covered..] {
                    write(&tree, rows);
                }
                tree.settle(groups.len() as u64);
                save(&tree);
            }
        }
    }
    place.fails.store(0, Ordering::SeqCst);
    assert_eq!(all(&tree), map);
    for n in 0..210 {
        let expected = map.get(&key(n)).map(Vec::as_slice);
        assert_eq!(found(&tree, &key(n)).as_deref(), expected);
        assert!(expected.is_none() || tree.may_have(&key(n)));
    }
    let from = Bound::Excluded(key(50));
    let range = map.range((from.clone(), Bound::Excluded(key(70))));
    let range: Vec<Vec<u8>> = range.map(|(key, _)| key.clone()).collect();
    let rows = tree.range(from, key(70));
    if let Ok(rows) = rows
        .map(|row| row.map(|(key, _)| key.to_vec()))
        .collect::<Result<Vec<_>>>()
    {
        assert_eq!(rows, range);
    }
    place.fails.store(0, Ordering::SeqCst);
    let keys: Vec<Vec<u8>> = (0..210).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let got = tree.get_all(&keys).unwrap();
    for (key, value) in keys.iter().zip(got) {
        assert_eq!(value.as_deref(), map.get(*key).map(Vec::as_slice));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn it_is_a_map_that_outlives_its_server(steps in prop::collection::vec(step(), 1..80)) {
        run(steps, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn a_store_that_fails_loses_nothing(steps in prop::collection::vec(step(), 1..50)) {
        // A merge asks for some dozens of blocks, and all of them have to come.
        run(steps, 61);
    }
}

/// A tree with many tables, saved and dropped.
fn filled(place: &Place, keys: u64, memory_bytes: u64) -> Map {
    let tree = place.open(memory_bytes).unwrap();
    tree.vouch().unwrap();
    let mut map = Map::new();
    for from in (0..keys).step_by(100) {
        let value =
            |n: u64| format!("the value of {n}, which is about as long as others are").into_bytes();
        let rows = (from..keys.min(from + 100)).map(|n| {
            // In no order.
            let n = n * 7919 % keys;
            (key(n), Some(value(n)))
        });
        let rows: Vec<Write> = rows.collect();
        write(&tree, &rows);
        take_in(&mut map, &rows);
    }
    tree.save().unwrap();
    // Its worker does nothing any more that the next tree would not expect.
    let is_busy = || {
        let version = Arc::clone(&tree.shared.state.read().version);
        let next = version.next_merge(&tree.shared.sizes, &mut Vec::new());
        next.is_some() || place.index_objects().len() != version.tables().count() + 1
    };
    while is_busy() {
        std::thread::yield_now();
    }
    map
}

#[test]
fn no_damage_gives_a_wrong_row() {
    let place = Place::new();
    let map = filled(&place, 2_000, SMALL);
    let objects = place.index_objects();
    let whole: Vec<Vec<u8>> = objects.iter().map(|path| place.bytes(path)).collect();
    let (mut refused, mut lost) = (0, 0);
    for round in 0..60_usize {
        let at = round * 31 % objects.len();
        let mut bytes = whole[at].clone();
        let byte = (round * 7919) % bytes.len();
        match round % 3 {
            0 => bytes[byte] ^= 1 << (round % 8),
            1 => bytes.truncate(byte),
            _ => bytes[byte..].fill(0),
        }
        place.put(&objects[at], bytes);
        match place.open(SMALL) {
            Err(IndexError::Unusable(_)) => refused += 1,
            Err(error) => panic!("{error}"),
            // One before has found damage only when it merged, and has told the next so.
            Ok(tree) if tree.epoch().is_none() => {}
            Ok(tree) => {
                let mut is_lost = false;
                for (key, value) in &map {
                    match tree.get(key) {
                        Ok(found) => assert_eq!(found.as_deref(), Some(&value[..])),
                        Err(IndexError::Lost(_)) => is_lost = true,
                        Err(error) => panic!("{error}"),
                    }
                }
                if is_lost {
                    lost += 1;
                    assert!(matches!(tree.revive(), Err(IndexError::Unusable(_))));
                    assert!(tree.write(std::iter::empty()).is_err());
                    // The next start finds nothing to trust.
                    while place
                        .index_objects()
                        .iter()
                        .any(|it| it.as_ref().ends_with(".tree"))
                    {
                        std::thread::yield_now();
                    }
                }
            }
        }
        for (path, bytes) in objects.iter().zip(&whole) {
            place.put(path, bytes.clone());
        }
    }
    assert!(refused > 5 && lost > 0, "{refused} {lost}");
    // And one that is not there any more.
    let gone = place.objects.delete(&objects[0]);
    place.runtime.block_on(gone).unwrap();
    assert!(matches!(place.open(SMALL), Err(IndexError::Unusable(_))));
}

#[test]
fn what_is_left_over_goes_and_what_counts_stays() {
    let place = Place::new();
    let map = filled(&place, 2_000, SMALL);
    // Of a server that was killed while it wrote.
    place.put(
        &Path::from("p/index/00000000000000000007.rows"),
        vec![1; 100],
    );
    let tree = place.open(SMALL).unwrap();
    tree.vouch().unwrap();
    let of_tree = || {
        let state = tree.shared.state.read();
        let tables = state.version.tables().map(|table| table.name.number);
        let mut tables: Vec<u64> = tables.collect();
        tables.sort_unstable();
        tables
    };
    let there = || {
        let all = place.index_objects();
        let tables =
            all.iter()
                .filter_map(|path| match ObjectName::parse(&Path::from("p"), path)? {
                    ObjectName::Table(number) => Some(number),
                    _ => None,
                });
        (tables.collect::<Vec<u64>>(), all.len())
    };
    loop {
        let (tables, objects) = there();
        if tables == of_tree() && objects == tables.len() + 1 {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(all(&tree), map);
}

/// It was paused, and goes on merging what the next one has opened.
#[test]
fn who_comes_late_takes_nothing_from_a_later_start() {
    let place = Place::new();
    let map = filled(&place, 1_000, SMALL);
    let late = place.open(SMALL).unwrap();
    late.vouch().unwrap();
    let later = place.next();
    let begun = later.store.clone();
    place.runtime.block_on(async {
        let name = ObjectName::Epoch(later.epoch);
        begun
            .create(&name, vec![Bytes::from_static(b"begun")])
            .await
            .unwrap();
    });
    let tree = Tree::open(later, SMALL).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..2_000 {
                let row = (key(n % 700), Some(vec![9; 50]));
                if late.write(std::iter::once(row)).is_err() {
                    break;
                }
            }
            is_over.store(true, Ordering::SeqCst);
        });
        while !is_over.load(Ordering::SeqCst) {
            assert_eq!(all(&tree), map);
        }
    });
    assert_eq!(all(&tree), map);
}

#[test]
fn a_sure_miss_asks_the_store_nothing_and_a_row_is_one_read() {
    let place = Place::new();
    filled(&place, 20_000, 64 << 10);
    let tree = place.open(64 << 10).unwrap();
    let before = place.asked();
    let maybe = (20_000..120_000).filter(|n| tree.may_have(format!("key/{n}").as_bytes()));
    let maybe = maybe.count();
    assert!(maybe < 300, "{maybe}");
    let sure = (20_000..30_000).map(|n| format!("key/{n}").into_bytes());
    for key in sure.filter(|key| !tree.may_have(key)) {
        assert_eq!(tree.get(&key).unwrap(), None);
    }
    assert_eq!(place.asked(), before);
    let mut most = 0;
    for n in (0..20_000).step_by(97) {
        let before = place.asked();
        assert!(tree.get(&key(n)).unwrap().is_some());
        most = most.max(place.asked() - before);
    }
    assert!((1..=2).contains(&most), "{most}");
}

/// At its size in a server. What the allocator adds is measured by the example `index_size`.
#[test]
fn an_entry_has_at_most_four_bytes_in_memory() {
    const MEMORY: u64 = 16 << 20;
    let place = Place::new();
    let rows = 150_000_u64;
    let tree = place.open(MEMORY).unwrap();
    tree.vouch().unwrap();
    let hash = |n: u64| twox_hash::XxHash3_128::oneshot(&n.to_le_bytes());
    let long = |n: u64| format!("epublic\0default\0{:032x}", hash(n)).into_bytes();
    for from in (0..rows).step_by(500) {
        let value = |n: u64| {
            [
                hash(n ^ 1 << 40).to_le_bytes(),
                hash(n ^ 2 << 40).to_le_bytes(),
            ]
            .concat()
        };
        let rows: Vec<Write> = (from..from + 500)
            .map(|n| (long(n), Some(value(n))))
            .collect();
        write(&tree, &rows);
        assert!(tree.resident_bytes() <= MEMORY + 4 * (from + 500));
    }
    tree.save().unwrap();
    let version = Arc::clone(&tree.shared.state.read().version);
    let of_tables: u64 = version
        .tables()
        .map(|table| table.resident_bytes() + 8)
        .sum();
    let named: u64 = version.tables().map(|table| table.name.rows).sum();
    assert!(named >= rows);
    assert!(of_tables <= 4 * rows, "{of_tables} of {rows}");
}
