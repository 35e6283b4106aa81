//! Snapshots: whatever is written beside a walk, each key that was there is met as it was, or is said
//! to have gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;
use bowstring_wire::version::Version;
use proptest::prelude::*;

use super::loading::{begin, commit, put_in};
use super::*;
use crate::ahead::Fetch;
use crate::ledger::Account;
use crate::rows::RowsSpec;
use crate::snapshot::{Part, Passed, Snapshot, Walk};

type Known = BTreeMap<String, Version>;

fn listed(cache: &Cache) -> Known {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let items = cache.scan(&tenant, &namespace, "", None, usize::MAX);
    let items = items.into_iter();
    items
        .map(|item| (item.key.as_str().to_owned(), item.version))
        .collect()
}

async fn snapshot(cache: &Cache, prefix: &str) -> Snapshot {
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let snapshot = cache.snapshot(&tenant, &namespace, prefix);
    snapshot.await.unwrap()
}

/// A step of a walk, and a look-up of all that it gave, with the bytes that it has copied.
async fn step(
    cache: &Cache,
    snapshot: &Snapshot,
    walk: &mut Walk<'_>,
    keys: usize,
    met: &mut Known,
) -> bool {
    let mut items = Vec::new();
    let keep = |passed: Passed<'_>| {
        let tensor = passed.tensor().map(<[u8]>::to_vec);
        items.push((passed.key().to_owned(), passed.version(), tensor));
        0
    };
    if walk.step_of(keys, keep).await.unwrap().is_none() {
        return false;
    }
    for (key, version, tensor) in items {
        let found = cache.peek_in(snapshot.generation(), &id(&key));
        match found.filter(|found| found.version() == version) {
            Some(found) => {
                if let Some(tensor) = tensor {
                    assert_eq!(tensor, found.into_vec().unwrap());
                }
                let before = met.insert(key, version);
                assert_eq!(before, None, "met twice");
            }
            None => walk.missed(Key::parse(&key).unwrap()).await.unwrap(),
        }
    }
    true
}

fn gone(walk: &Walk<'_>) -> BTreeSet<String> {
    let keys: Vec<String> = walk
        .gone()
        .iter()
        .map(|key| key.as_str().to_owned())
        .collect();
    let set: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(set.len(), keys.len(), "named twice: {keys:?}");
    set
}

/// Met and gone are apart, and together what there was.
fn check(expected: &Known, met: &Known, gone: &BTreeSet<String>) {
    for (key, version) in met {
        assert_eq!(expected.get(key), Some(version), "{key} was not there");
        assert!(!gone.contains(key), "{key} was met, and is said to be gone");
    }
    let missing: Vec<_> = expected
        .keys()
        .filter(|key| !met.contains_key(*key) && !gone.contains(*key))
        .collect();
    assert!(missing.is_empty(), "passed over: {missing:?}");
    let strangers: Vec<_> = gone
        .iter()
        .filter(|key| !expected.contains_key(*key))
        .collect();
    assert!(
        strangers.is_empty(),
        "gone, but were not there: {strangers:?}"
    );
}

#[tokio::test]
async fn what_goes_before_its_turn_is_named_and_what_comes_is_not() {
    let (cache, clock) = cache_of(64 * MIB);
    for key in ["a1", "a2", "a3", "a4", "a5", "b"] {
        put(&cache, key, Mode::Create, b"one").await.unwrap();
    }
    let expires = PutSpec {
        expires_at_ms: Some(NOW_MS + 50),
        ..spec(Mode::Create)
    };
    put_spec(&cache, "a6", expires.clone(), b"").await.unwrap();
    let expected = listed(&cache);
    let snapshot = snapshot(&cache, "a").await;
    let mut walk = snapshot.walk_once();
    let mut met = Known::new();
    assert!(step(&cache, &snapshot, &mut walk, 2, &mut met).await);

    cache.delete(&id("a1"), None).await.unwrap();
    cache.delete(&id("a3"), None).await.unwrap();
    put(&cache, "a3", Mode::Replace, b"again").await.unwrap();
    put(&cache, "a4", Mode::Replace, b"two").await.unwrap();
    put(&cache, "a45", Mode::Create, b"new").await.unwrap();
    cache.delete(&id("b"), None).await.unwrap();
    clock.advance(Duration::from_millis(50));

    while step(&cache, &snapshot, &mut walk, 2, &mut met).await {}
    assert_eq!(met.keys().collect::<Vec<_>>(), ["a1", "a2", "a5"]);
    let named: Vec<String> = gone(&walk).into_iter().collect();
    assert_eq!(named, ["a3", "a4", "a6"]);
    for key in &named {
        assert!(expected.contains_key(key));
    }
}

#[tokio::test]
async fn small_tensors_come_with_a_walk_as_many_as_fit_into_a_step() {
    let (cache, _) = cache_of(64 * MIB);
    let lens = [0, 1, 300, 16 << 10, (16 << 10) + 1, 1 << 20];
    for (n, len) in lens.into_iter().enumerate() {
        let bytes = bytes(n as u64, len);
        put(&cache, &format!("a{n}"), Mode::Create, &bytes)
            .await
            .unwrap();
    }
    for n in 0..40 {
        let bytes = bytes(n, 16 << 10);
        put(&cache, &format!("b{n:02}"), Mode::Create, &bytes)
            .await
            .unwrap();
    }
    let some = snapshot(&cache, "a").await;
    let mut walk = some.walk_once().fetching(Fetch::Tensors);
    let first = shown(&mut walk).await.unwrap().into_iter();
    let expected = lens.into_iter().enumerate();
    let expected = expected.map(|(n, len)| (len <= 16 << 10).then(|| bytes(n as u64, len)));
    assert!(first.map(|(_, tensor)| tensor).eq(expected));

    // A step shows a part in 256 of the memory.
    let many = snapshot(&cache, "b").await;
    let mut walk = many.walk_once().fetching(Fetch::Tensors);
    let mut seen = Vec::new();
    while let Some(step) = shown(&mut walk).await {
        assert!(step.len() <= 16, "{}", step.len());
        seen.extend(step);
    }
    let expected = (0..40).map(|n| (format!("b{n:02}"), Some(bytes(n, 16 << 10))));
    assert!(seen.into_iter().eq(expected));
    // Who does not ask is shown none.
    for fetch in [Fetch::Heads, Fetch::Records] {
        let mut walk = many.walk(Part::default()).fetching(fetch);
        let step = shown(&mut walk).await.unwrap();
        assert_eq!(step.len(), 40);
        assert!(step.iter().all(|(_, tensor)| tensor.is_none()));
    }
}

/// The keys of a step and the tensors that it shows.
async fn shown(walk: &mut Walk<'_>) -> Option<Vec<(String, Option<Vec<u8>>)>> {
    let mut shown = Vec::new();
    let keep = |passed: Passed<'_>| {
        let tensor = passed.tensor().map(<[u8]>::to_vec);
        shown.push((passed.key().to_owned(), tensor));
        0
    };
    let step = walk.step_into(keep).await.unwrap();
    step.map(|count| {
        assert_eq!(count, shown.len());
        shown
    })
}

#[tokio::test]
async fn a_namespace_that_is_not_there_has_nothing() {
    let (cache, _) = cache_of(64 * MIB);
    let snapshot = snapshot(&cache, "").await;
    put(&cache, "later", Mode::Create, b"").await.unwrap();
    let mut walk = snapshot.walk_once();
    assert_eq!(walk.step().await.unwrap(), None);
    assert!(walk.gone().is_empty());
}

#[tokio::test]
async fn what_is_remembered_is_charged_and_refused_where_there_is_no_room() {
    let (cache, _) = cache_of(16 * MIB);
    let key = |i: u32| format!("{}{i:06}", "k".repeat(500));
    for i in 0..8_000 {
        put(&cache, &key(i), Mode::Create, b"").await.unwrap();
    }
    let there = listed(&cache).len();
    let scan = |cache: &Cache| cache.ledger().used_by(Account::Scan);
    assert_eq!(scan(&cache), 0);
    {
        let snapshot = snapshot(&cache, "").await;
        for i in 0..100 {
            cache.delete(&id(&key(i)), None).await.unwrap();
        }
        assert!(scan(&cache) > 50_000);
        for _ in 0..4 {
            cache.tend_snapshots().await;
        }
        assert!(scan(&cache) > 200_000);
        for i in 100..1_500 {
            cache.delete(&id(&key(i)), None).await.unwrap();
        }
        let mut walk = snapshot.walk(Part::default());
        let mut met = Known::new();
        while step(&cache, &snapshot, &mut walk, 1_000, &mut met).await {}
        assert_eq!(met.len() + gone(&walk).len(), there);
    }
    assert_eq!(scan(&cache), 0);

    let snapshot = snapshot(&cache, "").await;
    let rest = cache.ledger().charge(Account::Sql, cache.ledger().free());
    for i in 1_500..4_000 {
        cache.delete(&id(&key(i)), None).await.unwrap();
    }
    drop(rest);
    let refused = snapshot.walk_once().step().await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(scan(&cache), 0);
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8, Option<u8>),
    /// Rows in one bulk put.
    Rows(u8, u8),
    Delete(u8),
    Tick(u8),
    Begin(bool),
    PutIn(u8),
    Commit,
    Rollback,
    Tidy,
    Walk(u8, u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..24_u8, any::<u8>(), prop::option::weighted(0.2, 1..60_u8))
            .prop_map(|(key, len, ttl)| Op::Put(key, len, ttl)),
        2 => (0..24_u8, 1..8_u8).prop_map(|(first, count)| Op::Rows(first, count)),
        3 => (0..24_u8).prop_map(Op::Delete),
        1 => (0..40_u8).prop_map(Op::Tick),
        1 => any::<bool>().prop_map(Op::Begin),
        4 => (0..24_u8).prop_map(Op::PutIn),
        2 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => Just(Op::Tidy),
        4 => (0..3_u8, 1..5_u8).prop_map(|(walk, keys)| Op::Walk(walk, keys)),
    ];
    prop::collection::vec(op, 0..80)
}

struct World {
    cache: Cache,
    clock: Arc<ManualClock>,
    unit: usize,
    open: Option<String>,
    committed: Option<String>,
}

impl World {
    async fn run(&mut self, op: &Op) {
        let cache = &self.cache;
        match *op {
            Op::Put(key, len, ttl) => {
                let spec = PutSpec {
                    expires_at_ms: ttl.map(|ttl| cache.clock().now_ms() + u64::from(ttl)),
                    ..spec(Mode::Replace)
                };
                let data = vec![0; usize::from(len) * self.unit];
                let key = format!("k{key:02}");
                put_spec(cache, &key, spec, &data).await.unwrap();
            }
            Op::Rows(first, count) => {
                let keys: Vec<String> = (first..first + count)
                    .map(|key| format!("k{:02}", key % 24))
                    .collect();
                let data = vec![2; 20 * self.unit];
                let shape = Shape::new(&[data.len() as u64]).unwrap();
                let rows: Vec<_> = keys.iter().map(|key| row(key, &shape, &data)).collect();
                let spec = RowsSpec {
                    mode: Mode::Replace,
                    load: 0,
                    pin: false,
                    admit: Admit::Hot,
                    below: false,
                };
                let (tenant, namespace) = (Tenant::public(), Namespace::default());
                let stored = cache.put_rows(&tenant, &namespace, spec, &rows).await;
                assert!(stored.iter().all(Result::is_ok));
            }
            Op::Delete(key) => {
                let id = id(&format!("k{key:02}"));
                cache.delete(&id, None).await.unwrap();
            }
            Op::Tick(ms) => {
                self.clock.advance(Duration::from_millis(ms.into()));
                cache.expire_due();
            }
            Op::Begin(replace_all) if self.open.is_none() => {
                self.open = Some(begin(cache, replace_all));
            }
            Op::PutIn(key) => {
                if let Some(load) = &self.open {
                    let key = format!("k{key:02}");
                    let data = vec![1; 100 * self.unit];
                    // Refused where it would be too much that cannot be evicted.
                    let _ = put_in(cache, load, &key, Mode::Replace, &data).await;
                }
            }
            Op::Commit => {
                // Refused where it was forgotten meanwhile.
                if let Some(load) = self.open.take()
                    && commit(cache, &load).await.is_ok()
                {
                    self.committed = Some(load);
                }
            }
            Op::Rollback => {
                if let Some(load) = self.committed.take() {
                    // Refused where what was before had to go.
                    let _ = cache.rollback_load(&Tenant::public(), &load).await;
                }
            }
            Op::Tidy => {
                if cache.clock().now_ms().is_multiple_of(2) {
                    self.clock.advance(Duration::from_secs(601));
                }
                cache.tidy_loads();
            }
            Op::Begin(_) | Op::Walk(..) => {}
        }
    }
}

/// One snapshot, one walk through all of it, and two through a half each, in any order with writes.
async fn walk_beside(before: Vec<Op>, beside: Vec<Op>, memory: u64, unit: usize) {
    let (cache, clock) = cache_of(memory);
    let mut world = World {
        cache,
        clock,
        unit,
        open: None,
        committed: None,
    };
    for op in &before {
        world.run(op).await;
    }
    let cache = world.cache.clone();
    // To take one may cost an entry, which is then not in it.
    let once = snapshot(&cache, "").await;
    let expected = listed(&cache);
    let halves = snapshot(&cache, "").await;
    let expected_of_halves = listed(&cache);
    let middle = Some(Key::parse("k11").unwrap());
    let (first, second) = (
        Part {
            after: None,
            last: middle.clone(),
        },
        Part {
            after: middle,
            last: None,
        },
    );
    let mut walks = [
        (
            &once,
            once.walk_once().fetching(Fetch::Tensors),
            Known::new(),
        ),
        (&halves, halves.walk(first), Known::new()),
        (
            &halves,
            halves.walk(second).fetching(Fetch::Tensors),
            Known::new(),
        ),
    ];
    for op in &beside {
        if let Op::Walk(which, keys) = *op {
            let (snapshot, walk, met) = &mut walks[usize::from(which)];
            step(&cache, snapshot, walk, keys.into(), met).await;
        } else {
            world.run(op).await;
        }
    }
    for (snapshot, walk, met) in &mut walks {
        while step(&cache, snapshot, walk, 3, met).await {}
    }
    let [
        (_, all, met),
        (_, left, mut left_met),
        (_, right, right_met),
    ] = walks;
    check(&expected, &met, &gone(&all));
    left_met.extend(right_met);
    let mut both = gone(&left);
    both.extend(gone(&right));
    check(&expected_of_halves, &left_met, &both);
    drop((all, left, right));
    drop((once, halves));
    assert_eq!(cache.ledger().used_by(Account::Scan), 0);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the cache's own clock stands still, and so does what waits for room in vain"
)]
fn run(before: Vec<Op>, beside: Vec<Op>, memory: u64, unit: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let walked = walk_beside(before, beside, memory, unit);
    let walked = async { tokio::time::timeout(Duration::from_secs(20), walked).await };
    runtime
        .block_on(walked)
        .expect("something waits for room for ever");
}

proptest! {
    #[test]
    fn a_walk_meets_or_names_each_key(before in ops(), beside in ops()) {
        run(before, beside, 64 * MIB, 10);
    }

    #[test]
    fn and_where_there_is_not_room_for_all(before in ops(), beside in ops()) {
        run(before, beside, 8 * MIB, 4_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn walks_beside_writers_on_threads() {
    let (cache, _) = cache_of(64 * MIB);
    let rounds = if cfg!(miri) { 1 } else { 60 };
    for key in 0..2_000 {
        put(&cache, &format!("{key:05}"), Mode::Create, b"stays")
            .await
            .unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (cache, stop) = (cache.clone(), Arc::clone(&stop));
        async move {
            let mut at = 7_u64;
            while !stop.load(Ordering::Relaxed) {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Odd ones change, even ones stay; beside them come and go others.
                let key = format!("{:05}", (at >> 33) % 1_000 * 2 + 1);
                match at >> 60 & 3 {
                    0 => drop(cache.delete(&id(&key), None).await.unwrap()),
                    1 => drop(
                        put(&cache, &format!("{key}x"), Mode::Replace, b"")
                            .await
                            .unwrap(),
                    ),
                    2 => drop(cache.delete(&id(&format!("{key}x")), None).await.unwrap()),
                    _ => drop(put(&cache, &key, Mode::Replace, b"new").await.unwrap()),
                }
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..rounds {
        let snapshot = snapshot(&cache, "").await;
        let mut walk = snapshot.walk_once().fetching(Fetch::Tensors);
        let mut met = Known::new();
        while step(&cache, &snapshot, &mut walk, 100, &mut met).await {
            tokio::task::yield_now().await;
        }
        let gone = gone(&walk);
        for even in (0..2_000).step_by(2) {
            assert!(met.contains_key(&format!("{even:05}")), "{even}");
        }
        for (key, version) in &met {
            assert!(*version < snapshot.version(), "{key} came later");
            assert!(!gone.contains(key), "{key}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}
