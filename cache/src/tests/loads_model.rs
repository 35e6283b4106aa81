//! Loads against a simple map: any sequence of puts, deletes, loads, commits and rollbacks. And
//! readers of several keys beside commits and rollbacks on threads: never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_wire::name::Tenant;
use proptest::prelude::*;

use super::loading::{begin, commit, put_in};
use super::*;
use crate::loads::LoadSpec;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Begin(bool),
    PutIn(u8, u8, u8),
    DeclareTooMuch,
    Commit(u8),
    Abort(u8),
    Rollback,
    Tidy,
    Window,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, any::<u8>()).prop_map(|(key, seed)| Step::Put(key, seed)),
        3 => (0..12_u8).prop_map(Step::Delete),
        2 => any::<bool>().prop_map(Step::Begin),
        8 => (any::<u8>(), 0..12_u8, any::<u8>()).prop_map(|(l, k, s)| Step::PutIn(l, k, s)),
        1 => Just(Step::DeclareTooMuch),
        3 => any::<u8>().prop_map(Step::Commit),
        1 => any::<u8>().prop_map(Step::Abort),
        2 => Just(Step::Rollback),
        2 => Just(Step::Tidy),
        1 => Just(Step::Window),
    ];
    prop::collection::vec(step, 1..150)
}

type Map = BTreeMap<String, u8>;

struct Model {
    cache: Cache,
    clock: Arc<ManualClock>,
    /// Bytes of a tensor: small ones all fit, of large ones some go.
    len: usize,
    shown: Map,
    loads: Vec<(String, bool, Map)>,
    /// The last load that was committed, what was there before, and the keys put or deleted since.
    last: Option<(String, Map, BTreeSet<String>)>,
}

impl Model {
    fn new(memory: u64, len: usize) -> Self {
        let (cache, clock) = cache_of(memory);
        Self {
            cache,
            clock,
            len,
            shown: Map::new(),
            loads: Vec::new(),
            last: None,
        }
    }

    fn loses(&self) -> bool {
        self.len > 1_000
    }

    fn touch(&mut self, key: &str) {
        if let Some((_, _, touched)) = &mut self.last {
            touched.insert(key.to_owned());
        }
    }

    async fn run(&mut self, step: Step) {
        let tenant = Tenant::public();
        match step {
            Step::Put(key, seed) => {
                let key = format!("{key:02}");
                let data = bytes(seed.into(), self.len);
                put(&self.cache, &key, Mode::Replace, &data).await.unwrap();
                self.touch(&key);
                self.shown.insert(key, seed);
            }
            Step::Delete(key) => {
                let key = format!("{key:02}");
                let there = self.cache.peek(&id(&key)).is_some();
                let deleted = self.cache.delete(&id(&key), None).await.unwrap();
                assert_eq!(deleted.is_some(), there);
                assert!(self.loses() || there == self.shown.contains_key(&key));
                self.touch(&key);
                self.shown.remove(&key);
            }
            Step::Begin(replace_all) if self.loads.len() < 4 => {
                let load = begin(&self.cache, replace_all);
                self.loads.push((load, replace_all, Map::new()));
            }
            Step::Begin(_) => {}
            Step::PutIn(load, key, seed) => {
                let Some(at) = usize::from(load).checked_rem(self.loads.len()) else {
                    return;
                };
                let (load, _, map) = &mut self.loads[at];
                let key = format!("{key:02}");
                let data = bytes(seed.into(), self.len);
                match put_in(&self.cache, load, &key, Mode::Replace, &data).await {
                    Ok(_) => {
                        map.insert(key, seed);
                    }
                    Err(refused) => assert!(self.len > 1_000, "{refused}"),
                }
            }
            Step::DeclareTooMuch => {
                let spec = LoadSpec {
                    replace_all: false,
                    size_bytes: Some(1 << 40),
                };
                let refused = self.cache.begin_load(&tenant, &Namespace::default(), spec);
                assert!(refused.is_err());
            }
            Step::Commit(load) => {
                let Some(at) = usize::from(load).checked_rem(self.loads.len()) else {
                    return;
                };
                let (load, replace_all, map) = self.loads.remove(at);
                let outcome = commit(&self.cache, &load).await.unwrap();
                assert_eq!(outcome.entries, map.len() as u64);
                let before = self.shown.clone();
                if replace_all {
                    self.shown = map;
                } else {
                    self.shown.extend(map);
                }
                self.last = Some((load, before, BTreeSet::new()));
            }
            Step::Abort(load) => {
                if let Some(at) = usize::from(load).checked_rem(self.loads.len()) {
                    let (load, _, _) = self.loads.remove(at);
                    self.cache.abort_load(&tenant, &load).unwrap();
                }
            }
            Step::Rollback => {
                let Some((load, before, touched)) = self.last.take() else {
                    return;
                };
                match self.cache.rollback_load(&tenant, &load).await {
                    Ok(_) => {
                        let mut shown = before;
                        shown.retain(|key, _| !touched.contains(key));
                        let since = self.shown.iter().filter(|(key, _)| touched.contains(*key));
                        shown.extend(since.map(|(key, seed)| (key.clone(), *seed)));
                        self.shown = shown;
                    }
                    Err(refused) => assert!(self.loses(), "{refused}"),
                }
            }
            Step::Tidy => {
                self.cache.tidy_loads();
            }
            Step::Window => {
                for (load, _, _) in &self.loads {
                    let _ = put_in(&self.cache, load, "x", Mode::Keep, b"").await;
                }
                for (_, _, map) in &mut self.loads {
                    map.insert("x".to_owned(), 0);
                }
                self.clock.advance(Duration::from_secs(599));
                let loads: Vec<String> = self.loads.iter().map(|(load, ..)| load.clone()).collect();
                for load in loads {
                    put_in(&self.cache, &load, "x", Mode::Keep, b"")
                        .await
                        .unwrap();
                }
                self.clock.advance(Duration::from_secs(1));
                while self.cache.tidy_loads() {}
                if let Some((load, ..)) = self.last.take() {
                    let tenant = Tenant::public();
                    assert!(self.cache.rollback_load(&tenant, &load).await.is_err());
                }
            }
        }
        self.check();
    }

    /// What is there is what the map says; all of it, where nothing has to go.
    fn check(&self) {
        let (tenant, namespace) = (Tenant::public(), Namespace::default());
        let items = self.cache.scan(&tenant, &namespace, "", None, usize::MAX);
        for pair in items.windows(2) {
            assert!(pair[0].key < pair[1].key);
        }
        let mut total = 0;
        for item in &items {
            let seed = self.shown.get(item.key.as_str());
            let seed = *seed.unwrap_or_else(|| panic!("{:?} is not there", item.key.as_str()));
            let entry = self.cache.peek(&id(item.key.as_str())).unwrap();
            assert_eq!(entry.version(), item.version);
            total += entry.len();
            let len = usize::try_from(entry.len()).unwrap();
            assert!(len == self.len || item.key.as_str() == "x");
            assert_eq!(entry.into_vec().unwrap(), bytes(seed.into(), len));
        }
        for key in 0..12 {
            let key = format!("{key:02}");
            let listed = items.iter().any(|item| item.key.as_str() == key);
            assert_eq!(self.cache.peek(&id(&key)).is_some(), listed, "{key}");
            assert!(
                self.loses() || listed == self.shown.contains_key(&key),
                "{key}"
            );
        }
        let stats = self.cache.stats();
        assert_eq!(
            (stats.entries, stats.live_bytes),
            (items.len() as u64, total)
        );
        assert!(self.cache.ledger().used() <= self.cache.ledger().total());
    }

    /// All that is left is what shows.
    async fn end(mut self) {
        let tenant = Tenant::public();
        for (load, ..) in std::mem::take(&mut self.loads) {
            self.cache.abort_load(&tenant, &load).unwrap();
        }
        self.clock.advance(Duration::from_secs(600));
        while self.cache.tidy_loads() {}
        self.check();
        let engine = self.cache.engine();
        assert_eq!(engine.index.table.len(), self.cache.stats().entries);
        let keys: Vec<String> = self.shown.keys().cloned().collect();
        for key in keys {
            self.cache.delete(&id(&key), None).await.unwrap();
        }
        let stats = self.cache.stats();
        assert_eq!((stats.entries, stats.arena_used_bytes), (0, 0));
    }
}

fn run(steps: Vec<Step>, memory: u64, len: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut model = Model::new(memory, len);
        for step in steps {
            model.run(step).await;
        }
        model.end().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_namespace_shows_what_its_loads_make_of_it(steps in steps()) {
        run(steps, 16 * MIB, 60);
    }

    #[test]
    fn the_same_while_memory_is_short(steps in steps()) {
        run(steps, 8 * MIB, 400_000);
    }
}

/// Every generation is of one value; there are two keys that are always there.
#[test]
fn several_look_ups_never_mix_generations() {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    const ROUNDS: u64 = if cfg!(miri) { 4 } else { 400 };
    let (cache, _) = cache_of(64 * MIB);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let put_all = |value: u64, replace_all: bool| {
        let (tenant, load) = (Tenant::public(), begin(&cache, replace_all));
        runtime().block_on(async {
            for key in KEYS {
                put_in(&cache, &load, key, Mode::Create, &value.to_le_bytes())
                    .await
                    .unwrap();
            }
            commit(&cache, &load).await.unwrap();
            if value.is_multiple_of(3) {
                cache.rollback_load(&tenant, &load).await.unwrap();
            }
        });
    };
    put_all(1, true);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (cache, done) = (&cache, &done);
            scope.spawn(move || {
                let (tenant, namespace) = (Tenant::public(), Namespace::default());
                while !done.load(Ordering::Relaxed) {
                    if reader == 0 {
                        // One look-up alone is never a miss.
                        for key in KEYS {
                            assert!(cache.get(&id(key)).is_some(), "{key}");
                        }
                        continue;
                    }
                    let generation = cache.generation(&tenant, &namespace);
                    let mut values = BTreeSet::new();
                    for key in KEYS {
                        if let Some(entry) = cache.get_in(&generation, &id(key)) {
                            values.insert(entry.into_vec().unwrap());
                        }
                    }
                    assert!(values.len() <= 1, "{values:?}");
                    let items = cache.scan(&tenant, &namespace, "", None, 100);
                    assert_eq!(items.len(), KEYS.len());
                }
            });
        }
        for round in 2..ROUNDS {
            put_all(round, round.is_multiple_of(2));
            if round.is_multiple_of(5) {
                while cache.tidy_loads() {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
